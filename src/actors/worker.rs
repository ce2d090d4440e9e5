//! One worker: the actor of a child, which has one run of it after another.
//!
//! A restart needs no new actor: the worker waits for the order to begin the next run as long as
//! there may be one, and ends when its supervisor drops its [`Seat`]. Everything of a run lives in
//! one future; its end is reported when that future is over, so whoever reads the report knows that
//! nothing of the run is left. Reports of one run come in their order, because they go one way. A
//! worker takes no messages; what its supervisor wants stands in [`Orders`].
//!
//! The whole life of a worker is its `post_start`, so that a kill ends it wherever it stands. It
//! leaves by failing with [`WorkerLeft`], which spares ractor's loop for messages.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use crate::actors::supervisor::SupervisorMsg;
use crate::ports::{AgentRuntime, RunFace, RunHealth, RunNews, RunningAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::Shutdown;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RunEnd {
    /// It could not begin.
    StartFailed(StartError),
    /// It began and ended.
    Exited(ChildExit),
}

/// The end of a worker that nobody needs any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody needs the worker any more")]
pub(crate) struct WorkerLeft;

/// What a child tells its supervisor while it lives.
#[derive(Clone, Debug)]
#[expect(unnameable_types, reason = "only supervisors make and read it")]
pub struct ChildReport {
    /// The child.
    pub(crate) name: ChildName,
    /// Its run; a report of another run than the present one is stale.
    pub(crate) generation: Generation,
    /// What.
    pub(crate) news: ChildNews,
}

/// What is new.
#[derive(Clone, Debug)]
pub(crate) enum ChildNews {
    /// The run executes. Nothing more is known of it if there is no face.
    Started(Option<Box<RunFace>>),
    /// The run was measured.
    Measured(HealthMetrics),
    /// The run's health changed.
    Health(RunHealth),
    /// The run has ended, and nothing of it is left. The last that is told of it.
    Ended(RunEnd),
}

/// What a worker needs for its runs.
#[derive(Debug)]
pub(crate) struct WorkerArgs {
    pub(crate) name: ChildName,
    pub(crate) runtime: Arc<dyn AgentRuntime>,
    pub(crate) owner: ActorRef<SupervisorMsg>,
    pub(crate) orders: Arc<Orders>,
    /// Time between two measurements; `None` when nobody wants them.
    pub(crate) measure_every: Option<Duration>,
    /// Dropped with the worker's state, which is after its last run.
    pub(crate) _lease: Option<Arc<Lease>>,
}

/// Held by everything under one run of a supervisor, the runs of its workers above all. When the
/// last of it is dropped nothing of that run is left, also if it was killed and could not wait for
/// its children itself.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Never sends; whoever waits for the end of the supervisor sees it close.
    pub(crate) _open: mpsc::Sender<()>,
    /// What is under this supervisor is under the one above, too.
    pub(crate) _above: Option<Arc<Self>>,
}

/// A supervisor's hold on a worker. The worker ends when it is dropped, after its run if it has one.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The worker's actor.
    pub(crate) actor: ActorId,
    /// What is wanted of it.
    pub(crate) orders: Arc<Orders>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.orders.add(|wanted| wanted.leave = true);
    }
}

