//! Remote agents that nobody declared: the first beat makes an entry.
//!
//! The entry is under the supervisor of all agents, named as the agent names itself. Its type is the
//! one that the beat names, if it is declared as remote; else `remote`, with the defaults. At most
//! [`UNDECLARED_MAX`] are taken; beats of more, and beats under the name of something else, are
//! ignored and said. Such an agent stays listed until somebody removes it, and comes back with its
//! next beat.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actors::tree::{TreeError, TreeHandle};
use crate::daemon::agents::AgentMaker;
use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::protocol::agent::Beat;
use crate::protocol::id::ChildName;
use crate::protocol::status::AgentState;

/// Remote agents that nobody declared, at most.
pub const UNDECLARED_MAX: usize = 1_000;

/// Label by which they are known.
pub const UNDECLARED_LABEL: &str = "undeclared";

/// Shortest time between two words about agents that were not taken.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Takes remote agents in.
#[derive(Clone, Debug)]
pub struct NewcomerService {
    newcomers: Arc<Mutex<mpsc::Receiver<Beat>>>,
    maker: AgentMaker,
    tree: TreeHandle,
    agents: ChildName,
}

/// Why an agent was not taken in.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("another child, or a local agent, has that name")]
    Taken,
    #[error("{UNDECLARED_MAX} undeclared remote agents are there, which is the most")]
    Full,
    #[error("{0}")]
    Spec(String),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl NewcomerService {
    /// A service that puts agents under `agents`.
    #[must_use]
    pub fn new(
        newcomers: mpsc::Receiver<Beat>,
        maker: AgentMaker,
        tree: TreeHandle,
        agents: ChildName,
    ) -> Self {
        Self { newcomers: Arc::new(Mutex::new(newcomers)), maker, tree, agents }
    }

    async fn take_until_stopped(self, stop: CancellationToken, ready: Ready) {
        let mut newcomers = self.newcomers.lock().await;
        let mut said: Option<Instant> = None;
        ready.tell();
        loop {
            // Cancel safe: beats stay in their queue.
            let Some(Some(beat)) = stop.run_until_cancelled(newcomers.recv()).await else { return };
            let id = beat.id.clone();
            match self.take(beat).await {
                Ok(()) => tracing::info!(agent.id = %id, "a remote agent has come by itself"),
                Err(error) if said.is_none_or(|at| SAY_EVERY <= at.elapsed()) => {
                    said = Some(Instant::now());
                    tracing::warn!(agent.id = %id, %error, "a remote agent was not taken");
                }
                Err(_) => {}
            }
        }
    }

    async fn take(&self, beat: Beat) -> Result<(), Refused> {
        let board = self.tree.board();
        let name: ChildName = beat.id.as_str().parse().map_err(|_same_rules| Refused::Taken)?;
        let taken = board.find(name.as_str());
        let taken = taken.is_some_and(|entry| entry.state != AgentState::Terminated);
        if taken || self.maker.is_reserved(&name) {
            return Err(Refused::Taken);
        }
        let agents = board.agents();
        let undeclared = agents.iter().filter(|entry| {
            let labels = entry.agent.as_ref().map(|agent| &agent.labels);
            labels.is_some_and(|labels| labels.contains_key(UNDECLARED_LABEL))
        });
        if UNDECLARED_MAX <= undeclared.count() {
            return Err(Refused::Full);
        }
        let node =
            self.maker.newcomer(&name, beat).map_err(|error| Refused::Spec(error.message))?;
        Ok(self.tree.start_child(&self.agents, node).await?)
    }
}

impl Service for NewcomerService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        let service = self.clone();
        Box::pin(async move {
            service.take_until_stopped(stop, ready).await;
            Ok(())
        })
    }
}
