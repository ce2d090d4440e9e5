//! What a handler gets, and what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_nats::jetstream::Message;
use bytes::Bytes;
use serde::Deserialize;

use crate::ports::BoxFuture;

/// One attempt to hand over one message.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Subject, prefix included.
    pub subject: String,
    /// Identity: of the event, else the header `Nats-Msg-Id`, else stream and sequence.
    pub id: String,
    /// Type of the event, if it is a `CloudEvents` document.
    pub event_type: Option<String>,
    /// Body.
    pub payload: Bytes,
    /// Headers; of several of one name the first.
    pub headers: BTreeMap<String, String>,
    /// Stream.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When it was stored, in milliseconds of Unix time.
    pub stored_at_ms: u64,
}

/// The parts of an event that say which one it is.
#[derive(Debug, Deserialize)]
struct Event {
    specversion: String,
    id: String,
    #[serde(rename = "type")]
    event_type: String,
}

impl Delivery {
    /// Reads what the server says of a message; `None` for one that no consumer delivered.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        let info = message.info().ok()?;
        let headers = message.headers.as_ref();
        let first = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            Some((name.to_string(), values.first()?.to_string()))
        };
        let headers: BTreeMap<String, String> =
            headers.map(|headers| headers.iter().filter_map(first).collect()).unwrap_or_default();
        let event = serde_json::from_slice::<Event>(&message.payload).ok();
        let event = event.filter(|event| event.specversion.starts_with("1."));
        let by_header = headers.get("Nats-Msg-Id").cloned();
        let by_place = || format!("{}-{}", info.stream, info.stream_sequence);
        let (id, event_type) = match event {
            Some(event) => (event.id, Some(event.event_type)),
            None => (by_header.unwrap_or_else(by_place), None),
        };
        let stored = info.published.unix_timestamp_nanos() / 1_000_000;
        Some(Self {
            subject: message.subject.to_string(),
            id,
            event_type,
            payload: message.payload.clone(),
            headers,
            stream: info.stream.to_owned(),
            sequence: info.stream_sequence,
            attempt: u32::try_from(info.delivered).unwrap_or(u32::MAX),
            stored_at_ms: u64::try_from(stored).unwrap_or(0),
        })
    }
}

/// Whether a handler takes a kind of event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Take {
    /// It does.
    Yes,
    /// It does not: the message is acknowledged and never handed over.
    Skip,
}

/// How the handling of a message ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// It failed and is tried again, after the consumer's delay or the one given, until it was tried
    /// as often as the consumer allows; then it becomes a dead letter.
    Failed {
        /// A word for programs.
        code: String,
        /// The error for people.
        message: String,
        /// When to try again.
        after: Option<Duration>,
    },
    /// It can never be done: it becomes a dead letter at once.
    Malformed {
        /// What is wrong with it.
        message: String,
    },
}

impl Verdict {
    /// A failure that is tried again after the consumer's delay.
    #[must_use]
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into(), after: None }
    }

    /// A message that can never be done.
    #[must_use]
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed { message: message.into() }
    }
}

/// Handles messages; several at a time, if the consumer says so.
pub trait Handler: fmt::Debug + Send + Sync + 'static {
    /// Whether it takes events of this type.
    fn takes(&self, _event_type: &str) -> Take {
        Take::Yes
    }

    /// Handles one message. It may be handed over again after a fault: what it does should do no harm
    /// twice.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when it takes too long or the consumer ends; the message comes again.
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict>;
}
