//! One child's runs: how they are begun and stopped, and what happens when they have ended.

use std::time::Duration;

use crate::logic::restart::child::{Place, Retry, StartFor, StopFor, Task};
use crate::logic::restart::failure::{Failure, Within};
use crate::logic::restart::group::{End, Ended};
use crate::logic::restart::machine::{Stage, Starts, Supervisor, Turn};
use crate::logic::restart::record::{at_once, error_inputs, exit_inputs, next, under_rule};
use crate::logic::restart::types::{
    Action, EndScope, Note, Phase, Refusal, Reply, StartOutcome, Trial,
};
use crate::protocol::decision::{Inputs, NextKind, Reason};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{AutoShutdown, RestartType, Significance, Strategy};
use crate::protocol::status::CircuitState;

impl Supervisor {
    /// Begins a run.
    pub(super) fn start(&mut self, turn: &mut Turn, place: Place, why: StartFor) {
        let Some(child) = self.children.get(&place) else { return };
        let trial = match child.circuit_state() {
            CircuitState::HalfOpen => Trial::Trial,
            CircuitState::Closed
            | CircuitState::Open
            | CircuitState::ForcedOpen
            | CircuitState::ForcedClosed => Trial::Ordinary,
        };
        self.settle(place, Phase::Starting(trial));
        self.acts_on(place);
        if why != StartFor::Group {
            self.singles += 1;
        }
        let Some(child) = self.children.get_mut(&place) else { return };
        child.generation = child.generation.next();
        child.task = Task::Start(why);
        child.starts = child.starts.saturating_add(1);
        if 1 < child.starts {
            child.restarts = child.restarts.saturating_add(1);
        }
        if let Some(outage) = &mut child.outage {
            outage.attempts = outage.attempts.saturating_add(1);
        }
        turn.out.push(Action::Start {
            child: child.spec.name.clone(),
            generation: child.generation,
            trial,
        });
    }

    /// Stops a run. One that has ended by itself already is taken for stopped.
    pub(super) fn stop(&mut self, turn: &mut Turn, place: Place, why: StopFor) {
        self.clear_timer(place);
        self.acts_on(place);
        if why != StopFor::Group {
            self.singles += 1;
        }
        let Some(child) = self.children.get_mut(&place) else { return };
        child.phase = Phase::Stopping;
        child.task = Task::Stop(why);
        match child.gone.take() {
            Some(exit) => self.stop_ended(turn, place, exit),
            None => turn.out.push(Action::Stop {
                child: child.spec.name.clone(),
                generation: child.generation,
                shutdown: child.spec.shutdown,
            }),
        }
    }

    /// A start has ended, well or not.
    pub(super) fn start_ended(&mut self, turn: &mut Turn, place: Place, outcome: StartOutcome) {
        let Some(child) = self.children.get_mut(&place) else { return };
        let Task::Start(why) = child.task else { return };
        child.task = Task::None;
        if why != StartFor::Group {
            self.singles = self.singles.saturating_sub(1);
        }
        self.release_waiting(place);
        match outcome {
            StartOutcome::Up => self.up(turn, place),
            StartOutcome::Ignored => self.ignored(turn, place),
            StartOutcome::Failed(error) => self.start_failed(turn, place, why, error),
        }
    }

    fn up(&mut self, turn: &mut Turn, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        child.phase = match child.phase {
            Phase::Starting(trial) => Phase::Up(trial),
            Phase::Created
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Waiting(_)
            | Phase::Quarantined(_)
            | Phase::Parked(_)
            | Phase::Stopped
            | Phase::Finished => Phase::Up(Trial::Ordinary),
        };
        child.gone = None;
        self.answer(turn, place, &Reply::Ok);
        self.watch(turn, place);
    }

    fn ignored(&mut self, turn: &mut Turn, place: Place) {
        self.answer(turn, place, &Reply::Undefined);
        let Some(child) = self.children.get(&place) else { return };
        if child.is_temporary() || self.spec.strategy == Strategy::SimpleOneForOne {
            self.remove(turn, place);
        } else {
            self.rest(turn, place, Phase::Stopped);
        }
    }

