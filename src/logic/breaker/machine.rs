//! The whole breaker for one thread: control and window together.
//!
//! Traces, replay and simulation run on it; `adapters::breaker` does the same for many threads and
//! is held against it.

use crate::logic::breaker::config::{BreakerConfig, Mode};
use crate::logic::breaker::control::{Admission, Control, Force, Grant, State};
use crate::logic::breaker::counts::Counts;
use crate::logic::breaker::outcome::{Outcome, Result};
use crate::logic::breaker::transition::Transition;
use crate::logic::breaker::window::Account;

/// A breaker. `fraction` is the draw for an open time, should one begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    control: Control,
    account: Account,
    /// Results of an older generation.
    late: u64,
    /// Times it would have opened, had it been armed.
    would_have_opened: u64,
    /// Changes of state that nobody has taken yet.
    log: Vec<Transition>,
}

impl Machine {
    /// Starts closed with an empty window.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self::with_control(Control::new(config))
    }

    /// Starts as a control stands, with an empty window.
    #[must_use]
    pub fn with_control(control: Control) -> Self {
        let account = Account::new(control.config().window);
        Self { control, account, late: 0, would_have_opened: 0, log: Vec::new() }
    }

    /// Catches up with what fell due.
    pub fn advance(&mut self, now_ms: u64, fraction: f64) {
        self.control.advance(now_ms, fraction, &mut self.log);
    }

    /// Lets a call pass or not.
    pub fn acquire(&mut self, now_ms: u64, fraction: f64) -> Admission {
        self.advance(now_ms, fraction);
        self.control.admit(now_ms)
    }

    /// Takes the result of a call.
    pub fn settle(&mut self, now_ms: u64, grant: Grant, outcome: Outcome, fraction: f64) {
        let took = now_ms.saturating_sub(grant.started_ms);
        let result = outcome.result(self.control.config(), Some(took));
        self.give_back(now_ms, &grant, result, fraction);
    }

    /// Takes a permit back without a result.
    pub fn release(&mut self, now_ms: u64, grant: Grant, fraction: f64) {
        self.give_back(now_ms, &grant, None, fraction);
    }

    /// Holds it open or closed, or lets it judge again.
    pub fn force(&mut self, now_ms: u64, force: Force, fraction: f64) {
        self.advance(now_ms, fraction);
        let before = self.control.generation();
        self.control.force(now_ms, force, &mut self.log);
        self.forget_since(before);
    }

    /// Takes other rules and keeps the state; the window is kept if it has the same shape.
    pub fn reconfigure(&mut self, now_ms: u64, config: BreakerConfig, fraction: f64) {
        self.advance(now_ms, fraction);
        let before = self.control.generation();
        let reshaped = self.control.config().window != config.window;
        self.control.reconfigure(now_ms, config, &mut self.log);
        self.forget_since(before);
        if reshaped {
            self.account = Account::new(config.window);
        }
    }

    /// Changes of state since they were last taken, in order.
    #[must_use]
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.log)
    }

    /// When [`Self::advance`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.control.deadline()
    }

    /// What the window holds.
    #[must_use]
    pub fn counts(&mut self, now_ms: u64) -> Counts {
        self.account.counts(now_ms, self.control.config())
    }

    /// States, permits, open times.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Results of an older generation so far.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Times it would have opened, had it been armed.
    #[must_use]
    pub fn would_have_opened(&self) -> u64 {
        self.would_have_opened
    }

    fn give_back(&mut self, now_ms: u64, grant: &Grant, result: Option<Result>, fraction: f64) {
        self.advance(now_ms, fraction);
        if grant.generation != self.control.generation() {
            self.late = self.late.saturating_add(1);
            return;
        }
        let before = self.control.generation();
        match (self.control.state(), result) {
            (State::HalfOpen { .. }, _) => {
                self.control.settle_probe(now_ms, result, fraction, &mut self.log);
            }
            (State::Closed | State::ForcedClosed, Some(result)) => {
                self.count(now_ms, result, fraction);
            }
            (_, None) | (State::Open { .. } | State::ForcedOpen, Some(_)) => {}
        }
        self.forget_since(before);
    }

    fn count(&mut self, now_ms: u64, result: Result, fraction: f64) {
        let config = *self.control.config();
        if config.mode == Mode::Disabled {
            return;
        }
        let counts = self.account.add(now_ms, &config, result);
        if self.control.state() != State::Closed {
            return;
        }
        let cause = counts.judge(&config);
        match (config.mode, result.retry_after_ms, cause) {
            (_, None, None) | (Mode::Disabled, _, _) => {}
            (Mode::MetricsOnly, _, _) => {
                self.would_have_opened = self.would_have_opened.saturating_add(1);
                self.account = Account::new(config.window);
            }
            (Mode::Armed, Some(wish), _) => {
                self.control.throttle(now_ms, wish, counts, &mut self.log);
            }
            (Mode::Armed, None, Some(cause)) => {
                self.control.trip(now_ms, (cause, counts), fraction, &mut self.log);
            }
        }
    }

    /// A new state begins with an empty window.
    fn forget_since(&mut self, generation: u64) {
        if self.control.generation() != generation {
            self.account = Account::new(self.control.config().window);
        }
    }
}
