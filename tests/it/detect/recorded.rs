//! The detectors over events that a real daemon stored, one file a recording (`recorded/`): eleven
//! agents, six of version 1, four of version 2, one that fails while a file is missing. What lies in
//! each was done by hand, and nothing but that must be found. Of each event only those are kept
//! that say something about a child.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::logic::detect::{DetectSettings, Detectors, Who, WhoKind, seen_in};
use provost::protocol::event::Envelope;
use provost::protocol::fact::Fact;
use provost::protocol::id::ChildName;
use provost::protocol::insight::PatternState;

use crate::tidy::root;

/// Patterns that began in a recording.
fn found(recording: &str) -> Vec<(&'static str, String)> {
    let path = root().join("tests/it/detect/recorded").join(recording);
    let text = std::fs::read_to_string(path).unwrap();
    let events: Vec<Envelope> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let start = Instant::now();
    let first = events[0].time;
    let mut labels: BTreeMap<ChildName, Vec<String>> = BTreeMap::new();
    let mut detectors = Detectors::new(DetectSettings::default());
    let mut out = Vec::new();
    let mut last = start;
    for event in &events {
        let fact = Fact::read(&event.event_type, &event.data).unwrap().unwrap();
        if let Fact::AgentSpawned(spawned) = &fact {
            let given = spawned.config["labels"].as_object().unwrap();
            let given =
                given.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap()));
            labels.insert(spawned.change.name.clone(), given.collect());
        }
        let Some((name, seen)) = seen_in(&fact, Some(event.id)) else { continue };
        let tags = labels.get(&name).cloned().unwrap_or_default().into_iter();
        let who = Who {
            kind: WhoKind::Worker,
            tags: tags.chain(["node=n1".to_owned()]).map(Arc::from).collect(),
            leans_on: [].into(),
            name,
        };
        last = start + event.time.duration_since(first).unsigned_abs();
        out.extend(detectors.see(last, &who, seen));
    }
    out.extend(detectors.on_deadline(last + Duration::from_secs(5)));
    let began = out.into_iter().filter(|one| one.seen.state == PatternState::Began);
    began.map(|one| (one.seen.kind.as_str(), one.seen.scope)).collect()
}

#[test]
fn kills_restarts_and_stops_one_at_a_time_are_no_pattern() {
    assert_eq!(found("quiet.jsonl"), []);
}

#[test]
fn an_agent_that_fails_until_somebody_mends_it_is_a_crash_loop_and_nothing_else() {
    assert_eq!(found("crash_loop.jsonl"), [("crash_loop", "b1".to_owned())]);
}

#[test]
fn agents_of_one_version_that_fail_together_are_told_by_their_version() {
    assert_eq!(found("correlated.jsonl"), [("correlated_failure", "version=2".to_owned())]);
}

#[test]
fn agents_that_all_fail_together_are_told_by_their_node() {
    assert_eq!(found("node.jsonl"), [("correlated_failure", "node=n1".to_owned())]);
}
