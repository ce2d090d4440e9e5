//! The delay before a restart: `initial * factor^n`, at most `max`, then jittered downwards.
//!
//! Jitter never lengthens a delay, so `max` is a bound. The number of failures in a row is kept by
//! the caller.

use std::time::Duration;

use crate::protocol::spec::{BackoffSpec, Jitter};

/// Shortest delay that jitter leaves of a delay above zero, so that a drawn 0 makes no hot loop.
pub const DELAY_MIN: Duration = Duration::from_millis(1);

/// Returns the delay after `failures` failures in a row that came before this one, not yet jittered.
#[must_use]
pub fn ceiling(spec: &BackoffSpec, failures: u32) -> Duration {
    grown(spec.initial, spec.factor, failures, spec.max.max(spec.initial))
}

/// Returns the delay to wait; `fraction` in `0.0..=1.0` is the draw.
#[must_use]
pub fn delay(spec: &BackoffSpec, failures: u32, fraction: f64) -> Duration {
    let ceiling = ceiling(spec, failures);
    let fraction = unit(fraction);
    let drawn = match spec.jitter {
        Jitter::Full => ceiling.mul_f64(fraction),
        Jitter::Equal => ceiling.mul_f64(0.5 + 0.5 * fraction),
        Jitter::None => ceiling,
    };
    drawn.max(DELAY_MIN).min(ceiling)
}

/// Returns `first * factor^times`, at most `max`; a factor below 1 counts as 1.
#[must_use]
pub(crate) fn grown(first: Duration, factor: f64, times: u32, max: Duration) -> Duration {
    if first.is_zero() {
        return Duration::ZERO;
    }
    let factor = if factor.is_finite() { factor.max(1.0) } else { 1.0 };
    let seconds = first.as_secs_f64() * factor.powf(f64::from(times));
    Duration::try_from_secs_f64(seconds).unwrap_or(max).min(max)
}

/// A fraction, whatever came in.
#[must_use]
pub(crate) fn unit(fraction: f64) -> f64 {
    if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(initial_ms: u64, factor: f64, max_ms: u64, jitter: Jitter) -> BackoffSpec {
        BackoffSpec {
            initial: Duration::from_millis(initial_ms),
            factor,
            max: Duration::from_millis(max_ms),
            jitter,
        }
    }

    fn check(spec: &BackoffSpec, fraction: f64, expected_ms: &[u64]) {
        let seen: Vec<u128> =
            (0..).zip(expected_ms).map(|(n, _)| delay(spec, n, fraction).as_millis()).collect();
        assert_eq!(seen, expected_ms.iter().map(|ms| u128::from(*ms)).collect::<Vec<_>>());
    }

    #[test]
    fn delays_grow_by_the_factor_up_to_the_cap() {
        check(&spec(200, 2.0, 1000, Jitter::None), 0.3, &[200, 400, 800, 1000, 1000]);
        check(&spec(100, 1.0, 1000, Jitter::None), 0.3, &[100, 100, 100]);
        check(&spec(100, 10.0, 100, Jitter::None), 0.3, &[100, 100]);
    }

    #[test]
    fn full_jitter_draws_from_zero_and_equal_jitter_from_half() {
        check(&spec(200, 2.0, 1000, Jitter::Full), 0.5, &[100, 200, 400, 500]);
        check(&spec(200, 2.0, 1000, Jitter::Equal), 0.5, &[150, 300, 600, 750]);
        check(&spec(200, 2.0, 1000, Jitter::Full), 1.0, &[200, 400, 800, 1000]);
    }

    #[test]
    fn a_drawn_zero_is_not_zero_but_a_configured_zero_is() {
        check(&spec(200, 2.0, 1000, Jitter::Full), 0.0, &[1, 1]);
        check(&spec(0, 2.0, 1000, Jitter::Full), 0.5, &[0, 0, 0]);
    }

    #[test]
    fn nonsense_does_no_harm() {
        let nonsense = spec(200, f64::NAN, 1000, Jitter::Full);
        assert_eq!(delay(&nonsense, 7, f64::NAN), DELAY_MIN);
        let steep = spec(200, f64::MAX, 1000, Jitter::None);
        assert_eq!(delay(&steep, u32::MAX, 0.0), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn a_delay_never_leaves_its_bounds(
            initial in 0_u64..10_000,
            factor in 0.0_f64..20.0,
            max in 0_u64..100_000,
            failures in 0_u32..100,
            fraction in -1.0_f64..2.0,
        ) {
            for jitter in [Jitter::Full, Jitter::Equal, Jitter::None] {
                let spec = spec(initial, factor, max, jitter);
                let drawn = delay(&spec, failures, fraction);
                prop_assert!(drawn <= spec.max.max(spec.initial));
                prop_assert!(drawn <= ceiling(&spec, failures));
                prop_assert_eq!(drawn.is_zero(), initial == 0);
                prop_assert!(ceiling(&spec, failures) <= ceiling(&spec, failures + 1));
            }
        }
    }
}
