//! The configuration is read again: what changes in place, what restarts one child, what is held,
//! and that a wrong file changes nothing.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{WORKER, embedded_client, pid_of, stored, supervision, type_of, with_agents};
use crate::support::daemon::{Daemon, signal, text};
use crate::support::eventually_blocking;

fn pids(daemon: &Daemon) -> BTreeMap<String, Option<u64>> {
    let list = daemon.json(&["list"]);
    let agents = list["agents"].as_array().unwrap().iter();
    agents
        .map(|agent| (agent["name"].as_str().unwrap().to_owned(), agent["pid"].as_u64()))
        .collect()
}

fn start(config: &str, names: &[&str]) -> Daemon {
    let daemon = Daemon::start(config);
    for name in names {
        daemon.wait_state(name, "running");
    }
    daemon
}

fn hup(daemon: &Daemon) {
    signal(daemon.pid(), Signal::HUP);
}

/// What `provost plan` says, as lines `op name key effect`.
fn plan(daemon: &Daemon) -> Vec<String> {
    let answer = daemon.json(&["plan"]);
    let changes = answer["plan"]["changes"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    changes
        .map(|change| {
            let fields = ["op", "name", "key", "effect"].map(|field| word(&change[field]));
            fields.join(" ")
        })
        .collect()
}

fn apply(daemon: &Daemon) -> Value {
    daemon.json(&["apply", "--yes", "--reason", "a test"])
}

#[test]
fn agents_come_and_go_and_nobody_else_is_touched() {
    let daemon = start(&with_agents(WORKER, &["w1", "w2"]), &["w1", "w2"]);
    let before = pids(&daemon);
    daemon.configure(&with_agents(WORKER, &["w2", "w3"]));
    assert_eq!(plan(&daemon), ["remove w1 - in_place", "add w3 - in_place"]);
    assert_eq!(daemon.cli(&["plan", "--exit-code"]).status.code(), Some(10));
    let status = text(&daemon.cli(&["status"]).stdout);
    assert!(status.contains("configuration on disk differs (2 changes): provost plan"), "{status}");
    assert_eq!(apply(&daemon)["plan"]["done"], true);
    daemon.wait_state("w3", "running");
    let after = pids(&daemon);
    assert_eq!(after.keys().collect::<Vec<_>>(), ["w2", "w3"]);
    assert_eq!(after["w2"], before["w2"]);
    eventually_blocking("only two processes are left", || {
        (daemon.processes().len() == 2).then_some(())
    });
    assert_eq!(daemon.cli(&["plan", "--exit-code"]).status.code(), Some(0));
    // The next daemon has what was written.
    assert_eq!(plan(&daemon), Vec::<String>::new());
}

#[test]
fn a_command_restarts_its_agents_and_no_others() {
    let other = WORKER.replace("[agent_types.worker]", "[agent_types.other]");
    let other = other.split("[agent_types.other]").nth(1).unwrap();
    let config = |seconds: &str| {
        let other = other.replace("100000", seconds);
        let agents = with_agents(WORKER, &["w1"]);
        format!("{agents}[agent_types.other]{other}[[agent]]\nname = \"o1\"\ntype = \"other\"\n")
    };
    let daemon = start(&config("100001"), &["w1", "o1"]);
    let before = pids(&daemon);
    daemon.configure(&config("100002"));
    assert_eq!(plan(&daemon), ["change o1 command restarts_children"]);
    apply(&daemon);
    let o1 = daemon.wait("o1", "runs anew", |agent| {
        agent["state"] == "running" && agent["pid"].as_u64() != before["o1"]
    });
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pid_of(&o1))).unwrap();
    assert!(command.contains("100002"), "{command}");
    assert_eq!(pids(&daemon)["w1"], before["w1"]);
    // It was asked for: no restart is counted against it, and a crash brings the new command back.
    assert_eq!(o1["circuit"]["state"], "closed");
    signal(pid_of(&o1), Signal::KILL);
    let again = daemon
        .wait("o1", "is back", |agent| agent["state"] == "running" && agent["pid"] != o1["pid"]);
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pid_of(&again))).unwrap();
    assert!(command.contains("100002"), "{command}");
}

#[test]
fn a_restart_limit_is_changed_in_place_and_holds_from_then_on() {
    let daemon = start(&with_agents(WORKER, &["w1"]), &["w1"]);
    let before = pids(&daemon);
    daemon.configure(&with_agents(&WORKER.replace("intensity = 10000", "intensity = 0"), &["w1"]));
    assert_eq!(plan(&daemon), ["change w1 restart.intensity in_place"]);
    hup(&daemon);
    eventually_blocking("the change is taken", || plan(&daemon).is_empty().then_some(()));
    assert_eq!(pids(&daemon), before);
    signal(u32::try_from(before["w1"].unwrap()).unwrap(), Signal::KILL);
    daemon.wait_state("w1", "quarantined");
    // An open circuit stays open under a limit that would have allowed it.
    daemon.configure(&with_agents(WORKER, &["w1"]));
    apply(&daemon);
    assert_eq!(daemon.agent("w1").unwrap()["state"], "quarantined");
}

