//! Instants of crashes and of replacements, and figures made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Notes crashes and replacements.
#[derive(Debug)]
pub(crate) struct Probe {
    origin: Instant,
    crashed: AtomicU64,
    up: AtomicU64,
    ups: AtomicU64,
    expected: AtomicU64,
    all_up: Arc<Notify>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            crashed: AtomicU64::new(0),
            up: AtomicU64::new(0),
            ups: AtomicU64::new(0),
            expected: AtomicU64::new(u64::MAX),
            all_up: Arc::new(Notify::new()),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.now().as_nanos()).unwrap()
    }

    /// Counts from nought; ready when so many have come up.
    pub(crate) fn expect(&self, count: u64) -> impl Future<Output = ()> + Send + 'static {
        self.ups.store(0, Ordering::SeqCst);
        self.expected.store(count, Ordering::SeqCst);
        let all_up = Arc::clone(&self.all_up);
        async move { all_up.notified().await }
    }

    /// The last thing a child does.
    pub(crate) fn crash(&self) {
        self.crashed.store(self.nanos(), Ordering::SeqCst);
    }

    /// The first thing a child does.
    pub(crate) fn up(&self) {
        self.up.store(self.nanos(), Ordering::SeqCst);
        if self.ups.fetch_add(1, Ordering::SeqCst) + 1 == self.expected.load(Ordering::SeqCst) {
            self.all_up.notify_one();
        }
    }

    pub(crate) fn last_up(&self) -> Duration {
        Duration::from_nanos(self.up.load(Ordering::SeqCst))
    }

    pub(crate) fn since_crash(&self) -> Duration {
        self.last_up().saturating_sub(Duration::from_nanos(self.crashed.load(Ordering::SeqCst)))
    }
}

/// Median, 99th percentile and extremes.
pub(crate) fn summary(taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    let at = |percent: usize| {
        let index = (taken.len() * percent / 100).min(taken.len() - 1);
        taken.get(index).copied().unwrap()
    };
    let (min, max) = (at(0), at(100));
    format!("median {:.1?}  p99 {:.1?}  min {min:.1?}  max {max:.1?}", at(50), at(99))
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> u64 {
    status("VmRSS:")
}

/// The most that was ever resident, in bytes.
pub(crate) fn peak() -> u64 {
    status("VmHWM:")
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
