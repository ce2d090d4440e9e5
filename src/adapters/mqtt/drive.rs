//! The parts of a session that must be driven: the library's loop, the subscriptions, delivery.
//!
//! The loop never waits for anything but the network: what arrives goes into bounded queues, and who
//! delivers confirms on the connection that brought the message, never on a later one, where its
//! number may mean another.

#![expect(
    clippy::excessive_nesting,
    reason = "one loop over what may happen: its arms read better together"
)]

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Packet, Publish, QoS,
    SubscribeFilterInput, SubscribeNoticeError,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::adapters::message::inbound;
use crate::adapters::mqtt::options::{Settings, UNCONFIRMED_MAX};
use crate::adapters::mqtt::quality;
use crate::adapters::patience::{PATIENCE, delay};
use crate::config::Subscription;
use crate::ports::{BoxFuture, InboundSink, ServiceError};

/// Calls that may wait for the loop; more wait at the door, within their time.
const REQUESTS_MAX: usize = 1_024;

/// Messages of quality 0 that may wait to be delivered; the newest beyond it are dropped, as the
/// quality allows, and counted.
const UNCONFIRMABLE_MAX: usize = 1_024;

/// Messages of quality 1 and 2 that may wait. After a reconnect the broker sends again what we had
/// not confirmed; what finds no room stays unconfirmed and comes with the next session.
const CONFIRMABLE_MAX: usize = UNCONFIRMED_MAX as usize * 8;

/// Delay before a message that could not be kept is offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(250);

/// A session before it is driven.
pub(super) struct Parts {
    pub(super) client: AsyncClient,
    /// Number of the connection, or why there is none.
    pub(super) line: watch::Receiver<Result<u64, String>>,
    /// Whether the subscriptions have been made.
    pub(super) ready: watch::Receiver<bool>,
    /// What must be driven; each ends the session.
    pub(super) parts: Vec<BoxFuture<'static, ServiceError>>,
}

/// Makes the parts of a session.
pub(super) fn parts(
    settings: &Settings,
    sink: Arc<dyn InboundSink>,
) -> Result<Parts, ServiceError> {
    let builder = AsyncClient::builder(settings.options()).capacity(REQUESTS_MAX);
    let (client, events) = builder.try_build().map_err(|error| {
        ServiceError::new(format!("mqtt cannot be set up: {error}; check `config`"))
    })?;
    let (line, line_told) = watch::channel(Err("not connected yet".to_owned()));
    let (fresh, fresh_told) = watch::channel(0);
    let (ready, ready_told) = watch::channel(false);
    let (loose, loose_taken) = mpsc::channel(UNCONFIRMABLE_MAX);
    let (firm, firm_taken) = mpsc::channel(CONFIRMABLE_MAX);
    let driver = Driver {
        events,
        line,
        fresh,
        loose,
        firm,
        number: 0,
        sessions: 0,
        address: settings.address(),
        dropped: 0,
    };
    let filters = settings.subscriptions().to_vec();
    let keeper = |queue| Keeper {
        client: client.clone(),
        line: line_told.clone(),
        queue,
        sink: Arc::clone(&sink),
    };
    let parts: Vec<BoxFuture<'static, ServiceError>> = vec![
        Box::pin(driver.run()),
        Box::pin(subscribe(client.clone(), filters, fresh_told, ready)),
        Box::pin(keeper(loose_taken).run()),
        Box::pin(keeper(firm_taken).run()),
    ];
    Ok(Parts { client: client.clone(), line: line_told.clone(), ready: ready_told, parts })
}

/// A message and the number of the connection that brought it.
type Arrived = (u64, Publish);

struct Driver {
    events: EventLoop,
    line: watch::Sender<Result<u64, String>>,
    /// Counts sessions of the broker that know nothing of our subscriptions.
    fresh: watch::Sender<u64>,
    loose: mpsc::Sender<Arrived>,
    firm: mpsc::Sender<Arrived>,
    number: u64,
    sessions: u64,
    address: String,
    dropped: u64,
}

