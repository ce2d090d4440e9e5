//! Sums of a window, and the judgement on them.

use crate::logic::breaker::config::{BreakerConfig, Window};
use crate::logic::breaker::outcome::Class;
use crate::logic::breaker::transition::Cause;

/// What a window holds, and the run of failures.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Results.
    pub calls: u64,
    /// Failures among them.
    pub errors: u64,
    /// Slow ones among them, failed or not.
    pub slow: u64,
    /// Failures in a row, however long ago they began.
    pub consecutive: u32,
}

impl Counts {
    /// Adds `times` results of one class.
    pub fn add(&mut self, class: Class, times: u64) {
        self.calls = self.calls.saturating_add(times);
        if class.is_error() {
            self.errors = self.errors.saturating_add(times);
        }
        if class.is_slow() {
            self.slow = self.slow.saturating_add(times);
        }
    }

    /// The condition that is met; the run of failures goes first, then errors, then slow calls.
    #[must_use]
    pub fn judge(&self, config: &BreakerConfig) -> Option<Cause> {
        if config.failure_threshold.is_some_and(|threshold| threshold <= self.consecutive) {
            return Some(Cause::FailureThreshold);
        }
        if self.calls < config.volume() {
            return None;
        }
        if config.error_percent.is_some_and(|percent| reaches(self.errors, self.calls, percent)) {
            return Some(Cause::ErrorPercent);
        }
        let slow = config.slow_percent;
        let slow = slow.is_some_and(|percent| reaches(self.slow, self.calls, percent));
        slow.then_some(Cause::SlowPercent)
    }

    /// How many further results that are failures or slow it takes at least until a share can be
    /// too high, whatever else comes in, as long as nothing leaves the window.
    #[must_use]
    pub fn bad_results_to_go(&self, config: &BreakerConfig) -> u64 {
        let volume = config.volume();
        let to_go = |bad: u64, percent: f64| {
            let calls = self.calls;
            match config.window {
                Window::Time(_) => needed(bad, calls, percent, volume),
                // A full window does not grow: the bad result may take the place of a good one.
                Window::Calls(_) => lacking(bad, calls.max(volume), percent),
            }
        };
        let errors = config.error_percent.map(|percent| to_go(self.errors, percent));
        let slow = config.slow_percent.map(|percent| to_go(self.slow, percent));
        errors.into_iter().chain(slow).min().unwrap_or(u64::MAX)
    }
}

/// Whether `part` is at least `percent` of `whole`.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn reaches(part: u64, whole: u64, percent: f64) -> bool {
    part > 0 && part as f64 * 100.0 >= percent * whole as f64
}

/// The least `k` for which `bad + k` is `percent` of `calls`, rounded down.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts stay far below 2^52; a negative number becomes 0, which only judges sooner"
)]
fn lacking(bad: u64, calls: u64, percent: f64) -> u64 {
    (percent / 100.0 * calls as f64 - bad as f64).floor() as u64
}

/// The least `k` for which `bad + k` is `percent` of as many calls as there are by then.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts stay far below 2^52; a negative number becomes 0, which only judges sooner"
)]
fn needed(bad: u64, calls: u64, percent: f64, volume: u64) -> u64 {
    let share = percent / 100.0;
    let (bad, calls, volume) = (bad as f64, calls as f64, volume as f64);
    let by_rate = if share < 1.0 {
        (share * calls - bad) / (1.0 - share)
    } else if bad < calls {
        f64::MAX
    } else {
        0.0
    };
    let by_volume = share * volume - bad;
    // Rounded down: to judge one result too early costs a sum, one too late an outage.
    by_rate.max(by_volume).floor() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(error_percent: f64, request_volume: u32) -> BreakerConfig {
        BreakerConfig {
            failure_threshold: None,
            error_percent: Some(error_percent),
            request_volume,
            ..BreakerConfig::default()
        }
    }

    proptest! {
        #[test]
        fn nothing_trips_before_the_bad_results_that_were_to_go(
            calls in 0_u64..300,
            errors in 0_u64..300,
            percent in 1_u8..=100,
            volume in 1_u32..200,
            good in 0_u64..300,
        ) {
            let errors = errors.min(calls);
            let config = config(f64::from(percent), volume);
            let counts = Counts { calls, errors, ..Counts::default() };
            let to_go = counts.bad_results_to_go(&config);
            if let Some(bad) = to_go.checked_sub(1) {
                // As many as may come without a judgement, among any number of good ones.
                for good in [0, good] {
                    let bad = bad.min(1000);
                    let later = Counts {
                        calls: calls + good + bad,
                        errors: errors + bad,
                        ..Counts::default()
                    };
                    prop_assert_eq!(later.judge(&config), None, "{:?} after {:?}", later, counts);
                }
            }
        }
    }

    #[test]
    fn the_run_of_failures_is_named_before_the_share() {
        let config = BreakerConfig { failure_threshold: Some(2), ..config(50.0, 2) };
        let counts = Counts { calls: 2, errors: 2, slow: 0, consecutive: 2 };
        assert_eq!(counts.judge(&config), Some(Cause::FailureThreshold));
    }
}
