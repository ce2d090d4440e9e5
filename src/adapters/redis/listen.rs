//! Subscriptions of Redis: channels and patterns on one connection, each stream on one of its own.
//!
//! A stream is read as a consumer group: first what this consumer took earlier and did not confirm,
//! then what is new; now and then what others left behind. An entry is confirmed once it is kept,
//! so a lost connection, a crash or a sink that is full delays it and may deliver it twice, but
//! never loses it.

#![expect(
    clippy::excessive_nesting,
    reason = "one loop over what may happen: its arms read better together"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add variants; what is not named is meant as one"
)]

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, PushInfo, PushKind, RedisError, Value as Reply};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::message::{GROUP, inbound};
use crate::adapters::redis::link::{OpenError, Opened, Opener, PUSHES_MAX};
use crate::adapters::redis::queue::{claim, make_group};
use crate::adapters::redis::value::{Body, Entry, as_text, entries, items, read_entries};
use crate::config::{Subscription, SubscriptionSource};
use crate::ports::{BoxFuture, Inbound, InboundSink, ServiceError};

/// How long one read of a stream waits at the server.
const BLOCK: Duration = Duration::from_secs(2);

/// Longest time for the answer to a read, beyond which the connection is dead.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Entries read at once.
const ENTRIES_MAX: usize = 64;

/// When an entry that another consumer did not confirm is taken over.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// Delay before a message that could not be kept is offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(250);

/// One connection that listens.
#[derive(Debug)]
pub(super) struct Listener {
    opener: Opener,
    source: Source,
    consumer: String,
    sink: Arc<dyn InboundSink>,
}

#[derive(Debug)]
enum Source {
    Channels { channels: Vec<String>, patterns: Vec<String> },
    Stream { key: String, group: String },
}

/// The listeners that some subscriptions need.
pub(super) fn all(
    opener: &Opener,
    subscriptions: &[Subscription],
    consumer: &str,
    sink: &Arc<dyn InboundSink>,
) -> Vec<Listener> {
    let listener = |source| Listener {
        opener: opener.clone(),
        source,
        consumer: consumer.to_owned(),
        sink: Arc::clone(sink),
    };
    let of = |source| {
        subscriptions.iter().filter(move |one| one.source == source).map(|one| one.topic.clone())
    };
    let channels: Vec<String> = of(SubscriptionSource::Channel).collect();
    let patterns: Vec<String> = of(SubscriptionSource::Pattern).collect();
    let mut all = Vec::new();
    if !channels.is_empty() || !patterns.is_empty() {
        all.push(listener(Source::Channels { channels, patterns }));
    }
    for one in subscriptions.iter().filter(|one| one.source == SubscriptionSource::Stream) {
        let group = one.group.clone().unwrap_or_else(|| GROUP.to_owned());
        all.push(listener(Source::Stream { key: one.topic.clone(), group }));
    }
    all
}

/// A connection that listens.
struct Listening {
    opened: Opened,
    pushes: mpsc::Receiver<PushInfo>,
    missed: watch::Receiver<u64>,
}

