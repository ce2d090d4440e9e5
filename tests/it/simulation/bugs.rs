//! Planted bugs: each changes one rule, and the checkers have to notice it.
//!
//! A rule is changed where the tree meets the world and not in the tree: the tree is given other
//! settings than the checkers know of (which is the same as a supervisor that misreads them), or
//! a port does not keep its promise.

use std::time::Duration;

use provost::protocol::spec::{ChildSpec, RestartType, Strategy, SupervisorSpec};

use crate::simulation::shape::{Member, Team};

/// One change of the rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// A supervisor allows one restart more than its limit.
    SupervisorLimitOffByOne,
    /// A child's circuit opens one restart too late.
    ChildLimitOffByOne,
    /// A transient child is restarted after a clean exit.
    TransientAlwaysRestarted,
    /// One for all restarts only the failed child.
    GroupIgnored,
    /// Children are started, and so stopped, in the wrong order.
    OrderReversed,
    /// The delay before a restart does not grow.
    DelayNotGrown,
    /// Generations begin at 1 again when a supervisor is restarted.
    GenerationsForgotten,
    /// A child is restarted before nothing is left of its former run.
    RunOutlives,
    /// Nobody sees to it that a run which is killed dies.
    KillIgnored,
    /// Decisions are not told.
    DecisionLost,
    /// A decision names a cause that was not.
    CauseLost,
    /// Events do not name the first failure of their outage.
    OutageForgotten,
    /// What changes without a change of state is not told.
    ChangeUntold,
}

impl Bug {
    /// All bugs, each with the checker that has to notice it.
    pub(crate) const ALL: [(Self, &str); 13] = [
        (Self::SupervisorLimitOffByOne, "limit"),
        (Self::ChildLimitOffByOne, "limit"),
        (Self::TransientAlwaysRestarted, "record"),
        (Self::GroupIgnored, "order"),
        (Self::OrderReversed, "order"),
        (Self::DelayNotGrown, "record"),
        (Self::GenerationsForgotten, "generation"),
        (Self::RunOutlives, "two lives"),
        (Self::KillIgnored, "end"),
        (Self::DecisionLost, "start"),
        (Self::CauseLost, "cause"),
        (Self::OutageForgotten, "cause"),
        (Self::ChangeUntold, "past"),
    ];

    /// The tree as a supervisor with this bug reads it.
    pub(crate) fn change(self, mut team: Team) -> Team {
        self.change_supervisor(&mut team.spec);
        if self == Self::OrderReversed {
            team.members.reverse();
        }
        for member in &mut team.members {
            match member {
                Member::Worker(spec) => self.change_child(spec),
                Member::Team(spec, below) => {
                    self.change_child(spec);
                    *below = self.change(below.clone());
                }
            }
        }
        team
    }

    fn change_supervisor(self, spec: &mut SupervisorSpec) {
        if let (Self::SupervisorLimitOffByOne, Some(limit)) = (self, &mut spec.limit) {
            limit.intensity += 1;
        }
        if self == Self::GroupIgnored && spec.strategy == Strategy::OneForAll {
            spec.strategy = Strategy::OneForOne;
        }
    }

    fn change_child(self, spec: &mut ChildSpec) {
        if let (Self::ChildLimitOffByOne, Some(circuit)) = (self, &mut spec.policy.circuit) {
            circuit.limit.intensity += 1;
        }
        if self == Self::TransientAlwaysRestarted && spec.restart == RestartType::Transient {
            spec.restart = RestartType::Permanent;
            spec.significance = provost::protocol::spec::Significance::Ordinary;
        }
        if self == Self::DelayNotGrown {
            spec.policy.backoff.factor = 1.0;
        }
    }
}

/// How long the end of a tree may take when nothing is wrong.
pub(crate) const END_MAX: Duration = Duration::from_secs(600);
