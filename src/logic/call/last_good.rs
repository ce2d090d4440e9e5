//! The last good answers of one downstream, for the time when it gives none.
//!
//! Bounded: [`ENTRIES_MAX`] answers of [`ENTRY_BYTES_MAX`] each; the one that was renewed longest
//! ago goes first. A larger answer is not kept, and the older one to the same request goes, because
//! it is no longer the last.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// Most answers kept.
pub const ENTRIES_MAX: usize = 1_000;

/// Largest request and answer together that are kept, in bytes of JSON.
pub const ENTRY_BYTES_MAX: usize = 16 * 1024;

/// The last good answers, by request.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    entries: BTreeMap<String, Entry>,
    /// Requests by the order of their renewal.
    order: BTreeMap<u64, String>,
    renewals: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    order: u64,
    at_ms: u64,
    answer: Arc<Value>,
}

/// A kept answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The answer.
    pub answer: Arc<Value>,
    /// Its age in milliseconds.
    pub age_ms: u64,
}

impl LastGood {
    /// Keeps an answer of `bytes` bytes as the last one to a request.
    pub fn keep(&mut self, now_ms: u64, request: String, answer: Arc<Value>, bytes: usize) {
        self.forget(&request);
        if ENTRY_BYTES_MAX < bytes.saturating_add(request.len()) {
            return;
        }
        self.renewals = self.renewals.saturating_add(1);
        let order = self.renewals;
        self.order.insert(order, request.clone());
        self.entries.insert(request, Entry { order, at_ms: now_ms, answer });
        if ENTRIES_MAX < self.entries.len()
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// The last answer to a request, unless it is older than `age_max_ms`.
    #[must_use]
    pub fn get(&self, now_ms: u64, request: &str, age_max_ms: u64) -> Option<Kept> {
        let entry = self.entries.get(request)?;
        let age_ms = now_ms.saturating_sub(entry.at_ms);
        (age_ms <= age_max_ms).then(|| Kept { answer: Arc::clone(&entry.answer), age_ms })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn forget(&mut self, request: &str) {
        if let Some(entry) = self.entries.remove(request) {
            self.order.remove(&entry.order);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keep(kept: &mut LastGood, now_ms: u64, request: &str, answer: u64) {
        kept.keep(now_ms, request.to_owned(), Arc::new(json!(answer)), 2);
    }

    #[test]
    fn the_last_answer_is_given_with_its_age_until_it_is_too_old() {
        let mut kept = LastGood::default();
        keep(&mut kept, 100, "a", 1);
        keep(&mut kept, 200, "a", 2);
        let found = kept.get(250, "a", 50).unwrap();
        assert_eq!((&*found.answer, found.age_ms), (&json!(2), 50));
        assert_eq!(kept.get(251, "a", 50), None);
        assert_eq!(kept.get(250, "b", 50), None);
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn the_longest_unrenewed_goes_first_and_memory_is_bounded() {
        let mut kept = LastGood::default();
        (0..ENTRIES_MAX).for_each(|n| keep(&mut kept, 0, &n.to_string(), 0));
        keep(&mut kept, 0, "0", 7);
        keep(&mut kept, 0, "one more", 0);
        assert_eq!((kept.len(), kept.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
        assert!(kept.get(0, "1", 9).is_none());
        assert!(kept.get(0, "0", 9).is_some());
    }

    #[test]
    fn an_answer_that_is_too_large_replaces_the_older_one_by_none() {
        let mut kept = LastGood::default();
        keep(&mut kept, 0, "a", 1);
        kept.keep(0, "a".to_owned(), Arc::new(json!(2)), ENTRY_BYTES_MAX);
        assert!(kept.is_empty() && kept.order.is_empty());
    }
}
