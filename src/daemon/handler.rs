//! Carries out commands over the tree: `ports::CommandHandler` for `agent.command` and
//! `system.control`.
//!
//! Every answer is typed; a command is done whole or refused whole. Places of the pool and names
//! are taken under one lock before anything is started, so that of commands at the same time only
//! one gets the last place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::actors::tree::{Drain, TreeError, TreeHandle};
use crate::board::Entry;
use crate::daemon::agents::AgentMaker;
use crate::daemon::logs;
use crate::logic::restart::{Call, Refusal};
use crate::ports::{BoxFuture, CommandHandler};
use crate::protocol::command::{
    AgentCommand, AgentRequest, Answer, CircuitRequest, CommandError, ControlCommand, ErrorKind,
    GRACE_MS_MAX, LogsRequest, NatsStatus, SpawnRequest, SystemMode, SystemStatus,
};
use crate::protocol::id::{ChildName, NodeName};
use crate::protocol::status::{AgentState, AgentStatus};

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
            if !matches!(command, ControlCommand::Status(_) | ControlCommand::Tree(_))
                && let Err(refused) = self.maker.check_change()
            {
                return refused.into();
            }
            let outcome = match command {
                ControlCommand::Status(_) => Ok(self.system()),
                ControlCommand::Tree(_) => Ok(self.whole_tree()),
                ControlCommand::Pause(_) => self.pause().await,
                ControlCommand::Resume(_) => self.resume_all().await,
                ControlCommand::Drain(_) => self.drain_all(),
                ControlCommand::Reload(_) => Err(reload_refused()),
                ControlCommand::Shutdown(_) => Ok(self.begin_shutdown()),
                ControlCommand::Circuit(request) => self.circuit(&request).await,
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
        }
    }

    async fn spawn(&self, request: SpawnRequest) -> Outcome {
        self.check_mode()?;
        if let Some(node) = request.node.as_ref().filter(|node| **node != self.facts.node) {
            return Err(CommandError::new(
                ErrorKind::InvalidRequest,
                format!("node {node} is not this daemon's ({})", self.facts.node),
                "leave `node` out; starting agents on other nodes is not in this version",
            ));
        }
        self.maker.check(&request)?;
        let place = self.take_place(&request)?;
        let name = place.name.clone();
        let request = SpawnRequest { name: Some(name.clone()), ..request };
        let node = self.maker.make(&name, &request)?;
        self.maker.registry().spawned(&name, &request);
        let started = self.tree.start_child(&self.facts.agents_supervisor, node).await;
        if let Err(error) = started {
            self.maker.registry().removed(&name);
            return Err(refused(&error, &name));
        }
        self.answer(&name)
    }

    /// Takes a free name and a place, or says why there is none.
    fn take_place(&self, request: &SpawnRequest) -> Result<Place<'_>, CommandError> {
        let mut coming = lock(&self.coming);
        let board = self.tree.board();
        let taken = board.places_taken().saturating_add(coming.len());
        if self.maker.places_max() <= taken {
            return Err(CommandError::new(
                ErrorKind::PoolFull,
                format!(
                    "{taken} agents are there; at most {} are allowed",
                    self.maker.places_max()
                ),
                "stop or remove an agent, or raise `agents.max`",
            ));
        }
        let in_use = |name: &ChildName| {
            let ended = |entry: Entry| entry.state == AgentState::Terminated;
            coming.contains(name)
                || self.maker.is_reserved(name)
                || board.get(name).is_some_and(|entry| !ended(entry))
        };
        let name = match &request.name {
            Some(name) if in_use(name) => {
                return Err(CommandError::new(
                    ErrorKind::AlreadyExists,
                    format!("the name {name} is taken"),
                    "choose another name, or remove the agent that has it",
                ));
            }
            Some(name) => name.clone(),
            None => free_name(request, in_use)?,
        };
        coming.insert(name.clone());
        drop(coming);
        Ok(Place { handler: self, name })
    }

    async fn stop(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let name = entry.name;
        let grace = request.grace_ms.map(Duration::from_millis);
        let call = Call::TerminateChild(name.clone());
        let why = because("stopped on request", request);
        match grace {
            Some(grace) => self.tree.call_within(&name, call, why, grace).await,
            None => self.tree.call(&name, call, why).await,
        }
        .map_err(|error| refused(&error, &name))?;
        self.answer(&name)
    }

    async fn restart(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        self.check_mode()?;
        self.call(&entry.name, Call::BounceChild, because("restarted on request", request)).await
    }

    fn kill(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        if entry.pid.is_none() {
            return Err(wrong_state(&entry, "it does not run", "`status` shows what it waits for"));
        }
        self.tree.kill_run(&entry.name).map_err(|error| refused(&error, &entry.name))?;
        self.answer(&entry.name)
    }

    fn drain(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let why = because("draining", request);
        self.tree
            .set_draining(&entry.name, Drain::On, &why)
            .map_err(|error| refused(&error, &entry.name))?;
        self.answer(&entry.name)
    }

    async fn resume(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let why = because("resumed", request);
        if matches!(entry.state, AgentState::Stopped | AgentState::Created) {
            self.check_mode()?;
            let place = self.take_back(&entry)?;
            let outcome = self.call(&entry.name, Call::RestartChild, why).await;
            drop(place);
            return outcome;
        }
        self.tree
            .set_draining(&entry.name, Drain::Off, &why)
            .map_err(|error| refused(&error, &entry.name))?;
        self.answer(&entry.name)
    }

    /// A stopped agent that is started again needs a place of the pool again.
    fn take_back(&self, entry: &Entry) -> Result<Place<'_>, CommandError> {
        let mut coming = lock(&self.coming);
        let taken = self.tree.board().places_taken().saturating_add(coming.len());
        if !entry.state.takes_a_place() && self.maker.places_max() <= taken {
            return Err(CommandError::new(
                ErrorKind::PoolFull,
                format!(
                    "{taken} agents are there; at most {} are allowed",
                    self.maker.places_max()
                ),
                "stop or remove another agent, or raise `agents.max`",
            ));
        }
        coming.insert(entry.name.clone());
        drop(coming);
        Ok(Place { handler: self, name: entry.name.clone() })
    }

    async fn reset(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        self.call(&entry.name, Call::ResetChild, because("reset", request)).await
    }

    async fn remove(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let name = entry.name.clone();
        let mut status = self.status_of(&entry)?;
        if entry.state != AgentState::Terminated {
            let why = because("removed", request);
            let stop = self.tree.call(&name, Call::TerminateChild(name.clone()), why.clone()).await;
            if let Err(error) = stop.and(Ok(())) {
                ignore_missing(error, &name)?;
            }
            let gone = self.tree.call(&name, Call::DeleteChild(name.clone()), why).await;
            if let Err(error) = gone {
                ignore_missing(error, &name)?;
            }
        }
        self.tree.board().remove(&name);
        self.maker.registry().removed(&name);
        status.state = AgentState::Terminated;
        status.pid = None;
        status.next = None;
        "removed".clone_into(&mut status.reason);
        Ok(Answer::agent(status))
    }

    fn status(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        Ok(Answer::agent(self.status_of(&entry)?))
    }

    async fn logs(&self, request: &LogsRequest) -> Outcome {
        let entry = self.find(&request.agent)?;
        let file = self.maker.log_file(&entry.name);
        let lines = logs::read(file, request.lines, request.after).await?;
        Ok(Answer { logs: Some(lines), ..Answer::done() })
    }

    fn list(&self) -> Answer {
        let now = now();
        let status = |entry: &Entry| entry.agent_status(&self.facts.node, now);
        let agents = self.tree.board().agents().iter().filter_map(status).collect();
        Answer { agents: Some(agents), ..Answer::done() }
    }

    fn whole_tree(&self) -> Answer {
        let tree = self.tree.board().tree(self.tree.root(), now());
        Answer { tree: tree.map(Box::new), ..Answer::done() }
    }

    fn system(&self) -> Answer {
        let mut agents: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.tree.board().agents() {
            let count = agents.entry(entry.state.as_str().to_owned()).or_default();
            *count = count.saturating_add(1);
        }
        let system = SystemStatus {
            node: self.facts.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.facts.since,
            mode: *lock(&self.mode),
            agents,
            agents_max: u64::try_from(self.maker.places_max()).unwrap_or(u64::MAX),
            nats: (self.facts.nats.0)(),
            outbox: self.tree.ports().sink.status(),
            http: None,
            flags: self.facts.flags.clone(),
            state_dir: self.facts.state_dir.display().to_string(),
            subject_prefix: self.facts.subject_prefix.clone(),
        };
        Answer { system: Some(Box::new(system)), ..Answer::done() }
    }

    async fn pause(&self) -> Outcome {
        self.enter(SystemMode::Paused)?;
        self.tree.call_all(Call::Pause, "paused").await;
        Ok(self.system())
    }

    async fn resume_all(&self) -> Outcome {
        self.enter(SystemMode::Running)?;
        self.tree.call_all(Call::Resume, "resumed").await;
        for entry in self.tree.board().agents() {
            if let Err(error) = self.tree.set_draining(&entry.name, Drain::Off, "resumed") {
                tracing::debug!(child = %entry.name, %error, "not resumed");
            }
        }
        Ok(self.system())
    }

    fn drain_all(&self) -> Outcome {
        self.enter(SystemMode::Draining)?;
        for entry in self.tree.board().agents() {
            if let Err(error) = self.tree.set_draining(&entry.name, Drain::On, "daemon drains") {
                tracing::debug!(child = %entry.name, %error, "not drained");
            }
        }
        Ok(self.system())
    }

    fn begin_shutdown(&self) -> Answer {
        *lock(&self.mode) = SystemMode::Stopping;
        self.shutdown.cancel();
        self.system()
    }

    async fn circuit(&self, request: &CircuitRequest) -> Outcome {
        let entry = self.find(&request.child)?;
        let name = entry.name.clone();
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
        match *lock(&self.mode) {
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

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn free_name(
    request: &SpawnRequest,
    in_use: impl Fn(&ChildName) -> bool,
) -> Result<ChildName, CommandError> {
    let base: String = request.agent_type.as_str().chars().take(56).collect();
    let tries = (1..=NAME_TRIES_MAX).filter_map(|n| format!("{base}-{n}").parse().ok());
    tries.into_iter().find(|name| !in_use(name)).ok_or_else(|| {
        CommandError::new(
            ErrorKind::AlreadyExists,
            format!("no free name is left for type {}", request.agent_type),
            "give a `name`",
        )
    })
}

fn because(what: &str, request: &AgentRequest) -> String {
    match &request.reason {
        Some(reason) => {
            let reason: String = reason.chars().take(500).collect();
            format!("{what}: {reason}")
        }
        None => what.to_owned(),
    }
}

fn unknown(name: &str, why: &str) -> CommandError {
    let shown: String = name.chars().take(80).collect();
    CommandError::new(
        ErrorKind::UnknownAgent,
        format!("no agent {shown:?}: {why}"),
        "`list` shows all agents",
    )
}

fn wrong_state(entry: &Entry, why: &str, hint: &str) -> CommandError {
    let message = format!("{} is {}: {why}", entry.name, entry.state);
    CommandError::new(ErrorKind::WrongState, message, hint)
}

fn stopping() -> CommandError {
    let message = "the daemon is stopping";
    CommandError::new(ErrorKind::Unavailable, message, "start it again with `provost up`")
}

fn reload_refused() -> CommandError {
    CommandError::new(
        ErrorKind::Unavailable,
        "reload is not in this version",
        "check the file with `provost config validate`, then restart the daemon",
    )
}

/// A child that is gone already is as good as one that was stopped or deleted.
fn ignore_missing(error: TreeError, name: &ChildName) -> Result<(), CommandError> {
    match error {
        TreeError::NotFound(_) | TreeError::Refused(Refusal::NotFound) => Ok(()),
        other @ (TreeError::BadSpec(_)
        | TreeError::StartFailed(_)
        | TreeError::Refused(_)
        | TreeError::Gone) => Err(refused(&other, name)),
    }
}

/// A refusal of the tree as an answer.
fn refused(error: &TreeError, name: &ChildName) -> CommandError {
    let message = format!("{name}: {error}");
    let (kind, hint) = match error {
        TreeError::NotFound(_) | TreeError::Refused(Refusal::NotFound) => {
            (ErrorKind::WrongState, "it has ended for good; spawn a new agent")
        }
        TreeError::Refused(Refusal::AlreadyStarted | Refusal::AlreadyPresent) => {
            (ErrorKind::AlreadyExists, "choose another name")
        }
        TreeError::Refused(Refusal::Running) => {
            (ErrorKind::WrongState, "it runs already; use restart")
        }
        TreeError::Refused(Refusal::Restarting | Refusal::SimpleOneForOne) => {
            (ErrorKind::WrongState, "`status` shows what it waits for")
        }
        TreeError::Refused(Refusal::NoCircuit) => {
            (ErrorKind::WrongState, "parts of the daemon have no circuit")
        }
        TreeError::Refused(Refusal::ShuttingDown) | TreeError::Gone => {
            (ErrorKind::Unavailable, "try again in a moment")
        }
        TreeError::StartFailed(_) | TreeError::Refused(Refusal::StartFailed(_)) => {
            (ErrorKind::Unavailable, "check the type's `command` and `cwd`; see its logs")
        }
        TreeError::BadSpec(_) | TreeError::Refused(Refusal::BadSpec(_)) => {
            (ErrorKind::InvalidRequest, "check the type's settings")
        }
    };
    CommandError::new(kind, message, hint)
}
