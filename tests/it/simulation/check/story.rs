//! The story that the events tell: states follow each other as the table allows and end where the
//! board stands; every cause was told before; an outage is named by its first failure; every
//! failure is followed by its decision.

use std::collections::{BTreeMap, BTreeSet};

use provost::board::Board;
use provost::logic::lifecycle::may_follow;
use provost::ports::EventDraft;
use provost::protocol::fact::{AgentChanged, Fact};
use provost::protocol::id::{ChildName, EventId};
use provost::protocol::status::AgentState;

use crate::simulation::check::Faults;
use crate::simulation::shape::Family;
use crate::simulation::world::{Moment, What};

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    events: BTreeSet<EventId>,
    states: BTreeMap<ChildName, AgentState>,
    /// First failure of each child's present outage.
    outages: BTreeMap<ChildName, EventId>,
    /// Plain members that were stopped: with their group, and the outage goes on, or because
    /// somebody asked for it, and it is over. The next event tells which.
    perhaps_over: BTreeSet<ChildName>,
    /// Children of which an event may have been lost, until the next one is told.
    lost: BTreeSet<ChildName>,
    /// A failure whose decision is still to be told.
    open: BTreeMap<ChildName, EventId>,
}

impl Story {
    pub(super) fn see(&mut self, family: &Family, moment: &Moment, faults: &mut Faults) {
        match &moment.what {
            // A supervisor that begins again knows nothing of former outages.
            What::Began(child, _) if family.kin[child].team.is_some() => {
                for (name, _) in family.kin.iter().filter(|(_, kin)| kin.parent == *child) {
                    self.outages.remove(name);
                    self.open.remove(name);
                }
            }
            What::Panicked(team) => {
                let children = family.kin.iter().filter(|(_, kin)| kin.parent == *team);
                self.lost.extend(children.map(|(name, _)| name.clone()));
            }
            // How a child is shown is no turn of its story; `past` looks at that.
            What::Event(id, draft)
                if matches!(draft.fact, Fact::ChildChanged(_) | Fact::ChildRemoved(_)) =>
            {
                self.events.insert(*id);
            }
            What::Event(id, draft) => {
                self.settle_outage(draft);
                self.linked(family, (moment, *id), draft, faults);
                self.told(family, moment, (*id, draft), faults);
                self.events.insert(*id);
            }
            _ => {}
        }
    }

    fn settle_outage(&mut self, draft: &EventDraft) {
        let name = &draft.source.name;
        if self.perhaps_over.remove(name) && draft.correlation.is_none() {
            self.outages.remove(name);
        }
    }

    /// Whoever is stopped because somebody asked for it is in no outage any more.
    fn stopped(&mut self, family: &Family, name: &ChildName) {
        let Some(kin) = family.kin.get(name) else { return };
        let policy = &kin.spec.policy;
        if policy.circuit.is_none() && policy.backoff.initial.is_zero() {
            self.perhaps_over.insert(name.clone());
        } else {
            self.outages.remove(name);
        }
    }

    fn linked(
        &self,
        family: &Family,
        (moment, id): (&Moment, EventId),
        draft: &EventDraft,
        faults: &mut Faults,
    ) {
        if draft.causation.is_some_and(|cause| !self.events.contains(&cause)) {
            faults.add("cause", moment, "its cause was never told");
        }
        let name = &draft.source.name;
        let first = self.outages.get(name).copied();
        let worker = family.kin.get(name).is_some_and(|kin| kin.team.is_none());
        if worker && draft.source.kind == "agent" && draft.correlation != first {
            faults.add("cause", moment, &format!("the outage began with {first:?}"));
        }
        if let Some(of) = draft.correlation
            && (of >= id || !self.events.contains(&of))
        {
            faults.add("cause", moment, "the outage's first failure was never told");
        }
    }

    fn told(
        &mut self,
        family: &Family,
        moment: &Moment,
        (id, draft): (EventId, &EventDraft),
        faults: &mut Faults,
    ) {
        let name = &draft.source.name;
        match &draft.fact {
            Fact::Failure(_) => {
                self.outages.entry(name.clone()).or_insert(id);
                self.open.insert(name.clone(), id);
            }
            Fact::Decision(decided) => {
                if let Some(failure) = self.open.remove(name)
                    && (draft.causation != Some(failure) || decided.record.cause != Some(failure))
                {
                    faults.add("cause", moment, "the decision is not caused by its failure");
                }
            }
            Fact::Recovery(_) => {
                if self.outages.remove(name).is_none() {
                    faults.add("cause", moment, "it recovers from nothing");
                }
            }
            Fact::AgentSpawned(spawned) => self.changed(moment, &spawned.change, faults),
            Fact::AgentStateChanged(change) => {
                self.changed(moment, change, faults);
                if change.new_state == AgentState::Stopped {
                    self.stopped(family, name);
                }
            }
            Fact::AgentTerminated(change) => {
                self.changed(moment, change, faults);
                self.outages.remove(name);
            }
            _ => {}
        }
        if let Some(failure) = self.open.get(name)
            && !matches!(draft.fact, Fact::Failure(_))
        {
            faults.add("cause", moment, &format!("{failure} is not followed by its decision"));
        }
    }

    fn changed(&mut self, moment: &Moment, change: &AgentChanged, faults: &mut Faults) {
        let before = self.states.insert(change.name.clone(), change.new_state);
        if self.lost.remove(&change.name) {
            return;
        }
        match (before, change.old_state) {
            (None | Some(AgentState::Terminated), None) => {
                if change.new_state != AgentState::Created {
                    faults.add("state", moment, "a new agent is not created");
                }
            }
            (before, Some(old)) if before == Some(old) => {
                if !may_follow(old, change.new_state) {
                    let text = format!("{} may not follow {old}", change.new_state);
                    faults.add("state", moment, &text);
                }
            }
            (before, old) => {
                faults.add("state", moment, &format!("it was {before:?}, not {old:?}"));
            }
        }
    }

    /// The board stands where the events have ended.
    pub(super) fn compare(&self, family: &Family, board: &Board, faults: &mut Faults) {
        for (child, kin) in family.kin.iter().filter(|(_, kin)| kin.team.is_none()) {
            let told = self.states.get(child).copied();
            let shown = board.get(child).map(|entry| entry.state);
            let gone = shown.is_none() && matches!(told, None | Some(AgentState::Terminated));
            if told != shown && !gone && !self.lost.contains(child) {
                let parent = &kin.parent;
                faults.push(format!(
                    "state: {child} of {parent} is {shown:?} on the board; told was {told:?}"
                ));
            }
        }
    }
}
