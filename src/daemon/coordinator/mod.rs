//! The coordinator: takes submissions, gives tasks to agents, records what becomes of them.
//!
//! A child of the tree like any other. All decisions about tasks are the ledger's
//! ([`crate::logic::ledger`]); this carries them out: it writes the records ([`desk`]), asks who can
//! have a task ([`hands`], which asks [`crate::logic::routing`]), hands orders to the agents' channels and listens to them, and answers
//! cancellations; `broadcasts` looks after tasks that go to many. It starts from what is stored (`start`): submissions that were
//! not acknowledged and the last record of each of their tasks; so it can be ended at any moment.
//!
//! Who else must not wait for it: agents, whose news wait in bounded queues; submitters, whose
//! publish is acknowledged by the stream. What it holds at a time is bounded by the consumer of
//! submissions; the others wait in the stream.

mod broadcasts;
pub mod desk;
pub mod hands;
mod questions;
mod start;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::config::Config;
pub use crate::daemon::coordinator::questions::Questions;

use crate::daemon::coordinator::desk::Desk;
use crate::daemon::insight::tap::Tap;
use crate::logic::ledger::{Policies, TypePolicy};
use crate::logic::routing::Settings;
use crate::ports::{BoxFuture, Ids, JitterSource, Ready, Service, ServiceError, WallClock};
use crate::protocol::command::TasksStatus;
use crate::protocol::id::NodeName;
use crate::protocol::subject::SubjectPrefix;
use crate::runtimes::channels::AgentChannels;
use crate::transport::slot::ConnectionSlot;
use crate::transport::tasks::journal::Journal;

/// What the coordinator works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The connection.
    pub slot: ConnectionSlot,
    /// Prefix of every subject.
    pub prefix: SubjectPrefix,
    /// This node.
    pub node: NodeName,
    /// This life of the daemon, which names the runs that end with it.
    pub instance: String,
    /// The agents that run.
    pub channels: AgentChannels,
    /// What is known of them.
    pub board: Arc<Board>,
    /// Mints identities.
    pub ids: Arc<dyn Ids>,
    /// Tells wall time.
    pub clock: Arc<dyn WallClock>,
    /// Draws jitter.
    pub jitter: Arc<dyn JitterSource>,
    /// Rules for tasks.
    pub policies: Policies,
    /// How agents are chosen.
    pub routing: Settings,
    /// Questions about it.
    pub questions: Questions,
    /// Where attempts are noted for the detectors; nothing where nobody looks for patterns.
    pub tap: Option<Tap>,
    /// Where its status is seen.
    pub status: watch::Sender<TasksStatus>,
}

/// The coordinator as a child of the tree.
#[derive(Clone, Debug)]
pub struct CoordinatorService {
    parts: Parts,
    journal: Journal,
}

impl CoordinatorService {
    /// A coordinator of these parts.
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        let default =
            TypePolicy { strategy: parts.routing.distribution, ..parts.policies.default.clone() };
        parts.policies.default = default;
        let journal = Journal::new(parts.slot.clone(), parts.prefix.clone());
        Self { parts, journal }
    }

    async fn coordinate(self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        let opening = Desk::open(self.parts.clone(), self.journal.clone());
        let mut desk = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Nothing was decided yet.
            desk = Box::pin(opening) => desk?,
        };
        ready.tell();
        desk.work(&stop).await
    }
}

impl Service for CoordinatorService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().coordinate(stop, ready))
    }

    fn start_timeout(&self) -> Duration {
        // Reading all logs takes its time.
        Duration::from_secs(120)
    }
}

/// What is said of tasks before the coordinator runs, or when there is none.
#[must_use]
pub fn tasks_at_first(config: &Config) -> TasksStatus {
    let state = if config.coordination.is_enabled() { "starting" } else { "off" };
    TasksStatus { state: state.to_owned(), ..TasksStatus::default() }
}
