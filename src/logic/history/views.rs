//! The documents that readers had then: statuses and the tree, countdowns counted on to the moment.

use jiff::Timestamp;

use crate::logic::history::{Child, History};
use crate::protocol::decision::NextAction;
use crate::protocol::id::ChildName;
use crate::protocol::spec::ChildKind;
use crate::protocol::status::{AgentStatus, CircuitStatus, HealthView, TreeNode};

impl History {
    /// All agents as they were listed, by name. Health is unknown: its events are kept elsewhere.
    #[must_use]
    pub fn agents(&self, at: Timestamp) -> Vec<AgentStatus> {
        self.children().filter_map(|child| self.agent_status(child, at)).collect()
    }

    /// One agent as its status was; `None` when the child is no agent.
    #[must_use]
    pub fn agent_status(&self, child: &Child, at: Timestamp) -> Option<AgentStatus> {
        let shown = &child.shown;
        let agent = shown.agent.clone()?;
        Some(AgentStatus {
            agent_id: agent.agent_id,
            name: shown.name.clone(),
            agent_type: agent.agent_type,
            node: self.node.clone().or_else(|| "unknown".parse().ok())?,
            state: shown.state,
            generation: shown.generation,
            pid: shown.pid,
            restarts: shown.restarts,
            since: shown.since,
            reason: shown.reason.clone(),
            circuit: child.circuit(at),
            health: HealthView::default(),
            next: child.next(at),
            labels: agent.labels,
            containment: shown.containment,
            limits: shown.limits.clone(),
        })
    }

    /// The whole tree as it was; `None` when nothing was told of its root.
    #[must_use]
    pub fn tree(&self, at: Timestamp) -> Option<TreeNode> {
        let is_root = |child: &&Child| {
            child.shown.parent.is_none() && child.shown.kind == ChildKind::Supervisor
        };
        self.children().find(is_root).map(|root| self.below(root, at))
    }

    fn below(&self, child: &Child, at: Timestamp) -> TreeNode {
        let shown = &child.shown;
        TreeNode {
            name: shown.name.clone(),
            kind: shown.kind,
            state: shown.state,
            generation: shown.generation,
            pid: shown.pid,
            restarts: shown.restarts,
            circuit: child.circuit(at),
            reason: shown.reason.clone(),
            agent_id: shown.agent.as_ref().map(|agent| agent.agent_id.clone()),
            strategy: shown.strategy,
            limit: shown.limit,
            children: self.kin(&shown.name).map(|kin| self.below(kin, at)).collect(),
        }
    }

    /// The children of a supervisor in start order.
    pub fn kin(&self, parent: &ChildName) -> impl Iterator<Item = &Child> {
        let mut kin: Vec<&Child> = self
            .children()
            .filter(|child| child.shown.parent.as_ref() == Some(parent))
            .filter(|child| child.shown.place.is_some())
            .collect();
        kin.sort_by(|one, other| {
            (one.shown.place, &one.shown.name).cmp(&(other.shown.place, &other.shown.name))
        });
        kin.into_iter()
    }
}

impl Child {
    /// Its circuit at a moment.
    #[must_use]
    pub fn circuit(&self, at: Timestamp) -> CircuitStatus {
        let circuit = self.shown.circuit;
        let retry_after_ms = circuit.retry_after_ms.map(|after| self.left(after, at));
        CircuitStatus { retry_after_ms, ..circuit }
    }

    /// What happens next, from a moment on.
    #[must_use]
    pub fn next(&self, at: Timestamp) -> Option<NextAction> {
        let next = self.shown.next?;
        Some(NextAction { in_ms: self.left(next.in_ms, at), ..next })
    }

    fn left(&self, after_ms: u64, at: Timestamp) -> u64 {
        let passed = at.duration_since(self.told_at).as_millis();
        after_ms.saturating_sub(u64::try_from(passed).unwrap_or(0))
    }
}
