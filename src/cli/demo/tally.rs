//! What happened, in numbers, counted from events.

use std::collections::BTreeSet;
use std::fmt;

use crate::protocol::event::Envelope;
use crate::protocol::fact::Fact;
use crate::protocol::id::{Generation, SubjectId};
use crate::protocol::status::CircuitState;

/// The numbers of one demonstration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    agents: BTreeSet<SubjectId>,
    restarts: BTreeSet<(SubjectId, Generation)>,
    recoveries: u64,
    circuits_opened: u64,
    /// Documents in the stream.
    pub events_stored: u64,
}

impl Tally {
    /// Counts one event. A run is a restart when it is not the agent's first; each run counts once,
    /// however many events tell of it.
    pub fn note(&mut self, event: &Envelope) {
        let Ok(Some(fact)) = Fact::read(&event.event_type, &event.data) else { return };
        match fact {
            Fact::Recovery(_) => self.recoveries = self.recoveries.saturating_add(1),
            Fact::Circuit(change) if change.to == CircuitState::Open => {
                self.circuits_opened = self.circuits_opened.saturating_add(1);
            }
            Fact::AgentSpawned(spawned) => self.note_run(event, spawned.change.generation),
            Fact::AgentStateChanged(change) | Fact::AgentTerminated(change) => {
                self.note_run(event, change.generation);
            }
            Fact::Health(_)
            | Fact::Failure(_)
            | Fact::Circuit(_)
            | Fact::Decision(_)
            | Fact::Escalation(_)
            | Fact::SupervisorStarted(_)
            | Fact::SupervisorStopped(_)
            | Fact::Gap(_)
            | Fact::System(_)
            | Fact::ChildChanged(_)
            | Fact::ChildRemoved(_)
            | Fact::Snapshot(_)
            | Fact::AgentError(_)
            | Fact::TaskResult(_)
            | Fact::DeadLetter(_)
            | Fact::TaskAssigned(_)
            | Fact::TaskRequeued(_)
            | Fact::LateResult(_)
            | Fact::AgentSick(_) => {}
        }
    }

    fn note_run(&mut self, event: &Envelope, generation: Generation) {
        self.agents.insert(event.subject.clone());
        if Generation(1) < generation {
            self.restarts.insert((event.subject.clone(), generation));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "demo: agents={} restarts={} recoveries={} circuits_opened={} events_stored={}",
            self.agents.len(),
            self.restarts.len(),
            self.recoveries,
            self.circuits_opened,
            self.events_stored
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(event_type: &str, subject: &str, data: serde_json::Value) -> Envelope {
        serde_json::from_value(json!({
            "specversion": "1.0", "id": "0192f3c1-0000-7000-8000-000000000001",
            "source": "provost://node-1/agent/a", "type": event_type, "subject": subject,
            "time": "2026-11-20T19:16:18.735Z", "datacontenttype": "application/json",
            "severity": "info", "category": "agent", "data": data,
        }))
        .unwrap()
    }

    fn changed(subject: &str, state: &str, generation: u64) -> Envelope {
        let data = json!({
            "name": subject, "agent_type": "t", "old_state": null, "new_state": state,
            "reason": "", "pid": null, "generation": generation,
        });
        event("provost.agent.state_changed.v1", subject, data)
    }

    #[test]
    fn each_later_run_of_an_agent_is_one_restart() {
        let mut tally = Tally::default();
        let states = ["starting", "running", "backoff"];
        for (subject, runs) in [("a", 3), ("b", 1), ("c", 2)] {
            for generation in 1..=runs {
                states.iter().for_each(|state| tally.note(&changed(subject, state, generation)));
            }
        }
        tally.events_stored = 18;
        assert_eq!(
            tally.to_string(),
            "demo: agents=3 restarts=3 recoveries=0 circuits_opened=0 events_stored=18"
        );
    }

    #[test]
    fn recoveries_and_openings_are_counted_and_other_things_are_not() {
        let mut tally = Tally::default();
        let recovery = json!({ "name": "a", "after_ms": 1, "attempts": 1, "how": "restart" });
        let circuit = |to: &str| {
            let data = json!({
                "name": "a", "from": "closed", "to": to, "reason": "trial_failed",
                "evidence": {}, "retry_after_ms": null,
            });
            event("provost.supervision.circuit.v1", "a", data)
        };
        tally.note(&event("provost.supervision.recovery.v1", "a", recovery));
        tally.note(&circuit("open"));
        tally.note(&circuit("half_open"));
        tally.note(&circuit("closed"));
        tally.note(&event("provost.later.v9", "a", json!({})));
        tally.note(&event("provost.supervision.recovery.v1", "a", json!({ "wrong": 1 })));
        assert_eq!(
            tally.to_string(),
            "demo: agents=0 restarts=0 recoveries=1 circuits_opened=1 events_stored=0"
        );
    }
}
