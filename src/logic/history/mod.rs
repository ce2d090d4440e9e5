//! The past from events: what readers saw at a moment, rebuilt from what was told until then.
//!
//! Events are given in the order of their stream. A picture is *whole* once the root of a tree has
//! begun, or all parts of a snapshot were heard; before that, children that nothing was told of are
//! missing, and whoever asks is told so ([`History::whole_since`]). A gap makes everything doubtful
//! until it is told again. Nothing is guessed.
//!
//! Besides what is shown, the last failure, decision, circuit change and recovery of each child are
//! kept: what an explanation is made of.

mod notes;
mod views;

#[cfg(test)]
mod behaviour;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use crate::logic::history::notes::{Heard, Noted, Notes};

use crate::protocol::fact::{AgentChanged, CircuitChanged, Fact};
use crate::protocol::id::{ChildName, NodeName};
use crate::protocol::shown::{ChildShown, Snapshot};
use crate::protocol::spec::ChildKind;
use crate::protocol::status::AgentState;

/// Source kind of events that a downstream's own care raises: its circuit is that of its calls.
const DOWNSTREAM: &str = "downstream";

/// A snapshot counts only when something was heard for so long before it: what was told at the same
/// moment may stand on either side of it.
const BEFORE_SNAPSHOT_MS: i64 = 2_000;

/// One child.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// How it was told last.
    pub shown: ChildShown,
    /// When.
    pub told_at: Timestamp,
    /// Whether events were lost since.
    pub standing: Standing,
}

/// Whether what is known of a child still holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It does.
    Sure,
    /// Events were lost since it was told.
    Doubtful,
}

/// The circuit of a downstream's calls.
#[derive(Clone, Debug, PartialEq)]
pub struct CallCircuit {
    /// Its last change.
    pub change: CircuitChanged,
    /// When.
    pub told_at: Timestamp,
}

/// What was shown, rebuilt from events.
#[derive(Clone, Debug, Default)]
pub struct History {
    children: BTreeMap<ChildName, Child>,
    calls: BTreeMap<ChildName, CallCircuit>,
    notes: BTreeMap<ChildName, Notes>,
    node: Option<NodeName>,
    first: Option<Timestamp>,
    whole: Option<Timestamp>,
    /// Parts of the present snapshot that are still to come, and whom it has told of.
    parts: Option<(BTreeSet<u32>, BTreeSet<ChildName>)>,
    lost: u64,
}

impl History {
    /// Takes the next event.
    pub fn on_event(&mut self, heard: &Heard<'_>) {
        self.first.get_or_insert(heard.time);
        if let Some(node) = heard.node() {
            self.node = Some(node);
        }
        match heard.fact {
            Fact::ChildChanged(shown) => self.shown(heard.time, shown),
            Fact::AgentSpawned(spawned) => {
                self.note(&spawned.change.name).config.clone_from(&spawned.config);
                self.changed(heard.time, &spawned.change);
            }
            Fact::AgentStateChanged(change) | Fact::AgentTerminated(change) => {
                self.note(&change.name).changed =
                    Some(Noted::of(heard, AgentChanged::clone(change)));
                self.changed(heard.time, change);
            }
            Fact::ChildRemoved(removed) => {
                self.children.remove(&removed.name);
            }
            Fact::Snapshot(snapshot) => self.snapshot(heard.time, snapshot),
            Fact::Failure(failed) => self.note(&failed.name).failed(heard, failed),
            Fact::Decision(decided) => {
                self.note(&decided.name).decision = Some(Noted::of(heard, decided.record.clone()));
            }
            Fact::Circuit(change) => self.circuit(heard, change),
            Fact::Recovery(recovered) => {
                self.note(&recovered.name).recovered(Noted::of(heard, recovered.clone()));
            }
            Fact::Escalation(report) => {
                if let Some(record) = &report.record {
                    self.note(&report.name).decision = Some(Noted::of(heard, record.clone()));
                }
            }
            Fact::System(report) => {
                if let Some(name) = heard.name() {
                    self.note(&name).system = Some(Noted::of(heard, report.clone()));
                }
            }
            Fact::Gap(gap) => self.doubt(gap.dropped.saturating_sub(gap.dropped_health)),
            Fact::Health(_)
            | Fact::SupervisorStarted(_)
            | Fact::SupervisorStopped(_)
            | Fact::AgentError(_)
            | Fact::TaskResult(_)
            | Fact::DeadLetter(_)
            | Fact::TaskAssigned(_)
            | Fact::TaskRequeued(_)
            | Fact::LateResult(_)
            | Fact::AgentSick(_) => {}
        }
    }

