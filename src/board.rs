//! The board: what every child's state is right now. Actors write, readers copy.
//!
//! No guard of the map leaves this file, so nobody can hold a shard locked across an `.await`.
//! Countdowns are kept as instants and turned into milliseconds when somebody reads.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use jiff::Timestamp;

use crate::protocol::decision::{NextAction, NextKind};
use crate::protocol::id::{AgentId, AgentTypeName, ChildName, Generation, NodeName};
use crate::protocol::route::Standing;
use crate::protocol::shown::{AgentIdentity, ChildShown};
use crate::protocol::spec::{ChildKind, Limit, RuntimeKind, Strategy};
use crate::protocol::status::{
    AgentState, AgentStatus, CircuitState, CircuitStatus, Containment, HealthView, LimitHold,
    TreeNode,
};

/// Countdowns that differ by less were told already: they are drawn up anew, rounded, at every look.
const SAME_COUNTDOWN: Duration = Duration::from_millis(5);

/// What makes a child an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentFace {
    /// Identity.
    pub agent_id: AgentId,
    /// Type.
    pub agent_type: AgentTypeName,
    /// How it runs.
    pub runtime: RuntimeKind,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Tasks that it takes at a time.
    pub slots: u32,
}

/// One child on the board.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name.
    pub name: ChildName,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// Its supervisor; `None` for the root.
    pub parent: Option<ChildName>,
    /// Agent part, if it is an agent.
    pub agent: Option<AgentFace>,
    /// State.
    pub state: AgentState,
    /// Whether it may be given work, if it is an agent.
    pub standing: Standing,
    /// Present or last run.
    pub generation: Generation,
    /// Process id, if a process runs.
    pub pid: Option<u32>,
    /// What holds its processes together, if processes run.
    pub containment: Option<Containment>,
    /// Limits of its processes, and who holds them, if processes run.
    pub limits: BTreeMap<String, LimitHold>,
    /// Restarts so far.
    pub restarts: u64,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// State of its circuit.
    pub circuit: CircuitState,
    /// When the circuit admits its next trial.
    pub retry_at: Option<Instant>,
    /// What happens next, and when.
    pub next: Option<(NextKind, Instant)>,
    /// Health.
    pub health: HealthView,
    /// Strategy and limit, if it is a supervisor.
    pub supervisor: Option<(Strategy, Option<Limit>)>,
    /// Children in start order, if it is a supervisor.
    pub children: BTreeMap<u64, ChildName>,
    /// Its place among its siblings, while it is one of them.
    pub place: Option<u64>,
    /// What of this was told last.
    pub told: Option<Told>,
}

/// How a child was told last: enough to know that nothing has changed since.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    fingerprint: u64,
    retry_at: Option<Instant>,
    next_at: Option<Instant>,
}

/// Statuses of all children of one daemon or embedded tree.
#[derive(Debug, Default)]
pub struct Board {
    /// Boxed, because a table that grows is half empty.
    entries: DashMap<ChildName, Box<Entry>, RandomState>,
    names: DashMap<AgentId, ChildName>,
}

impl Board {
    /// Writes one child's entry.
    pub fn put(&self, entry: Entry) {
        if let Some(agent) = &entry.agent {
            self.names.insert(agent.agent_id.clone(), entry.name.clone());
        }
        self.entries.insert(entry.name.clone(), Box::new(entry));
    }

    /// Changes one child's entry in place and returns what the change says; nothing happens when it
    /// is not there. The change must not come back to the board.
    pub fn update<T>(&self, name: &ChildName, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.entries.get_mut(name).map(|mut entry| change(&mut entry))
    }

    /// Reads one child's entry without copying it. The reader must not come back to the board.
    #[must_use]
    pub fn read<T>(&self, name: &ChildName, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.entries.get(name).map(|entry| look(&entry))
    }

    /// Takes one child off the board.
    pub fn remove(&self, name: &ChildName) -> Option<Entry> {
        let (_, entry) = self.entries.remove(name)?;
        if let Some(agent) = &entry.agent {
            self.names.remove(&agent.agent_id);
        }
        Some(*entry)
    }

    /// One child's entry.
    #[must_use]
    pub fn get(&self, name: &ChildName) -> Option<Entry> {
        self.entries.get(name).map(|entry| Entry::clone(&entry))
    }

    /// Finds a child by its name or its agent id.
    #[must_use]
    pub fn find(&self, name_or_id: &str) -> Option<Entry> {
        let by_name = name_or_id.parse::<ChildName>().ok().and_then(|name| self.get(&name));
        by_name.or_else(|| {
            let id = name_or_id.parse::<AgentId>().ok()?;
            let name = self.names.get(&id).map(|name| name.clone())?;
            self.get(&name)
        })
    }

    /// All agents, by name.
    #[must_use]
    pub fn agents(&self) -> Vec<Entry> {
        let agents = self.entries.iter().filter(|entry| entry.agent.is_some());
        let mut agents: Vec<Entry> = agents.map(|entry| Entry::clone(&entry)).collect();
        agents.sort_by(|one, other| one.name.cmp(&other.name));
        agents
    }

    /// How many local agents take a place of the pool.
    #[must_use]
    pub fn places_taken(&self) -> usize {
        let is_local = |agent: &AgentFace| agent.runtime != RuntimeKind::Remote;
        let takes = |entry: &Entry| {
            entry.agent.as_ref().is_some_and(is_local) && entry.state.takes_a_place()
        };
        self.entries.iter().filter(|entry| takes(entry)).count()
    }

