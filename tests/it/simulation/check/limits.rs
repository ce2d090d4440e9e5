//! Restart limits, recounted: the restarts within any window never exceed the limit that the spec
//! names, failures in a row are what they are said to be, and the counts in the records are the
//! counts.
//!
//! What is counted are the decisions of one life of a supervisor, at the times at which they were
//! seen; the limit is the one that was drawn for the tree. A count is an interval where one moment
//! is not seen from outside, and only there: somebody empties the account by hand while other
//! things happen, at any time between question and answer (a refused call may have emptied it,
//! too); and OTP counts the retry of a failed start without a record, or drops it when a group or a
//! call was faster. Everywhere else both ends are equal.

use std::collections::BTreeMap;
use std::time::Duration;

use provost::protocol::command::CircuitSet;
use provost::protocol::decision::{DecisionRecord, Input, NextKind, Reason};
use provost::protocol::fact::{Decided, Fact};
use provost::protocol::id::ChildName;
use provost::protocol::spec::{ChildSpec, Limit, RestartType, Strategy};
use provost::protocol::status::{AgentState, CircuitState};

use crate::simulation::check::Faults;
use crate::simulation::shape::{Command, Family};
use crate::simulation::world::{Moment, What};

/// As in `logic::circuit`, written down once more.
const IN_A_ROW_FACTOR: u64 = 3;

/// Restarts counted so far.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Moments seen.
    place: usize,
    supervisors: BTreeMap<ChildName, Account>,
    children: BTreeMap<ChildName, Account>,
    rows: BTreeMap<ChildName, Row>,
    /// Children whose failed start will be counted when it is tried again.
    retries: BTreeMap<ChildName, ChildName>,
    /// Calls under way that empty an account: which child, and since when.
    emptying: BTreeMap<usize, (ChildName, usize)>,
    /// Calls under way that may end a row.
    resting: BTreeMap<usize, ChildName>,
}

#[derive(Debug, Default)]
struct Account {
    marks: Vec<Mark>,
    /// What was counted before is gone for certain, or perhaps.
    gone: usize,
    perhaps_gone: usize,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Duration,
    place: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Told,
    Silent,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    count: u64,
    /// It may have been set to nothing since.
    perhaps_over: bool,
}

impl Account {
    fn mark(&mut self, at: Duration, place: usize, kind: Kind) {
        self.marks.push(Mark { at, place, kind });
    }

    /// The least and the most that may lie in the window.
    fn bounds(&self, now: Duration, limit: Limit) -> (u64, u64) {
        let most = u64::from(limit.intensity) + 1;
        let inside = |mark: &&Mark| now - mark.at <= limit.period && self.gone <= mark.place;
        let sure = |mark: &&Mark| self.perhaps_gone <= mark.place && mark.kind == Kind::Told;
        let high = self.marks.iter().filter(inside).count();
        let low = self.marks.iter().filter(inside).filter(sure).count();
        (u64::try_from(low).unwrap().min(most), u64::try_from(high).unwrap().min(most))
    }

    fn empty(&mut self, before: usize) {
        self.gone = self.gone.max(before);
        self.perhaps_gone = self.perhaps_gone.max(before);
    }
}

impl Limits {
    pub(super) fn see(&mut self, family: &Family, moment: &Moment, faults: &mut Faults) {
        self.place += 1;
        match &moment.what {
            What::Began(child, _) => self.began(family, moment, child),
            What::Command(number, command) => self.asked(*number, command),
            What::Answer(number, answer) => self.answered(*number, answer.is_ok()),
            What::Panicked(team) => {
                // What it was about to tell is lost, and its life is over.
                for (name, _) in family.kin.iter().filter(|(_, kin)| kin.parent == *team) {
                    self.rows.remove(name);
                }
            }
            What::Event(_, draft) => {
                self.doubt(&draft.source.name);
                self.told(family, moment, &draft.fact, faults);
            }
            _ => {}
        }
    }

