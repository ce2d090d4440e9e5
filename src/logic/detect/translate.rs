//! From the facts of events to what the detectors see.

use crate::logic::detect::Seen;
use crate::protocol::fact::Fact;
use crate::protocol::id::{ChildName, EventId};

/// What an event says about a child; `None` when it says nothing that matters here.
///
/// What happens to tasks is told by the coordinator itself: its events lack what peers are compared
/// by.
#[must_use]
pub fn seen_in(fact: &Fact, event: Option<EventId>) -> Option<(ChildName, Seen)> {
    match fact {
        Fact::Failure(failed) => {
            Some((failed.name.clone(), Seen::Failed(failed.failure_type, event)))
        }
        Fact::Recovery(recovered) => Some((recovered.name.clone(), Seen::Recovered)),
        Fact::AgentSpawned(spawned) => {
            let change = &spawned.change;
            Some((change.name.clone(), Seen::Is(change.new_state)))
        }
        Fact::AgentStateChanged(change) | Fact::AgentTerminated(change) => {
            Some((change.name.clone(), Seen::Is(change.new_state)))
        }
        Fact::Health(_)
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
        | Fact::Pattern(_)
        | Fact::Alert(_)
        | Fact::AgentError(_)
        | Fact::TaskResult(_)
        | Fact::DeadLetter(_)
        | Fact::TaskAssigned(_)
        | Fact::TaskRequeued(_)
        | Fact::LateResult(_)
        | Fact::AgentSick(_) => None,
    }
}
