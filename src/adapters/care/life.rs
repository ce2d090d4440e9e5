//! One session's life: connected, checked, looked after, given up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::adapters::breaker::Permit;
use crate::adapters::call::check_outcome;
use crate::adapters::care::Downstream;
use crate::logic::breaker::Outcome;
use crate::logic::call::Up;
use crate::ports::{
    AttemptError, BoxFuture, DownstreamClient, DownstreamSession, InboundSink, RunHealth,
    ServiceError,
};
use crate::protocol::downstream::{ServiceHealth, ServiceVerdict};
use crate::protocol::exit::{ChildExit, ExitCodes};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::status::{CircuitState, HealthStatus, Readiness};

/// Longest time for a connection to be made, whatever the adapter's own.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// Longest wait before the circuit is looked at again, whoever may have forgotten to tell.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The life of one session.
pub(super) struct Life {
    downstream: Arc<Downstream>,
    stop: CancellationToken,
    news: mpsc::Sender<RunHealth>,
    up: Option<oneshot::Sender<()>>,
    /// Checks that failed in a row.
    failures: u32,
    measured: Instant,
}

/// Takes the session out of the path however its life ends.
struct Connected<'a>(&'a Downstream);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.path.disconnected();
    }
}

impl Life {
    /// A session that is yet to begin.
    pub(super) fn new(
        downstream: Arc<Downstream>,
        stop: CancellationToken,
        news: mpsc::Sender<RunHealth>,
        up: oneshot::Sender<()>,
    ) -> Self {
        Self { downstream, stop, news, up: Some(up), failures: 0, measured: Instant::now() }
    }

    /// Lives until it is asked to stop, or cannot go on.
    pub(super) async fn live(mut self) -> ChildExit {
        let downstream = Arc::clone(&self.downstream);
        let stop = self.stop.clone();
        let connected = Connected(&downstream);
        // Cancelled at the end only: what is under way is given up, and the session closed.
        let exit = stop.run_until_cancelled(self.session(&downstream)).await;
        drop(connected);
        exit.unwrap_or(ChildExit::Stopped)
    }

    /// One session, from the circuit's leave to its end.
    async fn session(&mut self, downstream: &Downstream) -> ChildExit {
        let permit = self.leave(downstream).await;
        downstream.teller.tried();
        let session = match connect(downstream).await {
            Ok(session) => session,
            Err(error) => {
                permit.error();
                return self.lost(downstream, error.message);
            }
        };
        let DownstreamSession { client, ended } = session;
        let mut ended = ended;
        let (health, answer) = tokio::select! {
            // The check is given up with the session that it was made on.
            error = &mut ended => {
                permit.error();
                return self.lost(downstream, error.message);
            }
            checked = downstream.check(&client) => checked,
        };
        match &answer {
            Ok(()) => permit.ok(),
            Err(error) => permit.settle(check_outcome(error)),
        }
        if let Err(error) = &answer
            && check_outcome(error) == Outcome::Error
        {
            return self.lost(downstream, error.error.message.clone());
        }
        downstream.path.connected(Arc::clone(&client));
        downstream.teller.session(Up::Yes);
        self.report(downstream, &health).await;
        if let Some(up) = self.up.take() {
            // Nobody waits where the child counts as started at once.
            up.send(()).unwrap_or_default();
        }
        self.look_after(downstream, &client, &mut ended).await
    }

