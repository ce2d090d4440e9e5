//! A durable consumer: takes messages from a stream, hands them to a handler, and says to the server
//! what became of each.
//!
//! Consumers of one name on one stream are a group: each message goes to one of them. How often a
//! message is tried is counted here and not at the server, which would stop at its limit without a
//! dead letter: a message whose last attempt died with its consumer is given up when it comes once
//! more. Nothing is given up before its dead letter is stored.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::{AckKind, Message};
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::protocol::dead_letter::DeadCause;
use crate::protocol::id::SubjectId;
use crate::transport::connect::Connection;
use crate::transport::queue::dead_letters::letter;
use crate::transport::queue::delivery::{Delivery, Handler, Take, Verdict};
use crate::transport::queue::publisher::Publisher;
use crate::transport::slot::ConnectionSlot;

/// Where a new consumer begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Start {
    /// With the oldest message.
    #[default]
    All,
    /// With what is stored from now on.
    New,
    /// With this sequence.
    At(u64),
}

/// What a message must be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Form {
    /// Anything.
    #[default]
    Any,
    /// A `CloudEvents` document; what is none is malformed.
    Event,
}

/// How a consumer works.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// Stream.
    pub stream: String,
    /// Name of the consumer, and of its group; dead letters go to `dlq.<name>`.
    pub name: SubjectId,
    /// Subjects wanted, prefix included; all of the stream's when empty.
    pub subjects: Vec<String>,
    /// Where it begins when it is new.
    pub start: Start,
    /// What a message must be.
    pub form: Form,
    /// Silence after which the server hands a message over again; it is renewed while it is handled.
    pub ack_wait: Duration,
    /// Longest time of handling one message.
    pub handle_within: Duration,
    /// Attempts, after which it becomes a dead letter.
    pub max_deliver: u32,
    /// Delay before it is tried again after a failure.
    pub nak_delay: Duration,
    /// Messages handed over to all of the group and not acknowledged, at most.
    pub max_ack_pending: u32,
    /// Messages handled at a time here.
    pub concurrency: usize,
    /// Longest wait at the end for what is being handled.
    pub drain: Duration,
}

impl ConsumerSettings {
    /// All messages of a stream, one at a time, each tried five times, five seconds apart.
    #[must_use]
    pub fn new(stream: impl Into<String>, name: SubjectId) -> Self {
        Self {
            stream: stream.into(),
            name,
            subjects: Vec::new(),
            start: Start::All,
            form: Form::Any,
            ack_wait: Duration::from_secs(30),
            handle_within: Duration::from_secs(300),
            max_deliver: 5,
            nak_delay: Duration::from_secs(5),
            max_ack_pending: 1_000,
            concurrency: 1,
            drain: Duration::from_secs(10),
        }
    }

    fn config(&self) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.to_string()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // Counted here: see the page of this file.
            max_deliver: -1,
            max_ack_pending: i64::from(self.max_ack_pending),
            filter_subjects: self.subjects.clone(),
            deliver_policy: match self.start {
                Start::All => DeliverPolicy::All,
                Start::New => DeliverPolicy::New,
                Start::At(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
            },
            ..pull::Config::default()
        }
    }
}

/// How far a consumer is behind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backlog {
    /// Messages that were never handed over.
    pub pending: u64,
    /// Messages handed over and not acknowledged.
    pub unacknowledged: u64,
    /// Messages handed over more than once and not acknowledged.
    pub redelivered: u64,
}

/// The consumer, as a service.
#[derive(Clone, Debug)]
pub struct Consumer {
    slot: ConnectionSlot,
    settings: Arc<ConsumerSettings>,
    handler: Arc<dyn Handler>,
}

impl Consumer {
    /// A consumer on the slot's connection.
    #[must_use]
    pub fn new(
        slot: ConnectionSlot,
        settings: ConsumerSettings,
        handler: Arc<dyn Handler>,
    ) -> Self {
        Self { slot, settings: Arc::new(settings), handler }
    }

