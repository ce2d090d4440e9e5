//! Tasks: what is submitted, the records of a task's life, its result and its dead letter.
//!
//! A submission is read strictly: whatever is not exactly one is refused with the field, what is
//! wrong with it and what is allowed there ([`TaskRequest::parse`]). The message of the submission
//! is itself the record that the task was accepted; every later step is a [`TaskRecord`] on
//! `coordination.log.<task_id>`.
//!
//! Words: an *attempt* is one assignment to one agent, counted from 1; a *failure* is an attempt
//! that counts against `max_attempts`; the *token* of an attempt is the stream sequence of its
//! `assigned` record.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::agent::{CAPABILITIES_MAX, CAPABILITY_BYTES_MAX};
use crate::protocol::id::AgentId;
use crate::protocol::route::{Completion, Distribution, Predicate, QueryFault};

pub use crate::protocol::task_record::{Blame, TaskRecord};

/// Largest submission, in bytes, with room for what is put around it in an order to an agent.
pub const SUBMISSION_BYTES_MAX: usize = 1024 * 1024 - 4096;

/// Longest deadline and longest delay, in milliseconds (30 days).
pub const TASK_TIME_MS_MAX: u64 = 30 * 86_400_000;

/// Most attempts that a task may ask for.
pub const ATTEMPTS_MAX: u32 = 100;

/// Most agents that a task may name.
pub const PARTICIPANTS_MAX: usize = 100;

/// Longest key of a sticky task, in bytes.
pub const STICKY_KEY_BYTES_MAX: usize = 256;

/// Longest name of a submitter, in bytes.
pub const SUBMITTER_BYTES_MAX: usize = 64;

/// Header of a submission that says on whose behalf it is, for fair shares.
pub const SUBMITTER_HEADER: &str = "Provost-Submitter";

/// Header of a submission that repeats another task: that task's id.
pub const RETRY_OF_HEADER: &str = "Provost-Retry-Of";

/// The body of a submission.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// What is to be worked on.
    pub input: Value,
    /// What it takes.
    #[serde(default, skip_serializing_if = "Requirements::is_default")]
    pub requirements: Requirements,
    /// How the agent is chosen; the type's or the section's way when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Distribution>,
    /// Agents that may have it, by name or id; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<String>,
    /// Tasks with the same key go to the same agent, under the strategy `sticky`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_key: Option<String>,
    /// When a broadcast is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
    /// Time from the submission after which the result is of no use, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Time from the submission before which it is not begun, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Longest silence about an attempt, in milliseconds; the agent type's `timeout` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Failed attempts after which it has failed; 3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}

/// What a task takes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Words that an agent must have among its capabilities.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub required_capabilities: BTreeSet<String>,
    /// What must be true of the agent besides, of its capabilities and labels.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Predicate>,
    /// How long it will take, in milliseconds, as far as the submitter knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_ms: Option<u64>,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
}

impl Requirements {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How urgent a task is.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// When there is nothing else to do.
    Low,
    /// As it comes.
    #[default]
    Normal,
    /// Before what is normal.
    High,
    /// Before everything else.
    Critical,
}

impl Priority {
    /// All priorities, least urgent first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Why a message is no submission.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestFault {
    /// It is too long.
    #[error("submission has {bytes} bytes; at most {SUBMISSION_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is no JSON object of this kind.
    #[error("submission cannot be read{}: {said}", in_field(.field))]
    Malformed {
        /// The field, if it is one.
        field: Option<String>,
        /// What is wrong with it.
        said: String,
    },
    /// A value is out of its bounds.
    #[error("field {field:?} is {found}; {bound}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// What it is.
        found: String,
        /// What is allowed.
        bound: String,
    },
    /// The condition on the agent cannot be taken.
    #[error("field \"requirements.where\": {0}")]
    Condition(QueryFault),
}

fn in_field(field: &Option<String>) -> String {
    field.as_ref().map_or_else(String::new, |field| format!(" in field {field:?}"))
}

impl TaskRequest {
    /// A request with nothing but its input.
    #[must_use]
    pub fn new(input: Value) -> Self {
        Self {
            input,
            requirements: Requirements::default(),
            strategy: None,
            participants: Vec::new(),
            sticky_key: None,
            completion: None,
            deadline_ms: None,
            delay_ms: None,
            lease_ms: None,
            max_attempts: None,
        }
    }

