//! The typed `data` of every event, and its type name.
//!
//! Past tense: a fact has happened. Fields may be added within a version; a change of meaning is
//! a new version in the type name. Unknown fields are ignored on reading, and so are events of
//! types that this version does not know ([`Fact::read`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::decision::{DecisionRecord, Inputs};
use crate::protocol::exit::ExitCodes;
use crate::protocol::id::{AgentId, AgentTypeName, ChildName, Generation};
use crate::protocol::shown::{ChildRemoved, ChildShown, Snapshot};
use crate::protocol::status::{AgentState, CircuitState, HealthStatus};
use crate::protocol::task_fact::{DeadLettered, TaskNoted, TaskResulted};

/// How bad something is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    #[default]
    Info,
    /// Worth a look some day.
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
    /// Wakes somebody.
    Critical,
}

impl Severity {
    /// All severities, mildest first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word that stands in subjects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What kind of thing an event is about.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Supervision as such.
    Supervision,
    /// One agent.
    Agent,
    /// Tasks and routing.
    Coordination,
    /// A downstream.
    Downstream,
    /// The daemon itself.
    System,
}

/// Measured values; null where a value cannot be known, never an invented 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct HealthMetrics {
    /// Cores in use, averaged over the interval.
    pub cpu_usage: Option<f64>,
    /// Resident memory in MiB.
    pub memory_mb: Option<f64>,
    /// Response time in milliseconds.
    pub response_time_ms: Option<f64>,
    /// Failed share of requests, 0 to 1.
    pub error_rate: Option<f64>,
    /// Requests per second.
    pub throughput: Option<f64>,
    /// Open files.
    pub open_files: Option<u64>,
}

/// `supervision.health`: the state of one child, at intervals.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct HealthReported {
    /// Verdict.
    pub status: HealthStatus,
    /// Measured values.
    pub metrics: HealthMetrics,
}

/// What kind of failure was seen. The severity follows from it.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureType {
    /// A process or in-process child ended abnormally.
    ProcessCrash,
    /// The memory limit was hit.
    OutOfMemory,
    /// A run could not begin.
    StartFailed,
    /// A probe failed as often as its threshold.
    ProbeFailed,
    /// The child stopped pinging.
    Watchdog,
    /// The child lives but does not work.
    Hang,
    /// A task took too long.
    TaskTimeout,
    /// Nobody knows where the child is.
    Lost,
    /// A call to a downstream failed.
    CallFailed,
    /// Our own code panicked.
    Panic,
    /// The child is rate limited.
    Throttled,
}

/// State before and after.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct StateChange {
    /// State before.
    pub from: AgentState,
    /// State after.
    pub to: AgentState,
}

/// `supervision.failure`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Failed {
    /// The agent, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The downstream, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream: Option<ChildName>,
    /// Name of the child.
    pub name: ChildName,
    /// What was seen.
    pub failure_type: FailureType,
    /// Exit status or signal; on the wire null where there was no exit that anybody knows.
    #[serde(with = "exit_or_null")]
    #[schemars(with = "Option<ExitCodes>")]
    pub exit: ExitCodes,
    /// State before and after.
    pub context: StateChange,
    /// When it was seen.
    pub detection_time: Timestamp,
    /// Restarts so far, this failure's not included.
    pub restarts: u64,
    /// What was decided.
    pub decision: DecisionRecord,
    /// The failure in words, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What ended an outage.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryHow {
    /// A restart.
    Restart,
    /// A probe succeeded again.
    Probe,
    /// A connection came back.
    Reconnect,
    /// Somebody acted.
    Manual,
}

/// `supervision.recovery`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Recovered {
    /// Name of the child.
    pub name: ChildName,
    /// Since the first failure of this outage, in milliseconds.
    pub after_ms: u64,
    /// Restarts or trials it took.
    pub attempts: u64,
    /// What did it.
    pub how: RecoveryHow,
}

/// `supervision.circuit`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CircuitChanged {
    /// Name of the child.
    pub name: ChildName,
    /// State before.
    pub from: CircuitState,
    /// State after.
    pub to: CircuitState,
    /// Code of the reason.
    pub reason: crate::protocol::decision::Reason,
    /// Counts, window, thresholds.
    pub evidence: Inputs,
    /// Time until the next trial; null when none is due.
    pub retry_after_ms: Option<u64>,
}

/// `supervision.decision`: one decision about one child.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Decided {
    /// Name of the child.
    pub name: ChildName,
    /// Supervisor that decided.
    pub supervisor: ChildName,
    /// The record.
    #[serde(flatten)]
    pub record: DecisionRecord,
}

