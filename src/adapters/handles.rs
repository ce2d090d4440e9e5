//! Typed handles of a downstream, for Rust: requests with types for both ways, messages, queues.
//!
//! A handle is cheap to clone and outlives every session; all of a downstream's handles share its
//! policies. What its kind does not have answers `unsupported`.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use provost::adapters::care::Downstream;
//! # async fn of(downstream: Arc<Downstream>) -> Result<(), provost::protocol::downstream::CallError> {
//! use provost::adapters::handles::RpcClient;
//!
//! let backend = RpcClient::new(downstream);
//! let sum: i64 = backend.request("add", &[1, 2]).await?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::adapters::care::Downstream;
use crate::logic::breaker::config::millis;
use crate::protocol::downstream::{CallDone, CallError, CallErrorKind, CallOp, CallRequest};

/// Asks and waits for the answer.
#[derive(Clone, Debug)]
pub struct RpcClient {
    downstream: Arc<Downstream>,
    deadline: Option<Duration>,
}

impl RpcClient {
    /// Requests to a downstream.
    #[must_use]
    pub fn new(downstream: Arc<Downstream>) -> Self {
        Self { downstream, deadline: None }
    }

    /// The same handle with a deadline for each whole call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Calls a method with parameters.
    ///
    /// # Errors
    ///
    /// [`CallError`]; an answer that is not a `T` is a `remote_error`.
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, CallError> {
        let call = CallRequest {
            method: Some(method.to_owned()),
            params: written(params)?,
            ..CallRequest::new(CallOp::Request)
        };
        read(self.call(call).await?)
    }

    /// Makes any request, and tells where its answer came from.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn call(&self, call: CallRequest) -> Result<CallDone, CallError> {
        let deadline_ms = call.deadline_ms.or(self.deadline.map(millis));
        self.downstream.path().call(CallRequest { deadline_ms, ..call }).await
    }
}

/// Sends messages to whoever listens. What arrives comes on the downstream's events.
#[derive(Clone, Debug)]
pub struct PubSubClient {
    downstream: Arc<Downstream>,
}

impl PubSubClient {
    /// Messages of a downstream.
    #[must_use]
    pub fn new(downstream: Arc<Downstream>) -> Self {
        Self { downstream }
    }

    /// Publishes a message on a topic.
    ///
    /// # Errors
    ///
    /// [`CallError`]; with kind `timeout` nobody knows whether it was published.
    pub async fn publish(&self, topic: &str, message: &impl Serialize) -> Result<(), CallError> {
        let call = CallRequest {
            topic: Some(topic.to_owned()),
            params: written(message)?,
            ..CallRequest::new(CallOp::Publish)
        };
        self.downstream.path().call(call).await.map(|_done| ())
    }
}

/// Puts into and takes out of a queue.
#[derive(Clone, Debug)]
pub struct QueueClient {
    downstream: Arc<Downstream>,
    queue: String,
}

impl QueueClient {
    /// A queue of a downstream.
    #[must_use]
    pub fn new(downstream: Arc<Downstream>, queue: impl Into<String>) -> Self {
        Self { downstream, queue: queue.into() }
    }

    /// Puts a message in. With a key, putting it in twice is putting it in once where the downstream
    /// knows keys.
    ///
    /// # Errors
    ///
    /// [`CallError`]; with kind `timeout` nobody knows whether it is in.
    pub async fn enqueue(
        &self,
        message: &impl Serialize,
        key: Option<&str>,
    ) -> Result<Value, CallError> {
        let call = CallRequest {
            params: written(message)?,
            idempotency_key: key.map(str::to_owned),
            ..self.call(CallOp::Enqueue)
        };
        self.downstream.path().call(call).await.map(|done| done.result)
    }

    /// Takes a message out; what it holds besides its content is the adapter's.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn dequeue(&self) -> Result<Value, CallError> {
        let call = self.call(CallOp::Dequeue);
        self.downstream.path().call(call).await.map(|done| done.result)
    }

    /// Confirms a message, named as [`Self::dequeue`] gave it.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn ack(&self, message: &Value) -> Result<(), CallError> {
        let call = CallRequest { params: message.clone(), ..self.call(CallOp::Ack) };
        self.downstream.path().call(call).await.map(|_done| ())
    }

    fn call(&self, op: CallOp) -> CallRequest {
        CallRequest { topic: Some(self.queue.clone()), ..CallRequest::new(op) }
    }
}

fn written(value: &impl Serialize) -> Result<Value, CallError> {
    serde_json::to_value(value).map_err(|error| {
        let text = format!("the parameters cannot be written as JSON: {error}");
        CallError::new(CallErrorKind::InvalidRequest, text)
    })
}

fn read<T: DeserializeOwned>(done: CallDone) -> Result<T, CallError> {
    serde_json::from_value(done.result).map_err(|error| {
        let text = format!("the answer is not what was expected: {error}");
        CallError::new(CallErrorKind::RemoteError, text)
    })
}
