//! The server: where it listens, what it is made of, what it refuses.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::ports::{
    BoxFuture, CommandHandler, HealthChecks, Ready, Service, ServiceError, WallClock,
};
use crate::web::{api, health, host};

/// File in the state folder that holds the bound address, as text.
const ADDRESS_FILE: &str = "http";

/// Bounds of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WebLimits {
    /// Requests under way; more are answered 503 at once.
    pub running_max: usize,
    /// Longest time of one request; then 504.
    pub timeout: Duration,
    /// Longest time that requests under way are waited for at the end.
    pub drain: Duration,
}

impl Default for WebLimits {
    fn default() -> Self {
        Self { running_max: 128, timeout: Duration::from_secs(10), drain: Duration::from_secs(2) }
    }
}

/// What the server reads.
#[derive(Clone)]
pub struct WebSources {
    /// Answers the documents.
    pub handler: Arc<dyn CommandHandler>,
    /// Checks the downstreams; `None` when there are none.
    pub checks: Option<Arc<dyn HealthChecks>>,
    /// Tells wall time.
    pub clock: Arc<dyn WallClock>,
    /// Renders the metrics as Prometheus text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for WebSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSources").field("checks", &self.checks).finish_non_exhaustive()
    }
}

/// Where the server listens at the moment. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Bound(Arc<Mutex<Option<SocketAddr>>>);

impl Bound {
    /// The address; `None` while it does not listen.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, address: Option<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// What every request sees.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) sources: WebSources,
    listens: SocketAddr,
    permits: Arc<Semaphore>,
    limits: WebLimits,
}

/// The HTTP server as a child of the tree.
#[derive(Clone, Debug)]
pub struct WebService {
    address: SocketAddr,
    state_dir: PathBuf,
    sources: WebSources,
    bound: Bound,
    limits: WebLimits,
}

impl WebService {
    /// A server that will listen at an address (port 0 takes any free one) and writes where that is
    /// to the file `http` in the state folder.
    #[must_use]
    pub fn new(address: SocketAddr, state_dir: PathBuf, sources: WebSources, bound: Bound) -> Self {
        Self { address, state_dir, sources, bound, limits: WebLimits::default() }
    }

    /// The server with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: WebLimits) -> Self {
        Self { limits, ..self }
    }

    async fn serve(self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        let listener = TcpListener::bind(self.address).await.map_err(|error| {
            let at = self.address;
            let hint = "set `provost.http` to a free address, to port 0, or to \"off\"";
            ServiceError::new(format!("cannot listen on {at}: {error}; {hint}"))
        })?;
        let listens = listener
            .local_addr()
            .map_err(|error| ServiceError::new(format!("the listener has no address: {error}")))?;
        let told = Told::tell(&self, listens)?;
        let shared = Shared {
            sources: self.sources,
            listens,
            permits: Arc::new(Semaphore::new(self.limits.running_max)),
            limits: self.limits,
        };
        tracing::info!(address = %listens, "HTTP server listens");
        ready.tell();
        let ending = stop.clone();
        let serving = axum::serve(listener, router(shared))
            .with_graceful_shutdown(ending.cancelled_owned())
            .into_future();
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(self.limits.drain).await;
        };
        let served = tokio::select! {
            // Cancelled only at the end: requests that took longer than the drain are cut off.
            served = serving => served,
            () = drained => Ok(()),
        };
        drop(told);
        served.map_err(|error| ServiceError::new(format!("the HTTP server ended: {error}")))
    }
}

impl Service for WebService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().serve(stop, ready))
    }
}

/// The address as it was told, taken back when the server ends.
struct Told {
    bound: Bound,
    file: PathBuf,
}

impl Told {
    fn tell(service: &WebService, listens: SocketAddr) -> Result<Self, ServiceError> {
        let file = service.state_dir.join(ADDRESS_FILE);
        std::fs::write(&file, format!("{listens}\n")).map_err(|error| {
            ServiceError::new(format!("cannot write {}: {error}", file.display()))
        })?;
        service.bound.set(Some(listens));
        Ok(Self { bound: service.bound.clone(), file })
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.bound.set(None);
        if let Err(error) = std::fs::remove_file(&self.file) {
            tracing::debug!(file = %self.file.display(), %error, "address file not removed");
        }
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/health", get(health::health))
        .route("/health/all", get(health::health_all))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/tree", get(api::tree))
        .route("/api/v1/alerts", get(api::alerts))
        .route("/api/v1/agents", get(api::agents))
        .route("/api/v1/agents/{agent}", get(api::agent))
        .fallback(api::nothing_here)
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    health::count_agents(&shared).await;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, kind)], (shared.sources.metrics)()).into_response()
}

/// Refuses what may not or cannot be answered, and bounds the time of the rest.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if !host::is_acceptable(host, shared.listens) {
        let text = "this server answers to its address or localhost only\n";
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    let Ok(_permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many requests under way\n").into_response();
    };
    match tokio::time::timeout(shared.limits.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => (StatusCode::GATEWAY_TIMEOUT, "no answer in time\n").into_response(),
    }
}
