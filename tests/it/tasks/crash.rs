//! Kills under tasks: of the agent, of the daemon, of all at random; then the audit of the log.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::daemon::{embedded_client, pid_of};
use crate::support::daemon::{Daemon, signal};
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
    let first = shown(&daemon, "m1");
    assert_eq!(first["attempt"], 2, "{first}");
    let audit = audit(&daemon);
    assert_eq!(audit["tasks"]["completed"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_everything_lose_and_double_nothing() {
    const TASKS: usize = 200;
    const SEEDS: u64 = 1;
    for seed in 0..SEEDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut daemon = Daemon::start(&workers(4));
        ready(&daemon, &["w1", "w2", "w3", "w4"]);
        let mut submitted = 0;
        while submitted < TASKS {
            let client = embedded_client(&daemon).await;
            for _ in 0..random.usize(10..40) {
                submit(
                    &client,
                    "x",
                    &format!("s{seed}-{submitted}"),
                    br#"{"input":1,"max_attempts":50}"#,
                )
                .await;
                submitted += 1;
            }
            match random.u8(..4) {
                0 => {
                    daemon.kill9();
                    daemon.up();
                }
                1 => {
                    let file = daemon.state_dir().join("nats.json");
                    let address: serde_json::Value =
                        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
                    if let Some(pid) = address["pid"].as_u64() {
                        signal(u32::try_from(pid).unwrap(), Signal::KILL);
                    }
                    crate::support::eventually("nats is back", async || {
                        let status = daemon.cli(&["status", "-o", "json"]);
                        let state: serde_json::Value =
                            serde_json::from_slice(&status.stdout).ok()?;
                        (state["system"]["nats"]["state"] == "connected").then_some(())
                    })
                    .await;
                }
                _ => {
                    let list = daemon.json(&["list"]);
                    for agent in list["agents"].as_array().unwrap() {
                        if agent["pid"].is_number() && random.bool() {
                            signal(pid_of(agent), Signal::KILL);
                        }
                    }
                }
            }
        }
        for number in 0..submitted {
            let event = result(&daemon, &format!("s{seed}-{number}"));
            assert!(event["data"]["state"].is_string());
        }
        let audit = audit(&daemon);
        let ended: u64 =
            audit["tasks"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(ended, submitted as u64, "{audit}");
        println!("seed {seed}: {audit}");
    }
}
