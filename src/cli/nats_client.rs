//! The way to a daemon over NATS.
//!
//! Errors name the address that was tried. Stored events are read with a consumer of our own that
//! the server forgets soon after we are gone; it is made again where it was lost, from the last
//! event seen on.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use jiff::Timestamp;

use crate::cli::client::{Client, Fed, Feed, Follow, Seen, Stored};
use crate::cli::failure::{Failure, Fault};
use crate::ports::BoxFuture;
use crate::protocol::subject::{Subject, pattern};
use crate::transport::connect::{CallError, ConnectError, Connection};
use crate::transport::settings::ConnectSettings;

/// Name of the stream that keeps what happened.
const STREAM: &str = "SUPERVISION";

/// Events asked for at once.
const BATCH_EVENTS: usize = 500;

/// Longest time one question for new events stays open.
const BATCH_WAIT: Duration = Duration::from_secs(20);

/// After this time without us the server forgets our consumer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Tries to make a lost consumer again, one a second.
const TRIES_MAX: u32 = 60;

/// Time between two such tries.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A way to the daemon over one connection.
#[derive(Debug)]
pub(crate) struct NatsClient {
    connection: Connection,
}

impl NatsClient {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Names every address that was tried and what was said there.
    pub(crate) async fn open(settings: &ConnectSettings) -> Result<Self, Failure> {
        match Connection::open(settings).await {
            Ok(connection) => Ok(Self { connection }),
            Err(error) => Err(unreachable_nats(settings, &error)),
        }
    }

    /// The connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends what is on its way and closes.
    pub(crate) async fn close(&self) {
        self.connection.close().await;
    }

    fn failed(&self, error: &CallError) -> Failure {
        let url = self.connection.url();
        match error {
            CallError::NoResponders { subject } => no_daemon(url, subject),
            CallError::TimedOut { what, after, .. } => {
                let message = format!("no answer to {what} within {after:?} at {url}");
                let next = "provost status shows how the daemon is; wait longer with --timeout";
                Failure::new(Fault::TimedOut, message, next).caused_by(error)
            }
            CallError::TooLarge { .. } | CallError::BadSubject { .. } => {
                Failure::new(Fault::Usage, "the request cannot be sent", "make it shorter")
                    .caused_by(error)
            }
            CallError::Closed { .. } => lost(url).caused_by(error),
        }
    }

    async fn stream(&self) -> Result<Option<Stream>, Failure> {
        let name = self.connection.prefix().stream_name(STREAM);
        match self.connection.jetstream().get_stream(&name).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                // No such stream, or JetStream says that we have none: nothing is stored.
                GetStreamErrorKind::JetStream(_) => Ok(None),
                GetStreamErrorKind::Request => match self.connection.require_jetstream().await {
                    Err(
                        ConnectError::JetStreamOff { .. } | ConnectError::JetStreamForbidden { .. },
                    ) => Ok(None),
                    Ok(()) | Err(_) => Err(self.unreadable(&name).caused_by(&error)),
                },
                GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                    Err(self.unreadable(&name).caused_by(&error))
                }
            },
        }
    }

    fn unreadable(&self, stream: &str) -> Failure {
        let message = format!("stream {stream} at {} cannot be read", self.connection.url());
        Failure::new(Fault::NatsUnreachable, message, "check the permissions of our NATS user")
    }

    async fn ask(
        &self,
        subject: Subject,
        payload: Vec<u8>,
        wait: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let subject = subject.under(self.connection.prefix());
        let answer = self.connection.request(&subject, payload.into(), wait).await;
        let message = answer.map_err(|error| self.failed(&error))?;
        Ok(message.payload.to_vec())
    }
}

impl Client for NatsClient {
    fn request(
        &self,
        subject: Subject,
        payload: Vec<u8>,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, Failure>> {
        Box::pin(self.ask(subject, payload, wait))
    }

    fn stored(&self, wanted: Stored) -> BoxFuture<'_, Result<Option<Box<dyn Feed>>, Failure>> {
        Box::pin(async move {
            let Some(stream) = self.stream().await? else { return Ok(None) };
            let mut feed = StoredFeed::new(stream, wanted, self.connection.clone());
            feed.consume().await?;
            let feed: Box<dyn Feed> = Box::new(feed);
            Ok(Some(feed))
        })
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Option<Timestamp>, Failure>> {
        Box::pin(async move {
            let Some(stream) = self.stream().await? else { return Ok(None) };
            let state = &stream.cached_info().state;
            if state.messages == 0 {
                return Ok(None);
            }
            // The client library's own type for times is not ours.
            Ok(Timestamp::from_nanosecond(state.first_timestamp.unix_timestamp_nanos()).ok())
        })
    }

    fn live(&self) -> BoxFuture<'_, Result<Box<dyn Feed>, Failure>> {
        Box::pin(async move {
            let mut subscriptions = Vec::new();
            for subject in pattern::STREAM_SUPERVISION {
                let subject = self.connection.prefix().apply(subject);
                let subscribing = self.connection.subscribe_confirmed(&subject).await;
                subscriptions.push(subscribing.map_err(|error| self.failed(&error))?);
            }
            let url = self.connection.url().to_owned();
            let feed: Box<dyn Feed> =
                Box::new(LiveFeed { messages: select_all(subscriptions), url });
            Ok(feed)
        })
    }
}

pub(crate) fn unreachable_nats(settings: &ConnectSettings, error: &ConnectError) -> Failure {
    let message = format!("NATS at {} cannot be used", settings.redacted());
    Failure::new(Fault::NatsUnreachable, message, error.hint()).caused_by(error)
}

