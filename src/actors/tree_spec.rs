//! What a supervision tree is described with. `tree` is the door; it shows all of this.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::logic::restart::Pace;
use crate::ports::AgentRuntime;
use crate::protocol::id::ChildName;
use crate::protocol::spec::{AgentSpec, ChildSpec, SupervisorSpec};

/// One supervisor and its children, in start order.
#[derive(Clone, Debug)]
pub struct TreeSpec {
    /// The supervisor's own settings.
    pub supervisor: SupervisorSpec,
    /// Its children.
    pub children: Vec<Node>,
    /// What happens to children added at run time when the supervisor is restarted.
    pub dynamic: DynamicChildren,
    /// How many things it does at a time.
    pub pace: Pace,
    /// How its parent sees that it gave up.
    pub gave_up: GaveUp,
}

impl TreeSpec {
    /// A supervisor with these children; children added later come back when it is restarted.
    #[must_use]
    pub fn new(supervisor: SupervisorSpec, children: Vec<Node>) -> Self {
        Self {
            supervisor,
            children,
            dynamic: DynamicChildren::default(),
            pace: Pace::default(),
            gave_up: GaveUp::default(),
        }
    }

    /// A supervisor that does everything as OTP's does: one thing at a time, children added later
    /// are forgotten when it is restarted, and giving up is a clean end. Whether its children are
    /// restarted without delay and circuit is in their specs.
    #[must_use]
    pub fn otp(supervisor: SupervisorSpec, children: Vec<Node>) -> Self {
        Self {
            supervisor,
            children,
            dynamic: DynamicChildren::Forget,
            pace: Pace::OneAtATime,
            gave_up: GaveUp::Shutdown,
        }
    }
}

/// What happens to children that were added at run time when their supervisor is restarted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DynamicChildren {
    /// They come back like the others: permanent and transient ones do, whoever described them. A
    /// temporary child never has a second run: one that its supervisor took down with it stays
    /// down, and is shown as terminated.
    #[default]
    Keep,
    /// They are forgotten and the supervisor begins with the children it was described with, those
    /// that have ended or were deleted meanwhile included, as in OTP.
    Forget,
}

/// How the parent of a supervisor sees that it gave up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GaveUp {
    /// As a failure: a transient supervisor is restarted after it.
    #[default]
    Failure,
    /// As an orderly end, as in OTP: a transient supervisor stays down after it.
    Shutdown,
}

/// One child of a supervisor.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its spec.
    pub spec: Arc<ChildSpec>,
    /// What runs.
    pub body: Body,
}

/// What a child is made of.
#[derive(Clone, Debug)]
pub enum Body {
    /// Something that runs and ends.
    Worker(WorkerBody),
    /// A supervisor with children of its own; shared, so that a restart sees what was added.
    Supervisor(Arc<Mutex<TreeSpec>>),
}

/// Something that runs and ends.
#[derive(Clone, Debug)]
pub struct WorkerBody {
    /// Starts its runs.
    pub runtime: Arc<dyn AgentRuntime>,
    /// The agent it is, if it is one; parts of the daemon are none.
    pub agent: Option<Arc<AgentSpec>>,
}

impl Node {
    /// A worker that is no agent.
    #[must_use]
    pub fn worker(spec: impl Into<Arc<ChildSpec>>, runtime: Arc<dyn AgentRuntime>) -> Self {
        Self { spec: spec.into(), body: Body::Worker(WorkerBody { runtime, agent: None }) }
    }

    /// An agent.
    #[must_use]
    pub fn agent(
        spec: impl Into<Arc<ChildSpec>>,
        runtime: Arc<dyn AgentRuntime>,
        agent: Arc<AgentSpec>,
    ) -> Self {
        Self { spec: spec.into(), body: Body::Worker(WorkerBody { runtime, agent: Some(agent) }) }
    }

    /// A supervisor.
    #[must_use]
    pub fn supervisor(spec: impl Into<Arc<ChildSpec>>, tree: TreeSpec) -> Self {
        Self { spec: spec.into(), body: Body::Supervisor(Arc::new(Mutex::new(tree))) }
    }
}

/// Locks a tree spec; a panic while it was locked left it whole, since every change is one step.
pub(crate) fn lock(spec: &Mutex<TreeSpec>) -> MutexGuard<'_, TreeSpec> {
    spec.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The supervisor's own settings in a tree spec.
pub(crate) fn tree_supervisor(spec: &Mutex<TreeSpec>) -> SupervisorSpec {
    lock(spec).supervisor.clone()
}

/// Children that are forgotten but still stand in their tree spec. They are taken out many at a
/// time, because each time walks over all children; and before somebody else reads the spec.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// How often: a name may have been added and forgotten again meanwhile.
    times: BTreeMap<ChildName, usize>,
    count: usize,
}

impl Forgotten {
    /// Notes that a child is forgotten; sooner or later the spec does not have it.
    pub(crate) fn add(&mut self, child: &ChildName, spec: &Mutex<TreeSpec>) {
        *self.times.entry(child.clone()).or_default() += 1;
        self.count += 1;
        let mut spec = lock(spec);
        if spec.children.len() < self.count.saturating_mul(2) {
            self.clear(&mut spec);
        }
    }

    /// Takes out all that are forgotten.
    pub(crate) fn clear(&mut self, spec: &mut TreeSpec) {
        let times = &mut self.times;
        if !times.is_empty() {
            // The first ones of a name are those that were forgotten.
            spec.children.retain(|node| match times.get_mut(&node.spec.name) {
                Some(left) if 0 < *left => {
                    *left -= 1;
                    false
                }
                Some(_) | None => true,
            });
        }
        *self = Self::default();
    }
}
