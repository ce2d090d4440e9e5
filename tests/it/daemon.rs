//! The whole daemon: the real binary, a real `nats-server`, real processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, lives, signal, text, zombies_of};
use crate::support::nats::{NatsOptions, NatsServer};
use crate::support::{eventually, eventually_blocking};

/// A type `worker` that runs until it is stopped, and restarts at once.
const WORKER: &str = r#"
[supervision]
enabled = true
[agents]
max = 100
[agent_types.worker]
runtime = "process"
command = ["sleep", "100000"]
env = { PROVOST_TEST_MARK = "{mark}" }
stop = { signal = "SIGTERM", grace = "5s" }
restart = { type = "permanent", intensity = 10000, period = "60s", stable_after = "300ms", backoff = { initial = "0s" } }
"#;

fn with_agents(base: &str, names: &[&str]) -> String {
    let agents = names.iter().map(|name| format!("[[agent]]\nname = \"{name}\"\ntype = \"worker\"\n"));
    agents.fold(base.to_owned(), |config, agent| config + &agent)
}

fn pid_of(agent: &Value) -> u32 {
    u32::try_from(agent["pid"].as_u64().unwrap()).unwrap()
}

/// Connects to the embedded server as the command line does, by the file in the state folder.
async fn embedded_client(daemon: &Daemon) -> async_nats::Client {
    let file = daemon.state_dir().join("nats.json");
    let address: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let field = |name: &str| address[name].as_str().unwrap_or_default().to_owned();
    let options = async_nats::ConnectOptions::with_user_and_password(field("user"), field("password"));
    options.connect(field("url")).await.unwrap()
}

/// All stored messages of a stream, parsed, in order.
async fn stored(stream: &mut Stream) -> Vec<Value> {
    let state = stream.info().await.unwrap().state.clone();
    let mut events = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        if let Ok(message) = stream.get_raw_message(sequence).await {
            events.push(serde_json::from_slice(&message.payload).unwrap());
        }
    }
    events
}

async fn supervision(client: &async_nats::Client) -> Stream {
    let jetstream = async_nats::jetstream::new(client.clone());
    jetstream.get_stream("SUPERVISION").await.unwrap()
}

