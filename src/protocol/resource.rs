//! Shared resources by NATS request: pools, locks and quotas, and their answers.
//!
//! Words: a *lease* is an amount of a resource that a holder has for a time; its *token* is a number
//! that grows with every lease of the resource, so that whoever guards the real thing can refuse a
//! holder whose lease has ended (fencing).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::id::{AgentId, Generation, SubjectId};

/// Largest request accepted, in bytes.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Longest holder and lease, in bytes.
pub const HOLDER_BYTES_MAX: usize = 128;

/// Time that a lease lasts when the request does not say.
pub const TTL_MS_DEFAULT: u64 = 30_000;

/// Shortest time that a lease may last.
pub const TTL_MS_MIN: u64 = 100;

/// Longest time that a lease may last (one day); it can be renewed.
pub const TTL_MS_MAX: u64 = 86_400_000;

/// Longest time that a request may wait (one hour).
pub const WAIT_MS_MAX: u64 = 3_600_000;

/// A request on `coordination.resources.<type>`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRequest {
    /// What is wanted.
    pub op: ResourceOp,
    /// Who asks: an agent's id or name, with whose run its leases end, or any other word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// How much; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u32>,
    /// How long the lease lasts unless it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How long to wait until there is enough; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// The lease. With `acquire` a name of the caller's choice: asking again with it is answered
    /// with the lease that there is. Without it `renew` and `release` mean all of the holder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// What is wanted of a resource.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceOp {
    /// A lease.
    Acquire,
    /// More time for a lease.
    Renew,
    /// The end of a lease.
    Release,
    /// A look at the resource.
    Status,
}

impl ResourceRequest {
    /// A request for a look.
    #[must_use]
    pub fn status() -> Self {
        Self {
            op: ResourceOp::Status,
            holder: None,
            amount: None,
            ttl_ms: None,
            wait_ms: None,
            lease: None,
        }
    }

    /// Checks the bounds, and that a holder is named where one is needed.
    ///
    /// # Errors
    ///
    /// [`ResourceError`] of kind `invalid_request` names the field, the value and the bound.
    pub fn check(&self) -> Result<(), ResourceError> {
        if self.op == ResourceOp::Status {
            return Ok(());
        }
        match &self.holder {
            None => {
                return Err(invalid("holder is missing", "say who asks, in holder"));
            }
            Some(holder) => word("holder", holder)?,
        }
        if let Some(lease) = &self.lease {
            word("lease", lease)?;
        }
        if self.amount == Some(0) {
            return Err(invalid("amount is 0; must be at least 1", "ask for 1 or more"));
        }
        if let Some(ttl) = self.ttl_ms.filter(|ttl| !(TTL_MS_MIN..=TTL_MS_MAX).contains(ttl)) {
            let text = format!("ttl_ms is {ttl}; {TTL_MS_MIN} to {TTL_MS_MAX} are allowed");
            return Err(invalid(text, "choose a time within the bounds and renew the lease"));
        }
        if let Some(wait) = self.wait_ms.filter(|wait| WAIT_MS_MAX < *wait) {
            let text = format!("wait_ms is {wait}; at most {WAIT_MS_MAX} are allowed");
            return Err(invalid(text, "wait for less and ask again"));
        }
        Ok(())
    }
}

fn word(field: &str, text: &str) -> Result<(), ResourceError> {
    if (1..=HOLDER_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let found = format!("{field} is {:?}", text.chars().take(40).collect::<String>());
    let bound = format!("1 to {HOLDER_BYTES_MAX} bytes without control characters are allowed");
    Err(invalid(format!("{found}; {bound}"), "choose a shorter word"))
}

fn invalid(message: impl Into<String>, hint: impl Into<String>) -> ResourceError {
    ResourceError::new(ResourceErrorKind::InvalidRequest, message, hint)
}

/// What a resource is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// One holder at a time.
    #[default]
    Lock,
    /// So much at a time.
    Pool,
    /// So much in any period; what was taken comes back with time alone.
    Quota,
}

/// A lease as its holder sees it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LeaseView {
    /// Name of the lease, for `renew` and `release`.
    pub lease: String,
    /// Who holds it.
    pub holder: String,
    /// How much.
    pub amount: u32,
    /// Grows with every lease of this resource.
    pub token: u64,
    /// Time until it ends unless it is renewed.
    pub expires_in_ms: u64,
}

