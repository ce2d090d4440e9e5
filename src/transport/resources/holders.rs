//! Which runs of agents hold something, and which of them have ended.
//!
//! A run that was granted in this life of the daemon is known by its generation. One that an earlier
//! daemon knew may have been adopted and then has another number: its process tells whether it is
//! the same; without a process (remote and exec agents) the first run that is seen counts as the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::board::{Board, Entry};
use crate::protocol::id::{AgentId, Generation};
use crate::protocol::resource::HolderRun;
use crate::protocol::status::AgentState;

/// Time that agents have to be found again after the daemon began.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// Looks runs up on the board.
#[derive(Debug)]
pub(crate) struct Holders {
    board: Arc<Board>,
    since: Instant,
    own: BTreeSet<(AgentId, Generation)>,
    heirs: BTreeMap<(AgentId, Generation), Generation>,
}

/// Who a holder is.
#[derive(Debug)]
pub(crate) enum Who {
    /// No agent of this daemon.
    Other,
    /// A run of an agent.
    Run(HolderRun),
    /// An agent that does not run.
    Down,
}

impl Holders {
    pub(crate) fn new(board: Arc<Board>) -> Self {
        Self { board, since: Instant::now(), own: BTreeSet::new(), heirs: BTreeMap::new() }
    }

    /// Finds out who asks, by agent id or name.
    pub(crate) fn who(&mut self, holder: &str) -> Who {
        let Some(entry) = self.board.find(holder) else { return Who::Other };
        let Some(agent) = &entry.agent else { return Who::Other };
        if !is_live(&entry) {
            return Who::Down;
        }
        let (agent, generation) = (agent.agent_id.clone(), entry.generation);
        self.own.insert((agent.clone(), generation));
        Who::Run(HolderRun { agent, generation, pid: entry.pid })
    }

    /// The runs among these that have ended.
    pub(crate) fn ended(&mut self, runs: BTreeSet<HolderRun>) -> BTreeSet<HolderRun> {
        let ended: BTreeSet<HolderRun> = runs.into_iter().filter(|run| self.is_over(run)).collect();
        for run in &ended {
            let key = (run.agent.clone(), run.generation);
            self.own.remove(&key);
            self.heirs.remove(&key);
        }
        ended
    }

    fn is_over(&mut self, run: &HolderRun) -> bool {
        let may_come = self.since.elapsed() < FOUND_WITHIN;
        let key = (run.agent.clone(), run.generation);
        let own = self.own.contains(&key);
        let Some(entry) = self.board.find(run.agent.as_str()) else { return own || !may_come };
        if own {
            return entry.generation != run.generation || !is_live(&entry);
        }
        match entry.state {
            // Its process may be about to be found again.
            AgentState::Created | AgentState::Starting => !may_come,
            AgentState::Running
            | AgentState::Degraded
            | AgentState::Probation
            | AgentState::Stopping => match run.pid {
                Some(_) => run.pid != entry.pid,
                None => *self.heirs.entry(key).or_insert(entry.generation) != entry.generation,
            },
            AgentState::Backoff
            | AgentState::Quarantined
            | AgentState::Parked
            | AgentState::Stopped
            | AgentState::Terminated => true,
        }
    }
}

fn is_live(entry: &Entry) -> bool {
    match entry.state {
        AgentState::Starting
        | AgentState::Running
        | AgentState::Degraded
        | AgentState::Probation
        | AgentState::Stopping => true,
        AgentState::Created
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => false,
    }
}
