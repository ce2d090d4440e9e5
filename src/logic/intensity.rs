//! OTP's restart intensity: how many restarts lie within a sliding window.
//!
//! The rule is the one of OTP's `supervisor`: with intensity *N*, *N* restarts within the period
//! are survived and the next one is too many; restarts exactly one period apart count together.
//! OTP floors its clock to whole seconds, so that its window is up to a second longer by phase;
//! this one is exact. At whole seconds both are equal.

use std::collections::VecDeque;
use std::time::Instant;

use crate::protocol::spec::Limit;

/// Counts restarts against a limit. It keeps at most `intensity + 1` instants.
#[derive(Clone, Debug, PartialEq)]
pub struct Intensity {
    limit: Limit,
    times: VecDeque<Instant>,
}

/// What one more restart amounts to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tally {
    /// Restarts in the window, this one included; never told above `intensity + 1`.
    pub in_window: u32,
    /// How that compares with the limit.
    pub verdict: Verdict,
}

/// Whether a restart is still allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is.
    Within,
    /// It is one too many.
    Exceeded,
}

impl Intensity {
    /// Starts with an empty window.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self { limit, times: VecDeque::new() }
    }

    /// Takes another limit; restarts that were counted stay, as far as the new limit needs them.
    pub fn reconfigure(&mut self, limit: Limit) {
        self.limit = limit;
        let kept = usize::try_from(limit.intensity).unwrap_or(usize::MAX);
        while kept < self.times.len() {
            self.times.pop_front();
        }
    }

    /// Counts a restart at `now`.
    pub fn add(&mut self, now: Instant) -> Tally {
        self.forget_before(now);
        self.times.push_back(now);
        let in_window = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        if in_window <= self.limit.intensity {
            return Tally { in_window, verdict: Verdict::Within };
        }
        // The oldest has done its work: it made this one too many.
        self.times.pop_front();
        Tally { in_window, verdict: Verdict::Exceeded }
    }

    /// Empties the window.
    pub fn clear(&mut self) {
        self.times.clear();
    }

    /// Restarts that a restart at `now` would find in the window.
    #[must_use]
    pub fn in_window(&self, now: Instant) -> u32 {
        let inside = self.times.iter().filter(|time| self.counts(**time, now)).count();
        u32::try_from(inside).unwrap_or(u32::MAX)
    }

    /// The limit that is counted against.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.limit
    }

    fn forget_before(&mut self, now: Instant) {
        while self.times.front().is_some_and(|time| !self.counts(*time, now)) {
            self.times.pop_front();
        }
    }

    fn counts(&self, time: Instant, now: Instant) -> bool {
        now.saturating_duration_since(time) <= self.limit.period
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limit(intensity: u32, period_ms: u64) -> Limit {
        Limit { intensity, period: Duration::from_millis(period_ms) }
    }

    fn check(limit: Limit, at_ms: &[u64], exceeded: &[bool]) {
        let origin = Instant::now();
        let mut window = Intensity::new(limit);
        let seen: Vec<bool> = at_ms
            .iter()
            .map(|at| window.add(origin + Duration::from_millis(*at)).verdict == Verdict::Exceeded)
            .collect();
        assert_eq!(seen, exceeded, "{limit:?} {at_ms:?}");
    }

    #[test]
    fn the_restart_after_intensity_is_too_many() {
        check(limit(0, 1000), &[0], &[true]);
        check(limit(1, 1000), &[0, 0], &[false, true]);
        check(limit(3, 5000), &[0, 1000, 2000, 3000], &[false, false, false, true]);
    }

    #[test]
    fn restarts_exactly_one_period_apart_count_together() {
        check(limit(1, 1000), &[0, 1000], &[false, true]);
        check(limit(1, 1000), &[0, 1001], &[false, false]);
        check(limit(2, 5000), &[0, 4000, 5000], &[false, false, true]);
        check(limit(2, 5000), &[0, 4000, 5001, 9000], &[false, false, false, true]);
    }

    #[test]
    fn clearing_forgets_everything() {
        let origin = Instant::now();
        let mut window = Intensity::new(limit(1, 1000));
        window.add(origin);
        window.clear();
        assert_eq!(window.in_window(origin), 0);
        assert_eq!(window.add(origin).verdict, Verdict::Within);
    }

    #[test]
    fn another_limit_judges_what_was_counted_before() {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let mut window = Intensity::new(limit(3, 1000));
        for ms in [0, 1, 2] {
            assert_eq!(window.add(at(ms)).verdict, Verdict::Within);
        }
        window.reconfigure(limit(4, 1000));
        assert_eq!(window.add(at(3)), Tally { in_window: 4, verdict: Verdict::Within });
        window.reconfigure(limit(2, 1000));
        assert_eq!(window.add(at(4)), Tally { in_window: 3, verdict: Verdict::Exceeded });
    }

    proptest! {
        #[test]
        fn it_agrees_with_counting_the_whole_history(
            intensity in 0_u32..6,
            period in 1_u64..20,
            gaps in prop::collection::vec(0_u64..8, 0..60),
        ) {
            let origin = Instant::now();
            let mut window = Intensity::new(limit(intensity, period));
            let mut history: Vec<u64> = Vec::new();
            let mut at = 0;
            for gap in gaps {
                at += gap;
                history.push(at);
                let inside = history.iter().filter(|time| at - **time <= period).count();
                let tally = window.add(origin + Duration::from_millis(at));
                let exceeded = usize::try_from(intensity).unwrap() < inside;
                prop_assert_eq!(tally.verdict == Verdict::Exceeded, exceeded);
                if !exceeded {
                    prop_assert_eq!(usize::try_from(tally.in_window).unwrap(), inside);
                }
            }
        }
    }
}
