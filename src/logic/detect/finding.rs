//! What the detectors say.

use crate::logic::detect::MEMBERS_MAX;
use crate::protocol::decision::Inputs;
use crate::protocol::id::{ChildName, EventId};
use crate::protocol::insight::{PatternKind, PatternSeen, PatternState};

/// A pattern began or is over.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Finding {
    /// What, where, by which numbers.
    pub seen: PatternSeen,
    /// The event that made it certain.
    pub cause: Option<EventId>,
}

impl Finding {
    /// A pattern that begins.
    pub(super) fn began(kind: PatternKind, scope: impl Into<String>, evidence: Inputs) -> Self {
        Self::of(PatternState::Began, kind, scope.into(), evidence)
    }

    /// A pattern that is over.
    pub(super) fn ended(kind: PatternKind, scope: impl Into<String>, why: &str) -> Self {
        let evidence = Inputs::default().with("why", why);
        Self::of(PatternState::Ended, kind, scope.into(), evidence)
    }

    fn of(state: PatternState, kind: PatternKind, scope: String, evidence: Inputs) -> Self {
        let seen = PatternSeen { kind, scope, state, evidence, members: Vec::new(), part_of: None };
        Self { seen, cause: None }
    }

    pub(super) fn caused_by(mut self, cause: Option<EventId>) -> Self {
        self.cause = cause;
        self
    }

    pub(super) fn with_members<'a>(
        mut self,
        members: impl IntoIterator<Item = &'a ChildName>,
    ) -> Self {
        self.seen.members = members.into_iter().take(MEMBERS_MAX).cloned().collect();
        self
    }

    pub(super) fn part_of(mut self, larger: Option<String>) -> Self {
        self.seen.part_of = larger;
        self
    }
}
