//! A coarse clock: one atomic word that a thread moves on, so that reading the time costs a load.
//!
//! It sleeps when nobody has read it for a while; the next reader wakes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How often the clock moves on.
const TICK: Duration = Duration::from_millis(2);

/// Ticks without a reader after which it sleeps.
const IDLE_TICKS: u32 = 1000;

/// In the place of the time: the clock sleeps.
const ASLEEP: u64 = u64::MAX;

/// Milliseconds since the clock was started.
#[derive(Debug)]
pub struct Ticks {
    now_ms: AtomicU64,
    /// Whether somebody has read it since the thread last looked.
    is_read: AtomicBool,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The machine's monotonic clock.
    Monotonic { origin: Instant, thread: OnceLock<Thread> },
    /// Whoever calls [`Ticks::set_ms`].
    Manual,
}

impl Ticks {
    /// Starts a clock with its thread, which ends when the clock is dropped.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the breakers")]
    pub fn start() -> std::io::Result<Arc<Self>> {
        let source = Source::Monotonic { origin: Instant::now(), thread: OnceLock::new() };
        let ticks =
            Arc::new(Self { now_ms: AtomicU64::new(0), is_read: AtomicBool::new(true), source });
        let weak = Arc::downgrade(&ticks);
        let builder = std::thread::Builder::new().name("provost-ticks".to_owned());
        let thread = builder.spawn(move || run(&weak))?;
        if let Source::Monotonic { thread: slot, .. } = &ticks.source {
            slot.get_or_init(|| thread.thread().clone());
        }
        Ok(ticks)
    }

    /// A clock that stands at 0 until it is set: for tests and simulation.
    #[must_use]
    pub fn manual() -> Arc<Self> {
        Arc::new(Self {
            now_ms: AtomicU64::new(0),
            is_read: AtomicBool::new(true),
            source: Source::Manual,
        })
    }

    /// Sets a manual clock; without effect on another.
    pub fn set_ms(&self, now_ms: u64) {
        if let Source::Manual = self.source {
            self.now_ms.store(now_ms, Ordering::Release);
        }
    }

    /// Milliseconds since the start, as of the last tick.
    #[inline]
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let now = self.now_ms.load(Ordering::Acquire);
        if now == ASLEEP {
            return self.wake();
        }
        if !self.is_read.load(Ordering::Relaxed) {
            self.is_read.store(true, Ordering::Relaxed);
        }
        now
    }

    /// Nanoseconds since a moment before the start; above 0. Differences are exact.
    #[inline]
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the breakers")]
    pub fn now_ns(&self) -> u64 {
        match &self.source {
            Source::Monotonic { origin, .. } => {
                nanos(Instant::now().duration_since(*origin)).saturating_add(1)
            }
            Source::Manual => {
                self.now_ms.load(Ordering::Acquire).saturating_mul(1_000_000).saturating_add(1)
            }
        }
    }

    /// Moves on; tells whether the clock sleeps now.
    fn tick(&self, unread: &mut u32) -> bool {
        let read = self.is_read.swap(false, Ordering::Relaxed);
        *unread = if read { 0 } else { *unread + 1 };
        let asleep = IDLE_TICKS <= *unread;
        let now = if asleep { ASLEEP } else { self.now_ns() / 1_000_000 };
        self.now_ms.store(now, Ordering::Release);
        asleep
    }

    #[cold]
    fn wake(&self) -> u64 {
        let now = self.now_ns() / 1_000_000;
        self.is_read.store(true, Ordering::Relaxed);
        // Whoever comes first sets the time; if the thread has meanwhile, its time stays.
        let set = self.now_ms.compare_exchange(ASLEEP, now, Ordering::AcqRel, Ordering::Acquire);
        if let Source::Monotonic { thread, .. } = &self.source
            && let Some(thread) = thread.get()
        {
            thread.unpark();
        }
        set.map_or_else(|found| if found == ASLEEP { now } else { found }, |_| now)
    }
}

/// Moves the clock on until nobody has it any more.
fn run(ticks: &Weak<Ticks>) {
    let mut unread = 0;
    while let Some(ticks) = ticks.upgrade() {
        let asleep = ticks.tick(&mut unread);
        drop(ticks);
        if asleep {
            std::thread::park();
        } else {
            std::thread::park_timeout(TICK);
        }
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        if let Source::Monotonic { thread, .. } = &self.source
            && let Some(thread) = thread.get()
        {
            thread.unpark();
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
