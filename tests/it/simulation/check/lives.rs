//! Runs: never two of one child, generations that only grow, every start with its reason, orderly
//! starts and stops of groups, the right ones alive after calm, none at the end.

use std::collections::{BTreeMap, BTreeSet};

use provost::actors::tree::DynamicChildren;
use provost::board::Board;
use provost::protocol::decision::{DecisionRecord, NextKind};
use provost::protocol::fact::Fact;
use provost::protocol::id::{ChildName, Generation};
use provost::protocol::spec::{AutoShutdown, RestartType, Shutdown, Strategy};
use provost::protocol::status::{AgentState, CircuitState};

use crate::simulation::check::Faults;
use crate::simulation::check::calls::{Asked, Calls};
use crate::simulation::shape::Family;
use crate::simulation::world::{Moment, What};

type Known<'a> = (&'a Family, &'a Calls);

/// What lives.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// Runs of which something is there.
    live: BTreeMap<ChildName, BTreeSet<Generation>>,
    last: BTreeMap<ChildName, Generation>,
    /// Children of which a run has lived; one that is killed with its supervisor may be begun and
    /// never live.
    lived: BTreeSet<ChildName>,
    /// Children begun in the present life of each supervisor, in start order.
    begun: BTreeMap<ChildName, Vec<ChildName>>,
    /// Why a child may be started again.
    reasons: BTreeMap<ChildName, Reasons>,
}

/// What was told since a child was last begun.
#[derive(Clone, Copy, Debug, Default)]
struct Reasons {
    own: bool,
    group: bool,
    /// It comes back alone, whatever the strategy.
    alone: bool,
}

impl Lives {
    pub(super) fn see(&mut self, known: Known<'_>, moment: &Moment, faults: &mut Faults) {
        match &moment.what {
            What::Began(child, generation) => {
                self.began(known, moment, (child, *generation), faults);
            }
            What::Start(child, generation) => {
                let live = self.live.entry(child.clone()).or_default();
                if !live.is_empty() {
                    faults.add("two lives", moment, &format!("{live:?} of {child} live still"));
                }
                live.insert(*generation);
                self.lived.insert(child.clone());
            }
            What::Gone(child, generation) => {
                self.live.entry(child.clone()).or_default().remove(generation);
            }
            What::Ask(child, _) => self.asked(known, moment, child, faults),
            What::Kill(child, _) => self.stopped_with_group(known, child),
            What::Event(_, draft) => {
                self.told(&draft.fact);
                self.forgotten(known, moment, &draft.fact);
            }
            _ => {}
        }
    }

    fn is_live(&self, child: &ChildName) -> bool {
        self.live.get(child).is_some_and(|live| !live.is_empty())
    }

    fn began(
        &mut self,
        (family, calls): Known<'_>,
        moment: &Moment,
        (child, generation): (&ChildName, Generation),
        faults: &mut Faults,
    ) {
        let last = self.last.insert(child.clone(), generation).unwrap_or_default();
        if generation <= last {
            faults.add("generation", moment, &format!("{generation} follows {last}"));
        }
        let parent = &family.kin[child].parent;
        let begun = self.begun.entry(parent.clone()).or_default();
        let first = !begun.contains(child);
        if first {
            begun.push(child.clone());
        }
        let why = self.reasons.insert(child.clone(), Reasons::default()).unwrap_or_default();
        let called = calls.concern(child, moment.at);
        if (called || why.alone) && why.group {
            // A start that was called for, or a trial, does not use up that of the group which
            // follows.
            self.reasons.entry(child.clone()).or_default().group = true;
        }
        let sibling_called = family
            .kin
            .iter()
            .filter(|(_, kin)| kin.parent == *parent)
            .any(|(name, _)| calls.concern(name, moment.at));
        let team = family.team(parent);
        let grouped = matches!(team.strategy, Strategy::OneForAll | Strategy::RestForOne);
        // How a supervisor was stopped is not seen when it was killed.
        let kin = &family.kin[child];
        let unseen = kin.team.is_some() && kin.spec.shutdown != Shutdown::Infinity;
        let with_group = why.group || grouped && (sibling_called || unseen);
        if !(first || called || why.own || with_group) {
            faults.add("start", moment, "nothing told why it is started again");
        }
        // Whoever is forgotten with his supervisor, or described with it, may come again.
        let once = kin.spec.restart == RestartType::Temporary
            && (kin.added || kin.dynamic == DynamicChildren::Keep);
        if once && self.lived.contains(child) && !called {
            faults.add("start", moment, "a temporary child has a second run");
        }
        if grouped && !called && !why.alone {
            self.none_later(family, (moment, "it is started"), child, faults);
        }
        if family.kin[child].team.is_some() {
            self.begun.remove(child);
            let below = family.kin.iter().filter(|(_, kin)| kin.parent == *child);
            for (name, _) in below {
                self.reasons.remove(name);
            }
        }
    }

