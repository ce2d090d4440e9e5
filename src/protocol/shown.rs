//! How one child is shown, as it is told whenever that changes: what a moment of the past is rebuilt
//! from.
//!
//! Durations count from the event's `time`. Health is not here: it has events of its own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::decision::NextAction;
use crate::protocol::id::{AgentId, AgentTypeName, ChildName, Generation};
use crate::protocol::spec::{ChildKind, Limit, Strategy};
use crate::protocol::status::{AgentState, CircuitStatus, Containment, LimitHold};

/// `supervision.child_changed`: one child as readers see it from now on.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ChildShown {
    /// Name of the child.
    pub name: ChildName,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// Its supervisor; absent for the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChildName>,
    /// Its place among its siblings; absent while it is not one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
    /// What makes it an agent, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentIdentity>,
    /// State.
    pub state: AgentState,
    /// Run number.
    pub generation: Generation,
    /// Process id, if a process runs.
    pub pid: Option<u32>,
    /// Restarts since it was made or reset.
    pub restarts: u64,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why it is in this state, in words.
    pub reason: String,
    /// Circuit.
    pub circuit: CircuitStatus,
    /// What happens next; null when nothing is due.
    pub next: Option<NextAction>,
    /// Strategy, if it is a supervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Restart limit, if it is a supervisor that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// What holds its processes together, while processes run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containment: Option<Containment>,
    /// Limits of its processes that are set, and who holds them, while processes run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, LimitHold>,
}

/// What makes a child an agent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AgentIdentity {
    /// Identity.
    pub agent_id: AgentId,
    /// Type.
    pub agent_type: AgentTypeName,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// `supervision.child_removed`: readers see the child no more.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ChildRemoved {
    /// Name of the child.
    pub name: ChildName,
    /// Its supervisor.
    pub parent: Option<ChildName>,
}

/// `supervision.snapshot`: all children, told again from time to time, so that the past can be
/// rebuilt without reading everything that is kept. Many children are told in several parts.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Snapshot {
    /// Which part this is, from 1.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// The children of this part, by name.
    pub children: Vec<ChildShown>,
}
