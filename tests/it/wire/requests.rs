//! Commands and answers: what is understood, what is refused, what comes back.

use provost::protocol::command::{
    AgentCommand, AgentRequest, Answer, CircuitSet, CommandError, ControlCommand, ErrorKind,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::wire::answer_samples::answers;
use crate::wire::{check_file, goldens};

/// Every request of `agent.command`, by the name of its golden file.
fn agent_commands() -> Vec<(&'static str, Value)> {
    let verb = |command: &str| json!({ "command": command, "agent": "w1", "grace_ms": 5000, "reason": "maintenance" });
    let spawn = json!({
        "command": "spawn", "agent_type": "worker", "name": "w1", "args": ["--fast"],
        "env": { "K": "V" }, "labels": { "team": "blue" }, "node": "node-1"
    });
    let logs = json!({ "command": "logs", "agent": "w1", "lines": 50, "after": 1024 });
    vec![
        ("spawn", spawn),
        ("stop", verb("stop")),
        ("restart", verb("restart")),
        ("kill", verb("kill")),
        ("drain", verb("drain")),
        ("resume", verb("resume")),
        ("reset", verb("reset")),
        ("remove", verb("remove")),
        ("status", verb("status")),
        ("logs", logs),
        ("list", json!({ "command": "list" })),
    ]
}

/// Every request of `system.control`.
fn control_commands() -> Vec<(&'static str, Value)> {
    let words = ["status", "tree", "pause", "resume", "drain", "reload", "shutdown"];
    let mut all: Vec<_> =
        words.into_iter().map(|word| (word, json!({ "command": word }))).collect();
    all.push(("circuit", json!({ "command": "circuit", "child": "w1", "set": "open" })));
    let route = json!({
        "command": "route", "required_capabilities": ["review"],
        "where": { "not": { "label": { "key": "zone", "value": "eu" } } },
        "strategy": "sticky", "participants": ["w1"], "sticky_key": "s1", "avoid": ["w2"]
    });
    all.push(("route", route));
    all.push(("alerts", json!({ "command": "alerts" })));
    let silence = json!({
        "command": "silence", "match": { "alert": "crash_loop", "scope": "w1" },
        "for_ms": 3_600_000, "reason": "deploy"
    });
    all.push(("silence", silence));
    all.push(("unsilence", json!({ "command": "unsilence", "id": "5f0c" })));
    let id = "9ae2f4d5a0b1c3e7";
    all.push(("resolve_alert", json!({ "command": "resolve_alert", "id": id })));
    all
}

#[test]
fn every_command_is_as_it_was_agreed() {
    for (name, document) in agent_commands() {
        let read: AgentCommand = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), document, "{name}");
        check_file(&format!("tests/golden/agent.command/{name}.json"), &read);
    }
    for (name, document) in control_commands() {
        let read: ControlCommand = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), document, "{name}");
        check_file(&format!("tests/golden/system.control/{name}.json"), &read);
    }
}

#[test]
fn every_answer_is_as_it_was_agreed_and_is_read_back() {
    for (name, answer) in answers() {
        check_file(&format!("tests/golden/answers/{name}.json"), &answer);
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer, "{name}");
    }
}

#[test]
fn a_refusal_is_an_error_with_code_kind_message_and_hint() {
    let answer = Answer::from(CommandError::new(ErrorKind::InvalidRequest, "m", "h"));
    let expected = json!({
        "ok": false,
        "error": { "code": "PV0101", "kind": "invalid_request", "message": "m", "hint": "h" }
    });
    assert_eq!(serde_json::to_value(answer).unwrap(), expected);
}

#[test]
fn every_kind_of_refusal_has_its_code() {
    let kinds = [
        (ErrorKind::InvalidRequest, "invalid_request PV0101"),
        (ErrorKind::UnknownAgentType, "unknown_agent_type PV0102"),
        (ErrorKind::UnknownAgent, "unknown_agent PV0103"),
        (ErrorKind::AlreadyExists, "already_exists PV0104"),
        (ErrorKind::PoolFull, "pool_full PV0105"),
        (ErrorKind::NotPermitted, "not_permitted PV0106"),
        (ErrorKind::WrongState, "wrong_state PV0107"),
        (ErrorKind::Unavailable, "unavailable PV0108"),
        (ErrorKind::Internal, "internal PV0109"),
    ];
    for (kind, expected) in kinds {
        let word = serde_json::to_value(kind).unwrap();
        assert_eq!(format!("{} {}", word.as_str().unwrap(), kind.code()), expected);
    }
}

