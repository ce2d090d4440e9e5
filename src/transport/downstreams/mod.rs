//! Calls of downstreams over NATS: `downstream.<name>.call`, `.publish`, `.status`; and what arrives
//! on their subscriptions, on `.events`.
//!
//! Every request with a reply subject gets exactly one answer. Bounded are the size of a call, the
//! calls under way, their bytes, and the size of an answer; beyond a bound the answer says so at
//! once. The time of a call is bounded by its own deadline and by the downstream's timeout and
//! attempts. A message on `.publish` needs no reply subject; what becomes of one without is counted
//! like every call and logged when it fails.

mod inbound;
mod parse;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ports::{BoxFuture, DownstreamCalls, Ready, Service, ServiceError};
use crate::protocol::downstream::{
    CallAnswer, CallDone, CallError, CallErrorKind, CallRequest, DownstreamStatus,
};
use crate::protocol::id::ChildName;
use crate::protocol::subject::{Subject, pattern};
use crate::transport::connect::Connection;
use crate::transport::failure;
use crate::transport::micro::QUEUE_GROUP;
use crate::transport::slot::ConnectionSlot;

pub use crate::transport::downstreams::inbound::NatsInbound;
pub use crate::transport::downstreams::parse::{KEY_HEADER, METHOD_HEADER, TOPIC_HEADER};

/// Bounds of the endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CallLimits {
    /// Calls under way; each downstream's own bounds stand behind this one.
    pub running_max: usize,
    /// Bytes of all calls under way.
    pub bytes_max: usize,
    /// Longest time that calls under way are waited for at the end.
    pub drain: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { running_max: 4_096, bytes_max: 64 * 1024 * 1024, drain: Duration::from_secs(5) }
    }
}

/// Answers calls on the slot's connection.
#[derive(Clone, Debug)]
pub struct CallService {
    slot: ConnectionSlot,
    calls: Arc<dyn DownstreamCalls>,
    limits: CallLimits,
}

/// Which endpoint.
#[derive(Clone, Copy, Debug)]
enum Door {
    Call,
    Publish,
    Status,
}

type Incoming = SelectAll<std::pin::Pin<Box<dyn Stream<Item = (Door, Message)> + Send>>>;

impl CallService {
    /// A service with the default bounds.
    #[must_use]
    pub fn new(slot: ConnectionSlot, calls: Arc<dyn DownstreamCalls>) -> Self {
        Self { slot, calls, limits: CallLimits::default() }
    }

    /// The service with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: CallLimits) -> Self {
        Self { limits, ..self }
    }

    async fn answer_until_stopped(
        self,
        stop: CancellationToken,
        ready: Ready,
    ) -> Result<(), ServiceError> {
        let mut ready = Some(ready);
        loop {
            let connection = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                connection = self.slot.connection() => connection,
            };
            let mut counter = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.slot.replaced(&connection) => continue,
                counter = Counter::open(&connection, &self) => {
                    counter.map_err(|error| ServiceError::new(error.to_string()))?
                }
            };
            ready.take().map(Ready::tell).unwrap_or_default();
            tokio::select! {
                () = stop.cancelled() => {
                    counter.close().await;
                    return Ok(());
                }
                // Who asked through the old connection cannot be answered any more.
                () = self.slot.replaced(&connection) => {}
                () = counter.serve() => {
                    return Err(ServiceError::new("the subscriptions to calls ended"));
                }
            }
        }
    }
}

impl Service for CallService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().answer_until_stopped(stop, ready))
    }
}

/// The open endpoints on one connection. Dropping it ends what is under way.
struct Counter {
    connection: Connection,
    calls: Arc<dyn DownstreamCalls>,
    limits: CallLimits,
    incoming: Incoming,
    work: JoinSet<()>,
    bytes: Arc<Semaphore>,
}

impl Counter {
    async fn open(
        connection: &Connection,
        service: &CallService,
    ) -> Result<Self, failure::CallError> {
        let mut doors = Vec::new();
        for (door, pattern) in [
            (Door::Call, pattern::DOWNSTREAM_CALLS),
            (Door::Publish, pattern::DOWNSTREAM_PUBLISHES),
            (Door::Status, pattern::DOWNSTREAM_STATUSES),
        ] {
            let subject = connection.prefix().apply(pattern);
            let subscriber = connection.queue_subscribe_confirmed(&subject, QUEUE_GROUP).await?;
            doors.push(opened(door, subscriber));
        }
        Ok(Self {
            connection: connection.clone(),
            calls: Arc::clone(&service.calls),
            limits: service.limits,
            incoming: select_all(doors),
            work: JoinSet::new(),
            bytes: Arc::new(Semaphore::new(service.limits.bytes_max)),
        })
    }