    /// How far it is behind, as the server says.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the server does not answer, or the consumer was never started.
    pub async fn backlog(&self) -> Result<Backlog, ServiceError> {
        let connection = self.slot.connection().await;
        let name = self.settings.name.as_str();
        let failed = |said: String| ServiceError::new(format!("consumer {name}: {said}"));
        let stream = connection.jetstream().get_stream(&self.settings.stream).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let info = stream.consumer_info(name).await.map_err(|error| failed(error.to_string()))?;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Backlog {
            pending: info.num_pending,
            unacknowledged: count(info.num_ack_pending),
            redelivered: count(info.num_redelivered),
        })
    }

    async fn consume(self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        let mut ready = Some(ready);
        loop {
            let connection = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                connection = self.slot.connection() => connection,
            };
            let mut messages = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Nothing was taken yet.
                () = self.slot.replaced(&connection) => continue,
                opened = self.open(&connection) => opened?,
            };
            ready.take().map(Ready::tell).unwrap_or_default();
            let mut work = Work::new(&self, &connection);
            let ended = tokio::select! {
                () = stop.cancelled() => {
                    drop(messages);
                    work.drain(self.settings.drain).await;
                    return Ok(());
                }
                // What is being handled comes again through the new connection.
                () = self.slot.replaced(&connection) => continue,
                ended = work.take_all(&mut messages) => ended,
            };
            return Err(ServiceError::new(format!("consumer {}: {ended}", self.settings.name)));
        }
    }

    async fn open(&self, connection: &Connection) -> Result<pull::Stream, ServiceError> {
        let ConsumerSettings { stream, name, .. } = self.settings.as_ref();
        let failed = |what: &str, said: String| {
            ServiceError::new(format!("consumer {name} of stream {stream}: {what}: {said}"))
        };
        if self.settings.max_deliver == 0 || self.settings.concurrency == 0 {
            return Err(failed(
                "settings",
                "max_deliver and concurrency must be at least 1".into(),
            ));
        }
        let found = connection.jetstream().get_stream(stream).await;
        let found = found.map_err(|error| failed("no such stream", error.to_string()))?;
        let consumer = found.create_consumer(self.settings.config()).await;
        let consumer = consumer.map_err(|error| {
            failed("the server refuses it, or has it with other settings", error.to_string())
        })?;
        let batch = self.settings.concurrency.saturating_mul(2).min(256);
        let messages = consumer.stream().max_messages_per_batch(batch).messages().await;
        messages.map_err(|error| failed("it cannot be read", error.to_string()))
    }
}

impl Service for Consumer {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().consume(stop, ready))
    }
}

/// What is being handled. Dropping it ends that; the messages come again.
struct Work {
    desk: Arc<Desk>,
    under_way: JoinSet<()>,
}

impl Work {
    fn new(consumer: &Consumer, connection: &Connection) -> Self {
        let desk = Desk {
            settings: Arc::clone(&consumer.settings),
            handler: Arc::clone(&consumer.handler),
            publisher: Publisher::new(connection.clone()),
            connection: connection.clone(),
        };
        Self { desk: Arc::new(desk), under_way: JoinSet::new() }
    }

    /// Takes messages until there are no more, and says why.
    async fn take_all(&mut self, messages: &mut pull::Stream) -> String {
        loop {
            let has_room = self.under_way.len() < self.desk.settings.concurrency;
            // Messages stay in their stream, ended work in its set.
            tokio::select! {
                Some(ended) = self.under_way.join_next(), if !self.under_way.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "handling a message failed");
                    }
                }
                message = messages.next(), if has_room => match message {
                    Some(Ok(message)) => {
                        let desk = Arc::clone(&self.desk);
                        self.under_way.spawn(async move { desk.treat(message).await });
                    }
                    Some(Err(error)) => return error.to_string(),
                    None => return "the server sends no more".to_owned(),
                },
            }
        }
    }

    async fn drain(mut self, within: Duration) {
        let ending = async { while self.under_way.join_next().await.is_some() {} };
        if timeout(within, ending).await.is_err() {
            tracing::warn!(left = self.under_way.len(), "messages were being handled at the end");
        }
        // The last acknowledgements are on their way only when the server was reached after them.
        if let Err(error) = self.desk.connection.round_trip().await {
            tracing::debug!(%error, "the last acknowledgements may be lost");
        }
    }
}

