//! What those who run a daemon ask of a real one: wait, doctor, check, analyze, completions, man.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::cli::{home, out, typed};
use crate::daemon::{WORKER, pid_of, with_agents};
use crate::support::daemon::{Daemon, signal, text};
use crate::support::eventually_blocking;

fn finding<'a>(document: &'a Value, check: &str) -> &'a Value {
    let all = document["checks"].as_array().unwrap();
    all.iter().find(|one| one["check"] == check).unwrap_or_else(|| panic!("{check}: {document}"))
}

fn doctor(daemon: &Daemon) -> (Option<i32>, Value) {
    let output = daemon.cli(&["doctor", "-o", "json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn the_doctor_finds_a_daemon_well_and_then_what_is_wrong_with_it() {
    let mut daemon = Daemon::start(&with_agents(WORKER, &["w1"]));
    daemon.wait_state("w1", "running");
    let (code, well) = doctor(&daemon);
    assert_eq!(code, Some(0), "{well}");
    for check in ["state_dir", "keeper", "spool", "daemon", "nats", "nats_server", "outbox"] {
        assert_eq!(finding(&well, check)["status"], "ok", "{well}");
    }
    for check in ["streams", "clock", "config"] {
        assert_eq!(finding(&well, check)["status"], "ok", "{well}");
    }
    for check in ["disk", "open_files", "processes", "cgroup"] {
        assert_ne!(finding(&well, check)["status"], "fail", "{well}");
    }

    daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    // A second later at the latest the files are read again.
    let differs = eventually_blocking("the difference is found", || {
        let (code, differs) = doctor(&daemon);
        assert_eq!(code, Some(0), "{differs}");
        (finding(&differs, "config")["status"] == "warn").then_some(differs)
    });
    assert_eq!(finding(&differs, "config")["do"], "provost plan", "{differs}");
    daemon.configure("agents = 7");
    let wrong = eventually_blocking("the fault is found", || {
        let (code, wrong) = doctor(&daemon);
        (code == Some(1)).then_some(wrong)
    });
    assert_eq!(finding(&wrong, "config")["status"], "fail", "{wrong}");

    daemon.configure(&with_agents(WORKER, &["w1"]));
    daemon.kill9();
    let (code, gone) = doctor(&daemon);
    assert_eq!(code, Some(1), "{gone}");
    assert_eq!(finding(&gone, "daemon")["status"], "fail", "{gone}");
    assert_eq!(finding(&gone, "keeper")["status"], "ok", "{gone}");
    let all = gone["checks"].as_array().unwrap();
    for one in all.iter().filter(|one| one["status"] == "fail" || one["status"] == "warn") {
        assert!(!one["do"].as_str().unwrap().is_empty(), "{one}");
    }
}

#[test]
fn wait_tells_when_an_agent_is_as_wanted_or_is_not() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1"]));
    let code = |line: &[&str]| daemon.cli(line).status.code();
    assert_eq!(code(&["wait", "w1"]), Some(0));
    assert_eq!(code(&["wait", "w1", "--for", "stopped", "--timeout", "300ms"]), Some(124));
    assert_eq!(code(&["wait", "nobody"]), Some(4));
    assert_eq!(code(&["wait", "w1", "--for", "asleep"]), Some(2));
    assert_eq!(code(&["stop", "w1"]), Some(0));
    assert_eq!(code(&["wait", "w1", "--for", "stopped"]), Some(0));
    assert_eq!(code(&["wait", "w1", "--for", "state=stopped"]), Some(0));
    assert_eq!(code(&["remove", "w1"]), Some(0));
    assert_eq!(code(&["wait", "w1", "--for", "gone"]), Some(0));
}

#[test]
fn a_monitoring_system_sees_a_quarantined_agent_as_critical() {
    let once = WORKER.replace("intensity = 10000", "intensity = 0");
    let daemon = Daemon::start(&with_agents(&once, &["w1"]));
    let w1 = daemon.wait_state("w1", "running");
    let output = daemon.cli(&["check", "agents"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).starts_with("PROVOST OK - agents: 1 of 1 running"), "{output:?}");
    signal(pid_of(&w1), Signal::KILL);
    daemon.wait_state("w1", "quarantined");
    let output = daemon.cli(&["check", "agents"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = daemon.cli(&["check", "circuits", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["checks"][0]["values"]["open"], 1, "{document}");
}

#[test]
fn stored_events_tell_who_started_slowly_and_who_flaps() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1", "w2"]));
    daemon.wait_state("w2", "running");
    for _ in 0..3 {
        let w1 = daemon.wait_state("w1", "running");
        signal(pid_of(&w1), Signal::KILL);
        daemon.wait("w1", "runs anew", |agent| {
            agent["state"] == "running" && agent["pid"] != w1["pid"]
        });
    }
    let named = |what: &str, name: &str| {
        eventually_blocking(&format!("{what} names {name}"), || {
            let output = daemon.cli(&["analyze", what, "-o", "name"]);
            text(&output.stdout).lines().any(|line| line == name).then_some(())
        });
    };
    named("blame", "w1");
    named("blame", "w2");
    named("critical-chain", "w2");
    named("flapping", "w1");
    let flapping = daemon.json(&["analyze", "flapping"]);
    assert_eq!(flapping["flapping"].as_array().unwrap().len(), 1, "{flapping}");
}

/// A shell reads its script without a complaint.
fn is_read_by(shell: &str, script: &str) {
    let checked = Command::new(shell).args(["-n", "-c", script]).stdin(Stdio::null()).output();
    // Not every machine has every shell.
    let Ok(checked) = checked else { return };
    assert!(checked.status.success(), "{shell}: {}", text(&checked.stderr));
}

#[test]
fn completions_and_manual_pages_are_made_for_every_shell_and_command() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let output = typed(home.path(), &format!("completions {shell}"));
        let script = out(&output);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(script.contains("provost list -o name"), "{shell} does not ask for names");
        assert!(script.contains("analyze"), "{shell} lacks a command");
        is_read_by(shell, &script);
    }
    assert_eq!(typed(home.path(), "completions elvish").status.code(), Some(2));
    let whole = out(&typed(home.path(), "man"));
    assert!(40 < whole.matches(".TH ").count(), "{}", whole.matches(".TH ").count());
    let one = out(&typed(home.path(), "man task submit"));
    assert!(one.starts_with(".ie") && one.contains("provost\\-task\\-submit"), "{one}");
    assert_eq!(typed(home.path(), "man no such").status.code(), Some(2));
}
