//! One connection, driven: what is to be sent, what arrives, who waits for an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::ports::{AttemptError, AttemptFate, Inbound, InboundSink, ServiceError};
use crate::protocol::downstream::{CallError, CallErrorKind};

/// Answers that may be waited for; the oldest is given up beyond it.
const OPEN_MAX: usize = 10_000;

/// Messages that may wait to be delivered; beyond it nothing more is read from the connection.
const INBOUND_MAX: usize = 1_024;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Order {
    /// Send a message; answered once it is handed to the connection.
    Send { text: String, reply: oneshot::Sender<Result<Value, AttemptError>> },
    /// Send a message with an id and wait for the message with the same.
    Ask { message: Map<String, Value>, reply: oneshot::Sender<Result<Value, AttemptError>> },
    /// Ping and wait for the pong.
    Ping { reply: oneshot::Sender<()> },
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection under way.
pub(super) struct Driver {
    stream: Stream,
    orders: mpsc::Receiver<Order>,
    inbound: Arc<dyn InboundSink>,
    topic: String,
    keep_alive: Duration,
    next_id: u64,
    open: BTreeMap<u64, oneshot::Sender<Result<Value, AttemptError>>>,
    pings: Vec<oneshot::Sender<()>>,
    heard: Instant,
}

impl Driver {
    pub(super) fn new(
        stream: Stream,
        orders: mpsc::Receiver<Order>,
        inbound: Arc<dyn InboundSink>,
        topic: String,
        keep_alive: Duration,
    ) -> Self {
        Self {
            stream,
            orders,
            inbound,
            topic,
            keep_alive,
            next_id: 1,
            open: BTreeMap::new(),
            pings: Vec::new(),
            heard: Instant::now(),
        }
    }

    /// Drives the connection to its end. Whoever waits for an answer then is told by the drop of
    /// the sender.
    pub(super) async fn run(mut self) -> ServiceError {
        let (queue, waiting) = mpsc::channel::<Inbound>(INBOUND_MAX);
        let delivering = deliver_all(Arc::clone(&self.inbound), waiting);
        let driving = async move {
            let error = self.drive(&queue).await;
            drop(queue);
            error
        };
        let (error, ()) = tokio::join!(driving, delivering);
        error
    }

    async fn drive(&mut self, queue: &mpsc::Sender<Inbound>) -> ServiceError {
        let mut ticks = interval(self.keep_alive);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                // Reading is cancel safe: a message that is not whole stays in the stream. Without
                // room for a message nothing is read, and the other side waits.
                message = self.stream.next(), if queue.capacity() > 0 => {
                    self.hear(message, queue)
                }
                // Receiving is cancel safe.
                order = self.orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => Err("nobody uses it any more".to_owned()),
                },
                // A tick is cancel safe.
                _ = ticks.tick() => self.keep_alive().await,
            };
            if let Err(reason) = done {
                return ServiceError::new(reason);
            }
        }
    }

    fn hear(
        &mut self,
        message: Option<Result<Message, Error>>,
        queue: &mpsc::Sender<Inbound>,
    ) -> Result<(), String> {
        self.heard = Instant::now();
        let inbound = match message {
            None => return Err("the other side closed the connection".to_owned()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Message::Close(frame))) => {
                let reason = frame.map(|frame| format!(": {} {}", frame.code, frame.reason));
                let reason = reason.unwrap_or_default();
                return Err(format!("the other side closed the connection{reason}"));
            }
            Some(Ok(Message::Pong(_))) => {
                for ping in self.pings.drain(..) {
                    ping.send(()).ok();
                }
                return Ok(());
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => return Ok(()),
            Some(Ok(Message::Text(text))) => {
                let value = serde_json::from_str::<Value>(&text);
                let value = value.unwrap_or_else(|_no_json| Value::String(text.to_string()));
                let Some(value) = self.answer(value) else { return Ok(()) };
                Inbound { topic: self.topic.clone(), payload: value, encoding: None, id: None }
            }
            Some(Ok(Message::Binary(bytes))) => Inbound {
                topic: self.topic.clone(),
                payload: Value::String(data_encoding::BASE64.encode(&bytes)),
                encoding: Some("base64"),
                id: None,
            },
        };
        // There was room when the message was read, and only this loop fills the queue.
        queue.try_send(inbound).map_err(|_full| "its messages are not taken".to_owned())
    }

    /// Gives a message to whoever waits for it, or back.
    fn answer(&mut self, message: Value) -> Option<Value> {
        let waiting =
            message.get("id").and_then(Value::as_u64).and_then(|id| self.open.remove(&id));
        let Some(reply) = waiting else { return Some(message) };
        reply.send(outcome(message)).ok();
        None
    }

    async fn carry_out(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Send { text, reply } => {
                let sent = self.stream.send(Message::text(text)).await;
                let told = sent.as_ref().map(|()| Value::Null).map_err(|error| {
                    let error = CallError::new(CallErrorKind::Unavailable, error.to_string());
                    AttemptError { error, fate: AttemptFate::Unknown }
                });
                reply.send(told).ok();
                sent.map_err(|error| error.to_string())
            }
            Order::Ask { mut message, reply } => {
                let id = self.next_id;
                self.next_id = self.next_id.wrapping_add(1);
                message.insert("id".to_owned(), Value::from(id));
                self.open.retain(|_, waiting| !waiting.is_closed());
                if OPEN_MAX <= self.open.len() {
                    self.open.pop_first();
                }
                self.open.insert(id, reply);
                let text = Value::Object(message).to_string();
                self.stream.send(Message::text(text)).await.map_err(|error| error.to_string())
            }
            Order::Ping { reply } => {
                self.pings.push(reply);
                self.ping().await
            }
        }
    }

    async fn keep_alive(&mut self) -> Result<(), String> {
        let silent = self.heard.elapsed();
        if self.keep_alive * 2 < silent {
            return Err(format!("no sign of life for {} s", silent.as_secs()));
        }
        self.ping().await
    }

    async fn ping(&mut self) -> Result<(), String> {
        let ping = Message::Ping(Bytes::new());
        self.stream.send(ping).await.map_err(|error| error.to_string())
    }
}

async fn deliver_all(sink: Arc<dyn InboundSink>, mut waiting: mpsc::Receiver<Inbound>) {
    while let Some(message) = waiting.recv().await {
        if let Err(error) = sink.deliver(message).await {
            tracing::warn!(error = %error, "message of a downstream was not kept");
        }
    }
}

/// What an answer says: a result or an error of JSON-RPC where it has one, else itself.
fn outcome(message: Value) -> Result<Value, AttemptError> {
    if let Some(error) = message.get("error").filter(|error| !error.is_null()) {
        let text = error.get("message").and_then(Value::as_str);
        let text = text.map_or_else(|| error.to_string(), str::to_owned);
        let error = CallError {
            code: error.get("code").and_then(Value::as_i64),
            data: error.get("data").cloned().map(Box::new),
            ..CallError::new(CallErrorKind::RemoteError, text)
        };
        let fate = match error.code {
            Some(-32_603 | -32_099..=-32_000) => AttemptFate::Failed,
            Some(_) | None => AttemptFate::Rejected,
        };
        return Err(AttemptError { error, fate });
    }
    let result = message.get("result").cloned();
    Ok(result.unwrap_or(message))
}
