//! The shell of a supervisor: carries out the machine's actions and tells what happened.
//!
//! Every input goes through `feed`; every action is carried out in the machine's order; then the
//! children that were touched are compared with what the board shows, and changes are told.
//! Split by what is done: `run` starts and stops actors, `calls` keeps who asked, `notes` tells
//! decisions, `show` writes the board.

mod calls;
mod notes;
mod run;
mod show;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ractor::actor::messages::BoxedState;
use ractor::{ActorId, ActorRef};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::actors::announce::{About, Announcer};
use crate::actors::shell::calls::Pending;
use crate::actors::supervisor::{Owner, SupervisorArgs, SupervisorMsg, SupervisorState};
use crate::actors::tree::{
    Body, Directory, Drain, DynamicChildren, Node, TreeError, TreePorts, TreeSpec, lock,
};
use crate::actors::worker::{ChildNews, ChildReport, RunEnd, WorkerMsg, WorkerState};
use crate::logic::lifecycle::{self, Intake};
use crate::logic::restart::{Action, CallId, ChildView, Input, Reply, StartOutcome, Supervisor};
use crate::ports::{RunHealth, RunOrigin};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::StateChange;
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{AgentSpec, ChildKind, Strategy, SupervisorSpec};
use crate::protocol::status::{AgentState, HealthView};

/// Ended children that stay on the board for readers, per supervisor; the oldest goes first.
const ENDED_SHOWN_MAX: usize = 1_000;

/// The actor of a child that lives.
#[derive(Debug)]
enum Cell {
    Worker(ActorRef<WorkerMsg>),
    Supervisor(ActorRef<SupervisorMsg>),
}

/// A child that lives.
#[derive(Debug)]
struct Live {
    generation: Generation,
    actor: ActorId,
    cell: Cell,
}

/// A timer of ractor's; aborting it is its cancellation.
type Timer = JoinHandle<Result<(), ractor::MessagingErr<SupervisorMsg>>>;

/// State of a supervisor actor.
#[derive(Debug)]
pub(crate) struct Shell {
    myself: ActorRef<SupervisorMsg>,
    parent: Option<ChildName>,
    ports: TreePorts,
    directory: Arc<Directory>,
    owner: Option<Owner>,
    tree: Arc<Mutex<TreeSpec>>,
    spec: SupervisorSpec,
    machine: Option<Supervisor>,
    bodies: BTreeMap<ChildName, Body>,
    live: BTreeMap<ChildName, Live>,
    kinds: HashMap<ActorId, ChildKind>,
    ends: HashMap<ActorId, RunEnd>,
    watchers: JoinSet<()>,
    calls: BTreeMap<CallId, Pending>,
    calls_made: u64,
    timer: Option<(Instant, Timer)>,
    timers_set: u64,
    draining: BTreeSet<ChildName>,
    /// What speaks for the runs that something speaks for.
    health: BTreeMap<ChildName, RunHealth>,
    ended_shown: VecDeque<ChildName>,
    announcer: Announcer,
    start_error: Option<StartError>,
    ready: Option<oneshot::Sender<Result<(), TreeError>>>,
    end_told: Option<oneshot::Sender<ChildExit>>,
    began: bool,
    end: Option<RunEnd>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some((_, timer)) = &self.timer {
            timer.abort();
        }
        // Killed or panicked: its children are killed with it, and nobody else would say so.
        if self.end.is_none() {
            self.show_all_down();
        }
    }
}

