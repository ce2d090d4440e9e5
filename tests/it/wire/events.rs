//! Golden documents of every event, of the decision record and of the status.

use std::collections::BTreeSet;

use provost::protocol::decision::{DecisionRecord, Reason};
use provost::protocol::event::Envelope;
use provost::protocol::fact::{Fact, FailureType, RecoveryHow, Severity};
use provost::protocol::status::{AgentState, AgentStatus, CircuitState, HealthStatus};
use serde::Serialize;
use serde_json::{Value, json};

use crate::wire::samples::{
    agent_status, bare_envelope, decision, envelope, facts, other_statuses,
};
use crate::wire::{check_file, goldens};

#[test]
fn every_event_is_as_it_was_agreed() {
    for (name, fact) in facts() {
        check_file(&format!("tests/golden/events/{name}.json"), &envelope(&fact));
    }
}

#[test]
fn the_decision_record_and_the_status_are_as_they_were_agreed() {
    check_file("tests/golden/decision.json", &decision());
    check_file("tests/golden/status.json", &agent_status());
}

#[test]
fn an_event_is_read_back_by_its_type() {
    for (name, fact) in facts() {
        let text = serde_json::to_vec(&envelope(&fact)).unwrap();
        let read: Envelope = serde_json::from_slice(&text).unwrap();
        assert_eq!(read, envelope(&fact), "{name}");
        assert_eq!(Fact::read(&read.event_type, &read.data).unwrap(), Some(fact), "{name}");
    }
}

#[test]
fn the_type_carries_its_version_and_the_file_its_name() {
    for (name, document) in goldens("events") {
        let stem = name.trim_end_matches(".json").trim_end_matches(".downstream");
        assert_eq!(document["type"], json!(format!("provost.{stem}.v1")), "{name}");
    }
}

#[test]
fn the_envelope_has_the_attributes_of_the_wire_in_their_order() {
    let (_, fact) = facts().swap_remove(0);
    let names = |document: &Envelope| match serde_json::to_value(document).unwrap() {
        Value::Object(fields) => fields.keys().cloned().collect::<Vec<_>>(),
        other => vec![other.to_string()],
    };
    let required = "specversion id source type subject time datacontenttype severity category";
    let known = "coordinationtype userid sessionid requestid environment region correlationid \
                 causationid traceparent generation";
    let all = format!("{required} {known} data");
    assert_eq!(names(&envelope(&fact)), all.split_whitespace().collect::<Vec<_>>());
    // What is unknown is left out, never empty or null.
    let bare = format!("{required} data");
    assert_eq!(names(&bare_envelope(&fact)), bare.split_whitespace().collect::<Vec<_>>());
    // CloudEvents asks for lower-case letters and digits.
    assert!(
        all.split_whitespace().all(|name| name.chars().all(|found| found.is_ascii_lowercase()))
    );
}

#[test]
fn data_has_at_least_the_fields_of_the_wire() {
    let check = |name: &str, expected: &str| {
        let (_, fact) = facts().into_iter().find(|(found, _)| *found == name).unwrap();
        let data = serde_json::to_value(&fact).unwrap();
        let missing: Vec<&str> =
            expected.split_whitespace().filter(|field| data.get(field).is_none()).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    };
    let failure = "name failure_type exit context detection_time restarts decision";
    let change = "name agent_type old_state new_state reason pid generation";
    check("supervision.health", "status metrics");
    check("supervision.failure", &format!("agent_id {failure}"));
    check("supervision.failure.downstream", &format!("downstream {failure}"));
    check("supervision.recovery", "after_ms attempts how");
    check("supervision.circuit", "from to reason evidence retry_after_ms");
    check("supervision.decision", "reason inputs rule cause next");
    check("agent.spawned", &format!("{change} config"));
    check("agent.state_changed", change);
    check("agent.terminated", change);
    check("agent.error", &format!("{change} error"));
}

#[test]
fn what_cannot_be_known_is_null() {
    let of = |name: &str| {
        let (_, fact) = facts().into_iter().find(|(found, _)| *found == name).unwrap();
        serde_json::to_value(&fact).unwrap()
    };
    assert_eq!(of("supervision.failure")["exit"], json!({ "code": 1, "signal": null }));
    assert_eq!(of("supervision.failure.downstream")["exit"], Value::Null);
    let metrics = json!({
        "cpu_usage": 0.25, "memory_mb": 48.5, "response_time_ms": null, "error_rate": null,
        "throughput": null, "open_files": 12
    });
    assert_eq!(of("supervision.health")["metrics"], metrics);
    let running = serde_json::to_value(&other_statuses()[1]).unwrap();
    assert_eq!(running["next"], Value::Null);
    assert_eq!(running["circuit"], json!({ "state": "closed", "retry_after_ms": null }));
}

