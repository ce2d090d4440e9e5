//! Shows children on the board and tells their changes of state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::actors::shell::{
    ENDED_SHOWN_MAX, Kid, Live, MadeFor, Shell, about, standing_of, state_of, tell,
};
use crate::actors::tree::{Body, DynamicChildren, Family, Node};
use crate::board::{AgentFace, Entry};
use crate::logic::lifecycle::{self, Intake};
use crate::logic::restart::{ChildView, Input, Phase, Supervisor};
use crate::ports::RunHealth;
use crate::protocol::fact::{HealthMetrics, HealthReported};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::route::Standing;
use crate::protocol::spec::{AgentSpec, ChildKind, RestartType};
use crate::protocol::status::{AgentState, CircuitState, HealthStatus, HealthView, Readiness};

/// Whether a child stands among its siblings from the beginning, or once its start was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::actors::shell) enum Listing {
    Listed,
    Later,
}

impl Shell {
    pub(in crate::actors::shell) fn on_measured(
        &mut self,
        child: &ChildName,
        generation: Generation,
        metrics: HealthMetrics,
    ) {
        let Some(agent) = self.agent(child) else { return };
        let told = self.kids.get(child).and_then(|kid| kid.health.as_ref()).map(|told| told.status);
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
        let kid = self.kids.get_mut(&child);
        let before = kid.and_then(|kid| kid.health.replace(Box::new(health)));
        let input = Input::Health { child: child.clone(), generation, healthy };
        self.feed(input, Some(child.clone()));
        if before.is_some_and(|before| before.status == status) {
            return;
        }
        let metrics = self.ports.board.update(&child, |entry| {
            entry.health.status = status;
            entry.health.metrics
        });
        if let Some(agent) = self.agent(&child) {
            let report = HealthReported { status, metrics: metrics.unwrap_or_default() };
            self.announcer.health(about(&child, Some(&agent), generation), report);
        }
    }

    /// Compares the touched children with the board and tells what changed, by name.
    pub(in crate::actors::shell) fn show(&mut self, now: Instant, touched: &mut Vec<ChildName>) {
        touched.sort_unstable();
        touched.dedup();
        // What is shown together is of one time.
        let mut since = None;
        for child in touched.iter() {
            match self.view(child) {
                Some(view) => self.show_child((now, &mut since), child, &view),
                None => self.show_end(child),
            }
        }
    }