    fn began(&mut self, family: &Family, moment: &Moment, child: &ChildName) {
        if let Some(supervisor) = self.retries.remove(child) {
            let account = self.supervisors.entry(supervisor).or_default();
            account.mark(moment.at, self.place, Kind::Silent);
        }
        if family.kin[child].team.is_some() {
            self.supervisors.remove(child);
            for (name, _) in family.kin.iter().filter(|(_, kin)| kin.parent == *child) {
                self.children.remove(name);
                self.rows.remove(name);
                self.retries.remove(name);
            }
        }
    }

    fn asked(&mut self, number: usize, command: &Command) {
        let empties = matches!(
            command,
            Command::Reset(_)
                | Command::Circuit(_, CircuitSet::Closed | CircuitSet::Auto)
                | Command::Delete(_)
                | Command::Add(_)
        );
        if let Some(child) = command.about().filter(|_| empties) {
            self.emptying.insert(number, (child.clone(), self.place));
        }
        let rests = matches!(
            command,
            Command::Terminate(_)
                | Command::TerminateWithin(..)
                | Command::Bounce(_)
                | Command::Restart(_)
                | Command::Circuit(..)
        );
        if let Some(child) = command.about().filter(|_| empties || rests) {
            self.rows.entry(child.clone()).or_default().perhaps_over = true;
            self.resting.insert(number, child.clone());
        }
    }

    fn answered(&mut self, number: usize, done: bool) {
        if let Some(child) = self.resting.remove(&number) {
            self.rows.entry(child).or_default().perhaps_over = true;
        }
        let Some((child, asked)) = self.emptying.remove(&number) else { return };
        let account = self.children.entry(child.clone()).or_default();
        account.perhaps_gone = self.place;
        if done {
            account.gone = account.gone.max(asked);
        }
    }

    /// While somebody empties it, nothing is certain.
    fn doubt(&mut self, child: &ChildName) {
        if self.emptying.values().any(|(other, _)| other == child) {
            self.children.entry(child.clone()).or_default().perhaps_gone = self.place + 1;
        }
        if self.resting.values().any(|other| other == child) {
            self.rows.entry(child.clone()).or_default().perhaps_over = true;
        }
    }

    fn told(&mut self, family: &Family, moment: &Moment, fact: &Fact, faults: &mut Faults) {
        match fact {
            // Its work is done; its group may bring it back at once, so that no end is told.
            Fact::Decision(decided) if decided.record.reason == Reason::CleanExit => {
                self.rows.remove(&decided.name);
            }
            Fact::Decision(decided) if decided.record.reason != Reason::SiblingFailed => {
                self.by_supervisor(family, moment, decided, faults);
                self.by_child(family, moment, decided, faults);
                self.by_row(family, moment, decided, faults);
            }
            Fact::Circuit(change)
                if matches!(change.to, CircuitState::Closed | CircuitState::ForcedClosed) =>
            {
                self.children.entry(change.name.clone()).or_default().empty(self.place);
                self.rows.entry(change.name.clone()).or_default().perhaps_over = true;
            }
            Fact::Recovery(recovery) => {
                self.rows.remove(&recovery.name);
            }
            Fact::AgentTerminated(change) => {
                self.rows.remove(&change.name);
                if is_forgotten(family, &change.name) {
                    self.children.remove(&change.name);
                }
            }
            Fact::AgentStateChanged(change) if change.new_state == AgentState::Stopped => {
                let row = self.rows.entry(change.name.clone()).or_default();
                // A plain member may only be stopped with its group.
                *row = if is_plain(&family.kin[&change.name].spec) {
                    Row { perhaps_over: true, ..*row }
                } else {
                    Row::default()
                };
            }
            Fact::SupervisorStopped(report) => {
                self.rows.entry(report.name.clone()).or_default().perhaps_over = true;
            }
            _ => {}
        }
    }

