//! When a failed call is repeated: delays that grow, drawn over their whole length, never past the
//! call's deadline, and never before the time that the service named.

use std::time::Duration;

use crate::logic::backoff::{grown, unit};
use crate::logic::breaker::config::millis;
use crate::logic::retry::budget::Budget;

/// Rules of repetition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryConfig {
    /// Attempts in all; at least 1.
    pub max_attempts: u32,
    /// Longest first delay.
    pub initial: Duration,
    /// Longest first delay after the service said that it is asked too often.
    pub initial_throttled: Duration,
    /// Growth; at least 1.
    pub multiplier: f64,
    /// Longest delay of all.
    pub max: Duration,
    /// Longest wait that a service may ask for; one that asks for more is not asked again.
    pub retry_after_max: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial: Duration::from_millis(100),
            initial_throttled: Duration::from_secs(1),
            multiplier: 2.0,
            max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(30),
        }
    }
}

/// What a call may do a second time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repetition {
    /// Doing it twice is doing it once, or the service recognises it by its key.
    Idempotent,
    /// Doing it twice does it twice.
    Once,
}

/// Why an attempt failed, as far as repetition goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// It surely did not reach the service: no connection.
    NotSent,
    /// It reached the service, which said that it did nothing and may be asked again.
    Transient,
    /// The service is asked too often.
    Throttled,
    /// Nobody knows whether the service did it: no answer in time, connection lost.
    Ambiguous,
    /// The service said no, and will again.
    Final,
    /// Rejected on our side.
    Rejected,
}

/// A failed attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// Why it failed.
    pub failure: Failure,
    /// In how many milliseconds the service wants to be asked again, if it said so.
    pub retry_after_ms: Option<u64>,
}

/// Why a call is not repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// It would fail again.
    NotRetryable,
    /// Nobody knows whether it was done, and doing it twice would do it twice.
    NotIdempotent,
    /// All attempts are made.
    AttemptsExhausted,
    /// The repetition would begin after the deadline.
    DeadlineTooNear,
    /// The service asks for a longer wait than is allowed.
    RetryAfterTooLong,
    /// The downstream's budget is used up.
    BudgetExhausted,
}

/// The repetitions of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    config: RetryConfig,
    repetition: Repetition,
    deadline_ms: Option<u64>,
    attempts: u32,
}

impl Retry {
    /// A call that begins: its first attempt is under way.
    #[must_use]
    pub fn new(config: RetryConfig, repetition: Repetition, deadline_ms: Option<u64>) -> Self {
        Self { config, repetition, deadline_ms, attempts: 1 }
    }

    /// Judges a failed attempt: the wait before the next, or why there is none. `fraction` is the
    /// draw. The budget is asked last, so that only a repetition that takes place is paid.
    ///
    /// # Errors
    ///
    /// Why the call is not repeated.
    pub fn on_failure(
        &mut self,
        now_ms: u64,
        attempt: Attempt,
        fraction: f64,
        budget: &mut Budget,
    ) -> Result<Duration, Stop> {
        match (attempt.failure, self.repetition) {
            (Failure::Final | Failure::Rejected, _) => return Err(Stop::NotRetryable),
            (Failure::Ambiguous, Repetition::Once) => return Err(Stop::NotIdempotent),
            (Failure::NotSent | Failure::Transient | Failure::Throttled, _)
            | (Failure::Ambiguous, Repetition::Idempotent) => {}
        }
        if self.config.max_attempts <= self.attempts {
            return Err(Stop::AttemptsExhausted);
        }
        let wait = self.wait(attempt, fraction)?;
        let begins = now_ms.saturating_add(millis(wait));
        if self.deadline_ms.is_some_and(|deadline| deadline <= begins) {
            return Err(Stop::DeadlineTooNear);
        }
        if !budget.withdraw(now_ms) {
            return Err(Stop::BudgetExhausted);
        }
        self.attempts += 1;
        Ok(wait)
    }

    /// Attempts so far, with the one under way.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    fn wait(&self, attempt: Attempt, fraction: f64) -> Result<Duration, Stop> {
        let config = &self.config;
        let first = match attempt.failure {
            Failure::Throttled => config.initial_throttled.max(config.initial),
            Failure::NotSent
            | Failure::Transient
            | Failure::Ambiguous
            | Failure::Final
            | Failure::Rejected => config.initial,
        };
        let ceiling =
            grown(first.min(config.max), config.multiplier, self.attempts - 1, config.max);
        let drawn = ceiling.mul_f64(unit(fraction));
        let Some(wish) = attempt.retry_after_ms.map(Duration::from_millis) else {
            return Ok(drawn);
        };
        if config.retry_after_max < wish {
            return Err(Stop::RetryAfterTooLong);
        }
        // After the named time, spread: else all that were told the same come back together.
        Ok(wish.saturating_add(drawn))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logic::retry::budget::BudgetConfig;

