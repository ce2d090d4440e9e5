//! Health: a state is shown as the last news of a run make it; who is unhealthy is not stable,
//! whether on trial or not, and his stable time begins anew when he is well again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use provost::board::Board;
use provost::ports::RunHealth;
use provost::protocol::decision::Reason;
use provost::protocol::fact::Fact;
use provost::protocol::id::{ChildName, Generation};
use provost::protocol::status::{AgentState, CircuitState, HealthStatus, Readiness};

use crate::simulation::check::Faults;
use crate::simulation::shape::{Command, Family};
use crate::simulation::world::{Moment, What};

/// As in `logic::restart::stable`, written down once more: for children without a circuit.
const STABLE_AFTER_DEFAULT: Duration = Duration::from_secs(10);

/// Runs that are up, and what they told.
#[derive(Debug, Default)]
pub(super) struct Healths {
    runs: BTreeMap<ChildName, Run>,
    /// Children that were ever drained.
    drained: BTreeSet<ChildName>,
}

#[derive(Debug)]
struct Run {
    generation: Generation,
    told: Option<RunHealth>,
    /// Since when it is well; `None` while it is not.
    well_since: Option<Duration>,
    /// When it fell ill last, and since when it had been well then.
    ill: Option<(Duration, Duration)>,
}

impl Healths {
    pub(super) fn see(&mut self, family: &Family, moment: &Moment, faults: &mut Faults) {
        match &moment.what {
            What::Up(child, generation) => {
                let well_since = Some(moment.at);
                let generation = *generation;
                let run = Run { generation, told: None, well_since, ill: None };
                self.runs.insert(child.clone(), run);
            }
            What::Exit(child, ..) | What::Gone(child, _) => {
                self.runs.remove(child);
            }
            What::Health(child, _, health) => {
                let Some(run) = self.runs.get_mut(child) else { return };
                let well = health.readiness == Readiness::Ready
                    && matches!(health.status, HealthStatus::Healthy | HealthStatus::Unknown);
                if let (false, Some(since)) = (well, run.well_since) {
                    run.ill = Some((moment.at, since));
                }
                run.well_since = match (well, run.well_since) {
                    (true, since) => since.or(Some(moment.at)),
                    (false, _) => None,
                };
                run.told = Some(health.clone());
            }
            What::Command(_, Command::Drain(child)) => {
                self.drained.insert(child.clone());
            }
            What::Event(_, draft) => match &draft.fact {
                Fact::Recovery(_) => self.is_stable(family, moment, &draft.source.name, faults),
                Fact::Circuit(change)
                    if change.from == CircuitState::HalfOpen
                        && change.to == CircuitState::Closed
                        && change.reason == Reason::TrialPassed =>
                {
                    self.is_stable(family, moment, &change.name, faults);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// A run that has ended is not judged here: a job that is done has passed its trial.
    fn is_stable(&self, family: &Family, moment: &Moment, child: &ChildName, faults: &mut Faults) {
        let Some(run) = self.runs.get(child) else { return };
        let circuit = family.kin[child].spec.policy.circuit;
        let wanted = circuit.map_or(STABLE_AFTER_DEFAULT, |circuit| circuit.stable_after);
        // Who falls ill at the very moment at which he would be stable may be either.
        let until_now = run.ill.filter(|(at, _)| *at == moment.at).map(|(_, since)| since);
        let well = run.well_since.or(until_now).map(|since| moment.at - since);
        if well.is_none_or(|well| well < wanted) {
            let text = format!("stable after {wanted:?}, but it is well for {well:?}");
            faults.add("health", moment, &text);
        }
    }

    /// What is shown is what was told last.
    pub(super) fn compare(&self, board: &Board, faults: &mut Faults) {
        for (child, run) in &self.runs {
            let Some(entry) = board.get(child) else { continue };
            let told = run.told.clone().unwrap_or_default();
            let untold = run.told.is_none();
            let wanted = match (told.readiness, told.status) {
                _ if untold => AgentState::Running,
                (Readiness::Starting, _) => AgentState::Starting,
                (Readiness::NotReady, _)
                | (Readiness::Ready, HealthStatus::Degraded | HealthStatus::Unhealthy) => {
                    AgentState::Degraded
                }
                (Readiness::Ready, HealthStatus::Healthy | HealthStatus::Unknown) => {
                    AgentState::Running
                }
            };
            let drains = self.drained.contains(child) && entry.state == AgentState::Degraded;
            let up = matches!(
                entry.state,
                AgentState::Starting | AgentState::Running | AgentState::Degraded
            );
            let current = entry.generation == run.generation;
            if up && current && entry.state != wanted && !drains {
                faults.push(format!(
                    "health: {child} is {}, but told {:?}, {:?}",
                    entry.state, told.status, told.readiness
                ));
            }
        }
    }
}
