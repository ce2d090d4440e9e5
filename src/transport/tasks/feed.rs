//! Submissions as they arrive, and what was there at the start.
//!
//! The consumer is made anew whenever the feed begins or breaks: the server then delivers all that
//! was not acknowledged, and whoever receives it knows what it has already.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{Context, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::protocol::id::{AgentId, TaskId, TaskType};
use crate::protocol::route::Distribution;
use crate::protocol::subject::{Subject, SubjectPrefix};
use crate::protocol::task::{RequestFault, SUBMITTER_BYTES_MAX, SUBMITTER_HEADER, TaskRequest};
use crate::transport::tasks::TASKS;
use crate::transport::tasks::journal::Journal;

/// Name of the consumer.
const CONSUMER: &str = "coordinator";

/// Submissions that the coordinator has at a time; the others wait in the stream.
pub const OPEN_MAX: i64 = 200_000;

/// Time after which the server delivers a submission again that is still open.
const AGAIN_AFTER: Duration = Duration::from_secs(6 * 3_600);

/// Submissions asked for at once.
const BATCH: usize = 500;

/// Time that one question stays open, and between two signs of life while it does.
const OPEN_FOR: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));

/// Pause before a broken feed begins anew.
const PAUSE: Duration = Duration::from_millis(500);

/// A submission as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Sequence in its stream.
    pub sequence: u64,
    /// The task.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// On whose behalf; empty when nobody said.
    pub submitter: String,
    /// W3C trace context, if it has one.
    pub trace: Option<String>,
    /// When it was stored.
    pub accepted_at: Timestamp,
    /// Its body.
    pub payload: Bytes,
    /// Where it is acknowledged; nowhere if it is a part.
    pub acknowledge: String,
    /// Of which broadcast it is a part, and for which agent.
    pub part_of: Option<PartOf>,
}

/// Where a part of a broadcast belongs. It has the broadcast's body.
#[derive(Clone, Debug)]
pub struct PartOf {
    /// Sequence of the broadcast.
    pub sequence: u64,
    /// The broadcast.
    pub id: TaskId,
    /// Who is to work on it.
    pub agent: AgentId,
}

impl Arrived {
    /// The request, as the body says it; a part is for its agent alone.
    ///
    /// # Errors
    ///
    /// The body is no submission.
    pub fn request(&self) -> Result<TaskRequest, RequestFault> {
        let mut request = TaskRequest::parse(&self.payload)?;
        if let Some(part_of) = &self.part_of {
            request.strategy = Some(Distribution::Direct);
            request.participants = vec![part_of.agent.as_str().to_owned()];
            request.completion = None;
        }
        Ok(request)
    }

    /// The body that asks for this very task.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let own =
            self.part_of.as_ref().and_then(|_| serde_json::to_vec(&self.request().ok()?).ok());
        own.map_or_else(|| self.payload.clone(), Bytes::from)
    }
}

/// What comes out of the feed.
#[derive(Clone, Debug)]
pub enum Fed {
    /// A submission.
    Arrived(Box<Arrived>),
    /// All that was in the stream when the feed began has been given.
    CaughtUp,
}

/// Feeds submissions for ever.
///
/// # Cancel safety
///
/// Cancelling loses nothing: what was not acknowledged is delivered by the next feed.
pub async fn feed(journal: Journal, to: mpsc::Sender<Fed>) {
    loop {
        match feed_once(&journal, &to).await {
            Ok(()) => return,
            Err(said) => tracing::warn!(error = said, "submissions cannot be read; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends well when nobody receives any more.
async fn feed_once(journal: &Journal, to: &mpsc::Sender<Fed>) -> Result<(), String> {
    let context = journal.jetstream().await;
    let connection = journal.slot().connection().await;
    let (mut pending, consumer) = consume(&context, journal.prefix()).await?;
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(BATCH)
        .expires(OPEN_FOR.0)
        .heartbeat(OPEN_FOR.1)
        .messages()
        .await
        .map_err(|error| error.to_string())?;
    if pending == 0 && to.send(Fed::CaughtUp).await.is_err() {
        return Ok(());
    }
    loop {
        let message = tokio::select! {
            // A message that is not taken is delivered again by the next consumer.
            message = messages.next() => message,
            () = journal.slot().replaced(&connection) => return Err("connection replaced".into()),
        };
        let Some(message) = message else { return Err("the consumer has ended".to_owned()) };
        let message = message.map_err(|error| error.to_string())?;
        if let Some(arrived) = arrived(&message, journal.prefix())
            && to.send(Fed::Arrived(Box::new(arrived))).await.is_err()
        {
            return Ok(());
        }
        if 0 < pending {
            pending = pending.saturating_sub(1);
            if pending == 0 && to.send(Fed::CaughtUp).await.is_err() {
                return Ok(());
            }
        }
    }
}

type Consumer = async_nats::jetstream::consumer::Consumer<pull::Config>;

async fn consume(context: &Context, prefix: &SubjectPrefix) -> Result<(u64, Consumer), String> {
    let name = prefix.stream_name(TASKS);
    let stream: Stream<()> =
        context.get_stream_no_info(&name).await.map_err(|error| error.to_string())?;
    // One that is not there cannot be deleted; all else shows when it is made.
    drop(stream.delete_consumer(CONSUMER).await);
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        description: Some("Tasks for the coordinator.".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: AGAIN_AFTER,
        max_ack_pending: OPEN_MAX,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let pending = consumer.cached_info().num_pending;
    Ok((pending, consumer))
}

fn arrived(message: &Message, prefix: &SubjectPrefix) -> Option<Arrived> {
    let subject = prefix.strip(message.subject.as_str())?;
    let info = match message.info() {
        Ok(info) => info,
        Err(error) => {
            tracing::error!(subject, %error, "a submission has no place in its stream");
            return None;
        }
    };
    // A deeper or stranger subject than `coordination.tasks.<type>` has a type all the same.
    let task_type = match Subject::parse(subject) {
        Some(Subject::Tasks(kind)) => kind.as_str().parse().ok(),
        _ => None,
    };
    let headers = message.headers.as_ref();
    let header =
        |name: &str| headers.and_then(|headers| headers.get(name)).map(ToString::to_string);
    let sequence = info.stream_sequence;
    let id = header("Nats-Msg-Id").and_then(|id| id.parse().ok());
    let nanos = info.published.unix_timestamp_nanos();
    Some(Arrived {
        sequence,
        id: id.unwrap_or_else(|| TaskId::of_submission(sequence)),
        task_type: task_type.or_else(|| "unknown".parse().ok())?,
        submitter: header(SUBMITTER_HEADER)
            .unwrap_or_default()
            .chars()
            .take(SUBMITTER_BYTES_MAX)
            .collect(),
        trace: header("traceparent").filter(|trace| trace.len() <= 128),
        accepted_at: Timestamp::from_nanosecond(nanos).unwrap_or_default(),
        payload: message.payload.clone(),
        acknowledge: message.reply.as_ref().map(ToString::to_string).unwrap_or_default(),
        part_of: None,
    })
}
