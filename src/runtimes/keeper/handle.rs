//! One run: what it is begun with, how one from before is claimed instead, and the handle on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::ports::RunOrigin;
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::spec::{OnDaemonExit, SignalName, StopSpec};
use crate::protocol::status::Containment;
use crate::runtimes::keeper::desk::{Begun, Desk, Taken, Waits};
use crate::runtimes::keeper::inbox::Stdio;
use crate::runtimes::keeper::wire::{Confines, IoMode, LogSettings, Owner, RunId, Start};

/// Longest time from the request to a running program; a loaded machine needs milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that an earlier run of the same child has to stop before it is killed.
const MAKE_WAY_MAX: Duration = Duration::from_secs(15);

/// All that a run is begun with. Nothing is added to it: the environment is the whole one.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessRun {
    /// Program and arguments. A program without a slash is searched on `PATH` of `env`, one with a
    /// relative path is looked up in `cwd`.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// Where standard output and error go.
    pub log: LogSettings,
    /// Stop signal and grace.
    pub stop: StopSpec,
    /// File mode mask; the daemon's own if none.
    pub umask: Option<u32>,
    /// Names of entries of `env` whose values together no other run has. By them the keeper knows
    /// processes of this run that left its session. Without marks it knows those only that it
    /// happened to see while their parents lived.
    pub marks: Vec<String>,
    /// What its processes may use, and who they are.
    pub confines: Confines,
    /// Whose run it is. One that nobody owns is never adopted.
    pub owner: Option<Owner>,
    /// What becomes of it when the daemon is killed. A run that is to end with the daemon ends
    /// with the keeper, too.
    pub on_daemon_exit: OnDaemonExit,
    /// What standard input, output and error are. A run whose output the keeper reads ends with the
    /// keeper.
    pub io: IoMode,
    /// Number of the run, for the index of its log; 0 when it has none.
    pub generation: u64,
}

impl ProcessRun {
    /// A run with an empty environment in the root directory, that ends with the daemon.
    #[must_use]
    pub fn new(command: Vec<String>, log_file: PathBuf) -> Self {
        Self {
            command,
            env: BTreeMap::new(),
            cwd: PathBuf::from("/"),
            log: LogSettings::new(log_file),
            stop: StopSpec::default(),
            umask: None,
            marks: Vec::new(),
            confines: Confines::default(),
            owner: None,
            on_daemon_exit: OnDaemonExit::Stop,
            io: IoMode::default(),
            generation: 0,
        }
    }
}

/// A run under way. Dropping it kills the run and everything that belongs to it.
#[derive(Debug)]
pub struct ProcessHandle {
    desk: Arc<Desk>,
    run: RunId,
    begun: Begun,
    stop_signal: SignalName,
    exited: oneshot::Receiver<ChildExit>,
    exit: Option<ChildExit>,
    killed: bool,
    origin: RunOrigin,
    containment: Option<Containment>,
    settings: Option<u64>,
    stdio: Stdio,
}

impl ProcessHandle {
    /// Messages from and to a run of mode [`IoMode::Lines`].
    #[must_use]
    pub fn stdio(&self) -> &Stdio {
        &self.stdio
    }

