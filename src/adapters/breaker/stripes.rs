//! The time window of many threads: for each stripe and slice a word of all results and a word of
//! bad ones.
//!
//! Each word carries the epoch it counts in: a number that grows with each slice, and by a whole
//! window where the window is emptied. A word of another epoch is empty, so emptying costs nothing,
//! and a result of a past epoch cannot get into a new one.

use crate::adapters::breaker::sync::{AtomicU64, Ordering, SLICES, STRIPES, stripe};
use crate::logic::breaker::Counts;
use crate::logic::breaker::outcome::Class;

/// Bits of a word that hold the epoch.
const EPOCH_BITS: u32 = 24;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;
const EPOCH_SHIFT: u32 = 64 - EPOCH_BITS;
/// Bits of all results: a slice of a stripe counts up to 2^40.
const ALL_MASK: u64 = (1 << EPOCH_SHIFT) - 1;
/// Bits of failures and of slow results: up to 1,048,575 each in a slice of a stripe; more are not
/// counted.
const BAD_BITS: u32 = 20;
const BAD_MASK: u64 = (1 << BAD_BITS) - 1;

/// One slice of one stripe. Stripes lie further apart than a cache line for the same slice, and all
/// threads count in the same slice, so no two stripes share a line where it matters.
#[derive(Debug)]
struct Slice {
    all: AtomicU64,
    bad: AtomicU64,
}

/// The window.
#[derive(Debug)]
pub(crate) struct Stripes([[Slice; SLICES]; STRIPES]);

impl Stripes {
    pub(crate) fn new() -> Self {
        let slice = |_| Slice { all: AtomicU64::new(0), bad: AtomicU64::new(0) };
        Self(std::array::from_fn(|_| std::array::from_fn(slice)))
    }

    /// Adds a result; one of a past epoch is lost, as it should be.
    #[inline]
    pub(crate) fn add(&self, epoch: u64, class: Class) {
        let stripe = self.0.get(stripe() % STRIPES);
        let Some(slice) = stripe.and_then(|stripe| stripe.get(index(epoch))) else { return };
        bump(&slice.all, epoch, 1, ALL_MASK);
        if class == Class::Ok {
            return;
        }
        if class.is_error() {
            bump(&slice.bad, epoch, 1 << BAD_BITS, BAD_MASK << BAD_BITS);
        }
        if class.is_slow() {
            bump(&slice.bad, epoch, 1, BAD_MASK);
        }
    }

    /// Forgets what stands where slices of new epochs will: a word that nobody touched for so long
    /// that its epoch comes again would count otherwise.
    pub(crate) fn clear(&self, from: u64, to: u64) {
        let first = from.max((to + 1).saturating_sub(SLICES as u64));
        for epoch in first..=to {
            for slice in self.0.iter().filter_map(|stripe| stripe.get(index(epoch))) {
                slice.all.store(0, Ordering::SeqCst);
                slice.bad.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Sums of the window that ends with `epoch`.
    pub(crate) fn sum(&self, epoch: u64) -> Counts {
        let mut counts = Counts::default();
        for slice in self.0.iter().flatten() {
            // Bad ones first: they are added last, so that no share is ever seen too high.
            let (bad, all) = (slice.bad.load(Ordering::SeqCst), slice.all.load(Ordering::SeqCst));
            if is_current(bad, epoch) {
                counts.errors += bad >> BAD_BITS & BAD_MASK;
                counts.slow += bad & BAD_MASK;
            }
            if is_current(all, epoch) {
                counts.calls += all & ALL_MASK;
            }
        }
        counts
    }
}

#[inline]
fn index(epoch: u64) -> usize {
    usize::try_from(epoch % SLICES as u64).unwrap_or(0)
}

#[inline]
fn age(word: u64, epoch: u64) -> u64 {
    epoch.wrapping_sub(word >> EPOCH_SHIFT) & EPOCH_MASK
}

fn is_current(word: u64, epoch: u64) -> bool {
    word != 0 && age(word, epoch) < SLICES as u64
}

/// Adds `one` to the part of the word under `mask`, in its epoch.
#[inline]
fn bump(word: &AtomicU64, epoch: u64, one: u64, mask: u64) {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let age = age(seen, epoch);
        let next = if seen != 0 && age == 0 {
            if seen & mask == mask {
                return;
            }
            seen + one
        } else if seen != 0 && EPOCH_MASK / 2 < age {
            // The word is of a later epoch: this result is late.
            return;
        } else {
            (epoch & EPOCH_MASK) << EPOCH_SHIFT | one
        };
        match word.compare_exchange_weak(seen, next, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => return,
            Err(found) => seen = found,
        }
    }
}
