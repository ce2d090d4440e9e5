//! Carries out commands over the tree: `ports::CommandHandler` for `agent.command` and
//! `system.control`.
//!
//! Every answer is typed; a command is done whole or refused whole. Places of the pool and names
//! are taken under one lock before anything is started, so that of commands at the same time only
//! one gets the last place.

mod agents;
mod refusals;
mod route;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::actors::tree::TreeHandle;
use crate::board::Entry;
use crate::daemon::agents::AgentMaker;
use crate::daemon::coordinator::Questions;
use crate::daemon::handler::refusals::{no_alerts, refused, stopping, unknown};
use crate::daemon::insight::watch::{AlertAsk, AlertDesk};
use crate::daemon::reload::Reloader;
use crate::logic::restart::Call;
use crate::ports::{BoxFuture, CommandHandler, DownstreamCalls};
use crate::protocol::command::{
    AgentCommand, AgentRequest, Answer, CircuitRequest, CommandError, ControlCommand, ErrorKind,
    GRACE_MS_MAX, NatsStatus, SystemMode, TasksStatus,
};
use crate::protocol::id::{ChildName, NodeName};
use crate::protocol::status::AgentStatus;
use crate::web::Bound;

/// Tries to make a free name from a type's name.
const NAME_TRIES_MAX: usize = 100_000;

/// Reads how the connection to NATS is doing.
pub struct NatsReader(Box<dyn Fn() -> NatsStatus + Send + Sync>);

impl NatsReader {
    /// Wraps what reads it.
    pub fn new(read: impl Fn() -> NatsStatus + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl fmt::Debug for NatsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsReader")
    }
}

/// What the handler needs to know of the daemon.
#[derive(Debug)]
pub struct Facts {
    /// Node.
    pub node: NodeName,
    /// Since when the daemon runs.
    pub since: Timestamp,
    /// Switches.
    pub flags: BTreeMap<String, bool>,
    /// State folder.
    pub state_dir: PathBuf,
    /// Subject prefix.
    pub subject_prefix: String,
    /// The supervisor that takes agents spawned at run time.
    pub agents_supervisor: ChildName,
    /// How the connection to NATS is doing.
    pub nats: NatsReader,
    /// How coordination is doing.
    pub tasks: watch::Receiver<TasksStatus>,
    /// Where the coordinator is asked.
    pub questions: Questions,
    /// Where the HTTP server listens.
    pub http: Bound,
}

/// Carries out commands over one tree.
#[derive(Debug)]
pub struct TreeHandler {
    tree: TreeHandle,
    maker: AgentMaker,
    facts: Facts,
    /// Names being spawned, which take a place already.
    coming: Mutex<BTreeSet<ChildName>>,
    mode: Mutex<SystemMode>,
    shutdown: CancellationToken,
    downstreams: Option<Arc<dyn DownstreamCalls>>,
    alerts: Option<AlertDesk>,
    reloader: Option<Reloader>,
}

/// A place of the pool and a name, given back on drop.
#[derive(Debug)]
struct Place<'a> {
    handler: &'a TreeHandler,
    name: ChildName,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.handler.coming).remove(&self.name);
    }
}

type Outcome = Result<Answer, CommandError>;

impl CommandHandler for TreeHandler {
    fn agent_command(&self, command: AgentCommand) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if !matches!(
                command,
                AgentCommand::Status(_) | AgentCommand::Logs(_) | AgentCommand::List(_)
            ) && let Err(refused) = self.maker.check_change()
            {
                return refused.into();
            }
            let outcome = match command {
                AgentCommand::Spawn(request) => self.spawn(request).await,
                AgentCommand::Stop(request) => self.stop(&request).await,
                AgentCommand::Restart(request) => self.restart(&request).await,
                AgentCommand::Kill(request) => self.kill(&request),
                AgentCommand::Drain(request) => self.drain(&request),
                AgentCommand::Resume(request) => self.resume(&request).await,
                AgentCommand::Reset(request) => self.reset(&request).await,
                AgentCommand::Remove(request) => self.remove(&request).await,
                AgentCommand::Status(request) => self.status(&request),
                AgentCommand::Logs(request) => self.logs(&request).await,
                AgentCommand::List(_) => Ok(self.list()),
            };
            outcome.unwrap_or_else(Answer::from)
        })
    }

    fn control(&self, command: ControlCommand) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if !only_looks(&command)
                && let Err(refused) = self.maker.check_change()
            {
                return refused.into();
            }
            let outcome = match command {
                ControlCommand::Status(_) => Ok(self.system_and_files().await),
                ControlCommand::Tree(_) => Ok(self.whole_tree()),
                ControlCommand::Pause(_) => self.pause().await,
                ControlCommand::Resume(_) => self.resume_all().await,
                ControlCommand::Drain(_) => self.drain_all(),
                ControlCommand::Reload(request) => self.reload(request).await,
                ControlCommand::Shutdown(_) => Ok(self.begin_shutdown()),
                ControlCommand::Circuit(request) => self.circuit(&request).await,
                ControlCommand::Route(query) => self.route(query).await,
                ControlCommand::Alerts(_) => self.alert(AlertAsk::List).await,
                ControlCommand::Silence(request) => self.alert(AlertAsk::Silence(request)).await,
                ControlCommand::Unsilence(request) => {
                    self.alert(AlertAsk::Unsilence(request.id)).await
                }
                ControlCommand::ResolveAlert(request) => {
                    self.alert(AlertAsk::Resolve(request.id)).await
                }
            };
            outcome.unwrap_or_else(Answer::from)
        })
    }
}

