//! Shows children on the board and tells their changes of state.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::actors::shell::{ENDED_SHOWN_MAX, Shell, about, tell};
use crate::actors::tree::{Body, DynamicChildren, Family, Node, lock};
use crate::board::{AgentFace, Entry};
use crate::logic::lifecycle;
use crate::logic::restart::{ChildView, Input, Phase, Supervisor};
use crate::ports::RunHealth;
use crate::protocol::fact::{HealthMetrics, HealthReported};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{AgentSpec, ChildKind, RestartType};
use crate::protocol::status::{AgentState, CircuitState, HealthStatus, HealthView, Readiness};

impl Shell {
    pub(in crate::actors::shell) fn on_measured(
        &mut self,
        child: &ChildName,
        generation: Generation,
        metrics: HealthMetrics,
    ) {
        let Some(agent) = self.agent(child) else { return };
        let told = self.health.get(child).map(|health| health.status);
        let Some(status) = told.or_else(|| lifecycle::health_of(self.shown(child))) else {
            return;
        };
        self.ports.board.update(child, |entry| entry.health = HealthView { status, metrics });
        let report = HealthReported { status, metrics };
        self.announcer.health(about(child, Some(&agent), generation), report);
    }

    /// Something speaks for a run, and says how it is.
    pub(in crate::actors::shell) fn on_health(
        &mut self,
        child: ChildName,
        generation: Generation,
        health: RunHealth,
    ) {
        let healthy = health.readiness == Readiness::Ready
            && matches!(health.status, HealthStatus::Healthy | HealthStatus::Unknown);
        let status = health.status;
        if !health.message.is_empty() {
            self.announcer.because(&child, &health.message);
        }
        let before = self.health.insert(child.clone(), health);
        self.feed(Input::Health { child: child.clone(), generation, healthy }, [child.clone()]);
        if before.is_some_and(|before| before.status == status) {
            return;
        }
        self.ports.board.update(&child, |entry| entry.health.status = status);
        if let Some(agent) = self.agent(&child) {
            let metrics = self.ports.board.get(&child).map(|entry| entry.health.metrics);
            let report = HealthReported { status, metrics: metrics.unwrap_or_default() };
            self.announcer.health(about(&child, Some(&agent), generation), report);
        }
    }

    /// Compares the touched children with the board and tells what changed.
    pub(in crate::actors::shell) fn show(&mut self, touched: &BTreeSet<ChildName>) {
        for child in touched {
            match self.view(child) {
                Some(view) => self.show_child(child, &view),
                None => self.show_end(child),
            }
        }
    }

    pub(in crate::actors::shell) fn show_child(&mut self, child: &ChildName, view: &ChildView) {
        let Some(entry) = self.ports.board.get(child) else { return };
        let now = self.now();
        // A child that was not started in this life of its supervisor is as the last one left it.
        let new = match view.phase {
            Phase::Created => entry.state,
            Phase::Starting(_)
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Waiting(_)
            | Phase::Quarantined(_)
            | Phase::Parked(_)
            | Phase::Stopped
            | Phase::Finished => self.state_of(view),
        };
        let reason = self.announcer.reason(child, new);
        let changed = entry.state != new;
        let since = if changed { self.ports.clock.now() } else { entry.since };
        self.ports.board.update(child, |entry| {
            entry.state = new;
            entry.since = since;
            entry.reason = reason;
            entry.generation = view.generation;
            entry.restarts = view.restarts;
            entry.circuit = view.circuit;
            entry.retry_at = match view.phase {
                Phase::Quarantined(until) => until,
                Phase::Created
                | Phase::Starting(_)
                | Phase::Up(_)
                | Phase::Stopping
                | Phase::Waiting(_)
                | Phase::Parked(_)
                | Phase::Stopped
                | Phase::Finished => None,
            };
            entry.next = lifecycle::next_of(view, now)
                .map(|next| (next.action, now + Duration::from_millis(next.in_ms)));
        });
        if changed {
            tracing::info!(child = %child, from = %entry.state, to = %new, "state changed");
            let agent = self.agent(child);
            let about = about(child, agent.as_deref(), view.generation);
            let pid = self.ports.board.get(child).and_then(|entry| entry.pid);
            self.announcer.state_changed(about, entry.state, new, pid);
        }
        if view.phase == Phase::Stopped && view.outage.is_none() {
            self.announcer.outage_over(child);
        }
    }

