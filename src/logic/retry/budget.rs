//! The budget of repetitions of one downstream: a bucket of tokens.
//!
//! Each first attempt puts a share of a token in, each repetition takes a whole one out, and a small
//! reserve flows in with time, so that a downstream that is seldom called may be repeated as well.
//! Retries, hedges and redeliveries share one budget. The bucket holds what ten seconds of calls put
//! in at most, so that old successes do not pay for a storm.

/// Rules of a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetConfig {
    /// Repetitions for each first attempt, 0 to 1.
    pub share: f64,
    /// Repetitions for each second, besides.
    pub reserve_per_second: f64,
    /// Tokens that the bucket holds at most; at least 1.
    pub tokens_max: f64,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { share: 0.2, reserve_per_second: 1.0, tokens_max: 100.0 }
    }
}

/// The budget of one downstream. Starts with what ten seconds of reserve put in.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    config: BudgetConfig,
    tokens: f64,
    now_ms: u64,
    refused: u64,
}

/// Seconds of reserve that a new bucket holds.
const START_SECONDS: f64 = 10.0;

impl Budget {
    /// A budget that begins at `now_ms`.
    #[must_use]
    pub fn new(config: BudgetConfig, now_ms: u64) -> Self {
        let tokens = (config.reserve_per_second * START_SECONDS).min(config.tokens_max);
        Self { config, tokens: tokens.max(1.0), now_ms, refused: 0 }
    }

    /// Notes a first attempt.
    pub fn deposit(&mut self, now_ms: u64) {
        self.flow(now_ms);
        self.tokens = (self.tokens + self.config.share).min(self.config.tokens_max);
    }

    /// Takes a repetition out; `false` if there is none.
    #[must_use]
    pub fn withdraw(&mut self, now_ms: u64) -> bool {
        self.flow(now_ms);
        let enough = 1.0 <= self.tokens;
        if enough {
            self.tokens -= 1.0;
        } else {
            self.refused = self.refused.saturating_add(1);
        }
        enough
    }

    /// Repetitions that could be taken now.
    #[must_use]
    pub fn tokens(&self) -> f64 {
        self.tokens
    }

    /// Repetitions refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    #[expect(clippy::cast_precision_loss, reason = "a pause of more than 2^52 ms is none")]
    fn flow(&mut self, now_ms: u64) {
        // A clock that goes back brings nothing and takes nothing.
        let passed = now_ms.saturating_sub(self.now_ms) as f64 / 1000.0;
        self.now_ms = self.now_ms.max(now_ms);
        let flown = self.tokens + passed * self.config.reserve_per_second;
        self.tokens = flown.min(self.config.tokens_max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fifth_of_the_calls_may_be_repeated_and_one_a_second_besides() {
        let mut budget = Budget::new(BudgetConfig::default(), 0);
        while budget.withdraw(0) {}
        for _ in 0..50 {
            budget.deposit(0);
        }
        // A sum of fifths may lie a hair below the whole.
        let taken = (0..100).filter(|_| budget.withdraw(0)).count();
        assert!((9..=10).contains(&taken), "{taken}");
        assert!(budget.withdraw(1000));
        assert!(!budget.withdraw(1000));
        assert!(budget.refused() > 90);
    }

    #[test]
    fn a_downstream_that_is_seldom_called_may_be_repeated() {
        let mut budget = Budget::new(BudgetConfig::default(), 0);
        assert!((0..10).all(|_| budget.withdraw(0)));
        assert!(!budget.withdraw(999));
        assert!(budget.withdraw(1000));
    }

    #[test]
    fn old_calls_do_not_pay_for_a_storm() {
        let mut budget = Budget::new(BudgetConfig::default(), 0);
        (0..1_000_000).for_each(|_| budget.deposit(0));
        assert_eq!((0..1000).filter(|_| budget.withdraw(0)).count(), 100);
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let mut budget = Budget::new(BudgetConfig::default(), 10_000);
        while budget.withdraw(10_000) {}
        assert!(!budget.withdraw(0));
        assert!(!budget.withdraw(10_000));
    }

    proptest! {
        #[test]
        fn repetitions_never_exceed_share_reserve_and_bucket(
            steps in proptest::collection::vec((0_u64..100, any::<bool>()), 0..500),
        ) {
            let config = BudgetConfig { tokens_max: 20.0, ..BudgetConfig::default() };
            let mut budget = Budget::new(config, 0);
            let (mut now, mut calls, mut taken) = (0, 0_u32, 0_u32);
            for (wait, repeats) in steps {
                now += wait;
                if repeats {
                    taken += u32::from(budget.withdraw(now));
                } else {
                    budget.deposit(now);
                    calls += 1;
                }
            }
            let seconds = now as f64 / 1000.0;
            let most = 10.0 + f64::from(calls) * config.share + seconds + 1e-6;
            prop_assert!(f64::from(taken) <= most);
        }
    }
}
