//! What the actors need from outside and what they offer, as traits.
//!
//! Actors reach runtimes, adapters and transport only through these; tests script them.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::logic::beats::Line;
use crate::protocol::agent::{Beat, FromAgent, ToAgent};
use crate::protocol::command::{AgentCommand, Answer, CircuitSet, ControlCommand, OutboxStatus};
use crate::protocol::downstream::{
    CallDone, CallError, CallOp, CallRequest, DownstreamStatus, ServiceHealth,
};
use crate::protocol::exit::{ChildExit, ExitCodes, StartError};
use crate::protocol::fact::{Fact, HealthMetrics, Severity};
use crate::protocol::id::{AgentId, ChildName, EventId, Generation, SubjectId};
use crate::protocol::status::{CircuitStatus, Containment, HealthStatus, LimitHold, Readiness};

/// A future that can stand behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts the runs of one child. One object stands for one child and knows its spec.
pub trait AgentRuntime: fmt::Debug + Send + Sync + 'static {
    /// Begins one run and returns once it executes (a process: after a successful `exec`; a
    /// service: once it said that it is ready).
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is missing; nothing of the run is left then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready ends whatever it had begun.
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>>;

    /// Longest time a start may take before it counts as failed; `None` waits without limit, as
    /// for an agent that somebody else starts.
    fn start_timeout(&self) -> Option<Duration> {
        Some(START_TIMEOUT)
    }

    /// Whether the child is a downstream: what is told of it names it as one, and its own care
    /// tells its recovery.
    fn is_downstream(&self) -> bool {
        false
    }
}

/// Longest time of a start unless a runtime says otherwise.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One run under way. Dropping it ends the run at once, the whole process group included.
pub trait RunningAgent: fmt::Debug + Send + 'static {
    /// Process id, if the run is a process.
    fn pid(&self) -> Option<u32>;

    /// Waits for the end of the run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the exit is kept and the next call returns it.
    fn exited(&mut self) -> BoxFuture<'_, ChildExit>;

    /// Waits for what the run tells next. After [`RunNews::Exited`] there is nothing more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no news is lost, and the exit is kept and told again by the next call.
    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(async move { RunNews::Exited(self.exited().await) })
    }

    /// What is known of the run since it began.
    fn face(&self) -> RunFace {
        RunFace { pid: self.pid(), ..RunFace::default() }
    }

    /// How its main process ended, once it has; for an end that is told as something else.
    fn codes(&self) -> ExitCodes {
        ExitCodes::default()
    }

    /// Asks the run to stop (its stop signal); returns at once.
    fn ask_to_stop(&mut self);

    /// Ends the run and its whole process group; returns at once.
    fn kill(&mut self);

    /// Measures the run; null where a value cannot be known.
    fn measure(&mut self) -> HealthMetrics {
        HealthMetrics::default()
    }
}

/// What a run tells while it lives.
#[derive(Clone, Debug, PartialEq)]
pub enum RunNews {
    /// Its health or readiness changed.
    Health(RunHealth),
    /// It has ended, and nothing of it is left.
    Exited(ChildExit),
}

/// Health and readiness of a run that something speaks for: a probe, a beat, a notification.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RunHealth {
    /// Verdict.
    pub status: HealthStatus,
    /// Whether it can be given work.
    pub readiness: Readiness,
    /// Why, in words; empty when there is nothing to say.
    pub message: String,
}

/// What is known of a run when it begins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RunFace {
    /// Process id, if the run is a process.
    pub pid: Option<u32>,
    /// Whether it was begun for this start or lived before.
    pub origin: RunOrigin,
    /// What holds its processes together, if it has any.
    pub containment: Option<Containment>,
    /// Limits that are set, by name, and who holds them.
    pub limits: BTreeMap<String, LimitHold>,
    /// Its health, if something speaks for it from the beginning.
    pub health: Option<RunHealth>,
    /// Whether it was begun with the settings of now.
    pub spec: RunSpec,
}

/// Which settings a run was begun with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RunSpec {
    /// Those of now.
    #[default]
    Current,
    /// Others, from before; the next run gets those of now.
    Outdated,
}

/// Where a run comes from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RunOrigin {
    /// It was begun now.
    #[default]
    Begun,
    /// An earlier daemon, or an earlier keeper, had begun it.
    Adopted,
}

/// An event before it has an identity.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDraft {
    /// What happened.
    pub fact: Fact,
    /// What it is about: the subject's last token.
    pub about: SubjectId,
    /// Kind and name in the source URI, for example `agent/w1`.
    pub source: EventSource,
    /// How bad it is.
    pub severity: Severity,
    /// First event of the chain.
    pub correlation: Option<EventId>,
    /// Event that caused this one.
    pub causation: Option<EventId>,
    /// Run that it is about.
    pub generation: Option<Generation>,
}