    /// Waits until the circuit lets a trial pass.
    async fn leave<'d>(&self, downstream: &'d Downstream) -> Permit<'d> {
        let breaker = downstream.path.breaker();
        loop {
            self.tell_circuit(downstream);
            match breaker.acquire() {
                Ok(permit) => return permit,
                Err(rejection) => {
                    let wait = rejection.retry_after_ms.map(Duration::from_millis);
                    let wait =
                        wait.unwrap_or(LOOK_AGAIN).clamp(Duration::from_millis(1), LOOK_AGAIN);
                    tokio::select! {
                        // A change that is not told stays to be told.
                        () = breaker.changed() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Stays with a session until it ends or is given up.
    async fn look_after(
        &mut self,
        downstream: &Downstream,
        client: &Arc<dyn DownstreamClient>,
        ended: &mut BoxFuture<'static, ServiceError>,
    ) -> ChildExit {
        let mut ticks = ticks(downstream.rules.interval);
        self.tell_circuit(downstream);
        // The first check was one probe; the circuit may want to see more.
        let half_open = circuit(downstream) == CircuitState::HalfOpen;
        let mut why = if half_open { Why::Probe } else { Why::Nothing };
        loop {
            let checked = tokio::select! {
                biased;
                error = &mut *ended => {
                    self.count_failure(downstream);
                    return self.lost(downstream, error.message);
                }
                // Given up with its session; its permit counts as nothing then.
                checked = self.probe(downstream, client, why) => checked,
            };
            if let Err(message) = checked {
                downstream.left(&message);
                downstream.teller.session(Up::No);
                self.tell_circuit(downstream);
                return ChildExit::ProbeFailed { message, codes: ExitCodes::default() };
            }
            why = tokio::select! {
                biased;
                error = &mut *ended => {
                    self.count_failure(downstream);
                    return self.lost(downstream, error.message);
                }
                // Each of these is cancel safe: what is not told now stays to be told.
                () = circuit_due(downstream) => self.tell_circuit(downstream),
                _ = ticks.tick() => Why::Time,
            };
        }
    }

    /// Checks the downstream as far as there is a reason to.
    async fn probe(
        &mut self,
        downstream: &Downstream,
        client: &Arc<dyn DownstreamClient>,
        why: Why,
    ) -> Result<(), String> {
        let mut why = why;
        loop {
            if why == Why::Nothing {
                return Ok(());
            }
            let half_open = circuit(downstream) == CircuitState::HalfOpen;
            let permit = downstream.path.breaker().acquire().ok();
            if permit.is_none() && half_open {
                // As many probes as allowed are under way: calls do it.
                return Ok(());
            }
            let (health, answer) = downstream.check(client).await;
            let outcome = match &answer {
                Ok(()) if half_open => Outcome::Ok,
                Ok(()) => Outcome::Ignored,
                Err(error) => check_outcome(error),
            };
            if let Some(permit) = permit {
                permit.settle(outcome);
            }
            self.report(downstream, &health).await;
            self.judge(downstream, why, &answer)?;
            let told = self.tell_circuit(downstream);
            // A probe that succeeded may be one of several that the circuit wants to see.
            let more = half_open
                && outcome == Outcome::Ok
                && circuit(downstream) == CircuitState::HalfOpen;
            why = if told == Why::Tripped && why != Why::Tripped {
                Why::Tripped
            } else if more || told == Why::Probe {
                Why::Probe
            } else {
                Why::Nothing
            };
        }
    }

    /// Whether the session may go on after a check.
    fn judge(
        &mut self,
        downstream: &Downstream,
        why: Why,
        answer: &Result<(), AttemptError>,
    ) -> Result<(), String> {
        let Err(error) = answer else {
            self.failures = 0;
            return Ok(());
        };
        if check_outcome(error) != Outcome::Error {
            return Ok(());
        }
        self.failures = self.failures.saturating_add(1);
        let message = &error.error.message;
        if why == Why::Tripped {
            return Err(format!("its circuit opened, and the check failed: {message}"));
        }
        if self.failures < downstream.rules.failure_threshold {
            return Ok(());
        }
        Err(format!("{} checks failed in a row; last: {message}", self.failures))
    }

    /// Tells what changed of the circuit, and whether a check is wanted for it.
    fn tell_circuit(&self, downstream: &Downstream) -> Why {
        let breaker = downstream.path.breaker();
        breaker.advance();
        let mut why = Why::Nothing;
        for transition in breaker.take_transitions() {
            downstream.teller.circuit(&transition);
            why = match transition.to {
                CircuitState::HalfOpen => Why::Probe,
                CircuitState::Open if transition.from != CircuitState::HalfOpen => Why::Tripped,
                CircuitState::Open
                | CircuitState::Closed
                | CircuitState::ForcedOpen
                | CircuitState::ForcedClosed => Why::Nothing,
            };
        }
        why
    }

    /// Tells how it is: to the supervisor, and as an event with what was measured.
    async fn report(&mut self, downstream: &Downstream, health: &ServiceHealth) {
        let up = health.status == ServiceVerdict::Up;
        downstream.teller.checked(if up { Up::Yes } else { Up::No });
        let passes =
            matches!(circuit(downstream), CircuitState::Closed | CircuitState::ForcedClosed);
        let (status, message) = match (up, passes) {
            (true, true) => (HealthStatus::Healthy, String::new()),
            (true, false) => {
                (HealthStatus::Degraded, format!("its circuit is {}", circuit(downstream)))
            }
            (false, _) => (HealthStatus::Unhealthy, health.details.clone().unwrap_or_default()),
        };
        let passed = self.measured.elapsed();
        self.measured = Instant::now();
        let seen = downstream.path.measure(passed);
        let metrics =
            HealthMetrics { response_time_ms: seen.response_time_ms.or(health.latency_ms), ..seen };
        downstream.teller.health(status, metrics);
        let news = RunHealth { status, readiness: Readiness::Ready, message };
        // The run that takes it may be gone; then nobody needs it.
        self.news.send(news).await.ok();
    }

    /// The session ended by itself: that counts like a failed call.
    fn count_failure(&self, downstream: &Downstream) {
        if let Ok(permit) = downstream.path.breaker().acquire() {
            permit.error();
        }
        self.tell_circuit(downstream);
    }

    fn lost(&self, downstream: &Downstream, message: String) -> ChildExit {
        downstream.left(&message);
        downstream.teller.session(Up::No);
        self.tell_circuit(downstream);
        ChildExit::Lost { message }
    }
}

/// Why a downstream is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    /// There is no reason.
    Nothing,
    /// The interval is over.
    Time,
    /// The circuit wants to see a probe.
    Probe,
    /// The circuit opened.
    Tripped,
}

async fn connect(downstream: &Downstream) -> Result<DownstreamSession, ServiceError> {
    let inbound: Arc<dyn InboundSink> = Arc::clone(&downstream.inbound);
    let connecting = downstream.path.connector().connect(inbound);
    tokio::time::timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_elapsed| {
        Err(ServiceError::new(format!("no connection within {} s", CONNECT_MAX.as_secs())))
    })
}

fn circuit(downstream: &Downstream) -> CircuitState {
    downstream.path.breaker().snapshot().state.circuit()
}

/// Waits until the circuit has changed or has something to do.
async fn circuit_due(downstream: &Downstream) {
    let breaker = downstream.path.breaker();
    let waits = breaker.deadline_ms().is_some();
    tokio::select! {
        () = breaker.changed() => {}
        // Coarse: a deadline is looked at a few times a second while there is one.
        () = tokio::time::sleep(if waits { LOOK_AGAIN / 20 } else { LOOK_AGAIN }) => {}
    }
}

fn ticks(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
