//! Makes the record of each step, with its decision record.

use std::time::Duration;

use serde_json::Value;

use crate::logic::ledger::task::Task;
use crate::logic::ledger::types::Moment;
use crate::protocol::agent::Progress;
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use crate::protocol::id::EventId;
use crate::protocol::task::{TaskRecord, TaskState};
use crate::protocol::task_fact::TaskNoted;

/// A record before it knows its task.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) state: TaskState,
    pub(super) message: Option<String>,
    pub(super) progress: Option<Progress>,
    pub(super) result: Option<Value>,
    pub(super) decision: DecisionRecord,
}

impl Draft {
    pub(super) fn of(state: TaskState, reason: Reason, inputs: Inputs) -> Self {
        let next = NextAction { action: NextKind::None, in_ms: 0 };
        let rule = Rule::default();
        Self::by(state, DecisionRecord { reason, inputs, rule, cause: None, next })
    }

    /// By a decision that was made elsewhere.
    pub(super) fn by(state: TaskState, decision: DecisionRecord) -> Self {
        Self { state, message: None, progress: None, result: None, decision }
    }

    pub(super) fn then(mut self, action: NextKind, after: Duration) -> Self {
        self.decision.next = NextAction { action, in_ms: millis(after) };
        self
    }

    /// The record. Its identities are for whoever writes it.
    pub(super) fn record(self, moment: Moment, task: &Task) -> TaskRecord {
        let held = task.held();
        TaskRecord {
            record: EventId::new(uuid::Uuid::nil()),
            task_id: task.id.clone(),
            task_type: task.task_type.clone(),
            state: self.state,
            time: moment.wall,
            accepted_at: task.accepted_at,
            submission: task.submission,
            previous: task.last,
            part_of: task.part_of.as_ref().map(|(_, id)| id.clone()),
            parts: task.parts.clone(),
            priority: task.priority,
            submitter: task.submitter.to_string(),
            attempt: task.attempt,
            failures: task.failures,
            max_attempts: task.max_attempts,
            agent_id: task.last_agent.clone(),
            run: held.and_then(|held| held.run.clone()),
            lease_ms: held.map(|held| millis(held.lease)),
            token: task.last_token,
            blamed: task.blamed.clone(),
            message: self.message,
            progress: self.progress,
            error: task.error.clone().filter(|_| self.state != TaskState::Completed),
            result: self.result,
            event: None,
            dead_letter: None,
            decision: self.decision,
        }
    }
}

/// What an event tells of a record.
pub(super) fn noted(record: &TaskRecord) -> TaskNoted {
    TaskNoted {
        task_id: record.task_id.clone(),
        agent_id: record.agent_id.clone(),
        attempt: record.attempt,
        token: record.token,
        error: record.error.clone(),
        decision: record.decision.clone(),
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