    /// A child that the machine no longer knows: it ended for good, or, when somebody asked for
    /// that, until somebody starts it again.
    pub(in crate::actors::shell) fn show_end(&mut self, child: &ChildName) {
        let Some(entry) = self.ports.board.get(child) else { return };
        let ended = entry.state == AgentState::Terminated || !self.bodies.contains_key(child);
        if ended || self.is_being_added(child) {
            return;
        }
        let asked = self.announcer.was_asked(child);
        let state = if asked { AgentState::Stopped } else { AgentState::Terminated };
        let since = self.ports.clock.now();
        let reason = self.announcer.reason(child, state);
        self.ports.board.update(child, |entry| {
            entry.state = state;
            entry.since = since;
            entry.reason = reason;
            entry.pid = None;
            entry.next = None;
            entry.retry_at = None;
        });
        let agent = self.agent(child);
        let about = about(child, agent.as_deref(), entry.generation);
        if entry.state != state {
            self.announcer.state_changed(about, entry.state, state, None);
        }
        self.drop_body(child);
        self.ended_shown.push_back(child.clone());
        if ENDED_SHOWN_MAX < self.ended_shown.len()
            && let Some(oldest) = self.ended_shown.pop_front()
            && !self.bodies.contains_key(&oldest)
        {
            self.ports.board.remove(&oldest);
        }
    }

