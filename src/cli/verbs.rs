//! Tests of the verbs over a scripted client: what is asked, what is shown in which form, and how
//! it ends.

use std::time::Duration;

use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli::arguments::Arguments;
use crate::cli::ask;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::testing::{Screen, Script, agent, block_on, noon, session};
use crate::protocol::command::{Answer, NatsStatus, SystemStatus};
use crate::protocol::decision::{NextAction, NextKind};
use crate::protocol::status::{AgentState, AgentStatus, CircuitState};

/// Types a line over a script; returns how it ended and what was shown.
fn typed(script: &Script, line: &str) -> (Result<Exit, Failure>, Screen) {
    let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
    let (mut session, screen) = session(script, arguments.common.output);
    session.timeout = arguments.common.timeout;
    let done = block_on(ask(&mut session, arguments.verb.unwrap()));
    if let Err(failure) = &done {
        session.console.failure(failure);
    }
    (done, screen)
}

fn shown(answer: Value, line: &str) -> String {
    let script = Script::of([answer]);
    let (done, screen) = typed(&script, line);
    done.unwrap();
    screen.out()
}

fn one(status: AgentStatus) -> Value {
    json!({"ok": true, "agent": status})
}

fn refusal(code: &str, kind: &str, message: &str) -> Value {
    json!({"ok": false, "error": {"code": code, "kind": kind, "message": message, "hint": ""}})
}

fn quarantined() -> AgentStatus {
    let mut status = agent("cruncher", AgentState::Quarantined);
    status.circuit.state = CircuitState::Open;
    status.circuit.retry_after_ms = Some(28_000);
    status.next = Some(NextAction { action: NextKind::Trial, in_ms: 28_000 });
    status.reason = "too many restarts, circuit open; last: exited with code 1".to_owned();
    status.labels.insert("team".to_owned(), "a".to_owned());
    status.health.metrics.cpu_usage = Some(0.25);
    status
}

fn two() -> Value {
    json!({"ok": true, "agents": [agent("w1", AgentState::Running), quarantined()]})
}

#[test]
fn a_list_is_a_table_without_borders() {
    insta::assert_snapshot!("list", shown(two(), "provost list"));
}

#[test]
fn a_list_as_json_is_the_answer_of_the_wire() {
    let text = shown(two(), "provost ps -o json");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document, two());
    let answer: Answer = serde_json::from_str(&text).unwrap();
    assert_eq!(answer.agents.unwrap().len(), 2);
}

#[test]
fn a_list_has_one_line_for_each_agent_in_jsonl_and_name() {
    let lines = shown(two(), "provost list -o jsonl");
    let names: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<AgentStatus>(line).unwrap().name.to_string())
        .collect();
    assert_eq!(names, ["w1", "cruncher"]);
    assert_eq!(shown(two(), "provost list -o name"), "w1\ncruncher\n");
}

#[test]
fn an_empty_list_says_so_on_standard_error() {
    let script = Script::of([json!({"ok": true, "agents": []})]);
    let (done, screen) = typed(&script, "provost list");
    assert_eq!(done, Ok(Exit::Done));
    assert_eq!(screen.out(), "");
    assert_eq!(screen.err(), "no agents; start one with: provost spawn TYPE\n");
}

#[test]
fn the_status_of_an_agent_says_what_is_known() {
    insta::assert_snapshot!("status_agent", {
        let script = Script::of([one(quarantined())]);
        let (done, screen) = typed(&script, "provost status cruncher");
        assert_eq!(done, Ok(Exit::Bad));
        screen.out()
    });
}

#[test]
fn the_status_of_several_agents_is_partial_when_they_differ() {
    let script = Script::of([
        one(agent("w1", AgentState::Running)),
        one(agent("w2", AgentState::Stopped)),
        refusal("PV0103", "unknown_agent", "no agent named \"w3\""),
        json!({"ok": true, "agents": []}),
    ]);
    let (done, screen) = typed(&script, "provost status w1 w2 w3 -o json");
    assert_eq!(done, Ok(Exit::Partial));
    let documents: Vec<Answer> = serde_json::from_str(&screen.out()).unwrap();
    let oks: Vec<bool> = documents.iter().map(|answer| answer.ok).collect();
    assert_eq!(oks, [true, true, false]);
}

#[test]
fn a_misspelt_agent_gets_code_cause_and_a_suggestion() {
    let unknown = refusal("PV0103", "unknown_agent", "no agent named \"crucnher\"");
    let script = Script::of([unknown, two()]);
    let (done, screen) = typed(&script, "provost stop crucnher");
    assert_eq!(done, Ok(Exit::NoSuchId));
    assert_eq!(screen.out(), "");
    assert_eq!(
        screen.err(),
        "error[PV0103]: no agent named \"crucnher\"\n  \
         next: did you mean \"cruncher\"?; provost list shows all agents\n"
    );
}

