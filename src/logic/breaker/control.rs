//! States, permits and open times of a breaker. It knows no window: who keeps one tells it when a
//! condition is met.
//!
//! Time comes in with each call and runs forward; [`Control::advance`] catches up with what fell
//! due before.

use std::time::Duration;

use crate::logic::backoff::{grown, unit};
use crate::logic::breaker::config::{BreakerConfig, Mode, RETRY_AFTER_MAX, TIME_MAX, millis};
use crate::logic::breaker::counts::Counts;
use crate::logic::breaker::outcome::Result;
use crate::logic::breaker::transition::{Cause, Evidence, Transition};
use crate::protocol::status::CircuitState;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected until a moment.
    Open {
        /// When probes may pass.
        until_ms: u64,
    },
    /// A few probes pass.
    HalfOpen {
        /// Probes under way.
        under_way: u32,
        /// Probes that succeeded.
        successes: u32,
        /// When those under way are given up.
        deadline_ms: Option<u64>,
    },
    /// Held open by hand.
    ForcedOpen,
    /// Held closed by hand.
    ForcedClosed,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn circuit(self) -> CircuitState {
        match self {
            Self::Closed => CircuitState::Closed,
            Self::Open { .. } => CircuitState::Open,
            Self::HalfOpen { .. } => CircuitState::HalfOpen,
            Self::ForcedOpen => CircuitState::ForcedOpen,
            Self::ForcedClosed => CircuitState::ForcedClosed,
        }
    }
}

/// What somebody asks for by hand.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Force {
    /// Reject all calls.
    Open,
    /// Let all calls pass.
    Closed,
    /// Judge again: after a forced state closed, with an empty window.
    Auto,
}

/// A permit. Given back exactly once, by `settle` or `release`.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a permit must be settled or released"]
pub struct Grant {
    /// Generation it was granted in.
    pub generation: u64,
    /// When.
    pub started_ms: u64,
}

/// A call may not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rejection {
    /// State that rejects.
    pub state: CircuitState,
    /// Time until a call may pass, as far as it is known.
    pub retry_after_ms: Option<u64>,
}

/// Whether a call may pass.
#[derive(Debug, Eq, PartialEq)]
pub enum Admission {
    /// It may.
    Granted(Grant),
    /// It may not.
    Rejected(Rejection),
}

/// States, permits, open times.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    config: BreakerConfig,
    state: State,
    generation: u64,
    /// Openings in a row that failed trials made longer.
    openings: u32,
}

