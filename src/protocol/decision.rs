//! The decision record: why something was done, made from numbers, never from text.
//!
//! Supervision, breaker and routing code returns it; events, `explain`, logs and metrics are made
//! from it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::id::EventId;
use crate::protocol::route::Distribution;
use crate::protocol::spec::{OnExceeded, RestartType, Strategy};

/// Why something was done. A code, not a sentence.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The child ended and its restart type asks for a restart.
    ChildExited,
    /// A start failed and is tried again.
    StartFailed,
    /// The child ended cleanly and its restart type leaves it down.
    CleanExit,
    /// The child is temporary: it is never restarted.
    TemporaryExit,
    /// The child's own restart limit was exceeded.
    ChildLimitExceeded,
    /// The supervisor's restart intensity was exceeded.
    SupervisorLimitExceeded,
    /// The open time of the circuit is over.
    OpenTimeOver,
    /// The trial run failed, or a probe of a downstream.
    TrialFailed,
    /// The trial run stayed healthy for `stable_after`, or enough probes of a downstream succeeded.
    TrialPassed,
    /// Probes of a downstream were under way for too long.
    TrialTimedOut,
    /// Too many calls of a downstream failed in a row.
    FailureThreshold,
    /// Too large a share of the calls of a downstream failed.
    ErrorPercent,
    /// Too large a share of the calls of a downstream was slow.
    SlowPercent,
    /// The child ran healthily for `stable_after` after a restart.
    StableRun,
    /// The child or downstream is throttled and waits until the time it named.
    Throttled,
    /// A rule about ends, configured or built in, said what is to be done.
    ExitRule,
    /// A sibling's failure restarts this child, by strategy.
    SiblingFailed,
    /// The end of significant children ends the supervisor.
    AutoShutdown,
    /// Somebody asked for it.
    Requested,
    /// The daemon or the supervisor is shutting down.
    ShuttingDown,
    /// A child of this supervisor escalated.
    Escalated,
    /// Supervision is switched off: the child stays down.
    SupervisionDisabled,
    /// The agent told of the attempt's progress or end.
    AgentSaid,
    /// The attempt failed.
    AttemptFailed,
    /// The agent's run ended under the attempt.
    AgentGone,
    /// Nothing was heard of the attempt for its lease.
    LeaseExpired,
    /// The agent could not be given the task.
    Undelivered,
    /// The agent says that it does not have the task.
    Forgotten,
    /// The task's deadline is over.
    DeadlineOver,
    /// As many attempts failed as the task may have.
    AttemptsExhausted,
    /// The task failed on as many different agents as make a poison task.
    PoisonTask,
    /// The agent failed as many different tasks as make a sick agent.
    SickAgent,
    /// The submission is no task.
    BadSubmission,
    /// The result is of an attempt that does not count any more.
    LateResult,
    /// An agent was picked by the strategy.
    AgentPicked,
    /// The agent that its key or its name stands for was picked.
    AgentKept,
    /// The agent of the key is away: the key has moved to another.
    KeyMoved,
    /// The agents that take part were found.
    ParticipantsFound,
    /// No agent has what is needed.
    NoAgentMatches,
    /// Agents have what is needed, but none may be given work now.
    NoAgentRoutable,
    /// All slots of the agents that could do it are taken.
    AgentsFull,
    /// What is asked cannot be routed as it stands.
    NeedsIncomplete,
    /// Enough of those that take part have completed their part.
    CompletionReached,
    /// Too few of them are left to complete it.
    CompletionImpossible,
    /// The deadline has passed.
    DeadlinePassed,
}

/// One number, word or truth that a decision was made on.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Input {
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// A truth value.
    Flag(bool),
    /// A word.
    Word(String),
}

impl From<u64> for Input {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<u32> for Input {
    fn from(value: u32) -> Self {
        Self::Count(u64::from(value))
    }
}

impl From<f64> for Input {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Input {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&str> for Input {
    fn from(value: &str) -> Self {
        Self::Word(value.to_owned())
    }
}

impl From<String> for Input {
    fn from(value: String) -> Self {
        Self::Word(value)
    }
}

/// The numbers a decision was made on, by name; durations end in `_ms`.
// Shared, because several events tell the same ones.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq)]
#[schemars(transparent)]
pub struct Inputs(pub Arc<BTreeMap<Cow<'static, str>, Input>>);

impl Inputs {
    /// Adds one input.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Input>) -> Self {
        Arc::make_mut(&mut self.0).insert(Cow::Borrowed(name), value.into());
        self
    }
}

impl Serialize for Inputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(|inputs| Self(Arc::new(inputs)))
    }
}

/// The rule that a decision followed; absent parts did not apply.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Rule {
    /// Strategy of the supervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// How work is spread over agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// Restart type of the child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartType>,
    /// Restarts allowed in `period_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<u32>,
    /// Window of `intensity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// What happens when the limit is exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exceeded: Option<OnExceeded>,
    /// First open time of the circuit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_for_ms: Option<u64>,
    /// Healthy time that closes a trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_after_ms: Option<u64>,
    /// Where it was written, as `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The rule about ends that judged the run: where it was written, or `built in`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_rule: Option<String>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextKind {
    /// The child is started.
    Restart,
    /// The child and its group are restarted.
    RestartGroup,
    /// The circuit admits one trial run.
    Trial,
    /// The trial or run is judged stable.
    Stable,
    /// The supervisor ends and its parent decides.
    Escalate,
    /// The whole tree stops.
    StopTree,
    /// The child is stopped.
    Stop,
    /// Work goes to an agent.
    Assign,
    /// Work waits until an agent can take it.
    Wait,
    /// Nothing: the child stays as it is until somebody acts.
    None,
}

/// What happens next, and in how many milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NextAction {
    /// What.
    pub action: NextKind,
    /// In how many milliseconds; 0 is now.
    pub in_ms: u64,
}

/// Why something was done.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DecisionRecord {
    /// Code of the reason.
    pub reason: Reason,
    /// Numbers it was made on.
    pub inputs: Inputs,
    /// Rule that was followed.
    pub rule: Rule,
    /// Event that made the decision necessary.
    pub cause: Option<EventId>,
    /// What happens next.
    pub next: NextAction,
}