/// `supervision.supervisor_started`, `.supervisor_stopped`, `.escalation`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SupervisorReported {
    /// Name of the supervisor.
    pub name: ChildName,
    /// Names of its children in start order.
    pub children: Vec<ChildName>,
    /// Why; null for an orderly start.
    pub record: Option<DecisionRecord>,
}

/// `supervision.gap`: events had to be dropped.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Gap {
    /// Events dropped since the last gap event.
    pub dropped: u64,
    /// Of those, health events.
    pub dropped_health: u64,
    /// When the first was dropped.
    pub since: Timestamp,
    /// Bound that was hit, in events.
    pub bound_events: u64,
    /// Bound that was hit, in bytes.
    pub bound_bytes: u64,
}

/// `supervision.system`: something about the daemon itself, such as a reload or a lost connection.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SystemReported {
    /// What happened, as a code such as `nats_connected`.
    pub what: String,
    /// Numbers and words about it.
    pub details: Inputs,
}

/// `agent.spawned`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AgentSpawned {
    /// The change itself.
    #[serde(flatten)]
    pub change: AgentChanged,
    /// The agent's settings, secrets masked.
    pub config: BTreeMap<String, serde_json::Value>,
}

/// `agent.state_changed`, `agent.terminated`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AgentChanged {
    /// Name of the agent.
    pub name: ChildName,
    /// Its type.
    pub agent_type: AgentTypeName,
    /// State before; null for a new agent.
    pub old_state: Option<AgentState>,
    /// State after.
    pub new_state: AgentState,
    /// Why, as a code with its data in words.
    pub reason: String,
    /// Process id, if a process runs.
    pub pid: Option<u32>,
    /// Generation of the run.
    pub generation: Generation,
    /// Exit of the run that ended, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitCodes>,
    /// How it is shown from now on, if that was not told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Box<ChildShown>>,
}

/// `agent.error`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AgentErred {
    /// The agent as it is.
    #[serde(flatten)]
    pub change: AgentChanged,
    /// The error in words.
    pub error: String,
}

/// The typed `data` of an event.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Fact {
    /// A child's health at an interval.
    Health(HealthReported),
    /// A failure.
    Failure(Box<Failed>),
    /// A recovery.
    Recovery(Recovered),
    /// A circuit changed.
    Circuit(CircuitChanged),
    /// A decision.
    Decision(Box<Decided>),
    /// A supervisor escalated.
    Escalation(Box<SupervisorReported>),
    /// A supervisor started.
    SupervisorStarted(Box<SupervisorReported>),
    /// A supervisor stopped.
    SupervisorStopped(Box<SupervisorReported>),
    /// Events were dropped.
    Gap(Gap),
    /// Something about the daemon.
    System(SystemReported),
    /// A child is shown otherwise.
    ChildChanged(Box<ChildShown>),
    /// A child is not shown any more.
    ChildRemoved(ChildRemoved),
    /// All children, once more.
    Snapshot(Box<Snapshot>),
    /// An agent was made.
    AgentSpawned(Box<AgentSpawned>),
    /// An agent changed its state.
    AgentStateChanged(Box<AgentChanged>),
    /// An agent ended for good.
    AgentTerminated(Box<AgentChanged>),
    /// Something went wrong with an agent that is no failure of a run.
    AgentError(Box<AgentErred>),
    /// A task ended.
    TaskResult(Box<TaskResulted>),
    /// A task failed or was none.
    DeadLetter(Box<DeadLettered>),
    /// A task was given to an agent.
    TaskAssigned(Box<TaskNoted>),
    /// A task waits for another attempt.
    TaskRequeued(Box<TaskNoted>),
    /// News of an attempt that does not count any more were refused.
    LateResult(Box<TaskNoted>),
    /// An agent fails tasks that others can do.
    AgentSick(Box<TaskNoted>),
}

