//! What waits, in which order, and what has to go when there is no room: pure, no I/O, no clock.
//!
//! Words: a *turn* is the one event (or gap notice) that is being published; there is never more
//! than one. A *hole* is a set of dropped events that no gap event has told of yet; there is never
//! more than one of those either, because later drops join it. A *notice* is a hole whose gap
//! event has an id: its counts no longer change. The *cursor* says up to where everything is
//! settled, that is stored, published or dropped.
//!
//! Health events and the others stand in two queues, each in order of its numbers, so that every
//! operation takes constant time: the next turn is the smaller of the two fronts, and what is
//! dropped is always a front. The turn itself is in neither queue and cannot be dropped, because
//! the server may have it already. Hence what was dropped is described by one number per class
//! (everything up to it that is not settled and is not the turn), which is all that the spool has
//! to remember of it ([`Marks`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use crate::protocol::id::EventId;
use crate::transport::outbox::entry::{Class, Draft, Event, Hole, Marks, Notice, Recovered};

/// Subject (without prefix) of the gap events.
pub(crate) const GAP_SUBJECT: &str = "supervision.events";

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// How many events an operation dropped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Dropped {
    pub(crate) health: u64,
    pub(crate) other: u64,
}

impl Dropped {
    fn count(&mut self, class: Class) {
        match class {
            Class::Health => self.health = self.health.saturating_add(1),
            Class::Other => self.other = self.other.saturating_add(1),
        }
    }
}

/// What is to be published now.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) seq: u64,
    pub(crate) what: What,
    /// Whether the server may have it already.
    pub(crate) in_doubt: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Event(Arc<Event>),
    Gap(Notice),
}

/// Whether a turn has to be in the spool before it is published.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Gate {
    SpooledOnly,
    Open,
}

/// The queue. See the page above.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    bounds: Bounds,
    health: VecDeque<Arc<Event>>,
    other: VecDeque<Arc<Event>>,
    bytes: u64,
    turn: Option<Turn>,
    hole: Option<Hole>,
    next_seq: u64,
    marks: Marks,
    /// Events up to here come from an earlier life, so that the server may have them.
    recovered_to: u64,
    /// By subject: up to where recovered events were found stored.
    checked: BTreeMap<String, u64>,
    spooled_to: u64,
    version: u64,
    spooled_version: u64,
    /// This version must be spooled without delay.
    urgent_version: u64,
    /// The turn's notice stands in the spool from this version on.
    notice_version: u64,
    acknowledged: u64,
    dropped: u64,
}

impl Queue {
    /// A queue that goes on from what a spool held.
    pub(crate) fn new(bounds: Bounds, recovered: Recovered, now: Timestamp) -> (Self, Dropped) {
        let marks = recovered.marks;
        let noticed = marks.notice.map_or(0, |notice| notice.hole.at);
        let last = recovered.events.last().map_or(0, |event| event.seq);
        let highest =
            [marks.cursor, marks.dropped_health_to, marks.dropped_other_to, noticed, last]
                .into_iter()
                .chain(marks.hole.map(|hole| hole.at))
                .max()
                .unwrap_or(0);
        let mut queue = Self {
            bounds,
            health: VecDeque::new(),
            other: VecDeque::new(),
            bytes: 0,
            turn: None,
            hole: marks.hole,
            next_seq: highest.saturating_add(1),
            marks,
            recovered_to: last,
            checked: BTreeMap::new(),
            spooled_to: last,
            version: 1,
            spooled_version: 0,
            urgent_version: 1,
            notice_version: 0,
            acknowledged: 0,
            dropped: 0,
        };
        for event in recovered.events.into_iter().filter(|event| event.is_live(&marks)) {
            queue.insert(Arc::new(event), marks.turn);
        }
        if let Some(notice) = marks.notice {
            let seq = notice.hole.at;
            queue.turn = Some(Turn { seq, what: What::Gap(notice), in_doubt: true });
        }
        let mut dropped = Dropped::default();
        if let Some((at, count)) = recovered.lost {
            dropped.other = count;
            queue.dropped = count;
            queue.join(Hole { at, dropped: count, dropped_health: 0, since: now });
        }
        queue.make_room(now, &mut dropped);
        (queue, dropped)
    }

    /// Takes an event; says what had to go for it, which may be the event itself.
    pub(crate) fn push(&mut self, draft: Draft, now: Timestamp) -> Dropped {
        let mut dropped = Dropped::default();
        let event = Arc::new(Event { seq: self.next_seq, draft });
        self.next_seq = self.next_seq.saturating_add(1);
        if self.bounds.bytes < event.weight() {
            // It could never stay: dropping others for it would help nobody.
            self.account(event.seq, event.draft.class, now, &mut dropped);
            return dropped;
        }
        self.insert(event, 0);
        self.make_room(now, &mut dropped);
        dropped
    }

