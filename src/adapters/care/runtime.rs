//! The child of a downstream: each run is one session, on the runtime that talks to the outside.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::adapters::care::Downstream;
use crate::adapters::care::life::Life;
use crate::ports::{AgentRuntime, BoxFuture, RunFace, RunHealth, RunNews, RunningAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::Generation;
use crate::protocol::status::{HealthStatus, Readiness};

/// Changes of health that may wait for the supervisor, which takes them at once; the oldest state
/// of a run that is told late is not missed.
const NEWS_MAX: usize = 16;

/// When the child counts as started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// At once; it connects while it runs.
    AtOnce,
    /// When it is connected and has answered its first check, for those that are started after it.
    Connected,
}

/// Runs the sessions of one downstream as runs of a child.
#[derive(Clone, Debug)]
pub struct CareRuntime {
    downstream: Arc<Downstream>,
    outside: Handle,
    start: Start,
}

impl CareRuntime {
    /// A runtime whose sessions live on `outside`, so that nothing they do delays supervision.
    #[must_use]
    pub fn new(downstream: Arc<Downstream>, outside: Handle, start: Start) -> Self {
        Self { downstream, outside, start }
    }

    fn begin(&self) -> (Run, oneshot::Receiver<()>) {
        let stop = CancellationToken::new();
        let (news, told) = mpsc::channel(NEWS_MAX);
        let (up, is_up) = oneshot::channel();
        let life = Life::new(Arc::clone(&self.downstream), stop.clone(), news, up);
        // Kept in the run, and aborted when that is dropped.
        let task = Task(self.outside.spawn(life.live()));
        (Run { task, stop, news: told, exit: None, killed: false }, is_up)
    }
}

impl AgentRuntime for CareRuntime {
    fn start(
        &self,
        _generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let this = self.clone();
        Box::pin(async move {
            let (mut run, is_up) = this.begin();
            if this.start == Start::Connected {
                run.until_up(is_up).await?;
            }
            Ok(Box::new(run) as Box<dyn RunningAgent>)
        })
    }

    /// The circuit paces the starts, and its open time has no bound but its own.
    fn start_timeout(&self) -> Option<Duration> {
        None
    }

    fn is_downstream(&self) -> bool {
        true
    }
}

/// One session under way.
#[derive(Debug)]
struct Run {
    task: Task,
    stop: CancellationToken,
    news: mpsc::Receiver<RunHealth>,
    exit: Option<ChildExit>,
    killed: bool,
}

/// A task that is aborted when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<ChildExit>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Run {
    /// Waits until it is connected; what was begun ends with the error. That it could not be
    /// connected is in its circuit's account, and so not in its supervisor's: whoever waits for it
    /// loses no restart while it is out.
    async fn until_up(&mut self, is_up: oneshot::Receiver<()>) -> Result<(), StartError> {
        let failed = |message: String| StartError::Refused { message };
        tokio::select! {
            biased;
            // Cancelling loses nothing: if the run ends first nobody needs the word.
            Ok(()) = is_up => Ok(()),
            // Cancel safe: the end is kept.
            exit = self.end() => Err(failed(exit.to_string())),
        }
    }

    async fn end(&mut self) -> ChildExit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        // Cancel safe: a join handle keeps its result until it was given out.
        let exit = match (&mut self.task.0).await {
            Ok(exit) => exit,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => {
                    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
                    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
                    let message = text.unwrap_or_else(|| "a panic without text".to_owned());
                    ChildExit::Panicked { message }
                }
                Err(_cancelled) if self.killed => ChildExit::Killed,
                Err(_cancelled) => {
                    let message = "the runtime it ran on was shut down".to_owned();
                    ChildExit::Lost { message }
                }
            },
        };
        self.exit = Some(exit.clone());
        exit
    }
}

impl RunningAgent for Run {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(self.end())
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(async move {
            tokio::select! {
                biased;
                // Cancel safe: news stays in its channel.
                Some(health) = self.news.recv() => RunNews::Health(health),
                else => RunNews::Exited(self.end().await),
            }
        })
    }

    fn face(&self) -> RunFace {
        let health = RunHealth {
            status: HealthStatus::Unknown,
            readiness: Readiness::Starting,
            message: "connecting".to_owned(),
        };
        RunFace { health: Some(health), ..RunFace::default() }
    }

    fn ask_to_stop(&mut self) {
        self.stop.cancel();
    }

    fn kill(&mut self) {
        self.killed = true;
        self.task.0.abort();
    }
}
