//! Agents that are one process per task: command line tools.
//!
//! Such an agent runs without a process while it has no task. Each task gets a process of its own
//! ([`task`]), as many at a time as the agent has slots; a task beyond is refused at the door. A
//! stop gives up all tasks, each with the agent's grace, and ends when their processes have.

pub mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use crate::ports::{AgentChannel, AgentRuntime, BoxFuture, ChannelError, RunNews, RunningAgent};
use crate::protocol::agent::{Beat, BeatState, FromAgent, Held, TaskEvent, TaskOrder, ToAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{Generation, TaskId};
use crate::protocol::spec::AgentSpec;
use crate::runtimes::channels::{AgentChannels, Registration};
use crate::runtimes::exec::task::{TaskEnd, TaskRunner};
use crate::runtimes::exit_of;
use crate::runtimes::keeper::KeeperSlot;
use crate::runtimes::process::ProcessSettings;

/// Orders besides tasks that may wait; more are refused.
const ORDERS_MAX: usize = 64;

/// Runs one agent as a process per task.
#[derive(Clone, Debug)]
pub struct ExecRuntime {
    keeper: KeeperSlot,
    settings: ProcessSettings,
    channels: AgentChannels,
}

impl ExecRuntime {
    /// A runtime that starts processes on the keeper of the moment and puts the channel of each run
    /// in its place.
    #[must_use]
    pub fn new(keeper: KeeperSlot, settings: ProcessSettings, channels: AgentChannels) -> Self {
        Self { keeper, settings, channels }
    }
}

impl AgentRuntime for ExecRuntime {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let spec = self.settings.spec.clone();
        let slots = usize::try_from(spec.slots).unwrap_or(1).max(1);
        let (orders, inbox) = mpsc::channel(slots.saturating_add(ORDERS_MAX));
        // Each task's place is free again when its event was received, so this never fills.
        let (events, outbox) = mpsc::channel(slots.saturating_add(ORDERS_MAX));
        let slots = Slots { free: Arc::new(Semaphore::new(slots)), count: slots };
        let channel = ExecChannel { orders, slots, events: Mutex::new(outbox) };
        let running = RunningExec {
            _registration: self.channels.enter((&spec, generation), Arc::new(channel)),
            runner: TaskRunner::new(self.keeper.clone(), self.settings.clone(), generation),
            spec,
            inbox,
            events,
            tasks: JoinSet::new(),
            held: BTreeMap::new(),
            wish: Wish::Run,
        };
        Box::pin(std::future::ready(Ok(Box::new(running) as Box<dyn RunningAgent>)))
    }
}

/// What was asked of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    Run,
    Drain,
    Stop,
    Kill,
}

/// Names one attempt.
type Attempt = (TaskId, u32);

/// One attempt that is over.
type Ended = (Attempt, TaskEnd, OwnedSemaphorePermit);

/// A task that is worked on.
#[derive(Debug)]
struct Work {
    token: u64,
    cancel: watch::Sender<Option<Duration>>,
}

/// One run.
#[derive(Debug)]
struct RunningExec {
    runner: TaskRunner,
    spec: AgentSpec,
    inbox: mpsc::Receiver<Order>,
    events: mpsc::Sender<Told>,
    tasks: JoinSet<Ended>,
    held: BTreeMap<Attempt, Work>,
    wish: Wish,
    _registration: Registration,
}

/// What comes through the channel.
#[derive(Debug)]
enum Order {
    Task(Box<TaskOrder>, OwnedSemaphorePermit),
    Other(ToAgent),
}

/// What leaves through the channel; a task's place is free when it was received.
type Told = (FromAgent, Option<OwnedSemaphorePermit>);

impl RunningExec {
    fn obey(&mut self, order: Order) {
        match order {
            Order::Task(task, permit) => self.begin(*task, permit),
            Order::Other(ToAgent::Cancel { id, attempt, grace_ms }) => {
                if let Some(work) = self.held.get(&(id, attempt)) {
                    work.cancel.send_replace(Some(Duration::from_millis(grace_ms)));
                }
            }
            Order::Other(ToAgent::Drain) if self.wish == Wish::Run => self.wish = Wish::Drain,
            Order::Other(ToAgent::Ping) => {
                // Nobody receives: nobody misses it.
                self.events.try_send((self.beat(), None)).ok();
            }
            // Its supervisor stops it; a task comes as a task.
            Order::Other(ToAgent::Drain | ToAgent::Stop { .. } | ToAgent::Task(_)) => {}
        }
    }