    /// The supervisor was killed, and its children are killed with it.
    pub(in crate::actors::shell) fn show_all_down(&mut self) {
        // By bodies: the machine may have forgotten a child whose end was not told yet.
        let children: Vec<ChildName> = self.bodies.keys().cloned().collect();
        for child in children {
            let Some(entry) = self.ports.board.get(&child) else { continue };
            if entry.state == AgentState::Created || !entry.state.takes_a_place() {
                continue;
            }
            let reason = format!("its supervisor {} was killed", self.spec.name);
            self.announcer.requested(&child, &reason);
            let since = self.ports.clock.now();
            self.ports.board.update(&child, |entry| {
                entry.state = AgentState::Stopped;
                entry.since = since;
                entry.reason = reason;
                (entry.pid, entry.next, entry.retry_at) = (None, None, None);
            });
            let agent = self.agent(&child);
            let about = about(&child, agent.as_deref(), entry.generation);
            // This may run while the supervisor's own panic unwinds: another one would end the
            // daemon, and leave the other children undone. Nothing half-changed is used again.
            let tell =
                || self.announcer.state_changed(about, entry.state, AgentState::Stopped, None);
            if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                tracing::error!(child = %child, "the event sink panicked; its event is lost");
            }
        }
    }

    /// Enters a child: its body, its place on the board, and for a new agent its first event.
    pub(in crate::actors::shell) fn adopt(&mut self, node: Node) {
        let Node { spec, body } = node;
        let name = spec.name.clone();
        let agent = match &body {
            Body::Worker(worker) => worker.agent.clone(),
            Body::Supervisor(_) => None,
        };
        let known = self.ports.board.get(&name);
        let fresh = known.is_none_or(|entry| entry.state == AgentState::Terminated);
        if fresh {
            let entry = self.entry(&spec.name, spec.kind, agent.as_deref());
            self.ports.board.put(entry);
        }
        self.bodies.insert(name.clone(), body);
        if let Some(agent) = agent.filter(|_| fresh) {
            let generation = self.ports.runs.last(&name);
            let about = about(&name, Some(&agent), generation);
            self.announcer.spawned(about, &agent, "spawned");
        }
    }

    /// Whether a child's only run was in a former life of this supervisor, which ended under it. A
    /// temporary child never has a second one.
    pub(in crate::actors::shell) fn is_over(&self, node: &Node) -> bool {
        let begun = |name| {
            self.ports.board.get(name).is_some_and(|entry| entry.state != AgentState::Created)
        };
        self.dynamic() == DynamicChildren::Keep
            && !self.has_template()
            && node.spec.restart == RestartType::Temporary
            && begun(&node.spec.name)
    }

    /// Shows such a child's end.
    pub(in crate::actors::shell) fn lay_off(&mut self, node: Node) {
        let name = node.spec.name;
        self.bodies.insert(name.clone(), node.body);
        self.announcer.because(&name, "temporary: it is not restarted with its supervisor");
        self.show_end(&name);
    }

    /// Forgets a child for good: it was deleted, or its first start failed.
    pub(in crate::actors::shell) fn forget(&mut self, child: &ChildName) {
        if let Some(entry) = self.ports.board.get(child)
            && entry.state != AgentState::Terminated
        {
            let agent = self.agent(child);
            let about = about(child, agent.as_deref(), entry.generation);
            self.announcer.state_changed(about, entry.state, AgentState::Terminated, None);
        }
        self.ports.board.remove(child);
        self.drop_body(child);
    }

    pub(in crate::actors::shell) fn drop_body(&mut self, child: &ChildName) {
        self.bodies.remove(child);
        self.draining.remove(child);
        self.announcer.forget(child);
        let keep = !self.has_template();
        let mut tree = lock(&self.tree);
        if keep && tree.dynamic == DynamicChildren::Keep {
            tree.children.retain(|node| node.spec.name != *child);
        }
        drop(tree);
        self.ports
            .board
            .update(&self.spec.name, |entry| entry.children.retain(|name| name != child));
    }

    /// Somebody wants to know the children.
    pub(crate) fn on_children(&self, reply: oneshot::Sender<Family>) {
        let machine = self.machine.as_ref();
        let children = machine.map(Supervisor::children).unwrap_or_default();
        let counts = machine.map(Supervisor::counts).unwrap_or_default();
        tell(reply, Family { children, counts });
    }

    pub(in crate::actors::shell) fn show_children(&self) {
        let children = self.names();
        self.ports.board.update(&self.spec.name, |entry| entry.children = children);
    }

    pub(in crate::actors::shell) fn put_self_on_board(&self) {
        let mut entry = match self.ports.board.get(&self.spec.name) {
            Some(entry) => entry,
            None => self.entry(&self.spec.name, ChildKind::Supervisor, None),
        };
        entry.parent.clone_from(&self.parent);
        entry.supervisor = Some((self.spec.strategy, self.spec.limit));
        if self.parent.is_none() {
            entry.state = AgentState::Starting;
        }
        self.ports.board.put(entry);
    }

    pub(in crate::actors::shell) fn entry(
        &self,
        name: &ChildName,
        kind: ChildKind,
        agent: Option<&AgentSpec>,
    ) -> Entry {
        let face = |agent: &AgentSpec| AgentFace {
            agent_id: agent.agent_id.clone(),
            agent_type: agent.agent_type.clone(),
            labels: agent.labels.clone(),
        };
        Entry {
            name: name.clone(),
            kind,
            parent: Some(self.spec.name.clone()),
            agent: agent.map(face),
            state: AgentState::Created,
            generation: self.ports.runs.last(name),
            pid: None,
            containment: None,
            restarts: 0,
            since: self.ports.clock.now(),
            reason: String::new(),
            circuit: CircuitState::Closed,
            retry_at: None,
            next: None,
            health: HealthView::default(),
            supervisor: None,
            children: Vec::new(),
        }
    }
}
