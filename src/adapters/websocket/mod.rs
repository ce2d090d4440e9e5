//! WebSocket: one connection, calls and whatever the other side sends.
//!
//! `publish` sends `params` as one text message: a string as it is, all else as JSON. `request`
//! sends a message with an `id` and waits for the message that carries the same `id`: with a
//! `method` it is a JSON-RPC 2.0 call, without one `params` is an object that gets the `id`.
//! Messages that answer nothing arrive on the downstream's subscription.
//!
//! A ping goes out every `keep_alive`; a connection that is silent for two of them is ended.

mod drive;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use crate::adapters::AdapterError;
use crate::adapters::target::{Credentials, Schemes, Target};
use crate::adapters::tls;
use crate::adapters::websocket::drive::{Driver, Order};
use crate::ports::{
    AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession,
    InboundSink, ServiceError,
};
use crate::protocol::downstream::{CallError, CallErrorKind, CallOp, CallRequest};

/// Schemes of WebSocket.
pub const SCHEMES: Schemes = Schemes { plain: "ws", tls: "wss" };

/// Largest message either way, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Calls that may wait to be sent; more are refused as unavailable.
const ORDERS_MAX: usize = 256;

/// Longest time for a connection and its handshake.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Reaches one downstream over WebSocket.
#[derive(Clone)]
pub struct WebSocketConnector {
    target: Target,
    connector: Connector,
}

impl std::fmt::Debug for WebSocketConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketConnector").field("target", &self.target).finish_non_exhaustive()
    }
}

impl WebSocketConnector {
    /// Makes the connector.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] says which setting is wrong.
    pub fn new(mut target: Target) -> Result<Self, AdapterError> {
        if matches!(target.credentials, Credentials::NatsFile(_)) {
            let instead = "none, basic, bearer or client_certificate";
            return Err(AdapterError::Auth { auth: "nats", kind: "websocket", instead });
        }
        let scheme = match target.url.scheme() {
            "https" => SCHEMES.tls.to_owned(),
            "http" => SCHEMES.plain.to_owned(),
            other => other.to_owned(),
        };
        let text = target.url.as_str();
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        target.url = format!("{scheme}://{rest}").parse().map_err(|error| {
            let address = target.url.as_str().to_owned();
            AdapterError::Address { address, reason: format!("{error}") }
        })?;
        let connector = if target.uses_tls(SCHEMES) {
            Connector::Rustls(Arc::new(tls::client_config(&target.tls)?))
        } else {
            Connector::Plain
        };
        Ok(Self { target, connector })
    }

    fn request(&self) -> Result<Request, ServiceError> {
        let built = self.target.url.as_str().into_client_request();
        let mut request = built.map_err(|error| ServiceError::new(error.to_string()))?;
        let header = match &self.target.credentials {
            Credentials::None | Credentials::NatsFile(_) => None,
            Credentials::Bearer(token) => Some(format!("Bearer {token}")),
            Credentials::Basic { username, password } => {
                Some(format!("Basic {}", base64(&format!("{username}:{password}"))))
            }
        };
        if let Some(header) = header {
            let mut value = HeaderValue::from_str(&header).map_err(|_invalid| {
                ServiceError::new("the credentials cannot stand in a header; check `auth`")
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

impl DownstreamConnector for WebSocketConnector {
    fn kind(&self) -> &'static str {
        "websocket"
    }

    fn supports(&self, op: CallOp) -> bool {
        matches!(op, CallOp::Request | CallOp::Publish)
    }

    fn connect(
        &self,
        inbound: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>> {
        let this = self.clone();
        Box::pin(async move {
            let mut config = WebSocketConfig::default();
            config.max_message_size = Some(MESSAGE_BYTES_MAX);
            config.max_frame_size = Some(MESSAGE_BYTES_MAX);
            let request = this.request()?;
            let opening = connect_async_tls_with_config(
                request,
                Some(config),
                true,
                Some(this.connector.clone()),
            );
            let opened = tokio::time::timeout(CONNECT_MAX, Box::pin(opening)).await;
            let (stream, _response) = opened
                .map_err(|_elapsed| {
                    ServiceError::new(format!("no connection within {} s", CONNECT_MAX.as_secs()))
                })?
                .map_err(|error| ServiceError::new(error.to_string()))?;
            let (orders, taken) = mpsc::channel(ORDERS_MAX);
            let topic = this.target.url.path().to_owned();
            let driver = Driver::new(stream, taken, inbound, topic, this.target.keep_alive);
            let client = Arc::new(SocketClient { orders });
            Ok(DownstreamSession { client, ended: Box::pin(driver.run()) })
        })
    }
}

#[derive(Debug)]
struct SocketClient {
    orders: mpsc::Sender<Order>,
}

impl DownstreamClient for SocketClient {
    fn call(
        &self,
        request: Arc<CallRequest>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let orders = self.orders.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let order = match request.op {
                CallOp::Publish => Order::Send { text: text_of(&request.params), reply },
                CallOp::Request => Order::Ask { message: message_of(&request)?, reply },
                CallOp::Enqueue | CallOp::Dequeue | CallOp::Ack => {
                    let text = format!("websocket has no {}", request.op.as_str());
                    return Err(failed(CallErrorKind::Unsupported, text, AttemptFate::Rejected));
                }
            };
            place(&orders, order)?;
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_dropped)) => {
                    let text = "the connection was lost".to_owned();
                    Err(failed(CallErrorKind::Unavailable, text, AttemptFate::Unknown))
                }
                Err(_elapsed) => {
                    let text = format!("no answer within {} ms", timeout.as_millis());
                    Err(failed(CallErrorKind::Timeout, text, AttemptFate::Unknown))
                }
            }
        })
    }

    fn check(&self, timeout: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        let orders = self.orders.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            place(&orders, Order::Ping { reply })?;
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(())) => Ok(None),
                Ok(Err(_)) | Err(_) => {
                    let text = format!("no pong within {} ms", timeout.as_millis());
                    Err(failed(CallErrorKind::Timeout, text, AttemptFate::Unknown))
                }
            }
        })
    }
}

fn place(orders: &mpsc::Sender<Order>, order: Order) -> Result<(), AttemptError> {
    orders.try_send(order).map_err(|error| {
        let text = match error {
            mpsc::error::TrySendError::Full(_) => {
                format!("{ORDERS_MAX} messages wait to be sent already")
            }
            mpsc::error::TrySendError::Closed(_) => "the connection is closed".to_owned(),
        };
        failed(CallErrorKind::Unavailable, text, AttemptFate::NotSent)
    })
}

fn failed(kind: CallErrorKind, text: String, fate: AttemptFate) -> AttemptError {
    AttemptError { error: CallError::new(kind, text), fate }
}

fn text_of(params: &Value) -> String {
    params.as_str().map_or_else(|| params.to_string(), str::to_owned)
}

/// The message of a request, without its id.
fn message_of(request: &CallRequest) -> Result<serde_json::Map<String, Value>, AttemptError> {
    let message = match (&request.method, &request.params) {
        (Some(method), params) => {
            let mut message = json!({"jsonrpc": "2.0", "method": method});
            if let (Some(fields), false) = (message.as_object_mut(), params.is_null()) {
                fields.insert("params".to_owned(), params.clone());
            }
            message
        }
        (None, params) => params.clone(),
    };
    match message {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let text = "a request needs a method, or params that are an object".to_owned();
            Err(failed(CallErrorKind::InvalidRequest, text, AttemptFate::Rejected))
        }
    }
}

/// Base64 with padding (RFC 4648 §4).
fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}
