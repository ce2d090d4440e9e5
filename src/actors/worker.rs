//! One worker: one run of a child, from its start to its end.
//!
//! The run is the worker's `post_start`, and its end the error that this returns: the worker always
//! ends by failing with a [`WorkerEnd`]. So one task is all that a run needs, ractor's event is
//! all that tells of its end, and whoever sees the event knows that nothing of the run is left:
//! everything of it lives in that future, which is over. A worker takes no messages; what its
//! supervisor wants of the run stands in [`Orders`].

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
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

/// The end of a worker, as its supervisor is told of it: nothing of the run is left.
#[derive(Debug, thiserror::Error)]
#[error("run {generation} of {name} has ended")]
pub(crate) struct WorkerEnd {
    /// The child.
    pub(crate) name: ChildName,
    /// Its run.
    pub(crate) generation: Generation,
    /// How it ended.
    pub(crate) end: RunEnd,
}

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
    /// The run executes.
    Started(RunFace),
    /// The run was measured.
    Measured(HealthMetrics),
    /// The run's health changed.
    Health(RunHealth),
}

/// What a worker needs for its run.
#[derive(Debug)]
pub(crate) struct WorkerArgs {
    pub(crate) name: ChildName,
    pub(crate) generation: Generation,
    pub(crate) runtime: Arc<dyn AgentRuntime>,
    pub(crate) owner: ActorRef<SupervisorMsg>,
    pub(crate) orders: Arc<Orders>,
    /// Time between two measurements; `None` when nobody wants them.
    pub(crate) measure_every: Option<Duration>,
    /// Dropped with the worker's state, which is after its run.
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

/// What a supervisor wants of a run. A later wish is added to an earlier one that was not yet
/// seen, so there is nothing that could be full.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    wanted: Mutex<Wanted>,
    news: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Wanted {
    /// The run shall end, in this way.
    stop: Option<Shutdown>,
    /// The run shall be killed as if it had crashed.
    kill: bool,
}

impl Orders {
    /// The supervisor wants the run to end.
    pub(crate) fn stop(&self, shutdown: Shutdown) {
        self.add(|wanted| wanted.stop = Some(shutdown));
    }

    /// Somebody wants the run killed as if it had crashed.
    pub(crate) fn kill(&self) {
        self.add(|wanted| wanted.kill = true);
    }

    fn add(&self, wish: impl FnOnce(&mut Wanted)) {
        // A panic while it was locked left it whole, since every change is one step.
        wish(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    fn take(&self) -> Wanted {
        std::mem::take(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for what is wanted and takes it. Cancel safe: nothing is taken before it is returned.
    async fn next(&self) -> Wanted {
        loop {
            let wanted = self.take();
            if wanted != Wanted::default() {
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
        let end = run_to_end(args).await;
        Err(Box::new(WorkerEnd { name: args.name.clone(), generation: args.generation, end }))
    }
}

/// Starts the run and stays with it until it has ended and nothing of it is left.
async fn run_to_end(args: &WorkerArgs) -> RunEnd {
    let mut wish = Wish::None;
    let mut begun = false;
    let life = async {
        match begin(args, &mut wish).await {
            Err(end) => end,
            Ok(mut running) => {
                begun = true;
                args.tell(ChildNews::Started(running.face()));
                RunEnd::Exited(follow(args, running.as_mut(), &mut wish).await)
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
    fn tell(&self, news: ChildNews) {
        let report = ChildReport { name: self.name.clone(), generation: self.generation, news };
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

async fn begin(args: &WorkerArgs, wish: &mut Wish) -> Result<Box<dyn RunningAgent>, RunEnd> {
    let limit = args.runtime.start_timeout();
    let start = args.runtime.start(args.generation);
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
        wanted = args.orders.next() => {
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

async fn follow(args: &WorkerArgs, running: &mut dyn RunningAgent, wish: &mut Wish) -> ChildExit {
    let mut ticks = args.measure_every.map(tokio::time::interval);
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut grace: Option<Pin<Box<Sleep>>> = None;
    loop {
        tokio::select! {
            // An exit goes before an order, an order before a measurement.
            biased;
            // `next` is cancel safe by contract: no news is lost.
            news = running.next() => match news {
                RunNews::Exited(exit) => return exit,
                RunNews::Health(health) => args.tell(ChildNews::Health(health)),
            },
            // Cancel safe.
            wanted = args.orders.next() => {
                if let Some(shutdown) = wanted.stop {
                    (*wish, grace) = ask_to_end(running, shutdown);
                }
                if wanted.kill {
                    running.kill();
                }
            }
            // The timer lives outside and goes on.
            () = over(&mut grace) => {
                grace = None;
                *wish = Wish::Forced;
                running.kill();
            }
            // A tick is cancel safe.
            () = tick(&mut ticks) => args.tell(ChildNews::Measured(running.measure())),
        }
    }
}

/// Asks the run to end; what comes back is who wants it, and the timer after which it is killed.
fn ask_to_end(
    running: &mut dyn RunningAgent,
    shutdown: Shutdown,
) -> (Wish, Option<Pin<Box<Sleep>>>) {
    match shutdown {
        Shutdown::BrutalKill => {
            running.kill();
            (Wish::Forced, None)
        }
        Shutdown::Timeout(limit) => {
            running.ask_to_stop();
            (Wish::Asked, Some(Box::pin(tokio::time::sleep(limit))))
        }
        Shutdown::Infinity => {
            running.ask_to_stop();
            (Wish::Asked, None)
        }
    }
}

/// Waits for the end of the grace; for ever when there is none.
async fn over(grace: &mut Option<Pin<Box<Sleep>>>) {
    match grace {
        Some(grace) => grace.as_mut().await,
        None => std::future::pending().await,
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