/// What a supervisor wants of a worker. A later wish is added to an earlier one that was not yet
/// seen, so there is nothing that could be full.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    wanted: Mutex<Wanted>,
    news: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Wanted {
    /// This run shall begin.
    start: Option<Generation>,
    /// What shall become of the run under way.
    end: WantedEnd,
    /// Nobody needs the worker any more.
    leave: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct WantedEnd {
    /// The run shall end, in this way.
    stop: Option<Shutdown>,
    /// The run shall be killed as if it had crashed.
    kill: bool,
}

impl Orders {
    /// The supervisor wants a run to begin. It knows that the one before has ended: what was still
    /// wanted of that is void.
    pub(crate) fn start(&self, generation: Generation) {
        self.add(|wanted| *wanted = Wanted { start: Some(generation), ..Wanted::default() });
    }

    /// The supervisor wants the run to end.
    pub(crate) fn stop(&self, shutdown: Shutdown) {
        self.add(|wanted| wanted.end.stop = Some(shutdown));
    }

    /// Somebody wants the run killed as if it had crashed.
    pub(crate) fn kill(&self) {
        self.add(|wanted| wanted.end.kill = true);
    }

    fn add(&self, wish: impl FnOnce(&mut Wanted)) {
        wish(&mut self.lock());
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // A panic while it was locked left it whole, since every change is one step.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next run that is wanted; `None` when the worker is no longer needed. Cancel
    /// safe: nothing is taken before it is returned.
    async fn next_run(&self) -> Option<Generation> {
        loop {
            let (start, leave) = {
                let mut wanted = self.lock();
                (wanted.start.take(), wanted.leave)
            };
            if start.is_some() || leave {
                return start;
            }
            self.news.notified().await;
        }
    }

    /// Waits for what shall become of the run and takes it. Cancel safe: nothing is taken before it
    /// is returned.
    async fn next_end(&self) -> WantedEnd {
        loop {
            let wanted = std::mem::take(&mut self.lock().end);
            if wanted != WantedEnd::default() {
                return wanted;
            }
            self.news.notified().await;
        }
    }
}

/// Who wanted the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    /// Nobody: the run ends by itself.
    None,
    /// It was asked to stop.
    Asked,
    /// Its time was over, or there was none.
    Forced,
}

/// Behaviour of a worker.
#[derive(Debug)]
pub(crate) struct Worker;

impl Actor for Worker {
    type Msg = ();
    type State = WorkerArgs;
    type Arguments = WorkerArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(args)
    }

    async fn post_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while let Some(generation) = args.orders.next_run().await {
            let end = run_to_end(args, generation).await;
            args.tell(generation, ChildNews::Ended(end));
        }
        Err(Box::new(WorkerLeft))
    }
}

/// Starts a run and stays with it until it has ended and nothing of it is left.
async fn run_to_end(args: &WorkerArgs, generation: Generation) -> RunEnd {
    let mut wish = Wish::None;
    let mut begun = false;
    let life = async {
        match begin(args, generation, &mut wish).await {
            Err(end) => end,
            Ok(mut running) => {
                begun = true;
                let face = Some(running.face()).filter(|face| *face != RunFace::default());
                args.tell(generation, ChildNews::Started(face.map(Box::new)));
                let tell = |news| args.tell(generation, news);
                RunEnd::Exited(follow(args, running.as_mut(), tell, &mut wish).await)
            }
        }
    };
    // A runtime that panics must not leave a child that seems to run for ever. Of the life only the
    // wish and whether it began are used afterwards, and every change of them is one step.
    let life = AssertUnwindSafe(life).catch_unwind().await;
    let end = life.unwrap_or_else(|payload| {
        let message = panic_text(payload.as_ref());
        if begun {
            RunEnd::Exited(ChildExit::Panicked { message })
        } else {
            // It never ran.
            RunEnd::StartFailed(StartError::Failed { message })
        }
    });
    seen_as(wish, end)
}

impl WorkerArgs {
    fn tell(&self, generation: Generation, news: ChildNews) {
        let report = ChildReport { name: self.name.clone(), generation, news };
        if self.owner.send_message(SupervisorMsg::Report(report)).is_err() {
            tracing::debug!(child = %self.name, "supervisor ended before its child");
        }
    }
}

/// The end as the supervisor shall see it, given who wanted it.
fn seen_as(wish: Wish, end: RunEnd) -> RunEnd {
    let RunEnd::Exited(exit) = end else { return end };
    let seen = match (wish, exit) {
        (Wish::None, exit) => exit,
        (Wish::Forced, _) => ChildExit::Killed,
        // A program that obeys its stop signal dies of it, exits with 0, or, as shells do, with
        // 128 + the signal's number.
        (Wish::Asked, ChildExit::Signaled { .. }) => ChildExit::Stopped,
        (Wish::Asked, ChildExit::Exited { code }) if 128 < code => ChildExit::Stopped,
        (Wish::Asked, exit) if exit.is_clean() => ChildExit::Stopped,
        (Wish::Asked, exit) => exit,
    };
    RunEnd::Exited(seen)
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the runtime panicked".to_owned())
}