impl Shell {
    pub(crate) fn new(myself: ActorRef<SupervisorMsg>, args: SupervisorArgs) -> Self {
        let SupervisorArgs { tree, parent, ports, directory, owner, ready, end } = args;
        let spec = lock(&tree).supervisor.clone();
        let announcer = Announcer::new(spec.name.clone(), ports.clone());
        Self {
            myself,
            parent,
            ports,
            directory,
            owner,
            tree,
            spec,
            machine: None,
            bodies: BTreeMap::new(),
            live: BTreeMap::new(),
            kinds: HashMap::new(),
            ends: HashMap::new(),
            watchers: JoinSet::new(),
            calls: BTreeMap::new(),
            calls_made: 0,
            timer: None,
            timers_set: 0,
            draining: BTreeSet::new(),
            health: BTreeMap::new(),
            ended_shown: VecDeque::new(),
            announcer,
            start_error: None,
            ready,
            end_told: end,
            began: false,
            end: None,
        }
    }

    /// Builds the machine and starts the children.
    pub(crate) fn begin(&mut self) {
        if self.end.is_some() {
            return;
        }
        self.directory.enter(&self.spec.name, self.myself.clone());
        let (nodes, pace) = {
            let tree = lock(&self.tree);
            (tree.children.clone(), tree.pace)
        };
        let (over, nodes): (Vec<Node>, Vec<Node>) =
            nodes.into_iter().partition(|node| self.is_over(node));
        let specs = nodes.iter().map(|node| node.spec.clone()).collect();
        let last = |node: &Node| {
            let name = node.spec.name.clone();
            let generation = self.ports.runs.last(&name);
            (name, generation)
        };
        let generations: BTreeMap<ChildName, Generation> = nodes.iter().map(last).collect();
        self.put_self_on_board();
        match Supervisor::new(self.spec.clone(), specs) {
            Ok(machine) => {
                self.machine = Some(machine.with_pace(pace).with_generations(generations));
            }
            Err(fault) => {
                if let Some(ready) = self.ready.take() {
                    tell(ready, Err(TreeError::BadSpec(fault.clone())));
                }
                let message = fault.to_string();
                return self.finish(RunEnd::StartFailed(StartError::Failed { message }));
            }
        }
        // A template is no child: it is only what instances are made of.
        if !self.has_template() {
            for node in nodes {
                self.adopt(node);
            }
            for node in over {
                self.lay_off(node);
            }
        }
        self.show_children();
        self.feed(Input::Init, []);
    }

    /// A child reports.
    pub(crate) fn on_report(&mut self, report: ChildReport) {
        let ChildReport { name, generation, news } = report;
        let current = self.live.get(&name).is_some_and(|live| live.generation == generation);
        if !current {
            tracing::debug!(child = %name, %generation, "stale report dropped");
            return;
        }
        match news {
            ChildNews::Started(face) => {
                self.ports.board.update(&name, |entry| {
                    entry.pid = face.pid;
                    entry.containment = face.containment;
                });
                if face.origin == RunOrigin::Adopted {
                    self.announcer.adopted(&name);
                }
                let outcome = StartOutcome::Up;
                self.feed(Input::Started { child: name.clone(), generation, outcome }, [name]);
            }
            ChildNews::Measured(metrics) => self.on_measured(&name, generation, metrics),
            ChildNews::Health(health) => self.on_health(name, generation, health),
        }
    }

    /// Nothing is left of a child's run.
    pub(crate) fn on_gone(&mut self, child: ChildName, generation: Generation) {
        let current = self.live.get(&child).is_some_and(|live| live.generation == generation);
        let Some(live) = (if current { self.live.remove(&child) } else { None }) else {
            tracing::debug!(child = %child, %generation, "stale end dropped");
            return;
        };
        self.ports.board.update(&child, |entry| {
            entry.pid = None;
            entry.containment = None;
            entry.health = HealthView::default();
        });
        self.health.remove(&child);
        let end = self.ends.remove(&live.actor).unwrap_or(RunEnd::Exited(ChildExit::Killed));
        let input = match end {
            RunEnd::Exited(exit) => Input::Exited { child: child.clone(), generation, exit },
            RunEnd::StartFailed(error) => {
                let outcome = StartOutcome::Failed(error);
                Input::Started { child: child.clone(), generation, outcome }
            }
        };
        self.feed(input, [child]);
    }

