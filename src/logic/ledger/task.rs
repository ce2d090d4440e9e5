//! One task inside the ledger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::logic::gather::Gather;
use crate::logic::ledger::queue::Ticket;
use crate::logic::ledger::types::{Dispatch, Gone, Needs, Submission, TaskKey, Undelivered};
use crate::protocol::agent::{TaskError, TaskNews};
use crate::protocol::id::{AgentId, TaskId, TaskType};
use crate::protocol::route::{Completion, Distribution};
use crate::protocol::task::{Blame, Priority, TaskRecord, TaskState};

/// One task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) task_type: TaskType,
    /// Sequence of its submission; of a part, that of its broadcast.
    pub(super) submission: u64,
    /// The broadcast that it is a part of.
    pub(super) part_of: Option<(TaskKey, TaskId)>,
    /// When it is done, if it is a broadcast, and its parts once they are there.
    pub(super) completion: Completion,
    pub(super) parts: BTreeMap<AgentId, TaskId>,
    pub(super) needs: Arc<Needs>,
    pub(super) priority: Priority,
    pub(super) submitter: Arc<str>,
    pub(super) accepted_at: Timestamp,
    pub(super) deadline: Option<Instant>,
    /// Longest silence that the task or its type asks for.
    pub(super) lease: Option<Duration>,
    pub(super) max_attempts: u32,
    pub(super) attempt: u32,
    pub(super) failures: u32,
    pub(super) blamed: BTreeMap<AgentId, Blame>,
    /// Agent and token of the last attempt.
    pub(super) last_agent: Option<AgentId>,
    pub(super) last_token: Option<u64>,
    pub(super) error: Option<TaskError>,
    /// Sequence of its last record; 0 when there is none but the submission.
    pub(super) last: u64,
    pub(super) phase: Phase,
    /// The record that is being written.
    pub(super) writing: Option<Box<TaskRecord>>,
    /// What has happened while a record was being written.
    pub(super) inbox: VecDeque<Happened>,
    /// Somebody asked for its end, with this grace and reason.
    pub(super) cancel: Option<(Duration, String)>,
    /// When it wants to be looked at.
    pub(super) due: Option<Instant>,
}

/// Where a task stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// It waits for its time.
    Delayed {
        until: Instant,
    },
    /// It waits for an agent, from then on.
    Ready {
        since: Instant,
    },
    Held(Held),
    /// Its parts are under way.
    Gathering(Box<Gather>),
    /// Its terminal record is being written.
    Over,
}

/// What is known of the present attempt.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) agent: AgentId,
    pub(super) run: Option<String>,
    /// 0 until its record is stored.
    pub(super) token: u64,
    pub(super) lease: Duration,
    /// None while the agent waits for somebody's answer.
    pub(super) lease_until: Option<Instant>,
    pub(super) state: TaskState,
    /// When it is given up, once its agent was told to.
    pub(super) give_up_at: Option<Instant>,
    /// Whether the agent has said anything about it.
    pub(super) heard: bool,
    pub(super) dispatched: Instant,
    pub(super) repeats: u32,
    /// When progress was recorded last.
    pub(super) recorded: Option<Instant>,
}

/// What happens to a task.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    News {
        agent: AgentId,
        attempt: u32,
        news: TaskNews,
    },
    Gone {
        agent: AgentId,
        run: Option<String>,
        why: Gone,
        said: String,
    },
    Undelivered {
        attempt: u32,
        why: Undelivered,
    },
    Forgotten {
        token: u64,
    },
    Cancel {
        grace: Duration,
        reason: String,
    },
    /// A part of it has ended.
    Part {
        id: TaskId,
        end: Result<Value, TaskError>,
    },
}

impl Happened {
    /// Whether it only tells of progress, and so may be dropped.
    pub(super) fn is_progress(&self) -> bool {
        matches!(self, Self::News { news: TaskNews::Working { .. }, .. })
    }
}

impl Task {
    /// A task as it was submitted, without rules.
    pub(super) fn empty(submission: &Submission) -> Self {
        let needs = Needs {
            task_type: submission.task_type.clone(),
            capabilities: BTreeSet::new(),
            condition: None,
            participants: Vec::new(),
            strategy: Distribution::RoundRobin,
            sticky_key: None,
        };
        Self {
            id: submission.id.clone(),
            task_type: submission.task_type.clone(),
            submission: submission.part_of.as_ref().map_or(submission.key, |(key, _)| *key).0,
            part_of: submission.part_of.clone(),
            completion: Completion::default(),
            parts: BTreeMap::new(),
            needs: Arc::new(needs),
            priority: Priority::default(),
            submitter: Arc::clone(&submission.submitter),
            accepted_at: submission.accepted_at,
            deadline: None,
            lease: None,
            max_attempts: 1,
            attempt: 0,
            failures: 0,
            blamed: BTreeMap::new(),
            last_agent: None,
            last_token: None,
            error: None,
            last: 0,
            phase: Phase::Over,
            writing: None,
            inbox: VecDeque::new(),
            cancel: None,
            due: None,
        }
    }

    /// The order to the agent that has it.
    pub(super) fn dispatch(&self, key: TaskKey, now: Instant) -> Option<Dispatch> {
        let held = self.held()?;
        Some(Dispatch {
            key,
            id: self.id.clone(),
            agent: held.agent.clone(),
            attempt: self.attempt,
            token: held.token,
            lease: held.lease,
            deadline: self.deadline.map(|at| at.saturating_duration_since(now)),
        })
    }

    pub(super) fn ticket(&self, key: TaskKey) -> Option<Ticket> {
        let Phase::Ready { since } = self.phase else { return None };
        Some(Ticket {
            needs: Arc::clone(&self.needs),
            priority: self.priority,
            submitter: Arc::clone(&self.submitter),
            place: (since, key),
        })
    }

    pub(super) fn held(&self) -> Option<&Held> {
        if let Phase::Held(held) = &self.phase { Some(held) } else { None }
    }

    pub(super) fn held_mut(&mut self) -> Option<&mut Held> {
        if let Phase::Held(held) = &mut self.phase { Some(held) } else { None }
    }

    /// When something happens by itself; never while a record is being written.
    pub(super) fn wants(&self) -> Option<Instant> {
        if self.writing.is_some() {
            return None;
        }
        let own = match &self.phase {
            Phase::Delayed { until } => Some(*until),
            Phase::Held(held) => held.lease_until.into_iter().chain(held.give_up_at).min(),
            Phase::Ready { .. } | Phase::Gathering(_) => None,
            Phase::Over => return None,
        };
        own.into_iter().chain(self.deadline).min()
    }
}
