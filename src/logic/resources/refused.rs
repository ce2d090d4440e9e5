//! Why a request about a resource is not met.

use crate::logic::resources::pool::{LEASES_MAX, WAITING_MAX};
use crate::protocol::resource::{ResourceError, ResourceErrorKind};

/// Why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// More than there ever is.
    #[error("amount is {amount}; the resource has {capacity} in all")]
    TooMuch {
        /// What was asked for.
        amount: u32,
        /// All there is.
        capacity: u32,
    },
    /// Not enough is free.
    #[error("{free} of {capacity} are free, {amount} are asked for, {ahead} holders wait before")]
    Exhausted {
        /// What was asked for.
        amount: u32,
        /// What is free.
        free: u32,
        /// All there is.
        capacity: u32,
        /// Who is served before.
        ahead: usize,
        /// When something comes free at the latest, as far as is known.
        retry_after_ms: Option<u64>,
    },
    /// No such lease.
    #[error("{lease:?} is no lease of this resource; it was never given or has ended")]
    UnknownLease {
        /// The lease, or the holder that has none.
        lease: String,
    },
    /// The lease is somebody else's.
    #[error("lease {lease:?} is held by another than {holder:?}")]
    NotHolder {
        /// The lease.
        lease: String,
        /// Who asked.
        holder: String,
    },
    /// The agent that asks has no run that could hold anything.
    #[error("holder {holder:?} is an agent that does not run; a lease would end at once")]
    HolderDown {
        /// Who asked.
        holder: String,
    },
    /// Too many leases.
    #[error("the resource has {LEASES_MAX} leases; no more are allowed")]
    TooManyLeases,
    /// Too many wait.
    #[error("{WAITING_MAX} holders wait for the resource; no more are allowed")]
    TooManyWaiting,
}

impl From<Refused> for ResourceError {
    fn from(refused: Refused) -> Self {
        let (kind, hint) = match &refused {
            Refused::TooMuch { .. } => {
                (ResourceErrorKind::InvalidRequest, "ask for less, or raise the capacity")
            }
            Refused::Exhausted { .. } => {
                (ResourceErrorKind::Exhausted, "wait with wait_ms, or ask again later")
            }
            Refused::UnknownLease { .. } => {
                (ResourceErrorKind::UnknownLease, "acquire it again before going on")
            }
            Refused::NotHolder { .. } => {
                (ResourceErrorKind::NotHolder, "only its holder may renew or release a lease")
            }
            Refused::HolderDown { .. } => {
                (ResourceErrorKind::InvalidRequest, "ask from within a run of the agent")
            }
            Refused::TooManyLeases | Refused::TooManyWaiting => {
                (ResourceErrorKind::Exhausted, "release leases that are not used, or ask later")
            }
        };
        let retry_after_ms = match &refused {
            Refused::Exhausted { retry_after_ms, .. } => *retry_after_ms,
            Refused::TooMuch { .. }
            | Refused::UnknownLease { .. }
            | Refused::NotHolder { .. }
            | Refused::HolderDown { .. }
            | Refused::TooManyLeases
            | Refused::TooManyWaiting => None,
        };
        Self { retry_after_ms, ..Self::new(kind, refused.to_string(), hint) }
    }
}