/// Who raised an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventSource {
    /// Kind, for example `agent`, `supervisor`, `daemon`.
    pub kind: &'static str,
    /// Name of the child.
    pub name: ChildName,
}

/// Takes events. Never blocks: what cannot be kept is counted and told by a gap event.
pub trait EventSink: fmt::Debug + Send + Sync + 'static {
    /// Takes an event and returns the identity it was given.
    fn emit(&self, draft: EventDraft) -> EventId;

    /// How the outbox is doing.
    fn status(&self) -> OutboxStatus {
        OutboxStatus::default()
    }
}

/// Mints identities.
pub trait Ids: fmt::Debug + Send + Sync + 'static {
    /// A new UUID v7; ids of one process are in order of their making.
    fn uuid(&self) -> uuid::Uuid;

    /// A new event identity.
    fn event_id(&self) -> EventId {
        EventId::new(self.uuid())
    }

    /// A new agent identity.
    fn agent_id(&self) -> AgentId {
        AgentId::from(self.uuid())
    }
}

/// Tells wall time, for people and the wire only.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Gives the fraction that jitter is made of.
pub trait JitterSource: fmt::Debug + Send + Sync + 'static {
    /// A number in `0.0..=1.0`.
    fn fraction(&self) -> f64;
}

/// Remembers which runs were begun, so that generations are never used twice.
pub trait RunLog: fmt::Debug + Send + Sync + 'static {
    /// Notes that a run begins; returns at once.
    fn began(&self, child: &ChildName, generation: Generation);

    /// The last generation that was noted for a child; 0 when none was.
    fn last(&self, child: &ChildName) -> Generation;

    /// Whether a run from before this daemon is there, living or ended unseen, that the next start of
    /// the child adopts.
    fn is_to_be_adopted(&self, _child: &ChildName) -> bool {
        false
    }
}

/// Carries out commands. Implemented over the tree, used by transport and web.
pub trait CommandHandler: fmt::Debug + Send + Sync + 'static {
    /// Carries out one command of `agent.command`.
    fn agent_command(&self, command: AgentCommand) -> BoxFuture<'_, Answer>;

    /// Carries out one command of `system.control`.
    fn control(&self, command: ControlCommand) -> BoxFuture<'_, Answer>;
}

/// One running agent, as tasks see it. Both directions are bounded.
pub trait AgentChannel: fmt::Debug + Send + Sync + 'static {
    /// Hands a message over; returns at once.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Full`] when so much waits already that the message finds no room: it is
    /// refused whole. [`ChannelError::Closed`] when the run is over or takes nothing any more.
    fn send(&self, message: &ToAgent) -> Result<(), ChannelError>;

    /// Waits for what the agent says next; `None` when the run is over and all is received.
    /// A message counts as delivered when this returns it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost.
    fn receive(&self) -> BoxFuture<'_, Option<FromAgent>>;
}

/// Why a message to an agent was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChannelError {
    /// The agent, or the way to it, is not fast enough.
    #[error("{waiting} {unit} wait for the agent already; at most {bound} may")]
    Full {
        /// How much waits.
        waiting: usize,
        /// How much may.
        bound: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// The message is too long.
    #[error("message has {bytes} bytes; at most {bound} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        bound: usize,
    },
    /// The run is over, or takes nothing any more.
    #[error("the agent takes no messages any more")]
    Closed,
}

/// Takes the beats of agents that are started elsewhere.
pub trait BeatSink: fmt::Debug + Send + Sync + 'static {
    /// An agent has beaten; returns at once.
    fn beat(&self, beat: Beat);

    /// Whether beats can arrive at all has changed.
    fn line(&self, line: Line);
}

/// A message on its way to an agent that is started elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteOrder {
    /// The agent.
    pub agent: AgentId,
    /// The message.
    pub message: ToAgent,
}

