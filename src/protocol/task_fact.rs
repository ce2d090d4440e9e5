//! The typed `data` of events about tasks: results, dead letters, and what happened to attempts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::agent::TaskError;
use crate::protocol::decision::DecisionRecord;
use crate::protocol::id::{AgentId, TaskId, TaskType};
use crate::protocol::task::TaskState;

/// `coordination.result`: how a task ended.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TaskResulted {
    /// Type of the task.
    pub task_type: TaskType,
    /// Its last state.
    pub state: TaskState,
    /// The result, if it is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    /// What went wrong, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// The agent of the last attempt; null if there was none.
    pub agent_id: Option<AgentId>,
    /// Attempts it took.
    pub attempt: u32,
}

/// `dead_letter`: a task that failed or was none.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DeadLettered {
    /// What was submitted: `subject`, `id`, and the body as JSON, or as text where it is none.
    pub original: DeadOriginal,
    /// Why it is here.
    pub error: TaskError,
    /// Attempts that failed.
    pub retry_count: u32,
}

/// What a dead letter was before.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DeadOriginal {
    /// Subject that it was sent to, without prefix.
    pub subject: String,
    /// Its identity.
    pub id: String,
    /// Its body, if that is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// Its body as text, cut, if it is no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its length in bytes.
    pub bytes: u64,
}

/// `coordination.assigned`, `.requeued`, `.late_result`, `.agent_sick`: something about one attempt.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TaskNoted {
    /// The task.
    pub task_id: TaskId,
    /// The agent, if one had it.
    pub agent_id: Option<AgentId>,
    /// The attempt.
    pub attempt: u32,
    /// Token of the attempt, if it has one.
    pub token: Option<u64>,
    /// What went wrong, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Why.
    #[serde(flatten)]
    pub decision: DecisionRecord,
}
