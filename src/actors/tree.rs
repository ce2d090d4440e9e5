//! A supervision tree: described as data, started, asked and stopped.
//!
//! This is the library's door (`examples/embedded_tree.rs`); the daemon goes through it too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::actors::supervisor::{SupervisorActor, SupervisorArgs, SupervisorMsg};
use crate::board::Board;
use crate::logic::restart::{Call, ChildView, Counts, Refusal, Reply};
use crate::logic::severity::Topic;
use crate::ports::{EventSink, JitterSource, RunLog, WallClock};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::Severity;
use crate::protocol::id::ChildName;
use crate::protocol::spec::ChildSpec;

pub use crate::actors::tree_spec::{Body, DynamicChildren, GaveUp, Node, TreeSpec, WorkerBody};
pub(crate) use crate::actors::tree_spec::{Forgotten, lock, tree_supervisor};

/// Default time between two measurements of a run.
pub const MEASURE_EVERY: Duration = Duration::from_secs(30);

/// A supervisor's children at one moment.
#[derive(Clone, Debug)]
pub struct Family {
    /// The children, in start order.
    pub children: Vec<ChildView>,
    /// How many there are, as OTP counts.
    pub counts: Counts,
}

/// What a tree needs from outside.
#[derive(Clone, Debug)]
pub struct TreePorts {
    /// Takes its events.
    pub sink: Arc<dyn EventSink>,
    /// Tells wall time.
    pub clock: Arc<dyn WallClock>,
    /// Gives jitter.
    pub jitter: Arc<dyn JitterSource>,
    /// Remembers generations.
    pub runs: Arc<dyn RunLog>,
    /// Where states are written.
    pub board: Arc<Board>,
    /// Severities that differ from the table in `logic::severity`.
    pub severities: Arc<BTreeMap<Topic, Severity>>,
    /// Time between two measurements of a run.
    pub measure_every: Duration,
}

/// Which actor stands for which supervisor right now.
#[derive(Debug, Default)]
pub struct Directory {
    supervisors: Mutex<BTreeMap<ChildName, ActorRef<SupervisorMsg>>>,
}

impl Directory {
    pub(crate) fn enter(&self, name: &ChildName, actor: ActorRef<SupervisorMsg>) {
        self.lock().insert(name.clone(), actor);
    }

    fn find(&self, name: &ChildName) -> Option<ActorRef<SupervisorMsg>> {
        self.lock().get(name).cloned()
    }

    /// Tells the root to stop everything in order.
    pub(crate) fn halt(&self, root: &ChildName) {
        if let Some(root) = self.find(root)
            && root.send_message(SupervisorMsg::Halt).is_err()
        {
            tracing::debug!("the root has ended already");
        }
    }

    fn all(&self) -> Vec<ActorRef<SupervisorMsg>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChildName, ActorRef<SupervisorMsg>>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a tree or a call to it failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TreeError {
    /// The specs contradict each other.
    #[error("tree cannot be built: {0}")]
    BadSpec(crate::logic::restart::SpecFault),
    /// A child could not be started and its supervisor does not go on without it.
    #[error("tree cannot be started: {0}")]
    StartFailed(StartError),
    /// No such child.
    #[error("no child named {0}")]
    NotFound(String),
    /// The call was refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The tree, or the part asked, is gone.
    #[error("the supervisor is not there; it is being restarted or the tree has ended")]
    Gone,
}

/// A running tree. Dropping it kills everything under it; [`Tree::shutdown`] stops in order.
#[derive(Debug)]
pub struct Tree {
    root: ActorRef<SupervisorMsg>,
    join: JoinHandle<()>,
    ended: oneshot::Receiver<ChildExit>,
    handle: TreeHandle,
}

/// Asks a running tree; cheap to clone.
#[derive(Clone, Debug)]
pub struct TreeHandle {
    root: ChildName,
    directory: Arc<Directory>,
    ports: TreePorts,
}

impl Tree {
    /// Starts the tree and waits until its root has started all children.
    ///
    /// # Errors
    ///
    /// [`TreeError::BadSpec`] before anything is started; [`TreeError::StartFailed`] when the root
    /// gave up while starting (everything started is stopped again then).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what was started.
    pub async fn start(spec: TreeSpec, ports: TreePorts) -> Result<Self, TreeError> {
        let handle = TreeHandle::new(spec.supervisor.name.clone(), ports);
        Self::start_under(spec, handle).await
    }

