//! Loom's parts in the place of the machine's.

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One, so that threads meet in it.
pub(crate) const STRIPES: usize = 1;

/// Few: each is a step of loom's.
pub(crate) const SLICES: usize = 2;

#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

pub(crate) fn stripe() -> usize {
    0
}

pub(crate) fn draw() -> f64 {
    0.0
}