/// A part of the daemon that runs as a child of the tree (A4).
pub trait Service: fmt::Debug + Send + Sync + 'static {
    /// Runs until `stop` is cancelled (then returns `Ok`) or until it fails.
    ///
    /// `ready` is called once it works; until then the service counts as starting.
    fn run(
        &self,
        stop: tokio_util::sync::CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>>;

    /// Longest time from the start to `ready`.
    fn start_timeout(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Tells that a service works. Dropping it unused tells nothing.
pub struct Ready(Box<dyn FnOnce() + Send>);

impl Ready {
    /// Wraps what is to be done when the service works.
    #[must_use]
    pub fn new(tell: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    /// Tells that the service works.
    pub fn tell(self) {
        (self.0)();
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// Why a service ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// The error in words, with what to do.
    pub message: String,
}

impl ServiceError {
    /// Builds an error from its text.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Reaches one downstream. One object stands for one downstream and knows its settings.
pub trait DownstreamConnector: fmt::Debug + Send + Sync + 'static {
    /// The kind, as the configuration names it.
    fn kind(&self) -> &'static str;

    /// Whether this kind has an operation.
    fn supports(&self, op: CallOp) -> bool;

    /// Connects (where there is something to connect) and subscribes to what is configured.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] says what is missing; nothing is left open then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes whatever it had opened.
    fn connect(
        &self,
        inbound: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>>;
}

/// One session with a downstream. Dropping it closes the session.
pub struct DownstreamSession {
    /// Makes calls.
    pub client: Arc<dyn DownstreamClient>,
    /// Drives the session, and so must be polled while it is in use; ends when the session does, with
    /// the reason. Never for kinds without a connection.
    pub ended: BoxFuture<'static, ServiceError>,
}

impl fmt::Debug for DownstreamSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownstreamSession").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Makes single attempts on one session. Retries, limits and the circuit stand around it.
pub trait DownstreamClient: fmt::Debug + Send + Sync + 'static {
    /// Makes one attempt, within `timeout`.
    ///
    /// # Errors
    ///
    /// [`AttemptError`] says what is known: whether it was sent, and whether to try again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up; whether the downstream carried it out is unknown.
    fn call(
        &self,
        request: Arc<CallRequest>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<serde_json::Value, AttemptError>>;

    /// Asks the downstream whether it works, within `timeout`; gives details in words, if any.
    ///
    /// # Errors
    ///
    /// As [`DownstreamClient::call`].
    fn check(&self, timeout: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>>;
}

/// Why one attempt failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", .error.message)]
pub struct AttemptError {
    /// What the caller is told if this was the last attempt.
    pub error: CallError,
    /// What is known of it.
    pub fate: AttemptFate,
}

/// What is known of an attempt that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttemptFate {
    /// It never reached the downstream: may be repeated.
    NotSent,
    /// It was sent and no answer came: may be repeated only where that does no harm (a safe method,
    /// an idempotency key).
    Unknown,
    /// The downstream refused it for now (429, 503 with Retry-After): may be repeated later; counts
    /// as throttling.
    Throttled,
    /// The downstream failed on it (5xx): a failure of the downstream; repeated like an unknown one.
    Failed,
    /// The downstream answered that the call is wrong (4xx, invalid params): no failure of the
    /// downstream, never repeated.
    Rejected,
}

/// What arrived on a subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// Topic, channel, subject or stream it came on.
    pub topic: String,
    /// The message; text that is no JSON comes as a string, bytes that are no text as base64 with
    /// `encoding` set.
    pub payload: serde_json::Value,
    /// `Some("base64")` for bytes that are no text.
    pub encoding: Option<&'static str>,
    /// Identity at the source (stream entry, packet), if it has one.
    pub id: Option<String>,
}

/// Checks all downstreams, for readers.
pub trait HealthChecks: fmt::Debug + Send + Sync + 'static {
    /// Checks every downstream now, all at the same time, each within its own deadline; sorted by
    /// name.
    fn check_all(&self) -> BoxFuture<'_, Vec<ServiceHealth>>;
}

/// Makes calls of downstreams for those who ask from outside the daemon.
pub trait DownstreamCalls: fmt::Debug + Send + Sync + 'static {
    /// Makes a call; `None` when there is no such downstream.
    fn call(
        &self,
        name: &ChildName,
        request: CallRequest,
    ) -> Option<BoxFuture<'static, Result<CallDone, CallError>>>;

    /// How a downstream is; `None` when there is no such.
    fn status(&self, name: &ChildName) -> Option<DownstreamStatus>;

    /// All downstreams, with the state of their circuits.
    fn circuits(&self) -> BTreeMap<ChildName, CircuitStatus>;

    /// Holds a circuit open or closed, or lets it judge again; `None` when there is no such
    /// downstream.
    fn set_circuit(&self, name: &ChildName, set: CircuitSet) -> Option<()>;
}

/// Takes what arrives on subscriptions.
pub trait InboundSink: fmt::Debug + Send + Sync + 'static {
    /// Takes one message; ready once it is kept, so that it may be confirmed at the source.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when it cannot be kept now: the source keeps it then, where it can.
    fn deliver(&self, message: Inbound) -> BoxFuture<'_, Result<(), ServiceError>>;
}