    fn by_supervisor(
        &mut self,
        family: &Family,
        moment: &Moment,
        decided: &Decided,
        faults: &mut Faults,
    ) {
        let record = &decided.record;
        let Some(limit) = family.team(&decided.supervisor).limit else {
            if count(record, "supervisor_restarts_in_window").is_some() {
                faults.add("limit", moment, "counted against a limit that is not there");
            }
            return;
        };
        let Some(recorded) = count(record, "supervisor_restarts_in_window") else {
            if record.reason == Reason::StartFailed && is_plain(&family.kin[&decided.name].spec) {
                self.retries.insert(decided.name.clone(), decided.supervisor.clone());
            }
            return;
        };
        // A retry is counted when it is tried, with its group that may be some time before the
        // child itself begins.
        let retries = self.retries.values().filter(|team| **team == decided.supervisor).count();
        let account = self.supervisors.entry(decided.supervisor.clone()).or_default();
        account.mark(moment.at, self.place, Kind::Told);
        let (low, high) = account.bounds(moment.at, limit);
        let high = high + u64::try_from(retries).unwrap();
        compare(moment, recorded, (low, high), faults);
        let over = u64::from(limit.intensity) < recorded;
        if over != (record.next.action == NextKind::Escalate) {
            let text = format!("{recorded} within {limit:?} lead to {:?}", record.next.action);
            faults.add("limit", moment, &text);
        }
    }

    fn by_child(
        &mut self,
        family: &Family,
        moment: &Moment,
        decided: &Decided,
        faults: &mut Faults,
    ) {
        let record = &decided.record;
        let Some(circuit) = family.kin[&decided.name].spec.policy.circuit else { return };
        let Some(recorded) = count(record, "restarts_in_window") else { return };
        let account = self.children.entry(decided.name.clone()).or_default();
        account.mark(moment.at, self.place, Kind::Told);
        compare(moment, recorded, account.bounds(moment.at, circuit.limit), faults);
        let held = record.inputs.0.get("limit_applied") == Some(&Input::Flag(false));
        let over = u64::from(circuit.limit.intensity) < recorded;
        let told =
            matches!(record.reason, Reason::ChildLimitExceeded | Reason::SupervisorLimitExceeded);
        if over && !held && !told {
            let text = format!("{recorded} within {:?} are restarted", circuit.limit);
            faults.add("limit", moment, &text);
        }
    }

    /// Failures in a row, which delays grow with and a slow crash loop is known by.
    fn by_row(&mut self, family: &Family, moment: &Moment, decided: &Decided, faults: &mut Faults) {
        let record = &decided.record;
        let row = self.rows.entry(decided.name.clone()).or_default();
        let slow = count(record, "failures_in_a_row");
        let before = count(record, "consecutive_failures").or(slow.map(|failures| failures - 1));
        if let Some(before) = before {
            let fits = before == row.count || row.perhaps_over && before < row.count;
            if !fits {
                let text = format!("{} failures in a row, the record says {before}", row.count);
                faults.add("limit", moment, &text);
            }
            // One that is not counted makes the row no longer.
            let counted = !record.inputs.0.contains_key("counted") && slow.is_none();
            *row = Row { count: before + u64::from(counted), perhaps_over: false };
        }
        let Some(circuit) = family.kin[&decided.name].spec.policy.circuit else { return };
        let most = u64::from(circuit.limit.intensity) * IN_A_ROW_FACTOR;
        let restarted = count(record, "restarts_in_window").is_some()
            && matches!(record.reason, Reason::ChildExited | Reason::StartFailed)
            && record.inputs.0.get("limit_applied") != Some(&Input::Flag(false));
        if slow.is_some_and(|failures| failures <= most) || restarted && most < row.count {
            let text = format!("{} failures in a row, {most} allowed", row.count);
            faults.add("limit", moment, &text);
        }
    }
}

/// Whether nothing is kept of a child that has ended.
fn is_forgotten(family: &Family, name: &ChildName) -> bool {
    let kin = &family.kin[name];
    kin.spec.restart == RestartType::Temporary
        || family.team(&kin.parent).strategy == Strategy::SimpleOneForOne
}

fn is_plain(spec: &ChildSpec) -> bool {
    spec.policy.circuit.is_none() && spec.policy.backoff.initial.is_zero()
}

fn compare(moment: &Moment, recorded: u64, (low, high): (u64, u64), faults: &mut Faults) {
    if recorded < low || high < recorded {
        let text = format!("{low} to {high} restarts lie in the window, recorded are {recorded}");
        faults.add("limit", moment, &text);
    }
}

fn count(record: &DecisionRecord, name: &str) -> Option<u64> {
    match record.inputs.0.get(name)? {
        Input::Count(count) => Some(*count),
        _ => None,
    }
}