    fn start_failed(&mut self, turn: &mut Turn, place: Place, why: StartFor, error: StartError) {
        let refused = Reply::Refused(Refusal::StartFailed(error.clone()));
        self.answer(turn, place, &refused);
        if Stage::Ending <= self.stage {
            return self.settle(place, Phase::Stopped);
        }
        let init = why == StartFor::Group && self.stage == Stage::Starting;
        let otp = self.children.get(&place).is_some_and(|child| child.is_otp());
        let temporary = self.children.get(&place).is_some_and(|child| child.is_temporary());
        match why {
            StartFor::Addition => self.remove(turn, place),
            StartFor::Policy | StartFor::Group if temporary && !(init && otp) => {
                self.never_again(turn, place, error);
            }
            StartFor::Request => self.rest(turn, place, Phase::Stopped),
            StartFor::Policy => self.failed(turn, place, Failure::Start(error), Within::Single),
            StartFor::Group if init && otp => self.init_failed(turn, place, error),
            StartFor::Group => self.failed(turn, place, Failure::Start(error), Within::Group),
        }
    }

    /// A temporary child is never restarted, not even when it could not begin.
    fn never_again(&mut self, turn: &mut Turn, place: Place, error: StartError) {
        let next = at_once(NextKind::None);
        let record = self.record(place, Reason::TemporaryExit, error_inputs(&error), next);
        let Some(child) = self.children.get(&place) else { return };
        let (child, generation) = (child.spec.name.clone(), child.generation);
        turn.note(Note::StartFailed { child, generation, error, record });
        self.remove(turn, place);
    }

    /// OTP's rule: no retry while the supervisor itself starts.
    fn init_failed(&mut self, turn: &mut Turn, place: Place, error: StartError) {
        let next = at_once(NextKind::Escalate);
        let inputs = error_inputs(&error).with("starting", true);
        let record = self.record(place, Reason::StartFailed, inputs, next);
        let Some(child) = self.children.get(&place) else { return };
        let (child, generation) = (child.spec.name.clone(), child.generation);
        let message = format!("child {child} failed to start: {error}");
        turn.note(Note::StartFailed { child, generation, error, record });
        self.settle(place, Phase::Stopped);
        let exit = ChildExit::Failed { message };
        self.begin_ending(turn, End { exit, scope: EndScope::Supervisor });
    }

    /// A stop has ended.
    pub(super) fn stop_ended(&mut self, turn: &mut Turn, place: Place, exit: ChildExit) {
        let Some(child) = self.children.get_mut(&place) else { return };
        let (Task::Stop(why) | Task::Cut(why)) = child.task else { return };
        child.task = Task::None;
        if why != StopFor::Group {
            self.singles = self.singles.saturating_sub(1);
        }
        self.report_unexpected(turn, place, &exit);
        self.count_down();
        self.release_waiting(place);
        match why {
            StopFor::Group => {
                self.answer(turn, place, &Reply::Ok);
                self.member_down(turn, place, (&exit, Ended::OnRequest));
            }
            StopFor::Bounce if self.stage < Stage::Ending => {
                self.start(turn, place, StartFor::Policy);
            }
            StopFor::Rest | StopFor::Bounce => {
                self.answer(turn, place, &Reply::Ok);
                self.down_on_request(turn, place);
            }
            StopFor::Quarantine => {
                self.answer(turn, place, &Reply::Ok);
                self.settle(place, Phase::Quarantined(None));
            }
        }
    }

    /// OTP's `shutdown_error`.
    pub(super) fn report_unexpected(&self, turn: &mut Turn, place: Place, exit: &ChildExit) {
        let Some(child) = self.children.get(&place) else { return };
        if child.expects(exit) {
            return;
        }
        turn.note(Note::ShutdownError {
            child: child.spec.name.clone(),
            generation: child.generation,
            exit: exit.clone(),
        });
    }

    /// The child is down because somebody asked for it.
    pub(super) fn down_on_request(&mut self, turn: &mut Turn, place: Place) {
        let Some(child) = self.children.get(&place) else { return };
        if child.is_temporary() || self.spec.strategy == Strategy::SimpleOneForOne {
            self.remove(turn, place);
        } else {
            self.rest(turn, place, Phase::Stopped);
        }
    }

