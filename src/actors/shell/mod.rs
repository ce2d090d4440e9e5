//! The shell of a supervisor: carries out the machine's actions and tells what happened.
//!
//! Every input goes through `turn`, which carries out what the machine says; then the children that
//! were touched are compared with what the board shows, and changes are told. Split by what is
//! done: `run` starts and stops actors, `calls` keeps who asked, `notes` tells decisions, `show`
//! writes the board.

mod calls;
mod notes;
mod run;
mod show;
mod told;
mod turn;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use foldhash::fast::RandomState;
use ractor::{ActorId, ActorRef};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::actors::announce::{About, Announcer};
use crate::actors::shell::calls::Pending;
use crate::actors::shell::show::Listing;
use crate::actors::supervisor::{Owner, SupervisorArgs, SupervisorMsg};
use crate::actors::tree::{
    Body, Directory, Drain, DynamicChildren, Forgotten, Node, TreeError, TreePorts, TreeSpec, lock,
};
use crate::actors::worker::{ChildNews, ChildReport, RunEnd, Seat};
use crate::logic::lifecycle::{self, Intake};
use crate::logic::restart::{CallId, ChildView, Input, StartOutcome, Supervisor};
use crate::ports::{RunFace, RunHealth, RunOrigin};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::route::Standing;
use crate::protocol::spec::{AgentSpec, Strategy, SupervisorSpec};
use crate::protocol::status::AgentState;

/// Ended children that stay on the board for readers, per supervisor; the oldest goes first.
const ENDED_SHOWN_MAX: usize = 1_000;

/// The actor of a child that lives.
#[derive(Debug)]
enum Cell {
    Worker(Seat),
    Supervisor(ActorRef<SupervisorMsg>),
}

/// Which actor a child's next run has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cast {
    /// The one of the run that has ended.
    Same,
    /// Another: that one is gone.
    Next,
}

/// A run under way.
#[derive(Debug)]
struct Live {
    generation: Generation,
    cell: Cell,
}

/// What a worker was made for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MadeFor {
    /// What the child is.
    Present,
    /// What it was before it was replaced: its next run has another worker.
    Former,
}

