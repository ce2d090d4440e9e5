//! Calls of downstreams: what is asked, what is answered, how one is doing.

use std::collections::BTreeMap;

use provost::protocol::downstream::{
    CallAnswer, CallCounts, CallDone, CallError, CallErrorKind, CallOp, CallRequest, CallSource,
    DownstreamStatus, ServiceHealth, ServiceVerdict,
};
use provost::protocol::status::{AgentState, CircuitState, CircuitStatus};
use serde_json::{Value, json};

use crate::wire::{check_file, goldens};

fn answers() -> [(&'static str, CallAnswer); 3] {
    let done = |source, age_ms, attempts| {
        let result = json!({"rate": 1.25});
        CallAnswer::from(Ok(CallDone { result, source, age_ms, attempts }))
    };
    let open = CallError {
        retry_after_ms: Some(4_200),
        ..CallError::new(CallErrorKind::CircuitOpen, "the circuit of backend is open")
    };
    [
        ("answer.live", done(CallSource::Live, 0, 1)),
        ("answer.cache", done(CallSource::Cache, 1_500, 0)),
        ("answer.circuit_open", CallAnswer::from(Err(open))),
    ]
}

fn status() -> DownstreamStatus {
    let name = "backend".parse().unwrap();
    let open = CircuitStatus { state: CircuitState::Open, retry_after_ms: Some(4_200) };
    let health = ServiceHealth {
        name: "backend".parse().unwrap(),
        status: ServiceVerdict::Down,
        latency_ms: Some(1.5),
        last_check: "2026-11-20T19:16:18.735Z".parse().unwrap(),
        details: Some("connection refused".to_owned()),
    };
    DownstreamStatus {
        name,
        kind: "http".to_owned(),
        state: AgentState::Quarantined,
        circuit: open,
        counts: CallCounts {
            calls: 9,
            succeeded: 3,
            failed: 5,
            refused: 1,
            retries: 2,
            fallbacks: 0,
        },
        in_flight: 2,
        health: Some(health),
    }
}

fn call() -> CallRequest {
    CallRequest {
        method: Some("POST".to_owned()),
        path: Some("/pay".to_owned()),
        topic: Some("orders".to_owned()),
        params: json!({"amount": 5}),
        headers: BTreeMap::from([("x-trace".to_owned(), "1".to_owned())]),
        deadline_ms: Some(5_000),
        idempotency_key: Some("k-1".to_owned()),
        ..CallRequest::new(CallOp::Request)
    }
}

#[test]
fn calls_answers_and_statuses_are_as_they_were_agreed() {
    check_file("tests/golden/downstream/call.full.json", &call());
    for (name, answer) in answers() {
        check_file(&format!("tests/golden/downstream/{name}.json"), &answer);
        let back: CallAnswer =
            serde_json::from_value(serde_json::to_value(&answer).unwrap()).unwrap();
        assert_eq!(back, answer, "{name}");
    }
    check_file("tests/golden/downstream/status.json", &status());
}

#[test]
fn a_call_needs_nothing_but_its_operation_and_takes_nothing_unknown() {
    for op in CallOp::ALL {
        let read: CallRequest = serde_json::from_value(json!({"op": op.as_str()})).unwrap();
        assert_eq!(read, CallRequest::new(op));
    }
    let nulls = json!({"op": "request", "method": null, "idempotency_key": null, "params": null});
    let read: CallRequest = serde_json::from_value(nulls).unwrap();
    assert_eq!(read, CallRequest::new(CallOp::Request));
    let unknown = json!({"op": "request", "more": 1});
    assert!(serde_json::from_value::<CallRequest>(unknown).is_err());
}

#[test]
fn the_words_of_sources_and_errors_are_those_of_the_wire() {
    use CallErrorKind::{
        BulkheadFull, CircuitOpen, InvalidRequest, RateLimited, RemoteError, Timeout, Unavailable,
        Unsupported,
    };
    for source in [CallSource::Live, CallSource::Fallback, CallSource::Cache] {
        assert_eq!(serde_json::to_value(source).unwrap(), source.as_str());
    }
    for (name, document) in goldens("downstream") {
        let kind = document.pointer("/error/kind").and_then(Value::as_str);
        assert_eq!(kind.is_some(), document["ok"] == json!(false), "{name}");
    }
    for kind in [
        CircuitOpen,
        BulkheadFull,
        RateLimited,
        InvalidRequest,
        Unsupported,
        Timeout,
        RemoteError,
        Unavailable,
    ] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}
