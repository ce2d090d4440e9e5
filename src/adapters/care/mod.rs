//! One downstream as a child of the tree: connected, checked, told about, and started again.
//!
//! A run of the child is one session. It begins when the circuit lets it: connecting and the first
//! check are a trial like any other, so that a downstream that is out is not hammered, and there is
//! one account of its faults for calls, sessions and checks. The run ends when the session does,
//! when checks fail as often in a row as allowed, or when the circuit opens and the check that this
//! asks for fails, too; the supervisor then starts the next.
//!
//! A check of a half-open circuit is its probe: recovery needs no caller. A check of a closed one
//! counts when it fails and not when it succeeds; else a health path that works would hide calls
//! that do not.
//!
//! `life` is one session's, `runtime` makes runs of them, `tell` raises the events, `desk` is all downstreams together for
//! those that call them or ask how they are.

mod desk;
mod life;
mod runtime;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::call::CallPath;
use crate::adapters::care::tell::Teller;
use crate::logic::severity::Topic;
use crate::ports::{
    AttemptError, AttemptFate, DownstreamClient, EventSink, InboundSink, WallClock,
};
use crate::protocol::downstream::{CallError, CallErrorKind, ServiceHealth, ServiceVerdict};
use crate::protocol::fact::Severity;

pub use crate::adapters::care::desk::{Desk, FRESH, state_with};
pub use crate::adapters::care::runtime::{CareRuntime, Start};

/// How a downstream is looked after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CareRules {
    /// Time between two checks.
    pub interval: Duration,
    /// Longest time for one check.
    pub timeout: Duration,
    /// Failed checks in a row that end the session.
    pub failure_threshold: u32,
}

/// What the care of downstreams needs from outside.
#[derive(Clone, Debug)]
pub struct CarePorts {
    /// Takes events.
    pub sink: Arc<dyn EventSink>,
    /// Tells wall time.
    pub clock: Arc<dyn WallClock>,
    /// Severities that differ from the table.
    pub severities: Arc<BTreeMap<Topic, Severity>>,
}

/// One downstream: its way of calls, and how it is.
#[derive(Debug)]
pub struct Downstream {
    path: Arc<CallPath>,
    rules: CareRules,
    inbound: Arc<dyn InboundSink>,
    teller: Teller,
    clock: Arc<dyn WallClock>,
    last: Mutex<Last>,
}

/// The last check, or why there is none.
#[derive(Debug, Default)]
struct Last {
    check: Option<(Instant, ServiceHealth)>,
    /// Why there is no session.
    away: Option<String>,
}

impl Downstream {
    /// A downstream without a session. `origin` is where it was declared.
    #[must_use]
    pub fn new(
        path: CallPath,
        rules: CareRules,
        inbound: Arc<dyn InboundSink>,
        ports: &CarePorts,
        origin: Option<String>,
    ) -> Self {
        let teller = Teller::new(path.name().clone(), ports.clone(), origin);
        let clock = Arc::clone(&ports.clock);
        let path = Arc::new(path);
        Self { path, rules, inbound, teller, clock, last: Mutex::default() }
    }

    /// The way of its calls.
    #[must_use]
    pub fn path(&self) -> &CallPath {
        &self.path
    }

    /// Sets the downstream that answers in this one's place; the first one stays.
    pub fn fall_back_to(&self, other: &Self) {
        self.path.fall_back_to(&other.path);
    }

    /// How it was when it was looked at last.
    #[must_use]
    pub fn health(&self) -> Option<ServiceHealth> {
        lock(&self.last).check.as_ref().map(|(_, health)| health.clone())
    }

    /// How it is: as it was seen within the last `fresh`, or as it is seen now.
    pub async fn look(&self, fresh: Duration) -> ServiceHealth {
        let known = lock(&self.last).check.clone();
        if let Some((at, health)) = known
            && at.elapsed() <= fresh
        {
            return health;
        }
        match self.path.client() {
            Some(client) => self.check(&client).await.0,
            None => self.away(),
        }
    }

    /// Asks it whether it works; keeps the answer.
    async fn check(
        &self,
        client: &Arc<dyn DownstreamClient>,
    ) -> (ServiceHealth, Result<(), AttemptError>) {
        let began = Instant::now();
        let limit = self.rules.timeout;
        // The adapter keeps the time itself; this is for one that does not.
        let asked = tokio::time::timeout(limit, client.check(limit)).await;
        let asked = asked.unwrap_or_else(|_elapsed| {
            let text = format!("no answer within {} ms", limit.as_millis());
            let error = CallError::new(CallErrorKind::Timeout, text);
            Err(AttemptError { error, fate: AttemptFate::Unknown })
        });
        let latency_ms = began.elapsed().as_secs_f64() * 1000.0;
        let (status, details) = match &asked {
            Ok(details) => (ServiceVerdict::Up, details.clone()),
            Err(error) => {
                let status = match error.error.kind {
                    CallErrorKind::InvalidRequest | CallErrorKind::Unsupported => {
                        ServiceVerdict::Error
                    }
                    CallErrorKind::CircuitOpen
                    | CallErrorKind::BulkheadFull
                    | CallErrorKind::RateLimited
                    | CallErrorKind::Timeout
                    | CallErrorKind::RemoteError
                    | CallErrorKind::Unavailable => ServiceVerdict::Down,
                };
                (status, Some(error.error.message.clone()))
            }
        };
        let made = status != ServiceVerdict::Error;
        let health = ServiceHealth {
            name: self.path.name().clone(),
            status,
            latency_ms: made.then_some(latency_ms),
            last_check: self.clock.now(),
            details,
        };
        lock(&self.last).check = Some((Instant::now(), health.clone()));
        (health, asked.map(|_details| ()))
    }

    /// There is nobody to ask.
    fn away(&self) -> ServiceHealth {
        let why = lock(&self.last).away.clone();
        ServiceHealth {
            name: self.path.name().clone(),
            status: ServiceVerdict::Down,
            latency_ms: None,
            last_check: self.clock.now(),
            details: Some(why.map_or_else(
                || "not connected yet".to_owned(),
                |why| format!("not connected: {why}"),
            )),
        }
    }

    /// The session is over.
    fn left(&self, why: &str) {
        self.path.disconnected();
        let mut last = lock(&self.last);
        last.away = Some(why.to_owned());
        last.check = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
