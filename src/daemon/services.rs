//! Parts of the daemon that stand in its own tree: what each is, and the embedded server's run.
//!
//! The connection, presence, command endpoints and outbox are services of `transport`, the keeper
//! is one of `runtimes`; what is missing between them is here.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::context::TokioContext;
use tokio_util::sync::CancellationToken;

use crate::daemon::agents::NatsUrl;
use crate::ports::{AgentRuntime, BoxFuture, Ready, RunningAgent, Service, ServiceError};
use crate::protocol::exit::StartError;
use crate::protocol::id::Generation;
use crate::runtimes::in_process::ServiceRuntime;
use crate::runtimes::keeper::{KeeperSlot, ProcessRun};
use crate::transport::embedded::{EmbeddedServer, Prepared};
use crate::transport::settings::{Auth, ConnectSettings, ServerUrl};

/// Longest time from the start of the embedded server until it listens.
const SERVER_READY_WITHIN: Duration = Duration::from_secs(20);

/// Time the embedded server has to stop before it is killed.
const SERVER_STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs the embedded server through the keeper and tells where it listens.
#[derive(Clone, Debug)]
pub struct EmbeddedService {
    /// The server's folder, files and locks.
    pub server: Arc<EmbeddedServer>,
    /// Starts its process.
    pub keeper: KeeperSlot,
    /// What the connection shall use; the address is put in when the server listens.
    pub template: ConnectSettings,
    /// Where the settings go.
    pub settings: watch::Sender<Option<ConnectSettings>>,
    /// Where agents that may use NATS find its address.
    pub agents_url: NatsUrl,
}

impl EmbeddedService {
    async fn run_server(self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        let prepared = self.prepare().await?;
        let run = ProcessRun {
            cwd: prepared.cwd.clone(),
            ..ProcessRun::new(prepared.argv.clone(), prepared.log_file.with_extension("out"))
        };
        let mut process =
            self.keeper.start(run).await.map_err(|error| ServiceError::new(error.to_string()))?;
        let running = tokio::select! {
            // Cancelling loses nothing: the server is looked at again or stopped below.
            running = prepared.wait_ready(SERVER_READY_WITHIN) => {
                running.map_err(|error| ServiceError::new(error.to_string()))?
            }
            exit = process.exited() => {
                return Err(ServiceError::new(format!("nats-server {exit}; see {}", prepared.log_file.display())));
            }
            () = stop.cancelled() => {
                process.kill();
                return Ok(());
            }
        };
        tracing::info!(pid = running.pid, version = running.server_version, "nats-server listens");
        self.agents_url.set(with_credentials(&running.url));
        let settings = ConnectSettings { servers: vec![running.url], ..self.template.clone() };
        self.settings.send_replace(Some(settings));
        ready.tell();
        tokio::select! {
            // The exit is kept by the handle; both are cancel safe.
            exit = process.exited() => {
                Err(ServiceError::new(format!("nats-server {exit}; see {}", prepared.log_file.display())))
            }
            () = stop.cancelled() => {
                process.ask_to_stop();
                if tokio::time::timeout(SERVER_STOP_GRACE, process.exited()).await.is_err() {
                    process.kill();
                    process.exited().await;
                }
                if let Err(error) = self.server.forget_address() {
                    tracing::warn!(%error, "address file stays");
                }
                Ok(())
            }
        }
    }

    /// Files are made off the runtime's threads: the disk may be slow.
    async fn prepare(&self) -> Result<Prepared, ServiceError> {
        let server = Arc::clone(&self.server);
        let prepared = tokio::task::spawn_blocking(move || server.prepare());
        match prepared.await {
            Ok(Ok(prepared)) => Ok(prepared),
            Ok(Err(error)) => Err(ServiceError::new(error.to_string())),
            Err(error) => Err(ServiceError::new(error.to_string())),
        }
    }
}

impl Service for EmbeddedService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().run_server(stop, ready))
    }
}

/// Runs a part of the daemon on the runtime that talks to the outside, so that nothing it does
/// delays supervision.
#[derive(Clone, Debug)]
pub struct Hosted {
    inner: ServiceRuntime,
    outside: Handle,
}

impl Hosted {
    /// The service's runs begin and live on `outside`.
    #[must_use]
    pub fn new(service: Arc<dyn Service>, outside: Handle) -> Self {
        Self { inner: ServiceRuntime::new(service), outside }
    }
}

impl AgentRuntime for Hosted {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        Box::pin(TokioContext::new(self.inner.start(generation), self.outside.clone()))
    }
}

/// The address with its credentials, as agents with `nats_access` get it.
fn with_credentials(url: &ServerUrl) -> String {
    let plain = url.to_string();
    match (url.auth(), plain.split_once("://")) {
        (Auth::UserPassword { user, password }, Some((scheme, rest))) => {
            format!("{scheme}://{user}:{}@{rest}", password.reveal())
        }
        (Auth::Token(token), Some((scheme, rest))) => {
            format!("{scheme}://{}@{rest}", token.reveal())
        }
        (
            Auth::None
            | Auth::UserPassword { .. }
            | Auth::Token(_)
            | Auth::NKey(_)
            | Auth::NKeyFile(_)
            | Auth::CredentialsFile(_),
            _,
        ) => plain,
    }
}
