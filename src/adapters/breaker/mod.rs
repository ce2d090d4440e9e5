//! The circuit breaker that callers share: the rules of `logic::breaker` for many threads.
//!
//! A call asks [`Breaker::acquire`] for a permit and settles it with what the call came to. While
//! the circuit is closed, open or forced, that takes no lock and no allocation: counters are striped
//! by thread, time comes from a coarse clock ([`Ticks`]). A lock is taken for probes, once for each
//! slice of the window, and where a judgement is due because a share may now be too high.
//!
//! Changes of state wait, in order, for [`Breaker::take_transitions`]; [`Breaker::changed`] tells
//! that some do. A permit that is dropped unsettled counts as nothing; dropped by a panic, as a
//! failure.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::logic::breaker::{BreakerConfig, Control, Force, Grant, Outcome, Rejection, Transition};

mod clock;
mod engine;
mod gate;
mod ring;
mod snapshot;
mod stripes;
pub(crate) mod sync;

pub use clock::Ticks;
pub use engine::TRANSITIONS_MAX;
pub use snapshot::Snapshot;

use engine::Engine;

/// A circuit breaker that callers share.
#[derive(Debug)]
pub struct Breaker {
    engine: Engine,
    ticks: Arc<Ticks>,
    changed: Notify,
}

/// The right to make one call.
#[derive(Debug)]
#[must_use = "a permit that is dropped unsettled counts as nothing"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    generation: u64,
    /// When the call began; 0 where slowness does not count.
    started_ns: u64,
}

/// Whether the state has changed.
struct Changed(bool);

/// Another shape of the window needs another breaker: [`Breaker::successor`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the window changes its shape; make a successor")]
pub struct Reshaped;

impl Breaker {
    /// Starts closed.
    #[must_use]
    pub fn new(config: BreakerConfig, ticks: Arc<Ticks>) -> Self {
        Self::with_control(Control::new(config), ticks)
    }

    /// Starts as a control stands, with an empty window.
    #[must_use]
    pub fn with_control(control: Control, ticks: Arc<Ticks>) -> Self {
        let engine = Engine::new(control, ticks.now_ms());
        Self { engine, ticks, changed: Notify::new() }
    }

    /// Asks to pass.
    ///
    /// # Errors
    ///
    /// Why not, and for how long.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, Rejection> {
        let gate = self.engine.gate();
        if gate.passes() {
            let (generation, timed) = (gate.generation(), gate.is_timed());
            let started_ns = if timed { self.ticks.now_ns() } else { 0 };
            return Ok(Permit { breaker: self, generation, started_ns });
        }
        let now_ms = self.ticks.now_ms();
        match self.engine.rejects(gate, now_ms) {
            Some(rejection) => Err(rejection),
            None => self.probe(now_ms),
        }
    }

    /// Catches up with what fell due. To be called when [`Self::deadline_ms`] is reached, so that
    /// the state is right without traffic.
    pub fn advance(&self) {
        let changed = self.engine.advance(self.ticks.now_ms());
        self.tell(Changed(changed));
    }

    /// Holds it open or closed, or lets it judge again.
    pub fn force(&self, force: Force) {
        let changed = self.engine.force(self.ticks.now_ms(), force);
        self.tell(Changed(changed));
    }

    /// Takes other rules and keeps the state, the window and the permits.
    ///
    /// # Errors
    ///
    /// [`Reshaped`] if the window is of another shape; nothing has changed then.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), Reshaped> {
        let changed = self.engine.reconfigure(self.ticks.now_ms(), config).ok_or(Reshaped)?;
        self.tell(Changed(changed));
        Ok(())
    }

    /// A breaker with other rules that goes on where this one stands, with an empty window. Permits
    /// of this one settle here and no longer count.
    #[must_use]
    pub fn successor(&self, config: BreakerConfig) -> Self {
        let mut control = self.engine.control().without_probes();
        let now_ms = self.ticks.now_ms();
        control.reconfigure(now_ms, config, &mut Vec::new());
        Self::with_control(control, Arc::clone(&self.ticks))
    }

    /// Changes of state since they were last taken, in order. At most [`TRANSITIONS_MAX`] wait; the
    /// oldest go first, and [`Snapshot::transitions_missed`] counts them.
    #[must_use]
    pub fn take_transitions(&self) -> Vec<Transition> {
        self.engine.take_transitions()
    }

    /// Returns once the state has changed after the last return.
    ///
    /// # Cancel safety
    ///
    /// A change that was not told stays to be told.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// When [`Self::advance`] has something to do, on the clock of [`Ticks::now_ms`].
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.engine.deadline_ms()
    }

    /// Time until [`Self::deadline_ms`].
    #[must_use]
    pub fn wait_ms(&self) -> Option<u64> {
        let now_ms = self.ticks.now_ms();
        self.deadline_ms().map(|deadline| deadline.saturating_sub(now_ms))
    }

    /// Where it stands.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.engine.snapshot(self.ticks.now_ms())
    }

    #[cold]
    fn probe(&self, now_ms: u64) -> Result<Permit<'_>, Rejection> {
        let (admission, changed) = self.engine.admit(now_ms);
        self.tell(Changed(changed));
        let Grant { generation, .. } = admission?;
        let started_ns = if self.engine.gate().is_timed() { self.ticks.now_ns() } else { 0 };
        Ok(Permit { breaker: self, generation, started_ns })
    }

    #[inline]
    fn tell(&self, changed: Changed) {
        if changed.0 {
            self.changed.notify_one();
        }
    }
}

impl Permit<'_> {
    /// The service answered as it should.
    #[inline]
    pub fn ok(self) {
        self.settle(Outcome::Ok);
    }

    /// The service failed.
    #[inline]
    pub fn error(self) {
        self.settle(Outcome::Error);
    }

    /// Takes what the call came to.
    #[inline]
    pub fn settle(self, outcome: Outcome) {
        self.give_back(outcome);
        // The result is taken; there is nothing left to clean up.
        std::mem::forget(self);
    }

    #[inline]
    fn give_back(&self, outcome: Outcome) {
        let breaker = self.breaker;
        let took_ns = match self.started_ns {
            0 => None,
            started => Some(breaker.ticks.now_ns().saturating_sub(started)),
        };
        let now_ms = breaker.ticks.now_ms();
        let changed = breaker.engine.settle(self.generation, now_ms, took_ns, outcome);
        breaker.tell(Changed(changed));
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let panics = std::thread::panicking();
        self.give_back(if panics { Outcome::Error } else { Outcome::Ignored });
    }
}
