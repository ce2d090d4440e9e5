//! Repetition of failed calls: whether, when, and how many in all.
//!
//! [`schedule`] decides about one call, attempt by attempt; [`budget`] bounds the repetitions of all
//! calls of a downstream together, so that retries cannot bury a service that is down. Neither reads
//! a clock; times are milliseconds since an origin of the caller's choice, as in `logic::breaker`.
//!
//! A rejection of our own (breaker, bulkhead, rate limit, budget) is never repeated here: it would
//! only be rejected again.

pub mod budget;
pub mod schedule;

pub use budget::{Budget, BudgetConfig};
pub use schedule::{Attempt, Failure, Repetition, Retry, RetryConfig, Stop};
