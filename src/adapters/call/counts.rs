//! Counts of one downstream: for its status since it was made, for health events since the last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::protocol::downstream::{CallCounts, CallDone, CallError, CallErrorKind, CallSource};
use crate::protocol::fact::HealthMetrics;

/// Counts, without a lock.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    calls: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    retries: AtomicU64,
    fallbacks: AtomicU64,
    /// Attempts that were answered well and those that were not, and the time of both, since the
    /// last measurement.
    good: AtomicU64,
    bad: AtomicU64,
    micros: AtomicU64,
}

impl Tallies {
    pub(crate) fn taken(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has its answer. What provost refused and nothing else answered counts apart.
    pub(crate) fn ended(&self, answer: &Result<CallDone, CallError>) {
        let count = match answer {
            Ok(done) => {
                if done.source != CallSource::Live {
                    self.fallbacks.fetch_add(1, Ordering::Relaxed);
                }
                &self.succeeded
            }
            Err(error) => match error.kind {
                CallErrorKind::CircuitOpen | CallErrorKind::BulkheadFull => &self.refused,
                // The downstream's own limit comes with its code.
                CallErrorKind::RateLimited if error.code.is_none() => &self.refused,
                CallErrorKind::RateLimited
                | CallErrorKind::InvalidRequest
                | CallErrorKind::Unsupported
                | CallErrorKind::Timeout
                | CallErrorKind::RemoteError
                | CallErrorKind::Unavailable => &self.failed,
            },
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt has ended.
    pub(crate) fn attempted(&self, well: Well, took: Duration) {
        let count = match well {
            Well::Good => &self.good,
            Well::Bad => &self.bad,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> CallCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CallCounts {
            calls: read(&self.calls),
            succeeded: read(&self.succeeded),
            failed: read(&self.failed),
            refused: read(&self.refused),
            retries: read(&self.retries),
            fallbacks: read(&self.fallbacks),
        }
    }

    /// What was seen within the last `passed`; begins anew. Values that nothing was seen of are
    /// null, and so are those that a service elsewhere does not show.
    #[expect(clippy::cast_precision_loss, reason = "counts of one interval are far below 2^52")]
    pub(crate) fn measure(&self, passed: Duration) -> HealthMetrics {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed) as f64;
        let (good, bad, micros) = (take(&self.good), take(&self.bad), take(&self.micros));
        let all = good + bad;
        let seen = 0.0 < all;
        HealthMetrics {
            response_time_ms: seen.then(|| micros / all / 1000.0),
            error_rate: seen.then(|| bad / all),
            throughput: (!passed.is_zero()).then(|| all / passed.as_secs_f64()),
            ..HealthMetrics::default()
        }
    }
}

/// Whether the downstream did as it should.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Well {
    /// It did.
    Good,
    /// It did not.
    Bad,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_begins_anew_and_invents_nothing() {
        let tallies = Tallies::default();
        tallies.attempted(Well::Good, Duration::from_millis(10));
        tallies.attempted(Well::Bad, Duration::from_millis(30));
        let seen = tallies.measure(Duration::from_secs(4));
        assert_eq!(seen.response_time_ms, Some(20.0));
        assert_eq!((seen.error_rate, seen.throughput), (Some(0.5), Some(0.5)));
        let idle = tallies.measure(Duration::from_secs(4));
        assert_eq!((idle.response_time_ms, idle.error_rate), (None, None));
        assert_eq!(idle.throughput, Some(0.0));
        assert_eq!(idle.memory_mb, None);
    }
}
