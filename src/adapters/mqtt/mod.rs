//! MQTT 5: publish with quality of service 0, 1 and 2, and subscriptions.
//!
//! `publish` sends `params` to `topic`. Headers: `mqtt-qos` (1 when absent), `mqtt-retain` (true or
//! false), `mqtt-expiry` (seconds), `content-type`; all others become user properties. It is done
//! when the broker has confirmed (PUBACK, PUBCOMP), with quality 0 when it has left us.
//!
//! The connection is opened again for 30 s, then the session ends. Where the broker still has our
//! session, what it has not confirmed is sent again; where it has lost it, those calls are told that
//! their fate is `Unknown`, and the subscriptions are made again. A call made without a connection is
//! `NotSent`. What arrives with quality 1 or 2 is confirmed once it is kept; with quality 0 it may be
//! lost with a connection, as the protocol has it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add variants; what is not named is meant as one"
)]

mod drive;
mod options;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rumqttc::{
    AsyncClient, PubAckReason, PubRecReason, PublishNoticeError, PublishOptions, PublishProperties,
    QoS, UnsubscribeNoticeError, valid_topic,
};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::adapters::AdapterError;
use crate::adapters::message::{
    bytes_of, failed, late, lost, not_connected, topic, unsupported, wrong,
};
use crate::adapters::mqtt::drive::Parts;
use crate::adapters::mqtt::options::Settings;
use crate::adapters::patience::CONNECT_MAX;
use crate::adapters::target::{Schemes, Target};
use crate::ports::{
    AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession,
    InboundSink, ServiceError,
};
use crate::protocol::downstream::{CallErrorKind, CallOp, CallRequest};

/// Schemes of MQTT; `tcp` and `ssl` are understood, too.
pub const SCHEMES: Schemes = Schemes { plain: "mqtt", tls: "mqtts" };

/// Largest payload that is sent, in bytes.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reaches one MQTT broker.
#[derive(Clone, Debug)]
pub struct MqttConnector {
    settings: Settings,
}

impl MqttConnector {
    /// Makes the connector.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] says which setting is wrong.
    pub fn new(target: Target) -> Result<Self, AdapterError> {
        Ok(Self { settings: Settings::new(target)? })
    }
}

impl DownstreamConnector for MqttConnector {
    fn kind(&self) -> &'static str {
        "mqtt"
    }

    fn supports(&self, op: CallOp) -> bool {
        op == CallOp::Publish
    }

    fn connect(
        &self,
        inbound: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>> {
        let settings = self.settings.clone();
        Box::pin(async move {
            let Parts { client, line, mut ready, parts } = drive::parts(&settings, inbound)?;
            let mut parts: FuturesUnordered<_> = parts.into_iter().collect();
            let begun = async {
                tokio::select! {
                    // The other parts are kept and go on with the session.
                    ended = parts.next() => Err(ended.unwrap_or_else(nothing_left)),
                    // The state is read again by nobody.
                    _ = ready.wait_for(|ready| *ready) => Ok(()),
                }
            };
            let late = |_elapsed| {
                let text = format!("no session within {} s", CONNECT_MAX.as_secs());
                Err(ServiceError::new(text))
            };
            timeout(CONNECT_MAX, begun).await.unwrap_or_else(late)?;
            let health = format!("provost/health/{}", settings.client_id());
            let client = Arc::new(MqttClient { client, line, health });
            let ended = async move { parts.next().await.unwrap_or_else(nothing_left) };
            Ok(DownstreamSession { client, ended: Box::pin(ended) })
        })
    }
}

fn nothing_left() -> ServiceError {
    ServiceError::new("nothing of the session is left")
}

#[derive(Clone, Debug)]
struct MqttClient {
    client: AsyncClient,
    /// Whether there is a connection, or why not.
    line: watch::Receiver<Result<u64, String>>,
    /// A filter that nobody subscribes to: taking it back is a question without effect.
    health: String,
}

impl MqttClient {
    fn require_line(&self) -> Result<(), AttemptError> {
        self.line.borrow().as_ref().map(|_| ()).map_err(|reason| not_connected(reason))
    }