#[test]
fn every_refusal_ends_in_the_exit_code_of_its_kind() {
    for (kind, code) in [
        ("invalid_request", 2),
        ("unknown_agent_type", 4),
        ("already_exists", 6),
        ("pool_full", 6),
        ("not_permitted", 7),
        ("wrong_state", 6),
        ("unavailable", 5),
        ("internal", 1),
    ] {
        let script = Script::of([refusal("PV0100", kind, "no")]);
        let (done, screen) = typed(&script, "provost spawn worker -o json");
        assert_eq!(done.unwrap_err().exit.code(), code, "{kind}");
        let answer: Answer = serde_json::from_str(&screen.out()).unwrap();
        assert!(!answer.ok, "the refusal is data too");
    }
}

#[test]
fn what_is_done_to_agents_is_asked_as_the_wire_says() {
    let line = |verb: &str| {
        let script = Script::of([one(agent("w1", AgentState::Stopped))]);
        let line = format!("provost {verb} w1 --grace 5s --reason tired");
        assert_eq!(typed(&script, &line).0, Ok(Exit::Done));
        script.asked()
    };
    for verb in ["stop", "restart", "kill", "drain", "resume", "reset", "remove"] {
        let command = json!({"command": verb, "agent": "w1", "grace_ms": 5_000, "reason": "tired"});
        assert_eq!(line(verb), [("agent.command".to_owned(), command)]);
    }
}

#[test]
fn stopping_waits_for_the_grace_unless_a_timeout_was_given() {
    let wait = |line: &str| {
        let script = Script::of([one(agent("w1", AgentState::Stopped))]);
        typed(&script, line).0.unwrap();
        script.waits()
    };
    assert_eq!(wait("provost stop w1 --grace 60s"), [Duration::from_secs(80)]);
    assert_eq!(wait("provost stop w1 --grace 60s --timeout 3s"), [Duration::from_secs(3)]);
    assert_eq!(wait("provost reset w1"), [Duration::from_secs(10)]);
}

#[test]
fn a_connection_that_fails_ends_the_verb_at_once() {
    let away = Failure::new(Fault::DaemonUnreachable, "no daemon answers", "start it");
    let script = Script::of([one(agent("w1", AgentState::Stopped))]).then_fail(away.clone());
    let (done, _) = typed(&script, "provost stop w1 w2 w3");
    assert_eq!(done, Err(away));
    assert_eq!(script.asked().len(), 2);
}

#[test]
fn spawn_sends_only_what_was_given() {
    let script = Script::of([one(agent("worker-1", AgentState::Running))]);
    typed(&script, "provost spawn worker").0.unwrap();
    let command = json!({"command": "spawn", "agent_type": "worker"});
    assert_eq!(script.asked(), [("agent.command".to_owned(), command)]);

    let script = Script::of([one(agent("w1", AgentState::Running))]);
    let line = "provost spawn worker --name w1 --env A=1 --env B= --label t=a -o name -- -x y";
    let (_, screen) = typed(&script, line);
    assert_eq!(screen.out(), "w1\n");
    let command = json!({
        "command": "spawn", "agent_type": "worker", "name": "w1", "args": ["-x", "y"],
        "env": {"A": "1", "B": ""}, "labels": {"t": "a"},
    });
    assert_eq!(script.asked(), [("agent.command".to_owned(), command)]);
}

#[test]
fn a_circuit_is_set_by_the_system_subject() {
    let script = Script::of([one(agent("w1", AgentState::Running))]);
    typed(&script, "provost circuit w1 auto").0.unwrap();
    let command = json!({"command": "circuit", "child": "w1", "set": "auto"});
    assert_eq!(script.asked(), [("system.control".to_owned(), command)]);
}

#[test]
fn the_daemon_as_a_whole_is_asked_by_the_system_subject() {
    for verb in ["pause", "resume", "drain", "reload", "shutdown"] {
        let script = Script::of([json!({"ok": true})]);
        let (done, screen) = typed(&script, &format!("provost system {verb}"));
        assert_eq!((done, screen.out()), (Ok(Exit::Done), "done\n".to_owned()));
        assert_eq!(script.asked(), [("system.control".to_owned(), json!({"command": verb}))]);
    }
}

pub(crate) fn system() -> Value {
    let status = SystemStatus {
        node: "node-1".parse().unwrap(),
        version: "0.1.0".to_owned(),
        pid: 42,
        since: noon() - jiff::SignedDuration::from_mins(3),
        mode: Default::default(),
        agents: [("backoff".to_owned(), 1), ("running".to_owned(), 3)].into(),
        agents_max: 10,
        nats: NatsStatus {
            state: "connected".to_owned(),
            url: "nats://127.0.0.1:4222".to_owned(),
            server_version: Some("2.15.1".to_owned()),
            embedded: true,
            durability: "default".to_owned(),
            error: None,
        },
        outbox: Default::default(),
        tasks: crate::protocol::command::TasksStatus::default(),
        http: Some("127.0.0.1:8080".to_owned()),
        flags: [("supervision".to_owned(), true), ("coordination".to_owned(), false)].into(),
        state_dir: "/var/lib/provost".to_owned(),
        subject_prefix: "acme".to_owned(),
        downstreams: Default::default(),
        config: None,
    };
    json!({"ok": true, "system": status})
}

