//! Dead letters as they are kept in the stream `DEAD_LETTERS`: found, sent again, dropped.
//!
//! Sending one again publishes the original's body to its subject under an id made from the dead
//! letter's own, so that doing it twice is doing it once; headers say what it repeats and what caused
//! it. Only when a stream has taken it is the dead letter taken out.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::dead_letter::DeadLetter;
use crate::protocol::subject::{Subject, pattern};
use crate::transport::connect::Connection;
use crate::transport::queue::{Outgoing, PublishFault, Publisher, Stored};
use crate::transport::streams::{REQUEST_SUBJECTS, overlap};

/// Stream of dead letters, without prefix.
pub const STREAM: &str = "DEAD_LETTERS";

/// Header of what is sent again: identity of what it repeats.
pub const RETRY_OF_HEADER: &str = "Provost-Retry-Of";

/// Header of what is sent again: id of the dead letter.
pub const CAUSATION_HEADER: &str = "Provost-Causation-Id";

/// Messages asked for at a time.
const BATCH: usize = 500;

/// Longest wait for a batch.
const BATCH_WITHIN: Duration = Duration::from_secs(10);

/// Time after which the server forgets a reader that is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// A dead letter in its stream.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Kept {
    /// Identity of the dead letter.
    pub id: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Type: the last token of its subject.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it became one.
    pub time: Timestamp,
    /// Identity of what it was, or of what caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// What, why, after how many attempts.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// Which dead letters; every part that is given must fit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// One of these ids, of dead letters or of originals.
    pub ids: Vec<String>,
    /// Type.
    pub kind: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Code of the error.
    pub code: Option<String>,
}

impl Filter {
    fn fits(&self, kept: &Kept) -> bool {
        let named = |id: &String| *id == kept.id || *id == kept.letter.original.id;
        (self.ids.is_empty() || self.ids.iter().any(named))
            && self.kind.as_ref().is_none_or(|kind| *kind == kept.kind)
            && self.since.is_none_or(|since| since <= kept.time)
            && self.code.as_ref().is_none_or(|code| *code == kept.letter.error.code)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Those that fit, oldest first.
    pub letters: Vec<Kept>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// Messages of the stream that are no dead letters.
    pub unreadable: u64,
}

impl Found {
    fn take(&mut self, kept: Option<Kept>, filter: &Filter, most: usize) {
        match kept {
            Some(kept) if !filter.fits(&kept) => {}
            Some(_) if most <= self.letters.len() => self.more = true,
            Some(kept) => self.letters.push(kept),
            None => self.unreadable = self.unreadable.saturating_add(1),
        }
    }
}

/// Why something with dead letters did not work.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// There is no such stream.
    #[error("stream {stream} does not exist; nothing keeps dead letters here")]
    NoStream {
        /// Stream.
        stream: String,
    },
    /// The server did not do its part.
    #[error("dead letters cannot be read or changed: {said}")]
    Server {
        /// What it said.
        said: String,
    },
    /// The original cannot be sent again.
    #[error("{id} cannot be sent again: {said}")]
    NotWhole {
        /// The dead letter.
        id: String,
        /// Why.
        said: String,
    },
    /// It was not stored.
    #[error("{id} was not sent again: {source}")]
    Publish {
        /// The dead letter.
        id: String,
        /// Why.
        source: PublishFault,
    },
}

/// What happens to a dead letter that was sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Afterwards {
    /// It is taken out.
    Drop,
    /// It stays.
    Keep,
}

/// The dead letters of one prefix.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    connection: Connection,
    stream: Stream,
}

impl DeadLetters {
    /// Opens the stream.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when there is none, or the server does not answer.
    pub async fn open(connection: &Connection) -> Result<Self, DeadLetterError> {
        let name = connection.prefix().stream_name(STREAM);
        let found = connection.jetstream().get_stream(&name).await;
        let stream = found.map_err(|error| {
            use async_nats::jetstream::context::GetStreamErrorKind as Kind;
            match error.kind() {
                Kind::JetStream(_) => DeadLetterError::NoStream { stream: name },
                Kind::Request | Kind::EmptyName | Kind::InvalidStreamName => server(&error),
            }
        })?;
        Ok(Self { connection: connection.clone(), stream })
    }