    /// Whoever is stopped and was not asked for by name is a member of a group operation, even
    /// when it was begun after the decision.
    fn stopped_with_group(&mut self, (_, calls): Known<'_>, child: &ChildName) {
        if !calls.stop(child) {
            self.reasons.entry(child.clone()).or_default().group = true;
        }
    }

    fn asked(
        &mut self,
        (family, calls): Known<'_>,
        moment: &Moment,
        child: &ChildName,
        faults: &mut Faults,
    ) {
        self.stopped_with_group((family, calls), child);
        let simple = family.team(&family.kin[child].parent).strategy == Strategy::SimpleOneForOne;
        if !simple && !calls.concern(child, moment.at) {
            self.none_later(family, (moment, "it is asked to stop"), child, faults);
        }
    }

    /// No later sibling, and nothing under one, may live.
    fn none_later(
        &self,
        family: &Family,
        (moment, what): (&Moment, &str),
        child: &ChildName,
        faults: &mut Faults,
    ) {
        for later in Self::later(family, child) {
            let lives: Vec<&ChildName> = self
                .live
                .iter()
                .filter(|(name, live)| {
                    !live.is_empty() && (**name == *later || family.above(name).contains(&later))
                })
                .map(|(name, _)| name)
                .collect();
            if !lives.is_empty() {
                let text = format!("{what} while {lives:?}, later in order, live");
                faults.add("order", moment, &text);
            }
        }
    }

