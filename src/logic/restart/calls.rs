//! What people and other parts ask of a supervisor at run time. OTP's table of answers is the
//! table here:
//!
//! | call | runs | down | restarting | no spec |
//! |---|---|---|---|---|
//! | start | already started | already present | already present | starts; a failure leaves no spec |
//! | terminate | stops | ok | ok, no retry | not found |
//! | restart | running | starts; a failure leaves it down | restarting | not found |
//! | delete | running | ok | restarting | not found |
//!
//! A call about a child whose start or stop is under way waits for its end. A child that waits for
//! a delay, and not only for its turn, is started at once by `restart`.

use std::sync::Arc;

use crate::logic::circuit::Circuit;
use crate::logic::restart::child::{Place, Retry, Siblings, StartFor, StopFor};
use crate::logic::restart::machine::{Mail, Starts, Supervisor, Turn};
use crate::logic::restart::types::{Call, CallId, Phase, Refusal, Reply, Trial};
use crate::protocol::command::CircuitSet;
use crate::protocol::decision::{NextKind, Reason};
use crate::protocol::exit::StartError;
use crate::protocol::id::ChildName;
use crate::protocol::spec::{ChildSpec, Strategy};
use crate::protocol::status::CircuitState;

impl Supervisor {
    pub(super) fn handle_call(&mut self, turn: &mut Turn, call: CallId, request: Call) {
        if let Some(name) = request.about()
            && let Some(place) = self.places.get(name)
            && let Some(child) = self.children.get_mut(place)
            && child.is_busy()
        {
            child.waiting.push_back(Mail::Call(call, Box::new(request)));
            return;
        }
        match request {
            Call::StartChild(spec) => self.start_child(turn, call, spec),
            Call::TerminateChild(name) => self.terminate_child(turn, call, &name),
            Call::RestartChild(name) => self.restart_child(turn, call, &name),
            Call::DeleteChild(name) => self.delete_child(turn, call, &name),
            Call::BounceChild(name) => self.bounce_child(turn, call, &name),
            Call::ResetChild(name) => self.reset_child(turn, call, &name),
            Call::SetCircuit(name, set) => self.set_circuit(turn, call, &name, set),
            Call::IntroduceChild(spec) => self.introduce_child(turn, call, spec),
            Call::ReconfigureChild(spec) => self.reconfigure_child(turn, call, spec),
            Call::Reconfigure(spec) => self.reconfigure(turn, call, spec),
            Call::Pause => {
                self.starts = Starts::Paused;
                turn.reply(call, Reply::Ok);
            }
            Call::Resume => self.resume(turn, call),
        }
    }

    fn start_child(&mut self, turn: &mut Turn, call: CallId, spec: ChildSpec) {
        let spec = match &self.template {
            Some(template) => ChildSpec { name: spec.name, ..ChildSpec::clone(template) },
            None => spec,
        };
        if let Err(fault) = self.check(&spec) {
            return turn.refuse(call, Refusal::BadSpec(fault));
        }
        if let Some(present) = self.child(&spec.name) {
            return turn.refuse(
                call,
                match present.phase {
                    Phase::Up(_) | Phase::Starting(_) | Phase::Stopping => Refusal::AlreadyStarted,
                    Phase::Created
                    | Phase::Waiting(_)
                    | Phase::Quarantined(_)
                    | Phase::Parked(_)
                    | Phase::Stopped
                    | Phase::Finished => Refusal::AlreadyPresent,
                },
            );
        }
        let place = self.add(Arc::new(spec));
        self.call_waits(place, call);
        self.start(turn, place, StartFor::Addition);
    }

    fn terminate_child(&mut self, turn: &mut Turn, call: CallId, name: &ChildName) {
        let Some((place, phase)) = self.phase(name) else {
            return turn.refuse(call, Refusal::NotFound);
        };
        self.disappoint(turn, place);
        self.call_waits(place, call);
        if let Phase::Up(_) = phase {
            return self.stop(turn, place, StopFor::Rest);
        }
        self.answer(turn, place, &Reply::Ok);
        match phase {
            Phase::Finished => {}
            Phase::Created
            | Phase::Starting(_)
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Waiting(_)
            | Phase::Quarantined(_)
            | Phase::Parked(_)
            | Phase::Stopped => self.down_on_request(turn, place),
        }
    }

