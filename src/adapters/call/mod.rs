//! The way of a call: everything that stands around the attempts of an adapter.
//!
//! ```text
//! deadline -> fallback( rate limit -> circuit's permit -> bulkhead -> retry( budget -> timeout -> adapter ))
//! ```
//!
//! - One call is one permit and one result for the circuit: that of its last attempt. So the number
//!   of attempts does not change how many failing calls open it. A call is repeated only while the
//!   circuit is closed.
//! - What we refuse ourselves (rate, open circuit, bulkhead, a deadline that is over before anything
//!   was sent, no session) is no failure of the downstream and gives the permit back uncounted.
//! - An attempt of which nobody knows whether it was carried out is repeated only where that does no
//!   harm; so is a hedge, a second attempt beside a slow first one.
//! - Retries and hedges share one budget.
//! - A call that its caller drops, at whatever moment, gives back its permit, its place in the
//!   bulkhead and its turn in the queue.
//!
//! The path outlives the sessions: while there is none, calls are answered `unavailable` at once.

mod attempts;
mod counts;
mod doors;
mod fallback;
mod judge;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::adapters::breaker::{Breaker, Ticks};
use crate::adapters::call::counts::Tallies;
use crate::adapters::call::doors::{Bulkhead, Limiter};
use crate::adapters::call::judge::Failed;
use crate::config::{Fallback, Resilience};
use crate::logic::breaker::config::millis;
use crate::logic::breaker::{Outcome, Rejection};
use crate::logic::call::{LastGood, key_of, repetition};
use crate::logic::retry::{Budget, BudgetConfig, Repetition, RetryConfig};
use crate::ports::{DownstreamClient, DownstreamConnector, JitterSource};
use crate::protocol::downstream::{
    CallCounts, CallDone, CallError, CallErrorKind, CallOp, CallRequest, DEADLINE_MS_MAX,
};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::ChildName;
use crate::protocol::status::CircuitState;

pub(crate) use crate::adapters::call::counts::Well;
pub(crate) use crate::adapters::call::judge::check_outcome;

/// What a path is made with, besides its settings.
#[derive(Clone)]
pub struct PathPorts {
    /// The clock of the circuits.
    pub ticks: Arc<Ticks>,
    /// Draws delays.
    pub jitter: Arc<dyn JitterSource>,
}

impl fmt::Debug for PathPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PathPorts")
    }
}

/// The way of the calls of one downstream.
#[derive(Debug)]
pub struct CallPath {
    name: ChildName,
    connector: Arc<dyn DownstreamConnector>,
    rules: Rules,
    breaker: Breaker,
    limiter: Option<Limiter>,
    bulkhead: Bulkhead,
    budget: Mutex<Budget>,
    last_good: Mutex<LastGood>,
    session: Mutex<Option<Arc<dyn DownstreamClient>>>,
    /// The downstream that answers in this one's place.
    other: OnceLock<Weak<Self>>,
    tallies: Tallies,
    origin: Instant,
    jitter: Arc<dyn JitterSource>,
}

/// What a call follows.
#[derive(Debug)]
struct Rules {
    timeout: Duration,
    retry: RetryConfig,
    idempotent: BTreeSet<String>,
    hedge_after: Option<Duration>,
    fallback: Fallback,
}

/// A call that was taken.
#[derive(Debug)]
struct Asked {
    request: Arc<CallRequest>,
    repetition: Repetition,
    deadline: Option<Instant>,
}

impl CallPath {
    /// A path without a session.
    #[must_use]
    pub fn new(
        name: ChildName,
        connector: Arc<dyn DownstreamConnector>,
        resilience: &Resilience,
        ports: &PathPorts,
    ) -> Self {
        let retry = &resilience.retry;
        let rules = Rules {
            timeout: resilience.timeout,
            retry: RetryConfig {
                max_attempts: retry.max_attempts,
                initial: retry.initial,
                multiplier: retry.multiplier,
                max: retry.max,
                ..RetryConfig::default()
            },
            idempotent: retry.idempotent_methods.clone(),
            hedge_after: resilience.hedge_after,
            fallback: resilience.fallback.clone(),
        };
        Self {
            name,
            connector,
            rules,
            breaker: Breaker::new(resilience.breaker, Arc::clone(&ports.ticks)),
            limiter: resilience.rate_limit.and_then(Limiter::new),
            bulkhead: Bulkhead::new(
                resilience.max_concurrent,
                resilience.max_waiting,
                resilience.max_wait,
            ),
            budget: Mutex::new(Budget::new(BudgetConfig::default(), 0)),
            last_good: Mutex::default(),
            session: Mutex::default(),
            other: OnceLock::new(),
            tallies: Tallies::default(),
            origin: Instant::now(),
            jitter: Arc::clone(&ports.jitter),
        }
    }

    /// The downstream.
    #[must_use]
    pub fn name(&self) -> &ChildName {
        &self.name
    }

    /// What reaches it.
    #[must_use]
    pub fn connector(&self) -> &Arc<dyn DownstreamConnector> {
        &self.connector
    }