    /// Since when nothing is missing; `None` when something may be.
    #[must_use]
    pub fn whole_since(&self) -> Option<Timestamp> {
        self.whole
    }

    /// Events other than health that were lost, as far as gaps told.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What was noted of a child; of one that was never heard of, nothing.
    #[must_use]
    pub fn notes(&self, name: &ChildName) -> Option<&Notes> {
        self.notes.get(name)
    }

    /// A child, by its name or agent id.
    #[must_use]
    pub fn find(&self, name_or_id: &str) -> Option<&Child> {
        let named = |child: &&Child| child.shown.name.as_str() == name_or_id;
        let has_id = |child: &&Child| {
            let agent = child.shown.agent.as_ref();
            agent.is_some_and(|agent| agent.agent_id.as_str() == name_or_id)
        };
        let children = || self.children.values();
        children().find(named).or_else(|| children().find(has_id))
    }

    /// All children, by name.
    pub fn children(&self) -> impl Iterator<Item = &Child> {
        self.children.values()
    }

    /// The circuits of downstreams' calls that ever changed, by name.
    #[must_use]
    pub fn calls(&self) -> &BTreeMap<ChildName, CallCircuit> {
        &self.calls
    }

    fn note(&mut self, name: &ChildName) -> &mut Notes {
        self.notes.entry(name.clone()).or_default()
    }

    fn shown(&mut self, told_at: Timestamp, shown: &ChildShown) {
        let is_root = shown.parent.is_none() && shown.kind == ChildKind::Supervisor;
        if is_root && shown.state == AgentState::Starting {
            // A daemon begins: it tells of everything it has.
            self.children.clear();
            self.calls.clear();
            self.parts = None;
            self.whole = Some(told_at);
        }
        let child = Child { shown: shown.clone(), told_at, standing: Standing::Sure };
        self.children.insert(shown.name.clone(), child);
    }

    fn changed(&mut self, told_at: Timestamp, change: &AgentChanged) {
        if let Some(shown) = &change.shown {
            return self.shown(told_at, shown);
        }
        // Told by a version that does not say how it is shown.
        let Some(child) = self.children.get_mut(&change.name) else { return };
        child.shown.state = change.new_state;
        child.shown.since = told_at;
        child.shown.reason.clone_from(&change.reason);
        (child.shown.pid, child.shown.generation) = (change.pid, change.generation);
        child.told_at = told_at;
    }

    fn circuit(&mut self, heard: &Heard<'_>, change: &CircuitChanged) {
        if heard.kind() == DOWNSTREAM {
            let circuit = CallCircuit { change: change.clone(), told_at: heard.time };
            self.calls.insert(change.name.clone(), circuit);
        }
        self.note(&change.name).circuit = Some(Noted::of(heard, change.clone()));
    }

    fn doubt(&mut self, lost: u64) {
        if lost == 0 {
            return;
        }
        self.lost = self.lost.saturating_add(lost);
        self.whole = None;
        for child in self.children.values_mut() {
            child.standing = Standing::Doubtful;
        }
    }

    /// Of whom something was heard, more is known than a snapshot can tell: it was drawn up a moment
    /// before it was told.
    fn snapshot(&mut self, told_at: Timestamp, snapshot: &Snapshot) {
        let heard_for = self.first.map(|first| told_at.duration_since(first).as_millis());
        let early = heard_for.is_none_or(|heard_for| heard_for < i128::from(BEFORE_SNAPSHOT_MS));
        if early {
            return;
        }
        if snapshot.part == 1 {
            self.parts = Some(((1..=snapshot.parts).collect(), BTreeSet::new()));
        }
        for shown in &snapshot.children {
            let known = self.children.get(&shown.name);
            if known.is_none_or(|child| child.standing == Standing::Doubtful) {
                let child = Child { shown: shown.clone(), told_at, standing: Standing::Sure };
                self.children.insert(shown.name.clone(), child);
            }
        }
        let Some((missing, named)) = &mut self.parts else { return };
        missing.remove(&snapshot.part);
        named.extend(snapshot.children.iter().map(|shown| shown.name.clone()));
        if missing.is_empty() {
            // Who is doubtful still is not there any more.
            self.children.retain(|_, child| child.standing == Standing::Sure);
            self.whole.get_or_insert(told_at);
            self.parts = None;
        }
    }
}
