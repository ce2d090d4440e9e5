//! Calls to downstreams: what is asked, what is answered, and how a downstream is doing.
//!
//! On the wire an answer is `{"ok":true,…}` or `{"ok":false,"error":{…}}`. Not for how a
//! downstream is reached (`adapters/`) or when it is left alone (`logic::breaker`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::id::ChildName;
use crate::protocol::status::{AgentState, CircuitStatus};

/// Largest call accepted, in bytes.
pub const CALL_BYTES_MAX: usize = 1024 * 1024;

/// Longest deadline accepted in a call, in milliseconds (one hour).
pub const DEADLINE_MS_MAX: u64 = 3_600_000;

/// What a call asks a downstream for. An adapter that lacks one answers `unsupported`.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CallOp {
    /// Asks and waits for the answer.
    Request,
    /// Sends to whoever listens.
    Publish,
    /// Puts into a queue.
    Enqueue,
    /// Takes out of a queue.
    Dequeue,
    /// Confirms what was taken out.
    Ack,
}

impl CallOp {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Request, Self::Publish, Self::Enqueue, Self::Dequeue, Self::Ack];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Publish => "publish",
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
            Self::Ack => "ack",
        }
    }
}

/// A call: a request on `downstream.<name>.call`, or of a Rust handle.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// What is asked for.
    pub op: CallOp,
    /// Method: of HTTP (GET when absent) or JSON-RPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path added to the endpoint's, for HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Topic, channel, subject, stream or list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Parameters, body or message.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
    /// Headers, where the kind has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Time for the whole call with all its attempts, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Makes a repetition harmless: calls with the same key are one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl CallRequest {
    /// A call with nothing but its operation.
    #[must_use]
    pub fn new(op: CallOp) -> Self {
        Self {
            op,
            method: None,
            path: None,
            topic: None,
            params: Value::Null,
            headers: BTreeMap::new(),
            deadline_ms: None,
            idempotency_key: None,
        }
    }
}

/// Where a result comes from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallSource {
    /// From the downstream, now.
    #[default]
    Live,
    /// From a fallback: a static answer or another downstream.
    Fallback,
    /// From the last good answer.
    Cache,
}

impl CallSource {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Fallback => "fallback",
            Self::Cache => "cache",
        }
    }
}

/// A call that succeeded.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CallDone {
    /// The result.
    pub result: Value,
    /// Where it comes from.
    pub source: CallSource,
    /// Age of a cached result in milliseconds; 0 for a live one.
    pub age_ms: u64,
    /// Attempts that were made.
    pub attempts: u32,
}

/// Kinds of failed calls. The first four are provost's own refusals: the downstream never saw them,
/// and they never count as its failures.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CallErrorKind {
    /// The circuit is open.
    CircuitOpen,
    /// As many calls as allowed are under way.
    BulkheadFull,
    /// The rate limit is used up, ours or the downstream's.
    RateLimited,
    /// The call itself is wrong.
    InvalidRequest,
    /// The adapter does not have this operation.
    Unsupported,
    /// The time was over; whether the downstream carried the call out is not known.
    Timeout,
    /// The downstream answered with an error.
    RemoteError,
    /// The downstream cannot be reached.
    Unavailable,
}

impl CallErrorKind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::BulkheadFull => "bulkhead_full",
            Self::RateLimited => "rate_limited",
            Self::InvalidRequest => "invalid_request",
            Self::Unsupported => "unsupported",
            Self::Timeout => "timeout",
            Self::RemoteError => "remote_error",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// Kind.
    pub kind: CallErrorKind,
    /// What happened, in words.
    pub message: String,
    /// Code of the downstream's own: HTTP status, JSON-RPC code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// When to try again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The error's own data, as the downstream gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Value>>,
}

impl CallError {
    /// An error with nothing but its kind and text.
    #[must_use]
    pub fn new(kind: CallErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, retry_after_ms: None, data: None }
    }
}

/// The answer to a call on the wire: what it came to, or why not.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CallAnswer {
    /// Whether it succeeded.
    pub ok: bool,
    /// What it came to.
    #[serde(flatten)]
    pub done: Option<CallDone>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CallError>,
}

impl From<Result<CallDone, CallError>> for CallAnswer {
    fn from(answer: Result<CallDone, CallError>) -> Self {
        match answer {
            Ok(done) => Self { ok: true, done: Some(done), error: None },
            Err(error) => Self { ok: false, done: None, error: Some(error) },
        }
    }
}

/// Verdict about a downstream, as `/health/all` shows it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceVerdict {
    /// It answered well.
    #[serde(rename = "UP")]
    Up,
    /// It answered badly or not at all.
    #[serde(rename = "DOWN")]
    Down,
    /// The check could not be made.
    #[serde(rename = "ERROR")]
    Error,
}

/// One downstream in `/health/all`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ServiceHealth {
    /// Name.
    pub name: ChildName,
    /// Verdict.
    pub status: ServiceVerdict,
    /// Time of the check; null when it could not be made.
    pub latency_ms: Option<f64>,
    /// When it was checked.
    pub last_check: Timestamp,
    /// What was found, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// Counts of one downstream since it was made.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CallCounts {
    /// Calls taken.
    pub calls: u64,
    /// Calls that succeeded, fallbacks included.
    pub succeeded: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that provost refused: circuit, bulkhead, rate.
    pub refused: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Answers from a fallback.
    pub fallbacks: u64,
}

/// Answer of `downstream.<name>.status`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DownstreamStatus {
    /// Name.
    pub name: ChildName,
    /// Kind, as configured.
    #[serde(rename = "type")]
    pub kind: String,
    /// State of its child in the tree.
    pub state: AgentState,
    /// Circuit.
    pub circuit: CircuitStatus,
    /// Counts.
    pub counts: CallCounts,
    /// Calls under way.
    pub in_flight: u32,
    /// Last health check, if there was one.
    pub health: Option<ServiceHealth>,
}
