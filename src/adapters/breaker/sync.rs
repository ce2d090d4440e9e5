//! What the engine needs of the machine: atomics, a lock, stripes, chance; apart, so that a model
//! checker's may stand in their place.

use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;

pub(crate) use std::sync::MutexGuard;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Stripes of counters: as many threads count without touching each other's.
pub(crate) const STRIPES: usize = 4;

/// Slices of a time window, as `logic` has them.
pub(crate) const SLICES: usize = 10;

/// A lock that does not mind a panic of its holder: what it guards is whole after each step.
#[derive(Debug)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stripe of this thread.
#[inline]
pub(crate) fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
    // A thread that is being torn down may share the first one.
    OWN.try_with(|own| *own).unwrap_or(0)
}

/// A draw for an open time.
pub(crate) fn draw() -> f64 {
    fastrand::f64()
}
