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

/// As [`eventually`], for tests without a runtime.
pub(crate) fn eventually_blocking<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