impl TreeHandler {
    /// Builds the handler; `shutdown` is cancelled when somebody asks the daemon to stop.
    #[must_use]
    pub fn new(
        tree: TreeHandle,
        maker: AgentMaker,
        facts: Facts,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            tree,
            maker,
            facts,
            coming: Mutex::new(BTreeSet::new()),
            mode: Mutex::new(SystemMode::Running),
            shutdown,
            downstreams: None,
            alerts: None,
            reloader: None,
        }
    }

    /// The handler of a daemon that has downstreams: their circuits are theirs.
    #[must_use]
    pub fn with_downstreams(self, downstreams: Arc<dyn DownstreamCalls>) -> Self {
        Self { downstreams: Some(downstreams), ..self }
    }

    /// The handler of a daemon that raises alerts.
    #[must_use]
    pub fn with_alerts(self, alerts: Option<AlertDesk>) -> Self {
        Self { alerts, ..self }
    }

    async fn alert(&self, ask: AlertAsk) -> Outcome {
        match &self.alerts {
            Some(desk) => desk.ask(ask).await,
            None => Err(no_alerts()),
        }
    }

    /// The handler of a daemon that can read its configuration again.
    #[must_use]
    pub fn with_reloader(self, reloader: Reloader) -> Self {
        Self { reloader: Some(reloader), ..self }
    }

    async fn circuit(&self, request: &CircuitRequest) -> Outcome {
        let entry = self.find(&request.child)?;
        let name = entry.name.clone();
        let downstreams = self.downstreams.as_ref();
        if downstreams.and_then(|all| all.set_circuit(&name, request.set)).is_some() {
            return Ok(Answer::done());
        }
        let call = Call::SetCircuit(name.clone(), request.set);
        let why = "circuit set by hand";
        self.tree.call(&name, call, why).await.map_err(|error| refused(&error, &name))?;
        if entry.agent.is_some() { self.answer(&name) } else { Ok(Answer::done()) }
    }

    async fn call(&self, name: &ChildName, call: fn(ChildName) -> Call, why: String) -> Outcome {
        self.tree
            .call(name, call(name.clone()), why)
            .await
            .map_err(|error| refused(&error, name))?;
        self.answer(name)
    }

    fn enter(&self, mode: SystemMode) -> Result<(), CommandError> {
        let mut now = lock(&self.mode);
        if *now == SystemMode::Stopping {
            return Err(stopping());
        }
        *now = mode;
        Ok(())
    }

    fn check_mode(&self) -> Result<(), CommandError> {
        let mode = *lock(&self.mode);
        match mode {
            SystemMode::Running => Ok(()),
            SystemMode::Paused => Err(CommandError::new(
                ErrorKind::WrongState,
                "the daemon is paused and starts nothing new",
                "provost system resume",
            )),
            SystemMode::Draining => Err(CommandError::new(
                ErrorKind::WrongState,
                "the daemon drains and starts nothing new",
                "provost system resume",
            )),
            SystemMode::Stopping => Err(stopping()),
        }
    }

    /// The agent that a request names, with the request's bounds checked.
    fn agent(&self, request: &AgentRequest) -> Result<Entry, CommandError> {
        if let Some(grace_ms) = request.grace_ms.filter(|grace| GRACE_MS_MAX < *grace) {
            return Err(CommandError::new(
                ErrorKind::InvalidRequest,
                format!("grace_ms is {grace_ms}; at most {GRACE_MS_MAX} are allowed"),
                "give a shorter grace",
            ));
        }
        let entry = self.find(&request.agent)?;
        if entry.agent.is_none() {
            return Err(unknown(&request.agent, "it is a part of the daemon, not an agent"));
        }
        Ok(entry)
    }

    fn find(&self, name_or_id: &str) -> Result<Entry, CommandError> {
        let found = self.tree.board().find(name_or_id);
        found.ok_or_else(|| unknown(name_or_id, "no child has that name or id"))
    }

    fn answer(&self, name: &ChildName) -> Outcome {
        let entry = self.tree.board().get(name);
        let entry = entry.ok_or_else(|| unknown(name.as_str(), "it has just been removed"))?;
        Ok(Answer::agent(self.status_of(&entry)?))
    }

    fn status_of(&self, entry: &Entry) -> Result<AgentStatus, CommandError> {
        let status = entry.agent_status(&self.facts.node, now());
        status.ok_or_else(|| unknown(entry.name.as_str(), "it is not an agent"))
    }
}

/// Whether a command changes nothing.
fn only_looks(command: &ControlCommand) -> bool {
    match command {
        ControlCommand::Status(_)
        | ControlCommand::Tree(_)
        | ControlCommand::Route(_)
        | ControlCommand::Alerts(_) => true,
        ControlCommand::Reload(request) => request.dry_run,
        ControlCommand::Pause(_)
        | ControlCommand::Resume(_)
        | ControlCommand::Drain(_)
        | ControlCommand::Shutdown(_)
        | ControlCommand::Circuit(_)
        | ControlCommand::Silence(_)
        | ControlCommand::Unsilence(_)
        | ControlCommand::ResolveAlert(_) => false,
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
