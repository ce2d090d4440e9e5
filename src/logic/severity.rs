//! How bad something is: a table, overridable by configuration.
//!
//! A requested stop is no failure and does not stand here.

use std::collections::BTreeMap;

use crate::protocol::exit::{ChildExit, ExitClass};
use crate::protocol::fact::{FailureType, Severity};
use crate::protocol::status::CircuitState;

/// What a severity is asked for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Topic {
    /// A failure of a child or downstream.
    Failure(FailureType),
    /// A circuit opened.
    CircuitOpened,
    /// A circuit changed otherwise: half-open, closed, held by hand.
    CircuitChanged,
    /// A supervisor exceeded its limit and left the matter to its parent.
    SupervisorGaveUp,
    /// A supervisor ended because its significant children had.
    SupervisorFinished,
    /// An outage is over.
    Recovery,
    /// Anything else that is told for the record.
    Record,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 17] = [
        Self::Failure(FailureType::ProcessCrash),
        Self::Failure(FailureType::OutOfMemory),
        Self::Failure(FailureType::StartFailed),
        Self::Failure(FailureType::ProbeFailed),
        Self::Failure(FailureType::Watchdog),
        Self::Failure(FailureType::Hang),
        Self::Failure(FailureType::TaskTimeout),
        Self::Failure(FailureType::Lost),
        Self::Failure(FailureType::CallFailed),
        Self::Failure(FailureType::Panic),
        Self::Failure(FailureType::Throttled),
        Self::CircuitOpened,
        Self::CircuitChanged,
        Self::SupervisorGaveUp,
        Self::SupervisorFinished,
        Self::Recovery,
        Self::Record,
    ];

    /// The word that names it in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure(FailureType::ProcessCrash) => "process_crash",
            Self::Failure(FailureType::OutOfMemory) => "out_of_memory",
            Self::Failure(FailureType::StartFailed) => "start_failed",
            Self::Failure(FailureType::ProbeFailed) => "probe_failed",
            Self::Failure(FailureType::Watchdog) => "watchdog",
            Self::Failure(FailureType::Hang) => "hang",
            Self::Failure(FailureType::TaskTimeout) => "task_timeout",
            Self::Failure(FailureType::Lost) => "lost",
            Self::Failure(FailureType::CallFailed) => "call_failed",
            Self::Failure(FailureType::Panic) => "panic",
            Self::Failure(FailureType::Throttled) => "throttled",
            Self::CircuitOpened => "circuit_opened",
            Self::CircuitChanged => "circuit_changed",
            Self::SupervisorGaveUp => "supervisor_gave_up",
            Self::SupervisorFinished => "supervisor_finished",
            Self::Recovery => "recovery",
            Self::Record => "record",
        }
    }

    /// The topic of a circuit's change.
    #[must_use]
    pub fn of_circuit(to: CircuitState) -> Self {
        match to {
            CircuitState::Open => Self::CircuitOpened,
            CircuitState::Closed
            | CircuitState::HalfOpen
            | CircuitState::ForcedOpen
            | CircuitState::ForcedClosed => Self::CircuitChanged,
        }
    }
}

/// Returns how bad something is.
#[must_use]
pub fn severity_of(topic: Topic, overrides: &BTreeMap<Topic, Severity>) -> Severity {
    overrides.get(&topic).copied().unwrap_or_else(|| default_of(topic))
}

fn default_of(topic: Topic) -> Severity {
    match topic {
        Topic::SupervisorGaveUp => Severity::Critical,
        Topic::Failure(
            FailureType::ProcessCrash
            | FailureType::OutOfMemory
            | FailureType::StartFailed
            | FailureType::Watchdog
            | FailureType::Hang
            | FailureType::Lost
            | FailureType::Panic,
        )
        | Topic::CircuitOpened => Severity::High,
        Topic::Failure(
            FailureType::ProbeFailed | FailureType::TaskTimeout | FailureType::CallFailed,
        ) => Severity::Medium,
        Topic::Failure(FailureType::Throttled) => Severity::Low,
        Topic::CircuitChanged | Topic::SupervisorFinished | Topic::Recovery | Topic::Record => {
            Severity::Info
        }
    }
}

/// Returns what kind of failure an exit is. Who knows more, such as a memory limit that was hit or
/// a probe that had the child killed, says so instead.
#[must_use]
pub fn failure_of(exit: &ChildExit) -> FailureType {
    match exit.bare() {
        ChildExit::Panicked { .. } => FailureType::Panic,
        ChildExit::OutOfMemory { .. } => FailureType::OutOfMemory,
        ChildExit::ProbeFailed { .. } => FailureType::ProbeFailed,
        ChildExit::Watchdog { .. } => FailureType::Watchdog,
        ChildExit::Hung { .. } => FailureType::Hang,
        ChildExit::RanTooLong { .. } => FailureType::TaskTimeout,
        ChildExit::Lost { .. } => FailureType::Lost,
        ChildExit::Throttled { .. } => FailureType::Throttled,
        ChildExit::Exited { .. }
        | ChildExit::Signaled { .. }
        | ChildExit::Finished
        | ChildExit::Stopped
        | ChildExit::Killed
        | ChildExit::Failed { .. }
        | ChildExit::GaveUp { .. }
        | ChildExit::Judged { .. } => match exit.judged().map(|judged| judged.class) {
            Some(ExitClass::Oom) => FailureType::OutOfMemory,
            Some(ExitClass::Throttled) => FailureType::Throttled,
            Some(ExitClass::Watchdog) => FailureType::Watchdog,
            Some(
                ExitClass::Ok
                | ExitClass::Crash
                | ExitClass::ConfigFault
                | ExitClass::Stopped
                | ExitClass::Unknown,
            )
            | None => FailureType::ProcessCrash,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_this() {
        let table: Vec<String> = Topic::ALL
            .into_iter()
            .map(|topic| {
                let severity = severity_of(topic, &BTreeMap::new());
                format!("{} {}", topic.as_str(), severity.as_str())
            })
            .collect();
        let expected = [
            "process_crash high",
            "out_of_memory high",
            "start_failed high",
            "probe_failed medium",
            "watchdog high",
            "hang high",
            "task_timeout medium",
            "lost high",
            "call_failed medium",
            "panic high",
            "throttled low",
            "circuit_opened high",
            "circuit_changed info",
            "supervisor_gave_up critical",
            "supervisor_finished info",
            "recovery info",
            "record info",
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn configuration_goes_before_the_table() {
        let topic = Topic::Failure(FailureType::ProcessCrash);
        let overrides = BTreeMap::from([(topic, Severity::Low)]);
        assert_eq!(severity_of(topic, &overrides), Severity::Low);
        assert_eq!(severity_of(Topic::CircuitOpened, &overrides), Severity::High);
    }

    #[test]
    fn a_failure_type_is_its_word_on_the_wire() {
        for topic in Topic::ALL {
            if let Topic::Failure(failure) = topic {
                let wire = serde_json::to_value(failure).unwrap();
                assert_eq!(wire, topic.as_str());
            }
        }
    }

    #[test]
    fn an_exit_tells_its_failure_type() {
        let panicked = ChildExit::Panicked { message: String::new() };
        assert_eq!(failure_of(&panicked), FailureType::Panic);
        assert_eq!(failure_of(&ChildExit::Throttled { after_ms: 1 }), FailureType::Throttled);
        assert_eq!(failure_of(&ChildExit::Signaled { signal: 9 }), FailureType::ProcessCrash);
    }
}
