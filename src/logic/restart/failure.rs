//! The judgement: what a failure of a child, or a failed start, leads to.
//!
//! The child's own limit is asked first, then the supervisor's; what neither forbids is restarted
//! after its delay.

use std::time::Duration;

use crate::logic::backoff;
use crate::logic::circuit::{Judgement, Opening};
use crate::logic::intensity::{Tally, Verdict as Limited};
use crate::logic::restart::child::{Outage, Place, Retry, Siblings, StartFor};
use crate::logic::restart::group::End;
use crate::logic::restart::machine::{Mail, Starts, Supervisor, Turn};
use crate::logic::restart::record::{
    at_once, count_inputs, delay_inputs, error_inputs, exit_inputs, ms, next, opening_inputs,
    under_rule,
};
use crate::logic::restart::types::{EndScope, Note, Phase};
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::spec::{Limit, OnExceeded, Strategy};
use crate::protocol::status::CircuitState;

/// Shortest wait after a start that was refused by the daemon's own parts: it is not counted, so
/// nothing else would slow it down.
pub(super) const REFUSED_DELAY_MIN: Duration = Duration::from_millis(200);

/// What has failed.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Exit(ChildExit),
    Start(StartError),
}

/// Where a failed start was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Within {
    /// It concerns the child alone.
    Single,
    /// In the group operation under way.
    Group,
}

/// What is done about it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// Started again after this time, and counted already.
    Restart(Duration),
    /// Tried again behind the mailbox, and counted only then: OTP's `try_again_restart`.
    TryAgain,
    /// Its circuit is open.
    Quarantine(CircuitState, Opening),
    /// All children are restarted.
    Siblings,
    /// The supervisor ends.
    GiveUp(GiveUp),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct GiveUp {
    reason: Reason,
    tally: Tally,
    limit: Limit,
    scope: EndScope,
}

/// A judgement with what it was made on.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) inputs: Inputs,
}

impl Supervisor {
    /// Judges a failure and carries the judgement out.
    pub(super) fn failed(&mut self, turn: &mut Turn, place: Place, failure: Failure, at: Within) {
        let Some(judged) = self.judge(turn, place, &failure) else { return };
        let next = self.announced(place, judged.verdict);
        let record = self.record(place, judged.reason, judged.inputs, next);
        let record = match &failure {
            Failure::Exit(exit) => under_rule(record, exit),
            Failure::Start(_) => record,
        };
        let Some(child) = self.children.get(&place) else { return };
        let (name, generation) = (child.spec.name.clone(), child.generation);
        let kind = match &failure {
            Failure::Exit(_) => Failed::Run,
            Failure::Start(_) => Failed::Start,
        };
        turn.note(match failure {
            Failure::Exit(exit) => {
                Note::ChildTerminated { child: name, generation, exit, record: record.clone() }
            }
            Failure::Start(error) => {
                Note::StartFailed { child: name, generation, error, record: record.clone() }
            }
        });
        self.carry_out(turn, place, judged.verdict, (record, kind, at));
    }

    fn judge(&mut self, turn: &mut Turn, place: Place, failure: &Failure) -> Option<Judged> {
        let child = self.children.get_mut(&place)?;
        child.outage.get_or_insert(Outage { since: turn.now, attempts: 0 });
        let (reason, inputs) = match failure {
            Failure::Exit(exit) => (Reason::ChildExited, exit_inputs(exit)),
            Failure::Start(error) => (Reason::StartFailed, error_inputs(error)),
        };
        if let Failure::Start(StartError::Refused { .. }) = failure {
            let fraction = turn.draw();
            let backoff = &child.spec.policy.backoff;
            let delay = backoff::delay(backoff, child.failures, fraction).max(REFUSED_DELAY_MIN);
            let inputs = delay_inputs(inputs, backoff, child.failures, (delay, fraction));
            let least = ms(REFUSED_DELAY_MIN);
            let inputs = inputs.with("counted", false).with("delay_min_ms", least);
            return Some(Judged { verdict: Verdict::Restart(delay), reason, inputs });
        }
        let inputs = match self.quarantine_by_rule(turn, place, failure, inputs) {
            Ok(inputs) => inputs,
            Err(judged) => return Some(judged),
        };
        match self.judge_by_circuit(turn, place, inputs) {
            Ok(inputs) if self.rule_wants_group(place, failure) => {
                Some(self.judge_siblings(turn, inputs, Reason::ExitRule))
            }
            Ok(inputs) => self.judge_by_supervisor(turn, place, (reason, inputs), failure),
            Err(judged) => Some(judged),
        }
    }