#[test]
fn the_status_of_the_daemon_is_one_block() {
    insta::assert_snapshot!("status_system", shown(system(), "provost status"));
    let text = shown(system(), "provost status -o json");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["system"]["http"], "127.0.0.1:8080");
    assert_eq!(shown(system(), "provost status -o name"), "node-1\n");
}

#[test]
fn an_answer_without_what_was_asked_for_is_told() {
    for line in ["provost status", "provost tree", "provost logs w1"] {
        let script = Script::of([json!({"ok": true})]);
        let (done, _) = typed(&script, line);
        assert!(done.unwrap_err().is(Fault::BadAnswer), "{line}");
    }
}

fn tree() -> Value {
    let node = |name: &str, state: &str, more: Value| {
        let mut node = json!({
            "name": name, "kind": "worker", "state": state, "generation": 1, "pid": null,
            "restarts": 0, "circuit": {"state": "closed", "retry_after_ms": null}, "reason": "",
        });
        let fields = node.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        node
    };
    let worker = node("w1", "running", json!({"pid": 7, "restarts": 2, "agent_id": "id-w1"}));
    let open =
        json!({"circuit": {"state": "open", "retry_after_ms": 5_000}, "reason": "it\nfails"});
    let agents = node(
        "agents",
        "running",
        json!({"kind": "supervisor", "strategy": "one_for_one",
            "children": [worker, node("w2", "quarantined", open)]}),
    );
    let root = node(
        "root",
        "running",
        json!({"kind": "supervisor", "strategy": "rest_for_one",
            "limit": {"intensity": 3, "period_ms": 5_000},
            "children": [node("outbox", "running", json!({})), agents]}),
    );
    json!({"ok": true, "tree": root})
}

#[test]
fn the_tree_is_drawn_with_what_matters_of_each_child() {
    insta::assert_snapshot!("tree", shown(tree(), "provost tree"));
    assert_eq!(shown(tree(), "provost tree -o name"), "root\noutbox\nagents\nw1\nw2\n");
    let lines = shown(tree(), "provost tree -o jsonl");
    assert!(lines.lines().all(|line| !line.contains("children")), "{lines}");
    let document: Value = serde_json::from_str(&shown(tree(), "provost tree -o json")).unwrap();
    assert_eq!(document["tree"]["children"][1]["children"][0]["name"], "w1");
}

#[test]
fn a_refusal_of_the_tree_or_of_a_control_is_a_failure() {
    for line in ["provost tree", "provost status", "provost system reload"] {
        let script = Script::of([refusal("PV0107", "wrong_state", "not now")]);
        assert_eq!(typed(&script, line).0.unwrap_err().exit, Exit::Refused, "{line}");
    }
}

fn alerts() -> Value {
    json!({"ok": true, "alerts": {
        "firing": [{
            "alert": "crash_loop", "state": "firing", "fingerprint": "9ae2f4d5a0b1c3e7",
            "severity": "high", "scope": "w1", "summary": "w1 fails again and again",
            "since": "2026-11-21T11:58:00Z", "count": 1, "evidence": {"failures": 5},
        }],
        "silences": [{
            "id": "5f0c", "match": {"scope": "w2"}, "until": "2026-11-21T13:00:00Z",
            "reason": "deploy",
        }],
    }})
}

#[test]
fn alerts_are_listed_with_silences_and_one_that_fires_is_a_bad_answer() {
    let script = Script::of([alerts()]);
    let (done, screen) = typed(&script, "provost alert list");
    assert_eq!(done, Ok(Exit::Bad));
    let text = screen.out();
    assert!(text.starts_with("FINGERPRINT"), "{text}");
    assert!(text.contains("9ae2f4d5a0b1c3e7  high"), "{text}");
    assert!(text.ends_with("silence 5f0c of scope w2 for 1h: deploy\n"), "{text}");
    let script = Script::of([json!({"ok": true, "alerts": {"firing": [], "silences": []}})]);
    let (done, screen) = typed(&script, "provost alert list");
    assert_eq!((done, screen.out().as_str()), (Ok(Exit::Done), "no alert fires\n"));
}

#[test]
fn a_silence_asks_for_what_was_typed_and_an_unknown_one_is_no_such_id() {
    let script = Script::of([alerts()]);
    let (done, _) = typed(&script, "provost alert silence --scope w1 --for 30m --reason x");
    assert_eq!(done, Ok(Exit::Done));
    let (_, asked) = script.asked().pop().unwrap();
    let expected = json!({
        "command": "silence", "match": {"scope": "w1"}, "for_ms": 1_800_000, "reason": "x"
    });
    assert_eq!(asked, expected);
    let script = Script::of([refusal("PV0101", "invalid_request", "there is no silence x")]);
    let (done, _) = typed(&script, "provost alert unsilence x");
    assert_eq!(done.unwrap_err().exit, Exit::NoSuchId);
}