    fn restart_child(&mut self, turn: &mut Turn, call: CallId, name: &ChildName) {
        if self.spec.strategy == Strategy::SimpleOneForOne {
            return turn.refuse(call, Refusal::SimpleOneForOne);
        }
        match self.phase(name) {
            None => turn.refuse(call, Refusal::NotFound),
            Some((_, Phase::Up(_) | Phase::Starting(_) | Phase::Stopping)) => {
                turn.refuse(call, Refusal::Running);
            }
            Some((place, _)) => self.bring_up(turn, call, place),
        }
    }

    fn delete_child(&mut self, turn: &mut Turn, call: CallId, name: &ChildName) {
        if self.spec.strategy == Strategy::SimpleOneForOne {
            return turn.refuse(call, Refusal::SimpleOneForOne);
        }
        match self.phase(name) {
            None => turn.refuse(call, Refusal::NotFound),
            Some((_, Phase::Up(_) | Phase::Starting(_) | Phase::Stopping)) => {
                turn.refuse(call, Refusal::Running);
            }
            Some((_, Phase::Waiting(_) | Phase::Parked(_))) => {
                turn.refuse(call, Refusal::Restarting);
            }
            Some((
                place,
                Phase::Created | Phase::Quarantined(_) | Phase::Stopped | Phase::Finished,
            )) => {
                self.remove(turn, place);
                turn.reply(call, Reply::Ok);
            }
        }
    }

    fn bounce_child(&mut self, turn: &mut Turn, call: CallId, name: &ChildName) {
        match self.phase(name) {
            None => turn.refuse(call, Refusal::NotFound),
            Some((place, Phase::Up(_))) => {
                self.call_waits(place, call);
                self.stop(turn, place, StopFor::Bounce);
            }
            Some((place, _)) => self.bring_up(turn, call, place),
        }
    }

    /// Starts a child that is down, whatever it waits for.
    fn bring_up(&mut self, turn: &mut Turn, call: CallId, place: Place) {
        let Some(child) = self.children.get(&place) else {
            return turn.refuse(call, Refusal::NotFound);
        };
        let (phase, retry, circuit) = (child.phase, child.retry, child.circuit_state());
        if retry == Retry::Queued {
            return turn.refuse(call, Refusal::Restarting);
        }
        self.call_waits(place, call);
        match (phase, circuit) {
            (Phase::Quarantined(_), _) | (_, CircuitState::Open | CircuitState::ForcedOpen) => {
                self.try_out(turn, place, Reason::Requested);
            }
            (Phase::Waiting(_), _) if retry == Retry::Tied => {
                self.pending = None;
                let first = self.tied.first().copied().unwrap_or(place);
                let first = self.first_of_group(first);
                self.begin_restart(turn, place, first, None);
            }
            (Phase::Waiting(_) | Phase::Parked(_), _) => {
                self.start(turn, place, StartFor::Policy);
            }
            (
                Phase::Created
                | Phase::Starting(_)
                | Phase::Up(_)
                | Phase::Stopping
                | Phase::Stopped
                | Phase::Finished,
                _,
            ) => self.start(turn, place, StartFor::Request),
        }
    }

    fn reset_child(&mut self, turn: &mut Turn, call: CallId, name: &ChildName) {
        let Some((place, phase)) = self.phase(name) else {
            return turn.refuse(call, Refusal::NotFound);
        };
        self.clear_account(turn, place, Circuit::close);
        if let Some(child) = self.children.get_mut(&place) {
            child.restarts = 0;
        }
        match phase {
            Phase::Waiting(_) => self.bring_up_unless_queued(turn, call, place),
            Phase::Quarantined(_) => {
                self.call_waits(place, call);
                self.start(turn, place, StartFor::Policy);
            }
            Phase::Created
            | Phase::Starting(_)
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Parked(_)
            | Phase::Stopped
            | Phase::Finished => turn.reply(call, Reply::Ok),
        }
    }

