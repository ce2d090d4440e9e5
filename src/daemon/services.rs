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
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::OnDaemonExit;
use crate::runtimes::in_process::ServiceRuntime;
use crate::runtimes::keeper::{KeeperSlot, Owner, ProcessRun};
use crate::transport::embedded::{EmbeddedError, EmbeddedServer, Prepared};
use crate::transport::settings::{Auth, ConnectSettings, ServerUrl};

/// Name of the embedded server in the tree, and of its run.
pub(crate) const SERVER: &str = "nats_server";

/// Entry of the server's environment that tells its processes from all others.
const SERVER_MARK: &str = "PROVOST_PART";

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
    /// What becomes of it when the daemon is killed.
    pub on_daemon_exit: OnDaemonExit,
}

impl EmbeddedService {
    async fn run_server(self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        let prepared = self.prepare().await?;
        let run = run(&prepared, self.on_daemon_exit)?;
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

    /// Everything for a start; or for the server that an earlier daemon left, if it has the settings of
    /// now. One that has others is ended.
    async fn prepare(&self) -> Result<Prepared, ServiceError> {
        let name = server_name()?;
        if self.keeper.found(&name).is_some()
            && let Some(prepared) = self.on_disk(EmbeddedServer::resume).await?
        {
            return Ok(prepared);
        }
        self.keeper.end_unclaimed(|owner| owner.name != name).await;
        if let Some(orphan) = self.server.orphan() {
            // Nobody watches it, so nobody but us can end it.
            tracing::info!(pid = orphan.pid(), "a nats-server without a keeper is ended");
            orphan.end().await;
        }
        self.on_disk(EmbeddedServer::prepare).await
    }

    /// Files are made off the runtime's threads: the disk may be slow.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: fn(&EmbeddedServer) -> Result<T, EmbeddedError>,
    ) -> Result<T, ServiceError> {
        let server = Arc::clone(&self.server);
        match tokio::task::spawn_blocking(move || work(&server)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(ServiceError::new(error.to_string())),
            Err(error) => Err(ServiceError::new(error.to_string())),
        }
    }
}

fn server_name() -> Result<ChildName, ServiceError> {
    SERVER.parse().map_err(|error| ServiceError::new(format!("{SERVER}: {error}")))
}

/// The server's run.
fn run(prepared: &Prepared, on_daemon_exit: OnDaemonExit) -> Result<ProcessRun, ServiceError> {
    let owner = Owner {
        name: server_name()?,
        agent_id: None,
        generation: Generation::default(),
        settings: 0,
    };
    let mark = format!("{SERVER} {}", prepared.cwd.display());
    Ok(ProcessRun {
        cwd: prepared.cwd.clone(),
        env: [(SERVER_MARK.to_owned(), mark)].into(),
        marks: vec![SERVER_MARK.to_owned()],
        owner: Some(owner),
        on_daemon_exit,
        ..ProcessRun::new(prepared.argv.clone(), prepared.log_file.with_extension("out"))
    })
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
