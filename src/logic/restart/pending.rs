//! The group restart that waits for its delay, and the children that are *tied*: they are down and
//! wait for it together. There is one at most, so no timer can disagree with another.

use std::time::Instant;

use crate::logic::restart::child::{Place, Retry};
use crate::logic::restart::machine::{Starts, Supervisor, Turn};
use crate::logic::restart::types::Phase;
use crate::protocol::spec::Strategy;

/// The group restart that waits for its delay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) at: Instant,
    ring: Ring,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ring {
    Armed,
    Rung,
    /// Its time came while starts are paused.
    Held,
}

impl Pending {
    pub(super) fn timer(self) -> Option<Instant> {
        (self.ring == Ring::Armed).then_some(self.at)
    }

    pub(super) fn rings(&mut self, now: Instant) -> bool {
        let due = self.ring == Ring::Armed && self.at <= now;
        if due {
            self.ring = Ring::Rung;
        }
        due
    }
}

impl Supervisor {
    /// When the pending group restart is due, if this child belongs to it.
    pub(super) fn joins(&self, place: Place) -> Option<Instant> {
        let pending = self.pending?;
        let first = self.tied.first()?;
        let covers = match self.spec.strategy {
            Strategy::OneForAll => true,
            Strategy::RestForOne => *first < place,
            Strategy::OneForOne | Strategy::SimpleOneForOne => false,
        };
        covers.then_some(pending.at)
    }

    /// The child waits for the group restart.
    pub(super) fn tie(&mut self, place: Place, at: Instant) {
        self.clear_timer(place);
        self.held.remove(&place);
        let Some(child) = self.children.get_mut(&place) else { return };
        child.phase = Phase::Waiting(at);
        child.retry = Retry::Tied;
        self.changed.push(child.spec.name.clone());
        self.tied.insert(place);
    }

    /// Members that the supervisor's own start did not reach wait, too.
    pub(super) fn tie_created(&mut self, at: Instant) {
        let created = self.children.iter().filter(|(_, child)| child.phase == Phase::Created);
        let places: Vec<Place> = created.map(|(place, _)| *place).collect();
        for place in places {
            self.tie(place, at);
        }
    }

    /// Everything that is tied waits until then.
    pub(super) fn wait_tied(&mut self, at: Instant) {
        for place in &self.tied {
            if let Some(child) = self.children.get_mut(place) {
                child.phase = Phase::Waiting(at);
            }
        }
        self.pending = Some(Pending { at, ring: Ring::Armed });
    }

    /// The pending group restart is due.
    pub(super) fn pending_due(&mut self, turn: &mut Turn) {
        let Some(pending) = &mut self.pending else { return };
        if pending.ring == Ring::Armed {
            return;
        }
        if self.starts == Starts::Paused {
            pending.ring = Ring::Held;
            return;
        }
        self.pending = None;
        if let Some(cause) = self.tied.first().copied() {
            let first = self.first_of_group(cause);
            self.begin_restart(turn, cause, first, None);
        }
    }

    /// Whether a group restart is held by a pause.
    pub(super) fn pending_is_held(&self) -> bool {
        self.pending.is_some_and(|pending| pending.ring == Ring::Held)
    }

    /// Whether members of a group wait for a child which is no longer to be restarted.
    pub(super) fn tied_are_left(&self) -> bool {
        !self.tied.is_empty() && self.pending.is_none() && self.starts == Starts::Allowed
    }

    /// They are started without it.
    pub(super) fn rescue_tied(&mut self, turn: &mut Turn) {
        if let Some(first) = self.tied.first().copied() {
            self.begin_restart(turn, first, first, None);
        }
    }
}
