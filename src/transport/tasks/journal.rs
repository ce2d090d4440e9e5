//! Writes messages with compare and set until their outcome is known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{Context, context};
use async_nats::{HeaderMap, header};
use bytes::Bytes;

use crate::protocol::event::CONTENT_TYPE;
use crate::protocol::id::EventId;
use crate::protocol::subject::SubjectPrefix;
use crate::transport::connect::Connection;
use crate::transport::slot::ConnectionSlot;

/// Longest wait for one acknowledgement before the outcome counts as unknown.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// Acknowledgements awaited at a time; more publishes wait for their turn.
const ACKS_MAX: usize = 16 * 1024;

/// First and longest pause before a publish is repeated.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// One message to be stored.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Subject, prefix included.
    pub subject: String,
    /// Stream that it belongs to, prefix included.
    pub stream: String,
    /// Sequence of the last message on the subject, where that is to be compared; 0 for none.
    pub expected: Option<u64>,
    /// Identity against doubles, where the stream looks for it.
    pub message_id: Option<String>,
    /// The message.
    pub payload: Bytes,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is stored under this sequence.
    Stored(u64),
    /// The last message on the subject is this one, or there is none.
    Conflict(Option<(u64, Bytes)>),
    /// It can never be stored; the reason in words.
    Impossible(String),
}

/// Writes to whatever connection is the present one. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    slot: ConnectionSlot,
    prefix: SubjectPrefix,
    context: Arc<Mutex<Option<(Connection, Context)>>>,
    /// What the server refuses and why, while it does.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Journal {
    /// A journal on the slot's connection.
    #[must_use]
    pub fn new(slot: ConnectionSlot, prefix: SubjectPrefix) -> Self {
        Self { slot, prefix, context: Arc::default(), trouble: Arc::default() }
    }

    /// Prefix of every subject.
    #[must_use]
    pub fn prefix(&self) -> &SubjectPrefix {
        &self.prefix
    }

    /// The slot of the connection.
    #[must_use]
    pub fn slot(&self) -> &ConnectionSlot {
        &self.slot
    }

    /// What the server refuses to store, while it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Largest payload that the present server takes, with room for headers.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        let present = self.slot.current();
        let most = present.map_or(1024 * 1024, |connection| connection.client().max_payload());
        most.saturating_sub(1024)
    }

    /// JetStream on the present connection, once there is one.
    pub async fn jetstream(&self) -> Context {
        let connection = self.slot.connection().await;
        let mut present = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, context)) = present.as_ref()
            && known.same_as(&connection)
        {
            return context.clone();
        }
        // The connection's own builder knows about domain and prefix of the API.
        let context = connection.jetstream_with(|builder| {
            builder.ack_timeout(ACK_WAIT).max_ack_inflight(ACKS_MAX).backpressure_on_inflight(true)
        });
        *present = Some((connection, context.clone()));
        context
    }

    /// Stores a message; goes on until the outcome is known, however long that takes.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, the outcome is unknown; the same call made again finds out.
    pub async fn store(&self, entry: Entry) -> Outcome {
        let mut pause = PAUSE.0;
        loop {
            let context = self.jetstream().await;
            let said = match publish(&context, &entry).await {
                Ok(sequence) => {
                    self.well();
                    return Outcome::Stored(sequence);
                }
                Err(error) => match error.kind() {
                    PublishErrorKind::WrongLastSequence => {
                        match last_on(&context, &entry.stream, &entry.subject).await {
                            // What was in the way is gone, with a server that was killed.
                            Ok(found) if is_expected(&entry, found.as_ref()) => said_of(&error),
                            Ok(found) => return Outcome::Conflict(found),
                            Err(said) => said,
                        }
                    }
                    PublishErrorKind::MaxPayloadExceeded => {
                        return Outcome::Impossible(said_of(&error));
                    }
                    PublishErrorKind::StreamNotFound
                    | PublishErrorKind::WrongLastMessageId
                    | PublishErrorKind::TimedOut
                    | PublishErrorKind::BrokenPipe
                    | PublishErrorKind::MaxAckPending
                    | PublishErrorKind::Other => said_of(&error),
                },
            };
            self.unwell(&entry.subject, said);
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE.1);
        }
    }

    /// Publishes an event without waiting whether it is stored.
    pub async fn tell(&self, subject: &str, id: EventId, payload: Bytes) {
        let Some(connection) = self.slot.current() else { return };
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_ID, id.to_string());
        headers.insert("Content-Type", CONTENT_TYPE);
        if let Err(error) = connection.publish(subject, Some(headers), payload).await {
            tracing::debug!(%error, "an event about an attempt was not sent");
        }
    }

    /// Acknowledges a submission, which then leaves its stream.
    pub async fn acknowledge(&self, to: &str) {
        if to.is_empty() {
            return;
        }
        let connection = self.slot.connection().await;
        // One that is lost is made up for at the next start, when the submission comes again.
        if let Err(error) = connection.publish(to, None, "+ACK".into()).await {
            tracing::debug!(%error, "a submission was not acknowledged");
        }
    }

    fn well(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::info!("tasks can be recorded again");
        }
    }

    fn unwell(&self, subject: &str, said: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref() != Some(&said) {
            tracing::warn!(subject, error = said, "a record of a task is not stored yet");
            *trouble = Some(said);
        }
    }
}

/// Whether the last message on the subject is the one that was expected, so that the next try
/// stores ours.
fn is_expected(entry: &Entry, found: Option<&(u64, Bytes)>) -> bool {
    entry.expected == Some(found.map_or(0, |(sequence, _)| *sequence))
}

fn said_of(error: &context::PublishError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

async fn publish(context: &Context, entry: &Entry) -> Result<u64, context::PublishError> {
    let mut message = PublishMessage::build().payload(entry.payload.clone());
    if let Some(expected) = entry.expected {
        message = message.expected_last_subject_sequence(expected);
    }
    if let Some(id) = &entry.message_id {
        message = message.message_id(id).header("Content-Type", CONTENT_TYPE);
    }
    let acknowledged = context.send_publish(entry.subject.clone(), message).await?.await?;
    Ok(acknowledged.sequence)
}

/// The last message on a subject, as the stream's leader has it.
///
/// # Errors
///
/// What was said, when it cannot be known now.
pub async fn last_on(
    context: &Context,
    stream: &str,
    subject: &str,
) -> Result<Option<(u64, Bytes)>, String> {
    let stream = context.get_stream_no_info(stream).await.map_err(|error| error.to_string())?;
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some((message.sequence, message.payload))),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::InvalidSubject
            | LastRawMessageErrorKind::JetStream(_)
            | LastRawMessageErrorKind::Other => Err(error.to_string()),
        },
    }
}