    /// Siblings that stand later in the start order.
    fn later<'a>(family: &'a Family, child: &ChildName) -> Vec<&'a ChildName> {
        let parent = &family.kin[child].parent;
        let place = |name: &ChildName| {
            let declared = family.kin.iter().filter(|(_, kin)| kin.parent == *parent && !kin.added);
            // Declared names carry numbers that grow with the order.
            let mut declared: Vec<&ChildName> = declared.map(|(name, _)| name).collect();
            declared.sort_by_key(|name| number(name));
            declared.iter().position(|other| *other == name)
        };
        let is_later = |name: &&ChildName| match (place(child), place(name)) {
            (Some(own), Some(other)) => own < other,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // Which of two was added first is not seen from outside in every case.
            (None, None) => false,
        };
        family
            .kin
            .iter()
            .filter(|(name, kin)| kin.parent == *parent && *name != child)
            .map(|(name, _)| name)
            .filter(is_later)
            .collect()
    }

    fn told(&mut self, fact: &Fact) {
        match fact {
            Fact::Decision(decided) => {
                let siblings = self.begun.get(&decided.supervisor).cloned().unwrap_or_default();
                self.decided(&decided.name, &decided.record, &siblings);
            }
            // A throttled run that its group found dead already waits for its own time.
            Fact::AgentStateChanged(change) if change.new_state == AgentState::Parked => {
                let reasons = self.reasons.entry(change.name.clone()).or_default();
                (reasons.own, reasons.alone) = (true, true);
            }
            // Of a supervisor's stop nothing else is seen.
            Fact::SupervisorStopped(report) => {
                self.reasons.entry(report.name.clone()).or_default().group = true;
            }
            Fact::Circuit(change) if change.to == CircuitState::HalfOpen => {
                let reasons = self.reasons.entry(change.name.clone()).or_default();
                (reasons.own, reasons.alone) = (true, true);
            }
            _ => {}
        }
    }

    /// A child that is forgotten loses its place in the order.
    fn forgotten(&mut self, (family, calls): Known<'_>, moment: &Moment, fact: &Fact) {
        let Fact::AgentTerminated(change) = fact else { return };
        let kin = &family.kin[&change.name];
        let called = calls.about(&change.name).any(|asked| asked.forgets(moment.at));
        if (kin.spec.restart == RestartType::Temporary || called)
            && let Some(begun) = self.begun.get_mut(&kin.parent)
        {
            begun.retain(|other| *other != change.name);
        }
    }

    fn decided(&mut self, child: &ChildName, record: &DecisionRecord, siblings: &[ChildName]) {
        use provost::protocol::decision::Reason;
        let reasons = self.reasons.entry(child.clone()).or_default();
        match record.next.action {
            NextKind::Restart | NextKind::RestartGroup => {
                reasons.own = true;
                // A throttled child, and one whose trial is due, comes back alone.
                reasons.alone = record.reason == Reason::Throttled;
            }
            NextKind::Trial => (reasons.own, reasons.alone) = (true, true),
            NextKind::Stable
            | NextKind::Escalate
            | NextKind::StopTree
            | NextKind::Stop
            | NextKind::Assign
            | NextKind::Wait
            | NextKind::None => {}
        }
        if record.next.action == NextKind::RestartGroup {
            for sibling in siblings {
                self.reasons.entry(sibling.clone()).or_default().group = true;
            }
        }
    }

    /// Nothing lives that the board calls down.
    pub(super) fn compare(&self, family: &Family, board: &Board, faults: &mut Faults) {
        for (child, live) in self.live.iter().filter(|(_, live)| !live.is_empty()) {
            let entry = board.get(child);
            let state = entry.as_ref().map(|entry| entry.state);
            let up = matches!(
                state,
                Some(
                    AgentState::Starting
                        | AgentState::Running
                        | AgentState::Degraded
                        | AgentState::Probation
                        | AgentState::Stopping
                )
            );
            let current = entry.is_some_and(|entry| live.contains(&entry.generation));
            if !up || !current {
                let parent = &family.kin[child].parent;
                faults
                    .push(format!("state: {child} of {parent} lives ({live:?}), but is {state:?}"));
            }
        }
    }

    /// What nobody stopped, under supervisors that nothing but their end could stop, runs.
    pub(super) fn in_calm(&self, (family, calls): Known<'_>, board: &Board, faults: &mut Faults) {
        for (child, kin) in family.kin.iter().filter(|(_, kin)| !kin.added && !kin.template) {
            let line: Vec<&ChildName> = std::iter::once(child).chain(family.above(child)).collect();
            let must = line.iter().all(|name| Self::must_run(family, calls, name));
            let state = board.get(child).map(|entry| entry.state);
            let runs = matches!(state, Some(AgentState::Running | AgentState::Degraded))
                && (kin.team.is_some() || self.is_live(child));
            if must && !runs {
                faults.push(format!("calm: {child} has to run, but is {state:?}"));
            }
            let on_its_way = matches!(
                state,
                Some(
                    AgentState::Starting
                        | AgentState::Stopping
                        | AgentState::Backoff
                        | AgentState::Parked
                        | AgentState::Probation
                )
            );
            if on_its_way && Self::stands(family, board, child) {
                faults.push(format!("calm: {child} is {state:?} for ever"));
            }
            let down = matches!(state, Some(AgentState::Stopped | AgentState::Terminated));
            if down && self.is_live(child) {
                faults.push(format!("calm: {child} is down, but lives"));
            }
        }
        for (child, kin) in family.kin.iter().filter(|(_, kin)| kin.team.is_none()) {
            let state = board.get(child).map(|entry| entry.state);
            if state == Some(AgentState::Running) && !self.is_live(child) && !kin.template {
                faults.push(format!("calm: {child} is running, but nothing of it lives"));
            }
        }
    }

    /// Whether all supervisors above a child run.
    fn stands(family: &Family, board: &Board, child: &ChildName) -> bool {
        let state = |name: &ChildName| board.get(name).map(|entry| entry.state);
        family.above(child).into_iter().all(|name| state(name) == Some(AgentState::Running))
    }

    fn must_run(family: &Family, calls: &Calls, name: &ChildName) -> bool {
        let Some(kin) = family.kin.get(name) else {
            return family.root.auto_shutdown == AutoShutdown::Never;
        };
        // In a group, members that wait for one that is then stopped may stay down, as in OTP.
        let team = family.team(&kin.parent);
        let grouped = matches!(team.strategy, Strategy::OneForAll | Strategy::RestForOne);
        let stopped = family
            .kin
            .iter()
            .filter(|(other, kin_of_other)| {
                *other == name || grouped && kin_of_other.parent == kin.parent
            })
            .any(|(other, _)| calls.about(other).any(Asked::stops));
        let stays = team.auto_shutdown == AutoShutdown::Never;
        kin.spec.restart == RestartType::Permanent && stays && !stopped
    }

    pub(super) fn at_the_end(&self, faults: &mut Faults) {
        for (child, live) in self.live.iter().filter(|(_, live)| !live.is_empty()) {
            faults.push(format!("end: {live:?} of {child} live after the end"));
        }
    }
}

fn number(name: &ChildName) -> usize {
    name.as_str().trim_start_matches(|letter: char| letter.is_alphabetic()).parse().unwrap_or(0)
}