    /// One child as it is told, and the mark for [`Self::was_told`]; `None` when that was told already,
    /// or when it is not here.
    #[must_use]
    pub fn untold(&self, name: &ChildName, now: Instant) -> Option<(ChildShown, Told)> {
        let entry = self.entries.get(name)?;
        let mark = entry.mark();
        let known = entry.told.is_some_and(|told| told.is_like(mark));
        (!known).then(|| (entry.shown(now), mark))
    }

    /// Remembers that a child was told like this.
    pub fn was_told(&self, name: &ChildName, told: Told) {
        self.update(name, |entry| entry.told = Some(told));
    }

    /// All children as they are told, by name.
    #[must_use]
    pub fn all_shown(&self, now: Instant) -> Vec<ChildShown> {
        let mut all: Vec<ChildShown> = self.entries.iter().map(|entry| entry.shown(now)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// The tree below a child, itself included.
    #[must_use]
    pub fn tree(&self, root: &ChildName, now: Instant) -> Option<TreeNode> {
        let entry = self.get(root)?;
        let children = entry.children.values().filter_map(|child| self.tree(child, now)).collect();
        Some(entry.tree_node(now, children))
    }
}

impl Entry {
    /// Forgets what is known of a run that is no more.
    pub fn run_is_over(&mut self) {
        self.pid = None;
        self.standing = match self.state {
            AgentState::Quarantined => Standing::CircuitOpen,
            AgentState::Created
            | AgentState::Starting
            | AgentState::Running
            | AgentState::Degraded
            | AgentState::Stopping
            | AgentState::Backoff
            | AgentState::Probation
            | AgentState::Parked
            | AgentState::Stopped
            | AgentState::Terminated => Standing::Down,
        };
        self.containment = None;
        self.limits.clear();
        self.health = HealthView::default();
    }

    /// The child as it is told.
    #[must_use]
    pub fn shown(&self, now: Instant) -> ChildShown {
        let identity = |agent: &AgentFace| AgentIdentity {
            agent_id: agent.agent_id.clone(),
            agent_type: agent.agent_type.clone(),
            labels: agent.labels.clone(),
        };
        ChildShown {
            name: self.name.clone(),
            kind: self.kind,
            parent: self.parent.clone(),
            place: self.place,
            agent: self.agent.as_ref().map(identity),
            state: self.state,
            generation: self.generation,
            pid: self.pid,
            restarts: self.restarts,
            since: self.since,
            reason: self.reason.clone(),
            circuit: self.circuit_status(now),
            next: self.next_action(now),
            strategy: self.supervisor.map(|(strategy, _)| strategy),
            limit: self.supervisor.and_then(|(_, limit)| limit),
            containment: self.containment,
            limits: self.limits.clone(),
        }
    }

    fn mark(&self) -> Told {
        let mut hasher = DefaultHasher::new();
        (self.kind, &self.parent, self.place, self.state, self.generation.0).hash(&mut hasher);
        (self.pid, self.restarts, self.since, &self.reason, self.circuit).hash(&mut hasher);
        (self.next.map(|(kind, _)| kind), self.supervisor).hash(&mut hasher);
        (self.containment, &self.limits).hash(&mut hasher);
        if let Some(agent) = &self.agent {
            (agent.agent_id.as_str(), agent.agent_type.as_str(), &agent.labels).hash(&mut hasher);
        }
        let next_at = self.next.map(|(_, at)| at);
        Told { fingerprint: hasher.finish(), retry_at: self.retry_at, next_at }
    }

    /// The agent's status on the wire; `None` when the child is no agent.
    #[must_use]
    pub fn agent_status(&self, node: &NodeName, now: Instant) -> Option<AgentStatus> {
        let agent = self.agent.clone()?;
        Some(AgentStatus {
            agent_id: agent.agent_id,
            name: self.name.clone(),
            agent_type: agent.agent_type,
            node: node.clone(),
            state: self.state,
            generation: self.generation,
            pid: self.pid,
            restarts: self.restarts,
            since: self.since,
            reason: self.reason.clone(),
            circuit: self.circuit_status(now),
            health: self.health,
            next: self.next_action(now),
            labels: agent.labels,
            containment: self.containment,
            limits: self.limits.clone(),
        })
    }

    fn tree_node(&self, now: Instant, children: Vec<TreeNode>) -> TreeNode {
        TreeNode {
            name: self.name.clone(),
            kind: self.kind,
            state: self.state,
            generation: self.generation,
            pid: self.pid,
            restarts: self.restarts,
            circuit: self.circuit_status(now),
            reason: self.reason.clone(),
            agent_id: self.agent.as_ref().map(|agent| agent.agent_id.clone()),
            strategy: self.supervisor.map(|(strategy, _)| strategy),
            limit: self.supervisor.and_then(|(_, limit)| limit),
            children,
        }
    }

    fn circuit_status(&self, now: Instant) -> CircuitStatus {
        CircuitStatus {
            state: self.circuit,
            retry_after_ms: self.retry_at.map(|at| millis_until(at, now)),
        }
    }

    fn next_action(&self, now: Instant) -> Option<NextAction> {
        self.next.map(|(action, at)| NextAction { action, in_ms: millis_until(at, now) })
    }
}

impl Told {
    fn is_like(self, other: Self) -> bool {
        let same = |one: Option<Instant>, other: Option<Instant>| match (one, other) {
            (Some(one), Some(other)) => {
                one.max(other).saturating_duration_since(one.min(other)) < SAME_COUNTDOWN
            }
            (one, other) => one == other,
        };
        self.fingerprint == other.fingerprint
            && same(self.retry_at, other.retry_at)
            && same(self.next_at, other.next_at)
    }
}

fn millis_until(at: Instant, now: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)
}
