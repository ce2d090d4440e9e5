//! One run: what it is begun with, and the handle on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::spec::{SignalName, StopSpec};
use crate::runtimes::keeper::link::{Begun, Link, Waits};
use crate::runtimes::keeper::wire::{Confines, LogSettings, RunId, Start, ToKeeper};

/// Longest time from the request to a running program; a loaded machine needs milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);

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
}

impl ProcessRun {
    /// A run with an empty environment in the root directory.
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
        }
    }
}

/// A run under way. Dropping it kills the run and everything that belongs to it.
#[derive(Debug)]
pub struct ProcessHandle {
    link: Arc<Link>,
    run: RunId,
    begun: Begun,
    stop_signal: SignalName,
    exited: oneshot::Receiver<ChildExit>,
    exit: Option<ChildExit>,
    killed: bool,
}

impl ProcessHandle {
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
        exit
    }

    /// Sends a signal to the run's process group; returns at once.
    pub fn signal(&mut self, signal: SignalName) {
        if self.exit.is_none() {
            self.link.command(&ToKeeper::Signal { run: self.run, signal });
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
            self.link.command(&ToKeeper::Kill { run: self.run });
        }
    }
}

impl Drop for ProcessHandle {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a run whose start nobody waits for any more.
#[derive(Debug)]
struct Abandon {
    link: Arc<Link>,
    run: Option<RunId>,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.link.command(&ToKeeper::Kill { run });
        }
    }
}

/// Begins a run on a keeper.
pub(super) async fn start(link: Arc<Link>, run: ProcessRun) -> Result<ProcessHandle, StartError> {
    let ProcessRun { command, env, cwd, log, stop, umask, marks, confines } = run;
    let program = command.first().cloned().unwrap_or_default();
    let values = marks.iter().filter_map(|name| Some(format!("{name}={}", env.get(name)?)));
    let values: Vec<String> = values.collect();
    let stop_signal = stop.signal;
    let grace_ms = u64::try_from(stop.grace.as_millis()).unwrap_or(u64::MAX);
    let build = |run| {
        let start =
            Start { run, command, env, cwd, log, stop_signal, grace_ms, umask, marks, confines };
        ToKeeper::Start(Box::new(start))
    };
    let Waits { run, started, exited } = link.begin(&program, values, build)?;
    let mut abandon = Abandon { link: Arc::clone(&link), run: Some(run) };
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
    Ok(ProcessHandle { link, run, begun, stop_signal, exited, exit: None, killed: false })
}