async fn begin(
    args: &WorkerArgs,
    generation: Generation,
    wish: &mut Wish,
) -> Result<Box<dyn RunningAgent>, RunEnd> {
    let limit = args.runtime.start_timeout();
    let start = args.runtime.start(generation);
    let started = async move {
        match limit {
            Some(limit) => tokio::time::timeout(limit, start).await.map_err(|_elapsed| limit),
            None => Ok(start.await),
        }
    };
    tokio::select! {
        // In this order, so that a simulation with one seed goes one way.
        biased;
        // Dropping the start ends whatever it had begun: the contract of `AgentRuntime::start`.
        started = started => match started {
            Ok(Ok(running)) => Ok(running),
            Ok(Err(error)) => Err(RunEnd::StartFailed(error)),
            Err(limit) => {
                let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                Err(RunEnd::StartFailed(StartError::Timeout { timeout_ms }))
            }
        },
        // Cancel safe, and an order during the start ends it either way.
        wanted = args.orders.next_end() => {
            let (who, exit) = match wanted.stop {
                Some(Shutdown::BrutalKill) => (Wish::Forced, ChildExit::Killed),
                Some(Shutdown::Timeout(_) | Shutdown::Infinity) => {
                    (Wish::Asked, ChildExit::Stopped)
                }
                // Killed as if it had crashed.
                None => (Wish::None, ChildExit::Killed),
            };
            *wish = who;
            Err(RunEnd::Exited(exit))
        }
    }
}

async fn follow(
    args: &WorkerArgs,
    running: &mut dyn RunningAgent,
    tell: impl Fn(ChildNews),
    wish: &mut Wish,
) -> ChildExit {
    let mut ticks = args.measure_every.map(tokio::time::interval);
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut grace = Grace::None;
    loop {
        tokio::select! {
            // An exit goes before an order, an order before a measurement.
            biased;
            // `next` is cancel safe by contract: no news is lost.
            news = running.next() => match news {
                RunNews::Exited(exit) => return exit,
                RunNews::Health(health) => tell(ChildNews::Health(health)),
            },
            // Cancel safe.
            wanted = args.orders.next_end() => {
                if let Some(shutdown) = wanted.stop {
                    (*wish, grace) = ask_to_end(running, shutdown);
                }
                if wanted.kill {
                    running.kill();
                }
            }
            // The timer lives outside and goes on.
            () = grace.over() => {
                grace = Grace::None;
                *wish = Wish::Forced;
                running.kill();
            }
            // A tick is cancel safe.
            () = tick(&mut ticks) => tell(ChildNews::Measured(running.measure())),
        }
    }
}

/// Asks the run to end; what comes back is who wants it, and the time after which it is killed.
fn ask_to_end(running: &mut dyn RunningAgent, shutdown: Shutdown) -> (Wish, Grace) {
    match shutdown {
        Shutdown::BrutalKill => {
            running.kill();
            (Wish::Forced, Grace::None)
        }
        Shutdown::Timeout(limit) => {
            running.ask_to_stop();
            (Wish::Asked, Grace::Given(limit))
        }
        Shutdown::Infinity => {
            running.ask_to_stop();
            (Wish::Asked, Grace::None)
        }
    }
}

/// The time that a run has to end by itself once it was asked to.
#[derive(Debug)]
enum Grace {
    None,
    Given(Duration),
    /// Begun; only a run that does not end at once needs a timer.
    Begun(Pin<Box<Sleep>>),
}

impl Grace {
    /// Waits for its end; for ever when there is none. Cancel safe: once begun it goes on.
    async fn over(&mut self) {
        if let Self::Given(limit) = self {
            *self = Self::Begun(Box::pin(tokio::time::sleep(*limit)));
        }
        match self {
            Self::Begun(sleep) => sleep.as_mut().await,
            Self::None | Self::Given(_) => std::future::pending().await,
        }
    }
}

/// Waits for the next tick; for ever when nobody wants measurements.
async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_wanted_of_a_run_that_has_ended_is_not_done_to_the_next() {
        let orders = Orders::default();
        orders.start(Generation(1));
        assert_eq!(orders.next_run().await, Some(Generation(1)));
        orders.stop(Shutdown::BrutalKill);
        orders.kill();
        // The run has ended by itself before it saw that.
        orders.start(Generation(2));
        assert_eq!(orders.next_run().await, Some(Generation(2)));
        assert!(orders.next_end().now_or_never().is_none());
        orders.kill();
        assert_eq!(orders.next_end().await, WantedEnd { stop: None, kill: true });
    }

    #[tokio::test]
    async fn a_worker_leaves_when_its_seat_is_dropped_but_not_during_its_run() {
        let orders = Arc::new(Orders::default());
        orders.start(Generation(1));
        let seat = Seat { actor: ActorId::Local(1), orders: Arc::clone(&orders) };
        assert_eq!(orders.next_run().await, Some(Generation(1)));
        drop(seat);
        assert!(orders.next_end().now_or_never().is_none());
        assert_eq!(orders.next_run().await, None);
    }
}