    /// The turn, the same until it is settled; `None` when nothing can be published yet.
    pub(crate) fn turn(&mut self, gate: Gate, mint: impl FnOnce() -> EventId) -> Option<Turn> {
        if self.turn.is_none() {
            self.begin_turn(gate, mint);
        }
        let turn = self.turn.as_ref()?;
        match turn.what {
            // The notice must be in the spool first: else the next life would count its drops anew.
            What::Gap(_)
                if gate == Gate::SpooledOnly && self.spooled_version < self.notice_version =>
            {
                None
            }
            What::Gap(_) | What::Event(_) => Some(turn.clone()),
        }
    }

    /// The server may have the turn from now on.
    pub(crate) fn doubt(&mut self, seq: u64) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.seq == seq) {
            turn.in_doubt = true;
        }
    }

    /// The server surely does not have the turn.
    pub(crate) fn clear_doubt(&mut self, seq: u64) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.seq == seq) {
            turn.in_doubt = false;
        }
    }

    /// Takes what the stream's last event on the turn's subject is, and answers whether the turn
    /// is stored.
    ///
    /// Events are stored in order, one at a time, so a later event of ours on the same subject
    /// proves it as well.
    pub(crate) fn is_stored(&mut self, turn: &Turn, last: Option<EventId>) -> bool {
        let (own_id, subject) = match &turn.what {
            What::Event(event) => (event.draft.id, event.draft.subject.as_str()),
            What::Gap(notice) => (notice.id, GAP_SUBJECT),
        };
        let found = match last {
            None => None,
            Some(last) if last == own_id => Some(turn.seq),
            Some(last) => {
                let same =
                    |event: &&Arc<Event>| event.draft.id == last && event.draft.subject == subject;
                self.health.iter().chain(&self.other).find(same).map(|event| event.seq)
            }
        };
        let stored_to = found.unwrap_or(0);
        if turn.seq <= self.recovered_to {
            self.checked.insert(subject.to_owned(), stored_to);
        }
        turn.seq <= stored_to
    }

    /// The server has the turn.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        if self.end_turn(seq).is_some() {
            self.acknowledged = self.acknowledged.saturating_add(1);
        }
    }

    /// The turn is given up: it is counted as dropped.
    pub(crate) fn refuse(&mut self, seq: u64, now: Timestamp) -> Dropped {
        let mut dropped = Dropped::default();
        match self.end_turn(seq) {
            Some(What::Event(event)) => {
                self.account(seq, event.draft.class, now, &mut dropped);
            }
            // A notice is never dropped: its counts go into the next one.
            Some(What::Gap(notice)) => self.join(notice.hole),
            None => {}
        }
        dropped
    }

    /// Live events after a number, in order, as many as asked for.
    pub(crate) fn live_after(&self, seq: u64, events_max: usize) -> Vec<Arc<Event>> {
        let turn = self.turn.as_ref().and_then(|turn| match &turn.what {
            What::Event(event) if seq < event.seq => Some(Arc::clone(event)),
            What::Event(_) | What::Gap(_) => None,
        });
        let from = |queue: &VecDeque<Arc<Event>>| queue.partition_point(|event| event.seq <= seq);
        let mut health = self.health.iter().skip(from(&self.health)).peekable();
        let mut other = self.other.iter().skip(from(&self.other)).peekable();
        let rest = std::iter::from_fn(|| match (health.peek(), other.peek()) {
            (Some(left), Some(right)) if left.seq < right.seq => health.next(),
            (Some(_), None) => health.next(),
            (_, Some(_)) => other.next(),
            (None, None) => None,
        });
        turn.into_iter().chain(rest.map(Arc::clone)).take(events_max).collect()
    }

    /// Live events that are not in the spool yet.
    pub(crate) fn unspooled(&self, events_max: usize) -> Vec<Arc<Event>> {
        self.live_after(self.spooled_to, events_max)
    }

    /// Whether some live event is not in the spool yet.
    pub(crate) fn has_unspooled(&self) -> bool {
        let after = |queue: &VecDeque<Arc<Event>>| {
            queue.back().is_some_and(|event| self.spooled_to < event.seq)
        };
        let turn = self
            .turn
            .as_ref()
            .is_some_and(|turn| matches!(turn.what, What::Event(_)) && self.spooled_to < turn.seq);
        turn || after(&self.health) || after(&self.other)
    }

    /// Whether every live event up to a number is in the spool.
    pub(crate) fn is_spooled(&self, seq: u64) -> bool {
        self.unspooled(1).first().is_none_or(|event| seq < event.seq)
    }

    /// Events up to a number and the marks of a version are in the spool.
    pub(crate) fn set_spooled(&mut self, seq: u64, version: u64) {
        self.spooled_to = self.spooled_to.max(seq);
        self.spooled_version = self.spooled_version.max(version);
    }

    /// What the spool has to remember now, and the version of it.
    pub(crate) fn marks(&self) -> (Marks, u64) {
        let (turn, notice) = match self.turn.as_ref().map(|turn| (turn.seq, &turn.what)) {
            Some((seq, What::Event(_))) => (seq, None),
            Some((_, What::Gap(notice))) => (0, Some(*notice)),
            None => (0, None),
        };
        (Marks { turn, notice, hole: self.hole, ..self.marks }, self.version)
    }

    /// Whether the spool's marks are old.
    pub(crate) fn has_unspooled_marks(&self) -> bool {
        self.spooled_version < self.version
    }

    /// Whether the spool's marks are old and cannot wait.
    pub(crate) fn has_urgent_marks(&self) -> bool {
        self.spooled_version < self.urgent_version
    }

    /// Whether everything up to a number is settled and told.
    pub(crate) fn is_settled(&self, seq: u64) -> bool {
        let turn = self.turn.as_ref().map(|turn| turn.seq);
        let hole = self.hole.map(|hole| hole.at);
        let fronts = [&self.health, &self.other].map(|queue| queue.front().map(|event| event.seq));
        turn.into_iter().chain(hole).chain(fronts.into_iter().flatten()).all(|first| seq < first)
    }

    /// Whether an event that is no health event waits behind the turn.
    pub(crate) fn has_other_waiting(&self) -> bool {
        !self.other.is_empty()
    }

    /// Number of the last event taken.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq.saturating_sub(1)
    }

    /// Events that wait, the turn included; notices are not counted.
    pub(crate) fn waiting(&self) -> u64 {
        let turn = self.turn.as_ref().is_some_and(|turn| matches!(turn.what, What::Event(_)));
        let events = self.health.len().saturating_add(self.other.len());
        u64::try_from(events).unwrap_or(u64::MAX).saturating_add(u64::from(turn))
    }

    /// Size of the events that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bounds.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Events acknowledged in this life, gap events included.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Events dropped in this life.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn insert(&mut self, event: Arc<Event>, turn: u64) {
        self.bytes = self.bytes.saturating_add(event.weight());
        if event.seq == turn {
            self.turn = Some(Turn { seq: turn, what: What::Event(event), in_doubt: true });
            return;
        }
        match event.draft.class {
            Class::Health => self.health.push_back(event),
            Class::Other => self.other.push_back(event),
        }
    }

    fn begin_turn(&mut self, gate: Gate, mint: impl FnOnce() -> EventId) {
        while let Some(seq) = self.front() {
            if self.hole.is_some_and(|hole| hole.at < seq) {
                break;
            }
            if gate == Gate::SpooledOnly && self.spooled_to < seq {
                return;
            }
            let Some(event) = self.pop(seq) else { return };
            let checked = self.checked.get(&event.draft.subject).copied();
            let recovered = seq <= self.recovered_to;
            let in_doubt = recovered && checked.is_none();
            self.turn = Some(Turn { seq, what: What::Event(event), in_doubt });
            if recovered && checked.is_some_and(|stored_to| seq <= stored_to) {
                self.acknowledge(seq);
                continue;
            }
            return;
        }
        if let Some(hole) = self.hole.take() {
            let notice = Notice { id: mint(), hole };
            self.turn = Some(Turn { seq: hole.at, what: What::Gap(notice), in_doubt: false });
            self.touch_now();
            self.notice_version = self.version;
        }
    }

    fn front(&self) -> Option<u64> {
        let fronts = [&self.health, &self.other].map(|queue| queue.front().map(|event| event.seq));
        fronts.into_iter().flatten().min()
    }

    fn pop(&mut self, seq: u64) -> Option<Arc<Event>> {
        let queue = if self.health.front().is_some_and(|event| event.seq == seq) {
            &mut self.health
        } else {
            &mut self.other
        };
        queue.pop_front()
    }

    fn end_turn(&mut self, seq: u64) -> Option<What> {
        let turn = self.turn.take_if(|turn| turn.seq == seq)?;
        if let What::Event(event) = &turn.what {
            self.bytes = self.bytes.saturating_sub(event.weight());
        }
        self.marks.cursor = self.marks.cursor.max(seq);
        if self.recovered_to <= seq {
            self.checked.clear();
        }
        self.version = self.version.saturating_add(1);
        Some(turn.what)
    }

    fn make_room(&mut self, now: Timestamp, dropped: &mut Dropped) {
        while self.bounds.events < self.waiting() || self.bounds.bytes < self.bytes {
            let oldest = self.health.pop_front().or_else(|| self.other.pop_front());
            let Some(event) = oldest else { return };
            self.bytes = self.bytes.saturating_sub(event.weight());
            match event.draft.class {
                Class::Health => self.marks.dropped_health_to = event.seq,
                Class::Other => self.marks.dropped_other_to = event.seq,
            }
            self.account(event.seq, event.draft.class, now, dropped);
        }
    }

    fn account(&mut self, at: u64, class: Class, now: Timestamp, dropped: &mut Dropped) {
        dropped.count(class);
        self.dropped = self.dropped.saturating_add(1);
        let dropped_health = u64::from(class == Class::Health);
        self.join(Hole { at, dropped: 1, dropped_health, since: now });
    }

    fn join(&mut self, hole: Hole) {
        self.hole = Some(self.hole.map_or(hole, |open| Hole {
            at: open.at.min(hole.at),
            dropped: open.dropped.saturating_add(hole.dropped),
            dropped_health: open.dropped_health.saturating_add(hole.dropped_health),
            since: open.since.min(hole.since),
        }));
        self.touch_now();
    }

    fn touch_now(&mut self) {
        self.version = self.version.saturating_add(1);
        self.urgent_version = self.version;
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