impl Control {
    /// Starts closed.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed, generation: 0, openings: 0 }
    }

    /// Starts open until a moment: what was known before a restart.
    #[must_use]
    pub fn open_until(config: BreakerConfig, until_ms: u64, openings: u32) -> Self {
        Self { config, state: State::Open { until_ms }, generation: 0, openings }
    }

    /// The same without the probes that are under way: for a breaker that takes over from another,
    /// which keeps the permits that it granted.
    #[must_use]
    pub fn without_probes(mut self) -> Self {
        if let State::HalfOpen { under_way, deadline_ms, .. } = &mut self.state {
            (*under_way, *deadline_ms) = (0, None);
        }
        self
    }

    /// Catches up with what fell due: at most a timed-out trial and the end of the open time after
    /// it. `fraction` is the draw for an open time.
    pub fn advance(&mut self, now_ms: u64, fraction: f64, log: &mut Vec<Transition>) {
        while let Some(due) = self.deadline().filter(|due| *due <= now_ms) {
            match self.state {
                State::Open { .. } => {
                    let evidence = self.evidence();
                    let fresh = State::HalfOpen { under_way: 0, successes: 0, deadline_ms: None };
                    self.enter(due, (fresh, Cause::OpenTimeOver), evidence, log);
                }
                State::HalfOpen { .. } => {
                    self.open(due, (Cause::TrialTimedOut, None), (fraction, None), log);
                }
                State::Closed | State::ForcedOpen | State::ForcedClosed => return,
            }
        }
    }

    /// Lets a call pass or not, after [`Self::advance`].
    pub fn admit(&mut self, now_ms: u64) -> Admission {
        let probes = self.config.half_open_probes;
        let timeout = self.config.half_open_timeout.map(millis);
        let rejected = |state: State, retry_after_ms| {
            Admission::Rejected(Rejection { state: state.circuit(), retry_after_ms })
        };
        match &mut self.state {
            State::Closed | State::ForcedClosed => {}
            State::HalfOpen { under_way, deadline_ms, .. } if *under_way < probes => {
                if *under_way == 0 {
                    *deadline_ms = timeout.map(|timeout| now_ms.saturating_add(timeout));
                }
                *under_way += 1;
            }
            State::Open { until_ms: due } => {
                let wait = due.saturating_sub(now_ms);
                return rejected(self.state, Some(wait));
            }
            State::HalfOpen { deadline_ms, .. } => {
                let wait = deadline_ms.map(|due| due.saturating_sub(now_ms));
                return rejected(self.state, wait);
            }
            State::ForcedOpen => return rejected(self.state, None),
        }
        Admission::Granted(Grant { generation: self.generation, started_ms: now_ms })
    }

    /// Takes the result of a probe of this half-open state; `None` if it has none. Does nothing in
    /// another state.
    pub fn settle_probe(
        &mut self,
        now_ms: u64,
        result: Option<Result>,
        fraction: f64,
        log: &mut Vec<Transition>,
    ) {
        let State::HalfOpen { under_way, successes, deadline_ms } = &mut self.state else { return };
        *under_way = under_way.saturating_sub(1);
        if *under_way == 0 {
            *deadline_ms = None;
        }
        let Some(result) = result else { return };
        let too_slow = result.class.is_slow() && self.config.slow_percent.is_some();
        if result.class.is_error() || too_slow {
            let draw = (fraction, result.retry_after_ms);
            self.open(now_ms, (Cause::TrialFailed, None), draw, log);
            return;
        }
        *successes = successes.saturating_add(1);
        if self.config.success_threshold <= *successes {
            let evidence = self.evidence();
            self.openings = 0;
            self.enter(now_ms, (State::Closed, Cause::TrialPassed), evidence, log);
        }
    }

    /// Opens a closed circuit because a condition is met.
    pub fn trip(
        &mut self,
        now_ms: u64,
        (cause, counts): (Cause, Counts),
        fraction: f64,
        log: &mut Vec<Transition>,
    ) {
        self.openings = 0;
        self.open(now_ms, (cause, Some(counts)), (fraction, None), log);
    }

    /// Opens a closed circuit until the time that the service named.
    pub fn throttle(
        &mut self,
        now_ms: u64,
        retry_after_ms: u64,
        counts: Counts,
        log: &mut Vec<Transition>,
    ) {
        let open_ms = retry_after_ms.min(millis(RETRY_AFTER_MAX));
        let evidence = Evidence {
            counts: Some(counts),
            open_ms: Some(open_ms),
            retry_after_ms: Some(retry_after_ms),
            ..self.evidence()
        };
        let state = State::Open { until_ms: now_ms.saturating_add(open_ms) };
        self.enter(now_ms, (state, Cause::Throttled), evidence, log);
    }

    /// Holds it open or closed, or lets it judge again.
    pub fn force(&mut self, now_ms: u64, force: Force, log: &mut Vec<Transition>) {
        let to = match (force, self.state) {
            (Force::Open, State::ForcedOpen)
            | (Force::Closed, State::ForcedClosed)
            | (Force::Auto, State::Closed | State::Open { .. } | State::HalfOpen { .. }) => return,
            (Force::Open, _) => State::ForcedOpen,
            (Force::Closed, _) => State::ForcedClosed,
            (Force::Auto, State::ForcedOpen | State::ForcedClosed) => State::Closed,
        };
        let evidence = self.evidence();
        self.openings = 0;
        self.enter(now_ms, (to, Cause::Requested), evidence, log);
    }

    /// Takes other rules and keeps the state; a running open time stays as it is. Where the new
    /// rules judge nothing, the circuit closes.
    pub fn reconfigure(&mut self, now_ms: u64, config: BreakerConfig, log: &mut Vec<Transition>) {
        self.config = config;
        let judges = config.mode == Mode::Armed;
        if !judges && matches!(self.state, State::Open { .. } | State::HalfOpen { .. }) {
            let evidence = self.evidence();
            self.openings = 0;
            self.enter(now_ms, (State::Closed, Cause::Requested), evidence, log);
        }
    }

    /// When [`Self::advance`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Open { until_ms } => Some(until_ms),
            State::HalfOpen { deadline_ms, .. } => deadline_ms,
            State::Closed | State::ForcedOpen | State::ForcedClosed => None,
        }
    }

    /// Time until the end of the open time; `None` when it is not open.
    #[must_use]
    pub fn retry_after_ms(&self, now_ms: u64) -> Option<u64> {
        match self.state {
            State::Open { until_ms } => Some(until_ms.saturating_sub(now_ms)),
            State::Closed | State::HalfOpen { .. } | State::ForcedOpen | State::ForcedClosed => {
                None
            }
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The rules.
    #[must_use]
    pub fn config(&self) -> &BreakerConfig {
        &self.config
    }

    /// Changes of state so far.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Openings in a row that failed trials made longer.
    #[must_use]
    pub fn openings(&self) -> u32 {
        self.openings
    }

    fn open(
        &mut self,
        now_ms: u64,
        (cause, counts): (Cause, Option<Counts>),
        (fraction, retry_after_ms): (f64, Option<u64>),
        log: &mut Vec<Transition>,
    ) {
        let config = &self.config;
        let ceiling = grown(
            config.open_for,
            config.open_factor,
            self.openings,
            config.open_max.min(TIME_MAX),
        );
        let fraction = unit(fraction);
        let drawn = ceiling.mul_f64(1.0 - unit(config.jitter) * fraction);
        // Rounded up, so that no open time vanishes.
        let drawn = millis(drawn.saturating_add(Duration::from_nanos(999_999))).max(1);
        let wish = retry_after_ms.unwrap_or(0).min(millis(RETRY_AFTER_MAX));
        let open_ms = drawn.max(wish);
        let before = self.evidence();
        self.openings = self.openings.saturating_add(1);
        let evidence = Evidence {
            counts,
            openings: self.openings,
            open_ms: Some(open_ms),
            fraction,
            retry_after_ms,
            ..before
        };
        let state = State::Open { until_ms: now_ms.saturating_add(open_ms) };
        self.enter(now_ms, (state, cause), evidence, log);
    }

    fn enter(
        &mut self,
        at_ms: u64,
        (state, cause): (State, Cause),
        evidence: Evidence,
        log: &mut Vec<Transition>,
    ) {
        let from = self.state.circuit();
        self.state = state;
        self.generation += 1;
        let (to, generation) = (state.circuit(), self.generation);
        log.push(Transition { at_ms, from, to, cause, generation, evidence });
    }

    fn evidence(&self) -> Evidence {
        let (probes_under_way, successes) = match self.state {
            State::HalfOpen { under_way, successes, .. } => (under_way, successes),
            State::Closed | State::Open { .. } | State::ForcedOpen | State::ForcedClosed => (0, 0),
        };
        Evidence {
            counts: None,
            successes,
            probes_under_way,
            openings: self.openings,
            open_ms: None,
            fraction: 0.0,
            retry_after_ms: None,
            config: self.config,
        }
    }
}
