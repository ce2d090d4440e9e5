//! Redis 6 and newer: commands, pub/sub, streams with consumer groups, lists.
//!
//! `request` runs one command: `method` with its words, `params` a list of arguments. `publish` is
//! PUBLISH on the channel `topic`. `enqueue`, `dequeue` and `ack` work on the stream `topic`, or with
//! the method `list` on the list `topic`; a message is `{"id","payload","redelivered"}`, an empty
//! queue null. What was taken out and not confirmed within `redeliver_after_ms` (one minute) is
//! handed out again. With an idempotency key an `enqueue` that is repeated within two hours adds
//! nothing.
//!
//! One connection is shared by all calls; commands that would block or change it are refused, and
//! waiting is done by asking again. Subscriptions have connections of their own. A lost connection
//! is opened again for 30 s; then the session ends. A call under way when it is lost is `Unknown`,
//! one made meanwhile `NotSent`. Messages of a stream are confirmed once they are kept. Pub/sub has
//! no memory: what is published while the connection is away is lost, which is logged.

#![expect(
    clippy::excessive_nesting,
    reason = "one loop over what may happen: its arms read better together"
)]

mod link;
mod listen;
mod queue;
mod value;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value as Reply};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::adapters::AdapterError;
use crate::adapters::message::{bytes_of, late, not_connected, topic};
use crate::adapters::redis::link::{Opener, Shared, keep};
use crate::adapters::target::{Schemes, Target};
use crate::ports::{
    AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession,
    InboundSink, ServiceError,
};
use crate::protocol::downstream::{CallError, CallErrorKind, CallOp, CallRequest};

/// Schemes of Redis.
pub const SCHEMES: Schemes = Schemes { plain: "redis", tls: "rediss" };

/// Reaches one Redis server.
#[derive(Clone, Debug)]
pub struct RedisConnector {
    opener: Opener,
    target: Target,
}

impl RedisConnector {
    /// Makes the connector.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] says which setting is wrong.
    pub fn new(target: Target) -> Result<Self, AdapterError> {
        Ok(Self { opener: Opener::new(&target)?, target })
    }
}

impl DownstreamConnector for RedisConnector {
    fn kind(&self) -> &'static str {
        "redis"
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
            let opened = this.opener.open(None).await;
            let opened = opened.map_err(|error| ServiceError::new(error.into_reason()))?;
            let (told, shared) = watch::channel(Ok(opened.connection.clone()));
            let parts = FuturesUnordered::<BoxFuture<'static, ServiceError>>::new();
            let consumer = &this.target.client_id;
            for listener in
                listen::all(&this.opener, &this.target.subscriptions, consumer, &inbound)
            {
                let begun = listener.begin().await?;
                parts.push(begun);
            }
            parts.push(Box::pin(keep(this.opener.clone(), opened, told)));
            let client = RedisClient { shared, consumer: consumer.as_str().into() };
            Ok(DownstreamSession { client: Arc::new(client), ended: Box::pin(first_end(parts)) })
        })
    }
}

/// The first part that ends, ends the session.
async fn first_end(mut parts: FuturesUnordered<BoxFuture<'static, ServiceError>>) -> ServiceError {
    let ended = parts.next().await;
    ended.unwrap_or_else(|| ServiceError::new("nothing of the session is left"))
}

#[derive(Clone, Debug)]
struct RedisClient {
    shared: Shared,
    /// Name of this consumer in groups.
    consumer: Arc<str>,
}

impl RedisClient {
    fn connection(&self) -> Result<MultiplexedConnection, AttemptError> {
        self.shared.borrow().clone().map_err(|reason| not_connected(&reason))
    }

    async fn carry_out(
        &self,
        request: &CallRequest,
        timeout: Duration,
    ) -> Result<Value, AttemptError> {
        let mut connection = self.connection()?;
        match request.op {
            CallOp::Request => {
                let command = value::command(request.method.as_deref(), &request.params)?;
                ask(&mut connection, &command).await.map(value::json)
            }
            CallOp::Publish => {
                let mut command = redis::cmd("PUBLISH");
                command.arg(topic(request)?).arg(bytes_of(&request.params));
                let receivers = value::json(ask(&mut connection, &command).await?);
                Ok(json!({"receivers": receivers}))
            }
            CallOp::Enqueue => queue::enqueue(&mut connection, request).await,
            CallOp::Dequeue => {
                queue::dequeue(&mut connection, request, &self.consumer, timeout).await
            }
            CallOp::Ack => queue::ack(&mut connection, request).await,
        }
    }
}

/// Sends a command and waits for its answer, without bound; the caller bounds the attempt.
async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Reply, AttemptError> {
    let answered = connection.send_packed_command(command).await.and_then(Reply::extract_error);
    answered.map_err(|error| value::attempt(&error))
}

impl DownstreamClient for RedisClient {
    fn call(
        &self,
        request: Arc<CallRequest>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let this = self.clone();
        Box::pin(async move {
            let done = tokio::time::timeout(timeout, this.carry_out(&request, timeout)).await;
            done.unwrap_or_else(|_elapsed| Err(late(timeout)))
        })
    }

    fn check(&self, timeout: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        let this = self.clone();
        Box::pin(async move {
            let looked = async {
                let mut connection = this.connection()?;
                ask(&mut connection, &redis::cmd("PING")).await?;
                // A replica answers a ping, but takes no writes. Who may not ask is content.
                let mut info = redis::cmd("INFO");
                info.arg("replication");
                match ask(&mut connection, &info).await.map(value::json) {
                    Ok(Value::String(text)) if text.contains("role:slave") => {
                        let text = "it is a replica: it takes no writes";
                        let error = CallError::new(CallErrorKind::RemoteError, text);
                        Err(AttemptError { error, fate: AttemptFate::Failed })
                    }
                    Ok(_) => Ok(None),
                    Err(error) if error.fate == AttemptFate::Rejected => Ok(None),
                    Err(error) => Err(error),
                }
            };
            let looked = tokio::time::timeout(timeout, looked).await;
            looked.unwrap_or_else(|_elapsed| Err(late(timeout)))
        })
    }
}
