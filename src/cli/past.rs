//! The past as the command line reads it: stored events up to a moment, folded into what was shown.
//!
//! Reading begins a quarter of an hour before the moment; where that holds no snapshot and no start of
//! a daemon, it begins four times as far back, until the picture is whole or everything that is
//! kept was read. So a moment costs the events of some minutes, not of days.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::cli::client::{Fed, Follow, Seen, Stored};
use crate::cli::event_text::{kind, name_of, what};
use crate::cli::failure::{Failure, Fault};
use crate::cli::session::Session;
use crate::cli::values::Moment;
use crate::logic::explain::Link;
use crate::logic::history::{Heard, History};
use crate::protocol::event::Envelope;
use crate::protocol::fact::Fact;

/// How far before a moment reading begins at first; longer than between two snapshots.
const BEFORE: SignedDuration = SignedDuration::from_mins(15);

/// How much farther it begins each time.
const FARTHER: i32 = 4;

/// Events are nearly in the order of their times; one that is later by so much ends the reading.
const OUT_OF_ORDER: SignedDuration = SignedDuration::from_secs(2);

/// Events remembered for chains of causes; the oldest goes first.
const TALES_MAX: usize = 20_000;

/// Longest chain that is followed.
const CHAIN_MAX: usize = 64;

/// An event with what it follows from.
#[derive(Clone, Debug)]
pub(crate) struct Tale {
    /// The event in short.
    pub(crate) link: Link,
    /// What caused it.
    pub(crate) causation: Option<String>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Past {
    /// The moment.
    pub(crate) at: Timestamp,
    /// Time of the oldest event that is kept.
    pub(crate) oldest: Option<Timestamp>,
    /// Where reading began; `None` for everything.
    pub(crate) from: Option<Timestamp>,
    /// What was shown.
    pub(crate) history: History,
    tales: BTreeMap<String, Tale>,
    order: VecDeque<String>,
}

impl Past {
    /// An event that was read.
    pub(crate) fn tale(&self, id: &str) -> Option<&Tale> {
        self.tales.get(id)
    }

    /// All events that were read, oldest first.
    pub(crate) fn tales(&self) -> impl Iterator<Item = &Tale> {
        self.order.iter().filter_map(|id| self.tales.get(id))
    }

    /// The chain of causes of an event, first cause first, itself last.
    pub(crate) fn chain(&self, id: &str) -> Vec<&Tale> {
        let mut chain = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(tale) = next.as_deref().and_then(|id| self.tale(id)) {
            chain.push(tale);
            next = tale.causation.clone().filter(|_| chain.len() < CHAIN_MAX);
        }
        chain.reverse();
        chain
    }

    /// Says what is missing, if something may be.
    pub(crate) fn warn(&self, session: &mut Session<'_>) {
        if 0 < self.history.lost() {
            let text = format!(
                "{} events were lost on the way; what changed meanwhile may be missing",
                self.history.lost()
            );
            session.console.warn(&text);
        } else if self.history.whole_since().is_none() {
            let oldest = self.oldest.map(|oldest| oldest.to_string()).unwrap_or_default();
            let text = format!(
                "events are kept from {oldest} on, and no picture of all children is among those \
                 before {}: children that did not change since are missing",
                self.at
            );
            session.console.warn(&text);
        }
    }

    fn take(&mut self, seen: &Seen) {
        let event = &seen.envelope;
        if let Ok(Some(fact)) = Fact::read(&event.event_type, &event.data) {
            self.history.on_event(&Heard::of(event, &fact));
        }
        let id = event.id.to_string();
        if self.tales.insert(id.clone(), tale(event)).is_some() {
            return;
        }
        self.order.push_back(id);
        if TALES_MAX < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.tales.remove(&oldest);
        }
    }
}

/// An event in short.
pub(crate) fn tale(event: &Envelope) -> Tale {
    Tale {
        link: Link {
            id: event.id.to_string(),
            time: event.time,
            kind: kind(event).to_owned(),
            name: name_of(event).to_owned(),
            severity: event.severity,
            text: what(event),
        },
        causation: event.causationid.as_ref().map(ToString::to_string),
    }
}

/// The moment that was asked for.
///
/// # Errors
///
/// It lies ahead.
pub(crate) fn moment(session: &Session<'_>, asked: Option<Moment>) -> Result<Timestamp, Failure> {
    let now = session.now();
    let Some(asked) = asked else { return Ok(now) };
    let at = asked.before(now);
    if now < at {
        let message = format!("{at} lies ahead: it is {now}");
        return Err(Failure::new(Fault::NotKept, message, "give a moment of the past"));
    }
    Ok(at)
}

/// Reads what was shown at a moment.
///
/// # Errors
///
/// Nothing is stored, or not from then, or it cannot be read.
pub(crate) async fn read(session: &Session<'_>, at: Timestamp) -> Result<Past, Failure> {
    let oldest = session.client.oldest().await?;
    if let Some(oldest) = oldest.filter(|oldest| at < *oldest) {
        let message =
            format!("nothing is known of {at}: the oldest event that is kept is of {oldest}");
        let next = "give a later moment; nats.streams.SUPERVISION says how long events are kept";
        return Err(Failure::new(Fault::NotKept, message, next));
    }
    let mut before = BEFORE;
    loop {
        let from = at.checked_sub(before).ok();
        let from = from.filter(|from| oldest.is_none_or(|oldest| oldest < *from));
        let past = read_from(session, from, (at, oldest)).await?;
        if past.history.whole_since().is_some() || from.is_none() {
            return Ok(past);
        }
        before = before.checked_mul(FARTHER).unwrap_or(SignedDuration::MAX);
    }
}

/// Reads from a time on, or everything, up to a moment.
///
/// # Errors
///
/// Nothing is stored, or it cannot be read.
pub(crate) async fn read_from(
    session: &Session<'_>,
    from: Option<Timestamp>,
    (at, oldest): (Timestamp, Option<Timestamp>),
) -> Result<Past, Failure> {
    let mut past = Past {
        at,
        oldest,
        from,
        history: History::default(),
        tales: BTreeMap::new(),
        order: VecDeque::new(),
    };
    let wanted = Stored { since: from, follow: Follow::No };
    let Some(mut feed) = session.client.stored(wanted).await? else {
        let message = "events are not stored here, so nothing is known of the past";
        let next = "set supervision.enabled and use a NATS server with JetStream";
        return Err(Failure::new(Fault::NotStored, message, next));
    };
    let last = at.checked_add(OUT_OF_ORDER).unwrap_or(at);
    loop {
        match feed.next().await? {
            Fed::Event(seen) if last < seen.envelope.time => break,
            Fed::Event(seen) if at < seen.envelope.time => {}
            Fed::Event(seen) => past.take(&seen),
            Fed::NoEvent(reason) => tracing::debug!(reason, "message is no event"),
            Fed::End => break,
        }
    }
    Ok(past)
}
