//! What the fold makes of events, beyond what the simulation shows: snapshots, gaps, countdowns.

use serde_json::json;

use crate::logic::history::{Heard, History};
use crate::protocol::fact::{Fact, Gap};
use crate::protocol::id::EventId;
use crate::protocol::shown::{ChildRemoved, ChildShown, Snapshot};
use crate::protocol::status::AgentState;

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn child(name: &str, state: &str) -> ChildShown {
    serde_json::from_value(json!({
        "name": name, "kind": "worker", "parent": "root", "place": 1, "state": state,
        "agent": {"agent_id": format!("id-{name}"), "agent_type": "worker"},
        "generation": 1, "pid": null, "restarts": 0, "since": at(0).to_string(), "reason": "",
        "circuit": {"state": "closed", "retry_after_ms": null},
        "next": {"action": "restart", "in_ms": 5_000},
    }))
    .unwrap()
}

fn root(state: &str) -> ChildShown {
    let mut root = child("root", state);
    (root.parent, root.agent, root.kind) =
        (None, None, crate::protocol::spec::ChildKind::Supervisor);
    root
}

fn changed(shown: ChildShown) -> Fact {
    Fact::ChildChanged(Box::new(shown))
}

fn history(facts: &[(i64, Fact)]) -> History {
    let mut history = History::default();
    for (number, (second, fact)) in (0_u128..).zip(facts) {
        history.on_event(&Heard {
            id: EventId::new(uuid::Uuid::from_u128(number)),
            time: at(*second),
            source: "provost://node-1/agent/w1",
            correlation: None,
            causation: None,
            fact,
        });
    }
    history
}

fn names(history: &History) -> Vec<String> {
    history.agents(at(99)).into_iter().map(|agent| agent.name.to_string()).collect()
}

#[test]
fn a_countdown_goes_on_from_when_it_was_told() {
    let history = history(&[(10, changed(child("w1", "backoff")))]);
    let left = |second| history.agents(at(second))[0].next.unwrap().in_ms;
    assert_eq!([left(10), left(12), left(20)], [5_000, 3_000, 0]);
    assert_eq!(history.agents(at(12))[0].node.as_str(), "node-1");
}

#[test]
fn nothing_is_whole_until_a_daemon_has_begun_or_a_snapshot_was_heard_to_its_end() {
    let part = |part, name: &str| {
        let children = vec![child(name, "running")];
        Fact::Snapshot(Box::new(Snapshot { part, parts: 2, children }))
    };
    let first = (0, changed(child("w1", "stopped")));
    let two = [first.clone(), (5, part(1, "w1"))];
    assert_eq!(history(&two).whole_since(), None);
    let three = history(&[first.clone(), (5, part(1, "w1")), (6, part(2, "w2"))]);
    assert_eq!(three.whole_since(), Some(at(6)));
    assert_eq!(names(&three), ["w1", "w2"]);
    // More is known of whom something was heard.
    assert_eq!(three.agents(at(7))[0].state, AgentState::Stopped);
    // What was told at the same moment may stand on either side of a snapshot.
    assert_eq!(history(&[(5, part(1, "w1")), (5, part(2, "w2"))]).whole_since(), None);
    let begun = history(&[(0, changed(child("old", "running"))), (1, changed(root("starting")))]);
    assert_eq!(begun.whole_since(), Some(at(1)));
    assert_eq!(names(&begun), [""; 0]);
}

#[test]
fn after_a_gap_everything_is_doubtful_until_it_is_told_again() {
    let gap = |dropped, dropped_health| {
        let since = at(0);
        Fact::Gap(Gap { dropped, dropped_health, since, bound_events: 1, bound_bytes: 1 })
    };
    let begin = [
        (0, changed(root("starting"))),
        (0, changed(child("w1", "running"))),
        (0, changed(child("w2", "running"))),
    ];
    let with = |more: &[(i64, Fact)]| history(&[&begin, more].concat());
    assert_eq!(with(&[(1, gap(3, 3))]).whole_since(), Some(at(0)));
    let lost = with(&[(1, gap(4, 3))]);
    assert_eq!((lost.whole_since(), lost.lost()), (None, 1));
    let children = vec![child("w1", "stopped")];
    let snapshot = Fact::Snapshot(Box::new(Snapshot { part: 1, parts: 1, children }));
    let healed = with(&[(1, gap(4, 3)), (5, snapshot)]);
    assert_eq!(healed.whole_since(), Some(at(5)));
    assert_eq!(names(&healed), ["w1"]);
    assert_eq!(healed.agents(at(5))[0].state, AgentState::Stopped);
}

#[test]
fn who_is_removed_is_not_shown_any_more() {
    let removed = ChildRemoved { name: "w1".parse().unwrap(), parent: None };
    let history =
        history(&[(0, changed(child("w1", "stopped"))), (1, Fact::ChildRemoved(removed))]);
    assert_eq!(names(&history), [""; 0]);
    assert!(history.find("w1").is_none() && history.find("id-w1").is_none());
}
