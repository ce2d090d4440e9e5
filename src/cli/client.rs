//! What the verbs need from a daemon, as traits: ask, and see events. `nats_client` does it over
//! NATS; tests script it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use crate::cli::failure::Failure;
use crate::ports::BoxFuture;
use crate::protocol::event::Envelope;
use crate::protocol::subject::Subject;

/// A way to one daemon.
pub(crate) trait Client: fmt::Debug + Send + Sync {
    /// Asks and waits for the answer, at most `wait`.
    fn request(
        &self,
        subject: Subject,
        payload: Vec<u8>,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, Failure>>;

    /// The events that are stored, oldest first, and then new ones if they are to be followed.
    /// `None` when nothing is stored there.
    fn stored(&self, wanted: Stored) -> BoxFuture<'_, Result<Option<Box<dyn Feed>>, Failure>>;

    /// Time of the oldest stored event; `None` when nothing is stored, or nobody can tell.
    fn oldest(&self) -> BoxFuture<'_, Result<Option<Timestamp>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    /// Events from now on, health left out. What is published after the answer is seen.
    fn live(&self) -> BoxFuture<'_, Result<Box<dyn Feed>, Failure>>;
}

/// Which of the stored events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stored {
    /// Only those stored since then.
    pub(crate) since: Option<Timestamp>,
    /// Whether new ones follow.
    pub(crate) follow: Follow,
}

/// Whether a feed goes on after what is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Follow {
    /// It ends.
    No,
    /// It goes on.
    Yes,
}

/// Events one by one.
pub(crate) trait Feed: fmt::Debug + Send {
    /// Waits for the next.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: an event may be lost. Only give up a feed as a whole.
    fn next(&mut self) -> BoxFuture<'_, Result<Fed, Failure>>;
}

/// What comes out of a feed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fed {
    /// An event.
    Event(Box<Seen>),
    /// A message that is no event, with the reason.
    NoEvent(String),
    /// The end.
    End,
}

/// An event as it came, and as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// As it came, with fields that this version does not know.
    pub(crate) document: Value,
    /// As it was understood.
    pub(crate) envelope: Envelope,
}

impl Seen {
    /// Reads a message.
    pub(crate) fn read(payload: &[u8]) -> Fed {
        let read = serde_json::from_slice(payload).and_then(|document: Value| {
            let envelope = Envelope::deserialize(&document)?;
            Ok(Self { document, envelope })
        });
        match read {
            Ok(seen) => Fed::Event(Box::new(seen)),
            Err(error) => Fed::NoEvent(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::envelope;

    #[test]
    fn an_event_keeps_what_this_version_does_not_know() {
        let mut document = serde_json::to_value(envelope("agent.spawned", "w1")).unwrap();
        document["future"] = "yes".into();
        let Fed::Event(seen) = Seen::read(document.to_string().as_bytes()) else {
            panic!("not read");
        };
        assert_eq!(seen.document["future"], "yes");
        assert_eq!(seen.envelope.subject.as_str(), "w1");
    }

    #[test]
    fn what_is_no_event_is_told_apart() {
        for text in ["", "no json", "{}", "[]", r#"{"specversion":"1.0"}"#] {
            assert!(matches!(Seen::read(text.as_bytes()), Fed::NoEvent(_)), "{text}");
        }
    }
}
