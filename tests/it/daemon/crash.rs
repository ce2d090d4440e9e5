//! Crashes, kills and shutdown.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{WORKER, embedded_client, pid_of, stored, supervision, type_of, with_agents};
use crate::support::daemon::{Daemon, signal, text, zombies_of};
use crate::support::{eventually, eventually_blocking};

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
    let mut random = fastrand::Rng::with_seed(7);
    let mut killed: BTreeSet<u32> = BTreeSet::new();
    while killed.len() < KILLS {
        let list = daemon.json(&["list"]);
        let agents = list["agents"].as_array().unwrap();
        let pids = agents.iter().filter(|agent| agent["pid"].is_number()).map(pid_of);
        let chosen: Vec<u32> = pids.filter(|_| random.u8(..4) != 0).collect();
        let room = KILLS - killed.len();
        for pid in chosen.into_iter().take(room).filter(|pid| killed.insert(*pid)) {
            signal(pid, Signal::KILL);
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
    while tokio::time::timeout(Duration::from_millis(500), live.next()).await.is_ok() {
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
        agent["state"] == "quarantined"
            && open["generation"].as_u64() < agent["generation"].as_u64()
    });
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

#[test]
fn an_outside_client_of_another_make_sees_failure_decision_and_recovery_in_causal_order() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1"]));
    daemon.wait_state("w1", "running");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new("python3")
        .arg(root.join("tests/outside/monitor.py"))
        .args(["--agent", "w1", "--timeout", "30", "--state-dir"])
        .arg(daemon.state_dir())
        .env("PYTHONPATH", root.join(".tools/python"))
        .output()
        .unwrap();
    let (seen, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{seen}\n{said}");
}