fn check<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

#[test]
fn a_spawn_needs_only_its_type_and_null_is_as_good_as_nothing() {
    check::<AgentCommand>(r#"{"command":"spawn","agent_type":"worker"}"#).unwrap();
    let full = r#"{"command":"spawn","agent_type":"worker","name":"w1","args":["…"],
                   "env":{"K":"V"},"labels":{},"node":null}"#;
    check::<AgentCommand>(full).unwrap();
    check::<AgentCommand>(r#"{"agent_type":"worker","command":"spawn"}"#).unwrap();
}

#[test]
fn grace_and_reason_may_stand_in_every_command_about_an_agent() {
    for verb in "stop restart kill drain resume reset remove status logs".split(' ') {
        let full = format!(r#"{{"command":"{verb}","agent":"w1","grace_ms":5000,"reason":"x"}}"#);
        check::<AgentCommand>(&full).unwrap();
        check::<AgentCommand>(&format!(r#"{{"command":"{verb}","agent":"w1"}}"#)).unwrap();
        check::<AgentCommand>(&format!(r#"{{"command":"{verb}"}}"#)).unwrap_err();
    }
    let read: AgentCommand = check(r#"{"command":"stop","agent":"w1","grace_ms":5000}"#).unwrap();
    let request = AgentRequest { agent: "w1".to_owned(), grace_ms: Some(5000), reason: None };
    assert_eq!(read, AgentCommand::Stop(request));
}

#[test]
fn unknown_fields_of_a_command_are_refused() {
    for (name, mut document) in agent_commands() {
        document["unknown"] = json!(1);
        serde_json::from_value::<AgentCommand>(document).expect_err(name);
    }
    for (name, mut document) in control_commands() {
        document["unknown"] = json!(1);
        serde_json::from_value::<ControlCommand>(document).expect_err(name);
    }
}

#[test]
fn what_is_no_command_is_refused() {
    let texts = [
        "",
        "nonsense",
        "null",
        "[]",
        "{}",
        "\"list\"",
        r#"{"command":null}"#,
        r#"{"command":"dance"}"#,
        r#"{"command":"List"}"#,
        r#"{"command":"list"} {"command":"list"}"#,
        r#"{"command":"list","command":"list"}"#,
        r#"{"command":"stop","agent":7}"#,
        r#"{"command":"stop","agent":"w1","agent":"w2"}"#,
        r#"{"command":"stop","agent":"w1","grace_ms":-1}"#,
        r#"{"command":"stop","agent":"w1","grace_ms":1.5}"#,
        r#"{"command":"stop","agent":"w1","grace_ms":"5s"}"#,
        r#"{"command":"spawn"}"#,
        r#"{"command":"spawn","agent_type":"a.b"}"#,
        r#"{"command":"spawn","agent_type":"worker","name":"a b"}"#,
        r#"{"command":"spawn","agent_type":"worker","name":"events"}"#,
        r#"{"command":"spawn","agent_type":"worker","args":"--fast"}"#,
        r#"{"command":"spawn","agent_type":"worker","env":{"K":1}}"#,
    ];
    for text in texts {
        assert!(check::<AgentCommand>(text).is_err(), "{text}");
    }
    for text in [
        r#"{"command":"circuit","child":"w1"}"#,
        r#"{"command":"circuit","child":"w1","set":"ajar"}"#,
    ] {
        assert!(check::<ControlCommand>(text).is_err(), "{text}");
    }
}

#[test]
fn a_circuit_is_set_to_open_closed_or_auto() {
    for (word, set) in
        [("open", CircuitSet::Open), ("closed", CircuitSet::Closed), ("auto", CircuitSet::Auto)]
    {
        let text = format!(r#"{{"command":"circuit","child":"w1","set":"{word}"}}"#);
        let ControlCommand::Circuit(request) = check(&text).unwrap() else {
            assert_eq!(text, "a circuit command");
            return;
        };
        assert_eq!(request.set, set);
    }
}

#[test]
fn an_answer_of_a_later_version_is_still_read() {
    for (name, mut document) in goldens("answers") {
        document["added_later"] = json!(true);
        serde_json::from_value::<Answer>(document).expect(&name);
    }
}