/// A child.
#[derive(Debug)]
struct Kid {
    body: Body,
    /// Its place among its siblings, for readers.
    order: u64,
    /// Whether its node stands in the tree's description.
    listed: bool,
    live: Option<Live>,
    /// Its worker, between two runs.
    idle: Option<Seat>,
    /// What the worker of the present run was made for.
    made_for: MadeFor,
    intake: Intake,
    /// What speaks for the present run, if something does.
    health: Option<Box<RunHealth>>,
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
    forgotten: Forgotten,
    spec: SupervisorSpec,
    machine: Option<Supervisor>,
    kids: HashMap<ChildName, Kid, RandomState>,
    kids_made: u64,
    /// Child supervisors that live, and how they ended as long as something of them is left.
    ends: HashMap<ActorId, Option<RunEnd>>,
    watchers: JoinSet<()>,
    calls: BTreeMap<CallId, Pending>,
    calls_made: u64,
    timer: Option<(Instant, Timer)>,
    timers_set: u64,
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
        self.forgotten.clear(&mut lock(&self.tree));
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
            forgotten: Forgotten::default(),
            spec,
            machine: None,
            kids: HashMap::default(),
            kids_made: 0,
            ends: HashMap::new(),
            watchers: JoinSet::new(),
            calls: BTreeMap::new(),
            calls_made: 0,
            timer: None,
            timers_set: 0,
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
        let specs = nodes.iter().map(|node| Arc::clone(&node.spec)).collect();
        let last = |node: &Node| {
            let generation = self.ports.runs.last(&node.spec.name);
            (Generation::default() < generation).then(|| (node.spec.name.clone(), generation))
        };
        let generations: BTreeMap<ChildName, Generation> = nodes.iter().filter_map(last).collect();
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
            nodes.into_iter().for_each(|node| self.adopt_listed(node));
        }
        self.show_children();
        over.into_iter().for_each(|node| self.lay_off(node));
        self.feed(Input::Init, None);
    }

    /// Enters a child that the list of the tree has.
    fn adopt_listed(&mut self, node: Node) {
        let name = node.spec.name.clone();
        self.adopt(node, Listing::Listed);
        if let Some(kid) = self.kids.get_mut(&name) {
            kid.listed = true;
        }
    }

    /// A child reports.
    pub(crate) fn on_report(&mut self, report: ChildReport) {
        let ChildReport { name, generation, news } = report;
        if self.live(&name, generation).is_none() {
            tracing::debug!(child = %name, %generation, "stale report dropped");
            return;
        }
        match news {
            ChildNews::Started(face) => self.on_started(name, generation, face),
            ChildNews::Measured(metrics) => self.on_measured(&name, generation, metrics),
            ChildNews::Health(health) => self.on_health(name, generation, health),
            ChildNews::Ended(end) => self.on_gone(name, generation, end, Cast::Same),
        }
    }

    /// A run executes. Its health is known before it is shown, so that one that is still starting is
    /// never shown as running.
    fn on_started(&mut self, name: ChildName, generation: Generation, face: Option<Box<RunFace>>) {
        let health = face.as_ref().and_then(|face| face.health.clone());
        if let Some(face) = face {
            self.on_face(&name, *face);
        }
        let outcome = StartOutcome::Up;
        self.feed(Input::Started { child: name.clone(), generation, outcome }, Some(name.clone()));
        if let Some(health) = health {
            // Its words were said before the state was shown for the first time.
            self.on_health(name, generation, RunHealth { message: String::new(), ..health });
        }
    }

    fn on_face(&mut self, name: &ChildName, face: RunFace) {
        if face.origin == RunOrigin::Adopted {
            self.announcer.adopted(name, face.spec);
        }
        if face.pid.is_some() || face.containment.is_some() || !face.limits.is_empty() {
            self.ports.board.update(name, |entry| {
                entry.pid = face.pid;
                entry.containment = face.containment;
                entry.limits = face.limits;
            });
        }
        if let Some(health) = face.health {
            // Before the state is shown for the first time.
            self.announcer.because(name, &health.message);
            self.ports.board.update(name, |entry| entry.health.status = health.status);
            if let Some(kid) = self.kids.get_mut(name) {
                kid.health = Some(Box::new(health));
            }
        }
    }

    /// A child's actor could not be spawned.
    pub(crate) fn on_not_spawned(
        &mut self,
        child: ChildName,
        generation: Generation,
        error: StartError,
    ) {
        let outcome = StartOutcome::Failed(error);
        self.feed(Input::Started { child: child.clone(), generation, outcome }, Some(child));
    }

    /// Nothing is left of a child supervisor's run.
    pub(crate) fn on_supervisor_gone(&mut self, child: ChildName, generation: Generation) {
        let end = match self.live(&child, generation).map(|live| &live.cell) {
            Some(Cell::Supervisor(actor)) => self.ends.remove(&actor.get_id()).flatten(),
            Some(Cell::Worker(_)) | None => None,
        };
        let end = end.unwrap_or(RunEnd::Exited(ChildExit::Killed));
        self.on_gone(child, generation, end, Cast::Next);
    }

    fn on_gone(&mut self, child: ChildName, generation: Generation, end: RunEnd, cast: Cast) {
        let current = |live: &Live| live.generation == generation;
        let kid = self.kids.get_mut(&child);
        let Some(kid) = kid.filter(|kid| kid.live.as_ref().is_some_and(current)) else {
            tracing::debug!(child = %child, %generation, "stale end dropped");
            return;
        };
        kid.idle = match (kid.live.take().map(|live| live.cell), cast) {
            (Some(Cell::Worker(seat)), Cast::Same) if kid.made_for == MadeFor::Present => {
                Some(seat)
            }
            (Some(Cell::Worker(_) | Cell::Supervisor(_)) | None, _) => None,
        };
        kid.made_for = MadeFor::Present;
        kid.health = None;
        let input = match end {
            RunEnd::Exited(exit) => Input::Exited { child: child.clone(), generation, exit },
            RunEnd::StartFailed(error) => {
                let outcome = StartOutcome::Failed(error);
                Input::Started { child: child.clone(), generation, outcome }
            }
        };
        self.feed(input, Some(child));
    }

    /// An actor has ended: a child supervisor, whose end is kept until nothing of it is left; or a
    /// worker that is still needed, which ends only by a bug.
    pub(crate) fn on_actor_end(&mut self, actor: ActorId, end: RunEnd) {
        if let Some(kept) = self.ends.get_mut(&actor) {
            *kept = Some(end);
            return;
        }
        let worker = |live: &Live| matches!(&live.cell, Cell::Worker(seat) if seat.actor == actor);
        let found = self.kids.iter_mut().find_map(|(name, kid)| {
            if kid.idle.as_ref().is_some_and(|seat| seat.actor == actor) {
                kid.idle = None;
            }
            let live = kid.live.as_ref().filter(|live| worker(live))?;
            Some((name.clone(), live.generation))
        });
        if let Some((child, generation)) = found {
            tracing::warn!(child = %child, ?end, "worker ended without its end");
            self.on_gone(child, generation, end, Cast::Next);
        }
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
        self.carry_out(now, Vec::new(), actions);
    }

    /// Kills a child's run as if it had crashed.
    pub(crate) fn kill_run(&self, child: &ChildName) {
        match self.kids.get(child).and_then(|kid| kid.live.as_ref()).map(|live| &live.cell) {
            Some(Cell::Worker(seat)) => seat.orders.kill(),
            // ractor kills the children of a killed actor.
            Some(Cell::Supervisor(actor)) => actor.kill(),
            None => {}
        }
    }

    /// Marks a child as draining or not.
    pub(crate) fn on_drain(&mut self, child: &ChildName, drain: Drain, why: &str) {
        if let Some(kid) = self.kids.get_mut(child) {
            kid.intake = match drain {
                Drain::On => Intake::Draining,
                Drain::Off => Intake::Open,
            };
        }
        self.announcer.requested(child, why);
        self.show(self.now(), &mut vec![child.clone()]);
    }

    /// A child supervisor did not stop in time.
    pub(crate) fn on_overdue(&self, child: &ChildName, generation: Generation) {
        if let Some(Cell::Supervisor(actor)) = self.live(child, generation).map(|live| &live.cell) {
            actor.kill();
        }
    }

    /// Stops the children, then ends.
    pub(crate) fn on_halt(&mut self) {
        if self.machine.is_none() {
            // The order has overtaken `Begin`: there is nothing to stop, and nothing to start.
            if self.end.is_none() {
                self.finish(RunEnd::Exited(ChildExit::Stopped));
            }
            return;
        }
        for child in self.names() {
            self.announcer.requested(&child, "its supervisor stops");
        }
        self.feed(Input::Shutdown, None);
    }

    /// Takes how this supervisor ended, for its parent.
    pub(crate) fn take_end(&mut self) -> Option<RunEnd> {
        self.end.take()
    }

    /// Tells something while the shell is dropped. That may be while the supervisor's own panic
    /// unwinds: another one would end the daemon, and leave the other children undone. Of what a
    /// panic leaves half changed nothing is used again.
    fn tell_at_last(&mut self, what: &str, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            tracing::error!(supervisor = %self.spec.name, what, "telling panicked; it is lost");
        }
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
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
        self.machine.iter().flat_map(Supervisor::names).cloned().collect()
    }

    fn generation(&self, child: &ChildName) -> Generation {
        self.view(child).map_or_else(|| self.ports.runs.last(child), |view| view.generation)
    }

    fn shown(&self, child: &ChildName) -> AgentState {
        self.ports.board.read(child, |entry| entry.state).unwrap_or_default()
    }

    /// The run of a child, if it is this one.
    fn live(&self, child: &ChildName, generation: Generation) -> Option<&Live> {
        self.kids.get(child)?.live.as_ref().filter(|live| live.generation == generation)
    }

    fn state_of(&self, child: &ChildName, view: &ChildView) -> AgentState {
        state_of(self.kids.get(child), view)
    }

    fn is_downstream(&self, child: &ChildName) -> bool {
        match self.kids.get(child).map(|kid| &kid.body) {
            Some(Body::Worker(worker)) => worker.runtime.is_downstream(),
            Some(Body::Supervisor(_)) | None => false,
        }
    }

    fn agent(&self, child: &ChildName) -> Option<Arc<AgentSpec>> {
        self.kids.get(child)?.agent().cloned()
    }
}