    fn budget() -> Budget {
        Budget::new(BudgetConfig::default(), 0)
    }

    fn failed(failure: Failure) -> Attempt {
        Attempt { failure, retry_after_ms: None }
    }

    fn call(deadline_ms: Option<u64>) -> Retry {
        let config = RetryConfig { max_attempts: 10, ..RetryConfig::default() };
        Retry::new(config, Repetition::Idempotent, deadline_ms)
    }

    #[test]
    fn each_failure_has_its_answer() {
        use Failure::{Ambiguous, Final, NotSent, Rejected, Throttled, Transient};
        use Repetition::{Idempotent, Once};
        let table = [
            (NotSent, Idempotent, None),
            (NotSent, Once, None),
            (Transient, Idempotent, None),
            (Transient, Once, None),
            (Throttled, Idempotent, None),
            (Throttled, Once, None),
            (Ambiguous, Idempotent, None),
            (Ambiguous, Once, Some(Stop::NotIdempotent)),
            (Final, Idempotent, Some(Stop::NotRetryable)),
            (Final, Once, Some(Stop::NotRetryable)),
            (Rejected, Idempotent, Some(Stop::NotRetryable)),
            (Rejected, Once, Some(Stop::NotRetryable)),
        ];
        for (failure, repetition, stop) in table {
            let mut retry = Retry::new(RetryConfig::default(), repetition, None);
            let answer = retry.on_failure(0, failed(failure), 0.0, &mut budget());
            assert_eq!(answer.err(), stop, "{failure:?} {repetition:?}");
        }
    }

    #[test]
    fn delays_grow_to_their_cap_and_are_drawn_over_their_whole_length() {
        let (mut retry, mut budget) = (call(None), budget());
        let mut wait = |fraction| {
            let wait = retry.on_failure(0, failed(Failure::Transient), fraction, &mut budget);
            wait.expect("an attempt is left").as_millis()
        };
        assert_eq!([1.0; 3].map(&mut wait), [100, 200, 400]);
        assert_eq!([0.0, 0.5, f64::NAN].map(&mut wait), [0, 800, 0]);
        assert_eq!([1.0; 3].map(&mut wait), [6400, 12_800, 25_600]);
    }

    #[test]
    fn a_throttled_call_waits_longer_from_the_start() {
        let wait = call(None).on_failure(0, failed(Failure::Throttled), 1.0, &mut budget());
        assert_eq!(wait, Ok(Duration::from_secs(1)));
    }

    #[test]
    fn a_named_time_is_honoured_spread_and_bounded() {
        let named = |ms| Attempt { failure: Failure::Throttled, retry_after_ms: Some(ms) };
        let wait = |ms, fraction| call(None).on_failure(0, named(ms), fraction, &mut budget());
        assert_eq!(wait(2000, 0.0), Ok(Duration::from_secs(2)));
        assert_eq!(wait(2000, 1.0), Ok(Duration::from_secs(3)));
        assert_eq!(wait(30_000, 0.0), Ok(Duration::from_secs(30)));
        assert_eq!(wait(30_001, 0.0), Err(Stop::RetryAfterTooLong));
    }

    #[test]
    fn attempts_deadline_and_budget_end_it_and_only_a_repetition_is_paid() {
        let mut retry = Retry::new(RetryConfig::default(), Repetition::Idempotent, None);
        let mut budget = budget();
        let mut fail = |retry: &mut Retry, now| {
            retry.on_failure(now, failed(Failure::Transient), 1.0, &mut budget)
        };
        assert!(fail(&mut retry, 0).is_ok() && fail(&mut retry, 0).is_ok());
        assert_eq!(fail(&mut retry, 0), Err(Stop::AttemptsExhausted));
        assert_eq!(fail(&mut call(Some(100)), 0), Err(Stop::DeadlineTooNear));
        assert!(fail(&mut call(Some(101)), 0).is_ok());
        for _ in 0..7 {
            assert!(fail(&mut call(None), 0).is_ok());
        }
        assert_eq!(fail(&mut call(None), 0), Err(Stop::BudgetExhausted));
    }

    proptest! {
        #[test]
        fn a_wait_never_exceeds_the_longest_delay_or_reaches_the_deadline(
            fractions in proptest::collection::vec(0.0_f64..=1.0, 1..20),
            deadline in 1_u64..100_000,
        ) {
            let (mut retry, mut budget) = (call(Some(deadline)), budget());
            let mut now = 0;
            for fraction in fractions {
                match retry.on_failure(now, failed(Failure::Transient), fraction, &mut budget) {
                    Ok(wait) => {
                        prop_assert!(wait <= Duration::from_secs(30));
                        now += millis(wait);
                        prop_assert!(now < deadline);
                    }
                    Err(_) => break,
                }
            }
            prop_assert!(retry.attempts() <= 10);
        }
    }
}
