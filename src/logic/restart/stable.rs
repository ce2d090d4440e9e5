//! Stable running and the circuit's changes: what ends an outage.

use std::time::Duration;

use crate::logic::circuit::Circuit;
use crate::logic::restart::child::{Child, Health, Place, Siblings};
use crate::logic::restart::machine::{Supervisor, Turn};
use crate::logic::restart::record::{at_once, ms};
use crate::logic::restart::types::{Note, Phase, Trial};
use crate::protocol::decision::{Inputs, NextKind, Reason};
use crate::protocol::status::CircuitState;

/// Healthy running after which a child with backoff but without a circuit is judged stable.
pub(super) const STABLE_AFTER_DEFAULT: Duration = Duration::from_secs(10);

impl Child {
    /// How long it has to run healthily to be judged stable; `None` when that changes nothing.
    fn stable_after(&self) -> Option<Duration> {
        let Some(circuit) = &self.circuit else {
            let backoff = !self.spec.policy.backoff.initial.is_zero();
            return (backoff && 0 < self.failures).then_some(STABLE_AFTER_DEFAULT);
        };
        let owes = self.outage.is_some()
            || 0 < self.failures
            || self.siblings == Siblings::Restarted
            || circuit.state() == CircuitState::HalfOpen;
        owes.then_some(circuit.spec().stable_after)
    }

    /// Whether the child runs, or will without anybody's doing.
    pub(super) fn lives(&self) -> bool {
        match self.phase {
            Phase::Starting(_)
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Waiting(_)
            | Phase::Quarantined(_)
            | Phase::Parked(_) => true,
            Phase::Created | Phase::Stopped | Phase::Finished => false,
        }
    }
}

impl Supervisor {
    /// A run is up: its stable time begins, if it owes one.
    pub(super) fn watch(&mut self, turn: &Turn, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        child.health = Health::Healthy;
        if let Some(after) = child.stable_after() {
            self.set_timer(place, turn.now + after);
        }
    }

    /// The child's health has changed.
    pub(super) fn health(&mut self, turn: &Turn, place: Place, health: Health) {
        let Some(child) = self.children.get_mut(&place) else { return };
        let Phase::Up(_) = child.phase else { return };
        match (child.health, health) {
            (Health::Healthy, Health::Healthy) | (Health::Unhealthy, Health::Unhealthy) => {}
            (Health::Unhealthy, Health::Healthy) => self.watch(turn, place),
            (Health::Healthy, Health::Unhealthy) => {
                child.health = Health::Unhealthy;
                self.clear_timer(place);
            }
        }
    }

    /// The child has run healthily for its stable time.
    pub(super) fn stable(&mut self, turn: &mut Turn, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        if child.gone.is_some() {
            return;
        }
        let stable_after = child.stable_after().unwrap_or_default();
        let (failures, outage) = (child.failures, child.outage.take());
        let trial = child.circuit_state() == CircuitState::HalfOpen;
        child.failures = 0;
        child.siblings = Siblings::Untouched;
        let (name, generation) = (child.spec.name.clone(), child.generation);
        let reason = if trial { Reason::TrialPassed } else { Reason::StableRun };
        if trial {
            child.phase = Phase::Up(Trial::Ordinary);
            self.change_circuit(turn, place, (reason, NextKind::None), Circuit::close);
        }
        let Some(outage) = outage else { return };
        let inputs = Inputs::default()
            .with("stable_after_ms", ms(stable_after))
            .with("consecutive_failures", failures)
            .with("attempts", outage.attempts);
        let record = self.record(place, reason, inputs, at_once(NextKind::None));
        turn.note(Note::Recovered {
            child: name,
            generation,
            since: outage.since,
            attempts: outage.attempts,
            record,
        });
    }

    /// Changes a child's circuit and tells it, if the state is another one then.
    pub(super) fn change_circuit(
        &mut self,
        turn: &mut Turn,
        place: Place,
        (reason, next): (Reason, NextKind),
        change: impl FnOnce(&mut Circuit),
    ) {
        let Some(child) = self.children.get_mut(&place) else { return };
        let Some(circuit) = child.circuit.as_deref_mut() else { return };
        let (from, openings) = (circuit.state(), circuit.openings());
        let in_window = circuit.restarts_in_window(turn.now);
        change(circuit);
        let to = circuit.state();
        if from == to {
            return;
        }
        let child = child.spec.name.clone();
        let inputs =
            Inputs::default().with("openings", openings).with("restarts_in_window", in_window);
        let record = self.record(place, reason, inputs, at_once(next));
        turn.note(Note::Circuit { child, from, to, record });
    }
}
