//! Agents that take tasks and give results as JSON lines on standard input and output.
//!
//! A run is a process of the keeper, which has its pipes: the agent is never held up by the daemon,
//! and what it says while no daemon is there is not lost. It is running once its program executes
//! (probes may say otherwise), and what it beats shows in its health.
//!
//! A stop is told three times, each time less kindly: the line `{"op":"stop"}` with the end of
//! standard input at once; the stop signal after half the grace; and at the end of the grace the
//! worker kills the run.
//!
//! Lines that are no messages never end a run: they are counted and said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::logic::beats::{BeatWatch, Verdict};
use crate::ports::{
    AgentChannel, AgentRuntime, BoxFuture, ChannelError, RunFace, RunHealth, RunNews, RunningAgent,
};
use crate::protocol::agent::{Beat, BeatState, FromAgent, MESSAGE_BYTES_MAX, ToAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::status::{HealthStatus, Readiness};
use crate::runtimes::channels::{AgentChannels, Registration};
use crate::runtimes::exit_of;
use crate::runtimes::keeper::{IoMode, KeeperSlot, Stdio};
use crate::runtimes::process::{ProcessSettings, RunningProcess};

/// Runs one agent as a process that speaks lines.
#[derive(Clone, Debug)]
pub struct StdioRuntime {
    keeper: KeeperSlot,
    settings: ProcessSettings,
    channels: AgentChannels,
}

impl StdioRuntime {
    /// A runtime that starts on the keeper of the moment and puts the channel of each run in its
    /// place.
    #[must_use]
    pub fn new(keeper: KeeperSlot, settings: ProcessSettings, channels: AgentChannels) -> Self {
        let settings = ProcessSettings { io: IoMode::Lines, ..settings };
        Self { keeper, settings, channels }
    }
}

impl AgentRuntime for StdioRuntime {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let Self { keeper, settings, channels } = self.clone();
        Box::pin(async move {
            let process = keeper.start(settings.prepared(generation).await?).await?;
            let stdio = process.stdio().clone();
            let process = RunningProcess::new(process, &settings);
            let spec = settings.spec;
            let channel = StdioChannel::new(spec.name.clone(), stdio.clone());
            let registration = channels.enter((&spec, generation), Arc::new(channel));
            let running = RunningStdio {
                process,
                stdio,
                grace: spec.stop.grace,
                signal_at: None,
                beats: None,
                told: RunHealth::default(),
                registration,
                name: spec.name,
            };
            Ok(Box::new(running) as Box<dyn RunningAgent>)
        })
    }
}

/// One run.
#[derive(Debug)]
struct RunningStdio {
    process: RunningProcess,
    stdio: Stdio,
    grace: Duration,
    /// When the stop signal is sent.
    signal_at: Option<Instant>,
    /// Known once it has beaten.
    beats: Option<(BeatWatch, BeatState)>,
    /// Health as it was told last.
    told: RunHealth,
    registration: Registration,
    name: ChildName,
}

impl RunningStdio {
    fn on_beat(&mut self, line: &str) {
        let now = Instant::now().into_std();
        match Beat::parse(line.as_bytes()) {
            Ok(Beat { every_ms, state, .. }) => {
                let every = Duration::from_millis(every_ms);
                let (watch, said) = self.beats.get_or_insert((BeatWatch::new(now, every), state));
                watch.on_beat(now, every);
                *said = state;
            }
            Err(error) => tracing::warn!(agent = %self.name, %error, "a beat is not understood"),
        }
    }

    /// What its beats say of it; nothing if it does not beat.
    fn health(&self) -> Option<RunHealth> {
        let (watch, state) = self.beats.as_ref()?;
        let now = Instant::now().into_std();
        Some(match (watch.verdict(now), state) {
            (Verdict::Fresh, state) => health_of(*state),
            (Verdict::Suspect | Verdict::Dead, _) => RunHealth {
                status: HealthStatus::Degraded,
                readiness: Readiness::NotReady,
                message: format!("no beat for {:.1} s", watch.silence(now).as_secs_f64()),
            },
        })
    }