    /// Takes calls until the subscriptions end.
    async fn serve(&mut self) {
        loop {
            // Cancelling one of these loses nothing: calls stay in their subscription, ended work
            // in its set.
            tokio::select! {
                Some(ended) = self.work.join_next(), if !self.work.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "answering a call failed");
                    }
                }
                incoming = self.incoming.next() => match incoming {
                    Some((door, message)) => self.take(door, message).await,
                    None => return,
                },
            }
        }
    }

    /// Takes no more calls and waits for those under way.
    async fn close(self) {
        let Self { connection, incoming, mut work, limits, .. } = self;
        drop(incoming);
        let draining = async { while work.join_next().await.is_some() {} };
        if timeout(limits.drain, draining).await.is_err() {
            tracing::warn!(unanswered = work.len(), "calls are still under way at the end");
        }
        // The answers are on their way only when the server has been reached after them.
        if let Err(error) = connection.round_trip().await {
            tracing::debug!(%error, "the last answers may be lost");
        }
    }

    async fn take(&mut self, door: Door, message: Message) {
        let reply = message.reply.as_ref().map(ToString::to_string);
        let answerer = Answerer { connection: self.connection.clone(), reply };
        let request = match self.read(door, &message) {
            Ok(Asked::Status(status)) => {
                let answer = StatusAnswer { ok: true, status: *status };
                return answerer.send(&answer).await;
            }
            Ok(Asked::Call(name, request)) => self.admit(&message.payload).and_then(|permit| {
                let call = self.calls.call(&name, *request);
                Ok((call.ok_or_else(|| unknown(name.as_str()))?, permit))
            }),
            Err(error) => Err(error),
        };
        drop(message);
        let (call, permit) = match request {
            Ok(taken) => taken,
            Err(error) => return answerer.answer(Err(error)).await,
        };
        self.work.spawn(async move {
            let answer = AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_panic| {
                tracing::error!("making a call panicked");
                let text = "making the call failed inside provost; see the daemon's log";
                Err(CallError::new(CallErrorKind::Unavailable, text))
            });
            answerer.answer(answer).await;
            drop(permit);
        });
    }

    fn read(&self, door: Door, message: &Message) -> Result<Asked, CallError> {
        let name = name_of(&self.connection, message)?;
        let status = self.calls.status(&name).ok_or_else(|| unknown(name.as_str()))?;
        Ok(match door {
            Door::Status => Asked::Status(Box::new(status)),
            Door::Call => {
                let request = parse::call(&message.payload)?;
                Asked::Call(name, Box::new(parse::traced(request, message.headers.as_ref())))
            }
            Door::Publish => {
                let request = parse::publish(&message.payload, message.headers.as_ref())?;
                Asked::Call(name, Box::new(parse::traced(request, message.headers.as_ref())))
            }
        })
    }

    /// Admits a call within the bounds; the permit stands for its bytes.
    fn admit(&self, payload: &Bytes) -> Result<OwnedSemaphorePermit, CallError> {
        let full = |text: String| CallError::new(CallErrorKind::BulkheadFull, text);
        if self.limits.running_max <= self.work.len() {
            let most = self.limits.running_max;
            return Err(full(format!("{most} calls are under way over NATS, which is the most")));
        }
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map_err(|_none_left| {
            let most = self.limits.bytes_max;
            full(format!("calls under way over NATS hold {most} bytes, which is the most"))
        })
    }
}

/// What a message asks for.
enum Asked {
    Call(ChildName, Box<CallRequest>),
    Status(Box<DownstreamStatus>),
}

/// The answer on `.status`.
#[derive(Serialize)]
struct StatusAnswer {
    ok: bool,
    #[serde(flatten)]
    status: DownstreamStatus,
}

/// Sends one answer, if somebody waits for it.
struct Answerer {
    connection: Connection,
    reply: Option<String>,
}

impl Answerer {
    async fn answer(&self, answer: Result<CallDone, CallError>) {
        if let (None, Err(error)) = (&self.reply, &answer) {
            tracing::warn!(kind = error.kind.as_str(), %error, "a message was not published");
        }
        self.send(&CallAnswer::from(answer)).await;
    }

    async fn send(&self, answer: &impl Serialize) {
        /// Room for the protocol around an answer.
        const ROOM: usize = 4_096;
        let Some(reply) = &self.reply else { return };
        let mut bytes = serde_json::to_vec(answer).unwrap_or_default();
        let bytes_max = self.connection.client().max_payload().saturating_sub(ROOM);
        if bytes_max < bytes.len() {
            let text =
                format!("the answer is {} bytes; NATS takes at most {bytes_max}", bytes.len());
            let error = CallError::new(CallErrorKind::RemoteError, text);
            bytes = serde_json::to_vec(&CallAnswer::from(Err(error))).unwrap_or_default();
        }
        if let Err(error) = self.connection.publish(reply, None, bytes.into()).await {
            tracing::warn!(%error, "an answer could not be sent");
        }
    }
}

fn opened(
    door: Door,
    subscriber: Subscriber,
) -> std::pin::Pin<Box<dyn Stream<Item = (Door, Message)> + Send>> {
    Box::pin(subscriber.map(move |message| (door, message)))
}

fn name_of(connection: &Connection, message: &Message) -> Result<ChildName, CallError> {
    let subject = message.subject.as_str();
    let parsed = connection.prefix().strip(subject).and_then(Subject::parse);
    let name = match &parsed {
        Some(
            Subject::DownstreamCall(name)
            | Subject::DownstreamPublish(name)
            | Subject::DownstreamStatus(name),
        ) => name.as_str().parse().ok(),
        Some(_) | None => None,
    };
    name.ok_or_else(|| unknown(subject))
}

fn unknown(name: &str) -> CallError {
    let text = format!("no downstream {name:?}; `provost downstream list` shows them");
    CallError::new(CallErrorKind::InvalidRequest, text)
}