    /// What the child's own circuit says; the inputs come back when it lets the restart pass.
    fn judge_by_circuit(
        &mut self,
        turn: &mut Turn,
        place: Place,
        inputs: Inputs,
    ) -> Result<Inputs, Judged> {
        let Some(child) = self.children.get_mut(&place) else { return Ok(inputs) };
        let Some(circuit) = &mut child.circuit else { return Ok(inputs) };
        let from = circuit.state();
        let limit = circuit.spec().limit;
        let (in_a_row, in_a_row_max) = (child.failures.saturating_add(1), circuit.in_a_row_max());
        match circuit.on_failure(turn.now) {
            // A loop that is slower than the window.
            Judgement::Restart(tally) if in_a_row_max < in_a_row => {
                let on_exceeded = circuit.spec().on_exceeded;
                let inputs = count_inputs(inputs, limit, tally)
                    .with("failures_in_a_row", in_a_row)
                    .with("failures_in_a_row_max", in_a_row_max);
                // Said of the whole outage: within the window the limit was kept.
                let since = child.outage.map_or(turn.now, |outage| outage.since);
                let period = turn.now.saturating_duration_since(since);
                let limit = Limit { intensity: in_a_row_max, period };
                let tally = Tally { in_window: in_a_row, ..tally };
                Err(self.judge_exceeded(turn, place, (inputs, tally, limit), on_exceeded))
            }
            Judgement::Restart(tally) => Ok(count_inputs(inputs, limit, tally)),
            Judgement::Unlimited(tally) => {
                Ok(count_inputs(inputs, limit, tally).with("limit_applied", false))
            }
            Judgement::TrialFailed => {
                let opening = circuit.open(turn.draw());
                let inputs = opening_inputs(inputs, circuit, opening);
                let verdict = Verdict::Quarantine(from, opening);
                Err(Judged { verdict, reason: Reason::TrialFailed, inputs })
            }
            Judgement::Exceeded(tally, on_exceeded) => {
                let inputs = count_inputs(inputs, limit, tally);
                Err(self.judge_exceeded(turn, place, (inputs, tally, limit), on_exceeded))
            }
        }
    }

    /// The child has exceeded its own limit.
    fn judge_exceeded(
        &mut self,
        turn: &mut Turn,
        place: Place,
        (inputs, tally, limit): (Inputs, Tally, Limit),
        on_exceeded: OnExceeded,
    ) -> Judged {
        let reason = Reason::ChildLimitExceeded;
        let child = self.children.get_mut(&place);
        let Some((child, circuit)) = child.and_then(|child| {
            child.circuit.as_deref_mut().map(|circuit| (&mut child.siblings, circuit))
        }) else {
            return Judged { verdict: Verdict::TryAgain, reason, inputs };
        };
        let give_up =
            |scope| Verdict::GiveUp(GiveUp { reason: Reason::Escalated, tally, limit, scope });
        let verdict = match (on_exceeded, *child) {
            (OnExceeded::Escalate, _) => give_up(EndScope::Supervisor),
            (OnExceeded::StopTree, _) => give_up(EndScope::Tree),
            (OnExceeded::RestartSiblings, Siblings::Untouched) => {
                *child = Siblings::Restarted;
                return self.judge_siblings(turn, inputs, reason);
            }
            (OnExceeded::Quarantine, _) | (OnExceeded::RestartSiblings, Siblings::Restarted) => {
                let from = circuit.state();
                let opening = circuit.open(turn.draw());
                let inputs = opening_inputs(inputs, circuit, opening);
                return Judged { verdict: Verdict::Quarantine(from, opening), reason, inputs };
            }
        };
        Judged { verdict, reason, inputs }
    }

    /// All children are to be restarted: that is one restart of the supervisor's.
    fn judge_siblings(&mut self, turn: &Turn, inputs: Inputs, reason: Reason) -> Judged {
        let (inputs, give_up) = self.count(turn, inputs);
        match give_up {
            Some(give_up) => {
                let reason = Reason::SupervisorLimitExceeded;
                Judged { verdict: Verdict::GiveUp(give_up), reason, inputs }
            }
            None => Judged { verdict: Verdict::Siblings, reason, inputs },
        }
    }