    /// Its circuit.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Counts since it was made.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.tallies.counts()
    }

    /// Calls under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        u32::try_from(self.bulkhead.taken()).unwrap_or(u32::MAX)
    }

    /// Sets the downstream that answers in this one's place; the first one stays.
    pub fn fall_back_to(&self, other: &Arc<Self>) {
        self.other.get_or_init(|| Arc::downgrade(other));
    }

    /// From now on calls go over this session.
    pub fn connected(&self, client: Arc<dyn DownstreamClient>) {
        *lock(&self.session) = Some(client);
    }

    /// There is no session any more.
    pub fn disconnected(&self) {
        *lock(&self.session) = None;
    }

    /// The present session's client.
    #[must_use]
    pub fn client(&self) -> Option<Arc<dyn DownstreamClient>> {
        lock(&self.session).clone()
    }

    /// What was seen of it within the last `passed`; begins anew.
    #[must_use]
    pub fn measure(&self, passed: Duration) -> HealthMetrics {
        self.tallies.measure(passed)
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// [`CallError`] with what went wrong, and when to try again where that is known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the call up and everything that it holds; whether the downstream
    /// carried it out is unknown.
    pub async fn call(&self, request: CallRequest) -> Result<CallDone, CallError> {
        self.tallies.taken();
        let answer = match self.take(request) {
            Ok(asked) => match Box::pin(self.live(&asked)).await {
                Ok(done) => {
                    self.keep(&asked, &done);
                    Ok(done)
                }
                Err(failed) => self.fall_back(&asked, failed).await,
            },
            Err(failed) => Err(failed.error),
        };
        self.tallies.ended(&answer);
        crate::metrics::downstream_called(outcome_of(&answer));
        answer
    }

    fn take(&self, request: CallRequest) -> Result<Asked, Failed> {
        self.check(&request)?;
        let repetition = repetition(self.connector.kind(), &request, &self.rules.idempotent);
        let deadline =
            request.deadline_ms.map(|deadline| Instant::now() + Duration::from_millis(deadline));
        Ok(Asked { request: Arc::new(request), repetition, deadline })
    }

    fn check(&self, request: &CallRequest) -> Result<(), Failed> {
        if let Some(deadline) = request.deadline_ms.filter(|deadline| DEADLINE_MS_MAX < *deadline) {
            let text = format!("deadline_ms is {deadline}; at most {DEADLINE_MS_MAX} are allowed");
            return Err(Failed::wrong(CallErrorKind::InvalidRequest, text));
        }
        if self.connector.supports(request.op) {
            return Ok(());
        }
        let has = CallOp::ALL.into_iter().filter(|op| self.connector.supports(*op));
        let has: Vec<&str> = has.map(CallOp::as_str).collect();
        let text = format!(
            "{} is {} and has no {}; it has {}",
            self.name,
            self.connector.kind(),
            request.op.as_str(),
            has.join(", ")
        );
        Err(Failed::wrong(CallErrorKind::Unsupported, text))
    }

    /// Makes a call on the downstream itself: everything but the fallback.
    async fn live(&self, asked: &Asked) -> Result<CallDone, Failed> {
        if asked.left() == Some(Duration::ZERO) {
            return Err(asked.too_late());
        }
        if let Some(Err(wait)) = self.limiter.as_ref().map(Limiter::pass) {
            let text = format!("more calls of {} than its rate limit allows", self.name);
            // Rounded up: who comes back at the named time passes.
            let wait = millis(wait).saturating_add(1);
            return Err(Failed::refused(CallErrorKind::RateLimited, text, Some(wait)));
        }
        let permit = self.breaker.acquire().map_err(|rejection| self.rejected(rejection))?;
        let place = self.bulkhead.enter(asked.left()).await.map_err(|full| {
            let text = format!("{}: {full}", self.name);
            Failed::refused(CallErrorKind::BulkheadFull, text, None)
        })?;
        let (result, outcome) = self.attempts(asked).await;
        permit.settle(outcome);
        drop(place);
        result
    }

    fn rejected(&self, rejection: Rejection) -> Failed {
        let state = match rejection.state {
            CircuitState::HalfOpen => "half open, and as many probes as allowed are under way",
            CircuitState::ForcedOpen => "held open by hand",
            CircuitState::Open | CircuitState::Closed | CircuitState::ForcedClosed => "open",
        };
        let text = format!("the circuit of {} is {state}", self.name);
        Failed::refused(CallErrorKind::CircuitOpen, text, rejection.retry_after_ms)
    }

    /// Keeps the answer of a call that only asks.
    fn keep(&self, asked: &Asked, done: &CallDone) {
        let asks =
            asked.request.op == CallOp::Request && asked.repetition == Repetition::Idempotent;
        if self.rules.fallback.cache.is_none() || !asks {
            return;
        }
        let answer = Arc::new(done.result.clone());
        let bytes = done.result.to_string().len();
        lock(&self.last_good).keep(self.now_ms(), key_of(&asked.request), answer, bytes);
    }

    fn now_ms(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

impl Asked {
    /// Time until the deadline.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn too_late(&self) -> Failed {
        let text = format!(
            "the deadline of {} ms was over before anything was sent",
            self.request.deadline_ms.unwrap_or_default()
        );
        Failed::refused(CallErrorKind::Timeout, text, None)
    }
}

/// The label of a call's end.
fn outcome_of(answer: &Result<CallDone, CallError>) -> &'static str {
    match answer {
        Ok(done) => done.source.as_str(),
        Err(error) => error.kind.as_str(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of attempts, and what it says about the downstream.
type Ended = (Result<CallDone, Failed>, Outcome);

/// A value with the attempts it took.
type Tried = (Result<Value, crate::ports::AttemptError>, u32);