    /// Finds dead letters, at most so many.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::Server`].
    pub async fn find(&self, filter: &Filter, most: usize) -> Result<Found, DeadLetterError> {
        let config = pull::Config {
            description: Some("provost dlq".to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN_AFTER,
            num_replicas: 1,
            memory_storage: true,
            filter_subject: self.subjects(filter),
            ..pull::Config::default()
        };
        let consumer = self.stream.create_consumer(config).await.map_err(|error| server(&error))?;
        let mut left = consumer.cached_info().num_pending;
        let mut found = Found::default();
        while 0 < left && !found.more {
            let batch = consumer.batch().max_messages(BATCH).expires(BATCH_WITHIN).messages();
            let mut batch = batch.await.map_err(|error| server(&error))?;
            let before = left;
            while 0 < left
                && !found.more
                && let Some(message) = batch.next().await
            {
                let message = message.map_err(|error| server(error.as_ref()))?;
                left = message.info().map_or(0, |info| info.pending);
                found.take(self.read(&message), filter, most);
            }
            if left == before {
                let said = format!("no message came within {BATCH_WITHIN:?}; {left} are left");
                return Err(DeadLetterError::Server { said });
            }
        }
        Ok(found)
    }

    /// Sends one again, to its own subject or another, both without prefix.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`]: the dead letter is still there then.
    pub async fn replay(
        &self,
        kept: &Kept,
        to: Option<&str>,
        afterwards: Afterwards,
    ) -> Result<Stored, DeadLetterError> {
        let again = self.again(kept, to)?;
        let stored = Publisher::new(self.connection.clone()).publish(again).await;
        let stored =
            stored.map_err(|source| DeadLetterError::Publish { id: kept.id.clone(), source })?;
        match afterwards {
            Afterwards::Drop => self.take_out(kept).await?,
            Afterwards::Keep => {}
        }
        Ok(stored)
    }

    /// What would be sent.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::NotWhole`] when the original was cut, or has no subject that takes it.
    pub fn again(&self, kept: &Kept, to: Option<&str>) -> Result<Outgoing, DeadLetterError> {
        let original = &kept.letter.original;
        let not_whole =
            |said: &str| DeadLetterError::NotWhole { id: kept.id.clone(), said: said.to_owned() };
        let subject = to.unwrap_or(&original.subject);
        if subject.is_empty() || subject.contains(['*', '>', ' ']) {
            return Err(not_whole("it has no subject to go to; name one with --to"));
        }
        if REQUEST_SUBJECTS.iter().any(|request| overlap(request, subject)) {
            return Err(not_whole("its subject is for requests, which nobody waits for any more"));
        }
        let payload = original.payload().ok_or_else(|| {
            not_whole("only the beginning of its body was kept; send it anew from its source")
        })?;
        let own = |name: &String| name.starts_with("Nats-") || name.starts_with("Provost-");
        let mut headers: Vec<(String, String)> = original
            .headers
            .iter()
            .filter(|(name, _)| !own(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        headers.push((RETRY_OF_HEADER.to_owned(), original.id.clone()));
        headers.push((CAUSATION_HEADER.to_owned(), kept.id.clone()));
        let subject = self.connection.prefix().apply(subject);
        let id = format!("dlq-{}", kept.id);
        Ok(Outgoing { subject, id, headers, payload: payload.into() })
    }

    /// Takes one out for good. That it is gone already is no error.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::Server`].
    pub async fn take_out(&self, kept: &Kept) -> Result<(), DeadLetterError> {
        use async_nats::jetstream::stream::DeleteMessageErrorKind as Kind;
        let Err(error) = self.stream.delete_message(kept.sequence).await else { return Ok(()) };
        match error.kind() {
            // The server has several words for a message that is not there.
            Kind::JetStream(_) if self.is_gone(kept.sequence).await => Ok(()),
            Kind::JetStream(_) | Kind::Request | Kind::TimedOut => Err(server(&error)),
        }
    }

    async fn is_gone(&self, sequence: u64) -> bool {
        let found = self.stream.get_raw_message(sequence).await;
        found.is_err_and(|error| error.kind() == RawMessageErrorKind::NoMessageFound)
    }

    fn subjects(&self, filter: &Filter) -> String {
        let prefix = self.connection.prefix();
        let kind = filter.kind.as_ref().and_then(|kind| kind.parse().ok());
        kind.map_or_else(
            || prefix.apply(pattern::STREAM_DEAD_LETTERS[0]),
            |kind| Subject::DeadLetters(kind).under(prefix),
        )
    }

    fn read(&self, message: &async_nats::jetstream::Message) -> Option<Kept> {
        /// The parts of the event that are told.
        #[derive(Deserialize)]
        struct Event {
            id: String,
            time: Timestamp,
            #[serde(default)]
            causationid: Option<String>,
            data: DeadLetter,
        }
        let info = message.info().ok()?;
        let event: Event = serde_json::from_slice(&message.payload).ok()?;
        let kind = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
        Some(Kept {
            id: event.id,
            sequence: info.stream_sequence,
            kind,
            time: event.time,
            causationid: event.causationid,
            letter: event.data,
        })
    }
}

fn server(error: &dyn std::error::Error) -> DeadLetterError {
    DeadLetterError::Server { said: error.to_string() }
}
