//! Where beats come from.
//!
//! The transport is of the same floor as runtimes, so it is reached through this trait; the daemon
//! puts the two together.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::protocol::id::AgentId;

/// One beat as it came in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Heartbeat {
    /// How many came before it since somebody listens; tells a new one from the last.
    pub number: u64,
    /// Time to the next beat, if it says so.
    pub every: Option<Duration>,
    /// Whether the agent takes work.
    pub ready: bool,
}

/// Hears the beats of agents.
pub trait Beats: fmt::Debug + Send + Sync + 'static {
    /// Listens to the beats of one agent from now on, across reconnects.
    fn listen(&self, agent: &AgentId) -> BeatFeed;
}

/// The beats of one agent, the latest of them: those in between say nothing that it does not.
/// Dropping it ends the listening.
#[derive(Debug)]
pub struct BeatFeed {
    latest: watch::Receiver<Heartbeat>,
    _listens: Option<AbortOnDropHandle<()>>,
}

impl BeatFeed {
    /// A feed whose beats are put in by `listens`, which ends with it.
    #[must_use]
    pub fn new(latest: watch::Receiver<Heartbeat>, listens: Option<AbortOnDropHandle<()>>) -> Self {
        Self { latest, _listens: listens }
    }

    /// Waits for the next beat.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a beat that was not taken is there for the next call.
    pub(super) async fn next(&mut self) -> Heartbeat {
        if self.latest.changed().await.is_err() {
            // Nobody listens any more; the silence is judged by whoever waits.
            std::future::pending::<()>().await;
        }
        *self.latest.borrow_and_update()
    }
}
