//! Runs with probes: any runtime, with somebody who looks, listens and sentences.
//!
//! [`Probed`] stands around another runtime. What is asked when, and what the answers amount to, is
//! decided by [`crate::logic::health`]; here the looking is done, in tasks that the run owns:
//! `http` and `tcp` connections of one use each, `exec` commands through the keeper in the agent's
//! environment, the notify socket, beats, and a look at the log file for output.
//!
//! A sentenced run is asked to stop with its stop signal and killed after its grace, and its end is
//! told as what it was sentenced for. (systemd sends SIGABRT after a missed watchdog, for a core
//! file; here the stop signal of the agent is sent, which may be SIGQUIT for that.) When somebody
//! else has asked it to stop before that, its end is told as it is.
//!
//! Not for metrics of processes, and not for limits: those are the runtime's below.

mod beats;
mod exec;
mod http;
mod look;
mod notify;
mod output;
mod run;
mod started;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::logic::health;
use crate::ports::{AgentRuntime, BoxFuture, JitterSource, RunningAgent};
use crate::protocol::care::{ProbeCheck, ProbesSpec};
use crate::protocol::exit::StartError;
use crate::protocol::id::Generation;
use crate::protocol::spec::AgentSpec;
use crate::runtimes::keeper::KeeperSlot;
use crate::runtimes::probed::notify::NotifySocket;
use crate::runtimes::probed::output::OutputWatch;
use crate::runtimes::probed::run::{Ears, ProbedRun};
use crate::runtimes::process::ProcessSettings;

pub use crate::runtimes::probed::beats::{BeatFeed, Beats, Heartbeat};
pub use crate::runtimes::probed::notify::NotifyAddress;

/// Commands of exec probes that run at a time, of all agents together. More wait for their turn,
/// and the wait is no time of theirs.
pub const EXEC_PROBES_MAX: usize = 32;

/// What the probes of one agent are carried out with.
#[derive(Clone, Debug)]
pub struct ProbedSettings {
    /// The agent, and the environment that its commands run in.
    pub process: ProcessSettings,
    /// Runs the commands of exec probes.
    pub keeper: KeeperSlot,
    /// Folder for notify sockets, output of exec probes, and marks of started runs.
    pub state_dir: PathBuf,
    /// Where beats come from; without it probes by beat hear nothing.
    pub beats: Option<Arc<dyn Beats>>,
    /// Spreads the first probes of adopted runs.
    pub jitter: Arc<dyn JitterSource>,
    /// Bounds the commands that run at a time; shared by all agents.
    pub commands: Arc<Semaphore>,
}

/// Runs an agent, and its probes with it.
#[derive(Clone, Debug)]
pub struct Probed {
    inner: Arc<dyn AgentRuntime>,
    settings: Arc<ProbedSettings>,
}

impl Probed {
    /// The runtime `inner` with the probes of the agent in `settings`.
    #[must_use]
    pub fn new(inner: Arc<dyn AgentRuntime>, settings: ProbedSettings) -> Self {
        Self { inner, settings: Arc::new(settings) }
    }

    /// Whether the agent has any probe.
    #[must_use]
    pub fn is_needed(probes: &ProbesSpec) -> bool {
        health::listens_to(probes, |_| true)
    }
}

impl ProbedSettings {
    fn agent(&self) -> &AgentSpec {
        &self.process.spec
    }
}

/// Variables that tell an agent where to notify to, and how often; empty for one without such
/// probes. They are the same for every run, so that an adopted run is heard by the next daemon.
#[must_use]
pub fn notify_variables(agent: &AgentSpec, state_dir: &std::path::Path) -> Vec<(String, String)> {
    let probes = &agent.care.probes;
    if !health::listens_to(probes, |check| *check == ProbeCheck::Notify) {
        return Vec::new();
    }
    let address = NotifyAddress::of(agent, state_dir);
    let mut variables = vec![("NOTIFY_SOCKET".to_owned(), address.to_string())];
    if let Some(span) = health::watchdog_of(probes) {
        variables.push(("WATCHDOG_USEC".to_owned(), span.as_micros().to_string()));
    }
    variables
}

impl AgentRuntime for Probed {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let (inner, settings) = (Arc::clone(&self.inner), Arc::clone(&self.settings));
        Box::pin(async move {
            let agent = settings.agent();
            let hears = |wanted: &ProbeCheck| {
                health::listens_to(&agent.care.probes, |check| check == wanted)
            };
            // Before the start: a run may speak in its first moment.
            let notify = if hears(&ProbeCheck::Notify) {
                let address = NotifyAddress::of(agent, &settings.state_dir);
                let bound = NotifySocket::bind(address, agent.agent_id.clone());
                Some(bound.map_err(|error| StartError::Failed { message: error.to_string() })?)
            } else {
                None
            };
            let beats = settings.beats.as_ref().filter(|_| hears(&ProbeCheck::Beat));
            let beats = beats.map(|beats| beats.listen(&agent.agent_id));
            let log = &settings.process.log.file;
            let output = OutputWatch::of(&agent.care.probes, log, Instant::now()).await;
            // Cancel safe as the inner start is: what was bound goes with this future.
            let running = inner.start(generation).await?;
            let run =
                ProbedRun::begin(Arc::clone(&settings), running, Ears { notify, beats, output })
                    .await;
            Ok(Box::new(run) as Box<dyn RunningAgent>)
        })
    }

    fn start_timeout(&self) -> Option<Duration> {
        self.inner.start_timeout()
    }
}
