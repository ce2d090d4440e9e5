//! Publishes messages and waits until each is stored.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::transport::connect::Connection;

/// Longest wait for one acknowledgement, unless it is set otherwise.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// Messages of one batch that are on their way at a time.
const UNDER_WAY_MAX: usize = 256;

/// Most messages of one batch.
pub const BATCH_MAX: usize = 10_000;

/// A message to be stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// Subject, prefix included.
    pub subject: String,
    /// Identity: within the stream's duplicate window the same one is stored once.
    pub id: String,
    /// Other headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub payload: Bytes,
}

impl Outgoing {
    /// A message without other headers.
    #[must_use]
    pub fn new(
        subject: impl Into<String>,
        id: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Self {
        let (subject, id, payload) = (subject.into(), id.into(), payload.into());
        Self { subject, id, headers: Vec::new(), payload }
    }
}

/// Where a message is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Stream.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// Whether it was there already.
    pub again: bool,
}

/// Why a message is not known to be stored.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PublishFault {
    /// It is larger than the server takes.
    #[error("message {id} has {bytes} bytes; the server takes at most {most}")]
    TooLarge {
        /// The message.
        id: String,
        /// Its length.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// A header or the subject cannot be sent.
    #[error("message {id} cannot be sent: {said}")]
    BadMessage {
        /// The message.
        id: String,
        /// What is wrong.
        said: String,
    },
    /// No stream captures the subject.
    #[error("no stream takes {subject}; declare one that has it among its subjects")]
    NoStream {
        /// Subject.
        subject: String,
    },
    /// The stream refused it, for example because it is full.
    #[error("message {id} was refused: {said}")]
    Refused {
        /// The message.
        id: String,
        /// What the server said.
        said: String,
    },
    /// No answer came: it may be stored or not. Publishing it again under the same id does no harm.
    #[error("message {id} was not acknowledged in time; publish it again under the same id")]
    Unknown {
        /// The message.
        id: String,
    },
}

impl PublishFault {
    /// Whether publishing it again, as it is, may help.
    #[must_use]
    pub fn may_help_to_repeat(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Refused { .. } => true,
            Self::TooLarge { .. } | Self::BadMessage { .. } | Self::NoStream { .. } => false,
        }
    }
}

/// Some messages of a batch are not known to be stored.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} of {} messages were not stored; the first: {}", .failed.len(), .failed.len() + .stored.len(), .failed.first().map_or_else(String::new, |(_, fault)| fault.to_string()))]
pub struct BatchFault {
    /// Those that are, by their place in the batch.
    pub stored: Vec<(usize, Stored)>,
    /// Those that are not.
    pub failed: Vec<(usize, PublishFault)>,
}

/// Publishes on one connection.
#[derive(Clone, Debug)]
pub struct Publisher {
    connection: Connection,
    ack_within: Duration,
}

impl Publisher {
    /// A publisher that waits 5 seconds for each acknowledgement.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, ack_within: ACK_WITHIN }
    }

    /// The same with another wait.
    #[must_use]
    pub fn waiting(self, ack_within: Duration) -> Self {
        Self { ack_within, ..self }
    }

    /// Publishes one message and waits until it is stored.
    ///
    /// # Errors
    ///
    /// [`PublishFault`] says what is known of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it unknown whether the message is stored.
    pub async fn publish(&self, message: Outgoing) -> Result<Stored, PublishFault> {
        let Outgoing { subject, id, headers, payload } = message;
        let (bytes, most) = (payload.len(), self.connection.client().max_payload());
        if most < bytes {
            return Err(PublishFault::TooLarge { id, bytes, most });
        }
        let header = |text: &str| text.is_empty() || text.chars().any(char::is_control);
        if header(&id) || headers.iter().any(|(name, _)| header(name) || name.contains(':')) {
            let said =
                "its id and the names of headers must not be empty or hold control characters";
            return Err(PublishFault::BadMessage { id, said: said.to_owned() });
        }
        let mut sent = HeaderMap::new();
        for (name, value) in &headers {
            let line: String = value.chars().filter(|found| !found.is_control()).collect();
            sent.insert(name.as_str(), line.as_str());
        }
        sent.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        let jetstream = self.connection.jetstream();
        let publishing =
            async { jetstream.publish_with_headers(subject.clone(), sent, payload).await?.await };
        match timeout(self.ack_within, publishing).await {
            Ok(Ok(ack)) => {
                Ok(Stored { stream: ack.stream, sequence: ack.sequence, again: ack.duplicate })
            }
            Ok(Err(error)) => Err(fault(&error, id, subject)),
            Err(_elapsed) => Err(PublishFault::Unknown { id }),
        }
    }

    /// Publishes many messages, several at a time, and waits for all. Their order in the stream is
    /// not promised.
    ///
    /// # Errors
    ///
    /// [`BatchFault`] names each message that is not known to be stored, and those that are.
    pub async fn publish_all(&self, batch: Vec<Outgoing>) -> Result<Vec<Stored>, BatchFault> {
        let count = batch.len();
        if BATCH_MAX < count {
            let said = format!("the batch has {count} messages; at most {BATCH_MAX} are allowed");
            let fault = |message: &Outgoing| PublishFault::BadMessage {
                id: message.id.clone(),
                said: said.clone(),
            };
            let failed = batch.iter().map(fault).enumerate().collect();
            return Err(BatchFault { stored: Vec::new(), failed });
        }
        let publishing = stream::iter(batch.into_iter().enumerate())
            .map(|(at, message)| async move { (at, self.publish(message).await) });
        let mut under_way = publishing.buffered(UNDER_WAY_MAX);
        let (mut stored, mut failed) = (Vec::with_capacity(count), Vec::new());
        while let Some((at, outcome)) = under_way.next().await {
            match outcome {
                Ok(done) => stored.push((at, done)),
                Err(fault) => failed.push((at, fault)),
            }
        }
        if failed.is_empty() {
            return Ok(stored.into_iter().map(|(_, done)| done).collect());
        }
        Err(BatchFault { stored, failed })
    }
}

fn fault(error: &PublishError, id: String, subject: String) -> PublishFault {
    match error.kind() {
        PublishErrorKind::StreamNotFound => PublishFault::NoStream { subject },
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => PublishFault::Unknown { id },
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::MaxPayloadExceeded
        | PublishErrorKind::Other => PublishFault::Refused { id, said: error.to_string() },
    }
}