/// A resource as readers see it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ResourceView {
    /// Name.
    pub name: SubjectId,
    /// What it is.
    pub kind: ResourceKind,
    /// How much there is, or may be taken in a period.
    pub capacity: u32,
    /// How much is free now.
    pub free: u32,
    /// Period of a quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// Leases, oldest first.
    pub leases: Vec<LeaseView>,
    /// Holders that wait, the next one first, with what they ask for.
    pub waiting: Vec<WaitingView>,
}

/// Somebody who waits.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct WaitingView {
    /// Who.
    pub holder: String,
    /// For how much.
    pub amount: u32,
    /// For how much longer.
    pub gives_up_in_ms: u64,
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceErrorKind {
    /// The request cannot be understood, or can never be met.
    InvalidRequest,
    /// No such resource is configured, and others are not allowed.
    UnknownResource,
    /// Not enough is free, and the wait is over.
    Exhausted,
    /// There is no such lease: it was never given, or it has ended.
    UnknownLease,
    /// Somebody else holds the lease.
    NotHolder,
    /// A part that is needed is away; it may be tried again.
    Unavailable,
    /// A fault of provost.
    Internal,
}

impl ResourceErrorKind {
    /// The stable error code of this kind.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "PV0301",
            Self::UnknownResource => "PV0302",
            Self::Exhausted => "PV0303",
            Self::UnknownLease => "PV0304",
            Self::NotHolder => "PV0305",
            Self::Unavailable => "PV0306",
            Self::Internal => "PV0307",
        }
    }
}

/// A refusal: what, and what to do.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ResourceError {
    /// Stable code.
    pub code: String,
    /// Kind.
    pub kind: ResourceErrorKind,
    /// What is wrong, with the value and the bound.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// When it may be worth asking again, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ResourceError {
    /// Builds a refusal; the code follows from the kind.
    #[must_use]
    pub fn new(
        kind: ResourceErrorKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            code: kind.code().to_owned(),
            kind,
            message: message.into(),
            hint: hint.into(),
            retry_after_ms: None,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ResourceAnswer {
    /// Whether it was done.
    pub ok: bool,
    /// The lease, after `acquire`, and after `renew` or `release` of one.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseView>,
    /// Leases renewed or released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The resource, after `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Box<ResourceView>>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ResourceError>,
}

impl ResourceAnswer {
    /// Done, with a lease to show.
    #[must_use]
    pub fn lease(lease: LeaseView) -> Self {
        Self { ok: true, lease: Some(lease), ..Self::default() }
    }

    /// Done to so many leases.
    #[must_use]
    pub fn done(leases: Vec<LeaseView>) -> Self {
        let count = u32::try_from(leases.len()).unwrap_or(u32::MAX);
        let only = if count == 1 { leases.into_iter().next() } else { None };
        Self { ok: true, lease: only, count: Some(count), ..Self::default() }
    }

    /// A look at the resource.
    #[must_use]
    pub fn resource(resource: ResourceView) -> Self {
        Self { ok: true, resource: Some(Box::new(resource)), ..Self::default() }
    }
}

impl From<ResourceError> for ResourceAnswer {
    fn from(error: ResourceError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// A resource as it is kept, so that it survives the daemon.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeptResource {
    /// Version of this document.
    pub v: u32,
    /// The last token given.
    pub token: u64,
    /// Leases by name.
    pub leases: BTreeMap<String, KeptLease>,
    /// What was taken of a quota: when, in milliseconds of Unix time, and how much.
    #[serde(default)]
    pub taken: Vec<(u64, u32)>,
}

/// A lease as it is kept.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeptLease {
    /// Who holds it.
    pub holder: String,
    /// The agent that the holder is, and its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<HolderRun>,
    /// How much.
    pub amount: u32,
    /// Token.
    pub token: u64,
    /// How long each renewal lasts.
    pub ttl_ms: u64,
    /// When it ends, in milliseconds of Unix time.
    pub ends_at_ms: u64,
}

/// One run of an agent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct HolderRun {
    /// The agent.
    pub agent: AgentId,
    /// Its generation.
    pub generation: Generation,
    /// Its process, if it is one: a run that another daemon adopts keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}