    /// Reads the body of a submission and checks its bounds.
    ///
    /// # Errors
    ///
    /// [`RequestFault`] names the field, what it is and what is allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestFault> {
        if SUBMISSION_BYTES_MAX < bytes.len() {
            return Err(RequestFault::TooLong { bytes: bytes.len() });
        }
        let request: Self = match serde_json::from_slice(bytes) {
            Ok(request) => request,
            Err(_) => return Err(Self::fault_of(bytes)),
        };
        request.check()?;
        Ok(request)
    }

    /// Reads once more, this time to tell where it went wrong.
    fn fault_of(bytes: &[u8]) -> RequestFault {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let read = serde_path_to_error::deserialize::<_, Self>(&mut reader);
        let (field, said) = match read {
            Ok(_) => match reader.end() {
                Ok(()) => (None, "it is no submission".to_owned()),
                Err(error) => (None, error.to_string()),
            },
            Err(error) => {
                let path = error.path().to_string();
                (Some(path).filter(|path| path != "."), error.inner().to_string())
            }
        };
        RequestFault::Malformed { field, said: said.chars().take(300).collect() }
    }

    /// Checks the bounds of all fields.
    ///
    /// # Errors
    ///
    /// [`RequestFault::OutOfBounds`] and [`RequestFault::Condition`] name the first field that is out
    /// of its bounds.
    pub fn check(&self) -> Result<(), RequestFault> {
        let outside = |field, found: String, bound: String| {
            Err(RequestFault::OutOfBounds { field, found, bound })
        };
        let times = [
            ("deadline_ms", self.deadline_ms, 1),
            ("delay_ms", self.delay_ms, 0),
            ("lease_ms", self.lease_ms, 1),
        ];
        for (field, value, least) in times {
            if let Some(value) = value.filter(|value| !(least..=TASK_TIME_MS_MAX).contains(value)) {
                let bound = format!("{least} to {TASK_TIME_MS_MAX} are allowed");
                return outside(field, value.to_string(), bound);
            }
        }
        if let Some(most) = self.max_attempts.filter(|most| !(1..=ATTEMPTS_MAX).contains(most)) {
            let bound = format!("1 to {ATTEMPTS_MAX} are allowed");
            return outside("max_attempts", most.to_string(), bound);
        }
        let words = &self.requirements.required_capabilities;
        if CAPABILITIES_MAX < words.len() {
            let found = format!("{} words long", words.len());
            let bound = format!("at most {CAPABILITIES_MAX} are allowed");
            return outside("requirements.required_capabilities", found, bound);
        }
        if let Some(word) =
            words.iter().find(|word| !(1..=CAPABILITY_BYTES_MAX).contains(&word.len()))
        {
            let found = format!("a list with a word of {} bytes", word.len());
            let bound = format!("1 to {CAPABILITY_BYTES_MAX} are allowed");
            return outside("requirements.required_capabilities", found, bound);
        }
        if let Some(Err(fault)) = self.requirements.condition.as_ref().map(Predicate::check) {
            return Err(RequestFault::Condition(fault));
        }
        if PARTICIPANTS_MAX < self.participants.len() {
            let found = format!("{} agents long", self.participants.len());
            let bound = format!("at most {PARTICIPANTS_MAX} are allowed");
            return outside("participants", found, bound);
        }
        if let Some(name) = self.participants.iter().find(|name| name.parse::<AgentId>().is_err()) {
            let name: String = name.chars().take(64).collect();
            let bound = "names and ids of agents are allowed".to_owned();
            return outside("participants", format!("a list with {name:?}"), bound);
        }
        self.check_strategy()
    }

    fn check_strategy(&self) -> Result<(), RequestFault> {
        let outside = |field, found: &str, bound: &str| {
            let (found, bound) = (found.to_owned(), bound.to_owned());
            Err(RequestFault::OutOfBounds { field, found, bound })
        };
        let key = self.sticky_key.as_deref();
        if let Some(key) = key.filter(|key| !(1..=STICKY_KEY_BYTES_MAX).contains(&key.len())) {
            let found = format!("{} bytes long", key.len());
            return outside("sticky_key", &found, "1 to 256 bytes are allowed");
        }
        match self.strategy {
            Some(Distribution::Sticky) if key.is_none() => {
                outside("sticky_key", "missing", "the strategy sticky needs one")
            }
            Some(Distribution::Direct) if self.participants.is_empty() => {
                outside("participants", "empty", "the strategy direct needs an agent")
            }
            Some(Distribution::Broadcast) if self.completion == Some(Completion::Quorum(0)) => {
                outside("completion", "a quorum of 0", "1 and more are allowed")
            }
            Some(Distribution::Broadcast) => Ok(()),
            _ if self.completion.is_some() => {
                outside("completion", "set", "it goes with the strategy broadcast only")
            }
            Some(
                Distribution::RoundRobin
                | Distribution::WeightedRoundRobin
                | Distribution::LeastLoaded
                | Distribution::PowerOfTwo
                | Distribution::Sticky
                | Distribution::Direct,
            )
            | None => Ok(()),
        }
    }
}

/// Where a task stands.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It waits for an agent, for the first time or again.
    Accepted,
    /// An agent was chosen.
    Assigned,
    /// The agent said that it works on it.
    Working,
    /// The agent waits for somebody's answer.
    InputRequired,
    /// It is done.
    Completed,
    /// No attempt succeeded.
    Failed,
    /// It was given up on request.
    Cancelled,
    /// Its deadline was over.
    Expired,
    /// It was no task.
    Rejected,
}

impl TaskState {
    /// All states in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Assigned,
        Self::Working,
        Self::InputRequired,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Rejected,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Assigned => "assigned",
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired | Self::Rejected => {
                true
            }
            Self::Accepted | Self::Assigned | Self::Working | Self::InputRequired => false,
        }
    }

    /// Whether an agent has it.
    #[must_use]
    pub fn is_held(self) -> bool {
        matches!(self, Self::Assigned | Self::Working | Self::InputRequired)
    }

    /// Whether it ends among the dead letters.
    #[must_use]
    pub fn is_dead(self) -> bool {
        matches!(self, Self::Failed | Self::Rejected)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A request on `coordination.cancel.<task_id>`; it may be empty.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Time that the agent has to give up; 10 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
