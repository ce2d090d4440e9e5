//! What explanations say: one child from failure to quarantine, and every reason in words.

use serde_json::json;

use crate::logic::explain::{Evidence, because, explain, span};
use crate::logic::history::{Heard, History};
use crate::protocol::decision::{DecisionRecord, Inputs, Reason};
use crate::protocol::event::Envelope;
use crate::protocol::fact::Fact;

fn envelope(number: u8, second: u8, kind: &str, data: serde_json::Value) -> (Envelope, Fact) {
    let envelope: Envelope = serde_json::from_value(json!({
        "specversion": "1.0", "id": format!("01900000-0000-7000-8000-0000000000{number:02}"),
        "source": "provost://node-1/agent/w1", "type": format!("provost.{kind}.v1"),
        "subject": "id-w1", "time": format!("2026-11-21T12:00:{second:02}Z"),
        "datacontenttype": "application/json", "severity": "high", "category": "supervision",
        "data": data,
    }))
    .unwrap();
    let fact = Fact::read(&envelope.event_type, &envelope.data).unwrap().unwrap();
    (envelope, fact)
}

fn record(reason: &str, next: &str, in_ms: u64) -> serde_json::Value {
    json!({
        "reason": reason, "cause": "01900000-0000-7000-8000-000000000001",
        "inputs": {"restarts_in_window": 3, "intensity": 2, "period_ms": 60_000, "exit": "exited with code 3"},
        "rule": {"strategy": "one_for_one", "restart": "permanent", "intensity": 2,
            "period_ms": 60_000, "on_exceeded": "quarantine", "open_for_ms": 30_000,
            "origin": "provost.toml:7"},
        "next": {"action": next, "in_ms": in_ms},
    })
}

fn shown(state: &str, next: &serde_json::Value) -> serde_json::Value {
    json!({
        "name": "w1", "kind": "worker", "parent": "agents", "place": 1,
        "agent": {"agent_id": "id-w1", "agent_type": "worker"}, "state": state, "generation": 3,
        "pid": null, "restarts": 2, "since": "2026-11-21T12:00:10Z", "reason": "exited with code 3",
        "circuit": {"state": "open", "retry_after_ms": 30_000}, "next": next,
    })
}

#[test]
fn a_child_in_quarantine_is_explained_by_its_failure_and_its_limit() {
    let failed = json!({
        "agent_id": "id-w1", "name": "w1", "failure_type": "process_crash",
        "exit": {"code": 3, "signal": null}, "context": {"from": "running", "to": "quarantined"},
        "detection_time": "2026-11-21T12:00:10Z", "restarts": 2,
        "decision": record("child_limit_exceeded", "trial", 30_000), "message": "exited with code 3",
    });
    let next = json!({"action": "trial", "in_ms": 30_000});
    let events = [
        envelope(1, 10, "supervision.failure", failed),
        envelope(2, 10, "supervision.child_changed", shown("quarantined", &next)),
    ];
    let mut history = History::default();
    for (envelope, fact) in &events {
        history.on_event(&Heard::of(envelope, fact));
    }
    let at = "2026-11-21T12:00:22Z".parse().unwrap();
    let child = history.find("w1").unwrap();
    let mut shown = child.shown.clone();
    (shown.circuit, shown.next) = (child.circuit(at), child.next(at));
    let told = explain(&Evidence {
        at,
        shown: &shown,
        notes: history.notes(&shown.name).unwrap(),
        calls: None,
        chain: Vec::new(),
        affected: Vec::new(),
        words: vec!["write: No space left on device".to_owned()],
    });
    assert_eq!(told.subject, "agent/w1");
    assert_eq!(
        told.why.text,
        "crash: exited with code 3, 12 s ago; 3 restarts within 60 s are too many, 2 are allowed, \
         so its circuit opened"
    );
    assert_eq!(told.rule.origin.as_deref(), Some("provost.toml:7"));
    assert_eq!(
        told.rule.text,
        "one_for_one, permanent, at most 2 restarts in 60 s, then quarantine, circuit open for 30 s"
    );
    assert!(told.next.text.starts_with("trial in 18 s"), "{}", told.next.text);
    assert_eq!(told.effect, ["no task is given to it"]);
    let steps: Vec<&str> = told.steps.iter().map(|step| step.command.as_str()).collect();
    assert_eq!(steps, ["df -h", "provost logs w1 --previous", "provost reset w1"]);
}

/// All reasons, by their words on the wire: the schema lists what the type has.
fn reasons() -> Vec<Reason> {
    let schema = schemars::schema_for!(Reason).to_value();
    let words = schema["oneOf"].as_array().unwrap().iter();
    words.map(|word| serde_json::from_value(word["const"].clone()).unwrap()).collect()
}

#[test]
fn every_reason_has_a_sentence_of_its_own_kind() {
    assert!(40 < reasons().len());
    for reason in reasons() {
        let text = because(reason, &Inputs::default());
        assert!(10 < text.len() && !text.ends_with('.'), "{reason:?}: {text}");
        assert_ne!(text, "it was decided by the rules of supervision", "{reason:?}");
    }
    let record: DecisionRecord =
        serde_json::from_value(record("child_exited", "restart", 100)).unwrap();
    assert_eq!(
        because(record.reason, &record.inputs),
        "it should run, so it is started again: 3 restarts within 60 s, 2 allowed"
    );
}

#[test]
fn lengths_of_time_are_short_and_exact_enough() {
    let shown = [0, 450, 1_000, 3_210, 60_000, 90_000, 300_000, 3_600_000, 172_800_000].map(span);
    assert_eq!(shown, ["0 ms", "450 ms", "1 s", "3.2 s", "60 s", "90 s", "5 min", "60 min", "2 d"]);
}
