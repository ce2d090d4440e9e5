//! Metrics of children, made from the facts that are told of them.

#![expect(clippy::disallowed_macros, reason = "src/metrics owns names and labels")]

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use ::metrics::{gauge, histogram};

use crate::metrics::labels::CHILDREN;
use crate::metrics::lossy;
use crate::protocol::fact::{AgentChanged, CircuitChanged, Fact, FailureType, RecoveryHow};
use crate::protocol::id::Generation;
use crate::protocol::status::{AgentState, CircuitState};

pub(super) const AGENT_UP: &str = "provost_agent_up";
pub(super) const AGENT_RESTARTS: &str = "provost_agent_restarts_total";
pub(super) const AGENT_CPU: &str = "provost_agent_cpu_cores";
pub(super) const AGENT_MEMORY: &str = "provost_agent_resident_memory_bytes";
pub(super) const AGENT_FILES: &str = "provost_agent_open_files";
pub(super) const FAILURES: &str = "provost_failures_total";
pub(super) const RECOVERIES: &str = "provost_recoveries_total";
pub(super) const RECOVERY_SECONDS: &str = "provost_recovery_seconds";
pub(super) const BREAKER_STATE: &str = "provost_breaker_state";
pub(super) const BREAKER_TRANSITIONS: &str = "provost_breaker_transitions_total";

pub(super) fn describe() {
    describe_gauge!(AGENT_UP, Unit::Count, "1 while an agent runs, 0 while it does not.");
    describe_counter!(AGENT_RESTARTS, Unit::Count, "Runs of an agent after its first.");
    describe_gauge!(AGENT_CPU, Unit::Count, "Cores that an agent uses, averaged.");
    describe_gauge!(AGENT_MEMORY, Unit::Bytes, "Memory of an agent with all its processes.");
    describe_gauge!(AGENT_FILES, Unit::Count, "Files that an agent has open.");
    describe_counter!(FAILURES, Unit::Count, "Failures of children, by kind.");
    describe_counter!(RECOVERIES, Unit::Count, "Outages that are over, by what ended them.");
    describe_histogram!(RECOVERY_SECONDS, Unit::Seconds, "Length of outages that are over.");
    describe_gauge!(
        BREAKER_STATE,
        Unit::Count,
        "Circuit of a child or downstream: 0 closed, 1 half open, 2 open."
    );
    describe_counter!(BREAKER_TRANSITIONS, Unit::Count, "Changes of circuits, by the state after.");
}

/// Counts what an event tells; `child` is who raised it.
pub fn told(fact: &Fact, child: &str) {
    match fact {
        Fact::Health(report) => {
            let metrics = report.metrics;
            let label = || CHILDREN.label(child);
            if let Some(cores) = metrics.cpu_usage {
                gauge!(AGENT_CPU, "agent" => label()).set(cores);
            }
            if let Some(megabytes) = metrics.memory_mb {
                gauge!(AGENT_MEMORY, "agent" => label()).set(megabytes * 1024.0 * 1024.0);
            }
            if let Some(files) = metrics.open_files {
                gauge!(AGENT_FILES, "agent" => label()).set(lossy(files));
            }
        }
        Fact::Failure(failed) => {
            counter!(FAILURES, "kind" => word(failed.failure_type)).increment(1);
        }
        Fact::Recovery(recovered) => {
            let how = match recovered.how {
                RecoveryHow::Restart => "restart",
                RecoveryHow::Probe => "probe",
                RecoveryHow::Reconnect => "reconnect",
                RecoveryHow::Manual => "manual",
            };
            counter!(RECOVERIES, "how" => how).increment(1);
            histogram!(RECOVERY_SECONDS).record(lossy(recovered.after_ms) / 1_000.0);
        }
        Fact::Circuit(changed) => circuit(changed),
        Fact::AgentStateChanged(change) | Fact::AgentTerminated(change) => agent(change),
        Fact::Decision(_)
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
        | Fact::AgentSpawned(_)
        | Fact::AgentError(_)
        | Fact::TaskResult(_)
        | Fact::DeadLetter(_)
        | Fact::TaskAssigned(_)
        | Fact::TaskRequeued(_)
        | Fact::LateResult(_)
        | Fact::AgentSick(_) => {}
    }
}

fn agent(change: &AgentChanged) {
    let label = CHILDREN.label(change.name.as_str());
    let up = match change.new_state {
        AgentState::Running | AgentState::Degraded | AgentState::Probation => 1.0,
        AgentState::Created
        | AgentState::Starting
        | AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => 0.0,
    };
    gauge!(AGENT_UP, "agent" => label.clone()).set(up);
    if change.new_state == AgentState::Starting && Generation(1) < change.generation {
        counter!(AGENT_RESTARTS, "agent" => label).increment(1);
    }
}

fn circuit(changed: &CircuitChanged) {
    let target = CHILDREN.label(changed.name.as_str());
    let (state, word) = match changed.to {
        CircuitState::Closed => (0.0, "closed"),
        CircuitState::ForcedClosed => (0.0, "forced_closed"),
        CircuitState::HalfOpen => (1.0, "half_open"),
        CircuitState::Open => (2.0, "open"),
        CircuitState::ForcedOpen => (2.0, "forced_open"),
    };
    gauge!(BREAKER_STATE, "target" => target.clone()).set(state);
    counter!(BREAKER_TRANSITIONS, "target" => target, "to" => word).increment(1);
}

fn word(kind: FailureType) -> &'static str {
    match kind {
        FailureType::ProcessCrash => "process_crash",
        FailureType::OutOfMemory => "out_of_memory",
        FailureType::StartFailed => "start_failed",
        FailureType::ProbeFailed => "probe_failed",
        FailureType::Watchdog => "watchdog",
        FailureType::Hang => "hang",
        FailureType::TaskTimeout => "task_timeout",
        FailureType::Lost => "lost",
        FailureType::CallFailed => "call_failed",
        FailureType::Panic => "panic",
        FailureType::Throttled => "throttled",
    }
}
