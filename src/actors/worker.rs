//! One worker: owns one run of a child and ends with it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::ports::{AgentRuntime, RunFace, RunHealth, RunNews, RunningAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::Shutdown;

/// Orders that may wait for a run: one to stop, one to kill, and room for repetition.
const ORDERS_MAX: usize = 4;

/// Messages a worker accepts.
#[derive(Debug)]
pub(crate) enum WorkerMsg {
    /// Begin the run; sent once, by the worker to itself.
    Begin,
    /// The supervisor wants the run to end.
    Stop(Shutdown),
    /// Somebody wants the run killed as if it had crashed.
    Kill,
    /// The run executes.
    Started(RunFace),
    /// The run was measured.
    Measured(HealthMetrics),
    /// The run's health changed.
    Health(RunHealth),
    /// The run has ended or could not begin.
    Ended(RunEnd),
    /// The time to stop is over.
    Overdue,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RunEnd {
    /// It could not begin.
    StartFailed(StartError),
    /// It began and ended.
    Exited(ChildExit),
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

/// What a worker needs at birth.
#[derive(Debug)]
pub(crate) struct WorkerArgs {
    pub(crate) name: ChildName,
    pub(crate) generation: Generation,
    pub(crate) runtime: Arc<dyn AgentRuntime>,
    pub(crate) owner: DerivedActorRef<ChildReport>,
    pub(crate) measure_every: Duration,
    pub(crate) lease: Option<Arc<Lease>>,
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

/// What an order to the run says.
#[derive(Clone, Copy, Debug)]
enum Order {
    Stop,
    Kill,
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

/// State of a worker; its `end` is read by the supervisor after the worker has stopped.
#[derive(Debug)]
pub(crate) struct WorkerState {
    args: WorkerArgs,
    run: Option<JoinHandle<()>>,
    orders: mpsc::Sender<Order>,
    /// Orders for the run; taken when it begins. One that comes before waits in it.
    inbox: Option<mpsc::Receiver<Order>>,
    wish: Wish,
    end: Option<RunEnd>,
}

impl WorkerState {
    /// Takes how the run ended; `None` when it was still going.
    pub(crate) fn take_end(&mut self) -> Option<RunEnd> {
        self.end.take()
    }
}

impl Drop for WorkerState {
    fn drop(&mut self) {
        // The run must not outlive its actor, however the actor ends: dropping the future drops
        // the `RunningAgent`, which ends the run.
        if let Some(run) = &self.run {
            run.abort();
        }
    }
}

/// Behaviour of a worker.
#[derive(Debug)]
pub(crate) struct Worker;

impl Actor for Worker {
    type Msg = WorkerMsg;
    type State = WorkerState;
    type Arguments = WorkerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.send_message(WorkerMsg::Begin)?;
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let inbox = Some(inbox);
        Ok(WorkerState { args, run: None, orders, inbox, wish: Wish::None, end: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMsg::Begin => state.begin(&myself),
            WorkerMsg::Stop(shutdown) => state.stop(&myself, shutdown),
            WorkerMsg::Kill => state.order(Order::Kill),
            WorkerMsg::Overdue => {
                state.wish = Wish::Forced;
                state.order(Order::Kill);
            }
            WorkerMsg::Started(face) => state.report(ChildNews::Started(face)),
            WorkerMsg::Health(health) => state.report(ChildNews::Health(health)),
            WorkerMsg::Measured(metrics) => state.report(ChildNews::Measured(metrics)),
            WorkerMsg::Ended(end) => {
                state.end = Some(seen_as(state.wish, end));
                myself.stop(None);
            }
        }
        Ok(())
    }
}

impl WorkerState {
    fn begin(&mut self, myself: &ActorRef<WorkerMsg>) {
        let Some(inbox) = self.inbox.take() else { return };
        let runtime = Arc::clone(&self.args.runtime);
        let (myself, lease) = (myself.clone(), self.args.lease.clone());
        let (generation, every) = (self.args.generation, self.args.measure_every);
        let life = async move {
            run_to_end(myself, runtime, generation, inbox, every).await;
            // Only now, or when this is dropped with the run in it, is nothing of the run left.
            drop(lease);
        };
        #[expect(clippy::disallowed_methods, reason = "owned: aborted when the state drops")]
        let run = tokio::spawn(life);
        self.run = Some(run);
    }

    fn stop(&mut self, myself: &ActorRef<WorkerMsg>, shutdown: Shutdown) {
        match shutdown {
            Shutdown::BrutalKill => {
                self.wish = Wish::Forced;
                self.order(Order::Kill);
            }
            Shutdown::Timeout(limit) => {
                self.wish = Wish::Asked;
                self.order(Order::Stop);
                myself.send_after(limit, || WorkerMsg::Overdue);
            }
            Shutdown::Infinity => {
                self.wish = Wish::Asked;
                self.order(Order::Stop);
            }
        }
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::debug!(child = %self.args.name, ?order, "run takes no more orders");
        }
    }

    fn report(&self, news: ChildNews) {
        let report =
            ChildReport { name: self.args.name.clone(), generation: self.args.generation, news };
        if self.args.owner.send_message(report).is_err() {
            tracing::debug!(child = %self.args.name, "supervisor ended before its child");
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

/// Starts the run and stays with it until it has ended.
async fn run_to_end(
    myself: ActorRef<WorkerMsg>,
    runtime: Arc<dyn AgentRuntime>,
    generation: Generation,
    mut orders: mpsc::Receiver<Order>,
    measure_every: Duration,
) {
    let begun = AtomicBool::new(false);
    let life = async {
        match begin(runtime.as_ref(), generation, &mut orders).await {
            Err(end) => end,
            Ok(mut running) => {
                begun.store(true, Ordering::Relaxed);
                tell(&myself, WorkerMsg::Started(running.face()));
                RunEnd::Exited(follow(&myself, running.as_mut(), &mut orders, measure_every).await)
            }
        }
    };
    // A runtime that panics must not leave a child that seems to run for ever. Nothing of the life
    // is used afterwards, so nothing half-changed is seen.
    let end = AssertUnwindSafe(life).catch_unwind().await.unwrap_or_else(|payload| {
        let message = panic_text(payload.as_ref());
        if begun.load(Ordering::Relaxed) {
            RunEnd::Exited(ChildExit::Panicked { message })
        } else {
            RunEnd::StartFailed(StartError::Failed { message })
        }
    });
    tell(&myself, WorkerMsg::Ended(end));
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the runtime panicked".to_owned())
}

async fn begin(
    runtime: &dyn AgentRuntime,
    generation: Generation,
    orders: &mut mpsc::Receiver<Order>,
) -> Result<Box<dyn RunningAgent>, RunEnd> {
    let limit = runtime.start_timeout();
    let start = runtime.start(generation);
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
        // Receiving is cancel safe, and an order during the start ends it either way.
        order = orders.recv() => Err(RunEnd::Exited(match order {
            Some(Order::Stop) => ChildExit::Stopped,
            Some(Order::Kill) | None => ChildExit::Killed,
        })),
    }
}

async fn follow(
    myself: &ActorRef<WorkerMsg>,
    running: &mut dyn RunningAgent,
    orders: &mut mpsc::Receiver<Order>,
    measure_every: Duration,
) -> ChildExit {
    let mut tick = tokio::time::interval(measure_every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut owned = true;
    loop {
        tokio::select! {
            // An exit goes before an order, an order before a measurement.
            biased;
            // `next` is cancel safe by contract: no news is lost.
            news = running.next() => match news {
                RunNews::Exited(exit) => return exit,
                RunNews::Health(health) => tell(myself, WorkerMsg::Health(health)),
            },
            // Receiving is cancel safe.
            order = orders.recv(), if owned => match order {
                Some(Order::Stop) => running.ask_to_stop(),
                Some(Order::Kill) => running.kill(),
                None => {
                    owned = false;
                    running.kill();
                }
            },
            // A tick is cancel safe.
            _ = tick.tick() => tell(myself, WorkerMsg::Measured(running.measure())),
        }
    }
}

fn tell(myself: &ActorRef<WorkerMsg>, message: WorkerMsg) {
    if myself.send_message(message).is_err() {
        tracing::debug!("worker ended before its run");
    }
}
