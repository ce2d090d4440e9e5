//! Restart limits, recounted: the restarts within any window never exceed the limit that the spec
//! names, and the counts in the records are the counts.
//!
//! What is counted are the decisions of one life of a supervisor, at the times at which they were
//! seen; the limit is the one that was drawn for the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use provost::protocol::decision::{DecisionRecord, Input, NextKind, Reason};
use provost::protocol::fact::{Decided, Fact};
use provost::protocol::id::ChildName;
use provost::protocol::spec::Limit;
use provost::protocol::status::CircuitState;

use crate::simulation::check::Faults;
use crate::simulation::shape::{Command, Family};
use crate::simulation::world::{Moment, What};

/// Restarts counted so far.
#[derive(Debug, Default)]
pub(super) struct Limits {
    supervisors: BTreeMap<ChildName, Account>,
    children: BTreeMap<ChildName, Account>,
    /// Children whose account somebody emptied by hand, at a moment that is not known.
    emptied: BTreeSet<ChildName>,
}

#[derive(Debug, Default)]
struct Account {
    times: Vec<Duration>,
    /// Whether restarts were counted that no record tells: OTP counts a retry when it is tried.
    silent: bool,
}

impl Account {
    /// Counts one more; returns how many lie in the window then.
    fn add(&mut self, now: Duration, limit: Limit) -> u64 {
        self.times.push(now);
        let inside = self.times.iter().filter(|time| now - **time <= limit.period).count();
        u64::try_from(inside).unwrap().min(u64::from(limit.intensity) + 1)
    }
}

impl Limits {
    pub(super) fn see(&mut self, family: &Family, moment: &Moment, faults: &mut Faults) {
        match &moment.what {
            What::Began(child, _) if family.kin[child].team.is_some() => {
                self.supervisors.remove(child);
                let below = family.kin.iter().filter(|(_, kin)| kin.parent == *child);
                for (name, _) in below {
                    self.children.remove(name);
                    self.emptied.remove(name);
                }
            }
            What::Command(
                _,
                Command::Reset(child)
                | Command::Circuit(child, _)
                | Command::Delete(child)
                | Command::Add(child),
            ) => {
                self.emptied.insert(child.clone());
            }
            What::Event(_, draft) => self.told(family, moment, &draft.fact, faults),
            _ => {}
        }
    }

    fn told(&mut self, family: &Family, moment: &Moment, fact: &Fact, faults: &mut Faults) {
        match fact {
            Fact::Decision(decided) if decided.record.reason != Reason::SiblingFailed => {
                self.by_supervisor(family, moment, decided, faults);
                self.by_child(family, moment, decided, faults);
            }
            Fact::Circuit(change)
                if matches!(change.to, CircuitState::Closed | CircuitState::ForcedClosed) =>
            {
                self.children.remove(&change.name);
            }
            Fact::AgentTerminated(change) => {
                self.children.remove(&change.name);
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
        let account = self.supervisors.entry(decided.supervisor.clone()).or_default();
        let record = &decided.record;
        let Some(limit) = family.team(&decided.supervisor).limit else {
            if count(record, "supervisor_restarts_in_window").is_some() {
                faults.add("limit", moment, "counted against a limit that is not there");
            }
            return;
        };
        let Some(recorded) = count(record, "supervisor_restarts_in_window") else {
            account.silent |= record.reason == Reason::StartFailed;
            return;
        };
        let counted = account.add(moment.at, limit);
        compare(moment, (recorded, counted, account.silent, false), faults);
        let over = u64::from(limit.intensity) < recorded.max(counted);
        if over != (record.next.action == NextKind::Escalate) {
            let text = format!("{counted} within {limit:?} lead to {:?}", record.next.action);
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
        let counted = account.add(moment.at, circuit.limit);
        let emptied = self.emptied.contains(&decided.name);
        compare(moment, (recorded, counted, account.silent, emptied), faults);
        let held = record.inputs.0.get("limit_applied") == Some(&Input::Flag(false));
        let over = u64::from(circuit.limit.intensity) < recorded;
        let told =
            matches!(record.reason, Reason::ChildLimitExceeded | Reason::SupervisorLimitExceeded);
        if over && !held && !told {
            let text = format!("{recorded} within {:?} are restarted", circuit.limit);
            faults.add("limit", moment, &text);
        }
    }
}

fn compare(
    moment: &Moment,
    (recorded, counted, silent, emptied): (u64, u64, bool, bool),
    faults: &mut Faults,
) {
    let too_many = counted < recorded && !silent;
    let too_few = recorded < counted && !emptied;
    if too_many || too_few {
        let text = format!("{counted} restarts lie in the window, the record says {recorded}");
        faults.add("limit", moment, &text);
    }
}

fn count(record: &DecisionRecord, name: &str) -> Option<u64> {
    match record.inputs.0.get(name)? {
        Input::Count(count) => Some(*count),
        _ => None,
    }
}
