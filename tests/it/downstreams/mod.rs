//! Downstreams under the whole daemon: the real binary, real servers made here, real NATS.

mod calls;
mod dependents;
mod doors;
mod life;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::daemon::{stored, supervision, type_of};
use crate::support::daemon::Daemon;
use crate::support::eventually;

/// A service over HTTP that can be killed and started again on its port.
pub(crate) struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Shared {
    /// What it answers to everything but its health path; 0 for an echo, 1 for nothing at all.
    status: AtomicU16,
    /// What its health path answers; 0 for 200.
    health: AtomicU16,
    calls: AtomicU64,
}

impl Service {
    /// A service that echoes.
    pub(crate) fn start() -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut service = Self { address: any, shared: Arc::default(), runtime: None };
        service.revive();
        service
    }

    /// Starts again where it was.
    pub(crate) fn revive(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let std = std::net::TcpListener::bind(self.address).unwrap();
        std.set_nonblocking(true).unwrap();
        self.address = std.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&self.shared));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(std).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Kills it with all its connections.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // The port is free when nobody listens there any more.
        while std::net::TcpStream::connect(self.address).is_ok() {
            std::thread::yield_now();
        }
    }

    /// From now on it answers calls so; 0 echoes, 1 never answers.
    pub(crate) fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// From now on its health path answers so.
    pub(crate) fn health(&self, status: u16) {
        self.shared.health.store(status, Ordering::SeqCst);
    }

    /// Calls that reached it.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Its section of a configuration.
    pub(crate) fn section(&self, name: &str, more: &str) -> String {
        format!(
            "[downstreams.{name}]\ntype = \"http\"\nendpoint = {{ address = \"http://{}\" }}\n{more}\n",
            self.address
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    if uri.path() == "/health" {
        let status = shared.health.load(Ordering::SeqCst);
        return StatusCode::from_u16(status).unwrap_or(StatusCode::OK).into_response();
    }
    shared.calls.fetch_add(1, Ordering::SeqCst);
    match shared.status.load(Ordering::SeqCst) {
        0 => {
            let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
            let echo = json!({"method": method.as_str(), "uri": uri.to_string(), "body": body,
                "key": key});
            axum::Json(echo).into_response()
        }
        1 => std::future::pending().await,
        status => StatusCode::from_u16(status).unwrap().into_response(),
    }
}

/// Supervision that looks often, and a circuit that opens soon and probes soon.
pub(crate) const QUICK: &str = r#"
[supervision]
enabled = true
health_check_interval = "250ms"
"#;

/// Settings of a downstream that is given up and tried again soon.
pub(crate) const SOON: &str = r#"resilience = { timeout = "1s", retry = { max_attempts = 1 }, circuit_breaker = { failure_threshold = 3, open_for = "500ms", open_max = "500ms", jitter = 0.0, success_threshold = 2 } }"#;

/// One call over NATS, answered.
pub(crate) async fn call(client: &async_nats::Client, name: &str, request: Value) -> Value {
    let subject = format!("downstream.{name}.call");
    let answer = client.request(subject, request.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

pub(crate) async fn status(client: &async_nats::Client, name: &str) -> Value {
    let subject = format!("downstream.{name}.status");
    let answer = client.request(subject, "".into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Waits until a downstream's status is as wanted.
pub(crate) async fn wait_status(
    client: &async_nats::Client,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(&format!("{name} {what}"), async || Some(status(client, name).await).filter(&wanted))
        .await
}

/// Waits for an event of a type about a downstream, the `count`-th.
pub(crate) async fn event(
    client: &async_nats::Client,
    kind: &str,
    about: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut stream = supervision(client).await;
    eventually(&format!("{kind} of {about}"), async || {
        let events = stored(&mut stream).await;
        events.into_iter().find(|event| {
            type_of(event) == kind && event["subject"] == about && wanted(&event["data"])
        })
    })
    .await
}

/// A document of the daemon's own HTTP server.
pub(crate) async fn web(daemon: &Daemon, path: &str) -> (u16, Value) {
    let address = daemon.json(&["status"])["system"]["http"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}
