//! What goes into the ledger and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::protocol::agent::TaskError;
use crate::protocol::decision::DecisionRecord;
use crate::protocol::id::{AgentId, TaskId, TaskType};
use crate::protocol::route::{Distribution, Predicate, RouteQuery};
use crate::protocol::spec::{BackoffSpec, Jitter};
use crate::protocol::task::{TaskRecord, TaskRequest};
use crate::protocol::task_fact::TaskNoted;

/// Failed attempts that a task may have, unless it or its type says otherwise.
pub const ATTEMPTS_DEFAULT: u32 = 3;

/// Time to give up in after a cancellation, unless the request says otherwise.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// Shortest time between two records that only tell of progress.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Time after a dispatch in which nobody expects the agent to know of it.
pub const DISPATCH_GRACE: Duration = Duration::from_secs(2);

/// Times that a dispatch is repeated before the attempt counts as forgotten.
pub const REPEATS_MAX: u32 = 3;

/// How long a sick agent gets no tasks.
pub const SICK_FOR: Duration = Duration::from_secs(30);

/// Pause before a task is given out again that could not be delivered.
pub const UNDELIVERED_PAUSE: Duration = Duration::from_millis(50);

/// What waits for one task while a record of it is written, at most; further progress is dropped.
pub const INBOX_MAX: usize = 64;

/// A moment, for the machine and for people, with a draw for jitter.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// Now, on the wall.
    pub wall: Timestamp,
    /// A fraction in `0.0..=1.0`.
    pub jitter: f64,
}

/// Names a task inside the ledger: the sequence of its submission; for a part of a broadcast, which
/// has none, a number that no sequence reaches.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TaskKey(pub u64);

/// A submission.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its sequence.
    pub key: TaskKey,
    /// The task.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// On whose behalf; empty when nobody said.
    pub submitter: Arc<str>,
    /// When it was stored.
    pub accepted_at: Timestamp,
    /// The broadcast that it is a part of.
    pub part_of: Option<(TaskKey, TaskId)>,
}

/// What a task needs of an agent. Tasks with equal needs stand in one lane.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Needs {
    /// Type of the task.
    pub task_type: TaskType,
    /// Words the agent must have.
    pub capabilities: BTreeSet<String>,
    /// What must be true of it besides.
    pub condition: Option<Predicate>,
    /// Agents that may have it, by name or id; any when empty.
    pub participants: Vec<String>,
    /// How the agent is chosen.
    pub strategy: Distribution,
    /// Key of a sticky task.
    pub sticky_key: Option<String>,
}

impl Needs {
    /// What a request needs, under its type's strategy. Where that is one that the request has
    /// nothing for (`sticky` without a key, `direct` without a name), the least loaded agent gets
    /// the task.
    #[must_use]
    pub fn of(task_type: &TaskType, request: &TaskRequest, strategy: Distribution) -> Self {
        let by_type = match strategy {
            Distribution::Sticky if request.sticky_key.is_none() => Distribution::LeastLoaded,
            Distribution::Direct if request.participants.is_empty() => Distribution::LeastLoaded,
            Distribution::Broadcast => Distribution::LeastLoaded,
            Distribution::Sticky
            | Distribution::Direct
            | Distribution::RoundRobin
            | Distribution::WeightedRoundRobin
            | Distribution::LeastLoaded
            | Distribution::PowerOfTwo => strategy,
        };
        Self {
            task_type: task_type.clone(),
            capabilities: request.requirements.required_capabilities.clone(),
            condition: request.requirements.condition.clone(),
            participants: request.participants.clone(),
            strategy: request.strategy.unwrap_or(by_type),
            sticky_key: request.sticky_key.clone(),
        }
    }

    /// The question for the router; with agents that are taken only if there is no other.
    #[must_use]
    pub fn question(&self, avoid: impl IntoIterator<Item = AgentId>) -> RouteQuery {
        RouteQuery {
            required_capabilities: self.capabilities.iter().cloned().collect(),
            condition: self.condition.clone(),
            strategy: Some(self.strategy),
            participants: self.participants.clone(),
            sticky_key: self.sticky_key.clone(),
            avoid: avoid.into_iter().map(|agent| agent.as_str().to_owned()).collect(),
        }
    }
}

/// At most so many begun in a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many; above zero.
    pub count: u32,
    /// In which time; above zero.
    pub per: Duration,
}

/// Rules for the tasks of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypePolicy {
    /// Failed attempts that a task may have.
    pub max_attempts: u32,
    /// Pause after a failed attempt.
    pub backoff: BackoffSpec,
    /// Longest silence about an attempt; the agent's when absent.
    pub lease: Option<Duration>,
    /// Time until a task expires; none when absent.
    pub deadline: Option<Duration>,
    /// Tasks held by agents at a time.
    pub max_concurrent: Option<u32>,
    /// Attempts begun in a time.
    pub rate: Option<Rate>,
    /// How the agent is chosen.
    pub strategy: Distribution,
}