    /// The child is down for no fault of its own: its outage is over, a trial is called off.
    fn rest(&mut self, turn: &mut Turn, place: Place, phase: Phase) {
        self.settle(place, phase);
        let Some(child) = self.children.get_mut(&place) else { return };
        child.end_outage();
        if child.circuit_state() == CircuitState::HalfOpen {
            self.change_circuit(turn, place, (Reason::Requested, NextKind::None), |circuit| {
                circuit.reopen();
            });
        }
    }

    /// Answers the calls that waited for the task that has ended.
    pub(super) fn answer(&mut self, turn: &mut Turn, place: Place, reply: &Reply) {
        let Some(child) = self.children.get_mut(&place) else { return };
        for call in child.callers.drain(..) {
            turn.reply(call, reply.clone());
        }
    }

    /// A run has ended by itself, and its exit has come to the head of the mailbox.
    pub(super) fn handle_exit(&mut self, turn: &mut Turn, place: Place, generation: Generation) {
        let Some(child) = self.children.get_mut(&place) else { return };
        if child.generation != generation {
            return;
        }
        // Without an exit a group operation or a call has taken it before.
        let Some(exit) = child.gone.take() else { return };
        self.clear_timer(place);
        let Some(exit) = self.by_rule(turn, place, exit) else { return };
        let Some(child) = self.children.get(&place) else { return };
        let restart = child.spec.restart;
        match (&exit, restart) {
            (
                ChildExit::Throttled { after_ms },
                RestartType::Permanent | RestartType::Transient,
            ) => {
                let after_ms = *after_ms;
                self.throttled(turn, place, after_ms, exit);
            }
            (_, RestartType::Permanent) => {
                self.failed(turn, place, Failure::Exit(exit), Within::Single);
            }
            (_, RestartType::Transient) if !exit.is_clean() => {
                self.failed(turn, place, Failure::Exit(exit), Within::Single);
            }
            (_, RestartType::Transient | RestartType::Temporary) => {
                self.finished(turn, place, exit);
            }
        }
    }

    /// A run has ended because it may not go on for some time.
    pub(super) fn throttled(
        &mut self,
        turn: &mut Turn,
        place: Place,
        after_ms: u64,
        exit: ChildExit,
    ) {
        let Some(child) = self.children.get(&place) else { return };
        let (name, generation) = (child.spec.name.clone(), child.generation);
        let inputs = exit_inputs(&exit).with("after_ms", after_ms).with("counted", false);
        let next = next(NextKind::Restart, Duration::from_millis(after_ms));
        let record = under_rule(self.record(place, Reason::Throttled, inputs, next), &exit);
        turn.note(Note::ChildTerminated { child: name, generation, exit, record });
        self.park_until(turn, place, after_ms);
    }

    /// The child waits for the time it named; nothing is counted.
    pub(super) fn park_until(&mut self, turn: &Turn, place: Place, after_ms: u64) {
        // Beyond any calendar: a child that names such a time is as good as parked for ever.
        const PARKED_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
        let until = turn.now + Duration::from_millis(after_ms).min(PARKED_MAX);
        self.settle(place, Phase::Parked(until));
        self.set_timer(place, until);
    }

    /// A run has ended and the rules leave the child down.
    fn finished(&mut self, turn: &mut Turn, place: Place, exit: ChildExit) {
        let Some(child) = self.children.get(&place) else { return };
        let (name, generation) = (child.spec.name.clone(), child.generation);
        let reason = match child.spec.restart {
            RestartType::Temporary => Reason::TemporaryExit,
            RestartType::Permanent | RestartType::Transient => Reason::CleanExit,
        };
        let significance = child.spec.significance;
        let trial = child.circuit_state() == CircuitState::HalfOpen;
        let record = self.record(place, reason, exit_inputs(&exit), at_once(NextKind::None));
        let record = under_rule(record, &exit);
        let child = name.clone();
        turn.note(if exit.is_clean() {
            Note::ChildFinished { child, generation, exit, record }
        } else {
            Note::ChildTerminated { child, generation, exit, record }
        });
        if trial {
            // A job that has done its work has passed its trial.
            self.change_circuit(turn, place, (Reason::TrialPassed, NextKind::None), |circuit| {
                circuit.close();
            });
        }
        self.forget_run(turn, place);
        if significance == Significance::Significant {
            self.shut_down_with(turn, (name, place));
        }
    }

