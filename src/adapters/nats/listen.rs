//! Subscriptions of NATS: plain subjects, and streams read by a durable consumer.

#![expect(
    clippy::excessive_nesting,
    reason = "one loop over what may happen: its arms read better together"
)]

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::sleep;

use crate::adapters::message::inbound;
use crate::adapters::nats::in_full;
use crate::adapters::nats::queue::make_consumer;
use crate::config::{Subscription, SubscriptionSource};
use crate::ports::{BoxFuture, InboundSink, ServiceError};

/// Time of one pull; a server that forgot it is asked again after it.
const PULL: Duration = Duration::from_secs(4);

/// Signs of life during a pull.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// When a message that was not confirmed is handed out again.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// Delay before a message that could not be kept is offered again, and before a pull that failed is
/// begun again.
const AGAIN: Duration = Duration::from_millis(250);

/// Subscribes; what comes back listens until it cannot any more.
pub(super) async fn begin(
    client: &Client,
    subscription: &Subscription,
    sink: &Arc<dyn InboundSink>,
) -> Result<BoxFuture<'static, ServiceError>, ServiceError> {
    let (topic, sink) = (subscription.topic.clone(), Arc::clone(sink));
    let group = subscription.group.clone();
    match subscription.source {
        SubscriptionSource::Stream => {
            let made = make_consumer(client, &topic, group.as_deref(), ACK_WAIT).await;
            let (_, _, consumer) = made.map_err(|error| ServiceError::new(error.to_string()))?;
            Ok(Box::pin(pull(consumer, sink)))
        }
        SubscriptionSource::Channel | SubscriptionSource::Pattern => {
            let subscribed = match group {
                Some(group) => client.queue_subscribe(topic, group).await,
                None => client.subscribe(topic).await,
            };
            let subscriber = subscribed.map_err(|error| ServiceError::new(error.to_string()))?;
            Ok(Box::pin(hear(subscriber, sink)))
        }
    }
}

async fn hear(mut subscriber: Subscriber, sink: Arc<dyn InboundSink>) -> ServiceError {
    while let Some(message) = subscriber.next().await {
        let message = inbound(message.subject.to_string(), &message.payload, None);
        if let Err(error) = sink.deliver(message).await {
            tracing::warn!(error = %error, "message of a downstream was not kept");
        }
    }
    ServiceError::new("a subscription of nats has ended")
}

async fn pull(consumer: PullConsumer, sink: Arc<dyn InboundSink>) -> ServiceError {
    loop {
        let messages = consumer.stream().expires(PULL).heartbeat(HEARTBEAT).messages().await;
        match messages {
            Ok(mut messages) => {
                while let Some(message) = messages.next().await {
                    match message {
                        Ok(message) => hand_on(message, &sink).await,
                        Err(error) => {
                            tracing::debug!(error = %in_full(&error), "pull begun again");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(error = %in_full(&error), "stream cannot be read"),
        }
        sleep(AGAIN).await;
    }
}

/// Delivers a message and confirms it once it is kept; else it comes again.
async fn hand_on(message: async_nats::jetstream::Message, sink: &Arc<dyn InboundSink>) {
    let id = message.info().ok().map(|info| info.stream_sequence.to_string());
    let kept = sink.deliver(inbound(message.subject.to_string(), &message.payload, id)).await;
    let said = match kept {
        Ok(()) => message.ack().await,
        Err(error) => {
            tracing::warn!(error = %error, "message of a stream cannot be kept yet");
            message.ack_with(AckKind::Nak(Some(AGAIN))).await
        }
    };
    if let Err(error) = said {
        tracing::warn!(error = %error, "message comes again: it could not be confirmed");
    }
}
