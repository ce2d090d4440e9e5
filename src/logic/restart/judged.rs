//! Ends that a rule has judged: what the rule asks for, carried out.
//!
//! A rule goes before the restart type where it says more than "restart". A temporary child is never
//! restarted, whatever a rule says; its supervisor gives up all the same where a rule wants that.
//!
//! A child without a circuit cannot be quarantined: it is stopped instead. Without a circuit OTP's
//! rules hold besides, and its group brings back what was stopped.

use crate::logic::restart::child::Place;
use crate::logic::restart::failure::{Failure, Judged, Verdict};
use crate::logic::restart::group::End;
use crate::logic::restart::machine::{Supervisor, Turn};
use crate::logic::restart::record::{at_once, exit_inputs, opening_inputs, under_rule};
use crate::logic::restart::types::{EndScope, Note, Phase};
use crate::protocol::decision::{Inputs, NextKind, Reason};
use crate::protocol::exit::{ChildExit, ExitAction, StartError};
use crate::protocol::spec::{Significance, Strategy};
use crate::protocol::status::CircuitState;

impl Supervisor {
    /// Does what a rule asks for. Gives back an end that is left to the restart type, the backoff
    /// and the circuit.
    pub(super) fn by_rule(
        &mut self,
        turn: &mut Turn,
        place: Place,
        exit: ChildExit,
    ) -> Option<ChildExit> {
        let action = exit.judged().map(|judged| judged.action);
        let child = self.children.get(&place)?;
        match action {
            Some(ExitAction::Escalate) => self.escalate(turn, place, exit),
            Some(_) if child.is_temporary() => return Some(exit),
            Some(ExitAction::Park { after_ms }) => self.throttled(turn, place, after_ms, exit),
            Some(ExitAction::Stop) => self.stop_by_rule(turn, place, exit),
            Some(ExitAction::Quarantine) if child.is_otp() => self.stop_by_rule(turn, place, exit),
            Some(ExitAction::Restart | ExitAction::RestartGroup | ExitAction::Quarantine)
            | None => return Some(exit),
        }
        None
    }

    /// The child stays down until somebody starts it.
    fn stop_by_rule(&mut self, turn: &mut Turn, place: Place, exit: ChildExit) {
        let next = at_once(NextKind::None);
        let record = self.record(place, Reason::ExitRule, exit_inputs(&exit), next);
        let record = under_rule(record, &exit);
        let Some(child) = self.children.get(&place) else { return };
        let (name, generation) = (child.spec.name.clone(), child.generation);
        let significance = child.spec.significance;
        let child = name.clone();
        turn.note(if exit.is_clean() {
            Note::ChildFinished { child, generation, exit, record }
        } else {
            Note::ChildTerminated { child, generation, exit, record }
        });
        self.stand_down(turn, place);
        if significance == Significance::Significant {
            self.shut_down_with(turn, (name, place));
        }
    }

    /// Puts a child down whose run a rule has ended for good. A trial is called off, not failed.
    pub(super) fn stand_down(&mut self, turn: &mut Turn, place: Place) {
        if self.spec.strategy == Strategy::SimpleOneForOne {
            return self.remove(turn, place);
        }
        self.settle(place, Phase::Stopped);
        let Some(child) = self.children.get_mut(&place) else { return };
        child.end_outage();
        if child.circuit_state() == CircuitState::HalfOpen {
            self.change_circuit(turn, place, (Reason::ExitRule, NextKind::None), |circuit| {
                circuit.reopen();
            });
        }
    }

    /// The supervisor ends and leaves the matter to its parent.
    fn escalate(&mut self, turn: &mut Turn, place: Place, exit: ChildExit) {
        let next = at_once(NextKind::Escalate);
        let record = self.record(place, Reason::ExitRule, exit_inputs(&exit), next);
        let record = under_rule(record, &exit);
        let Some(child) = self.children.get(&place) else { return };
        let (child, generation) = (child.spec.name.clone(), child.generation);
        let message = format!("gave up, as an exit rule says: {child} {exit}");
        turn.note(Note::ChildTerminated {
            child: child.clone(),
            generation,
            exit,
            record: record.clone(),
        });
        turn.note(Note::GivingUp { child, record });
        self.forget_run(turn, place);
        let exit = ChildExit::Failed { message };
        self.begin_ending(turn, End { exit, scope: EndScope::Supervisor });
    }

    /// Opens the circuit at once where a rule wants that; the inputs come back where none does. A
    /// circuit that somebody holds closed stays closed: a hand goes before a rule.
    pub(super) fn quarantine_by_rule(
        &mut self,
        turn: &mut Turn,
        place: Place,
        failure: &Failure,
        inputs: Inputs,
    ) -> Result<Inputs, Judged> {
        if failure.action() != Some(ExitAction::Quarantine) {
            return Ok(inputs);
        }
        let child = self.children.get_mut(&place);
        let Some(circuit) = child.and_then(|child| child.circuit.as_deref_mut()) else {
            return Ok(inputs);
        };
        let from = circuit.state();
        if from == CircuitState::ForcedClosed {
            return Ok(inputs);
        }
        let opening = circuit.open(turn.draw());
        let inputs = opening_inputs(inputs, circuit, opening);
        Err(Judged {
            verdict: Verdict::Quarantine(from, opening),
            reason: failure.reason_of_rule(),
            inputs,
        })
    }

    /// Whether a rule wants siblings restarted that the strategy would let run.
    pub(super) fn rule_wants_group(&self, place: Place, failure: &Failure) -> bool {
        if failure.action() != Some(ExitAction::RestartGroup) {
            return false;
        }
        let first = self.first_of_group(place);
        self.is_individual() || self.children.range(..first).next().is_some()
    }
}

impl Failure {
    /// What a rule wants done about it. A command that cannot be executed at all is the same fault of
    /// the configuration as exit codes 126 and 127 of a shell.
    fn action(&self) -> Option<ExitAction> {
        match self {
            Self::Exit(exit) => exit.judged().map(|judged| judged.action),
            Self::Start(
                StartError::NotFound { .. }
                | StartError::NotExecutable { .. }
                | StartError::BadDirectory { .. },
            ) => Some(ExitAction::Quarantine),
            Self::Start(
                StartError::System { .. }
                | StartError::Timeout { .. }
                | StartError::Failed { .. }
                | StartError::Refused { .. },
            ) => None,
        }
    }

    fn reason_of_rule(&self) -> Reason {
        match self {
            Self::Exit(_) => Reason::ExitRule,
            Self::Start(_) => Reason::StartFailed,
        }
    }
}
