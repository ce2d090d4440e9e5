//! One connection as the outbox uses it: publish and wait for the outcome, ask for the last event
//! of a subject.
//!
//! Acknowledgements come to one subscription of our own. The client's requests would do as well,
//! but each one that times out leaves an entry behind in the client for ever.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{ErrorCode, context};
use async_nats::{Client, HeaderMap, PublishErrorKind, StatusCode, Subscriber, header};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::protocol::id::EventId;
use crate::protocol::subject::SubjectPrefix;
use crate::transport::outbox::entry::{Class, Draft};
use crate::transport::outbox::envelope::CONTENT_TYPE_HEADER;
use crate::transport::outbox::publish::is_connected;
use crate::transport::outbox::{OutboxSettings, PublishMode};

/// How often the connection is looked at while an acknowledgement is awaited; the client tells
/// nobody when it goes away.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The stream that has health events, and the one that has the others.
const HEALTH_STREAM: &str = "HEALTH";
const SUPERVISION_STREAM: &str = "SUPERVISION";

/// The server has the event.
pub(super) struct Stored;

/// What became of a publish.
pub(super) enum Outcome {
    Stored(Stored),
    /// The server does not have it and may take it later; the reason in words.
    Refused(String),
    /// The server will never take it; the reason in words.
    Impossible(String),
    /// The server may have it or not.
    Unknown(Unknown),
}

/// Why an outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the connection went away")]
    Disconnected,
    #[error("the server's answer cannot be understood: {0}")]
    Unreadable(String),
}

/// A connection with the subscription for acknowledgements.
pub(super) struct Link {
    client: Client,
    jetstream: Option<Answers>,
    prefix: SubjectPrefix,
    timeout: Duration,
    broken: bool,
}

struct Answers {
    context: jetstream::Context,
    inbox: String,
    subscriber: Subscriber,
    published: u64,
}

impl Link {
    /// Prepares a connected client; `None` when the connection went away meanwhile.
    pub(super) async fn open(client: Client, settings: &OutboxSettings) -> Option<Self> {
        let jetstream = match settings.mode {
            PublishMode::Core => None,
            PublishMode::JetStream => {
                let inbox = client.new_inbox();
                let subscribing = client.subscribe(format!("{inbox}.*"));
                let subscriber = timeout(settings.publish_timeout, subscribing).await.ok()?.ok()?;
                let context =
                    ContextBuilder::new().timeout(settings.publish_timeout).build(client.clone());
                Some(Answers { context, inbox, subscriber, published: 0 })
            }
        };
        let (prefix, timeout) = (settings.prefix.clone(), settings.publish_timeout);
        Some(Self { client, jetstream, prefix, timeout, broken: false })
    }