fn no_daemon(url: &str, subject: &str) -> Failure {
    let message = format!("no daemon answers at {url}");
    let next = "start it with `provost up -f FILE`, or check --nats-url and --prefix";
    Failure::new(Fault::DaemonUnreachable, message, next)
        .because(format!("nobody listens on {subject}"))
}

fn lost(url: &str) -> Failure {
    let message = format!("the connection to NATS at {url} was lost");
    Failure::new(Fault::NatsUnreachable, message, "try again")
}

/// Events of the stream.
#[derive(Debug)]
struct StoredFeed {
    stream: Stream,
    wanted: Stored,
    connection: Connection,
    consumer: Option<Consumer<pull::Config>>,
    /// Sequence of the last event seen; 0 before the first.
    last: u64,
    /// Events that the server has for us and that were not delivered yet.
    pending: u64,
    ready: VecDeque<Fed>,
}

impl StoredFeed {
    fn new(stream: Stream, wanted: Stored, connection: Connection) -> Self {
        let ready = VecDeque::with_capacity(BATCH_EVENTS);
        Self { stream, wanted, connection, consumer: None, last: 0, pending: 0, ready }
    }

    /// Makes a consumer that begins behind the last event seen.
    async fn consume(&mut self) -> Result<(), Failure> {
        let config = pull::Config {
            description: Some("provost events".to_owned()),
            deliver_policy: self.begin()?,
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN_AFTER,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = self.stream.create_consumer(config).await.map_err(|error| {
            let message = format!("the stored events at {} cannot be read", self.connection.url());
            let next = "check the permissions of our NATS user and the server's log";
            Failure::new(Fault::NatsUnreachable, message, next).caused_by(&error)
        })?;
        self.pending = consumer.cached_info().num_pending;
        self.consumer = Some(consumer);
        Ok(())
    }

    fn begin(&self) -> Result<DeliverPolicy, Failure> {
        if 0 < self.last {
            let start_sequence = self.last.saturating_add(1);
            return Ok(DeliverPolicy::ByStartSequence { start_sequence });
        }
        match self.wanted.since {
            None => Ok(DeliverPolicy::All),
            Some(since) => start_time(since),
        }
    }

    async fn advance(&mut self) -> Result<Fed, Failure> {
        let mut tries = 0;
        loop {
            if let Some(fed) = self.ready.pop_front() {
                return Ok(fed);
            }
            if self.pending == 0 && self.wanted.follow == Follow::No {
                self.forget().await;
                return Ok(Fed::End);
            }
            let Err(failure) = self.fill().await else {
                tries = 0;
                continue;
            };
            tries += 1;
            // What came before the failure counts.
            self.consumer = None;
            if self.wanted.follow == Follow::No || TRIES_MAX < tries {
                return Err(failure);
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Gets the next events: what is there at once, or one that comes in a while.
    async fn fill(&mut self) -> Result<(), Failure> {
        if self.consumer.is_none() {
            self.consume().await?;
        }
        let Some(consumer) = &self.consumer else { return Ok(()) };
        let mut link = self.connection.link();
        let reconnects = link.borrow().reconnects;
        let asked = if self.pending == 0 {
            consumer.batch().max_messages(1).expires(BATCH_WAIT).messages().await
        } else {
            consumer.fetch().max_messages(BATCH_EVENTS).expires(BATCH_WAIT).messages().await
        };
        let lost = || lost(self.connection.url());
        let mut batch = asked.map_err(|error| lost().caused_by(&error))?;
        let before = self.pending;
        let mut got = 0;
        loop {
            let message = tokio::select! {
                biased;
                // Cancel safe: a message stays in its subscription.
                message = batch.next() => message,
                // Our question went down with the old connection: ask again instead of waiting.
                _ = link.wait_for(|link| link.reconnects != reconnects) => {
                    return Err(lost().because("the connection was made again"));
                }
            };
            let Some(message) = message else { break };
            let message = message.map_err(|error| lost().because(error.to_string()))?;
            got += 1;
            if let Ok(info) = message.info() {
                self.last = info.stream_sequence;
                self.pending = info.pending;
            }
            self.ready.push_back(Seen::read(&message.payload));
        }
        // The server counted events that it then did not have: limits removed them meanwhile.
        if got == 0 && 0 < before {
            self.pending = 0;
        }
        Ok(())
    }

    /// Lets the server forget the consumer at once.
    async fn forget(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let name = consumer.cached_info().name.clone();
        if let Err(error) = self.stream.delete_consumer(&name).await {
            tracing::debug!(error = %error, "the server keeps our consumer for a while");
        }
    }
}

impl Feed for StoredFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<Fed, Failure>> {
        Box::pin(self.advance())
    }
}

/// The client library's own type for times is not ours; both agree on RFC 3339.
fn start_time(since: Timestamp) -> Result<DeliverPolicy, Failure> {
    let document = serde_json::json!({
        "deliver_policy": "by_start_time",
        "opt_start_time": since.to_string(),
    });
    serde_json::from_value(document).map_err(|error| {
        Failure::new(Fault::Usage, format!("{since} is no time to begin at"), "use --since 1h")
            .caused_by(&error)
    })
}

/// Events as they are published.
#[derive(Debug)]
struct LiveFeed {
    messages: SelectAll<Subscriber>,
    url: String,
}

impl Feed for LiveFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<Fed, Failure>> {
        Box::pin(async move {
            let message = self.messages.next().await;
            let message = message.ok_or_else(|| lost(&self.url))?;
            Ok(Seen::read(&message.payload))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_begin_at_is_taken_over() {
        let since: Timestamp = "2026-11-21T12:00:00.5Z".parse().unwrap();
        let policy = start_time(since).unwrap();
        let text = serde_json::to_value(policy).unwrap()["opt_start_time"].to_string();
        assert!(text.starts_with("\"2026-11-21T12:00:00.5"), "{text}");
    }
}
