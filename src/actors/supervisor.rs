//! One supervisor: an actor around `logic::restart::Supervisor`.
//!
//! It turns messages into inputs and leaves the actions to the shell. Its handlers never fail and
//! never wait.

use std::sync::{Arc, Mutex};

use ractor::actor::messages::BoxedState;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::actors::shell::Shell;
use crate::actors::tree::{Directory, Drain, Family, Node, TreeError, TreePorts, TreeSpec};
use crate::actors::worker::{ChildReport, Lease, RunEnd, WorkerLeft};
use crate::logic::restart::{Call, Reply};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{ChildName, Generation};

/// Messages a supervisor accepts.
#[derive(Debug)]
pub enum SupervisorMsg {
    /// Start the children; sent once, by the supervisor to itself.
    Begin,
    /// A child reports.
    Report(ChildReport),
    /// A child's actor could not be spawned.
    NotSpawned(ChildName, Generation, StartError),
    /// Nothing is left of a child supervisor's run.
    Gone(ChildName, Generation),
    /// A deadline of the machine has come; stale ones are recognised by the number.
    Deadline(u64),
    /// Somebody asks for something.
    Call {
        /// What.
        request: Box<Call>,
        /// The body of a child to be added.
        node: Option<Box<Node>>,
        /// Why, in words.
        why: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Kill a child's run as if it had crashed.
    KillRun(ChildName),
    /// Mark a child as draining or not.
    Drain(ChildName, Drain, String),
    /// Somebody wants to know the children.
    Children(oneshot::Sender<Family>),
    /// A child supervisor did not stop in time.
    Overdue(ChildName, Generation),
    /// Stop the children in reverse order, then end.
    Halt,
}

/// A child supervisor's place under its parent.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Its run, as its parent counts.
    pub(crate) generation: Generation,
    /// Where its reports go.
    pub(crate) parent: ActorRef<SupervisorMsg>,
    /// What everything under it holds.
    pub(crate) lease: Arc<Lease>,
}

/// What a supervisor needs at birth.
#[derive(Debug)]
pub struct SupervisorArgs {
    pub(crate) tree: Arc<Mutex<TreeSpec>>,
    pub(crate) parent: Option<ChildName>,
    pub(crate) ports: TreePorts,
    pub(crate) directory: Arc<Directory>,
    pub(crate) owner: Option<Owner>,
    /// Told once, when the root has started its children or could not.
    pub(crate) ready: Option<oneshot::Sender<Result<(), TreeError>>>,
    /// Told once, when the root has ended.
    pub(crate) end: Option<oneshot::Sender<ChildExit>>,
}

/// State of a supervisor; its end is read by the parent after it has stopped.
#[derive(Debug)]
pub struct SupervisorState {
    shell: Shell,
}

/// Behaviour of a supervisor.
#[derive(Debug)]
pub struct SupervisorActor;

impl Actor for SupervisorActor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let shell = Shell::new(myself.clone(), args);
        myself.send_message(SupervisorMsg::Begin)?;
        Ok(SupervisorState { shell })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let shell = &mut state.shell;
        match message {
            SupervisorMsg::Begin => shell.begin(),
            SupervisorMsg::Report(report) => shell.on_report(report),
            SupervisorMsg::NotSpawned(child, generation, error) => {
                shell.on_not_spawned(child, generation, error);
            }
            SupervisorMsg::Gone(child, generation) => shell.on_supervisor_gone(child, generation),
            SupervisorMsg::Deadline(number) => shell.on_deadline(number),
            SupervisorMsg::Call { request, node, why, reply } => {
                shell.on_call(*request, node.map(|node| *node), why, reply);
            }
            SupervisorMsg::KillRun(child) => shell.kill_run(&child),
            SupervisorMsg::Drain(child, drain, why) => shell.on_drain(&child, drain, &why),
            SupervisorMsg::Children(reply) => shell.on_children(reply),
            SupervisorMsg::Overdue(child, generation) => shell.on_overdue(&child, generation),
            SupervisorMsg::Halt => shell.on_halt(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) if error.is::<WorkerLeft>() => {}
            SupervisionEvent::ActorFailed(cell, error) => {
                let exit = ChildExit::Panicked { message: error.to_string() };
                state.shell.on_actor_end(cell.get_id(), RunEnd::Exited(exit));
            }
            SupervisionEvent::ActorTerminated(cell, last, reason) => {
                let end = end_in(last, reason.as_deref());
                state.shell.on_actor_end(cell.get_id(), end);
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

/// The end in the last state of a child supervisor. Whatever else the state holds is dropped here,
/// before anything else is done with its end.
fn end_in(last: Option<BoxedState>, reason: Option<&str>) -> RunEnd {
    let last = last.and_then(|mut last| last.take::<SupervisorState>().ok());
    let killed = matches!(reason, Some("killed" | "actor_task_cancelled"));
    let other = if killed { ChildExit::Killed } else { ChildExit::Stopped };
    last.and_then(|mut last| last.shell.take_end()).unwrap_or(RunEnd::Exited(other))
}