    /// Process id of the main process, which is also the number of its group and session.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.begun.pid
    }

    /// Start time of the main process in clock ticks since boot. With the pid it names the process
    /// for good.
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.begun.start_time
    }

    /// Whether it was begun now or lived before.
    #[must_use]
    pub fn origin(&self) -> RunOrigin {
        self.origin
    }

    /// What holds its processes together, if that is less than what holds runs usually: the keeper does
    /// not inherit the orphans of a run that an earlier keeper had begun.
    #[must_use]
    pub fn containment(&self) -> Option<Containment> {
        self.containment
    }

    /// What stood for the settings that the run was begun with, if it has an owner.
    #[must_use]
    pub fn settings(&self) -> Option<u64> {
        self.settings
    }

    /// Waits for the end of the run: its main process has ended and nothing else of it is left.
    ///
    /// Gives `Exited`, `Signaled`, or `Lost` when the keeper was lost.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the exit is kept and every later call returns it.
    pub async fn exited(&mut self) -> ChildExit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        // Cancel safe: the receiver stays, and holds the value until it is polled.
        let exit = (&mut self.exited).await.unwrap_or_else(|_closed| ChildExit::Lost {
            message: "the keeper's link was closed".to_owned(),
        });
        self.exit = Some(exit.clone());
        self.desk.acknowledge(self.run);
        exit
    }

    /// Sends a signal to the run's process group; returns at once.
    pub fn signal(&mut self, signal: SignalName) {
        if self.exit.is_none() {
            self.desk.signal(self.run, signal);
        }
    }

    /// Sends the stop signal to the run's process group; returns at once.
    pub fn ask_to_stop(&mut self) {
        self.signal(self.stop_signal);
    }

    /// Kills the run and everything that belongs to it; returns at once.
    pub fn kill(&mut self) {
        if self.exit.is_none() && !self.killed {
            self.killed = true;
            self.desk.signal(self.run, SignalName::Kill);
        }
    }

    /// A run from before.
    pub(super) fn taken(desk: Arc<Desk>, taken: Taken) -> Self {
        let Taken { record, exited, inbox } = taken;
        let stdio = Stdio::new(Arc::clone(&desk), record.run, inbox);
        Self {
            desk,
            run: record.run,
            begun: Begun { pid: record.pid, start_time: record.start_time },
            stop_signal: record.stop_signal,
            exited,
            exit: None,
            killed: false,
            origin: RunOrigin::Adopted,
            containment: (!record.is_child && record.group.is_none()).then_some(Containment::Group),
            settings: record.owner.map(|owner| owner.settings),
            stdio,
        }
    }

    /// Ends a run that stands in the way of the next one of its child, or that nobody wants.
    pub(super) async fn make_way(mut self) {
        self.ask_to_stop();
        if tokio::time::timeout(MAKE_WAY_MAX, self.exited()).await.is_err() {
            self.kill();
            self.exited().await;
        }
    }
}

impl Drop for ProcessHandle {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.desk.abandon(self.run);
        }
    }
}

/// Kills a run whose start nobody waits for any more.
#[derive(Debug)]
struct Abandon {
    desk: Arc<Desk>,
    run: Option<RunId>,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.desk.abandon(run);
        }
    }
}

/// Begins a run on a keeper, or gives the one that its owner has already. Earlier runs of the same
/// child that are not wanted are ended first.
pub(super) async fn start(desk: Arc<Desk>, run: ProcessRun) -> Result<ProcessHandle, StartError> {
    let claimed = run.owner.as_ref().map(|owner| desk.claim(owner)).unwrap_or_default();
    let own = claimed.own.map(|taken| ProcessHandle::taken(Arc::clone(&desk), taken));
    for other in claimed.others {
        let (pid, ends) = (other.record.pid, other.record.ends_with_daemon());
        tracing::info!(pid, ends_with_daemon = ends, "an earlier run of the same child is ended");
        ProcessHandle::taken(Arc::clone(&desk), other).make_way().await;
    }
    match own {
        Some(handle) => Ok(handle),
        None => begin(desk, run).await,
    }
}

async fn begin(desk: Arc<Desk>, run: ProcessRun) -> Result<ProcessHandle, StartError> {
    let ProcessRun { command, env, cwd, log, stop, umask, marks, confines, .. } = run;
    let ProcessRun { owner, on_daemon_exit, io, generation, .. } = run;
    let program = command.first().cloned().unwrap_or_default();
    let stop_signal = stop.signal;
    let grace_ms = u64::try_from(stop.grace.as_millis()).unwrap_or(u64::MAX);
    let settings = owner.as_ref().map(|owner| owner.settings);
    let build = |run| Start {
        run,
        command,
        env,
        cwd,
        log,
        stop_signal,
        grace_ms,
        umask,
        marks,
        confines,
        owner,
        on_daemon_exit,
        io,
        generation,
    };
    let Waits { run, started, exited, inbox } = desk.begin(&program, build)?;
    let mut abandon = Abandon { desk: Arc::clone(&desk), run: Some(run) };
    let begun = tokio::time::timeout(START_TIMEOUT, started).await;
    let begun = match begun {
        Ok(Ok(Ok(begun))) => begun,
        Ok(Ok(Err(error))) => {
            abandon.run = None;
            return Err(error);
        }
        Ok(Err(_closed)) => {
            let message = "the keeper's link was closed".to_owned();
            return Err(StartError::Refused { message });
        }
        Err(_elapsed) => {
            let timeout_ms = u64::try_from(START_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
            return Err(StartError::Timeout { timeout_ms });
        }
    };
    abandon.run = None;
    let stdio = Stdio::new(Arc::clone(&desk), run, inbox);
    Ok(ProcessHandle {
        desk,
        run,
        begun,
        stop_signal,
        exited,
        exit: None,
        killed: false,
        origin: RunOrigin::Begun,
        containment: None,
        settings,
        stdio,
    })
}