    /// As [`Tree::start`], for a handle that children of the tree hold already.
    ///
    /// # Errors
    ///
    /// As [`Tree::start`].
    pub async fn start_under(spec: TreeSpec, handle: TreeHandle) -> Result<Self, TreeError> {
        let TreeHandle { directory, ports, .. } = handle.clone();
        let (ready, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let args = SupervisorArgs {
            tree: Arc::new(Mutex::new(spec)),
            parent: None,
            ports,
            directory,
            owner: None,
            ready: Some(ready),
            end: Some(end),
        };
        let (root, join) = Actor::spawn(None, SupervisorActor, args)
            .await
            .map_err(|error| start_failed(error.to_string()))?;
        let tree = Self { root, join, ended, handle };
        match started.await {
            Ok(Ok(())) => Ok(tree),
            Ok(Err(error)) => Err(error),
            Err(_gone) => Err(start_failed("the root ended while starting".to_owned())),
        }
    }

    /// Asks the tree.
    #[must_use]
    pub fn handle(&self) -> TreeHandle {
        self.handle.clone()
    }

    /// Waits until the root has ended by itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&mut self) -> ChildExit {
        let lost = || ChildExit::Lost { message: "the root actor is gone".to_owned() };
        (&mut self.ended).await.unwrap_or_else(|_gone| lost())
    }

    /// Stops everything in reverse start order, each child within its own deadline, and waits.
    /// After `limit` what is left is killed.
    ///
    /// Returns whether all ended within the limit.
    pub async fn shutdown(mut self, limit: Duration) -> bool {
        if self.root.send_message(SupervisorMsg::Halt).is_err() {
            tracing::debug!("the root has ended already");
        }
        let in_time = tokio::time::timeout(limit, &mut self.join).await.is_ok();
        if !in_time {
            self.root.kill();
        }
        in_time
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // ractor kills the children of a killed actor; their states end their runs on drop.
        self.root.kill();
    }
}

impl TreeHandle {
    /// A handle for a tree that is yet to be started; until then every call says that it is gone.
    #[must_use]
    pub fn new(root: ChildName, ports: TreePorts) -> Self {
        Self { root, directory: Arc::new(Directory::default()), ports }
    }

    /// The board that the tree writes.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.ports.board
    }

    /// Name of the root.
    #[must_use]
    pub fn root(&self) -> &ChildName {
        &self.root
    }

    /// What the tree was given from outside.
    #[must_use]
    pub fn ports(&self) -> &TreePorts {
        &self.ports
    }

    /// Adds a child under a supervisor and starts it.
    ///
    /// # Errors
    ///
    /// [`TreeError::Refused`] with OTP's words, [`TreeError::NotFound`], [`TreeError::Gone`].
    pub async fn start_child(&self, supervisor: &ChildName, node: Node) -> Result<(), TreeError> {
        let request = Call::StartChild(ChildSpec::clone(&node.spec));
        self.ask(supervisor, request, Some(node), "spawned".to_owned()).await
    }

    /// Adds a child as one that was declared from the beginning: a start that fails is judged by its
    /// own rules. Answered before it is up.
    ///
    /// # Errors
    ///
    /// As [`TreeHandle::start_child`].
    pub async fn introduce_child(
        &self,
        supervisor: &ChildName,
        node: Node,
        why: impl Into<String>,
    ) -> Result<(), TreeError> {
        let request = Call::IntroduceChild(ChildSpec::clone(&node.spec));
        self.ask(supervisor, request, Some(node), why.into()).await
    }

    /// Gives a child other rules, and from its next run on another body; its run goes on.
    ///
    /// # Errors
    ///
    /// As [`TreeHandle::start_child`].
    pub async fn reconfigure_child(
        &self,
        node: Node,
        why: impl Into<String>,
    ) -> Result<(), TreeError> {
        let owner = self.owner_of(&node.spec.name)?;
        let request = Call::ReconfigureChild(ChildSpec::clone(&node.spec));
        self.ask(&owner, request, Some(node), why.into()).await
    }

    /// Makes a call about a child to the supervisor that owns it.
    ///
    /// # Errors
    ///
    /// As [`TreeHandle::start_child`].
    pub async fn call(
        &self,
        child: &ChildName,
        request: Call,
        why: impl Into<String>,
    ) -> Result<(), TreeError> {
        let owner = self.owner_of(child)?;
        self.ask(&owner, request, None, why.into()).await
    }

