//! What readers may ask a supervisor machine.

use crate::logic::restart::generations::Generations;
use crate::logic::restart::machine::{Stage, Supervisor};
use crate::logic::restart::types::ChildView;
use crate::protocol::id::ChildName;
use crate::protocol::spec::{ChildKind, Strategy, SupervisorSpec};

/// OTP's `count_children`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Child specs; 1 under simple-one-for-one.
    pub specs: usize,
    /// Children that run.
    pub active: usize,
    /// Children that are supervisors, running or not.
    pub supervisors: usize,
    /// Children that are workers, running or not.
    pub workers: usize,
}

impl Supervisor {
    /// Returns what may be known of one child.
    #[must_use]
    pub fn child(&self, name: &ChildName) -> Option<ChildView> {
        self.find(name).map(|(_, child)| child.view())
    }

    /// Returns what may be known of all children, in start order.
    #[must_use]
    pub fn children(&self) -> Vec<ChildView> {
        self.children.values().map(|child| child.view()).collect()
    }

    /// Returns the names of all children, in start order.
    pub fn names(&self) -> impl Iterator<Item = &ChildName> {
        self.children.values().map(|child| &child.spec.name)
    }

    /// Counts the children as OTP does.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let kinds = self.children.values().map(|child| child.spec.kind);
        let supervisors = kinds.filter(|kind| *kind == ChildKind::Supervisor).count();
        let simple = self.spec.strategy == Strategy::SimpleOneForOne;
        Counts {
            specs: if simple { 1 } else { self.children.len() },
            active: self.children.values().filter(|child| child.is_active()).count(),
            supervisors,
            workers: self.children.len() - supervisors,
        }
    }

    /// Returns the supervisor's settings.
    #[must_use]
    pub fn spec(&self) -> &SupervisorSpec {
        &self.spec
    }

    /// Returns where the supervisor stands in its own life. Its own start is over, well, when this
    /// is [`Stage::Running`].
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns the generations used so far, for the supervisor's next life.
    #[must_use]
    pub fn generations(&self) -> Generations {
        let mut used = self.generations.clone();
        for child in self.children.values() {
            used.raise(&child.spec.name, child.generation);
        }
        used
    }
}
