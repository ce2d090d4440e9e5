//! Other rules for what runs: a configuration was loaded again.
//!
//! A child that gets other rules keeps its run, its generation, the state of its circuit and what
//! was counted; the new rules judge the next failure. So does the supervisor itself (OTP:
//! `code_change`). A child that is introduced is treated as one that was there from the beginning:
//! a start that fails is judged by its own rules, and it stays.

use std::sync::Arc;

use crate::logic::circuit::Circuit;
use crate::logic::intensity::Intensity;
use crate::logic::restart::child::StartFor;
use crate::logic::restart::machine::{Supervisor, Turn};
use crate::logic::restart::types::{CallId, Phase, Refusal, Reply, SpecFault};
use crate::protocol::spec::{AutoShutdown, ChildSpec, Significance, Strategy, SupervisorSpec};

impl Supervisor {
    /// Adds a child as if it had been declared from the beginning; answered before it is up.
    pub(super) fn introduce_child(&mut self, turn: &mut Turn, call: CallId, spec: ChildSpec) {
        if self.spec.strategy == Strategy::SimpleOneForOne {
            return turn.refuse(call, Refusal::SimpleOneForOne);
        }
        if let Err(fault) = self.check(&spec) {
            return turn.refuse(call, Refusal::BadSpec(fault));
        }
        if self.places.contains_key(&spec.name) {
            return turn.refuse(call, Refusal::AlreadyPresent);
        }
        let place = self.add(Arc::new(spec));
        turn.reply(call, Reply::Ok);
        self.start(turn, place, StartFor::Policy);
    }

    /// Gives a child other rules.
    pub(super) fn reconfigure_child(&mut self, turn: &mut Turn, call: CallId, spec: ChildSpec) {
        if self.spec.strategy == Strategy::SimpleOneForOne {
            return turn.refuse(call, Refusal::SimpleOneForOne);
        }
        if let Err(fault) = self.check(&spec) {
            return turn.refuse(call, Refusal::BadSpec(fault));
        }
        let place = self.places.get(&spec.name).copied();
        let Some((place, child)) =
            place.and_then(|place| Some((place, self.children.get_mut(&place)?)))
        else {
            return turn.refuse(call, Refusal::NotFound);
        };
        child.circuit = match (child.circuit.take(), spec.policy.circuit) {
            (Some(mut circuit), Some(rules)) => {
                circuit.reconfigure(rules);
                Some(circuit)
            }
            (None, Some(rules)) => Some(Box::new(Circuit::new(rules))),
            (_, None) => None,
        };
        self.changed.push(spec.name.clone());
        child.spec = Arc::new(spec);
        // Without a circuit nothing would ever let it out.
        let is_stuck = child.circuit.is_none() && matches!(child.phase, Phase::Quarantined(_));
        turn.reply(call, Reply::Ok);
        if is_stuck {
            self.start(turn, place, StartFor::Policy);
        }
    }

    /// Gives the supervisor itself other rules.
    pub(super) fn reconfigure(&mut self, turn: &mut Turn, call: CallId, spec: SupervisorSpec) {
        let simple = |strategy| strategy == Strategy::SimpleOneForOne;
        if simple(self.spec.strategy) != simple(spec.strategy) {
            return turn.refuse(call, Refusal::SimpleOneForOne);
        }
        let is_significant = |significance| significance == Significance::Significant;
        let any = self.children.values().any(|child| is_significant(child.spec.significance));
        if spec.auto_shutdown == AutoShutdown::Never && any {
            let fault = SpecFault::SignificantWithoutAutoShutdown;
            return turn.refuse(call, Refusal::BadSpec(fault));
        }
        self.intensity = match (self.intensity.take(), spec.limit) {
            (Some(mut intensity), Some(limit)) => {
                intensity.reconfigure(limit);
                Some(intensity)
            }
            (None, Some(limit)) => Some(Intensity::new(limit)),
            (_, None) => None,
        };
        self.spec = spec;
        turn.reply(call, Reply::Ok);
    }
}
