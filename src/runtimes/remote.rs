//! Agents that somebody else starts: known by their beats, reached over NATS.
//!
//! A run begins when its supervisor starts it, and is `starting` until the first beat; that the
//! agent is away costs no restarts. Then it runs until it was silent for five of its beats (lost), or
//! until a beat tells of another instance: then another life of its program has begun, and with it
//! the next generation. Silence counts only while the connection to NATS is up.
//!
//! A stop is an order like any other: `{"op":"stop"}` on `agent.<id>.ctl`. The agent has stopped
//! when it is silent for two of its beats. It cannot be killed: a kill sends the order without
//! grace and forgets the run. When the daemon ends, nobody is told to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::logic::beats::{BeatWatch, DEAD_BEATS, Line, Verdict};
use crate::ports::{
    AgentChannel, AgentRuntime, BeatSink, BoxFuture, ChannelError, RemoteOrder, RunFace, RunHealth,
    RunNews, RunningAgent,
};
use crate::protocol::agent::{Beat, FromAgent, ToAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{AgentId, Generation};
use crate::protocol::spec::AgentSpec;
use crate::protocol::status::{HealthStatus, Readiness};
use crate::runtimes::channels::{AgentChannels, Registration};
use crate::runtimes::exit_of;
use crate::runtimes::stdio::{health_of, sleep_until_some};

/// Orders to remote agents that may wait for NATS; more are refused.
pub const ORDERS_MAX: usize = 1_024;

/// Beats of agents nobody knows that may wait; more are left out, since the next one comes soon.
pub const NEWCOMERS_MAX: usize = 64;

/// Missed beats after which an agent that was told to stop has stopped.
const STOPPED_BEATS: u32 = 2;

/// What was heard of an agent last.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// The beat and when it came.
    beat: Option<(Arc<Beat>, Instant)>,
    /// Counts beats from 1.
    number: u64,
}

/// Where beats arrive and orders leave. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Remotes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Mutex<BTreeMap<AgentId, Place>>,
    line: watch::Sender<Line>,
    newcomers: mpsc::Sender<Beat>,
    orders: mpsc::Sender<RemoteOrder>,
    /// Cancelled when the daemon ends.
    leaving: CancellationToken,
}

/// One agent that is expected.
#[derive(Debug)]
struct Place {
    heard: watch::Sender<Heard>,
    users: usize,
}

/// The other ends.
#[derive(Debug)]
pub struct RemoteEnds {
    /// Orders to be published.
    pub orders: mpsc::Receiver<RemoteOrder>,
    /// Beats of agents that nobody expects.
    pub newcomers: mpsc::Receiver<Beat>,
}

impl Heard {
    /// The last beat as a message.
    fn last(&self) -> Option<FromAgent> {
        self.beat.as_ref().map(|(beat, _)| FromAgent::Beat(beat.as_ref().clone()))
    }
}

impl Remotes {
    /// A place without agents. `leaving` is cancelled when the daemon ends.
    #[must_use]
    pub fn new(leaving: CancellationToken) -> (Self, RemoteEnds) {
        let (orders, order_inbox) = mpsc::channel(ORDERS_MAX);
        let (newcomers, newcomer_inbox) = mpsc::channel(NEWCOMERS_MAX);
        let places = Mutex::new(BTreeMap::new());
        let line = watch::Sender::new(Line::Down);
        let shared = Arc::new(Shared { places, line, newcomers, orders, leaving });
        (Self { shared }, RemoteEnds { orders: order_inbox, newcomers: newcomer_inbox })
    }

    fn expect(&self, agent: AgentId) -> Expected {
        let mut places = self.shared.places();
        let place = places
            .entry(agent.clone())
            .or_insert_with(|| Place { heard: watch::Sender::new(Heard::default()), users: 0 });
        place.users = place.users.saturating_add(1);
        let heard = place.heard.subscribe();
        drop(places);
        Expected { remotes: self.clone(), agent, heard, used: AtomicU64::new(0) }
    }

    fn order(&self, agent: &AgentId, message: &ToAgent) -> Result<(), ChannelError> {
        let order = RemoteOrder { agent: agent.clone(), message: message.clone() };
        self.shared.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                ChannelError::Full { waiting: ORDERS_MAX, bound: ORDERS_MAX, unit: "messages" }
            }
            mpsc::error::TrySendError::Closed(_) => ChannelError::Closed,
        })
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, BTreeMap<AgentId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BeatSink for Remotes {
    fn beat(&self, beat: Beat) {
        let places = self.shared.places();
        let Some(place) = places.get(&beat.id) else {
            drop(places);
            // With no room the next beat will find some.
            self.shared.newcomers.try_send(beat).ok();
            return;
        };
        let now = Instant::now();
        place.heard.send_modify(|heard| {
            heard.number = heard.number.saturating_add(1);
            heard.beat = Some((Arc::new(beat), now));
        });
    }

    fn line(&self, line: Line) {
        self.shared.line.send_if_modified(|present| std::mem::replace(present, line) != line);
    }
}