    /// Whether the connection stands.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken && is_connected(&self.client)
    }

    /// Whether it never will again.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Publishes and waits for the outcome.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, the outcome is unknown.
    pub(super) async fn publish(&mut self, draft: &Draft) -> Outcome {
        let connects = self.connects();
        let sent = timeout(self.timeout, self.send(draft)).await;
        match sent {
            Err(_elapsed) => return Outcome::Unknown(self.why_silent(connects)),
            Ok(Err(error)) => match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => {
                    return Outcome::Impossible(error.to_string());
                }
                PublishErrorKind::InvalidSubject => return Outcome::Impossible(error.to_string()),
                PublishErrorKind::Send => {
                    self.broken = true;
                    return Outcome::Unknown(Unknown::Disconnected);
                }
            },
            Ok(Ok(())) => {}
        }
        match timeout(self.timeout, self.answer(connects)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Outcome::Unknown(self.why_silent(connects)),
        }
    }

    /// Id of the stream's last event on a subject; none without JetStream.
    ///
    /// # Errors
    ///
    /// [`Unknown`] when the server did not say.
    pub(super) async fn last_on_subject(&self, draft: &Draft) -> Result<Option<EventId>, Unknown> {
        let Some(answers) = &self.jetstream else { return Ok(None) };
        let connects = self.connects();
        let asked = async {
            let subject = self.prefix.apply(&draft.subject);
            match last_of(&answers.context, &self.stream_of(draft), &subject).await {
                Err(Question::NoStream) => {}
                other => return other,
            }
            // Whoever made the streams may have named them otherwise.
            match answers.context.stream_by_subject(&subject).await {
                Ok(stream) => last_of(&answers.context, &stream, &subject).await,
                Err(error) => match error.kind() {
                    context::GetStreamByNameErrorKind::NotFound => Ok(None),
                    context::GetStreamByNameErrorKind::InvalidSubject
                    | context::GetStreamByNameErrorKind::Request
                    | context::GetStreamByNameErrorKind::JetStream(_) => {
                        Err(Question::Other(error.to_string()))
                    }
                },
            }
        };
        // The connection is looked at besides, because the client does not fail its requests.
        let answered = tokio::select! {
            answered = timeout(self.timeout, asked) => answered,
            () = self.connection_ends(connects) => return Err(Unknown::Disconnected),
        };
        match answered {
            Ok(Ok(last)) => Ok(last),
            Ok(Err(Question::NoStream)) => Ok(None),
            Ok(Err(Question::Other(text))) => Err(Unknown::Unreadable(text)),
            Err(_elapsed) => Err(Unknown::Timeout),
        }
    }

    fn stream_of(&self, draft: &Draft) -> String {
        self.prefix.stream_name(match draft.class {
            Class::Health => HEALTH_STREAM,
            Class::Other => SUPERVISION_STREAM,
        })
    }

    async fn send(&mut self, draft: &Draft) -> Result<(), async_nats::PublishError> {
        let subject = self.prefix.apply(&draft.subject);
        let headers = headers_of(draft);
        let payload = draft.payload.clone();
        match &mut self.jetstream {
            None => self.client.publish_with_headers(subject, headers, payload).await,
            Some(answers) => {
                answers.published = answers.published.saturating_add(1);
                let reply = answers.reply();
                self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
        }
    }

    async fn answer(&mut self, connects: u64) -> Outcome {
        let (client, broken) = (self.client.clone(), &mut self.broken);
        let Some(answers) = &mut self.jetstream else {
            return flushed(&client, connects).await;
        };
        let reply = answers.reply();
        loop {
            // Cancelling the receive loses nothing: a message stays in the channel.
            let message = tokio::select! {
                biased;
                message = answers.subscriber.next() => message,
                () = ends(&client, connects) => {
                    return Outcome::Unknown(Unknown::Disconnected);
                }
            };
            match message {
                None => {
                    *broken = true;
                    return Outcome::Unknown(Unknown::Disconnected);
                }
                // An answer to an earlier try says nothing that the present one will not say.
                Some(message) if message.subject.as_str() != reply => {}
                Some(message) => return outcome_of(&message),
            }
        }
    }

    fn connects(&self) -> u64 {
        connects(&self.client)
    }

    fn why_silent(&self, connects: u64) -> Unknown {
        if stood(&self.client, connects) { Unknown::Timeout } else { Unknown::Disconnected }
    }

    async fn connection_ends(&self, connects: u64) {
        ends(&self.client, connects).await;
    }
}

impl Answers {
    fn reply(&self) -> String {
        format!("{}.{}", self.inbox, self.published)
    }
}

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

/// Whether the connection stands and is the one that it was.
fn stood(client: &Client, before: u64) -> bool {
    is_connected(client) && connects(client) == before
}

/// Waits until the connection is not the one that it was.
async fn ends(client: &Client, before: u64) {
    while stood(client, before) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Core mode: what was written to a connection that still stands counts as delivered.
async fn flushed(client: &Client, before: u64) -> Outcome {
    let flushed = tokio::select! {
        flushed = client.flush() => flushed.is_ok(),
        () = ends(client, before) => false,
    };
    if flushed && stood(client, before) {
        Outcome::Stored(Stored)
    } else {
        Outcome::Unknown(Unknown::Disconnected)
    }
}

fn headers_of(draft: &Draft) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, draft.id.to_string());
    headers.insert(CONTENT_TYPE_HEADER.0, CONTENT_TYPE_HEADER.1);
    if let Some(trace) = &draft.traceparent {
        headers.insert("traceparent", trace.as_str());
    }
    headers
}

fn outcome_of(message: &async_nats::Message) -> Outcome {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Outcome::Refused("no stream takes the subject".to_owned());
    }
    match serde_json::from_slice::<Response<PublishAck>>(&message.payload) {
        Ok(Response::Ok(_)) => Outcome::Stored(Stored),
        Ok(Response::Err { error }) => {
            let text = error.to_string();
            if [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM]
                .contains(&error.error_code())
            {
                Outcome::Impossible(text)
            } else {
                Outcome::Refused(text)
            }
        }
        Err(error) => Outcome::Unknown(Unknown::Unreadable(error.to_string())),
    }
}

/// Why the last event of a subject is not known.
enum Question {
    NoStream,
    Other(String),
}

/// Asks the stream's leader, because a replica may lag behind.
async fn last_of(
    context: &jetstream::Context,
    stream: &str,
    subject: &str,
) -> Result<Option<EventId>, Question> {
    let other = |text: String| Question::Other(text);
    let stream =
        context.get_stream_no_info(stream).await.map_err(|error| other(error.to_string()))?;
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => {
            let id = message.headers.get(header::NATS_MESSAGE_ID);
            Ok(id.and_then(|id| id.as_str().parse().ok()))
        }
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Err(Question::NoStream)
            }
            LastRawMessageErrorKind::InvalidSubject
            | LastRawMessageErrorKind::JetStream(_)
            | LastRawMessageErrorKind::Other => Err(other(error.to_string())),
        },
    }
}
