//! Cumulative sums (Page 1954): small differences that last become large sums, large ones that do
//! not last are forgotten. And means that follow what they are made of.

/// A sum that grows while what is added is above its allowance, and never falls below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cusum {
    sum: f64,
}

impl Cusum {
    /// Adds a value less its allowance; the sum is held at `limit`, so that it can come down again as
    /// fast as it went up.
    pub(super) fn add(&mut self, value: f64, allowance: f64, limit: f64) -> f64 {
        self.sum = (self.sum + value - allowance).clamp(0.0, limit);
        self.sum
    }

    pub(super) fn sum(self) -> f64 {
        self.sum
    }
}

/// A mean that forgets: plain over its first samples, exponential from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Mean {
    value: f64,
    samples: u32,
}

impl Mean {
    /// Takes a sample; each weighs at least `weight` of the whole.
    pub(super) fn add(&mut self, sample: f64, weight: f64) {
        self.samples = self.samples.saturating_add(1);
        let weight = weight.max(1.0 / f64::from(self.samples));
        self.value += weight * (sample - self.value);
    }

    pub(super) fn value(self) -> f64 {
        self.value
    }

    pub(super) fn samples(self) -> u32 {
        self.samples
    }
}

/// Minus log10 of the chance to see `seen` or more where `expected` are expected (Poisson).
pub(super) fn surprise(seen: u32, expected: f64) -> f64 {
    if f64::from(seen) <= expected {
        return 0.0;
    }
    let expected = expected.max(1e-12);
    let mut term = 1.0;
    let mut tail = 1.0;
    // The first term dominates while more is seen than expected; 64 terms are exact enough.
    for step in 1..=64_u32 {
        term *= expected / f64::from(seen.saturating_add(step));
        tail += term;
    }
    let ln_factorial: f64 = (1..=seen).map(|factor| f64::from(factor).ln()).sum();
    let ln_first = f64::from(seen) * expected.ln() - expected - ln_factorial;
    (-(ln_first + tail.ln()) / std::f64::consts::LN_10).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surprise_is_that_of_a_poisson_count() {
        // 50 agents that fail once an hour, a window of 10 s.
        let expected = 50.0 / 360.0;
        for (seen, score) in [(3, 3.4), (4, 4.9), (5, 6.5)] {
            assert!((surprise(seen, expected) - score).abs() < 0.2, "{seen}");
        }
        assert!(surprise(2, 3.0) <= 0.0);
    }

    #[test]
    fn a_sum_forgets_what_does_not_last() {
        let mut sum = Cusum::default();
        assert!(sum.add(3.0, 0.5, 10.0) > 2.0);
        for _ in 0..5 {
            sum.add(0.0, 0.5, 10.0);
        }
        assert!(sum.sum() <= 0.0);
    }

    #[test]
    fn a_mean_is_plain_at_first_and_follows_later() {
        let mut mean = Mean::default();
        for sample in [1.0, 2.0, 3.0] {
            mean.add(sample, 0.1);
        }
        assert!((mean.value() - 2.0).abs() < 1e-9);
        (0..200).for_each(|_| mean.add(9.0, 0.1));
        assert!(8.9 < mean.value() && mean.samples() == 203);
    }
}