    /// What the supervisor's own limit says, and after which delay the child is started.
    fn judge_by_supervisor(
        &mut self,
        turn: &mut Turn,
        place: Place,
        (reason, inputs): (Reason, Inputs),
        failure: &Failure,
    ) -> Option<Judged> {
        let child = self.children.get(&place)?;
        let start_failed = matches!(failure, Failure::Start(_));
        if start_failed && child.is_plain() {
            return Some(Judged { verdict: Verdict::TryAgain, reason, inputs });
        }
        let (inputs, give_up) = self.count(turn, inputs);
        if let Some(give_up) = give_up {
            let reason = Reason::SupervisorLimitExceeded;
            return Some(Judged { verdict: Verdict::GiveUp(give_up), reason, inputs });
        }
        let child = self.children.get_mut(&place)?;
        let backoff = child.spec.policy.backoff;
        let fraction = if backoff.initial.is_zero() { 0.0 } else { turn.draw() };
        let delay = backoff::delay(&backoff, child.failures, fraction);
        let inputs = delay_inputs(inputs, &backoff, child.failures, (delay, fraction));
        child.failures = child.failures.saturating_add(1);
        Some(Judged { verdict: Verdict::Restart(delay), reason, inputs })
    }

    /// Counts one restart against the supervisor's limit.
    fn count(&mut self, turn: &Turn, inputs: Inputs) -> (Inputs, Option<GiveUp>) {
        let Some(intensity) = &mut self.intensity else { return (inputs, None) };
        let tally = intensity.add(turn.now);
        let limit = intensity.limit();
        let give_up = (tally.verdict == Limited::Exceeded).then_some(GiveUp {
            reason: Reason::SupervisorLimitExceeded,
            tally,
            limit,
            scope: EndScope::Supervisor,
        });
        (self.with_own_count(inputs, tally), give_up)
    }

    /// What the record says comes next.
    fn announced(&self, place: Place, verdict: Verdict) -> NextAction {
        let first = self.first_of_group(place);
        let alone = self.is_individual() || self.children.range(first..).nth(1).is_none();
        let restart = if alone { NextKind::Restart } else { NextKind::RestartGroup };
        match verdict {
            Verdict::Restart(delay) => next(restart, delay),
            Verdict::TryAgain => at_once(restart),
            Verdict::Quarantine(_, opening) => next(NextKind::Trial, opening.open_for),
            Verdict::Siblings => at_once(NextKind::RestartGroup),
            Verdict::GiveUp(give_up) => match give_up.scope {
                EndScope::Supervisor => at_once(NextKind::Escalate),
                EndScope::Tree => at_once(NextKind::StopTree),
            },
        }
    }

    fn carry_out(
        &mut self,
        turn: &mut Turn,
        place: Place,
        verdict: Verdict,
        (record, failed, within): (DecisionRecord, Failed, Within),
    ) {
        match verdict {
            Verdict::Restart(delay) if delay.is_zero() => {
                if self.hold(turn, place) {
                    return;
                }
                match failed {
                    Failed::Run => self.restart_now(turn, place, Some(record)),
                    Failed::Start => self.queue_again(turn, place, within),
                }
            }
            Verdict::Restart(delay) => self.restart_later(turn, place, (delay, record), within),
            Verdict::TryAgain => self.queue_again(turn, place, within),
            Verdict::Quarantine(from, opening) => {
                self.quarantine(turn, place, (from, opening), record);
            }
            Verdict::Siblings => {
                if !self.hold(turn, place) {
                    self.begin_restart(turn, place, Place::default(), Some(record));
                }
            }
            Verdict::GiveUp(give_up) => self.give_up(turn, place, give_up, record),
        }
    }

    /// The child waits for the end of a pause, if there is one.
    fn hold(&mut self, turn: &Turn, place: Place) -> bool {
        if self.starts == Starts::Allowed {
            return false;
        }
        self.settle(place, Phase::Waiting(turn.now));
        if let Some(child) = self.children.get_mut(&place) {
            child.retry = Retry::Held;
        }
        self.held.insert(place);
        true
    }

    /// OTP's `restarting`: tried again when everything that waits now has been handled.
    fn queue_again(&mut self, turn: &mut Turn, place: Place, within: Within) {
        self.settle(place, Phase::Waiting(turn.now));
        if let Some(child) = self.children.get_mut(&place) {
            child.retry = Retry::Queued;
        }
        self.mailbox.push_back(Mail::TryAgain(place));
        self.cut_group(turn, within);
    }

