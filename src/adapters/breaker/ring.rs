//! The window of the last calls of many threads: a ring of outcomes, two bits each.
//!
//! Which place a result takes is exact and costs one shared counter. The window is emptied by the
//! holder of the breaker's lock; a thread that was interrupted between taking its place and filling
//! it, for as long as the circuit was open and half-open, may leave one result in the new window.

use crate::adapters::breaker::sync::{AtomicU64, Ordering};
use crate::logic::breaker::Counts;
use crate::logic::breaker::outcome::Class;

const PLACES_PER_WORD: u64 = 32;
const ERROR: u64 = 2;
const SLOW: u64 = 1;

/// The window.
#[derive(Debug)]
pub(crate) struct Ring {
    most: u64,
    /// Results since the window was emptied.
    cursor: AtomicU64,
    /// Failures in the high half, slow results in the low one.
    sums: AtomicU64,
    places: Box<[AtomicU64]>,
}

impl Ring {
    pub(crate) fn new(most: u32) -> Self {
        let most = u64::from(most.max(1));
        let words = 0..most.div_ceil(PLACES_PER_WORD);
        let places = words.map(|_| AtomicU64::new(0)).collect();
        Self { most, cursor: AtomicU64::new(0), sums: AtomicU64::new(0), places }
    }

    /// Adds a result in the place of the oldest.
    #[inline]
    pub(crate) fn add(&self, class: Class) {
        let place = self.cursor.fetch_add(1, Ordering::SeqCst) % self.most;
        let word = usize::try_from(place / PLACES_PER_WORD).unwrap_or(0);
        let Some(word) = self.places.get(word) else { return };
        let shift = place % PLACES_PER_WORD * 2;
        let bits = error_bit(class) | slow_bit(class);
        let mut seen = word.load(Ordering::Acquire);
        let old = loop {
            let old = seen >> shift & (ERROR | SLOW);
            if old == bits {
                return;
            }
            let next = seen ^ (old ^ bits) << shift;
            match word.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break old,
                Err(found) => seen = found,
            }
        };
        // Differences of the halves; a borrow between them is undone by who takes it back.
        let delta = halves(bits).wrapping_sub(halves(old));
        self.sums.fetch_add(delta, Ordering::SeqCst);
    }

    /// Empties the window.
    pub(crate) fn clear(&self) {
        for word in &self.places {
            word.store(0, Ordering::SeqCst);
        }
        self.sums.store(0, Ordering::SeqCst);
        self.cursor.store(0, Ordering::SeqCst);
    }

    /// Sums of the window.
    pub(crate) fn sum(&self) -> Counts {
        let sums = self.sums.load(Ordering::SeqCst);
        let calls = self.cursor.load(Ordering::SeqCst).min(self.most);
        // Between two steps of another thread a sum may be below zero or above the calls.
        let part = |sum: u64| if sum > u64::from(u32::MAX / 2) { 0 } else { sum.min(calls) };
        let (errors, slow) = (part(sums >> 32), part(sums & u64::from(u32::MAX)));
        Counts { calls, errors, slow, consecutive: 0 }
    }
}

fn error_bit(class: Class) -> u64 {
    if class.is_error() { ERROR } else { 0 }
}

fn slow_bit(class: Class) -> u64 {
    if class.is_slow() { SLOW } else { 0 }
}

fn halves(bits: u64) -> u64 {
    (bits >> 1) << 32 | bits & SLOW
}
