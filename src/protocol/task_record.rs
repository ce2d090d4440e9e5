//! The records of a task's life.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::agent::{Progress, TaskError};
use crate::protocol::decision::DecisionRecord;
use crate::protocol::id::{AgentId, EventId, TaskId, TaskType};
use crate::protocol::task::{Priority, TaskState};

/// One step of a task's life, on `coordination.log.<task_id>`.
///
/// It says all that is needed to go on from it, so that the last record of a task is enough after a
/// restart.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TaskRecord {
    /// Identity of the record, by which its writer knows it again.
    pub record: EventId,
    /// The task.
    pub task_id: TaskId,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// State from here on.
    pub state: TaskState,
    /// When it was decided.
    pub time: Timestamp,
    /// When the task was submitted.
    pub accepted_at: Timestamp,
    /// Sequence of the submission in its stream; of a part, that of its broadcast.
    pub submission: u64,
    /// Sequence of the record on which this was decided; 0 for the submission.
    pub previous: u64,
    /// The broadcast that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<TaskId>,
    /// The parts of a broadcast: each is a task of its own, for one agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<AgentId, TaskId>,
    /// How urgent it is.
    pub priority: Priority,
    /// On whose behalf, if that was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub submitter: String,
    /// Attempts begun so far.
    pub attempt: u32,
    /// Attempts that count as failed.
    pub failures: u32,
    /// Failures after which it has failed.
    pub max_attempts: u32,
    /// The agent of the present or last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The run of that agent, for one that ends with the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Longest silence about the present attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Token of the present or last attempt; absent in its `assigned` record, whose sequence it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Agents that failed it, and how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blamed: BTreeMap<AgentId, Blame>,
    /// What the agent says about its progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The result, when it is completed; of a broadcast, all that was gathered until its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Identity of the result event, in a terminal record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    /// Identity of the dead letter, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<EventId>,
    /// Why.
    pub decision: DecisionRecord,
}

/// How an agent failed a task.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// It said so, or was silent for too long.
    Error,
    /// Its run ended.
    Crash,
}
