//! Beats of remote agents on their way in, orders to them on their way out.
//!
//! Core NATS only: a beat that is lost is followed by the next one, and an order that is lost is
//! given again by whoever wants it obeyed. A message that is no beat is counted and said, not more
//! often than once a minute; nothing it holds can harm. While there is no connection the sink
//! knows that nobody can be heard.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::logic::beats::Line;
use crate::ports::{BeatSink, BoxFuture, Ready, RemoteOrder, Service, ServiceError};
use crate::protocol::agent::{Beat, TaskOrder, ToAgent};
use crate::protocol::id::SubjectId;
use crate::protocol::subject::{Subject, pattern};
use crate::protocol::trace::TRACEPARENT;
use crate::transport::connect::Connection;
use crate::transport::link::ConnectionState;
use crate::transport::slot::ConnectionSlot;

/// Longest beat, in bytes.
pub const BEAT_BYTES_MAX: usize = 64 * 1024;

/// Shortest time between two words about messages that are no beats.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Subscribes to beats and publishes orders, on whatever connection is the present one.
#[derive(Clone, Debug)]
pub struct RemoteService {
    slot: ConnectionSlot,
    sink: Arc<dyn BeatSink>,
    orders: Arc<Mutex<mpsc::Receiver<RemoteOrder>>>,
}

impl RemoteService {
    /// A service between the slot's connection and the sink.
    #[must_use]
    pub fn new(
        slot: ConnectionSlot,
        sink: Arc<dyn BeatSink>,
        orders: mpsc::Receiver<RemoteOrder>,
    ) -> Self {
        Self { slot, sink, orders: Arc::new(Mutex::new(orders)) }
    }

    async fn serve_until_stopped(
        self,
        stop: CancellationToken,
        ready: Ready,
    ) -> Result<(), ServiceError> {
        let mut ready = Some(ready);
        // However this ends, nobody is heard any more.
        let mut desk = Desk { sink: Arc::clone(&self.sink), faults: Faults::default() };
        let mut orders = self.orders.lock().await;
        loop {
            let connection = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                connection = self.slot.connection() => connection,
            };
            let subject = connection.prefix().apply(pattern::AGENT_BEATS);
            let beats = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.slot.replaced(&connection) => continue,
                beats = connection.subscribe_confirmed(&subject) => {
                    beats.map_err(|error| ServiceError::new(error.to_string()))?
                }
            };
            ready.take().map(Ready::tell).unwrap_or_default();
            // Cancelling the work drops its subscription; an order that was taken out and not
            // published is lost, as it may be on its way.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.slot.replaced(&connection) => desk.sink.line(Line::Down),
                () = desk.work(&connection, beats, &mut orders) => {
                    return Err(ServiceError::new("the subscription to beats ended"));
                }
            }
        }
    }
}

impl Service for RemoteService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().serve_until_stopped(stop, ready))
    }
}

/// What one life of the service works with.
#[derive(Debug)]
struct Desk {
    sink: Arc<dyn BeatSink>,
    faults: Faults,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.sink.line(Line::Down);
    }
}

impl Desk {
    /// Works until the subscription ends.
    async fn work(
        &mut self,
        connection: &Connection,
        mut beats: Subscriber,
        orders: &mut mpsc::Receiver<RemoteOrder>,
    ) {
        let mut link = connection.link();
        link.mark_changed();
        loop {
            // Each of these is cancel safe: beats stay in the subscription, orders in their queue,
            // the state in its channel.
            tokio::select! {
                changed = link.changed() => {
                    let up = link.borrow_and_update().state == ConnectionState::Connected;
                    self.sink.line(if up { Line::Up } else { Line::Down });
                    if changed.is_err() {
                        return;
                    }
                }
                message = beats.next() => match message {
                    Some(message) => self.take(connection, &message),
                    None => return,
                },
                Some(order) = orders.recv() => publish(connection, &order).await,
            }
        }
    }

    fn take(&mut self, connection: &Connection, message: &Message) {
        match read(connection, message) {
            Ok(beat) => self.sink.beat(beat),
            Err(said) => self.faults.say(message.subject.as_str(), &said),
        }
    }
}

fn read(connection: &Connection, message: &Message) -> Result<Beat, String> {
    if BEAT_BYTES_MAX < message.payload.len() {
        let bytes = message.payload.len();
        return Err(format!("it has {bytes} bytes; at most {BEAT_BYTES_MAX} are allowed"));
    }
    let beat = Beat::parse(&message.payload).map_err(|error| error.to_string())?;
    let subject = connection.prefix().strip(message.subject.as_str()).and_then(Subject::parse);
    if subject == Some(Subject::AgentBeat(SubjectId::from(&beat.id))) {
        return Ok(beat);
    }
    Err(format!("it is of {}, which beats on another subject", beat.id))
}

async fn publish(connection: &Connection, order: &RemoteOrder) {
    let id = SubjectId::from(&order.agent);
    let subject = match &order.message {
        ToAgent::Task(_) => Subject::AgentTask(id),
        ToAgent::Cancel { .. } | ToAgent::Drain | ToAgent::Stop { .. } | ToAgent::Ping => {
            Subject::AgentControl(id)
        }
    };
    let subject = subject.under(connection.prefix());
    let payload = serde_json::to_vec(&order.message).unwrap_or_default();
    let sent = match &order.message {
        ToAgent::Task(task) => {
            let reply = Subject::AgentReply {
                agent: SubjectId::from(&order.agent),
                task: SubjectId::from(&task.id),
                attempt: task.attempt,
            };
            let reply = reply.under(connection.prefix());
            connection.publish_asking(&subject, (&reply, headers(task)), payload.into()).await
        }
        ToAgent::Cancel { .. } | ToAgent::Drain | ToAgent::Stop { .. } | ToAgent::Ping => {
            connection.publish(&subject, None, payload.into()).await
        }
    };
    if let Err(error) = sent {
        tracing::warn!(agent.id = %order.agent, %error, "an order was not sent");
    }
}

/// The trace of an attempt, where a client library looks for it; it stands in the order too.
fn headers(task: &TaskOrder) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(trace) = &task.trace {
        headers.insert(TRACEPARENT, trace.as_str());
    }
    headers
}

/// Messages that were no beats.
#[derive(Debug, Default)]
struct Faults {
    count: u64,
    said: Option<Instant>,
}

impl Faults {
    fn say(&mut self, subject: &str, said: &str) {
        self.count = self.count.saturating_add(1);
        if self.said.is_none_or(|at| SAY_EVERY <= at.elapsed()) {
            self.said = Some(Instant::now());
            tracing::warn!(subject, said, count = self.count, "a message is no beat");
        }
    }
}
