//! What is queued and spooled: events, holes, and the marks that a spool keeps besides events.
//!
//! Plain data; `queue` has the rules and `record` the bytes.

use bytes::Bytes;
use jiff::Timestamp;

use crate::protocol::id::EventId;

/// Bytes that an event costs besides its payload and subject.
const EVENT_OVERHEAD_BYTES: u64 = 128;

/// What an event is worth when not all can be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// The first to go.
    Health,
    /// Kept as long as possible.
    Other,
}

/// An event without its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Draft {
    pub(crate) id: EventId,
    /// Without prefix, so that a spool outlives a change of the prefix.
    pub(crate) subject: String,
    pub(crate) class: Class,
    pub(crate) payload: Bytes,
    pub(crate) traceparent: Option<String>,
}

/// An event with its place in the order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Event {
    /// Place in the order; a number is never used twice in one spool.
    pub(crate) seq: u64,
    pub(crate) draft: Draft,
}

impl Event {
    /// Bytes that it counts against the bound.
    pub(crate) fn weight(&self) -> u64 {
        let bytes = self.draft.payload.len().saturating_add(self.draft.subject.len());
        u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(EVENT_OVERHEAD_BYTES)
    }

    /// Whether it is neither settled nor dropped.
    pub(crate) fn is_live(&self, marks: &Marks) -> bool {
        let dropped_to = match self.draft.class {
            Class::Health => marks.dropped_health_to,
            Class::Other => marks.dropped_other_to,
        };
        marks.cursor < self.seq && (self.seq == marks.turn || dropped_to < self.seq)
    }
}

/// Dropped events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hole {
    /// Number of the earliest of them: the gap event stands in its place.
    pub(crate) at: u64,
    pub(crate) dropped: u64,
    pub(crate) dropped_health: u64,
    pub(crate) since: Timestamp,
}

/// A hole with the id of the event that tells of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Notice {
    pub(crate) id: EventId,
    pub(crate) hole: Hole,
}

/// What the spool has to remember besides the events.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Marks {
    /// Everything up to here is settled.
    pub(crate) cursor: u64,
    /// Health events up to here were dropped, if not settled before.
    pub(crate) dropped_health_to: u64,
    /// Other events up to here were dropped, if not settled before.
    pub(crate) dropped_other_to: u64,
    /// The turn, which was not dropped; 0 for none.
    pub(crate) turn: u64,
    pub(crate) hole: Option<Hole>,
    pub(crate) notice: Option<Notice>,
}

/// What a spool held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovered {
    /// In order of their numbers.
    pub(crate) events: Vec<Event>,
    pub(crate) marks: Marks,
    /// Events that could not be read: the place of the first, and how many.
    pub(crate) lost: Option<(u64, u64)>,
}