#[test]
fn the_status_has_the_fields_of_the_wire_in_their_order() {
    let Value::Object(fields) = serde_json::to_value(agent_status()).unwrap() else { return };
    let names = "agent_id name agent_type node state generation pid restarts since reason circuit \
                 health next labels";
    assert_eq!(fields.keys().collect::<Vec<_>>(), names.split_whitespace().collect::<Vec<_>>());
    let text = serde_json::to_string(&agent_status()).unwrap();
    assert_eq!(serde_json::from_str::<AgentStatus>(&text).unwrap(), agent_status());
}

#[test]
fn the_decision_record_answers_with_a_code_and_numbers() {
    let Value::Object(fields) = serde_json::to_value(decision()).unwrap() else { return };
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["reason", "inputs", "rule", "cause", "next"]);
    assert_eq!(fields["reason"], json!("child_exited"));
    assert_eq!(fields["next"], json!({ "action": "restart", "in_ms": 200 }));
    assert_eq!(fields["rule"]["origin"], json!("provost.toml:12"));
    let text = serde_json::to_string(&decision()).unwrap();
    assert_eq!(serde_json::from_str::<DecisionRecord>(&text).unwrap(), decision());
}

#[test]
fn unknown_fields_of_an_event_are_ignored() {
    for (name, mut document) in goldens("events") {
        document["partitionkey"] = json!("p-1");
        document["data"]["added_later"] = json!({ "deep": [1, 2] });
        let read: Envelope = serde_json::from_value(document).unwrap();
        let fact = Fact::read(&read.event_type, &read.data).unwrap();
        assert!(fact.is_some(), "{name}");
    }
}

#[test]
fn an_event_of_a_type_that_is_not_known_is_not_read() {
    let nothing = Fact::read("provost.supervision.failure.v2", &json!({})).unwrap();
    assert_eq!(nothing, None);
    Fact::read("provost.supervision.failure.v1", &json!({})).unwrap_err();
}

#[test]
fn every_word_is_written_as_on_the_wire() {
    fn check<T: Serialize>(values: impl IntoIterator<Item = T>, expected: &str) {
        let words = values.into_iter().map(|value| match serde_json::to_value(value).unwrap() {
            Value::String(word) => word,
            other => other.to_string(),
        });
        assert_eq!(words.collect::<Vec<_>>().join(" "), expected);
    }
    check(Severity::ALL, "info low medium high critical");
    check(
        AgentState::ALL,
        "created starting running degraded stopping backoff quarantined probation parked stopped \
         terminated",
    );
    check(
        [
            CircuitState::Closed,
            CircuitState::Open,
            CircuitState::HalfOpen,
            CircuitState::ForcedOpen,
            CircuitState::ForcedClosed,
        ],
        "closed open half_open forced_open forced_closed",
    );
    check(
        [
            FailureType::ProcessCrash,
            FailureType::OutOfMemory,
            FailureType::StartFailed,
            FailureType::ProbeFailed,
            FailureType::Watchdog,
            FailureType::Hang,
            FailureType::TaskTimeout,
            FailureType::Lost,
            FailureType::CallFailed,
            FailureType::Panic,
            FailureType::Throttled,
        ],
        "process_crash out_of_memory start_failed probe_failed watchdog hang task_timeout lost \
         call_failed panic throttled",
    );
    check(
        [
            HealthStatus::Healthy,
            HealthStatus::Degraded,
            HealthStatus::Unhealthy,
            HealthStatus::Unknown,
        ],
        "healthy degraded unhealthy unknown",
    );
    check(
        [RecoveryHow::Restart, RecoveryHow::Probe, RecoveryHow::Reconnect, RecoveryHow::Manual],
        "restart probe reconnect manual",
    );
    check(
        [Reason::ChildLimitExceeded, Reason::OpenTimeOver],
        "child_limit_exceeded open_time_over",
    );
    // The words in `Display`, which people and subjects see, are the same.
    let states: BTreeSet<String> = AgentState::ALL.iter().map(ToString::to_string).collect();
    assert!(AgentState::ALL.iter().all(|state| states.contains(state.as_str())));
}