impl Fact {
    /// The event's `type`, version included.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Health(_) => "provost.supervision.health.v1",
            Self::Failure(_) => "provost.supervision.failure.v1",
            Self::Recovery(_) => "provost.supervision.recovery.v1",
            Self::Circuit(_) => "provost.supervision.circuit.v1",
            Self::Decision(_) => "provost.supervision.decision.v1",
            Self::Escalation(_) => "provost.supervision.escalation.v1",
            Self::SupervisorStarted(_) => "provost.supervision.supervisor_started.v1",
            Self::SupervisorStopped(_) => "provost.supervision.supervisor_stopped.v1",
            Self::Gap(_) => "provost.supervision.gap.v1",
            Self::System(_) => "provost.supervision.system.v1",
            Self::ChildChanged(_) => "provost.supervision.child_changed.v1",
            Self::ChildRemoved(_) => "provost.supervision.child_removed.v1",
            Self::Snapshot(_) => "provost.supervision.snapshot.v1",
            Self::AgentSpawned(_) => "provost.agent.spawned.v1",
            Self::AgentStateChanged(_) => "provost.agent.state_changed.v1",
            Self::AgentTerminated(_) => "provost.agent.terminated.v1",
            Self::AgentError(_) => "provost.agent.error.v1",
            Self::TaskResult(_) => "provost.coordination.result.v1",
            Self::DeadLetter(_) => "provost.dead_letter.v1",
            Self::TaskAssigned(_) => "provost.coordination.assigned.v1",
            Self::TaskRequeued(_) => "provost.coordination.requeued.v1",
            Self::LateResult(_) => "provost.coordination.late_result.v1",
            Self::AgentSick(_) => "provost.coordination.agent_sick.v1",
        }
    }

    /// The event's category.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::AgentSpawned(_)
            | Self::AgentStateChanged(_)
            | Self::AgentTerminated(_)
            | Self::AgentError(_) => Category::Agent,
            Self::TaskResult(_)
            | Self::DeadLetter(_)
            | Self::TaskAssigned(_)
            | Self::TaskRequeued(_)
            | Self::LateResult(_)
            | Self::AgentSick(_) => Category::Coordination,
            Self::System(_) | Self::Gap(_) => Category::System,
            Self::Health(_)
            | Self::Failure(_)
            | Self::Recovery(_)
            | Self::Circuit(_)
            | Self::Decision(_)
            | Self::Escalation(_)
            | Self::SupervisorStarted(_)
            | Self::SupervisorStopped(_)
            | Self::ChildChanged(_)
            | Self::ChildRemoved(_)
            | Self::Snapshot(_) => Category::Supervision,
        }
    }

    /// Reads the `data` of an event by its `type`; `None` for a type unknown to this version.
    ///
    /// # Errors
    ///
    /// `data` is not what the type says.
    pub fn read(
        event_type: &str,
        data: &serde_json::Value,
    ) -> Result<Option<Self>, serde_json::Error> {
        fn of<'a, T: Deserialize<'a>>(data: &'a serde_json::Value) -> serde_json::Result<Box<T>> {
            T::deserialize(data).map(Box::new)
        }
        let fact = match event_type {
            "provost.supervision.health.v1" => Self::Health(*of(data)?),
            "provost.supervision.failure.v1" => Self::Failure(of(data)?),
            "provost.supervision.recovery.v1" => Self::Recovery(*of(data)?),
            "provost.supervision.circuit.v1" => Self::Circuit(*of(data)?),
            "provost.supervision.decision.v1" => Self::Decision(of(data)?),
            "provost.supervision.escalation.v1" => Self::Escalation(of(data)?),
            "provost.supervision.supervisor_started.v1" => Self::SupervisorStarted(of(data)?),
            "provost.supervision.supervisor_stopped.v1" => Self::SupervisorStopped(of(data)?),
            "provost.supervision.gap.v1" => Self::Gap(*of(data)?),
            "provost.supervision.system.v1" => Self::System(*of(data)?),
            "provost.supervision.child_changed.v1" => Self::ChildChanged(of(data)?),
            "provost.supervision.child_removed.v1" => Self::ChildRemoved(*of(data)?),
            "provost.supervision.snapshot.v1" => Self::Snapshot(of(data)?),
            "provost.agent.spawned.v1" => Self::AgentSpawned(of(data)?),
            "provost.agent.state_changed.v1" => Self::AgentStateChanged(of(data)?),
            "provost.agent.terminated.v1" => Self::AgentTerminated(of(data)?),
            "provost.agent.error.v1" => Self::AgentError(of(data)?),
            "provost.coordination.result.v1" => Self::TaskResult(of(data)?),
            "provost.dead_letter.v1" => Self::DeadLetter(of(data)?),
            "provost.coordination.assigned.v1" => Self::TaskAssigned(of(data)?),
            "provost.coordination.requeued.v1" => Self::TaskRequeued(of(data)?),
            "provost.coordination.late_result.v1" => Self::LateResult(of(data)?),
            "provost.coordination.agent_sick.v1" => Self::AgentSick(of(data)?),
            _ => return Ok(None),
        };
        Ok(Some(fact))
    }
}

/// `exit` of a failure: null, and not an object of nulls, where there was none.
mod exit_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::protocol::exit::ExitCodes;

    pub(super) fn serialize<S: Serializer>(exit: &ExitCodes, to: S) -> Result<S::Ok, S::Error> {
        let known = *exit != ExitCodes::default();
        known.then_some(exit).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ExitCodes, D::Error> {
        Option::<ExitCodes>::deserialize(from).map(Option::unwrap_or_default)
    }
}
