//! All downstreams together: for those who call them, who ask how they are, or who act on a
//! circuit by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::adapters::care::Downstream;
use crate::board::Board;
use crate::logic::breaker::{Force, State};
use crate::ports::{BoxFuture, DownstreamCalls, HealthChecks};
use crate::protocol::command::CircuitSet;
use crate::protocol::downstream::{
    CallDone, CallError, CallRequest, DownstreamStatus, ServiceHealth,
};
use crate::protocol::id::ChildName;
use crate::protocol::status::{AgentState, CircuitState, CircuitStatus};

/// How old a check may be to be shown again. So readers, however many there are, cause at most one
/// check a second of each downstream; and what died a moment ago is seen.
pub const FRESH: Duration = Duration::from_secs(1);

/// All downstreams of a daemon. Clones are the same desk.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    downstreams: Arc<BTreeMap<ChildName, Arc<Downstream>>>,
    board: Arc<Board>,
}

impl Desk {
    /// A desk of these downstreams; the board tells the state of their children.
    #[must_use]
    pub fn new(downstreams: impl IntoIterator<Item = Arc<Downstream>>, board: Arc<Board>) -> Self {
        let named = downstreams.into_iter().map(|one| (one.path().name().clone(), one));
        Self { downstreams: Arc::new(named.collect()), board }
    }

    /// A desk of downstreams under names of its own.
    #[cfg(test)]
    pub(crate) fn named(
        downstreams: impl IntoIterator<Item = (ChildName, Arc<Downstream>)>,
    ) -> Self {
        Self { downstreams: Arc::new(downstreams.into_iter().collect()), board: Arc::default() }
    }

    /// One downstream.
    #[must_use]
    pub fn get(&self, name: &ChildName) -> Option<&Arc<Downstream>> {
        self.downstreams.get(name)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&ChildName, &Arc<Downstream>)> {
        self.downstreams.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.downstreams.is_empty()
    }
}

impl Downstream {
    /// Its circuit, as readers see it.
    #[must_use]
    pub fn circuit(&self) -> CircuitStatus {
        let breaker = self.path().breaker();
        let state = breaker.snapshot().state;
        let retry_after_ms = match state {
            State::Open { .. } => breaker.wait_ms(),
            State::Closed | State::HalfOpen { .. } | State::ForcedOpen | State::ForcedClosed => {
                None
            }
        };
        CircuitStatus { state: state.circuit(), retry_after_ms }
    }

    fn status(&self, board: &Board) -> DownstreamStatus {
        let path = self.path();
        let state = board.read(path.name(), |entry| entry.state).unwrap_or_default();
        let circuit = self.circuit();
        DownstreamStatus {
            name: path.name().clone(),
            kind: path.connector().kind().to_owned(),
            state: state_with(state, circuit.state),
            circuit,
            counts: path.counts(),
            in_flight: path.in_flight(),
            health: self.health(),
        }
    }
}

/// The state of a downstream's child, its circuit included: there is one account for both.
#[must_use]
pub fn state_with(state: AgentState, circuit: CircuitState) -> AgentState {
    let up = match state {
        AgentState::Created
        | AgentState::Starting
        | AgentState::Running
        | AgentState::Degraded
        | AgentState::Backoff => true,
        AgentState::Stopping
        | AgentState::Quarantined
        | AgentState::Probation
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => false,
    };
    match circuit {
        CircuitState::Open | CircuitState::ForcedOpen if up => AgentState::Quarantined,
        CircuitState::HalfOpen if up => AgentState::Probation,
        CircuitState::Open
        | CircuitState::ForcedOpen
        | CircuitState::HalfOpen
        | CircuitState::Closed
        | CircuitState::ForcedClosed => state,
    }
}

impl HealthChecks for Desk {
    fn check_all(&self) -> BoxFuture<'_, Vec<ServiceHealth>> {
        let looks: Vec<_> = self.downstreams.values().map(|one| one.look(FRESH)).collect();
        Box::pin(join_all(looks))
    }
}

impl DownstreamCalls for Desk {
    fn call(
        &self,
        name: &ChildName,
        request: CallRequest,
    ) -> Option<BoxFuture<'static, Result<CallDone, CallError>>> {
        let downstream = Arc::clone(self.downstreams.get(name)?);
        Some(Box::pin(async move { downstream.path().call(request).await }))
    }

    fn status(&self, name: &ChildName) -> Option<DownstreamStatus> {
        self.downstreams.get(name).map(|one| one.status(&self.board))
    }

    fn circuits(&self) -> BTreeMap<ChildName, CircuitStatus> {
        self.downstreams.iter().map(|(name, one)| (name.clone(), one.circuit())).collect()
    }

    fn set_circuit(&self, name: &ChildName, set: CircuitSet) -> Option<()> {
        let force = match set {
            CircuitSet::Open => Force::Open,
            CircuitSet::Closed => Force::Closed,
            CircuitSet::Auto => Force::Auto,
        };
        self.downstreams.get(name)?.path().breaker().force(force);
        Some(())
    }
}