    /// Keeps how a child ended until it is gone. The child's state is dropped here, before
    /// anything else is done with its end.
    pub(crate) fn keep_end(
        &mut self,
        actor: ActorId,
        last: Option<BoxedState>,
        reason: Option<&str>,
    ) {
        let kind = self.kinds.remove(&actor);
        let end = last.and_then(|last| end_in(last, kind.unwrap_or_default()));
        let killed = matches!(reason, Some("killed" | "actor_task_cancelled"));
        let other = if killed { ChildExit::Killed } else { ChildExit::Stopped };
        self.keep(actor, end.unwrap_or(RunEnd::Exited(other)));
    }

    pub(crate) fn keep(&mut self, actor: ActorId, end: RunEnd) {
        self.kinds.remove(&actor);
        self.ends.insert(actor, end);
    }

    /// A deadline has come.
    pub(crate) fn on_deadline(&mut self, number: u64) {
        if number != self.timers_set {
            return;
        }
        self.timer = None;
        let now = self.now();
        let jitter = self.ports.jitter.fraction();
        let Some(machine) = &mut self.machine else { return };
        let actions = machine.on_deadline(now, jitter);
        self.carry_out(now, BTreeSet::new(), actions);
    }

    /// Kills a child's run as if it had crashed.
    pub(crate) fn kill_run(&self, child: &ChildName) {
        match self.live.get(child).map(|live| &live.cell) {
            Some(Cell::Worker(worker)) if worker.send_message(WorkerMsg::Kill).is_err() => {
                tracing::debug!(child = %child, "run ended before it was killed");
            }
            // ractor kills the children of a killed actor.
            Some(Cell::Supervisor(actor)) => actor.kill(),
            Some(Cell::Worker(_)) | None => {}
        }
    }

    /// Marks a child as draining or not.
    pub(crate) fn on_drain(&mut self, child: &ChildName, drain: Drain, why: String) {
        match drain {
            Drain::On => self.draining.insert(child.clone()),
            Drain::Off => self.draining.remove(child),
        };
        self.announcer.requested(child, &why);
        self.show(&BTreeSet::from([child.clone()]));
    }

    /// A child supervisor did not stop in time.
    pub(crate) fn on_overdue(&self, child: &ChildName, generation: Generation) {
        if let Some(live) = self.live.get(child)
            && live.generation == generation
            && let Cell::Supervisor(actor) = &live.cell
        {
            actor.kill();
        }
    }

    /// Stops the children, then ends.
    pub(crate) fn on_halt(&mut self) {
        if self.machine.is_none() {
            // The order has overtaken `Begin`: there is nothing to stop, and nothing to start.
            return self.finish(RunEnd::Exited(ChildExit::Stopped));
        }
        for child in self.names() {
            self.announcer.requested(&child, "its supervisor stops");
        }
        self.feed(Input::Shutdown, []);
    }