    /// A group whose member failed to start goes no further, unless its members are independent.
    fn cut_group(&mut self, turn: &mut Turn, within: Within) {
        if within == Within::Group && !self.is_individual() {
            self.tie_created(turn.now);
            self.end_group(turn);
        }
    }

    fn restart_later(
        &mut self,
        turn: &mut Turn,
        place: Place,
        (delay, record): (Duration, DecisionRecord),
        within: Within,
    ) {
        let at = turn.now + delay;
        if self.is_individual() {
            self.settle(place, Phase::Waiting(at));
            if let Some(child) = self.children.get_mut(&place) {
                child.retry = Retry::Timed;
            }
            self.set_timer(place, at);
            return;
        }
        match within {
            Within::Group => {
                self.tie(place, at);
                self.tie_created(at);
                self.wait_tied(at);
                self.end_group(turn);
            }
            Within::Single => self.begin_hold(turn, place, at, Some(record)),
        }
    }

    fn quarantine(
        &mut self,
        turn: &mut Turn,
        place: Place,
        (from, opening): (CircuitState, Opening),
        record: DecisionRecord,
    ) {
        let until = turn.now + opening.open_for;
        self.settle(place, Phase::Quarantined(Some(until)));
        self.set_timer(place, until);
        let Some(child) = self.children.get(&place) else { return };
        let child = child.spec.name.clone();
        turn.note(Note::Circuit { child, from, to: CircuitState::Open, record });
    }

    fn give_up(&mut self, turn: &mut Turn, place: Place, give_up: GiveUp, record: DecisionRecord) {
        let Some(child) = self.children.get(&place) else { return };
        let own = give_up.reason == Reason::SupervisorLimitExceeded;
        let (inputs, next) = (record.inputs, record.next);
        let record = if own {
            self.own_record(place, give_up.reason, inputs, next)
        } else {
            self.record(place, give_up.reason, inputs, next)
        };
        turn.note(Note::GivingUp { child: child.spec.name.clone(), record });
        self.forget_run(turn, place);
        let exit = ChildExit::GaveUp {
            restarts: give_up.tally.in_window,
            intensity: give_up.limit.intensity,
            period_ms: ms(give_up.limit.period),
        };
        self.begin_ending(turn, End { exit, scope: give_up.scope });
    }

    /// OTP's `try_again_restart`, handled.
    pub(super) fn try_again(&mut self, turn: &mut Turn, place: Place) {
        let queued = self.children.get(&place).filter(|child| {
            matches!(child.phase, Phase::Waiting(_)) && child.retry == Retry::Queued
        });
        let Some(child) = queued else { return };
        let counted = !child.is_plain();
        if self.starts == Starts::Paused {
            self.held.insert(place);
            return;
        }
        if counted {
            return self.restart_now(turn, place, None);
        }
        let (inputs, give_up) = self.count(turn, Inputs::default());
        if let Some(give_up) = give_up {
            let next = at_once(NextKind::Escalate);
            let record = self.record(place, give_up.reason, inputs, next);
            return self.give_up(turn, place, give_up, record);
        }
        self.restart_now(turn, place, None);
    }

    /// Starts a child whose time has come, with its group if the strategy says so.
    pub(super) fn restart_now(
        &mut self,
        turn: &mut Turn,
        place: Place,
        record: Option<DecisionRecord>,
    ) {
        if self.is_individual() {
            return self.start(turn, place, StartFor::Policy);
        }
        let first = self.first_of_group(place);
        if let Some(at) = self.joins(place) {
            return self.begin_hold(turn, place, at, record);
        }
        self.begin_restart(turn, place, first, record);
    }

    /// Whether children fail and restart one by one.
    pub(super) fn is_individual(&self) -> bool {
        match self.spec.strategy {
            Strategy::OneForOne | Strategy::SimpleOneForOne => true,
            Strategy::OneForAll | Strategy::RestForOne => false,
        }
    }

    /// First member of the group that a child's failure restarts.
    pub(super) fn first_of_group(&self, place: Place) -> Place {
        match self.spec.strategy {
            Strategy::OneForAll => Place::default(),
            Strategy::RestForOne | Strategy::OneForOne | Strategy::SimpleOneForOne => place,
        }
    }
}

/// Which half of a life failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failed {
    Run,
    Start,
}