    /// Makes a call about a child to this supervisor, whether or not it has such a child.
    ///
    /// # Errors
    ///
    /// As [`TreeHandle::start_child`].
    pub async fn call_at(
        &self,
        supervisor: &ChildName,
        request: Call,
        why: impl Into<String>,
    ) -> Result<(), TreeError> {
        self.ask(supervisor, request, None, why.into()).await
    }

    /// Returns a supervisor's children and their numbers, as it sees them now: OTP's
    /// `which_children` and `count_children`.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotFound`], [`TreeError::Gone`].
    pub async fn children(&self, supervisor: &ChildName) -> Result<Family, TreeError> {
        let missing = || TreeError::NotFound(supervisor.to_string());
        let actor = self.directory.find(supervisor).ok_or_else(missing)?;
        let (reply, answer) = oneshot::channel();
        actor.send_message(SupervisorMsg::Children(reply)).map_err(|_closed| TreeError::Gone)?;
        answer.await.map_err(|_gone| TreeError::Gone)
    }

    /// Makes a call about a child; what is still running of it after `grace` is killed.
    ///
    /// # Errors
    ///
    /// As [`TreeHandle::start_child`].
    pub async fn call_within(
        &self,
        child: &ChildName,
        request: Call,
        why: impl Into<String>,
        grace: Duration,
    ) -> Result<(), TreeError> {
        let call = self.call(child, request, why);
        tokio::pin!(call);
        // The call is pinned outside and goes on after the grace.
        if let Ok(done) = tokio::time::timeout(grace, &mut call).await {
            return done;
        }
        self.kill_run(child)?;
        call.await
    }

    /// Makes a call to every supervisor (pause, resume).
    pub async fn call_all(&self, request: Call, why: &str) {
        for supervisor in self.directory.all() {
            let (reply, answer) = oneshot::channel();
            let call = call_message(request.clone(), None, why.to_owned(), reply);
            if supervisor.send_message(call).is_ok() && answer.await.is_err() {
                tracing::debug!("a supervisor ended while it was asked");
            }
        }
    }

    /// Kills a child's run at once; the restart rules then apply as after a crash. With a
    /// supervisor everything under it is killed.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotFound`], [`TreeError::Gone`].
    pub fn kill_run(&self, child: &ChildName) -> Result<(), TreeError> {
        let owner = self.owner_of(child)?;
        let supervisor = self.directory.find(&owner).ok_or(TreeError::Gone)?;
        supervisor
            .send_message(SupervisorMsg::KillRun(child.clone()))
            .map_err(|_closed| TreeError::Gone)
    }

    /// Marks a child as draining, or takes that back.
    ///
    /// # Errors
    ///
    /// As [`TreeHandle::kill_run`].
    pub fn set_draining(
        &self,
        child: &ChildName,
        drain: Drain,
        why: &str,
    ) -> Result<(), TreeError> {
        let owner = self.owner_of(child)?;
        let supervisor = self.directory.find(&owner).ok_or(TreeError::Gone)?;
        supervisor
            .send_message(SupervisorMsg::Drain(child.clone(), drain, why.to_owned()))
            .map_err(|_closed| TreeError::Gone)
    }

    fn owner_of(&self, child: &ChildName) -> Result<ChildName, TreeError> {
        let missing = || TreeError::NotFound(child.to_string());
        self.ports.board.read(child, |entry| entry.parent.clone()).flatten().ok_or_else(missing)
    }

    async fn ask(
        &self,
        supervisor: &ChildName,
        request: Call,
        node: Option<Node>,
        why: String,
    ) -> Result<(), TreeError> {
        let actor = self.directory.find(supervisor);
        let actor = actor.ok_or_else(|| TreeError::NotFound(supervisor.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let call = call_message(request, node, why, reply);
        actor.send_message(call).map_err(|_closed| TreeError::Gone)?;
        match answer.await {
            Ok(Reply::Ok | Reply::Undefined) => Ok(()),
            Ok(Reply::Refused(refusal)) => Err(TreeError::Refused(refusal)),
            Err(_gone) => Err(TreeError::Gone),
        }
    }
}

/// Whether a child takes new work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drain {
    /// It takes none.
    On,
    /// It takes work.
    Off,
}

fn call_message(
    request: Call,
    node: Option<Node>,
    why: String,
    reply: oneshot::Sender<Reply>,
) -> SupervisorMsg {
    SupervisorMsg::Call { request: Box::new(request), node: node.map(Box::new), why, reply }
}

fn start_failed(message: String) -> TreeError {
    TreeError::StartFailed(StartError::Failed { message })
}
