//! Downstreams, as actors, transport and web see them: reached, called, checked, listened to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ports::{BoxFuture, ServiceError};
use crate::protocol::command::CircuitSet;
use crate::protocol::downstream::{
    CallDone, CallError, CallOp, CallRequest, DownstreamStatus, ServiceHealth,
};
use crate::protocol::id::ChildName;
use crate::protocol::status::CircuitStatus;

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
