//! JSON-RPC 2.0 over HTTP.
//!
//! `request` with a `method` is one call; without one, `params` is a batch: a list of
//! `{"method":…,"params":…,"notification":true|false}`, answered by a list in the same order, each
//! entry `{"result":…}`, `{"error":…}` or null for a notification. `publish` is a notification.
//!
//! Numbers of errors: -32603 and -32000..=-32099 are failures of the downstream, all others say
//! that the call is wrong or was refused by the application, and are never repeated.

mod codec;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::adapters::AdapterError;
use crate::adapters::http::{Sender, read};
use crate::adapters::json_rpc::codec::Ask;
use crate::adapters::target::Target;
use crate::ports::{
    AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession,
    InboundSink, ServiceError,
};
use crate::protocol::downstream::{CallErrorKind, CallOp, CallRequest};

/// A method that need not exist: that it is not found is an answer, too.
const HEALTH_METHOD: &str = "rpc.discover";

/// Reaches one JSON-RPC server.
#[derive(Clone, Debug)]
pub struct JsonRpcConnector {
    client: Arc<RpcClient>,
}

#[derive(Debug)]
struct RpcClient {
    sender: Sender,
    /// Numbers of requests; unique on this client, which is all that HTTP needs.
    numbers: Arc<AtomicU64>,
    health_path: Option<String>,
}

impl JsonRpcConnector {
    /// Makes the client.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] says which setting is wrong.
    pub fn new(target: Target) -> Result<Self, AdapterError> {
        let health_path = target.health_path.clone();
        let sender = Sender::new(target, "json_rpc")?;
        let client = RpcClient { sender, numbers: Arc::default(), health_path };
        Ok(Self { client: Arc::new(client) })
    }
}

impl DownstreamConnector for JsonRpcConnector {
    fn kind(&self) -> &'static str {
        "json_rpc"
    }

    fn supports(&self, op: CallOp) -> bool {
        matches!(op, CallOp::Request | CallOp::Publish)
    }

    fn connect(
        &self,
        _inbound: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>> {
        let client = Arc::<RpcClient>::clone(&self.client);
        Box::pin(async move {
            let ended = Box::pin(std::future::pending());
            Ok(DownstreamSession { client, ended })
        })
    }
}

impl DownstreamClient for RpcClient {
    fn call(
        &self,
        request: Arc<CallRequest>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let (sender, numbers) = (self.sender.clone(), Arc::clone(&self.numbers));
        Box::pin(async move {
            let mut number = || numbers.fetch_add(1, Ordering::Relaxed);
            let ask = Ask::of(&request, &mut number)?;
            exchange(&sender, &request, &ask, timeout).await
        })
    }

    fn check(&self, timeout: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        let (sender, numbers) = (self.sender.clone(), Arc::clone(&self.numbers));
        let path = self.health_path.clone();
        Box::pin(async move {
            if let Some(path) = path {
                return sender.check(&path, timeout).await;
            }
            let request = CallRequest {
                method: Some(HEALTH_METHOD.to_owned()),
                ..CallRequest::new(CallOp::Request)
            };
            let mut number = || numbers.fetch_add(1, Ordering::Relaxed);
            let ask = Ask::of(&request, &mut number)?;
            match exchange(&sender, &request, &ask, timeout).await {
                Ok(_discovered) => Ok(None),
                // It speaks the protocol: it works.
                Err(AttemptError { error, fate: AttemptFate::Rejected })
                    if error.kind == CallErrorKind::RemoteError
                        && error.code.is_some_and(|code| code < 0) =>
                {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })
    }
}

async fn exchange(
    sender: &Sender,
    request: &CallRequest,
    ask: &Ask,
    timeout: Duration,
) -> Result<Value, AttemptError> {
    let built = sender.post(request, ask.document())?;
    let answered = sender.send(built, timeout).await?;
    // A server may give its error with a status of HTTP that says so, too; the error says more.
    match ask.read(&answered.body) {
        Ok(result) => Ok(result),
        Err(codec::Fault::Told(error)) => Err(*error),
        Err(codec::Fault::NoAnswer(error)) => read(&answered).and(Err(*error)),
    }
}
