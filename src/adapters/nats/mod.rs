//! NATS: requests, subjects, and queues in JetStream.
//!
//! `request` asks on the subject `topic`; `publish` sends there and is done when the server has taken
//! the message. `enqueue` publishes into the stream that holds the subject and is done when the
//! stream has it; an idempotency key becomes `Nats-Msg-Id`. `dequeue` takes one message as a durable
//! consumer (`group`, made when it is not there), as `{"id","payload","redelivered","topic"}`, and null when there is none;
//! `ack` confirms its `id`. JetStream hands out again what is not confirmed within the consumer's
//! `ack_wait`; it also takes a late confirmation of what it has handed out again since.
//!
//! The client reconnects by itself and subscribes again; after 30 s without a connection the session
//! ends. A call under way when the connection is lost is `Unknown`, one made meanwhile `NotSent`.
//! What is published on a plain subject while the connection is away is not seen.

#![expect(
    clippy::excessive_nesting,
    reason = "one loop over what may happen: its arms read better together"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add variants; what is not named is meant as one"
)]

mod inbox;
mod listen;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, HeaderName, HeaderValue, Message};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::AdapterError;
use crate::adapters::message::{bytes_of, failed, late, lost, topic, value_of, wrong};
use crate::adapters::nats::inbox::Inbox;
use crate::adapters::patience::{CONNECT_MAX, PATIENCE, delay, within};
use crate::adapters::target::{Credentials, Schemes, Target};
use crate::adapters::tls;
use crate::ports::{
    AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession,
    InboundSink, ServiceError,
};
use crate::protocol::downstream::{CallError, CallErrorKind, CallOp, CallRequest};

/// Schemes of NATS.
pub const SCHEMES: Schemes = Schemes { plain: "nats", tls: "tls" };

/// Messages of one subscription that may wait before the client drops them, which is logged.
const SUBSCRIPTION_MAX: usize = 16_384;

/// How often the state of the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Reaches one NATS server or cluster.
#[derive(Clone, Debug)]
pub struct NatsConnector {
    target: Target,
}

impl NatsConnector {
    /// Makes the connector; files of credentials and certificates are read when it connects.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] says which setting is wrong.
    pub fn new(target: Target) -> Result<Self, AdapterError> {
        tls::client_config(&target.tls)?;
        Ok(Self { target })
    }

    async fn options(&self) -> Result<ConnectOptions, String> {
        let config = tls::client_config(&self.target.tls).map_err(|error| error.to_string())?;
        // Half a keep-alive each: a dead connection is noticed after two that are not answered.
        let options = ConnectOptions::new()
            .name(format!("provost {}", self.target.name))
            .connection_timeout(CONNECT_MAX)
            .ping_interval((self.target.keep_alive / 2).max(Duration::from_millis(500)))
            .subscription_capacity(SUBSCRIPTION_MAX)
            .tls_client_config(config)
            .require_tls(self.target.uses_tls(SCHEMES))
            .reconnect_delay_callback(|attempt| {
                delay(u32::try_from(attempt).unwrap_or(u32::MAX), fastrand::f64())
            })
            .event_callback(|event| async move { note(&event) });
        Ok(match &self.target.credentials {
            Credentials::None => options,
            Credentials::Basic { username, password } => {
                options.user_and_password(username.clone(), password.clone())
            }
            Credentials::Bearer(token) => options.token(token.clone()),
            Credentials::NatsFile(path) => {
                let fault = |error| format!("cannot use {}: {error}", path.display());
                options.credentials_file(path).await.map_err(fault)?
            }
        })
    }

    async fn open(&self) -> Result<Client, ServiceError> {
        let address = self.target.url.as_str().trim_end_matches('/').to_owned();
        let attempt = async {
            let client = self.options().await?.connect(address.as_str()).await;
            client.map_err(|error| in_full(&error))
        };
        let opened = within(Box::pin(attempt)).await;
        opened.map_err(|reason| ServiceError::new(format!("nats at {address}: {reason}")))
    }
}

fn note(event: &Event) {
    match event {
        Event::SlowConsumer(_) => tracing::warn!("a message of nats found no room"),
        Event::ServerError(error) => tracing::warn!(error = %error, "nats refuses"),
        Event::ClientError(error) => tracing::warn!(error = %error, "nats client"),
        other => tracing::debug!(event = %other, "nats connection"),
    }
}

impl DownstreamConnector for NatsConnector {
    fn kind(&self) -> &'static str {
        "nats"
    }

    fn supports(&self, op: CallOp) -> bool {
        match op {
            CallOp::Request | CallOp::Publish | CallOp::Enqueue | CallOp::Dequeue | CallOp::Ack => {
                true
            }
        }
    }

    fn connect(
        &self,
        inbound: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>> {
        let this = self.clone();
        Box::pin(async move {
            let client = this.open().await?;
            let (inbox, mut router) = Inbox::open(client.clone()).await?;
            let begin = async {
                let mut listening = Vec::new();
                for one in &this.target.subscriptions {
                    listening.push(listen::begin(&client, one, &inbound).await?);
                }
                // Whatever was asked for before this comes back is in force at the server.
                match inbox.round_trip(CONNECT_MAX).await {
                    Ok(()) => Ok(listening),
                    Err(error) => {
                        let text = format!("the server does not answer us: {error}");
                        Err(ServiceError::new(text))
                    }
                }
            };
            let listening = tokio::select! {
                // The router is kept and goes on with the session.
                error = &mut router => return Err(error),
                // A session that does not begin is closed whole.
                begun = begin => begun?,
            };
            let mut parts: FuturesUnordered<_> = listening.into_iter().collect();
            parts.push(router);
            parts.push(Box::pin(watch_over(client.clone(), inbox.clone())));
            let nats = NatsClient { inbox, queues: Arc::default() };
            let ended = async move {
                let ended = parts.next().await;
                ended.unwrap_or_else(|| ServiceError::new("nothing of the session is left"))
            };
            Ok(DownstreamSession { client: Arc::new(nats), ended: Box::pin(ended) })
        })
    }
}

