//! What readers see of agents and of the tree: states, circuits, health, `AgentStatus`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::decision::NextAction;
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::{AgentId, AgentTypeName, ChildName, Generation, NodeName};
use crate::protocol::spec::{ChildKind, Limit, Strategy};

/// State of an agent.
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
pub enum AgentState {
    /// Declared, never started.
    #[default]
    Created,
    /// A start is under way.
    Starting,
    /// Running and healthy, as far as is known.
    Running,
    /// Running, but a probe fails or it drains.
    Degraded,
    /// Asked to stop.
    Stopping,
    /// Failed; waits for its restart.
    Backoff,
    /// Circuit open: not restarted.
    Quarantined,
    /// Circuit half-open: the trial runs.
    Probation,
    /// Throttled: waits until the time it named.
    Parked,
    /// Stopped on request; can be started again.
    Stopped,
    /// Ended for good.
    Terminated,
}

impl AgentState {
    /// All states in the order of MISSION B3.
    pub const ALL: [Self; 11] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Degraded,
        Self::Stopping,
        Self::Backoff,
        Self::Quarantined,
        Self::Probation,
        Self::Parked,
        Self::Stopped,
        Self::Terminated,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Probation => "probation",
            Self::Parked => "parked",
            Self::Stopped => "stopped",
            Self::Terminated => "terminated",
        }
    }

    /// Whether an agent in this state takes one of the pool's places.
    #[must_use]
    pub fn takes_a_place(self) -> bool {
        match self {
            Self::Stopped | Self::Terminated => false,
            Self::Created
            | Self::Starting
            | Self::Running
            | Self::Degraded
            | Self::Stopping
            | Self::Backoff
            | Self::Quarantined
            | Self::Probation
            | Self::Parked => true,
        }
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// State of a circuit, for children and downstreams alike.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Restarts or calls pass.
    #[default]
    Closed,
    /// None passes.
    Open,
    /// One trial is under watch.
    HalfOpen,
    /// Held open by hand.
    ForcedOpen,
    /// Held closed by hand.
    ForcedClosed,
}

impl CircuitState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Verdict about a child's health.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// It works.
    Healthy,
    /// It works, but not well.
    Degraded,
    /// It does not work.
    Unhealthy,
    /// Nobody has looked, or nothing runs.
    #[default]
    Unknown,
}

/// Whether a run can be given work.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// It can, or nobody looks.
    #[default]
    Ready,
    /// It has not finished starting.
    Starting,
    /// It started, but cannot be given work now.
    NotReady,
}

/// What holds the processes of a run together, strongest first. It says what the end of the run
/// reaches for certain.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// A cgroup of its own: nothing can leave it.
    Cgroup,
    /// The keeper inherits whatever is orphaned and knows it by session and environment.
    Subreaper,
    /// Process group and session only.
    Group,
}

/// Who holds a limit of a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitHold {
    /// The kernel: what goes beyond is refused, or ended at once.
    Kernel,
    /// provost: it looks once a second, and ends a run that is beyond.
    Sampled,
    /// provost's timer.
    Timer,
    /// Nobody: what is needed for it is not here.
    Nobody,
}

/// Circuit part of a status.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CircuitStatus {
    /// State.
    pub state: CircuitState,
    /// Time until the next trial, in milliseconds; null when none is due.
    pub retry_after_ms: Option<u64>,
}

/// Health part of a status.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct HealthView {
    /// Verdict.
    pub status: HealthStatus,
    /// Measured values.
    pub metrics: HealthMetrics,
}

/// One agent as readers see it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AgentStatus {
    /// Identity.
    pub agent_id: AgentId,
    /// Name.
    pub name: ChildName,
    /// Type.
    pub agent_type: AgentTypeName,
    /// Node it runs on.
    pub node: NodeName,
    /// State.
    pub state: AgentState,
    /// Run number.
    pub generation: Generation,
    /// Process id, if a process runs.
    pub pid: Option<u32>,
    /// Restarts since the agent was made or reset.
    pub restarts: u64,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why it is in this state, in words.
    pub reason: String,
    /// Circuit.
    pub circuit: CircuitStatus,
    /// Health.
    pub health: HealthView,
    /// What happens next; null when nothing is due.
    pub next: Option<NextAction>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What holds its processes together, while processes run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containment: Option<Containment>,
    /// Limits of its processes (`memory`, `pids`, `cpu_weight`, `open_files`, `core_size`,
    /// `output_size`, `run_time`) that are set, and who holds them, while processes run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, LimitHold>,
}

/// One child of the tree, agents and parts of the daemon alike.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TreeNode {
    /// Name.
    pub name: ChildName,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// State.
    pub state: AgentState,
    /// Run number.
    pub generation: Generation,
    /// Process id, if a process runs.
    pub pid: Option<u32>,
    /// Restarts so far.
    pub restarts: u64,
    /// Circuit.
    pub circuit: CircuitStatus,
    /// Why it is in this state, in words.
    pub reason: String,
    /// Agent id, if it is an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Strategy, if it is a supervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Restart limit, if it is a supervisor that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Children in start order, if it is a supervisor.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub children: Vec<Self>,
}
