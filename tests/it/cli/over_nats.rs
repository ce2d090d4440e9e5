//! The way to a daemon over a real NATS server; the daemon's part is played by the test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Output, Stdio};

use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cli::{check_failure, err, home, out, provost};
use crate::support::eventually;
use crate::support::nats::{NatsOptions, NatsServer};

/// Plays the daemon: gives `answer` to every request on `subject`.
async fn play(server: &NatsServer, subject: &str, answer: Value) -> tokio::task::JoinHandle<()> {
    let client = server.client().await;
    let mut requests = client.subscribe(subject.to_owned()).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.unwrap();
            client.publish(reply, answer.to_string().into()).await.unwrap();
        }
    })
}

/// Types a line without holding up the test's own tasks.
async fn typed_at(server: &NatsServer, home: &Path, line: &str) -> Output {
    let mut command = provost(home);
    command.args(line.split_whitespace()).args(["--nats-url", &server.url()]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn agents() -> Value {
    let agent = |name: &str| {
        json!({
            "agent_id": format!("id-{name}"), "name": name, "agent_type": "worker",
            "node": "node-1", "state": "running", "generation": 1, "pid": 7, "restarts": 0,
            "since": "2026-11-21T12:00:00Z", "reason": "started",
            "circuit": {"state": "closed", "retry_after_ms": null},
            "health": {"status": "unknown", "metrics": {"cpu_usage": null, "memory_mb": null,
                "response_time_ms": null, "error_rate": null, "throughput": null,
                "open_files": null}},
            "next": null, "labels": {},
        })
    };
    json!({"ok": true, "agents": [agent("w1"), agent("w2")]})
}

#[tokio::test]
async fn a_server_without_a_daemon_exits_5_and_names_the_subject() {
    let (server, home) = (NatsServer::start(), home());
    let words = ["error[PV0201]: no daemon answers at", "agent.command", "provost up"];
    check_failure(&typed_at(&server, home.path(), "list").await, 5, &words);
    let words = ["team.a.agent.command"];
    check_failure(&typed_at(&server, home.path(), "list --prefix team.a").await, 5, &words);
}

#[tokio::test]
async fn a_daemon_that_answers_is_shown_and_one_that_does_not_times_out() {
    let (server, home) = (NatsServer::start(), home());
    let daemon = play(&server, "agent.command", agents()).await;
    let output = typed_at(&server, home.path(), "list -o json").await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document, agents());
    assert_eq!(out(&typed_at(&server, home.path(), "ps -o name").await), "w1\nw2\n");
    daemon.abort();

    let client = server.client().await;
    let silent = client.subscribe("system.control").await.unwrap();
    client.flush().await.unwrap();
    let output = typed_at(&server, home.path(), "tree --timeout 200ms").await;
    check_failure(&output, 124, &["error[PV0204]: ", "200ms", "--timeout"]);
    drop(silent);
}

#[tokio::test]
async fn the_address_file_leads_to_the_daemon() {
    let (server, home) = (NatsServer::start(), home());
    let daemon = play(&server, "agent.command", agents()).await;
    let state = home.path().join(".local/state/provost");
    std::fs::create_dir_all(&state).unwrap();
    let address = json!({"url": server.url(), "pid": server.pid(), "server_version": "2.15.1",
        "embedded": true, "durability": "default"});
    std::fs::write(state.join("nats.json"), address.to_string()).unwrap();
    let mut command = provost(home.path());
    command.args(["list", "-o", "name"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(out(&output), "w1\nw2\n", "{}", err(&output));
    daemon.abort();
}

#[tokio::test]
async fn wrong_credentials_exit_5_with_what_the_server_said() {
    let server = NatsServer::with(NatsOptions::default().user("alice", "right"));
    let home = home();
    let url = server.url().replace("nats://", "nats://alice:wrong@");
    let mut command = provost(home.path());
    command.args(["list", "--nats-url", &url]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    check_failure(&output, 5, &["error[PV0202]: ", "refused the credentials"]);
    assert!(!err(&output).contains("wrong"), "{}", err(&output));
}

fn event(number: u8, severity: &str) -> Value {
    json!({
        "specversion": "1.0", "id": format!("01900000-0000-7000-8000-00000000000{number}"),
        "source": "provost://node-1/agent/w1", "type": "provost.supervision.gap.v1",
        "subject": "w1", "time": "2026-11-21T12:00:01Z", "datacontenttype": "application/json",
        "severity": severity, "category": "system", "future": "kept",
        "data": {"dropped": number},
    })
}

async fn stream(server: &NatsServer) -> async_nats::jetstream::Context {
    let context = server.jetstream().await;
    let config = async_nats::jetstream::stream::Config {
        name: "SUPERVISION".to_owned(),
        subjects: vec!["supervision.events".to_owned()],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    context
}

async fn store(context: &async_nats::jetstream::Context, payload: String) {
    let stored = context.publish("supervision.events", payload.into()).await.unwrap();
    stored.await.unwrap();
}

#[tokio::test]
async fn stored_events_are_read_to_their_end() {
    let (server, home) = (NatsServer::start(), home());
    let words = ["error[PV0209]: events are not stored here"];
    check_failure(&typed_at(&server, home.path(), "events").await, 1, &words);
    let context = stream(&server).await;
    let output = typed_at(&server, home.path(), "events").await;
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), ""));
    for number in 1..=3 {
        store(&context, event(number, if number == 2 { "high" } else { "info" }).to_string()).await;
    }
    store(&context, "no event".to_owned()).await;
    let output = typed_at(&server, home.path(), "events -o jsonl").await;
    let lines: Vec<Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [event(1, "info"), event(2, "high"), event(3, "info")]);
    assert!(err(&output).contains("1 messages"), "{}", err(&output));
    let severe = typed_at(&server, home.path(), "events --severity high -o json").await;
    let document: Value = serde_json::from_slice(&severe.stdout).unwrap();
    assert_eq!(document, json!([event(2, "high")]));
    assert_eq!(out(&typed_at(&server, home.path(), "events --since 0s").await), "");
    let mut stream = context.get_stream("SUPERVISION").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.consumer_count, 0, "consumers are cleaned up");
}

