//! HTTP: a call is one request, its result is the body.
//!
//! `request` is the only operation. The method is `method`, or GET without `params` and POST with
//! them. `params` of GET, HEAD and DELETE become the query, of all others the JSON body. A result is
//! the body as JSON where it is JSON, else as text; null when there is none. An idempotency key
//! travels as `Idempotency-Key`.
//!
//! What an answer means: 2xx is success; 429, and 503 with `Retry-After`, are throttling; 408 and
//! other 5xx are failures of the downstream; other 4xx say that the call is wrong. Redirects are
//! followed, five at most. Nothing is repeated here.

mod answer;
mod send;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::adapters::AdapterError;
use crate::adapters::target::{Schemes, Target};
use crate::ports::{
    AttemptError, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession, InboundSink,
    ServiceError,
};
use crate::protocol::downstream::{CallOp, CallRequest};

pub(crate) use crate::adapters::http::answer::read;
pub(crate) use crate::adapters::http::send::{Sender, wrong};

/// Schemes of HTTP.
pub const SCHEMES: Schemes = Schemes { plain: "http", tls: "https" };

/// Path of the health check unless another is configured.
const HEALTH_PATH: &str = "/health";

/// Reaches one downstream over HTTP.
#[derive(Clone, Debug)]
pub struct HttpConnector {
    client: Arc<HttpClient>,
}

#[derive(Debug)]
struct HttpClient {
    sender: Sender,
    health_path: String,
}

impl HttpConnector {
    /// Makes the client; connections are opened when they are needed and kept for 30 s.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] says which setting is wrong.
    pub fn new(target: Target) -> Result<Self, AdapterError> {
        let health_path = target.health_path.clone().unwrap_or_else(|| HEALTH_PATH.to_owned());
        let client = HttpClient { sender: Sender::new(target, "http")?, health_path };
        Ok(Self { client: Arc::new(client) })
    }
}

impl DownstreamConnector for HttpConnector {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn supports(&self, op: CallOp) -> bool {
        op == CallOp::Request
    }

    fn connect(
        &self,
        _inbound: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>> {
        let client = Arc::<HttpClient>::clone(&self.client);
        Box::pin(async move {
            let ended = Box::pin(std::future::pending());
            Ok(DownstreamSession { client, ended })
        })
    }
}

impl DownstreamClient for HttpClient {
    fn call(
        &self,
        request: Arc<CallRequest>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let sender = self.sender.clone();
        Box::pin(async move {
            let built = sender.request(&request)?;
            let answered = sender.send(built, timeout).await?;
            read(&answered)
        })
    }

    fn check(&self, timeout: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        let sender = self.sender.clone();
        let path = self.health_path.clone();
        Box::pin(async move { sender.check(&path, timeout).await })
    }
}
