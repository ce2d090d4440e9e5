//! The JSON Schemas in `schema/`: generated from the types, never out of date, and true of every
//! golden document.

use std::collections::{BTreeMap, BTreeSet};

use provost::protocol::command::{AgentCommand, Answer, ControlCommand};
use provost::protocol::decision::DecisionRecord;
use provost::protocol::downstream::{CallAnswer, CallRequest, DownstreamStatus};
use provost::protocol::event::Envelope;
use provost::protocol::fact::{
    AgentChanged, AgentErred, AgentSpawned, CircuitChanged, Decided, Failed, Gap, HealthReported,
    Recovered, SupervisorReported, SystemReported,
};
use provost::protocol::resource::{ResourceAnswer, ResourceRequest};
use provost::protocol::shown::{ChildRemoved, ChildShown, Snapshot};
use provost::protocol::status::AgentStatus;
use provost::protocol::task::{TaskRecord, TaskRequest};
use provost::protocol::task_fact::{DeadLettered, TaskNoted, TaskResulted};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::tidy::{files_under, root};
use crate::wire::validate::faults;
use crate::wire::{check_file, goldens};

/// Schema of what we write: fields that are always written are required.
fn written<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Schema of what we read: fields with a default may be left out.
fn read<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Schema of one event: the envelope with its `type` and `data`.
fn event<T: JsonSchema>(name: &str) -> Value {
    let mut whole = written::<Envelope>();
    let mut data = written::<T>();
    let description = data["description"].clone();
    let mut definitions = take_definitions(&mut whole);
    definitions.append(&mut take_definitions(&mut data));
    if let Value::Object(data) = &mut data {
        data.remove("$schema");
    }
    whole["title"] = json!(format!("provost.{name}.v1"));
    whole["description"] = description;
    whole["properties"]["type"] = json!({ "const": format!("provost.{name}.v1") });
    whole["properties"]["data"] = data;
    whole["$defs"] = Value::Object(definitions);
    whole
}

fn take_definitions(schema: &mut Value) -> Map<String, Value> {
    match schema.as_object_mut().and_then(|schema| schema.remove("$defs")) {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    }
}

/// Every schema, by its place under `schema/`.
fn schemas() -> BTreeMap<String, Value> {
    let events = [
        ("supervision.health", event::<HealthReported> as fn(&str) -> Value),
        ("supervision.failure", event::<Failed>),
        ("supervision.recovery", event::<Recovered>),
        ("supervision.circuit", event::<CircuitChanged>),
        ("supervision.decision", event::<Decided>),
        ("supervision.escalation", event::<SupervisorReported>),
        ("supervision.supervisor_started", event::<SupervisorReported>),
        ("supervision.supervisor_stopped", event::<SupervisorReported>),
        ("supervision.gap", event::<Gap>),
        ("supervision.system", event::<SystemReported>),
        ("supervision.child_changed", event::<ChildShown>),
        ("supervision.child_removed", event::<ChildRemoved>),
        ("supervision.snapshot", event::<Snapshot>),
        ("agent.spawned", event::<AgentSpawned>),
        ("agent.state_changed", event::<AgentChanged>),
        ("agent.terminated", event::<AgentChanged>),
        ("agent.error", event::<AgentErred>),
        ("coordination.result", event::<TaskResulted>),
        ("coordination.assigned", event::<TaskNoted>),
        ("coordination.requeued", event::<TaskNoted>),
        ("coordination.late_result", event::<TaskNoted>),
        ("coordination.agent_sick", event::<TaskNoted>),
        ("dead_letter", event::<DeadLettered>),
    ];
    let events = events.map(|(name, schema)| (format!("events/{name}.v1.json"), schema(name)));
    let others = [
        ("agent.command.json", read::<AgentCommand>()),
        ("system.control.json", read::<ControlCommand>()),
        ("answer.json", written::<Answer>()),
        ("status.json", written::<AgentStatus>()),
        ("decision.json", written::<DecisionRecord>()),
        ("event.json", written::<Envelope>()),
        ("task.json", read::<TaskRequest>()),
        ("task.record.json", written::<TaskRecord>()),
        ("downstream.call.json", read::<CallRequest>()),
        ("downstream.answer.json", written::<CallAnswer>()),
        ("downstream.status.json", written::<DownstreamStatus>()),
        ("resource.request.json", read::<ResourceRequest>()),
        ("resource.answer.json", written::<ResourceAnswer>()),
    ];
    let others = others.map(|(place, schema)| (place.to_owned(), schema));
    events.into_iter().chain(others).collect()
}

#[test]
fn the_schemas_in_the_repository_are_those_of_the_code() {
    let schemas = schemas();
    for (place, schema) in &schemas {
        check_file(&format!("schema/{place}"), schema);
    }
    let folder = root().join("schema");
    let kept = files_under(&folder, &["json"]).into_iter();
    let kept = kept.map(|path| path.strip_prefix(&folder).unwrap().display().to_string());
    let left: BTreeSet<String> = kept.filter(|place| !schemas.contains_key(place)).collect();
    // The schema of the configuration file is kept by its own test.
    let left: Vec<&String> = left.iter().filter(|place| *place != "provost.schema.json").collect();
    assert!(left.is_empty(), "schemas that nothing generates: {left:?}");
}

fn check(place: &str, document: &Value, name: &str) {
    let schemas = schemas();
    let found = faults(&schemas[place], document);
    assert!(found.is_empty(), "{name} against schema/{place}:\n{}", found.join("\n"));
}

#[test]
fn every_golden_document_fits_its_schema() {
    for (name, document) in goldens("events") {
        let place = document["type"].as_str().unwrap().trim_start_matches("provost.");
        check(&format!("events/{place}.json"), &document, &name);
        check("event.json", &document, &name);
    }
    for folder in ["agent.command", "system.control"] {
        for (name, document) in goldens(folder) {
            check(&format!("{folder}.json"), &document, &name);
        }
    }
    for (name, document) in goldens("answers") {
        check("answer.json", &document, &name);
    }
    for (name, document) in goldens("downstream") {
        let place = name.split('.').next().unwrap();
        check(&format!("downstream.{place}.json"), &document, &name);
    }
}

#[test]
fn a_schema_refuses_what_the_code_refuses() {
    let schemas = schemas();
    let refused = |place: &str, document: &Value| {
        assert!(!faults(&schemas[place], document).is_empty(), "{place} takes {document}");
    };
    for folder in ["agent.command", "system.control"] {
        for (_, document) in goldens(folder) {
            let mut more = document.clone();
            more["unknown"] = json!(1);
            refused(&format!("{folder}.json"), &more);
        }
    }
    refused("agent.command.json", &json!({ "command": "dance" }));
    refused("agent.command.json", &json!({ "command": "stop" }));
    refused("agent.command.json", &json!({ "command": "spawn", "agent_type": "a.b" }));
    refused("agent.command.json", &json!({ "command": "spawn", "agent_type": "events" }));
    let (_, mut event) = goldens("events").swap_remove(0);
    event["severity"] = json!("huge");
    refused("event.json", &event);
}
