//! The circuit of one child: its own restart limit, and what happens beyond it.
//!
//! Closed: the child is restarted, and its restarts are counted. Open: it is not restarted. After
//! the open time the circuit is half-open and one trial run decides: stable, and the circuit
//! closes with an empty account; failed, and it opens again, longer. By hand it can be held open
//! or closed. It knows nothing of starting and stopping: that is `logic::restart`.

use std::time::{Duration, Instant};

use crate::logic::backoff::{grown, unit};
use crate::logic::intensity::{Intensity, Tally};
use crate::protocol::spec::{CircuitSpec, OnExceeded};
use crate::protocol::status::CircuitState;

/// Share of the open time that jitter may take off, from the second opening on: children that were
/// quarantined together are not tried together for ever.
pub const OPEN_JITTER: f64 = 0.1;

/// A child that is never stable exceeds its limit, too, when it fails so many times its intensity
/// in a row, however slowly: its own backoff may make it slower than any window.
pub const IN_A_ROW_FACTOR: u32 = 3;

/// State and account of one child's circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    spec: CircuitSpec,
    state: CircuitState,
    restarts: Intensity,
    openings: u32,
}

/// What a failure of the child means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// It may be restarted.
    Restart(Tally),
    /// Its own limit is exceeded.
    Exceeded(Tally, OnExceeded),
    /// The trial has failed.
    TrialFailed,
    /// Held closed by hand: it may be restarted, however often.
    Unlimited(Tally),
}

/// One opening.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opening {
    /// How long the circuit stays open.
    pub open_for: Duration,
    /// Which opening in a row it is, from 1.
    pub openings: u32,
    /// The draw that shortened it; 0 for the first.
    pub fraction: f64,
}

impl Circuit {
    /// Starts closed with an empty account.
    #[must_use]
    pub fn new(spec: CircuitSpec) -> Self {
        Self {
            spec,
            state: CircuitState::Closed,
            restarts: Intensity::new(spec.limit),
            openings: 0,
        }
    }

    /// Takes other rules; its state and what was counted stay.
    pub fn reconfigure(&mut self, spec: CircuitSpec) {
        self.restarts.reconfigure(spec.limit);
        self.spec = spec;
    }

    /// Counts a failure that asks for a restart and judges it.
    pub fn on_failure(&mut self, now: Instant) -> Judgement {
        use crate::logic::intensity::Verdict;
        let tally = self.restarts.add(now);
        match self.state {
            CircuitState::HalfOpen | CircuitState::Open | CircuitState::ForcedOpen => {
                Judgement::TrialFailed
            }
            CircuitState::ForcedClosed => Judgement::Unlimited(tally),
            CircuitState::Closed => match tally.verdict {
                Verdict::Within => Judgement::Restart(tally),
                Verdict::Exceeded => Judgement::Exceeded(tally, self.spec.on_exceeded),
            },
        }
    }

    /// Opens: for the first time exactly `open_for`, then longer with each opening in a row.
    pub fn open(&mut self, fraction: f64) -> Opening {
        let ceiling =
            grown(self.spec.open_for, self.spec.open_factor, self.openings, self.open_max());
        let fraction = if self.openings == 0 { 0.0 } else { unit(fraction) };
        self.openings = self.openings.saturating_add(1);
        self.state = CircuitState::Open;
        let open_for = ceiling.mul_f64(1.0 - OPEN_JITTER * fraction);
        Opening { open_for, openings: self.openings, fraction }
    }

    /// Goes back to open without another opening: a trial was called off, not failed.
    pub fn reopen(&mut self) {
        self.state = CircuitState::Open;
    }

    /// Admits one trial.
    pub fn half_open(&mut self) {
        self.state = CircuitState::HalfOpen;
    }

    /// Closes with an empty account.
    pub fn close(&mut self) {
        self.state = CircuitState::Closed;
        self.restarts.clear();
        self.openings = 0;
    }

    /// Holds it open by hand.
    pub fn force_open(&mut self) {
        self.state = CircuitState::ForcedOpen;
    }