#[test]
fn a_wrong_file_changes_nothing_and_is_told_with_its_line() {
    let daemon = start(&with_agents(WORKER, &["w1"]), &["w1"]);
    let before = pids(&daemon);
    daemon.configure(&with_agents(&format!("{WORKER}comand = 1\n"), &["w1", "w2"]));
    hup(&daemon);
    let log = eventually_blocking("the refusal is logged", || {
        Some(daemon.log()).filter(|log| log.contains("configuration not reloaded"))
    });
    assert!(log.contains("comand"), "{log}");
    let line = WORKER.lines().count() + 1;
    assert!(log.contains(&format!("provost.toml:{line}")), "line {line}: {log}");
    let output = daemon.cli(&["apply", "--yes"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("what runs stays as it is") && said.contains("comand"), "{said}");
    let status = daemon.json(&["status"]);
    assert_eq!(status["system"]["config"]["faults"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(pids(&daemon), before);
    // The right one is taken, and the refusal is over.
    daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    hup(&daemon);
    daemon.wait_state("w2", "running");
    eventually_blocking("the refusal is over", || {
        daemon.json(&["status"])["system"]["config"].get("refused").is_none().then_some(())
    });
}

#[test]
fn what_only_a_start_reads_is_held_and_the_rest_is_done() {
    let daemon = start(&with_agents(WORKER, &["w1"]), &["w1"]);
    let nats = "[nats]\nurl = \"nats://127.0.0.1:4333\"\n";
    daemon.configure(&with_agents(&format!("{nats}{WORKER}"), &["w1", "w2"]));
    let planned = plan(&daemon);
    assert!(planned.iter().any(|line| line == "change nats.url - restarts_daemon"), "{planned:?}");
    let output = daemon.cli(&["apply", "--yes", "-o", "json"]);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert!(text(&output.stderr).contains("held until the daemon is restarted"), "{output:?}");
    daemon.wait_state("w2", "running");
    let status = daemon.json(&["status"]);
    assert_eq!(status["system"]["config"]["held"], status["system"]["config"]["changes"]);
    assert_eq!(status["system"]["nats"]["embedded"], true);
}

#[test]
fn a_stale_plan_is_refused_and_a_look_changes_nothing() {
    let daemon = start(&with_agents(WORKER, &["w1"]), &["w1"]);
    daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    let looked = daemon.json(&["plan"]);
    let print = looked["plan"]["fingerprint"].as_str().unwrap();
    let output = daemon.cli(&["apply", "--dry-run"]);
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    // Nobody can be asked here.
    assert_eq!(daemon.cli(&["apply"]).status.code(), Some(2));
    daemon.configure(&with_agents(WORKER, &["w1", "w3"]));
    let output = daemon.cli(&["apply", "--yes", "--plan", print]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(text(&output.stderr).contains("stale"), "{output:?}");
    assert_eq!(pids(&daemon).len(), 1);
    daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    let output = daemon.cli(&["apply", "--yes", "--plan", print]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    daemon.wait_state("w2", "running");
}

#[test]
fn groups_change_in_place_grow_and_are_made_anew() {
    let group = |intensity: u32, children: &str| {
        format!(
            "[supervisors.team]\nstrategy = \"rest_for_one\"\nintensity = {intensity}\n\
             period = \"10s\"\nchildren = [{children}]\n"
        )
    };
    let config = |intensity, children: &str, names: &[&str]| {
        with_agents(&format!("{WORKER}{}", group(intensity, children)), names)
    };
    let names = ["w1", "w2"];
    let daemon = start(&config(5, "\"w1\", \"w2\"", &names), &names);
    let before = pids(&daemon);
    daemon.configure(&config(9, "\"w1\", \"w2\", \"w3\"", &["w1", "w2", "w3"]));
    assert_eq!(plan(&daemon), ["change team intensity in_place", "add w3 - in_place"]);
    apply(&daemon);
    daemon.wait_state("w3", "running");
    let grown = pids(&daemon);
    assert_eq!((grown["w1"], grown["w2"]), (before["w1"], before["w2"]));
    let tree = daemon.cli(&["tree"]);
    assert!(text(&tree.stdout).contains("at most 9 restarts in 10s"), "{tree:?}");
    // Another order counts under rest_for_one.
    daemon.configure(&config(9, "\"w3\", \"w1\", \"w2\"", &["w1", "w2", "w3"]));
    assert_eq!(plan(&daemon), ["change team children restarts_children"]);
    apply(&daemon);
    for name in ["w1", "w2", "w3"] {
        daemon.wait(name, "runs anew", |agent| {
            agent["state"] == "running" && agent["pid"].as_u64() != grown[name]
        });
    }
    // The group goes, and one of its agents with it; the others move and run once.
    daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    apply(&daemon);
    for name in ["w1", "w2"] {
        daemon.wait_state(name, "running");
    }
    let left = pids(&daemon);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["w1", "w2"]);
    eventually_blocking("nobody runs twice", || (daemon.processes().len() == 2).then_some(()));
    let tree = text(&daemon.cli(&["tree"]).stdout);
    assert!(!tree.contains("team"), "{tree}");
}

#[test]
fn a_name_that_is_taken_and_a_pool_that_is_full_refuse_the_whole() {
    let small = WORKER.replace("max = 100", "max = 2");
    let daemon = start(&with_agents(&small, &["w1"]), &["w1"]);
    let spawned = daemon.cli(&["spawn", "worker", "--name", "extra"]);
    assert!(spawned.status.success(), "{spawned:?}");
    daemon.configure(&with_agents(&small, &["w1", "w2"]));
    let output = daemon.cli(&["apply", "--yes"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(text(&output.stderr).contains("nothing was changed"), "{output:?}");
    assert_eq!(pids(&daemon).keys().collect::<Vec<_>>(), ["extra", "w1"]);
    // What is read when it is needed comes with the same file.
    daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    apply(&daemon);
    daemon.wait_state("w2", "running");
    assert_eq!(daemon.json(&["status"])["system"]["agents_max"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changed_the_configuration_is_told_as_an_event() {
    let daemon = start(&with_agents(WORKER, &["w1"]), &["w1"]);
    daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    let output = daemon.cli(&["apply", "--yes", "--by", "alice", "--reason", "more work"]);
    assert!(output.status.success(), "{output:?}");
    daemon.configure("nonsense");
    assert!(!daemon.cli(&["system", "reload"]).status.success());
    let client = embedded_client(&daemon).await;
    let mut stream = supervision(&client).await;
    let mut told = Vec::new();
    for _ in 0..200 {
        let events = stored(&mut stream).await;
        told = events.into_iter().filter(|event| type_of(event) == "supervision.system").collect();
        if 2 <= told.len() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let details = &told[0]["data"]["details"];
    assert_eq!(told[0]["data"]["what"], "config_reloaded");
    let seen = [&details["by"], &details["reason"], &details["via"], &details["added"]];
    assert_eq!(
        seen.map(Value::clone),
        [json!("alice"), json!("more work"), json!("system.control"), json!(1)]
    );
    assert_eq!(told[1]["data"]["what"], "config_refused");
    assert_eq!(told[1]["severity"], "medium");
}

#[test]
fn a_hangup_while_the_daemon_stops_reloads_nothing() {
    // The agent tells that it was asked to stop, and takes its time.
    let script =
        "trap 'touch $MARKER; sleep 1; exit 0' TERM; touch $READY; while :; do sleep 0.1; done";
    let dir = tempfile::tempdir().unwrap();
    let (marker, ready) = (dir.path().join("asked"), dir.path().join("ready"));
    let slow = WORKER
        .replace("[\"sleep\", \"100000\"]", &format!("[\"sh\", \"-c\", \"{script}\"]"))
        .replace(
            "env = { ",
            &format!(
                "env = {{ MARKER = \"{}\", READY = \"{}\", ",
                marker.display(),
                ready.display()
            ),
        );
    let mut daemon = start(&with_agents(&slow, &["w1"]), &["w1"]);
    eventually_blocking("the trap is set", || ready.exists().then_some(()));
    daemon.configure(&with_agents(&slow, &["w1", "w2"]));
    signal(daemon.pid(), Signal::TERM);
    eventually_blocking("the agent is asked to stop", || marker.exists().then_some(()));
    hup(&daemon);
    let status = eventually_blocking("the daemon ends", || daemon.ended());
    assert!(status.success(), "{status}: {}", daemon.log());
    let log = daemon.log();
    assert!(!log.contains("w2"), "{log}");
    assert!(!log.contains("configuration not reloaded"), "{log}");
    daemon.nothing_left();
}

#[test]
fn a_daemon_without_files_has_nothing_to_reload() {
    let mut daemon = Daemon::prepare("");
    std::fs::remove_file(daemon.dir.path().join("provost.toml")).unwrap();
    daemon = daemon.env("ENABLE_SUPERVISION", "true");
    daemon.up_without_file();
    let output = daemon.cli(&["system", "reload"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(text(&output.stderr).contains("without a configuration file"), "{output:?}");
}