/// An agent that is expected, while this lives.
#[derive(Debug)]
struct Expected {
    remotes: Remotes,
    agent: AgentId,
    heard: watch::Receiver<Heard>,
    /// Number of the last beat that a run has seen: the next run begins with a later one.
    used: AtomicU64,
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut places = self.remotes.shared.places();
        if let Some(place) = places.get_mut(&self.agent) {
            place.users = place.users.saturating_sub(1);
            if place.users == 0 {
                places.remove(&self.agent);
            }
        }
    }
}

/// Follows one agent that is started elsewhere.
#[derive(Clone, Debug)]
pub struct RemoteRuntime {
    expected: Arc<Expected>,
    spec: Arc<AgentSpec>,
    channels: AgentChannels,
}

impl RemoteRuntime {
    /// A runtime for the agent of this spec. Its beats are expected from now on.
    #[must_use]
    pub fn new(remotes: &Remotes, spec: Arc<AgentSpec>, channels: AgentChannels) -> Self {
        let expected = Arc::new(remotes.expect(spec.agent_id.clone()));
        Self { expected, spec, channels }
    }

    /// The same, for an agent that has beaten just now.
    #[must_use]
    pub fn having_heard(self, beat: Beat) -> Self {
        self.expected.remotes.beat(beat);
        self
    }
}

impl AgentRuntime for RemoteRuntime {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let Self { expected, spec, channels } = self.clone();
        let over = CancellationToken::new();
        let channel = RemoteChannel {
            remotes: expected.remotes.clone(),
            agent: spec.agent_id.clone(),
            over: over.clone(),
            heard: tokio::sync::Mutex::new(expected.heard.clone()),
        };
        let registration = channels.enter((&spec, generation), Arc::new(channel));
        let running = RunningRemote {
            heard: expected.heard.clone(),
            line: expected.remotes.shared.line.subscribe(),
            expected,
            grace: spec.stop.grace,
            phase: Phase::Awaited,
            told: awaited(),
            stopping: false,
            end: None,
            over,
            _registration: registration,
        };
        Box::pin(std::future::ready(Ok(Box::new(running) as Box<dyn RunningAgent>)))
    }

    fn start_timeout(&self) -> Option<Duration> {
        None
    }
}

fn awaited() -> RunHealth {
    RunHealth {
        status: HealthStatus::Unknown,
        readiness: Readiness::Starting,
        message: "waits for its first beat".to_owned(),
    }
}

/// One run.
#[derive(Debug)]
struct RunningRemote {
    expected: Arc<Expected>,
    heard: watch::Receiver<Heard>,
    line: watch::Receiver<Line>,
    grace: Duration,
    phase: Phase,
    /// Health as it was told last.
    told: RunHealth,
    stopping: bool,
    end: Option<ChildExit>,
    over: CancellationToken,
    _registration: Registration,
}

#[derive(Debug)]
enum Phase {
    /// It has not beaten yet.
    Awaited,
    /// It has.
    Heard { beat: Arc<Beat>, watch: BeatWatch },
}

impl Drop for RunningRemote {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl RunningRemote {
    /// Looks at the last beat, if the run has not seen it.
    fn look(&mut self) {
        let Heard { beat, number } = self.heard.borrow_and_update().clone();
        let Some((beat, at)) = beat else { return };
        if number <= self.expected.used.load(Ordering::Relaxed) {
            return;
        }
        let every = Duration::from_millis(beat.every_ms);
        match &mut self.phase {
            Phase::Heard { beat: known, .. } if known.instance != beat.instance => {
                // The beat is the next run's.
                self.end = Some(if self.stopping {
                    ChildExit::Stopped
                } else {
                    let (old, new) = (&known.instance, &beat.instance);
                    let message = format!("instance {old:?} has become {new:?}");
                    ChildExit::Lost { message }
                });
                return;
            }
            Phase::Heard { beat: known, watch } => {
                watch.on_beat(at.into_std(), every);
                *known = beat;
            }
            Phase::Awaited => {
                let mut watch = BeatWatch::new(at.into_std(), every);
                watch.on_line(at.into_std(), *self.line.borrow());
                self.phase = Phase::Heard { beat, watch };
            }
        }
        self.expected.used.store(number, Ordering::Relaxed);
    }

    fn on_line(&mut self) {
        let line = *self.line.borrow_and_update();
        if let Phase::Heard { watch, .. } = &mut self.phase {
            watch.on_line(Instant::now().into_std(), line);
        }
    }