fn type_of(event: &Value) -> &str {
    event["type"].as_str().unwrap().trim_start_matches("provost.").trim_end_matches(".v1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_comes_back_and_the_events_say_why_in_causal_order() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1"]));
    let before = daemon.wait_state("w1", "running");
    signal(pid_of(&before), Signal::KILL);
    let after = daemon.wait("w1", "runs again", |agent| {
        agent["state"] == "running" && agent["pid"] != before["pid"]
    });
    assert_eq!(after["agent_id"], before["agent_id"]);
    assert_eq!(after["generation"], 2);
    assert_eq!(after["restarts"], 1);

    let client = embedded_client(&daemon).await;
    let mut stream = supervision(&client).await;
    let events = eventually("a recovery is stored", async || {
        let events = stored(&mut stream).await;
        events.iter().any(|event| type_of(event) == "supervision.recovery").then_some(events)
    })
    .await;
    let find = |wanted: &str| events.iter().find(|event| type_of(event) == wanted).unwrap();
    let failure = find("supervision.failure");
    let decision = find("supervision.decision");
    let recovery = find("supervision.recovery");
    assert_eq!(failure["severity"], "high");
    assert_eq!(failure["data"]["exit"], json!({"code": null, "signal": 9}));
    assert_eq!(failure["data"]["failure_type"], "process_crash");
    assert_eq!(failure["subject"], before["agent_id"]);
    assert_eq!(decision["causationid"], failure["id"]);
    assert_eq!(decision["data"]["cause"], failure["id"]);
    assert_eq!(recovery["causationid"], decision["id"]);
    assert_eq!(recovery["correlationid"], failure["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_kills_lose_and_double_nothing() {
    const KILLS: usize = 1_000;
    let names: Vec<String> = (0..10).map(|n| format!("w{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&with_agents(WORKER, &names));
    for name in &names {
        daemon.wait_state(name, "running");
    }
    let client = embedded_client(&daemon).await;
    let mut live = client.subscribe("supervision.failures.>").await.unwrap();
    client.flush().await.unwrap();
    let random = fastrand::Rng::with_seed(7);
    let mut random = random;
    let mut killed: BTreeSet<u32> = BTreeSet::new();
    while killed.len() < KILLS {
        let list = daemon.json(&["list"]);
        let agents = list["agents"].as_array().unwrap();
        for agent in agents.iter().filter(|agent| agent["pid"].is_number()) {
            let pid = pid_of(agent);
            if random.u8(..4) != 0 && killed.len() < KILLS && killed.insert(pid) {
                signal(pid, Signal::KILL);
            }
        }
    }
    for name in &names {
        daemon.wait(name, "runs again", |agent| {
            agent["state"] == "running" && !killed.contains(&pid_of(agent))
        });
    }
    let list = daemon.json(&["list"]);
    let agents = list["agents"].as_array().unwrap();
    let restarts: u64 = agents.iter().map(|agent| agent["restarts"].as_u64().unwrap()).sum();
    assert_eq!(restarts, KILLS as u64);
    assert_eq!(daemon.processes().len(), names.len(), "a stray or missing process");

    let mut stream = supervision(&client).await;
    let events = eventually("all failures are stored", async || {
        let waiting = daemon.json(&["status"])["system"]["outbox"]["waiting"].as_u64();
        if waiting != Some(0) {
            return None;
        }
        Some(stored(&mut stream).await)
    })
    .await;
    let ids: BTreeSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len(), "an event is stored twice");
    let failures = events.iter().filter(|event| type_of(event) == "supervision.failure").count();
    assert_eq!(failures, KILLS);
    let mut seen = 0;
    while tokio::time::timeout(Duration::from_millis(500), futures_util::StreamExt::next(&mut live))
        .await
        .is_ok()
    {
        seen += 1;
    }
    assert_eq!(seen, KILLS, "a core subscriber saw another number");
    assert!(zombies_of(daemon.pid()).is_empty());
}

#[test]
fn a_crash_loop_opens_the_circuit_and_a_reset_closes_it() {
    let config = r#"
[supervision]
enabled = true
[agent_types.worker]
runtime = "process"
command = ["sh", "-c", "exit 3"]
restart = { type = "permanent", intensity = 3, period = "60s", open_for = "1h", open_max = "2h", backoff = { initial = "1ms" } }
"#;
    let daemon = Daemon::start(&with_agents(config, &["w1"]));
    let open = daemon.wait_state("w1", "quarantined");
    assert_eq!(open["circuit"]["state"], "open");
    assert!(3_500_000 < open["circuit"]["retry_after_ms"].as_u64().unwrap());
    assert_eq!(open["pid"], Value::Null);
    assert_eq!(open["restarts"], 3);
    assert_eq!(daemon.cli(&["status", "w1"]).status.code(), Some(1));
    assert!(daemon.cli(&["reset", "w1"]).status.success());
    daemon.wait("w1", "is quarantined again", |agent| {
        agent["state"] == "quarantined" && open["generation"].as_u64() < agent["generation"].as_u64()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_misses_no_event_and_touches_no_agent() {
    let mut server = NatsServer::start();
    let config = format!(
        "{}\n[agent_types.flaky]\nruntime = \"process\"\ncommand = [\"sh\", \"-c\", \"sleep 0.2; exit 1\"]\n\
         env = {{ PROVOST_TEST_MARK = \"{{mark}}\" }}\n\
         restart = {{ intensity = 10000, period = \"60s\", backoff = {{ initial = \"0s\" }} }}\n\
         [[agent]]\nname = \"f1\"\ntype = \"flaky\"\n[[agent]]\nname = \"f2\"\ntype = \"flaky\"\n",
        with_agents(WORKER, &["w1", "w2"])
    );
    let daemon = Daemon::start_on(&config, &server.url());
    let steady = pid_of(&daemon.wait_state("w1", "running"));
    daemon.wait("f1", "has crashed", |agent| 2 < agent["restarts"].as_u64().unwrap());
    server.kill9();
    let down = Instant::now();
    eventually_blocking("five seconds without a server", || {
        (Duration::from_secs(5) < down.elapsed()).then_some(())
    });
    assert!(lives(steady), "an agent was touched");
    server.restart();
    let restarts = |name: &str| daemon.agent(name).unwrap()["restarts"].as_u64().unwrap();
    let back = eventually_blocking("the daemon is back", || {
        let output = daemon.cli(&["list", "-o", "json"]);
        output.status.success().then(|| restarts("f1"))
    });
    daemon.wait("f1", "crashes on", |agent| back + 5 < agent["restarts"].as_u64().unwrap());
    for name in ["f1", "f2"] {
        assert!(daemon.cli(&["stop", name]).status.success());
    }
    let client = server.client().await;
    let mut stream = supervision(&client).await;
    let events = eventually("the outbox is empty", async || {
        let waiting = daemon.json(&["status"])["system"]["outbox"]["waiting"].as_u64();
        if waiting != Some(0) {
            return None;
        }
        Some(stored(&mut stream).await)
    })
    .await;
    let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(ids, sorted, "events are stored out of order");
    sorted.dedup();
    assert_eq!(ids.len(), sorted.len(), "an event is stored twice");
    for name in ["f1", "f2"] {
        let failures: Vec<u64> = events
            .iter()
            .filter(|event| type_of(event) == "supervision.failure" && event["data"]["name"] == name)
            .map(|event| event["generation"].as_u64().unwrap())
            .collect();
        let expected: Vec<u64> = (1..=failures.len() as u64).collect();
        assert_eq!(failures, expected, "failures of {name} are missing or out of order");
        assert!(20 < failures.len());
    }
    assert_eq!(pid_of(&daemon.agent("w1").unwrap()), steady);
}

#[test]
fn sigterm_stops_agents_in_reverse_order_and_leaves_nothing() {
    let config = r#"
[supervision]
enabled = true
[agent_types.worker]
runtime = "process"
command = ["python3", "-u", "-c", "import signal,sys,time,os\ndef end(*_):\n  open('order','a').write(os.environ['PROVOST_AGENT_NAME']+'\\n')\n  sys.exit(0)\nsignal.signal(signal.SIGTERM,end)\nopen('ready-'+os.environ['PROVOST_AGENT_NAME'],'w')\nwhile True: time.sleep(60)"]
env = { PROVOST_TEST_MARK = "{mark}" }
stop = { grace = "5s" }
"#;
    let stubborn = "\n[agent_types.stubborn]\nruntime = \"process\"\n\
        command = [\"sh\", \"-c\", \"trap '' TERM; touch ready-s1; while :; do sleep 0.1; done\"]\n\
        env = { PROVOST_TEST_MARK = \"{mark}\" }\nstop = { grace = \"500ms\" }\n\
        [[agent]]\nname = \"s1\"\ntype = \"stubborn\"\n";
    let config = format!("{}{stubborn}", with_agents(config, &["a", "b", "c"]));
    let mut daemon = Daemon::start(&config);
    for name in ["a", "b", "c", "s1"] {
        let file = daemon.dir.path().join(format!("ready-{name}"));
        eventually_blocking("the agent is ready", || file.exists().then_some(()));
    }
    let keeper_and_all = daemon.processes();
    assert!(4 <= keeper_and_all.len());
    let begin = Instant::now();
    let status = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(begin.elapsed() < Duration::from_secs(10));
    let order = std::fs::read_to_string(daemon.dir.path().join("order")).unwrap();
    assert_eq!(order, "c\nb\na\n");
    daemon.nothing_left();
    let output = daemon.cli(&["list"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_killed_daemon_could_not_deliver_come_from_the_next_one() {
    let mut server = NatsServer::start();
    let mut daemon = Daemon::start_on(&with_agents(WORKER, &["w1"]), &server.url());
    let pid = pid_of(&daemon.wait_state("w1", "running"));
    server.kill9();
    signal(pid, Signal::KILL);
    eventually_blocking("the agent runs again", || {
        let others = daemon.processes();
        (others.len() == 1 && others[0] != pid).then_some(())
    });
    daemon.kill9();
    daemon.nothing_left();
    server.restart();
    daemon.up();
    let client = server.client().await;
    let mut stream = supervision(&client).await;
    let events = eventually("the failure is stored", async || {
        let events = stored(&mut stream).await;
        events.iter().any(|event| type_of(event) == "supervision.failure").then_some(events)
    })
    .await;
    let ids: BTreeSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    let again = daemon.wait_state("w1", "running");
    assert!(3 <= again["generation"].as_u64().unwrap(), "a generation was used twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_command_subject_is_answered_and_harms_nothing() {
    let server = NatsServer::with(NatsOptions::default().max_payload(16 * 1024 * 1024));
    let daemon = Daemon::start_on(&with_agents(WORKER, &["w1"]), &server.url());
    daemon.wait_state("w1", "running");
    let client = server.client().await;
    let garbage: Vec<Vec<u8>> = vec![
        vec![],
        b"not json".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"{}".to_vec(),
        b"[]".to_vec(),
        br#"{"command":"fly"}"#.to_vec(),
        br#"{"command":7}"#.to_vec(),
        br#"{"command":"list","extra":1}"#.to_vec(),
        br#"{"command":"spawn"}"#.to_vec(),
        br#"{"command":"spawn","agent_type":"worker","name":"a.b"}"#.to_vec(),
        br#"{"command":"spawn","agent_type":"worker","args":"x"}"#.to_vec(),
        br#"{"command":"stop","agent":"w1","grace_ms":-1}"#.to_vec(),
        vec![b'['; 100_000],
        vec![b'x'; 10 * 1024 * 1024],
    ];
    for payload in garbage {
        let shown = text(&payload[..payload.len().min(60)]);
        let answer = client.request("agent.command", payload.into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["ok"], false, "{shown}");
        assert_eq!(answer["error"]["kind"], "invalid_request", "{shown}: {answer}");
        assert_eq!(answer["error"]["code"], "PV0101");
        assert!(!answer["error"]["hint"].as_str().unwrap().is_empty());
    }
    let requests = (0..10_000).map(|_| client.request("agent.command", r#"{"command":"list"}"#.into()));
    let answers = futures_util::future::join_all(requests).await;
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
        let kind = answer["error"]["kind"].as_str().unwrap_or("ok").to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    assert!(kinds.keys().all(|kind| kind == "ok" || kind == "unavailable"), "{kinds:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak_kib: u64 = peak.trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak_kib < 300 * 1024, "the daemon took {peak_kib} KiB");
    daemon.wait_state("w1", "running");
}

#[test]
fn the_pool_refuses_more_agents_and_unknown_types() {
    let daemon = Daemon::start(&WORKER.replace("max = 100", "max = 2"));
    let spawn = |name: &str| daemon.cli(&["spawn", "worker", "--name", name, "-o", "json"]);
    assert_eq!(spawn("w1").status.code(), Some(0));
    assert_eq!(spawn("w2").status.code(), Some(0));
    let full = spawn("w3");
    assert_eq!(full.status.code(), Some(6));
    assert!(text(&full.stderr).contains("PV0105"), "{}", text(&full.stderr));
    assert_eq!(daemon.cli(&["stop", "w1"]).status.code(), Some(0));
    assert_eq!(spawn("w3").status.code(), Some(0));
    assert_eq!(spawn("w3").status.code(), Some(6), "a name is given once");
    let unknown = daemon.cli(&["spawn", "warker"]);
    assert_eq!(unknown.status.code(), Some(4));
    assert!(text(&unknown.stderr).contains("worker"), "{}", text(&unknown.stderr));
    assert_eq!(daemon.cli(&["status", "nobody"]).status.code(), Some(4));
    assert_eq!(daemon.cli(&["status", "w1"]).status.code(), Some(3));
}

#[test]
fn spawned_agents_come_back_with_the_next_daemon_until_they_are_removed() {
    let mut daemon = Daemon::start(WORKER);
    daemon.json(&["spawn", "worker", "--name", "kept"]);
    daemon.json(&["spawn", "worker", "--name", "gone"]);
    assert!(daemon.cli(&["remove", "gone"]).status.success());
    let before = daemon.wait_state("kept", "running");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    let after = daemon.wait_state("kept", "running");
    assert_eq!(after["agent_id"], before["agent_id"]);
    assert!(before["generation"].as_u64() < after["generation"].as_u64());
    assert!(daemon.agent("gone").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_switches_off_agents_and_commands_work_without_jetstream() {
    let server = NatsServer::with(NatsOptions::default().without_jetstream());
    let config = r#"
[agent_types.worker]
runtime = "process"
command = ["sleep", "100000"]
env = { PROVOST_TEST_MARK = "{mark}" }
"#;
    let daemon = Daemon::start_on(&with_agents(config, &["w1"]), &server.url());
    let client = server.client().await;
    let mut events = client.subscribe("agent.events.>").await.unwrap();
    client.flush().await.unwrap();
    let pid = pid_of(&daemon.wait_state("w1", "running"));
    signal(pid, Signal::KILL);
    let ended = daemon.wait_state("w1", "terminated");
    assert_eq!(ended["restarts"], 0);
    let seen = loop {
        let message = tokio::time::timeout(
            Duration::from_secs(10),
            futures_util::StreamExt::next(&mut events),
        );
        let event: Value = serde_json::from_slice(&message.await.unwrap().unwrap().payload).unwrap();
        if type_of(&event) == "agent.terminated" {
            break event;
        }
    };
    assert_eq!(seen["data"]["new_state"], "terminated");
    assert_eq!(seen["data"]["exit"]["signal"], 9);
    assert!(daemon.cli(&["spawn", "worker", "--name", "w2"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_stands_before_every_subject_and_two_prefixes_live_side_by_side() {
    let server = NatsServer::start();
    let prefixed = format!("[provost]\nsubject_prefix = \"acme.prod\"\n{WORKER}");
    let one = Daemon::start_on(&with_agents(&prefixed, &["w1"]), &server.url());
    let two = Daemon::start_on(&with_agents(WORKER, &["w1"]), &server.url());
    let client = server.client().await;
    let mut all = client.subscribe("acme.prod.>").await.unwrap();
    client.flush().await.unwrap();
    let request = client.request("acme.prod.agent.command", r#"{"command":"list"}"#.into());
    let answer: Value = serde_json::from_slice(&request.await.unwrap().payload).unwrap();
    assert_eq!(answer["agents"][0]["name"], "w1");
    let pid = pid_of(&one.wait_state("w1", "running"));
    signal(pid, Signal::KILL);
    let mut subjects = BTreeSet::new();
    eventually("failures, events and recovery under the prefix", async || {
        let next = tokio::time::timeout(
            Duration::from_millis(100),
            futures_util::StreamExt::next(&mut all),
        );
        if let Ok(Some(message)) = next.await {
            subjects.insert(message.subject.to_string());
        }
        ["supervision.failures.high", "supervision.events", "supervision.recovery."]
            .iter()
            .all(|wanted| subjects.iter().any(|seen| seen.contains(wanted)))
            .then_some(())
    })
    .await;
    assert_eq!(two.agent("w1").unwrap()["restarts"], 0);
    let jetstream = async_nats::jetstream::new(client);
    jetstream.get_stream("acme_prod_SUPERVISION").await.unwrap();
}

#[test]
fn a_second_daemon_is_refused_with_the_name_of_the_first() {
    let server = NatsServer::start();
    let config = format!("[provost]\nnode = \"first-node\"\n{WORKER}");
    let _first = Daemon::start_on(&config, &server.url());
    let second_config = WORKER.to_owned();
    let mut second = Daemon::prepare(&second_config).flag("--nats-url", &server.url());
    second.spawn();
    let status = eventually_blocking("the second daemon ends", || second.ended());
    assert_eq!(status.code(), Some(6), "{}", second.log());
    assert!(second.log().contains("first-node"), "{}", second.log());
}

#[test]
fn two_daemons_in_one_state_folder_are_refused() {
    let daemon = Daemon::start(WORKER);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_provost"))
        .args(["up", "--state-dir"])
        .arg(daemon.state_dir())
        .arg("-f")
        .arg(daemon.dir.path().join("provost.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&daemon.pid().to_string()), "{}", text(&output.stderr));
}

#[test]
fn wrong_values_stop_the_start_with_one_answer() {
    let check = |name: &str, value: &str, wanted: &str| {
        let mut daemon = Daemon::prepare(WORKER).env(name, value);
        daemon.spawn();
        let status = eventually_blocking("the daemon ends", || daemon.ended());
        assert_eq!(status.code(), Some(2), "{}", daemon.log());
        assert!(daemon.log().contains(wanted), "{}", daemon.log());
    };
    check("ENABLE_SUPERVISION", "maybe", "ENABLE_SUPERVISION");
    check("ENABLE_ADVANCED_ROUTING", "1", "ENABLE_COORDINATION");
    let server = NatsServer::with(NatsOptions::default().user("u", "right"));
    let url = server.url().replace("nats://", "nats://u:wrong@");
    let mut daemon = Daemon::prepare(WORKER).flag("--nats-url", &url);
    daemon.spawn();
    let status = eventually_blocking("the daemon ends", || daemon.ended());
    assert_eq!(status.code(), Some(7), "{}", daemon.log());
    assert!(!daemon.log().contains("wrong"), "{}", daemon.log());
}

/// The older server binary at this place, if the environment names one.
fn other_server(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PROVOST_NATS_SERVERS")?;
    let path = Path::new(&folder).join(name);
    path.exists().then_some(path)
}

#[test]
fn an_older_server_is_accepted_or_refused_as_stated() {
    let cases = [("nats-server-2.12.0", Some(())), ("nats-server-2.11.11", None)];
    for (name, accepted) in cases {
        let Some(binary) = other_server(name) else { continue };
        let server = NatsServer::with(NatsOptions::default().binary(binary));
        let mut daemon = Daemon::prepare(&with_agents(WORKER, &["w1"]))
            .flag("--nats-url", &server.url());
        if accepted.is_some() {
            daemon.up();
            daemon.wait_state("w1", "running");
        } else {
            daemon.spawn();
            let status = eventually_blocking("the daemon ends", || daemon.ended());
            assert_eq!(status.code(), Some(5), "{}", daemon.log());
            assert!(daemon.log().contains("2.11.11") && daemon.log().contains("2.12"));
        }
    }
}
