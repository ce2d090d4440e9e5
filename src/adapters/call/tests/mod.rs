//! Tests of the policies in virtual time, with clients that do as told: one table for each policy.

mod cancel;
mod fallbacks;
mod policies;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::adapters::breaker::Ticks;
use crate::adapters::call::{CallPath, PathPorts, lock};
use crate::config::{Fallback, Resilience, Retry};
use crate::logic::breaker::BreakerConfig;
use crate::ports::{
    AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession,
    InboundSink, JitterSource, ServiceError,
};
use crate::protocol::downstream::{CallError, CallErrorKind, CallOp, CallRequest};

/// One attempt: after a time it comes to this.
pub(super) type Step = (u64, Result<Value, AttemptError>);

/// An attempt with a fate, after a time.
pub(super) fn fails(after_ms: u64, fate: AttemptFate) -> Step {
    let kind = match fate {
        AttemptFate::NotSent => CallErrorKind::Unavailable,
        AttemptFate::Unknown => CallErrorKind::Timeout,
        AttemptFate::Throttled => CallErrorKind::RateLimited,
        AttemptFate::Failed | AttemptFate::Rejected => CallErrorKind::RemoteError,
    };
    let code = Some(500);
    let error = CallError { code, ..CallError::new(kind, format!("{fate:?}")) };
    (after_ms, Err(AttemptError { error, fate }))
}

pub(super) fn throttles(retry_after_ms: u64) -> Step {
    let (after, mut result) = fails(0, AttemptFate::Throttled);
    if let Err(error) = &mut result {
        error.error.retry_after_ms = Some(retry_after_ms);
    }
    (after, result)
}

pub(super) fn works(after_ms: u64) -> Step {
    (after_ms, Ok(json!("well")))
}

/// A client that does as told, attempt by attempt; the last step repeats.
#[derive(Debug)]
pub(super) struct Scripted {
    steps: Mutex<VecDeque<Step>>,
    began: Mutex<Vec<u64>>,
    running: Arc<AtomicUsize>,
    origin: Instant,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl DownstreamClient for Scripted {
    fn call(
        &self,
        _request: Arc<CallRequest>,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let mut steps = lock(&self.steps);
        let (after, result) = match steps.len() {
            0 => works(0),
            1 => steps[0].clone(),
            _ => steps.pop_front().unwrap(),
        };
        lock(&self.began).push(u64::try_from(self.origin.elapsed().as_millis()).unwrap());
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(Arc::clone(&self.running));
        Box::pin(async move {
            let _running = running;
            tokio::time::sleep(Duration::from_millis(after)).await;
            result
        })
    }

    fn check(&self, _: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        Box::pin(async { Ok(None) })
    }
}

/// A connector that is asked for nothing but its kind.
#[derive(Debug)]
struct Kind(&'static str);

impl DownstreamConnector for Kind {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn supports(&self, op: CallOp) -> bool {
        matches!(op, CallOp::Request | CallOp::Publish)
    }

    fn connect(
        &self,
        _: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>> {
        Box::pin(async { Err(ServiceError::new("scripted")) })
    }
}

/// Always draws the whole delay.
#[derive(Debug)]
struct Whole;

impl JitterSource for Whole {
    fn fraction(&self) -> f64 {
        1.0
    }
}

/// Settings with nothing that would get into a test's way.
pub(crate) fn plain() -> Resilience {
    Resilience {
        timeout: Duration::from_secs(1),
        max_concurrent: 100,
        max_waiting: 100,
        max_wait: Duration::ZERO,
        hedge_after: None,
        retry: Retry {
            max_attempts: 3,
            initial: Duration::from_millis(100),
            multiplier: 2.0,
            max: Duration::from_secs(30),
            idempotent_methods: BTreeSet::new(),
        },
        breaker: BreakerConfig {
            failure_threshold: None,
            error_percent: None,
            slow_percent: None,
            jitter: 0.0,
            ..BreakerConfig::default()
        },
        rate_limit: None,
        fallback: Fallback::default(),
    }
}

/// A path with a scripted session, and the circuits' clock beside tokio's.
pub(super) struct Bench {
    pub(super) path: Arc<CallPath>,
    pub(super) client: Arc<Scripted>,
    origin: Instant,
    _clock: JoinSet<()>,
}

impl Bench {
    pub(super) fn new(resilience: &Resilience, steps: impl IntoIterator<Item = Step>) -> Self {
        Self::of("http", resilience, steps)
    }

    pub(super) fn of(
        kind: &'static str,
        resilience: &Resilience,
        steps: impl IntoIterator<Item = Step>,
    ) -> Self {
        let origin = Instant::now();
        let ticks = Ticks::manual();
        let mut clock = JoinSet::new();
        let moved = Arc::clone(&ticks);
        clock.spawn(async move {
            loop {
                moved.set_ms(u64::try_from(origin.elapsed().as_millis()).unwrap());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let ports = PathPorts { ticks, jitter: Arc::new(Whole) };
        let name = "backend".parse().unwrap();
        let path = CallPath::new(name, Arc::new(Kind(kind)), resilience, &ports);
        let client = Arc::new(Scripted {
            steps: Mutex::new(steps.into_iter().collect()),
            began: Mutex::default(),
            running: Arc::default(),
            origin,
        });
        path.connected(Arc::<Scripted>::clone(&client));
        Self { path: Arc::new(path), client, origin, _clock: clock }
    }

    /// Milliseconds since the bench was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap()
    }

    /// When attempts began.
    pub(super) fn began(&self) -> Vec<u64> {
        lock(&self.client.began).clone()
    }

    /// Attempts under way at the client.
    pub(super) fn running(&self) -> usize {
        self.client.running.load(Ordering::SeqCst)
    }
}

pub(super) fn get() -> CallRequest {
    CallRequest { method: Some("GET".to_owned()), ..CallRequest::new(CallOp::Request) }
}

pub(super) fn post() -> CallRequest {
    CallRequest { method: Some("POST".to_owned()), ..CallRequest::new(CallOp::Request) }
}

pub(super) fn within(call: CallRequest, deadline_ms: u64) -> CallRequest {
    CallRequest { deadline_ms: Some(deadline_ms), ..call }
}

pub(super) fn keyed(call: CallRequest) -> CallRequest {
    CallRequest { idempotency_key: Some("k-1".to_owned()), ..call }
}

pub(super) async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
