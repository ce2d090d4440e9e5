//! The daemon: builds everything from the configuration, runs it, stops it. The only place that
//! knows all parts.
//!
//! Two runtimes: supervision has a thread of its own, so that nothing else can delay its timers;
//! everything that talks to the outside (NATS, keeper, files) runs on the other.
//!
//! Not for decisions about children (`logic`), nor for what people see (`cli`).

mod adoption;
pub mod agents;
pub mod beats;
pub mod build;
mod connection_watch;
pub mod coordinator;
pub mod downstreams;
pub mod error;
mod exporter;
pub mod handler;
pub mod insight;
pub mod lock;
pub mod logs;
mod nodes;
pub mod registry;
pub mod reload;
pub mod remotes;
pub mod services;
pub mod settings;
pub mod sinks;
mod snapshots;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actors::tree::Tree;
use crate::config::{Environment, Loaded};
use crate::daemon::build::Plan;
use crate::daemon::connection_watch::ConnectionWatch;
use crate::daemon::error::DaemonError;
use crate::daemon::handler::TreeHandler;
use crate::daemon::lock::StateLock;
use crate::daemon::snapshots::Snapshots;
use crate::protocol::event::Envelope;
use crate::protocol::exit::ChildExit;
use crate::runtimes::keeper::Owner;

/// Longest time for an orderly shutdown. Each child has a deadline of its own; this one stands
/// behind their sum.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);

/// Threads of the runtime that talks to the outside.
const OUTSIDE_THREADS: usize = 2;

/// Sees every event as it is raised; must return at once.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Envelope) + Send + Sync>);

