//! What several tests share: a real NATS server of one's own, and waiting on conditions.
//!
//! Not for assertions about provost itself. Nothing here sleeps for a fixed time: what is waited
//! for is a condition with a deadline, and the panic says what did not happen.

#![allow(dead_code, reason = "not every helper is used by every set of tests")]

pub(crate) mod brokers;
pub(crate) mod daemon;
pub(crate) mod nats;
pub(crate) mod scripted;
pub(crate) mod transport;

use std::time::{Duration, Instant};

/// Longest time that [`eventually`] waits; generous, because the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value and returns it; panics with `what` at the deadline.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// As [`eventually`], for a value that is looked at again and again; gives back the last one when
/// it is never as wanted.
pub(crate) async fn eventually_told<V, T>(
    mut look: impl AsyncFnMut() -> V,
    wanted: impl Fn(&V) -> Option<T>,
) -> Result<T, V> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let value = look().await;
        if let Some(found) = wanted(&value) {
            return Ok(found);
        }
        if deadline <= Instant::now() {
            return Err(value);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// As [`eventually`], for tests without a runtime.
pub(crate) fn eventually_blocking<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_or(|| what.to_owned(), condition)
}

/// As [`eventually_blocking`]; what is missing is found out when it is.
pub(crate) fn eventually_or<T>(
    what: impl Fn() -> String,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {}", what());
        std::thread::sleep(LOOK_EVERY);
    }
}