    fn show_child(
        &mut self,
        (now, since): (Instant, &mut Option<Timestamp>),
        child: &ChildName,
        view: &ChildView,
    ) {
        let kid = self.kids.get(child);
        let new = match view.phase {
            // A child that was not started in this life of its supervisor is as the last one left
            // it.
            Phase::Created => self.shown(child),
            Phase::Starting(_)
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Waiting(_)
            | Phase::Quarantined(_)
            | Phase::Parked(_)
            | Phase::Stopped
            | Phase::Finished => state_of(kid, view),
        };
        let is_present = |live: &Live| live.generation == view.generation;
        let runs = matches!(view.phase, Phase::Up(_) | Phase::Stopping)
            && kid.and_then(|kid| kid.live.as_ref()).is_some_and(is_present);
        let retry_at = match view.phase {
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
        let next = lifecycle::next_of(view, now)
            .map(|next| (next.action, now + Duration::from_millis(next.in_ms)));
        let standing = standing_of(kid, new);
        let shown = self.ports.board.update(child, |entry| {
            let old = entry.state;
            if old != new {
                (entry.state, entry.since) =
                    (new, *since.get_or_insert_with(|| self.ports.clock.now()));
            }
            entry.standing = standing;
            if !runs {
                entry.run_is_over();
            }
            self.announcer.write_reason(child, new, &mut entry.reason);
            entry.generation = view.generation;
            entry.restarts = view.restarts;
            entry.circuit = view.circuit;
            (entry.retry_at, entry.next) = (retry_at, next);
            old
        });
        if let Some(old) = shown {
            let step = (old != new).then_some((old, new));
            if step.is_some() {
                tracing::info!(child = %child, from = %old, to = %new, "state changed");
            }
            self.tell_step(child, view.generation, step);
        }
        if view.phase == Phase::Stopped && view.outage.is_none() {
            self.announcer.outage_over(child);
        }
        self.release_worker(child, view.phase);
    }

    /// Lets the worker of a child go that nothing will start again by itself.
    fn release_worker(&mut self, child: &ChildName, phase: Phase) {
        let stays = match phase {
            Phase::Starting(_)
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Waiting(_)
            | Phase::Quarantined(Some(_))
            | Phase::Parked(_) => true,
            Phase::Created | Phase::Quarantined(None) | Phase::Stopped | Phase::Finished => false,
        };
        let restarts = || self.machine.as_ref().is_some_and(Supervisor::restarts_group);
        if !stays
            && !restarts()
            && let Some(kid) = self.kids.get_mut(child)
        {
            kid.idle = None;
        }
    }

    /// A child that the machine no longer knows: it ended for good, or, when somebody asked for
    /// that, until somebody starts it again.
    pub(in crate::actors::shell) fn show_end(&mut self, child: &ChildName) {
        let known = self.ports.board.read(child, |entry| (entry.state, entry.generation));
        let Some((old, generation)) = known else { return };
        let ended = old == AgentState::Terminated || !self.kids.contains_key(child);
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
            (entry.next, entry.retry_at) = (None, None);
            entry.place = None;
            entry.run_is_over();
        });
        self.tell_step(child, generation, (old != state).then_some((old, state)));
        self.drop_kid(child);
        self.ended_shown.push_back(child.clone());
        if ENDED_SHOWN_MAX < self.ended_shown.len()
            && let Some(oldest) = self.ended_shown.pop_front()
            && !self.kids.contains_key(&oldest)
        {
            self.take_off(&oldest, None);
        }
    }

    /// The supervisor was killed, and its children are killed with it.
    pub(in crate::actors::shell) fn show_all_down(&mut self) {
        // Not by the machine's: it may have forgotten a child whose end was not told yet.
        let children: BTreeMap<u64, ChildName> =
            self.kids.iter().map(|(name, kid)| (kid.order, name.clone())).collect();
        for child in children.into_values() {
            let known = self.ports.board.read(&child, |entry| (entry.state, entry.generation));
            let Some((old, generation)) = known else { continue };
            if old == AgentState::Created || !old.takes_a_place() {
                continue;
            }
            let reason = format!("its supervisor {} was killed", self.spec.name);
            self.announcer.requested(&child, &reason);
            let since = self.ports.clock.now();
            self.ports.board.update(&child, |entry| {
                entry.state = AgentState::Stopped;
                entry.since = since;
                entry.reason = reason;
                (entry.next, entry.retry_at) = (None, None);
                entry.run_is_over();
            });
            self.tell_at_last(child.as_str(), |shell| {
                shell.tell_step(&child, generation, Some((old, AgentState::Stopped)));
            });
        }
    }

    /// Enters a child: its body, its place on the board, and for a new agent its first event.
    pub(in crate::actors::shell) fn adopt(&mut self, node: Node, listing: Listing) {
        let Node { spec, body } = node;
        let name = spec.name.clone();
        let agent = match &body {
            Body::Worker(worker) => worker.agent.clone(),
            Body::Supervisor(_) => None,
        };
        let known = self.ports.board.read(&name, |entry| entry.state);
        let fresh = known.is_none_or(|state| state == AgentState::Terminated);
        if fresh {
            self.clear_places(&name);
            let entry = self.entry(&spec.name, spec.kind, agent.as_deref());
            self.ports.board.put(entry);
        }
        let order = self.enter(name.clone(), body);
        if listing == Listing::Listed {
            self.ports.board.update(&name, |entry| entry.place = Some(order));
        }
        if fresh && self.ports.runs.is_to_be_adopted(&name) {
            self.announcer.is_to_be_adopted(&name);
        } else if let Some(agent) = agent.filter(|_| fresh) {
            let generation = self.ports.runs.last(&name);
            self.announcer.because(&name, "spawned");
            let (shown, told) = self.ports.board.untold(&name, self.now()).unzip();
            let about = about(&name, Some(&agent), generation);
            self.announcer.spawned(about, &agent, shown);
            if let Some(told) = told {
                self.ports.board.was_told(&name, told);
            }
        }
    }

    /// Enters a child, and gives it its place.
    fn enter(&mut self, name: ChildName, body: Body) -> u64 {
        self.kids_made = self.kids_made.saturating_add(1);
        let order = self.kids_made;
        let intake = Intake::Open;
        let kid = Kid {
            body,
            order,
            listed: false,
            live: None,
            idle: None,
            made_for: MadeFor::Present,
            intake,
            health: None,
        };
        self.kids.insert(name, kid);
        order
    }

    /// Whether a child's only run was in a former life of this supervisor, which ended under it. A
    /// temporary child never has a second one.
    pub(in crate::actors::shell) fn is_over(&self, node: &Node) -> bool {
        let name = &node.spec.name;
        let begun = self.ports.board.read(name, |entry| entry.state != AgentState::Created);
        self.dynamic() == DynamicChildren::Keep
            && !self.has_template()
            && node.spec.restart == RestartType::Temporary
            && begun == Some(true)
    }

    /// Shows such a child's end and forgets it.
    pub(in crate::actors::shell) fn lay_off(&mut self, node: Node) {
        let name = node.spec.name.clone();
        self.enter(name.clone(), node.body);
        if let Some(kid) = self.kids.get_mut(&name) {
            kid.listed = true;
        }
        self.announcer.because(&name, "temporary: it is not restarted with its supervisor");
        self.show_end(&name);
        // Whose end was shown before is forgotten here.
        self.drop_kid(&name);
    }

    /// Forgets a child for good: it was deleted, or its first start failed.
    pub(in crate::actors::shell) fn forget(&mut self, child: &ChildName) {
        let known = self.ports.board.read(child, |entry| (entry.state, entry.generation));
        if let Some((old, generation)) = known
            && old != AgentState::Terminated
        {
            let since = self.ports.clock.now();
            self.ports.board.update(child, |entry| {
                (entry.state, entry.since, entry.place) = (AgentState::Terminated, since, None);
                (entry.next, entry.retry_at) = (None, None);
                entry.run_is_over();
            });
            self.tell_step(child, generation, Some((old, AgentState::Terminated)));
        }
        self.take_off(child, known.map(|(_, generation)| generation));
        self.drop_kid(child);
    }

    /// Takes a child off the board, and tells that.
    fn take_off(&mut self, child: &ChildName, generation: Option<Generation>) {
        let Some(entry) = self.ports.board.remove(child) else { return };
        let agent = self.agent(child);
        let about = about(child, agent.as_deref(), generation.unwrap_or(entry.generation));
        self.announcer.removed(about);
    }

    fn drop_kid(&mut self, child: &ChildName) {
        self.announcer.forget(child);
        let Some(kid) = self.kids.remove(child) else { return };
        if kid.listed && self.dynamic() == DynamicChildren::Keep {
            self.forgotten.add(child, &self.tree);
        }
        self.ports.board.update(&self.spec.name, |entry| entry.children.remove(&kid.order));
    }

    /// Somebody wants to know the children.
    pub(crate) fn on_children(&self, reply: oneshot::Sender<Family>) {
        let machine = self.machine.as_ref();
        let children = machine.map(Supervisor::children).unwrap_or_default();
        let counts = machine.map(Supervisor::counts).unwrap_or_default();
        tell(reply, Family { children, counts });
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
        self.tell_own();
    }

    pub(in crate::actors::shell) fn entry(
        &self,
        name: &ChildName,
        kind: ChildKind,
        agent: Option<&AgentSpec>,
    ) -> Entry {
        Entry {
            name: name.clone(),
            kind,
            parent: Some(self.spec.name.clone()),
            agent: agent.map(face),
            state: AgentState::Created,
            standing: Standing::Down,
            generation: self.ports.runs.last(name),
            pid: None,
            containment: None,
            limits: BTreeMap::new(),
            restarts: 0,
            since: self.ports.clock.now(),
            reason: String::new(),
            circuit: CircuitState::Closed,
            retry_at: None,
            next: None,
            health: HealthView::default(),
            supervisor: None,
            children: BTreeMap::new(),
            place: None,
            told: None,
        }
    }
}

/// What readers see of an agent's declaration.
pub(in crate::actors::shell) fn face(agent: &AgentSpec) -> AgentFace {
    AgentFace {
        agent_id: agent.agent_id.clone(),
        agent_type: agent.agent_type.clone(),
        runtime: agent.runtime,
        labels: agent.labels.clone(),
        capabilities: agent.capabilities.clone(),
        slots: agent.slots.max(1),
    }
}