impl Driver {
    async fn run(mut self) -> ServiceError {
        let mut away: Option<(Instant, u32)> = None;
        loop {
            // Polled here alone, to its end: the library's loop is not cancel safe.
            match self.events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                    if away.take().is_some() {
                        tracing::info!(resumed = answer.session_present, "mqtt is back");
                    }
                    self.number += 1;
                    drop(self.line.send_replace(Ok(self.number)));
                    if self.sessions == 0 || !answer.session_present {
                        self.sessions += 1;
                        self.fresh.send_replace(self.sessions);
                    }
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.take(publish),
                Ok(_) => {}
                Err(error) => {
                    let reason = format!("mqtt at {}: {error}", self.address);
                    drop(self.line.send_replace(Err(reason.clone())));
                    let (since, count) = away.unwrap_or_else(|| (Instant::now(), 0));
                    if count == 0 {
                        tracing::warn!(error = %error, "connection to mqtt lost");
                    }
                    let never = self.sessions == 0;
                    if never || is_lasting(&error) || PATIENCE <= since.elapsed() {
                        return ServiceError::new(reason);
                    }
                    away = Some((since, count.saturating_add(1)));
                    sleep(delay(count, fastrand::f64())).await;
                }
            }
        }
    }

    fn take(&mut self, publish: Publish) {
        let queue = if publish.qos == QoS::AtMostOnce { &self.loose } else { &self.firm };
        if queue.try_send((self.number, publish)).is_err() {
            self.dropped += 1;
            tracing::warn!(dropped = self.dropped, "a message of mqtt found no room");
        }
    }
}

/// Whether trying again with the same settings cannot help.
fn is_lasting(error: &ConnectionError) -> bool {
    use ConnectReturnCode::{
        BadAuthenticationMethod, BadClientId, BadUserNamePassword, Banned,
        ClientIdentifierNotValid, NotAuthorized, RefusedProtocolVersion,
        UnsupportedProtocolVersion,
    };
    matches!(
        error,
        ConnectionError::RequestsDone
            | ConnectionError::BrokerTransportMismatch
            | ConnectionError::ConnectionRefused(
                BadAuthenticationMethod
                    | BadClientId
                    | BadUserNamePassword
                    | Banned
                    | ClientIdentifierNotValid
                    | NotAuthorized
                    | RefusedProtocolVersion
                    | UnsupportedProtocolVersion
            )
    )
}

/// Subscribes whenever the broker knows nothing of our subscriptions.
async fn subscribe(
    client: AsyncClient,
    subscriptions: Vec<Subscription>,
    mut fresh: watch::Receiver<u64>,
    ready: watch::Sender<bool>,
) -> ServiceError {
    while fresh.changed().await.is_ok() {
        let filters = subscriptions
            .iter()
            .map(|one| SubscribeFilterInput::new(one.topic.clone(), quality(one.qos)));
        let filters: Vec<SubscribeFilterInput> = filters.collect();
        if !filters.is_empty() {
            let asked = client.subscribe_many_tracked(filters).await;
            let done = match asked {
                Ok(notice) => notice.wait_completion_async().await,
                Err(error) => {
                    return ServiceError::new(format!("cannot subscribe: {error}; check `topic`"));
                }
            };
            match done {
                Ok(()) => {}
                Err(SubscribeNoticeError::V5SubAckFailure(codes)) => {
                    let text = format!("the broker refuses a subscription: {codes:?}");
                    return ServiceError::new(text);
                }
                // The session is gone; the next one asks for subscriptions again.
                Err(error) => {
                    tracing::debug!(error = %error, "subscriptions are made again");
                    continue;
                }
            }
        }
        ready.send_replace(true);
    }
    ServiceError::new("the loop of mqtt has ended")
}

/// Delivers what arrived and confirms it.
struct Keeper {
    client: AsyncClient,
    line: watch::Receiver<Result<u64, String>>,
    queue: mpsc::Receiver<Arrived>,
    sink: Arc<dyn InboundSink>,
}

impl Keeper {
    async fn run(mut self) -> ServiceError {
        while let Some((number, publish)) = self.queue.recv().await {
            let topic = String::from_utf8_lossy(&publish.topic).into_owned();
            let message = inbound(topic, &publish.payload, None);
            while let Err(error) = self.sink.deliver(message.clone()).await {
                tracing::warn!(error = %error, "message of mqtt cannot be kept yet");
                if publish.qos == QoS::AtMostOnce {
                    break;
                }
                sleep(OFFER_AGAIN).await;
            }
            let same = self.line.borrow().as_ref().is_ok_and(|now| *now == number);
            if same && let Err(error) = self.client.ack(&publish).await {
                tracing::debug!(error = %error, "message comes again: it was not confirmed");
            }
        }
        ServiceError::new("the loop of mqtt has ended")
    }
}