    /// Takes how this supervisor ended, for its parent.
    pub(crate) fn take_end(&mut self) -> Option<RunEnd> {
        self.end.take()
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn feed(&mut self, input: Input, touched: impl IntoIterator<Item = ChildName>) {
        let now = self.now();
        let jitter = self.ports.jitter.fraction();
        let Some(machine) = &mut self.machine else { return };
        let actions = machine.on_input(now, input, jitter);
        self.carry_out(now, touched.into_iter().collect(), actions);
    }

    fn carry_out(&mut self, now: Instant, mut touched: BTreeSet<ChildName>, actions: Vec<Action>) {
        // Whoever is answered must find on the board what the answer says.
        let mut answers = Vec::new();
        if let Some(machine) = &mut self.machine {
            touched.extend(machine.take_changed());
        }
        for action in actions {
            match action {
                Action::Start { child, generation, trial: _ } => {
                    self.start(&child, generation);
                    touched.insert(child);
                }
                Action::Stop { child, generation, shutdown } => {
                    self.stop(&child, generation, shutdown);
                    touched.insert(child);
                }
                Action::Reply { call, reply } => {
                    answers.extend(self.settle(call, reply, &mut touched));
                }
                Action::Note(note) => self.tell(now, *note, &mut touched),
                Action::Ready => self.on_ready(),
                Action::Ended { exit, scope } => {
                    self.show(&touched);
                    answer(answers);
                    return self.on_ended(exit, scope);
                }
            }
        }
        self.show(&touched);
        answer(answers);
        self.set_timer();
    }

    fn set_timer(&mut self) {
        let wanted = self.machine.as_ref().and_then(Supervisor::deadline);
        if self.timer.as_ref().map(|(at, _)| *at) == wanted {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
        self.timers_set = self.timers_set.saturating_add(1);
        let Some(at) = wanted else { return };
        let number = self.timers_set;
        let delay = at.saturating_duration_since(self.now()).max(Duration::from_micros(1));
        let timer = self.myself.send_after(delay, move || SupervisorMsg::Deadline(number));
        self.timer = Some((at, timer));
    }

    fn dynamic(&self) -> DynamicChildren {
        lock(&self.tree).dynamic
    }

    fn has_template(&self) -> bool {
        self.spec.strategy == Strategy::SimpleOneForOne
    }

    fn view(&self, child: &ChildName) -> Option<ChildView> {
        self.machine.as_ref().and_then(|machine| machine.child(child))
    }

    fn names(&self) -> Vec<ChildName> {
        let children = self.machine.as_ref().map(Supervisor::children).unwrap_or_default();
        children.into_iter().map(|view| view.spec.name).collect()
    }

    fn generation(&self, child: &ChildName) -> Generation {
        self.view(child).map_or_else(|| self.ports.runs.last(child), |view| view.generation)
    }

    fn shown(&self, child: &ChildName) -> AgentState {
        self.ports.board.get(child).map(|entry| entry.state).unwrap_or_default()
    }

    /// State on the board, and the state that follows from what the machine has decided.
    fn change_of(&self, child: &ChildName) -> StateChange {
        let to = self.view(child).map(|view| self.state_of(&view));
        StateChange { from: self.shown(child), to: to.unwrap_or(AgentState::Terminated) }
    }

    fn state_of(&self, view: &ChildView) -> AgentState {
        let draining = self.draining.contains(&view.spec.name);
        let intake = if draining { Intake::Draining } else { Intake::Open };
        let told = self.health.get(&view.spec.name);
        let (status, readiness) =
            told.map_or_else(Default::default, |told| (told.status, told.readiness));
        lifecycle::state_of(view, status, readiness, intake)
    }

    fn agent(&self, child: &ChildName) -> Option<Arc<AgentSpec>> {
        match self.bodies.get(child)? {
            Body::Worker(worker) => worker.agent.clone(),
            Body::Supervisor(_) => None,
        }
    }
}

pub(crate) fn about<'a>(
    name: &'a ChildName,
    agent: Option<&'a AgentSpec>,
    generation: Generation,
) -> About<'a> {
    About { name, agent, generation }
}

/// The end in the last state of a child. `BoxedState::take` drops a state of another type, so the
/// kind must be known. Whatever else the state holds is dropped here.
fn end_in(mut last: BoxedState, kind: ChildKind) -> Option<RunEnd> {
    match kind {
        ChildKind::Worker => last.take::<WorkerState>().ok().and_then(|mut last| last.take_end()),
        ChildKind::Supervisor => {
            last.take::<SupervisorState>().ok().and_then(|mut last| last.take_end())
        }
    }
}

fn answer(answers: Vec<(oneshot::Sender<Reply>, Reply)>) {
    for (asker, reply) in answers {
        tell(asker, reply);
    }
}

fn tell<T>(to: oneshot::Sender<T>, what: T) {
    if to.send(what).is_err() {
        tracing::debug!("asker went away");
    }
}