impl Kid {
    fn agent(&self) -> Option<&Arc<AgentSpec>> {
        match &self.body {
            Body::Worker(worker) => worker.agent.as_ref(),
            Body::Supervisor(_) => None,
        }
    }
}

fn state_of(kid: Option<&Kid>, view: &ChildView) -> AgentState {
    let told = kid.and_then(|kid| kid.health.as_ref());
    let (status, readiness) =
        told.map_or_else(Default::default, |told| (told.status, told.readiness));
    let intake = kid.map(|kid| kid.intake).unwrap_or_default();
    lifecycle::state_of(view, status, readiness, intake)
}

fn standing_of(kid: Option<&Kid>, state: AgentState) -> Standing {
    let told = kid.and_then(|kid| kid.health.as_ref());
    let (status, readiness) =
        told.map_or_else(Default::default, |told| (told.status, told.readiness));
    let intake = kid.map(|kid| kid.intake).unwrap_or_default();
    lifecycle::standing_of(state, status, readiness, intake)
}

pub(crate) fn about<'a>(
    name: &'a ChildName,
    agent: Option<&'a AgentSpec>,
    generation: Generation,
) -> About<'a> {
    About { name, agent, generation }
}

fn tell<T>(to: oneshot::Sender<T>, what: T) {
    if to.send(what).is_err() {
        tracing::debug!("asker went away");
    }
}
