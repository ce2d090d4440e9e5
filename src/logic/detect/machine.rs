//! The detectors together: facts in, findings out, timers between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::logic::detect::child::{Child, Noted, Works};
use crate::logic::detect::group::{Groups, Onset};
use crate::logic::detect::peers::{Compared, Peers};
use crate::logic::detect::settings::DetectSettings;
use crate::logic::detect::{CHILDREN_MAX, Finding, Seen, Who, WhoKind, Work, WorkEnd};
use crate::protocol::decision::Inputs;
use crate::protocol::fact::FailureType;
use crate::protocol::id::{ChildName, EventId, TaskType};
use crate::protocol::insight::PatternKind;
use crate::protocol::status::AgentState;

/// What is looked at again at a time.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    /// Whether a child has run well for long enough.
    Stable(ChildName),
    /// Whether a child flaps no more.
    Calm(ChildName),
    /// Whether a pattern was not seen any more for long enough.
    Quiet(PatternKind, String),
}

/// Finds patterns. See the page of the module.
#[derive(Clone, Debug)]
pub struct Detectors {
    settings: DetectSettings,
    children: BTreeMap<ChildName, Child>,
    groups: Groups,
    peers: Peers,
    /// Patterns that end by not being seen again, and when they were seen last.
    standing: BTreeMap<(PatternKind, String), Instant>,
    timers: BTreeSet<(Instant, Timer)>,
    unwatched: u64,
}

impl Detectors {
    /// Detectors that have seen nothing.
    #[must_use]
    pub fn new(settings: DetectSettings) -> Self {
        Self {
            settings,
            children: BTreeMap::new(),
            groups: Groups::default(),
            peers: Peers::default(),
            standing: BTreeMap::new(),
            timers: BTreeSet::new(),
            unwatched: 0,
        }
    }

    /// Facts about things that had no room.
    #[must_use]
    pub fn unwatched(&self) -> u64 {
        self.unwatched.saturating_add(self.groups.unwatched).saturating_add(self.peers.unwatched)
    }

    /// Takes in something that happened to a child.
    pub fn see(&mut self, now: Instant, who: &Who, seen: Seen) -> Vec<Finding> {
        let mut out = self.on_deadline(now);
        if seen == Seen::Gone {
            self.gone(&who.name, &mut out);
            return out;
        }
        if !self.watched(who) {
            return out;
        }
        match seen {
            Seen::Failed(kind, event) => self.failed(now, who, (kind, event), &mut out),
            Seen::Is(state) => self.is(now, &who.name, state, &mut out),
            Seen::Recovered => {
                if who.kind == WhoKind::Downstream {
                    self.downstream(now, &who.name, Works::Again, &mut out);
                }
                self.over(&who.name, "it has recovered", &mut out);
            }
            Seen::Worked(work) => self.worked(now, &who.name, &work, &mut out),
            Seen::Sick(evidence, event) => {
                let scope = who.name.to_string();
                if self.stands(now, PatternKind::SickAgent, &scope) {
                    let found = Finding::began(PatternKind::SickAgent, scope, evidence);
                    out.push(found.caused_by(event).with_members([&who.name]));
                }
            }
            Seen::Gone => {}
        }
        out
    }

    /// Takes in that the ledger calls a task of this type poison.
    pub fn poison(
        &mut self,
        now: Instant,
        task_type: &TaskType,
        (evidence, event): (Inputs, Option<EventId>),
    ) -> Vec<Finding> {
        let mut out = self.on_deadline(now);
        let scope = format!("task_type={task_type}");
        if self.stands(now, PatternKind::PoisonTask, &scope) {
            let found = Finding::began(PatternKind::PoisonTask, scope, evidence);
            out.push(found.caused_by(event));
        }
        out
    }

