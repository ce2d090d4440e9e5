//! Kills under tasks: of the agent, of the daemon, of all at random; then the audit of the log.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{embedded_client, pid_of};
use crate::support::daemon::{Daemon, signal};
use crate::support::eventually;
use crate::tasks::{audit, began, between, go, ready, result, shown, states, submit, workers};

#[test]
fn another_agent_has_the_task_of_a_killed_one_at_once() {
    let daemon = Daemon::start(&workers(2));
    ready(&daemon, &["w1", "w2"]);
    daemon.json(&["task", "submit", "x", "{\"wait\":true}", "--id", "k1"]);
    let first = began(&daemon, "k1", 1);
    let killed = Instant::now();
    signal(first, Signal::KILL);
    let second = began(&daemon, "k1", 2);
    let seen = killed.elapsed();
    assert_ne!(first, second);
    go(&daemon);
    assert_eq!(result(&daemon, "k1")["data"]["result"]["pid"], second);
    let shown = shown(&daemon, "k1");
    assert_eq!(
        states(&daemon, "k1"),
        ["assigned", "working", "accepted", "assigned", "working", "completed"]
    );
    assert_eq!(shown["records"][2]["decision"]["reason"], "agent_gone");
    let again = between(&shown, 2, 3);
    println!("given out again after {again:?}, seen to begin after {seen:?}");
    // Some milliseconds on an idle machine; no lease, beat or poll is as short as this.
    assert!(again < Duration::from_secs(1), "{again:?}");
    audit(&daemon);
}

#[test]
fn a_killed_daemons_tasks_end_exactly_once() {
    let mut daemon = Daemon::start(&workers(2));
    ready(&daemon, &["w1", "w2"]);
    for id in ["m1", "m2", "m3"] {
        daemon.json(&["task", "submit", "x", "{\"wait\":true}", "--id", id]);
    }
    began(&daemon, "m1", 1);
    daemon.kill9();
    go(&daemon);
    daemon.up();
    for id in ["m1", "m2", "m3"] {
        assert_eq!(result(&daemon, id)["data"]["state"], "completed", "{id}");
    }
    // The agent outlived the daemon, and what it said meanwhile was kept.
    let first = shown(&daemon, "m1");
    assert_eq!(first["attempt"], 1, "{first}");
    let audit = audit(&daemon);
    assert_eq!(audit["tasks"]["completed"], 3);
}

/// Submits some tasks; gives how many there are then.
async fn submit_some(daemon: &Daemon, random: &mut fastrand::Rng, first: usize) -> usize {
    let client = embedded_client(daemon).await;
    let last = first + random.usize(10..40);
    for number in first..last {
        submit(&client, "x", &format!("s-{number}"), br#"{"input":1,"max_attempts":50}"#).await;
    }
    last
}

/// Kills the daemon, the server, or some agents, and waits until tasks can be submitted again.
async fn kill_something(daemon: &mut Daemon, random: &mut fastrand::Rng) {
    match random.u8(..4) {
        0 => {
            daemon.kill9();
            daemon.up();
        }
        1 => kill_server(daemon),
        _ => kill_agents(daemon, random),
    }
    eventually("tasks can be submitted", async || {
        let status = daemon.cli(&["status", "-o", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).ok()?;
        let system = &status["system"];
        let connected = system["nats"]["state"] == "connected";
        (connected && system["tasks"]["state"] == "on").then_some(())
    })
    .await;
}

fn kill_server(daemon: &Daemon) {
    let address = std::fs::read(daemon.state_dir().join("nats.json")).unwrap();
    let address: Value = serde_json::from_slice(&address).unwrap();
    signal(pid_of(&address), Signal::KILL);
}

fn kill_agents(daemon: &Daemon, random: &mut fastrand::Rng) {
    let list = daemon.json(&["list"]);
    let running = list["agents"].as_array().unwrap().iter();
    for agent in running.filter(|agent| agent["pid"].is_number() && random.bool()) {
        signal(pid_of(agent), Signal::KILL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_everything_lose_and_double_nothing() {
    const TASKS: usize = 200;
    let mut random = fastrand::Rng::with_seed(1);
    // What an agent said to a daemon that died before it was recorded is found by its lease.
    let config = workers(4).replace("slots = 1", "slots = 1\ntimeout = \"2s\"");
    let mut daemon = Daemon::start(&config);
    ready(&daemon, &["w1", "w2", "w3", "w4"]);
    let mut submitted = 0;
    while submitted < TASKS {
        submitted = submit_some(&daemon, &mut random, submitted).await;
        kill_something(&mut daemon, &mut random).await;
    }
    for number in 0..submitted {
        result(&daemon, &format!("s-{number}"));
    }
    let audit = audit(&daemon);
    let counts = audit["tasks"].as_object().unwrap().values();
    let ended: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(ended, submitted as u64, "{audit}");
}