    /// Draws what follows from the time.
    fn judge(&mut self) {
        let now = Instant::now().into_std();
        let up = *self.line.borrow() == Line::Up;
        let Phase::Heard { beat, watch } = &self.phase else {
            if self.stopping {
                self.end = Some(ChildExit::Stopped);
            }
            return;
        };
        let every = Duration::from_millis(beat.every_ms);
        let silence = watch.silence(now);
        if self.stopping && up && silence >= every.saturating_mul(STOPPED_BEATS) {
            self.end = Some(ChildExit::Stopped);
        } else if watch.verdict(now) == Verdict::Dead {
            let message = format!(
                "no beat for {:.1} s; {DEAD_BEATS} of {} ms were missed",
                silence.as_secs_f64(),
                beat.every_ms
            );
            self.end = Some(ChildExit::Lost { message });
        }
    }

    fn health(&self) -> RunHealth {
        let Phase::Heard { beat, watch } = &self.phase else { return awaited() };
        let now = Instant::now().into_std();
        match watch.verdict(now) {
            Verdict::Fresh => health_of(beat.state),
            Verdict::Suspect | Verdict::Dead => RunHealth {
                status: HealthStatus::Degraded,
                readiness: Readiness::NotReady,
                message: format!("no beat for {:.1} s", watch.silence(now).as_secs_f64()),
            },
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let Phase::Heard { beat, watch } = &self.phase else { return None };
        let now = Instant::now();
        let verdict = watch.deadline(now.into_std()).map(Instant::from_std);
        let every = Duration::from_millis(beat.every_ms).saturating_mul(STOPPED_BEATS);
        let left = every.saturating_sub(watch.silence(now.into_std()));
        let stopped = (self.stopping && !left.is_zero()).then(|| now + left);
        verdict.into_iter().chain(stopped).min()
    }
}

impl RunningRemote {
    /// Lives on until there is news.
    async fn live(&mut self) -> RunNews {
        loop {
            if self.end.is_none() {
                self.look();
            }
            if self.end.is_none() {
                self.judge();
            }
            if let Some(exit) = &self.end {
                return RunNews::Exited(exit.clone());
            }
            let health = self.health();
            let (status, readiness) = (self.told.status, self.told.readiness);
            if (health.status, health.readiness) != (status, readiness) {
                self.told = health.clone();
                return RunNews::Health(health);
            }
            let deadline = self.deadline();
            tokio::select! {
                // Cancel safe: both states stay in their channels, whose senders live in
                // `expected`; the deadline follows from this state.
                Ok(()) = self.heard.changed() => {}
                Ok(()) = self.line.changed() => self.on_line(),
                () = sleep_until_some(deadline) => {}
            }
        }
    }
}

impl RunningAgent for RunningRemote {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(exit_of(self))
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(self.live())
    }

    fn face(&self) -> RunFace {
        RunFace { health: Some(self.told.clone()), ..RunFace::default() }
    }

    fn ask_to_stop(&mut self) {
        self.stopping = true;
        let Expected { remotes, agent, .. } = self.expected.as_ref();
        if remotes.shared.leaving.is_cancelled() {
            self.end.get_or_insert(ChildExit::Stopped);
            return;
        }
        let grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        if let Err(error) = remotes.order(agent, &ToAgent::Stop { grace_ms }) {
            tracing::warn!(agent.id = %agent, %error, "a stop was not sent");
        }
    }

    fn kill(&mut self) {
        let Expected { remotes, agent, .. } = self.expected.as_ref();
        if remotes.order(agent, &ToAgent::Stop { grace_ms: 0 }).is_err() {
            tracing::debug!(agent.id = %agent, "a stop was not sent");
        }
        self.end.get_or_insert(ChildExit::Killed);
    }
}

/// The way to one remote agent. What it answers goes to a stream, not through here; its beats come
/// through here, the last one for all that were not received.
#[derive(Debug)]
struct RemoteChannel {
    remotes: Remotes,
    agent: AgentId,
    over: CancellationToken,
    heard: tokio::sync::Mutex<watch::Receiver<Heard>>,
}

impl AgentChannel for RemoteChannel {
    fn send(&self, message: &ToAgent) -> Result<(), ChannelError> {
        if self.over.is_cancelled() {
            return Err(ChannelError::Closed);
        }
        self.remotes.order(&self.agent, message)
    }

    fn receive(&self) -> BoxFuture<'_, Option<FromAgent>> {
        Box::pin(self.next_beat())
    }
}

impl RemoteChannel {
    async fn next_beat(&self) -> Option<FromAgent> {
        let mut heard = self.heard.lock().await;
        loop {
            tokio::select! {
                biased;
                // Cancel safe, both: the end stays, and so does the last beat.
                () = self.over.cancelled() => return None,
                Ok(()) = heard.changed() => {}
                else => {
                    self.over.cancelled().await;
                    return None;
                }
            }
            let beat = heard.borrow_and_update().last();
            if beat.is_some() {
                return beat;
            }
        }
    }
}
