//! The two doors that refuse calls by number: so many in a time, so many at a time.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::config::RateLimit;

/// So many calls in a time, spread evenly.
pub(crate) struct Limiter {
    inner: RateLimiter<NotKeyed, InMemoryState, Since, NoOpMiddleware<Duration>>,
    clock: Since,
}

/// Time since an origin, by tokio's clock.
#[derive(Clone, Copy, Debug)]
struct Since(Instant);

impl Clock for Since {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limiter")
    }
}

impl Limiter {
    /// A limit that begins with its whole burst. `None` for a time between calls of zero, which
    /// limits nothing.
    pub(crate) fn new(limit: RateLimit) -> Option<Self> {
        let quota = Quota::with_period(limit.every)?.allow_burst(limit.burst);
        let clock = Since(Instant::now());
        Some(Self { inner: RateLimiter::direct_with_clock(quota, clock), clock })
    }

    /// Lets one call pass, or says after which time one would.
    pub(crate) fn pass(&self) -> Result<(), Duration> {
        self.inner.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// So many calls at a time; a few more may wait for a while.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    places: Semaphore,
    places_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    wait_max: Duration,
}

/// There is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Full {
    /// As many wait as may.
    #[error("{max_concurrent} calls are under way and {max_waiting} wait, which is the most")]
    Waiting {
        /// Calls under way.
        max_concurrent: usize,
        /// Calls that wait.
        max_waiting: usize,
    },
    /// None became free in time.
    #[error("{max_concurrent} calls are under way, which is the most, and none ended within {} ms", .waited.as_millis())]
    Late {
        /// Calls under way.
        max_concurrent: usize,
        /// How long it waited.
        waited: Duration,
    },
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Bulkhead {
    pub(crate) fn new(places_max: usize, waiting_max: usize, wait_max: Duration) -> Self {
        let places = Semaphore::new(places_max.min(Semaphore::MAX_PERMITS));
        Self { places, places_max, waiting: AtomicUsize::new(0), waiting_max, wait_max }
    }

    /// Takes a place, given back on drop; waits at most as long as configured and as `patience`
    /// allows. Those that wait are served in their order.
    ///
    /// # Cancel safety
    ///
    /// A call that goes away while it waits leaves nothing behind.
    pub(crate) async fn enter(
        &self,
        patience: Option<Duration>,
    ) -> Result<SemaphorePermit<'_>, Full> {
        let max_concurrent = self.places_max;
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let waited = self.wait_max.min(patience.unwrap_or(Duration::MAX));
        if waited.is_zero() {
            return Err(Full::Late { max_concurrent, waited });
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if self.waiting_max <= before {
            return Err(Full::Waiting { max_concurrent, max_waiting: self.waiting_max });
        }
        match tokio::time::timeout(waited, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(Full::Late { max_concurrent, waited }),
        }
    }

    /// Calls under way.
    pub(crate) fn taken(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// Calls that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_call_in_its_time() {
        let burst = NonZeroU32::new(3).unwrap();
        let limiter = Limiter::new(RateLimit { every: Duration::from_millis(100), burst }).unwrap();
        assert!((0..3).all(|_| limiter.pass().is_ok()));
        assert_eq!(limiter.pass(), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(99)).await;
        assert_eq!(limiter.pass(), Err(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(limiter.pass(), Ok(()));
        assert!(limiter.pass().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_within_both_bounds() {
        let bulkhead = Bulkhead::new(1, 1, Duration::from_millis(50));
        let place = bulkhead.enter(None).await.unwrap();
        assert_eq!(bulkhead.taken(), 1);
        let (late, too_many) = tokio::join!(bulkhead.enter(None), bulkhead.enter(None));
        let waited = Duration::from_millis(50);
        assert_eq!(late.err(), Some(Full::Late { max_concurrent: 1, waited }));
        assert_eq!(too_many.err(), Some(Full::Waiting { max_concurrent: 1, max_waiting: 1 }));
        assert_eq!(bulkhead.waiting(), 0);
        let hurried = bulkhead.enter(Some(Duration::ZERO)).await.err();
        assert_eq!(hurried, Some(Full::Late { max_concurrent: 1, waited: Duration::ZERO }));
        let free = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(place);
        };
        let (second, ()) = tokio::join!(bulkhead.enter(None), free);
        assert!(second.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_while_waiting_leaves_nothing_behind() {
        let bulkhead = Bulkhead::new(1, 1, Duration::from_secs(50));
        let place = bulkhead.enter(None).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(1), bulkhead.enter(None)).await;
        assert!(waits.is_err());
        assert_eq!((bulkhead.waiting(), bulkhead.taken()), (0, 1));
        drop(place);
        assert_eq!(bulkhead.taken(), 0);
    }
}