    /// Holds it closed by hand: failures are counted, the limit is not applied.
    pub fn force_closed(&mut self) {
        self.state = CircuitState::ForcedClosed;
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.state
    }

    /// The rules.
    #[must_use]
    pub fn spec(&self) -> &CircuitSpec {
        &self.spec
    }

    /// Openings in a row since it was closed.
    #[must_use]
    pub fn openings(&self) -> u32 {
        self.openings
    }

    /// Restarts in the window at `now`.
    #[must_use]
    pub fn restarts_in_window(&self, now: Instant) -> u32 {
        self.restarts.in_window(now)
    }

    /// Restarts in a row, none of them stable, that the limit allows.
    #[must_use]
    pub fn in_a_row_max(&self) -> u32 {
        self.spec.limit.intensity.saturating_mul(IN_A_ROW_FACTOR)
    }

    fn open_max(&self) -> Duration {
        self.spec.open_max.max(self.spec.open_for)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::spec::Limit;

    fn circuit(intensity: u32) -> Circuit {
        Circuit::new(CircuitSpec {
            limit: Limit { intensity, period: Duration::from_secs(60) },
            open_for: Duration::from_secs(30),
            open_factor: 2.0,
            open_max: Duration::from_secs(100),
            ..CircuitSpec::default()
        })
    }

    #[test]
    fn it_allows_intensity_restarts_and_judges_the_next_by_its_rule() {
        let now = Instant::now();
        let mut circuit = circuit(2);
        assert!(matches!(circuit.on_failure(now), Judgement::Restart(_)));
        assert!(matches!(circuit.on_failure(now), Judgement::Restart(_)));
        assert!(matches!(
            circuit.on_failure(now),
            Judgement::Exceeded(Tally { in_window: 3, .. }, OnExceeded::Quarantine)
        ));
    }

    #[test]
    fn openings_in_a_row_grow_to_the_cap_and_the_first_is_exact() {
        let mut circuit = circuit(0);
        let mut open = |fraction| {
            let opening = circuit.open(fraction);
            circuit.half_open();
            (opening.openings, opening.open_for.as_secs_f64().round())
        };
        assert_eq!(open(1.0), (1, 30.0));
        assert_eq!(open(0.0), (2, 60.0));
        assert_eq!(open(1.0), (3, 90.0));
        assert_eq!(open(0.5), (4, 95.0));
        circuit.close();
        assert_eq!(circuit.open(0.7).open_for, Duration::from_secs(30));
    }

    #[test]
    fn a_failure_under_trial_fails_the_trial_and_closing_empties_the_account() {
        let now = Instant::now();
        let mut circuit = circuit(1);
        let _ = circuit.on_failure(now);
        let _ = circuit.on_failure(now);
        circuit.open(0.0);
        circuit.half_open();
        assert_eq!(circuit.on_failure(now), Judgement::TrialFailed);
        circuit.close();
        assert_eq!(circuit.restarts_in_window(now), 0);
        assert!(matches!(circuit.on_failure(now), Judgement::Restart(_)));
    }

    #[test]
    fn held_closed_it_never_exceeds() {
        let now = Instant::now();
        let mut circuit = circuit(0);
        circuit.force_closed();
        for _ in 0..10 {
            assert!(matches!(circuit.on_failure(now), Judgement::Unlimited(_)));
        }
        assert_eq!(circuit.state(), CircuitState::ForcedClosed);
    }

    proptest! {
        #[test]
        fn an_open_time_lies_within_the_upper_tenth_below_its_cap(
            openings in 1_usize..12,
            fraction in 0.0_f64..=1.0,
        ) {
            let mut circuit = circuit(0);
            let mut cap = 30.0_f64;
            for n in 0..openings {
                let seen = circuit.open(fraction).open_for.as_secs_f64();
                prop_assert!(seen <= cap + 1e-6);
                prop_assert!(cap * (1.0 - OPEN_JITTER) - 1e-6 <= seen);
                prop_assert!(n > 0 || (seen - 30.0).abs() < 1e-6);
                cap = (cap * 2.0).min(100.0);
            }
        }
    }
}
