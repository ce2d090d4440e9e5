//! How the daemon is as a whole: one word from the states of its agents, its downstreams and its
//! own parts. What `/health` says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::downstream::{ServiceHealth, ServiceVerdict};
use crate::protocol::status::AgentState;

/// The whole in one word.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Everything works.
    Healthy,
    /// It works, but something does not or not well.
    Degraded,
    /// What it is for does not work.
    Unhealthy,
}

/// Whether a part of the daemon works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// It does.
    Works,
    /// It does not.
    Fails,
}

/// What the judgement is made on.
#[derive(Clone, Debug)]
pub struct Grounds<'a> {
    /// The connection to NATS.
    pub nats: Part,
    /// The events' spool.
    pub spool: Part,
    /// States of all agents.
    pub agents: &'a [AgentState],
    /// All downstreams as they were checked.
    pub services: &'a [ServiceHealth],
}

/// Judges the whole, and says why in words; no reason is given for a healthy one.
///
/// Unhealthy: no NATS, or there are downstreams and none is up, or there are agents that should run
/// and none does. Degraded: anything less than all of it. Agents that were stopped on request or
/// have finished do not count.
#[must_use]
pub fn overall(grounds: &Grounds<'_>) -> (Overall, Vec<String>) {
    let mut reasons = Vec::new();
    let mut worst = Overall::Healthy;
    let mut say = |level: Overall, reason: String| {
        worst = worst.max(level);
        reasons.push(reason);
    };
    if grounds.nats == Part::Fails {
        say(Overall::Unhealthy, "no connection to NATS".to_owned());
    }
    if grounds.spool == Part::Fails {
        say(Overall::Degraded, "the events' spool cannot be written".to_owned());
    }
    let (well, ill) = count(grounds.agents);
    if ill > 0 {
        let level = if well == 0 { Overall::Unhealthy } else { Overall::Degraded };
        say(level, format!("{ill} of {} agents do not run well", well + ill));
    }
    let up = grounds.services.iter().filter(|service| service.status == ServiceVerdict::Up).count();
    let all = grounds.services.len();
    if up < all {
        let level = if up == 0 { Overall::Unhealthy } else { Overall::Degraded };
        say(level, format!("{} of {all} downstreams are not up", all - up));
    }
    (worst, reasons)
}

/// Agents that run well (or are on their way), and agents that do not.
fn count(agents: &[AgentState]) -> (usize, usize) {
    let well = |state: &&AgentState| match state {
        AgentState::Running | AgentState::Starting | AgentState::Created => true,
        AgentState::Degraded
        | AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Probation
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => false,
    };
    let ill = |state: &&AgentState| match state {
        AgentState::Degraded
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Probation
        | AgentState::Parked => true,
        AgentState::Created
        | AgentState::Starting
        | AgentState::Running
        | AgentState::Stopping
        | AgentState::Stopped
        | AgentState::Terminated => false,
    };
    (agents.iter().filter(well).count(), agents.iter().filter(ill).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(status: ServiceVerdict) -> ServiceHealth {
        ServiceHealth {
            name: "s".parse().unwrap(),
            status,
            latency_ms: None,
            last_check: jiff::Timestamp::UNIX_EPOCH,
            details: None,
        }
    }

    fn check(agents: &[AgentState], services: &[ServiceVerdict], nats: Part, expected: Overall) {
        let services: Vec<ServiceHealth> = services.iter().copied().map(service).collect();
        let grounds = Grounds { nats, spool: Part::Works, agents, services: &services };
        let (seen, reasons) = overall(&grounds);
        assert_eq!(seen, expected, "{agents:?} {services:?} {nats:?}");
        assert_eq!(reasons.is_empty(), expected == Overall::Healthy);
    }

    #[test]
    fn the_whole_is_as_good_as_its_parts_allow() {
        use AgentState as S;
        use Overall::{Degraded, Healthy, Unhealthy};
        use ServiceVerdict::{Down, Error, Up};
        check(&[], &[], Part::Works, Healthy);
        check(&[S::Running, S::Stopped, S::Terminated], &[Up], Part::Works, Healthy);
        check(&[S::Starting], &[], Part::Works, Healthy);
        check(&[S::Running, S::Backoff], &[], Part::Works, Degraded);
        check(&[S::Quarantined, S::Stopped], &[], Part::Works, Unhealthy);
        check(&[S::Running], &[Up, Down], Part::Works, Degraded);
        check(&[S::Running], &[Down, Error], Part::Works, Unhealthy);
        check(&[S::Running], &[Up], Part::Fails, Unhealthy);
    }

    #[test]
    fn a_spool_that_cannot_be_written_degrades() {
        let spool = Part::Fails;
        let grounds = Grounds { nats: Part::Works, spool, agents: &[], services: &[] };
        assert_eq!(overall(&grounds).0, Overall::Degraded);
    }
}