impl Default for TypePolicy {
    /// 3 attempts, pauses from 1 s to 60 s, no bound.
    fn default() -> Self {
        Self {
            max_attempts: ATTEMPTS_DEFAULT,
            backoff: BackoffSpec {
                initial: Duration::from_secs(1),
                factor: 2.0,
                max: Duration::from_secs(60),
                jitter: Jitter::Equal,
            },
            lease: None,
            deadline: None,
            max_concurrent: None,
            rate: None,
            strategy: Distribution::RoundRobin,
        }
    }
}

/// All rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// For types without rules of their own.
    pub default: TypePolicy,
    /// By type.
    pub types: BTreeMap<TaskType, TypePolicy>,
    /// Wait after which a task is not overtaken any more.
    pub starve_after: Duration,
    /// Different agents on which a poison task has failed.
    pub poison_agents: usize,
    /// Different tasks that a sick agent has failed in a row.
    pub sick_tasks: usize,
}

impl Default for Policies {
    /// 30 s, 3 agents, 3 tasks.
    fn default() -> Self {
        Self {
            default: TypePolicy::default(),
            types: BTreeMap::new(),
            starve_after: Duration::from_secs(30),
            poison_agents: 3,
            sick_tasks: 3,
        }
    }
}

impl Policies {
    /// The rules of a type.
    #[must_use]
    pub fn of(&self, task_type: &TaskType) -> &TypePolicy {
        self.types.get(task_type).unwrap_or(&self.default)
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Accepted {
    /// It is in the ledger.
    Taken(Vec<Step>),
    /// The task is in the ledger under another submission; this one stands for nothing.
    Duplicate(TaskKey),
    /// The submission is in the ledger already.
    Known,
}

/// Who gets a task.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The agent.
    pub agent: AgentId,
    /// Its run, if it ends with the daemon.
    pub run: Option<String>,
    /// Longest silence about a task of its type.
    pub lease: Duration,
    /// Why it is this one.
    pub decision: DecisionRecord,
}

/// The task that is next.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The task.
    pub key: TaskKey,
    /// Its lane.
    pub needs: Arc<Needs>,
    /// Agents that have failed it, to be avoided where others can have it.
    pub avoid: BTreeSet<AgentId>,
}

/// Why an agent's run is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gone {
    /// It crashed, or is lost.
    Crashed,
    /// Somebody stopped it.
    Stopped,
}

/// Why a task did not reach its agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Undelivered {
    /// The agent takes nothing now.
    Busy(String),
    /// It can never be sent.
    Impossible(String),
}

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cancelling {
    /// It is being recorded; no agent has the task.
    Ending,
    /// The agent was told and has this time.
    Told(Duration),
    /// The task is not in the ledger: it has ended, or never was.
    Unknown,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Step {
    /// Write a record behind the one that it names as `previous`.
    Write(TaskKey, Box<TaskRecord>),
    /// The record of a broadcast is stored: take its parts as submissions, unless it has ended
    /// meanwhile.
    Parts(TaskKey, BTreeMap<AgentId, TaskId>),
    /// Give the task to its agent.
    Dispatch(Dispatch),
    /// Tell the agent to give an attempt up.
    Cancel {
        /// The task.
        id: TaskId,
        /// The agent.
        agent: AgentId,
        /// The attempt.
        attempt: u32,
        /// Time that it has.
        grace: Duration,
    },
    /// The assignment was never stored, and will not be: the agent has its slot back.
    Unassign {
        /// The task.
        id: TaskId,
        /// The agent.
        agent: AgentId,
        /// The attempt.
        attempt: u32,
    },
    /// The terminal record is stored: tell the result, forget the submission.
    Ended(TaskKey, Box<TaskRecord>),
    /// The task has ended before, and nobody knows whether that was told: tell it, forget the
    /// submission.
    EndedBefore(TaskKey, Box<TaskRecord>),
    /// The submission repeats a task that has ended: forget it.
    Drop(TaskKey),
    /// Tell that something happened.
    Tell(Told, Box<TaskNoted>),
}

/// Kinds of [`Step::Tell`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// A task was given to an agent.
    Assigned,
    /// A task waits for another attempt.
    Requeued,
    /// News of an attempt that does not count were refused.
    LateResult,
    /// An agent is sick.
    AgentSick,
}

/// One order to an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dispatch {
    /// The task.
    pub key: TaskKey,
    /// The same.
    pub id: TaskId,
    /// The agent.
    pub agent: AgentId,
    /// The attempt.
    pub attempt: u32,
    /// Its token.
    pub token: u64,
    /// Longest silence.
    pub lease: Duration,
    /// Time until the result is of no use.
    pub deadline: Option<Duration>,
}

/// A record that somebody else wrote: this ledger is not the only one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "record {sequence} of task {id} was written by somebody else; another coordinator is at work"
)]
pub struct Foreign {
    /// The task.
    pub id: TaskId,
    /// Sequence of the record.
    pub sequence: u64,
}

/// How many tasks stand where.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Waiting for an agent.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// With an agent.
    pub held: u64,
    /// Whose end is being recorded.
    pub ending: u64,
}

/// An error of ours about an attempt.
pub(super) fn fault(code: &str, message: String, retry: Again) -> TaskError {
    let retry = retry == Again::MayHelp;
    TaskError { code: code.to_owned(), message, retry, after_ms: None }
}

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Again {
    MayHelp,
    CannotHelp,
}
