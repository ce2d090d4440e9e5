//! The tap: takes what the detectors need out of what happens, and never makes anybody wait.
//!
//! Up to [`QUEUE_MAX`] notices wait; while the queue is full, new ones are not looked at and counted
//! in `provost_insight_skipped_total`. Events themselves are not touched by that.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::logic::detect::{Seen, WorkEnd, seen_in};
use crate::metrics;
use crate::ports::{EventDraft, EventSink};
use crate::protocol::command::OutboxStatus;
use crate::protocol::decision::Inputs;
use crate::protocol::fact::{Fact, FailureType, Severity};
use crate::protocol::id::{AgentId, ChildName, EventId, TaskId, TaskType};
use crate::protocol::trace::TraceContext;

/// Notices that may wait.
pub const QUEUE_MAX: usize = 4_096;

/// Something that happened, and when.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A child failed, changed, recovered.
    Child {
        /// The child.
        name: ChildName,
        /// What the detectors see.
        seen: Seen,
        /// What alerts need to know of a failure.
        failure: Option<FailureNote>,
    },
    /// An agent was given an attempt of a task.
    Given {
        /// The task and the attempt.
        attempt: (TaskId, u32),
        /// The agent.
        agent: AgentId,
        /// Kind of task.
        task_type: TaskType,
        /// The task's trace.
        trace: TraceContext,
    },
    /// An attempt came to its end with its agent.
    Ended {
        /// The task and the attempt.
        attempt: (TaskId, u32),
        /// How; nothing where it says nothing about the agent.
        ended: Option<WorkEnd>,
    },
    /// The ledger calls an agent sick.
    Sick {
        /// The agent.
        agent: AgentId,
        /// The numbers.
        evidence: Inputs,
        /// The event that says so.
        event: EventId,
    },
    /// The ledger calls a task poison.
    Poison {
        /// Kind of task.
        task_type: TaskType,
        /// The numbers.
        evidence: Inputs,
        /// The event of its end.
        event: Option<EventId>,
    },
}

/// What alerts need to know of a failure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailureNote {
    /// Kind.
    pub kind: FailureType,
    /// How bad it is.
    pub severity: Severity,
    /// In words.
    pub message: String,
    /// The event.
    pub event: EventId,
}

/// Puts notices into the queue. Clones put into the same one.
#[derive(Clone, Debug)]
pub struct Tap(mpsc::Sender<Noticed>);

impl Tap {
    /// A tap, and the queue that it puts into.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Noticed>) {
        let (give, take) = mpsc::channel(QUEUE_MAX);
        (Self(give), take)
    }

    /// Notes something; returns at once.
    pub fn note(&self, what: What) {
        if self.0.try_send(Noticed { at: Instant::now(), what }).is_err() {
            metrics::insight_skipped();
        }
    }
}

/// A sink that notes what passes.
#[derive(Debug)]
pub struct Tapped {
    inner: Arc<dyn EventSink>,
    tap: Tap,
}

impl Tapped {
    /// Notes what goes into `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn EventSink>, tap: Tap) -> Self {
        Self { inner, tap }
    }
}

impl EventSink for Tapped {
    fn emit(&self, draft: EventDraft) -> EventId {
        metrics::told(&draft.fact, draft.source.name.as_str());
        let seen = seen_in(&draft.fact, None);
        let failure = failure_in(&draft);
        let event = self.inner.emit(draft);
        if let Some((name, mut seen)) = seen {
            if let Seen::Failed(_, cause) = &mut seen {
                *cause = Some(event);
            }
            let failure = failure.map(|note| FailureNote { event, ..note });
            self.tap.note(What::Child { name, seen, failure });
        }
        event
    }

    fn status(&self) -> OutboxStatus {
        self.inner.status()
    }
}

fn failure_in(draft: &EventDraft) -> Option<FailureNote> {
    let Fact::Failure(failed) = &draft.fact else { return None };
    Some(FailureNote {
        kind: failed.failure_type,
        severity: draft.severity,
        message: failed.message.clone().unwrap_or_default(),
        event: EventId::new(uuid::Uuid::nil()),
    })
}