    async fn publish(&self, call: &CallRequest, within: Duration) -> Result<Value, AttemptError> {
        let name = topic(call)?;
        if !valid_topic(name) {
            return Err(wrong(format!("{name:?} is no topic to publish on")));
        }
        let (options, payload) = (options_of(call)?, bytes_of(&call.params));
        if PAYLOAD_BYTES_MAX < payload.len() {
            let bytes = payload.len();
            let text = format!("payload has {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are sent");
            return Err(wrong(text));
        }
        self.require_line()?;
        let until = Instant::now() + within;
        let queued = self.client.publish_tracked(name, payload, options);
        let notice = match timeout_at(until, queued).await {
            Ok(Ok(notice)) => notice,
            Ok(Err(error)) => return Err(not_connected(&error.to_string())),
            Err(_elapsed) => return Err(not_connected("too much waits to be sent already")),
        };
        match timeout_at(until, notice.wait_completion_async()).await {
            Ok(Ok(())) => Ok(Value::Null),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_elapsed) => Err(late(within)),
        }
    }

    async fn look(&self) -> Result<Option<String>, AttemptError> {
        self.require_line()?;
        let asked = self.client.unsubscribe_tracked(self.health.clone()).await;
        let notice = asked.map_err(|error| not_connected(&error.to_string()))?;
        match notice.wait_completion_async().await {
            // A refusal is an answer, too.
            Ok(()) | Err(UnsubscribeNoticeError::V5UnsubAckFailure(_)) => Ok(None),
            Err(error) => Err(lost(&error.to_string())),
        }
    }
}

impl DownstreamClient for MqttClient {
    fn call(
        &self,
        request: Arc<CallRequest>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let this = self.clone();
        Box::pin(async move {
            match request.op {
                CallOp::Publish => this.publish(&request, timeout).await,
                CallOp::Request | CallOp::Enqueue | CallOp::Dequeue | CallOp::Ack => {
                    Err(unsupported("mqtt", request.op))
                }
            }
        })
    }

    fn check(&self, within: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        let this = self.clone();
        Box::pin(async move {
            timeout(within, this.look()).await.unwrap_or_else(|_elapsed| Err(late(within)))
        })
    }
}

/// A quality of service by its number.
pub(super) fn quality(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn options_of(call: &CallRequest) -> Result<PublishOptions, AttemptError> {
    let mut properties = PublishProperties::default();
    let (mut number, mut retain) = (1, false);
    for (name, value) in &call.headers {
        let bad = |allowed: &str| wrong(format!("header {name} is {value:?}; {allowed}"));
        match name.to_ascii_lowercase().as_str() {
            "mqtt-qos" => {
                let known = value.parse().ok().filter(|number| *number <= 2);
                number = known.ok_or_else(|| bad("0, 1 or 2"))?;
            }
            "mqtt-retain" => retain = value.parse().map_err(|_word| bad("true or false"))?,
            "mqtt-expiry" => {
                let seconds = value.parse().map_err(|_word| bad("a number of seconds"))?;
                properties.message_expiry_interval = Some(seconds);
            }
            "content-type" => properties.content_type = Some(value.clone()),
            _ => properties.user_properties.push((name.clone(), value.clone())),
        }
    }
    if let Some(key) = &call.idempotency_key {
        properties.user_properties.push(("idempotency-key".to_owned(), key.clone()));
    }
    Ok(PublishOptions::new(quality(number)).retain(retain).properties(properties))
}

/// What is known of a publish that was not confirmed.
fn refused(error: &PublishNoticeError) -> AttemptError {
    use AttemptFate::{Failed, Rejected, Throttled};
    let text = error.to_string();
    let fate = match error {
        PublishNoticeError::V5PubAck(PubAckReason::QuotaExceeded)
        | PublishNoticeError::V5PubRec(PubRecReason::QuotaExceeded) => Throttled,
        PublishNoticeError::V5PubAck(
            PubAckReason::UnspecifiedError | PubAckReason::ImplementationSpecificError,
        )
        | PublishNoticeError::V5PubRec(
            PubRecReason::UnspecifiedError | PubRecReason::ImplementationSpecificError,
        )
        | PublishNoticeError::V5PubComp(_) => Failed,
        PublishNoticeError::V5PubAck(_)
        | PublishNoticeError::V5PubRec(_)
        | PublishNoticeError::RetainNotSupported => Rejected,
        // The session is gone, or the loop: the broker may have the message or not.
        _ => return lost(&text),
    };
    let kind = match fate {
        Throttled => CallErrorKind::RateLimited,
        Failed | Rejected | AttemptFate::NotSent | AttemptFate::Unknown => {
            CallErrorKind::RemoteError
        }
    };
    failed(kind, text, fate)
}
