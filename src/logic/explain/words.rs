//! Numbers as people read them.

use crate::protocol::decision::{Input, Inputs};

/// A length of time in the unit that tells it best: `450 ms`, `3.2 s`, `90 s`, `5 min`, `2 h`, `3 d`.
#[must_use]
pub fn span(milliseconds: u64) -> String {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;

    let is_minutes = milliseconds.is_multiple_of(MINUTE) || 10 * MINUTE <= milliseconds;
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..10_000 if !milliseconds.is_multiple_of(1_000) => {
            let tenths = milliseconds / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        ms if ms < 2 * MINUTE || !is_minutes => format!("{} s", ms / 1_000),
        ms if ms < 2 * HOUR => format!("{} min", ms / MINUTE),
        ms if ms < 2 * DAY => format!("{} h", ms / HOUR),
        ms => format!("{} d", ms / DAY),
    }
}

/// Reads inputs by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Say<'a>(pub(super) &'a Inputs);

impl Say<'_> {
    /// An input in words; `?` when it is not there.
    pub(super) fn get(self, name: &str) -> String {
        self.known(name).unwrap_or_else(|| "?".to_owned())
    }

    /// An input in words.
    pub(super) fn known(self, name: &str) -> Option<String> {
        Some(match self.0.0.get(name)? {
            Input::Count(count) if name.ends_with("_ms") => span(*count),
            Input::Count(count) => count.to_string(),
            Input::Number(number) => number.to_string(),
            Input::Flag(flag) => flag.to_string(),
            Input::Word(word) => word.clone(),
        })
    }

    /// A whole number.
    pub(super) fn count(self, name: &str) -> Option<u64> {
        match self.0.0.get(name)? {
            Input::Count(count) => Some(*count),
            Input::Number(_) | Input::Flag(_) | Input::Word(_) => None,
        }
    }
}

/// A number with its noun.
pub(super) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
