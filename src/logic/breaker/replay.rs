//! What recorded calls would have led to: under the same rules the same transitions, under others
//! what they would have spared and cost.

use std::collections::BTreeMap;

use crate::logic::breaker::config::BreakerConfig;
use crate::logic::breaker::control::{Admission, Force, Grant};
use crate::logic::breaker::machine::Machine;
use crate::logic::breaker::outcome::Outcome;
use crate::logic::breaker::transition::Transition;

/// Something that happened to a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// When.
    pub at_ms: u64,
    /// What.
    pub op: Op,
    /// The draw for an open time that began with it.
    pub fraction: f64,
}

/// What happened. A call has the same number in all of its entries and no other call has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// A call asked to pass and was let through.
    Passed(u64),
    /// A call asked to pass and was rejected.
    Rejected(u64),
    /// A call had a result.
    Settled(u64, Outcome),
    /// A call ended without a result.
    Released(u64),
    /// Somebody held the breaker open or closed, or let it judge again.
    Forced(Force),
    /// Nothing: time passed.
    Tick,
}

/// What a replay led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Changes of state, in order.
    pub transitions: Vec<Transition>,
    /// Calls that asked to pass.
    pub calls: u64,
    /// Calls rejected in the replay.
    pub rejected: u64,
    /// Calls rejected in the replay that failed, were slow or were throttled when they were made.
    pub spared: u64,
    /// Calls rejected in the replay that succeeded when they were made.
    pub lost: u64,
    /// Calls let through in the replay that were rejected then: nobody knows what they would have
    /// come to. They count as ended without a result.
    pub unknown: u64,
}

/// Replays a log under the given rules.
#[must_use]
pub fn replay(config: BreakerConfig, log: &[Entry]) -> Replay {
    let mut machine = Machine::new(config);
    let mut replay = Replay::default();
    let mut under_way: BTreeMap<u64, Grant> = BTreeMap::new();
    for Entry { at_ms, op, fraction } in log {
        let (now, draw) = (*at_ms, *fraction);
        match *op {
            Op::Passed(call) => {
                replay.calls += 1;
                match machine.acquire(now, draw) {
                    Admission::Granted(grant) => {
                        under_way.insert(call, grant);
                    }
                    Admission::Rejected(_) => replay.rejected += 1,
                }
            }
            Op::Rejected(_) => {
                replay.calls += 1;
                match machine.acquire(now, draw) {
                    Admission::Granted(grant) => {
                        replay.unknown += 1;
                        machine.release(now, grant, draw);
                    }
                    Admission::Rejected(_) => replay.rejected += 1,
                }
            }
            Op::Settled(call, outcome) => match under_way.remove(&call) {
                Some(grant) => machine.settle(now, grant, outcome, draw),
                None => replay.miss(outcome),
            },
            Op::Released(call) => {
                if let Some(grant) = under_way.remove(&call) {
                    machine.release(now, grant, draw);
                }
            }
            Op::Forced(force) => machine.force(now, force, draw),
            Op::Tick => machine.advance(now, draw),
        }
        replay.transitions.extend(machine.take_transitions());
    }
    replay
}

impl Replay {
    fn miss(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => self.lost += 1,
            Outcome::Error | Outcome::Slow | Outcome::Throttled { .. } => self.spared += 1,
            Outcome::Ignored => {}
        }
    }
}