    /// A child whose retry stands in the mailbox already is started by that.
    fn bring_up_unless_queued(&mut self, turn: &mut Turn, call: CallId, place: Place) {
        match self.children.get(&place).map(|child| child.retry) {
            Some(Retry::Queued) | None => turn.reply(call, Reply::Ok),
            Some(Retry::None | Retry::Timed | Retry::Tied | Retry::Held) => {
                self.bring_up(turn, call, place);
            }
        }
    }

    fn set_circuit(&mut self, turn: &mut Turn, call: CallId, name: &ChildName, set: CircuitSet) {
        let Some((place, phase)) = self.phase(name) else {
            return turn.refuse(call, Refusal::NotFound);
        };
        if self.children.get(&place).is_none_or(|child| child.is_otp()) {
            return turn.refuse(call, Refusal::NoCircuit);
        }
        match set {
            CircuitSet::Open => return self.hold_open(turn, call, place, phase),
            CircuitSet::Closed => {
                self.clear_account(turn, place, |circuit| {
                    circuit.close();
                    circuit.force_closed();
                });
            }
            CircuitSet::Auto => self.clear_account(turn, place, Circuit::close),
        }
        if let Phase::Quarantined(_) = phase {
            self.call_waits(place, call);
            self.start(turn, place, StartFor::Policy);
        } else {
            turn.reply(call, Reply::Ok);
        }
    }

    fn hold_open(&mut self, turn: &mut Turn, call: CallId, place: Place, phase: Phase) {
        let why = (Reason::Requested, NextKind::None);
        self.change_circuit(turn, place, why, Circuit::force_open);
        self.disappoint(turn, place);
        self.call_waits(place, call);
        match phase {
            Phase::Up(_) => return self.stop(turn, place, StopFor::Quarantine),
            Phase::Created | Phase::Waiting(_) | Phase::Quarantined(_) | Phase::Parked(_) => {
                self.settle(place, Phase::Quarantined(None));
            }
            Phase::Starting(_) | Phase::Stopping | Phase::Stopped | Phase::Finished => {}
        }
        self.answer(turn, place, &Reply::Ok);
    }

    /// Empties the account; a trial becomes an ordinary run.
    fn clear_account(&mut self, turn: &mut Turn, place: Place, change: impl FnOnce(&mut Circuit)) {
        self.change_circuit(turn, place, (Reason::Requested, NextKind::None), change);
        let Some(child) = self.children.get_mut(&place) else { return };
        child.failures = 0;
        child.siblings = Siblings::Untouched;
        if let Phase::Up(Trial::Trial) = child.phase {
            child.phase = Phase::Up(Trial::Ordinary);
        }
    }

    fn resume(&mut self, turn: &mut Turn, call: CallId) {
        self.starts = Starts::Allowed;
        for place in std::mem::take(&mut self.held) {
            self.mailbox.push_back(Mail::Released(place));
        }
        if self.pending_is_held() {
            self.mailbox.push_back(Mail::GroupDue);
        }
        turn.reply(call, Reply::Ok);
    }

    /// Whoever waits for a start that will not come is told so.
    pub(super) fn disappoint(&mut self, turn: &mut Turn, place: Place) {
        let message = "the child was taken down meanwhile; start it again".to_owned();
        let refusal = Refusal::StartFailed(StartError::Refused { message });
        self.answer(turn, place, &Reply::Refused(refusal));
    }

    fn phase(&self, name: &ChildName) -> Option<(Place, Phase)> {
        self.find(name).map(|(place, child)| (place, child.phase))
    }

    /// The call is answered when the start or stop that it asks for has ended.
    fn call_waits(&mut self, place: Place, call: CallId) {
        if let Some(child) = self.children.get_mut(&place) {
            child.callers.push(call);
        }
    }
}

impl Call {
    /// The child that the call concerns.
    fn about(&self) -> Option<&ChildName> {
        match self {
            Self::StartChild(spec) | Self::IntroduceChild(spec) | Self::ReconfigureChild(spec) => {
                Some(&spec.name)
            }
            Self::TerminateChild(name)
            | Self::RestartChild(name)
            | Self::DeleteChild(name)
            | Self::BounceChild(name)
            | Self::ResetChild(name)
            | Self::SetCircuit(name, _) => Some(name),
            Self::Pause | Self::Resume | Self::Reconfigure(_) => None,
        }
    }
}
