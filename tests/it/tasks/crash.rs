//! Kills under tasks: of the agent, of the daemon, of all at random; then the audit of the log.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{embedded_client, pid_of};
use crate::support::daemon::{Daemon, signal};
use crate::support::eventually;
use crate::tasks::{
    all_submissions_are_gone, audit, began, between, go, ready, result, shown, states, submit,
    workers,
};

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

/// A daemon under faults.
struct Trouble {
    daemon: Daemon,
    random: fastrand::Rng,
    submitted: usize,
    /// Agents that were stopped by a signal, and go on at the next fault.
    frozen: Vec<u32>,
}

impl Trouble {
    /// Submits some tasks, some of them for all agents.
    async fn submit_some(&mut self) {
        let client = embedded_client(&self.daemon).await;
        for _ in 0..self.random.usize(10..40) {
            let body: &[u8] = match self.submitted % 7 {
                6 => br#"{"input":1,"max_attempts":50,"strategy":"broadcast","completion":"any"}"#,
                5 => br#"{"input":1,"max_attempts":50,"strategy":"sticky","sticky_key":"k"}"#,
                _ => br#"{"input":1,"max_attempts":50}"#,
            };
            submit(&client, "x", &format!("s-{}", self.submitted), body).await;
            self.submitted += 1;
        }
    }

    /// Kills the daemon, the server, or some agents, or stops some agents by a signal, and waits
    /// until tasks can be submitted again.
    async fn make_some(&mut self) {
        self.thaw();
        match self.random.u8(..6) {
            0 => {
                self.daemon.kill9();
                self.daemon.up();
            }
            1 => kill_server(&self.daemon),
            2 => self.frozen = self.signal_agents(Signal::STOP),
            _ => drop(self.signal_agents(Signal::KILL)),
        }
        eventually("tasks can be submitted", async || {
            let status = self.daemon.cli(&["status", "-o", "json"]);
            let status: Value = serde_json::from_slice(&status.stdout).ok()?;
            let system = &status["system"];
            let connected = system["nats"]["state"] == "connected";
            (connected && system["tasks"]["state"] == "on").then_some(())
        })
        .await;
    }

    /// Lets agents go on that were stopped.
    fn thaw(&mut self) {
        let ours = self.daemon.processes();
        for pid in std::mem::take(&mut self.frozen) {
            if ours.contains(&pid) {
                signal(pid, Signal::CONT);
            }
        }
    }

    fn signal_agents(&mut self, which: Signal) -> Vec<u32> {
        let list = self.daemon.json(&["list"]);
        let running = list["agents"].as_array().unwrap().iter();
        let running = running.filter(|agent| agent["pid"].is_number());
        let some: Vec<u32> = running.filter(|_| self.random.bool()).map(pid_of).collect();
        some.iter().for_each(|pid| signal(*pid, which));
        some
    }
}

fn kill_server(daemon: &Daemon) {
    let address = std::fs::read(daemon.state_dir().join("nats.json")).unwrap();
    let address: Value = serde_json::from_slice(&address).unwrap();
    signal(pid_of(&address), Signal::KILL);
}

/// Seeds, and tasks of each: three seeds unless `PROVOST_CRASH_SEEDS` says which, such as `0..50`.
fn seeds() -> (std::ops::Range<u64>, usize) {
    let Ok(said) = std::env::var("PROVOST_CRASH_SEEDS") else { return (1..4, 60) };
    let (first, last) = said.split_once("..").unwrap();
    (first.parse().unwrap()..last.parse().unwrap(), 300)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_everything_lose_and_double_nothing() {
    let (seeds, tasks) = seeds();
    for seed in seeds {
        Box::pin(survive(seed, tasks)).await;
    }
}

/// Runs so many tasks through faults, and audits the log.
#[expect(clippy::print_stdout, reason = "the seed of a failure is to be known")]
async fn survive(seed: u64, tasks: usize) {
    println!("seed {seed}");
    // What an agent said to a daemon that died before it was recorded is found by its lease.
    let config = workers(4).replace("slots = 1", "slots = 1\ntimeout = \"2s\"");
    let daemon = Daemon::start(&config);
    let random = fastrand::Rng::with_seed(seed);
    ready(&daemon, &["w1", "w2", "w3", "w4"]);
    let mut trouble = Trouble { daemon, random, submitted: 0, frozen: Vec::new() };
    while trouble.submitted < tasks {
        trouble.submit_some().await;
        trouble.make_some().await;
    }
    trouble.thaw();
    for number in 0..trouble.submitted {
        result(&trouble.daemon, &format!("s-{number}"));
    }
    all_submissions_are_gone(&trouble.daemon).await;
    let audit = audit(&trouble.daemon);
    let counts = audit["tasks"].as_object().unwrap().values();
    let ended: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
    // Parts of broadcasts are tasks too.
    assert!(trouble.submitted as u64 <= ended, "seed {seed}: {audit}");
}