    /// The run is over; OTP keeps the spec of a child that is neither temporary nor dynamic.
    pub(super) fn forget_run(&mut self, turn: &mut Turn, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        child.end_outage();
        if child.is_temporary() || self.spec.strategy == Strategy::SimpleOneForOne {
            self.remove(turn, place);
        } else {
            self.settle(place, Phase::Finished);
        }
    }

    /// A significant child has ended: the supervisor may end with it.
    pub(super) fn shut_down_with(&mut self, turn: &mut Turn, (child, place): (ChildName, Place)) {
        let left = || {
            self.children
                .values()
                .filter(|child| child.spec.significance == Significance::Significant)
                .filter(|child| child.lives())
                .count()
        };
        let ends = match self.spec.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => left() == 0,
        };
        if !ends {
            return;
        }
        let rule = match self.spec.auto_shutdown {
            AutoShutdown::AllSignificant => "all_significant",
            AutoShutdown::AnySignificant | AutoShutdown::Never => "any_significant",
        };
        let inputs = Inputs::default().with("auto_shutdown", rule);
        let next = at_once(NextKind::Escalate);
        let record = self.own_record(place, Reason::AutoShutdown, inputs, next);
        turn.note(Note::GivingUp { child, record });
        let end = End { exit: ChildExit::Finished, scope: EndScope::Supervisor };
        self.begin_ending(turn, end);
    }

    /// A child's timer has rung.
    pub(super) fn due(&mut self, turn: &mut Turn, place: Place, token: u64) {
        let Some(child) = self.children.get(&place) else { return };
        if child.timer_token != token {
            return;
        }
        match child.phase {
            Phase::Up(_) => self.stable(turn, place),
            Phase::Waiting(_) | Phase::Quarantined(_) | Phase::Parked(_) => {
                self.time_has_come(turn, place);
            }
            Phase::Created
            | Phase::Starting(_)
            | Phase::Stopping
            | Phase::Stopped
            | Phase::Finished => {}
        }
    }

    /// A pause that held the child is over.
    pub(super) fn released(&mut self, turn: &mut Turn, place: Place) {
        let Some(child) = self.children.get(&place) else { return };
        match (child.phase, child.retry) {
            (Phase::Waiting(_), Retry::Queued) => self.try_again(turn, place),
            (Phase::Waiting(_) | Phase::Quarantined(Some(_)) | Phase::Parked(_), _)
                if child.timer.is_none() && child.retry != Retry::Tied =>
            {
                self.time_has_come(turn, place);
            }
            (
                Phase::Waiting(_)
                | Phase::Quarantined(_)
                | Phase::Parked(_)
                | Phase::Up(_)
                | Phase::Created
                | Phase::Starting(_)
                | Phase::Stopping
                | Phase::Stopped
                | Phase::Finished,
                _,
            ) => {}
        }
    }

    fn time_has_come(&mut self, turn: &mut Turn, place: Place) {
        if self.starts == Starts::Paused {
            self.held.insert(place);
            return;
        }
        let Some(child) = self.children.get(&place) else { return };
        match child.phase {
            Phase::Waiting(_) => self.restart_now(turn, place, None),
            Phase::Parked(_) => self.start(turn, place, StartFor::Policy),
            Phase::Quarantined(_) => self.try_out(turn, place, Reason::OpenTimeOver),
            Phase::Created
            | Phase::Starting(_)
            | Phase::Up(_)
            | Phase::Stopping
            | Phase::Stopped
            | Phase::Finished => {}
        }
    }

    /// Half-opens the circuit and starts the trial.
    pub(super) fn try_out(&mut self, turn: &mut Turn, place: Place, reason: Reason) {
        self.change_circuit(turn, place, (reason, NextKind::Trial), |circuit| circuit.half_open());
        self.start(turn, place, StartFor::Policy);
    }
}