    /// When something is to be looked at again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.groups.deadline()].into_iter().flatten().min()
    }

    /// Looks at what is due.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Finding> {
        let mut out = Vec::new();
        self.groups.settle(now, &self.settings, &mut out);
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, timer)) = self.timers.pop_first() else { break };
            match timer {
                Timer::Stable(child) => self.stable(now, &child, &mut out),
                Timer::Calm(child) => self.calm(now, child, &mut out),
                Timer::Quiet(kind, scope) => self.quiet(now, kind, scope, &mut out),
            }
        }
        out
    }

    fn stable(&mut self, now: Instant, name: &ChildName, out: &mut Vec<Finding>) {
        if self.children.get(name).is_some_and(|child| child.is_stable(now)) {
            self.over(name, "it has run well for a while", out);
        }
    }

    /// Whether a child is watched; a new one is from now on if there is room.
    fn watched(&mut self, who: &Who) -> bool {
        if let Some(child) = self.children.get_mut(&who.name) {
            if child.who != *who {
                self.groups.left(&child.who);
                self.groups.joined(who);
                child.who = who.clone();
            }
            return true;
        }
        if CHILDREN_MAX <= self.children.len() {
            self.unwatched = self.unwatched.saturating_add(1);
            return false;
        }
        self.groups.joined(who);
        self.children.insert(who.name.clone(), Child::new(who.clone()));
        true
    }

    fn failed(
        &mut self,
        now: Instant,
        who: &Who,
        (kind, event): (FailureType, Option<EventId>),
        out: &mut Vec<Finding>,
    ) {
        let Some(child) = self.children.get_mut(&who.name) else { return };
        let looped = child.failed(now, kind, &self.settings);
        let is_onset = child.outage.is_none() && kind != FailureType::Throttled;
        if is_onset {
            child.outage = Some(now);
            if who.kind == WhoKind::Downstream {
                self.downstream(now, &who.name, Works::NotAnyMore, out);
            }
            self.groups.onset(Onset { now, who, event }, &self.settings, out);
        }
        if let Some(evidence) = looped {
            let found = Finding::began(PatternKind::CrashLoop, who.name.as_str(), evidence);
            let larger = self.groups.larger(&who.name);
            out.push(found.caused_by(event).with_members([&who.name]).part_of(larger));
        }
    }

    fn is(&mut self, now: Instant, name: &ChildName, to: AgentState, out: &mut Vec<Finding>) {
        let Some(child) = self.children.get_mut(name) else { return };
        let noted = child.is(now, to, &self.settings);
        let loops = child.stands.contains(&PatternKind::CrashLoop);
        if to == AgentState::Running && (child.outage.is_some() || loops) {
            let due = now.checked_add(DetectSettings::STABLE);
            self.timers.extend(due.map(|due| (due, Timer::Stable(name.clone()))));
        }
        self.noted(name, noted, out);
    }

    fn downstream(&mut self, now: Instant, name: &ChildName, works: Works, out: &mut Vec<Finding>) {
        let Some(child) = self.children.get_mut(name) else { return };
        let noted = child.downstream(now, works, &self.settings);
        self.noted(name, noted, out);
    }

    fn noted(&mut self, name: &ChildName, noted: Noted, out: &mut Vec<Finding>) {
        match noted {
            Noted::Nothing => {}
            Noted::Flaps(evidence) => {
                let found = Finding::began(PatternKind::Flapping, name.as_str(), evidence);
                out.push(found.with_members([name]).part_of(self.groups.larger(name)));
                let due = self.children.get(name).and_then(|known| known.calm_at(&self.settings));
                self.timers.extend(due.map(|due| (due, Timer::Calm(name.clone()))));
            }
            Noted::AtRest => self.over(name, "it was stopped", out),
        }
    }

    /// A child's outage is over, and its crash loop with it.
    fn over(&mut self, name: &ChildName, why: &str, out: &mut Vec<Finding>) {
        let Some(child) = self.children.get_mut(name) else { return };
        child.recovered();
        if child.stands.remove(&PatternKind::CrashLoop) {
            out.push(Finding::ended(PatternKind::CrashLoop, name.as_str(), why));
        }
        self.groups.over(name, out);
    }

    fn calm(&mut self, now: Instant, name: ChildName, out: &mut Vec<Finding>) {
        let Some(child) = self.children.get_mut(&name) else { return };
        if !child.stands.contains(&PatternKind::Flapping) {
            return;
        }
        match child.calm_at(&self.settings).filter(|due| now < *due) {
            Some(due) => {
                self.timers.insert((due, Timer::Calm(name)));
            }
            None => {
                child.stands.remove(&PatternKind::Flapping);
                out.push(Finding::ended(PatternKind::Flapping, name.as_str(), "it has calmed"));
            }
        }
    }

    fn worked(&mut self, now: Instant, name: &ChildName, work: &Work, out: &mut Vec<Finding>) {
        let scope = name.to_string();
        if work.ended == WorkEnd::Done {
            self.ended(PatternKind::SickAgent, &scope, "it has done a task again", out);
        }
        match self.peers.worked(name, work, &self.settings) {
            Compared::Nothing => {}
            Compared::Gray(evidence) => {
                if self.stands(now, PatternKind::GrayFailure, &scope) {
                    let found = Finding::began(PatternKind::GrayFailure, scope, evidence);
                    out.push(found.with_members([name]).part_of(self.groups.larger(name)));
                }
            }
            Compared::StillGray => {
                self.standing.entry((PatternKind::GrayFailure, scope)).and_modify(|at| *at = now);
            }
            Compared::Again => {
                self.ended(PatternKind::GrayFailure, &scope, "it is like its peers again", out);
            }
        }
    }

    /// Notes that a pattern that ends by silence was seen; whether it is new.
    fn stands(&mut self, now: Instant, kind: PatternKind, scope: &str) -> bool {
        let key = (kind, scope.to_owned());
        if self.standing.insert(key, now).is_some() {
            return false;
        }
        let due = now.checked_add(DetectSettings::QUIET);
        self.timers.extend(due.map(|due| (due, Timer::Quiet(kind, scope.to_owned()))));
        true
    }

    fn ended(&mut self, kind: PatternKind, scope: &str, why: &str, out: &mut Vec<Finding>) {
        if self.standing.is_empty() || self.standing.remove(&(kind, scope.to_owned())).is_none() {
            return;
        }
        out.push(Finding::ended(kind, scope, why));
    }

    fn quiet(&mut self, now: Instant, kind: PatternKind, scope: String, out: &mut Vec<Finding>) {
        let Some(last) = self.standing.get(&(kind, scope.clone())) else { return };
        match last.checked_add(DetectSettings::QUIET).filter(|due| now < *due) {
            Some(due) => {
                self.timers.insert((due, Timer::Quiet(kind, scope)));
            }
            None => {
                if let (PatternKind::GrayFailure, Ok(name)) = (kind, scope.parse()) {
                    // If it works again, it is judged afresh.
                    self.peers.left(&name);
                }
                self.ended(kind, &scope, "it was not seen again", out);
            }
        }
    }

    fn gone(&mut self, name: &ChildName, out: &mut Vec<Finding>) {
        let why = "it is gone";
        self.over(name, why, out);
        self.ended(PatternKind::SickAgent, name.as_str(), why, out);
        self.ended(PatternKind::GrayFailure, name.as_str(), why, out);
        self.peers.left(name);
        if let Some(child) = self.children.remove(name) {
            self.groups.left(&child.who);
            if child.stands.contains(&PatternKind::Flapping) {
                out.push(Finding::ended(PatternKind::Flapping, name.as_str(), why));
            }
        }
    }
}