impl Listener {
    /// Opens the connection and subscribes; what comes back listens until it cannot any more.
    pub(super) async fn begin(self) -> Result<BoxFuture<'static, ServiceError>, ServiceError> {
        let first = self.open().await;
        let first = first.map_err(|error| ServiceError::new(error.into_reason()))?;
        Ok(Box::pin(self.run(first)))
    }

    async fn run(self, first: Listening) -> ServiceError {
        let mut listening = first;
        loop {
            let reason = self.listen(listening).await;
            tracing::warn!(error = %reason, "subscription to redis interrupted");
            match self.opener.open_again(|| Box::pin(self.open())).await {
                Ok(again) => listening = again,
                Err(error) => return error,
            }
            match self.source {
                Source::Channels { .. } => {
                    tracing::warn!("subscription to redis restored; what was published is missed");
                }
                Source::Stream { .. } => tracing::info!("subscription to redis restored"),
            }
        }
    }

    async fn open(&self) -> Result<Listening, OpenError> {
        let (queue, pushes) = mpsc::channel(PUSHES_MAX);
        let (count, missed) = watch::channel(0);
        let mut opened = self.opener.open(Some((queue, count))).await?;
        let mut connection = opened.connection.clone();
        let subscribing = self.subscribe(&mut connection);
        tokio::select! {
            // The connection is dropped with the driver.
            () = &mut opened.driver => {
                return Err(OpenError::Passing("the connection was closed".to_owned()));
            }
            // Subscribing again is harmless.
            done = timeout(ANSWER_MAX, subscribing) => match done {
                Ok(done) => done.map_err(|error| OpenError::of(&error))?,
                Err(_elapsed) => {
                    return Err(OpenError::Passing("no answer to a subscription".to_owned()));
                }
            },
        }
        Ok(Listening { opened, pushes, missed })
    }

    async fn subscribe(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        match &self.source {
            Source::Channels { channels, patterns } => {
                if !channels.is_empty() {
                    connection.subscribe(channels).await?;
                }
                if !patterns.is_empty() {
                    connection.psubscribe(patterns).await?;
                }
                Ok(())
            }
            Source::Stream { key, group } => match ask(connection, &make_group(key, group)).await {
                Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
                Ok(_) | Err(_) => Ok(()),
            },
        }
    }

    /// Listens on one connection; ends with the reason.
    async fn listen(&self, listening: Listening) -> String {
        let Listening { opened: Opened { connection, driver }, pushes, missed } = listening;
        let hearing: BoxFuture<'_, String> = match &self.source {
            Source::Channels { .. } => Box::pin(self.hear(pushes, missed)),
            Source::Stream { key, group } => Box::pin(self.read(connection.clone(), (key, group))),
        };
        tokio::select! {
            // Each branch ends the connection for good: nothing is left to be lost but what
            // pub/sub does not keep, and unconfirmed entries come again.
            () = driver => "the connection was closed".to_owned(),
            reason = hearing => reason,
            reason = self.opener.watch_over(connection) => reason,
        }
    }

    async fn hear(
        &self,
        mut pushes: mpsc::Receiver<PushInfo>,
        missed: watch::Receiver<u64>,
    ) -> String {
        let mut told = 0;
        while let Some(push) = pushes.recv().await {
            if push.kind == PushKind::Disconnection {
                return "the connection was closed".to_owned();
            }
            let count = *missed.borrow();
            if told < count {
                tracing::warn!(missed = count - told, "messages of redis found no room");
                told = count;
            }
            if let Some(message) = published(push)
                && let Err(error) = self.sink.deliver(message).await
            {
                tracing::warn!(error = %error, "message of a downstream was not kept");
            }
        }
        "nothing is pushed any more".to_owned()
    }

    async fn read(
        &self,
        mut connection: MultiplexedConnection,
        (key, group): (&str, &str),
    ) -> String {
        let done = async {
            let mut after = "0".to_owned();
            loop {
                let found =
                    read_entries(answer(&mut connection, &self.reads(key, group, &after)).await?);
                let Some(last) = found.last() else { break };
                after.clone_from(&last.id);
                self.hand_on(&mut connection, (key, group), found).await?;
            }
            let mut looked = Instant::now();
            loop {
                if ABANDONED_AFTER <= looked.elapsed() {
                    self.take_over(&mut connection, (key, group)).await?;
                    looked = Instant::now();
                }
                let found =
                    read_entries(answer(&mut connection, &self.reads(key, group, ">")).await?);
                self.hand_on(&mut connection, (key, group), found).await?;
            }
        };
        let ended: Result<(), String> = done.await;
        ended.err().unwrap_or_default()
    }

    fn reads(&self, key: &str, group: &str, after: &str) -> Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(&self.consumer).arg("COUNT").arg(ENTRIES_MAX);
        read.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX));
        read.arg("STREAMS").arg(key).arg(after);
        read
    }

    /// Entries that other consumers took and left behind.
    async fn take_over(
        &self,
        connection: &mut MultiplexedConnection,
        (key, group): (&str, &str),
    ) -> Result<(), String> {
        let mut cursor = "0-0".to_owned();
        loop {
            let claim = claim((key, group), &self.consumer, ABANDONED_AFTER, &cursor);
            let mut parts = items(answer(connection, &claim).await?).into_iter();
            cursor = parts.next().and_then(|next| as_text(&next)).unwrap_or_default();
            let found = entries(parts.next().unwrap_or_default());
            self.hand_on(connection, (key, group), found).await?;
            if cursor.is_empty() || cursor == "0-0" {
                return Ok(());
            }
        }
    }

    /// Delivers entries in order and confirms each once it is kept.
    async fn hand_on(
        &self,
        connection: &mut MultiplexedConnection,
        (key, group): (&str, &str),
        found: Vec<Entry>,
    ) -> Result<(), String> {
        for entry in found {
            // An entry without a body was deleted meanwhile: there is nothing to deliver.
            if let Some(body) = &entry.body {
                self.keep(key, &entry.id, body).await;
            }
            let mut confirm = redis::cmd("XACK");
            confirm.arg(key).arg(group).arg(&entry.id);
            answer(connection, &confirm).await?;
        }
        Ok(())
    }

    /// Offers a message until it is kept.
    async fn keep(&self, key: &str, id: &str, body: &Body) {
        let (payload, encoding) = body.value();
        let message = Inbound { topic: key.to_owned(), payload, encoding, id: Some(id.to_owned()) };
        while let Err(error) = self.sink.deliver(message.clone()).await {
            tracing::warn!(error = %error, "entry of a stream cannot be kept yet");
            sleep(OFFER_AGAIN).await;
        }
    }
}

/// The message in a push, if it is one.
fn published(push: PushInfo) -> Option<Inbound> {
    let skipped = match push.kind {
        PushKind::Message | PushKind::SMessage => 0,
        // The pattern stands first.
        PushKind::PMessage => 1,
        _ => return None,
    };
    let mut data = push.data.into_iter().skip(skipped);
    let topic = as_text(&data.next()?)?;
    let Reply::BulkString(bytes) = data.next()? else { return None };
    Some(inbound(topic, &bytes, None))
}

async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Reply, RedisError> {
    connection.send_packed_command(command).await.and_then(Reply::extract_error)
}

async fn answer(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Reply, String> {
    match timeout(ANSWER_MAX, ask(connection, command)).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}