    /// News of its health, if there are any.
    fn health_news(&mut self) -> Option<RunNews> {
        let health = self.health()?;
        let same = health.status == self.told.status && health.readiness == self.told.readiness;
        if same {
            return None;
        }
        self.told = health.clone();
        Some(RunNews::Health(health))
    }

    fn deadline(&self) -> Option<Instant> {
        let (watch, _) = self.beats.as_ref()?;
        watch.deadline(Instant::now().into_std()).map(Instant::from_std)
    }
}

/// Health and readiness that a beat tells.
pub(crate) fn health_of(state: BeatState) -> RunHealth {
    let (readiness, message) = match state {
        BeatState::Starting => (Readiness::Starting, "it says that it is starting"),
        BeatState::Ready => (Readiness::Ready, ""),
        BeatState::Draining => (Readiness::NotReady, "it says that it is draining"),
    };
    RunHealth { status: HealthStatus::Healthy, readiness, message: message.to_owned() }
}

/// Sleeps until the time, or for ever when there is none.
pub(crate) async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl RunningStdio {
    /// Lives on until there is news.
    async fn live(&mut self) -> RunNews {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                biased;
                // Cancel safe: the exit is kept.
                exit = self.process.exited() => return RunNews::Exited(exit),
                // Cancel safe: the time stays in this state.
                () = sleep_until_some(self.signal_at) => {
                    self.signal_at = None;
                    self.process.ask_to_stop();
                }
                // Cancel safe by its word.
                line = self.stdio.beat() => self.on_beat(&line),
                // Cancel safe: the deadline follows from this state.
                () = sleep_until_some(deadline) => {}
            }
            if let Some(news) = self.health_news() {
                return news;
            }
        }
    }
}

impl RunningAgent for RunningStdio {
    fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(exit_of(self))
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(self.live())
    }

    fn face(&self) -> RunFace {
        self.process.face()
    }

    fn ask_to_stop(&mut self) {
        let grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        // An agent that takes nothing any more gets the signal all the same.
        let told = self.registration.channel().send(&ToAgent::Stop { grace_ms });
        self.stdio.close();
        self.process.expect_stop();
        let wait = if told.is_ok() { self.grace / 2 } else { Duration::ZERO };
        self.signal_at.get_or_insert(Instant::now() + wait);
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn measure(&mut self) -> HealthMetrics {
        self.process.measure()
    }
}

/// The lines of one run.
#[derive(Debug)]
struct StdioChannel {
    name: ChildName,
    stdio: Stdio,
    malformed: AtomicU64,
}

impl StdioChannel {
    fn new(name: ChildName, stdio: Stdio) -> Self {
        Self { name, stdio, malformed: AtomicU64::new(0) }
    }

    async fn next_message(&self) -> Option<FromAgent> {
        loop {
            // Cancel safe by its word.
            let line = self.stdio.receive().await?;
            if let Some(message) = self.understood(&line) {
                return Some(message);
            }
        }
    }

    /// The message of a line; one that is none is counted and said.
    fn understood(&self, line: &str) -> Option<FromAgent> {
        let error = match FromAgent::parse(line.as_bytes()) {
            Ok(message) => return Some(message),
            Err(error) => error,
        };
        let count = self.malformed.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // The first ones help to find the fault, the others only fill the log.
        if count.is_power_of_two() {
            tracing::warn!(agent = %self.name, %error, count, "a message is not understood");
        }
        None
    }
}

impl AgentChannel for StdioChannel {
    fn send(&self, message: &ToAgent) -> Result<(), ChannelError> {
        let line = message.line();
        // The line end does not count.
        let bytes = line.len().saturating_sub(1);
        if bytes > MESSAGE_BYTES_MAX {
            return Err(ChannelError::TooLong { bytes, bound: MESSAGE_BYTES_MAX });
        }
        self.stdio.write(line)
    }

    fn receive(&self) -> BoxFuture<'_, Option<FromAgent>> {
        Box::pin(self.next_message())
    }
}