impl Observer {
    /// Wraps a function.
    pub fn new(see: impl Fn(&Envelope) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    /// Shows an event.
    pub fn see(&self, event: &Envelope) {
        (self.0)(event);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// What the daemon is started with.
#[derive(Debug)]
pub struct Options {
    /// The checked configuration.
    pub config: Loaded,
    /// The environment it was read with.
    pub environment: Environment,
    /// Sees every event as it is raised.
    pub observer: Option<Observer>,
    /// Cancelled by the caller to stop the daemon as SIGTERM does.
    pub stop: CancellationToken,
    /// Told once the whole tree is up.
    pub ready: Option<oneshot::Sender<()>>,
}

impl Options {
    /// Options with nothing but a configuration.
    #[must_use]
    pub fn new(config: Loaded, environment: Environment) -> Self {
        Self { config, environment, observer: None, stop: CancellationToken::new(), ready: None }
    }
}

/// Runs the daemon until it is told to stop (SIGTERM, SIGINT, `system.control`, `stop`) or cannot
/// go on. Blocks the calling thread.
///
/// # Errors
///
/// [`DaemonError`] says what is missing and what to do; everything started is stopped again.
pub fn run(options: Options) -> Result<(), DaemonError> {
    let config = &options.config.config;
    exporter::install();
    let _lock = StateLock::take(&config.provost.state_dir, config.provost.node.as_str())?;
    let outside = Builder::new_multi_thread()
        .worker_threads(OUTSIDE_THREADS)
        .thread_name("provost-outside")
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System { what: "cannot start threads", source })?;
    let stop = options.stop.clone();
    let handler = Arc::new(OnceLock::new());
    let signals = watch_signals(outside.handle(), &stop, Arc::clone(&handler))?;
    let upkeep = outside.spawn(exporter::upkeep());
    let plan = outside.block_on(Plan::make(&options, outside.handle()))?;
    let known = handler.set(Arc::clone(&plan.handler)).is_ok();
    debug_assert!(known, "set once");
    let (keeper, launched) = (plan.keeper.clone(), plan.launched.clone());
    let reaping = adoption::reap_orphans(outside.handle(), keeper.clone())?;
    let wanted = Arc::clone(&plan.wanted);
    let is_wanted = move |owner: &Owner| wanted.contains(&owner.name);
    let ending = adoption::end_unclaimed(outside.handle(), keeper, is_wanted);
    let ended = supervise(plan, options.ready, stop);
    ending.abort();
    // Only if the tree was stopped before the keeper had its place in it.
    outside.block_on(launched.shut_down());
    reaping.abort();
    signals.abort();
    upkeep.abort();
    outside.shutdown_timeout(Duration::from_secs(5));
    ended
}

/// SIGTERM and SIGINT stop the daemon; SIGHUP reads the configuration again.
fn watch_signals(
    outside: &Handle,
    stop: &CancellationToken,
    handler: Arc<OnceLock<Arc<TreeHandler>>>,
) -> Result<JoinHandle<()>, DaemonError> {
    let _context = outside.enter();
    let failed = |source| DaemonError::System { what: "cannot watch signals", source };
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hup = signal(SignalKind::hangup()).map_err(failed)?;
    let stop = stop.clone();
    // Aborted by the caller when the daemon ends.
    Ok(outside.spawn(async move {
        loop {
            // Receiving a signal is cancel safe.
            tokio::select! {
                _ = term.recv() => stop.cancel(),
                _ = int.recv() => stop.cancel(),
                _ = hup.recv() => match handler.get() {
                    _ if stop.is_cancelled() => {
                        tracing::warn!("SIGHUP while stopping: nothing is reloaded");
                    }
                    Some(handler) => handler.reload_on_signal(),
                    None => tracing::warn!("SIGHUP while starting: what is read now counts"),
                },
            }
        }
    }))
}

/// Runs the tree on a thread of its own until it is told to stop or ends by itself.
fn supervise(
    plan: Plan,
    ready: Option<oneshot::Sender<()>>,
    stop: CancellationToken,
) -> Result<(), DaemonError> {
    let failed =
        |source| DaemonError::System { what: "cannot start the supervision thread", source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let supervision = thread::Builder::new().name("provost-supervision".to_owned());
    let running =
        supervision.spawn(move || runtime.block_on(live(plan, ready, stop))).map_err(failed)?;
    running.join().unwrap_or_else(|_panic| {
        let message = "the supervision thread panicked".to_owned();
        Err(DaemonError::Ended(ChildExit::Panicked { message }))
    })
}

async fn live(
    plan: Plan,
    ready: Option<oneshot::Sender<()>>,
    stop: CancellationToken,
) -> Result<(), DaemonError> {
    let Plan { tree, handle, slot, .. } = plan;
    let ports = handle.ports();
    let (board, sink) = (Arc::clone(&ports.board), Arc::clone(&ports.sink));
    let mut snapshots = Snapshots::new(board, sink, tree.supervisor.name.clone());
    let nats = nodes::own("nats")?;
    let mut connection = ConnectionWatch::new(&slot, Arc::clone(&ports.sink), nats);
    let starting = Tree::start_under(tree, handle);
    tokio::pin!(starting);
    let mut tree = tokio::select! {
        // Pinned outside: a stop while starting drops it below, which kills what was started.
        tree = &mut starting => tree.map_err(DaemonError::Tree)?,
        () = stop.cancelled() => return Ok(()),
    };
    if let Some(ready) = ready
        && ready.send(()).is_err()
    {
        tracing::debug!("nobody waits for the daemon to be ready");
    }
    tracing::info!("daemon is up");
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Cancel safe: the end is kept in the channel.
            exit = tree.ended() => return Err(DaemonError::Ended(exit)),
            // Cancel safe: a change that is not taken now is there the next time.
            () = connection.changed() => connection.look(),
            // Cancel safe: only time passes. What is drawn up here, on the thread of supervision,
            // does not change meanwhile.
            () = snapshots.due() => snapshots.tell().await,
        }
    }
    tracing::info!("daemon stops");
    if tree.shutdown(SHUTDOWN_LIMIT).await {
        Ok(())
    } else {
        Err(DaemonError::Overdue { limit_s: SHUTDOWN_LIMIT.as_secs() })
    }
}