/// Tells those who wait when their connection is lost; ends when it does not come back.
async fn watch_over(client: Client, inbox: Inbox) -> ServiceError {
    let mut away: Option<Instant> = None;
    loop {
        sleep(LOOK_EVERY).await;
        inbox.give_up_lost();
        match client.connection_state() {
            State::Connected => away = None,
            State::Pending | State::Disconnected => {
                let since = *away.get_or_insert_with(Instant::now);
                if PATIENCE <= since.elapsed() {
                    let text = format!("no connection for {} s", PATIENCE.as_secs());
                    return ServiceError::new(text);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct NatsClient {
    inbox: Inbox,
    queues: Arc<queue::Queues>,
}

impl NatsClient {
    async fn carry_out(
        &self,
        call: &CallRequest,
        timeout: Duration,
    ) -> Result<Value, AttemptError> {
        match call.op {
            CallOp::Request => {
                let answer = self.send(call).await?;
                answered(&answer)
            }
            CallOp::Publish => {
                self.inbox.publish(subject(call)?, headers(call)?, bytes_of(&call.params)).await?;
                Ok(Value::Null)
            }
            CallOp::Enqueue => queue::stored(&self.send(call).await?),
            CallOp::Dequeue => self.queues.dequeue(&self.inbox, call, timeout).await,
            CallOp::Ack => queue::ack(&self.inbox, call).await,
        }
    }

    async fn send(&self, call: &CallRequest) -> Result<Message, AttemptError> {
        self.inbox.ask(subject(call)?, headers(call)?, bytes_of(&call.params)).await
    }
}

impl DownstreamClient for NatsClient {
    fn call(
        &self,
        request: Arc<CallRequest>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let this = self.clone();
        Box::pin(async move {
            let done = timeout(within, Box::pin(this.carry_out(&request, within))).await;
            done.unwrap_or_else(|_elapsed| Err(late(within)))
        })
    }

    fn check(&self, within: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        let this = self.clone();
        Box::pin(async move { this.inbox.round_trip(within).await.map(|()| None) })
    }
}

/// The subject of a call that is sent somewhere: no wildcards.
fn subject(call: &CallRequest) -> Result<String, AttemptError> {
    let subject = topic(call)?;
    let bad_token = |token: &str| token.is_empty() || token == "*" || token == ">";
    let blank = subject.contains(|c: char| c.is_whitespace() || c.is_control());
    if blank || subject.split('.').any(bad_token) {
        return Err(wrong(format!("{subject:?} is no subject to send to")));
    }
    Ok(subject.to_owned())
}

fn headers(call: &CallRequest) -> Result<HeaderMap, AttemptError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let known = name.parse::<HeaderName>();
        let known = known.map_err(|_invalid| wrong(format!("{name:?} is no header name")))?;
        let value = value.parse::<HeaderValue>();
        let value = value.map_err(|_bad| wrong(format!("header {name} has no valid value")))?;
        headers.insert(known, value);
    }
    if let Some(key) = &call.idempotency_key {
        let value = key.parse::<HeaderValue>();
        let value = value.map_err(|_bad| wrong("idempotency_key is no header".to_owned()))?;
        headers.insert(async_nats::header::NATS_MESSAGE_ID, value);
    }
    Ok(headers)
}

/// What an answer says: a result, or an error of a NATS service in its headers.
fn answered(message: &Message) -> Result<Value, AttemptError> {
    let header = |name: &str| {
        message.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string)
    };
    let code = header("Nats-Service-Error-Code").and_then(|code| code.parse::<i64>().ok());
    let (result, encoding) = value_of(&message.payload);
    let Some(code) = code else {
        return Ok(match encoding {
            None => result,
            Some(encoding) => serde_json::json!({"encoding": encoding, "payload": result}),
        });
    };
    let fate = match code {
        429 => AttemptFate::Throttled,
        500.. => AttemptFate::Failed,
        _ => AttemptFate::Rejected,
    };
    let text = header("Nats-Service-Error").unwrap_or_else(|| format!("it answers {code}"));
    let data = Some(result).filter(|data| data.is_object()).map(Box::new);
    let error =
        CallError { code: Some(code), data, ..CallError::new(CallErrorKind::RemoteError, text) };
    Err(AttemptError { error, fate })
}

/// Nobody listens on a subject: what was sent has reached no one.
fn nobody(subject: &str) -> AttemptError {
    let text = format!("nobody answers on {subject}");
    failed(CallErrorKind::Unavailable, text, AttemptFate::NotSent)
}

/// An error with its causes in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

fn gone() -> AttemptError {
    lost("the connection to nats")
}