    fn begin(&mut self, task: TaskOrder, permit: OwnedSemaphorePermit) {
        let attempt = (task.id.clone(), task.attempt);
        if self.wish != Wish::Run || self.held.contains_key(&attempt) {
            let end = TaskEnd::refused("the agent takes no new tasks, or has this one already");
            return self.tell(attempt, end, permit);
        }
        let (cancel, cancelled) = watch::channel(None);
        let token = task.token;
        let runner = self.runner.clone();
        self.tasks.spawn({
            let attempt = attempt.clone();
            async move { (attempt, runner.run(task, cancelled).await, permit) }
        });
        self.held.insert(attempt, Work { token, cancel });
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok((attempt, end, permit)) => {
                self.held.remove(&attempt);
                self.tell(attempt, end, permit);
            }
            Err(error) => tracing::error!(%error, "working on a task failed inside provost"),
        }
    }

    fn tell(&self, (id, attempt): Attempt, end: TaskEnd, permit: OwnedSemaphorePermit) {
        let event = FromAgent::Event(TaskEvent { id, attempt, state: end.into_news() });
        if self.events.try_send((event, Some(permit))).is_err() {
            tracing::warn!(agent = %self.spec.name, "the end of a task found nobody");
        }
    }

    fn beat(&self) -> FromAgent {
        let held = |((id, _), work): (&Attempt, &Work)| Held { id: id.clone(), token: work.token };
        FromAgent::Beat(Beat {
            v: 1,
            id: self.spec.agent_id.clone(),
            instance: String::new(),
            every_ms: 1_000,
            capabilities: self.spec.capabilities.clone(),
            slots: self.spec.slots,
            inflight: self.held.iter().map(held).collect(),
            state: match self.wish {
                Wish::Run => BeatState::Ready,
                Wish::Drain | Wish::Stop | Wish::Kill => BeatState::Draining,
            },
            agent_type: None,
        })
    }

    fn give_up(&mut self, wish: Wish, grace: Duration) {
        self.wish = wish;
        for work in self.held.values() {
            work.cancel.send_replace(Some(grace));
        }
    }

    /// The end of the run, once it was asked for and no process is left.
    fn end(&self) -> Option<ChildExit> {
        match self.wish {
            Wish::Stop if self.tasks.is_empty() => Some(ChildExit::Stopped),
            Wish::Kill if self.tasks.is_empty() => Some(ChildExit::Killed),
            Wish::Run | Wish::Drain | Wish::Stop | Wish::Kill => None,
        }
    }
}

impl RunningExec {
    /// Lives on until there is news.
    async fn live(&mut self) -> RunNews {
        loop {
            if let Some(exit) = self.end() {
                return RunNews::Exited(exit);
            }
            tokio::select! {
                // Cancel safe, both: what has come stays in its queue, what has ended in its
                // set.
                Some(order) = self.inbox.recv() => self.obey(order),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    self.ended(ended);
                }
                else => std::future::pending::<()>().await,
            }
        }
    }
}

impl RunningAgent for RunningExec {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(exit_of(self))
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(self.live())
    }

    fn ask_to_stop(&mut self) {
        self.give_up(Wish::Stop, self.spec.stop.grace);
    }

    fn kill(&mut self) {
        self.give_up(Wish::Kill, Duration::ZERO);
    }
}

#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    count: usize,
}

/// The way to one run.
#[derive(Debug)]
struct ExecChannel {
    orders: mpsc::Sender<Order>,
    slots: Slots,
    events: Mutex<mpsc::Receiver<Told>>,
}

impl AgentChannel for ExecChannel {
    fn send(&self, message: &ToAgent) -> Result<(), ChannelError> {
        let Slots { free, count } = &self.slots;
        let full = |unit| ChannelError::Full { waiting: *count, bound: *count, unit };
        let order = match message {
            ToAgent::Task(task) => {
                let permit = Arc::clone(free).try_acquire_owned();
                let permit = permit.map_err(|_none_free| full("tasks"))?;
                Order::Task(task.clone(), permit)
            }
            ToAgent::Cancel { .. } | ToAgent::Drain | ToAgent::Stop { .. } | ToAgent::Ping => {
                Order::Other(message.clone())
            }
        };
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full("orders"),
            mpsc::error::TrySendError::Closed(_) => ChannelError::Closed,
        })
    }

    fn receive(&self) -> BoxFuture<'_, Option<FromAgent>> {
        Box::pin(async move {
            // Cancel safe, both. The place of a task is free from here on.
            let mut events = self.events.lock().await;
            events.recv().await.map(|(event, _permit)| event)
        })
    }
}