#[tokio::test]
async fn more_events_than_one_batch_come_once_and_in_order() {
    let (server, home) = (NatsServer::start(), home());
    let context = stream(&server).await;
    for number in 0..1_234 {
        let mut event = event(0, "info");
        event["id"] = format!("01900000-0000-7000-8000-{number:012}").into();
        event["data"]["dropped"] = number.into();
        let sent = context.publish("supervision.events", event.to_string().into()).await.unwrap();
        sent.await.unwrap();
    }
    let output = typed_at(&server, home.path(), "events -o jsonl").await;
    let number = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["data"]["dropped"].as_u64().unwrap()
    };
    assert!(out(&output).lines().map(number).eq(0..1_234));
}

/// A verb that goes on until Ctrl-C.
struct Watching {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watching {
    fn start(server: &NatsServer, home: &Path, line: &str) -> Self {
        let mut child = provost(home)
            .args(line.split(' '))
            .args(["--nats-url", &server.url()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn interrupt(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_events_survive_a_restart_of_the_server_until_ctrl_c() {
    let (mut server, home) = (NatsServer::start(), home());
    let context = stream(&server).await;
    store(&context, event(1, "info").to_string()).await;
    let mut watching = Watching::start(&server, home.path(), "events -w -o name");
    assert!(watching.line().ends_with('1'));
    store(&context, event(2, "info").to_string()).await;
    assert!(watching.line().ends_with('2'));
    // The same event again, as after a fault: it is shown once.
    store(&context, event(2, "info").to_string()).await;
    server.restart();
    let context = server.jetstream().await;
    eventually("the stream is back", async || context.get_stream("SUPERVISION").await.ok()).await;
    store(&context, event(3, "info").to_string()).await;
    assert!(watching.line().ends_with('3'));
    assert_eq!(watching.interrupt(), (Some(130), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_jetstream_new_events_are_followed() {
    let server = NatsServer::with(NatsOptions::default().without_jetstream());
    let home = home();
    let mut watching = Watching::start(&server, home.path(), "events -w -o jsonl");
    let client = server.client().await;
    // The event is published until somebody has subscribed; doubles are shown once.
    let publishing = tokio::spawn(async move {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            every.tick().await;
            let payload = event(1, "info").to_string();
            client.publish("supervision.events", payload.into()).await.unwrap();
        }
    });
    let line: Value = serde_json::from_str(&watching.line()).unwrap();
    publishing.abort();
    assert_eq!(line["future"], "kept");
    let (code, said) = watching.interrupt();
    assert_eq!(code, Some(130));
    assert!(said.contains("warning: events are not stored here"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_list_goes_on_until_ctrl_c() {
    let (server, home) = (NatsServer::start(), home());
    let daemon = play(&server, "agent.command", agents()).await;
    let mut watching = Watching::start(&server, home.path(), "list -w -o name");
    assert_eq!((watching.line(), watching.line()), ("w1".to_owned(), "w2".to_owned()));
    assert_eq!(watching.interrupt(), (Some(130), String::new()));
    daemon.abort();
}