struct Desk {
    settings: Arc<ConsumerSettings>,
    handler: Arc<dyn Handler>,
    publisher: Publisher,
    connection: Connection,
}

impl Desk {
    async fn treat(&self, message: Message) {
        let Some(delivery) = Delivery::of(&message) else {
            tracing::warn!(subject = %message.subject, "a message of no consumer was ignored");
            return;
        };
        let kind = delivery.event_type.clone();
        if kind.is_some_and(|kind| self.handler.takes(&kind) == Take::Skip) {
            return say(&message, AckKind::Ack).await;
        }
        if self.settings.form == Form::Event && delivery.event_type.is_none() {
            let text = "it is no CloudEvents document of version 1";
            return self.give_up(&message, &delivery, cause("malformed", text)).await;
        }
        if self.settings.max_deliver < delivery.attempt {
            let text = "its last attempt ended without an answer";
            return self.give_up(&message, &delivery, cause("no_answer", text)).await;
        }
        match self.handled(&message, delivery.clone()).await {
            Verdict::Done => say(&message, AckKind::Ack).await,
            Verdict::Malformed { message: text } => {
                self.give_up(&message, &delivery, cause("malformed", &text)).await;
            }
            Verdict::Failed { code, message: text, after } => {
                if self.settings.max_deliver <= delivery.attempt {
                    return self.give_up(&message, &delivery, cause(&code, &text)).await;
                }
                let delay = after.unwrap_or(self.settings.nak_delay);
                say(&message, AckKind::Nak(Some(delay))).await;
            }
        }
    }

    /// Calls the handler and keeps the message ours meanwhile.
    async fn handled(&self, message: &Message, delivery: Delivery) -> Verdict {
        let handling = AssertUnwindSafe(self.handler.handle(delivery)).catch_unwind();
        let handling = timeout(self.settings.handle_within, handling);
        tokio::pin!(handling);
        let every = (self.settings.ack_wait / 3).max(Duration::from_millis(1));
        let mut renew = interval_at(Instant::now() + every, every);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The handling is pinned outside; a tick is without state.
            tokio::select! {
                outcome = &mut handling => return match outcome {
                    Ok(Ok(verdict)) => verdict,
                    Ok(Err(_panic)) => Verdict::failed("panic", "the handler panicked"),
                    Err(_elapsed) => {
                        let within = self.settings.handle_within;
                        Verdict::failed("timeout", format!("not handled within {within:?}"))
                    }
                },
                _ = renew.tick() => say(message, AckKind::Progress).await,
            }
        }
    }

    /// Stores the dead letter, then tells the server to hand the message over no more.
    async fn give_up(&self, message: &Message, delivery: &Delivery, cause: DeadCause) {
        let client = self.connection.client();
        let dead = letter(
            (self.connection.prefix(), &self.settings.name),
            delivery,
            cause,
            Timestamp::now(),
            client.max_payload(),
        );
        match self.publisher.publish(dead).await {
            Ok(_) => say(message, AckKind::Term).await,
            Err(error) => {
                let (stream, sequence) = (&delivery.stream, delivery.sequence);
                tracing::warn!(stream, sequence, %error, "a dead letter could not be stored");
                say(message, AckKind::Nak(Some(self.settings.nak_delay))).await;
            }
        }
    }
}

fn cause(code: &str, message: &str) -> DeadCause {
    DeadCause { code: code.to_owned(), message: message.to_owned() }
}

/// Says what became of a message. When that is lost, the message comes again.
async fn say(message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "an acknowledgement could not be sent");
    }
}
