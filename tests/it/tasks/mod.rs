//! Tasks through the whole daemon: the real binary, a real `nats-server`, real agents.

mod broadcasts;
mod crash;
mod faults;
mod routes;
mod runs;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::daemon::embedded_client;
use crate::support::daemon::{Daemon, text};
use crate::support::{eventually_blocking, eventually_or};

/// Coordination is on, and agents restart at once.
pub(crate) const BASE: &str = r#"
[provost]
http = "off"
[supervision]
enabled = true
[coordination]
enabled = true
[agents]
max = 100
"#;

/// A stdio agent that says when it begins a task (by a file named after the task and its own pid in
/// the daemon's folder), works on `{"wait": true}` until a file `go` is there, and fails
/// `{"fail": …}` with that error.
const WORKER: &str = r#"
import json, os, sys, time
for line in sys.stdin:
    message = json.loads(line)
    if message["op"] == "stop":
        break
    if message["op"] != "task":
        continue
    def say(**more):
        print(json.dumps({"id": message["id"], "attempt": message["attempt"], **more}), flush=True)
    name = f"began-{message['id']}-{message['attempt']}"
    open(name + ".new", "w").write(str(os.getpid()))
    os.rename(name + ".new", name)
    given = message["input"] if isinstance(message["input"], dict) else {}
    if "fail" in given:
        say(state="failed", error=given["fail"])
        continue
    if given.get("wait"):
        say(state="working", message="waits")
        while not os.path.exists("go"):
            time.sleep(0.005)
    say(state="completed", result={"pid": os.getpid(), "input": message["input"]})
"#;

/// A configuration with so many of these workers.
pub(crate) fn workers(count: usize) -> String {
    let mut config = format!(
        "{BASE}\n[agent_types.worker]\nruntime = \"stdio\"\ncommand = [\"python3\", \"-u\", \"-c\", {}]\n\
         capabilities = [\"work\"]\nslots = 1\nstop = {{ grace = \"1s\" }}\nenv = {{ PROVOST_TEST_MARK = \"{{mark}}\" }}\n\
         restart = {{ intensity = 10000, period = \"60s\", backoff = {{ initial = \"0s\" }} }}\n",
        serde_json::to_string(WORKER).unwrap(),
    );
    for number in 1..=count {
        config.push_str(&format!("[[agent]]\nname = \"w{number}\"\ntype = \"worker\"\n"));
    }
    config
}

/// Waits until all agents can have tasks.
pub(crate) fn ready(daemon: &Daemon, names: &[&str]) {
    for name in names {
        daemon.wait_state(name, "running");
    }
    eventually_blocking("coordination is on", || {
        let status = daemon.json(&["status"]);
        (status["system"]["tasks"]["state"] == "on").then_some(())
    });
}

/// Publishes a submission and waits until it is stored.
pub(crate) async fn submit(client: &async_nats::Client, kind: &str, id: &str, body: &[u8]) {
    let context = async_nats::jetstream::new(client.clone());
    let mut headers = HeaderMap::new();
    if !id.is_empty() {
        headers.insert("Nats-Msg-Id", id);
    }
    let subject = format!("coordination.tasks.{kind}");
    let stored = context.publish_with_headers(subject, headers, body.to_vec().into()).await;
    stored.unwrap().await.unwrap();
}

/// The result event of a task, once it is there.
pub(crate) fn result(daemon: &Daemon, id: &str) -> Value {
    eventually_or(
        || format!("task {id} has ended, of which this is known: {}", shown(daemon, id)),
        || {
            let output = daemon.cli(&["task", "result", id, "-o", "json"]);
            serde_json::from_slice(&output.stdout).ok()
        },
    )
}

/// What is known of a task.
pub(crate) fn shown(daemon: &Daemon, id: &str) -> Value {
    daemon.json(&["task", "show", id])
}

/// States of a task's records, in order.
pub(crate) fn states(daemon: &Daemon, id: &str) -> Vec<String> {
    let shown = shown(daemon, id);
    let records = shown["records"].as_array().unwrap();
    records.iter().map(|record| record["state"].as_str().unwrap().to_owned()).collect()
}

/// Waits until an attempt has begun; gives the process that has it.
pub(crate) fn began(daemon: &Daemon, id: &str, attempt: u32) -> u32 {
    let file = daemon.dir.path().join(format!("began-{id}-{attempt}"));
    eventually_blocking(&format!("attempt {attempt} of {id} has begun"), || {
        std::fs::read_to_string(&file).ok()?.parse().ok()
    })
}

/// Lets waiting workers go on.
pub(crate) fn go(daemon: &Daemon) {
    std::fs::write(daemon.dir.path().join("go"), "").unwrap();
}

/// Holds the log against its rules; nothing may be under way any more.
pub(crate) fn audit(daemon: &Daemon) -> Value {
    let output = daemon.cli(&["task", "audit", "--quiet", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that is stored on a subject, parsed, oldest first.
pub(crate) async fn stored_on(daemon: &Daemon, stream: &str, subject: &str) -> Vec<Value> {
    let client = embedded_client(daemon).await;
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream(stream).await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config {
        filter_subject: subject.to_owned(),
        ack_policy: async_nats::jetstream::consumer::AckPolicy::None,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.fetch().max_messages(10_000).messages().await.unwrap();
    let messages: Vec<_> = messages.collect().await;
    messages.into_iter().map(|one| serde_json::from_slice(&one.unwrap().payload).unwrap()).collect()
}

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agents")
}

/// Python's own folder of libraries for tests.
pub(crate) fn python_path() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/python").display().to_string()
}

/// Milliseconds between two of a task's records.
pub(crate) fn between(shown: &Value, from: usize, to: usize) -> Duration {
    let time = |at: usize| -> jiff::Timestamp {
        shown["records"][at]["time"].as_str().unwrap().parse().unwrap()
    };
    time(to).duration_since(time(from)).unsigned_abs()
}

/// Waits until no submission is open any more.
pub(crate) async fn all_submissions_are_gone(daemon: &Daemon) {
    let context = async_nats::jetstream::new(embedded_client(daemon).await);
    let mut stream = context.get_stream("TASKS").await.unwrap();
    let open = async || stream.info().await.unwrap().state.messages;
    crate::support::eventually_told(open, |open| (*open == 0).then_some(())).await.unwrap_or_else(
        |open| {
            let list = daemon.json(&["task", "list", "-n", "10000"]);
            let tasks = list["tasks"].as_array().unwrap().iter();
            let ends = ["completed", "failed", "cancelled", "expired", "rejected"];
            let under_way = |task: &&Value| !ends.contains(&task["state"].as_str().unwrap());
            let under_way: Vec<&Value> = tasks.filter(under_way).collect();
            panic!("{open} submissions are open; under way: {under_way:?}")
        },
    );
}
