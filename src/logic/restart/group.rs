//! Group operations: several children stopped one after another in reverse start order, then
//! started one after another in start order. While one is under way the mailbox waits.
//!
//! A group operation keeps no list of its members: it walks over the children by place, so that
//! it cannot disagree with them.

use std::ops::Bound;
use std::time::Instant;

use crate::logic::restart::child::{Place, Retry, StartFor, StopFor, Task};
use crate::logic::restart::machine::{Mail, Stage, Supervisor, Turn};
use crate::logic::restart::record::next;
use crate::logic::restart::types::{Action, EndScope, Note, Phase, Refusal, Reply};
use crate::protocol::decision::{DecisionRecord, Inputs, NextKind, Reason};
use crate::protocol::exit::{ChildExit, ExitAction};
use crate::protocol::spec::{RestartType, Strategy};

/// The group operation under way.
#[derive(Clone, Debug)]
pub(super) struct Group {
    what: What,
    /// First member.
    first: Place,
    step: Step,
}

#[derive(Clone, Debug)]
enum What {
    /// The first start of all children.
    Init,
    /// Stop and start.
    Restart,
    /// Stop, and start when the time has come.
    Hold(Instant),
    /// Stop, then end.
    Ending(End),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Members from this one on are down.
    Stop(Bound<Place>),
    /// All instances of a template were asked to stop; so many have not answered.
    StopAll(usize),
    /// Members after this one are still to be started; it is being started itself.
    Start(Bound<Place>),
}

/// How a supervisor ends.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) exit: ChildExit,
    pub(super) scope: EndScope,
}

/// Whether the loop may go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// An answer has to come first.
    Waits,
    /// One step, or the whole operation, is done.
    Done,
}

/// Whether a run ended by itself or because it was asked to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    ByItself,
    OnRequest,
}

impl Supervisor {
    /// The first start of all children.
    pub(super) fn init(&mut self) {
        if self.stage != Stage::New {
            return;
        }
        self.stage = Stage::Starting;
        let step = Step::Start(Bound::Unbounded);
        self.group = Some(Group { what: What::Init, first: Place::default(), step });
    }

    /// The parent's order to stop.
    pub(super) fn shutdown(&mut self, turn: &mut Turn) {
        self.begin_ending(turn, End { exit: ChildExit::Stopped, scope: EndScope::Supervisor });
    }

    /// Stops all children, then ends. Whatever was under way is given up.
    pub(super) fn begin_ending(&mut self, turn: &mut Turn, end: End) {
        if Stage::Ending <= self.stage {
            return;
        }
        self.stage = Stage::Ending;
        self.pending = None;
        self.tied.clear();
        self.held.clear();
        let places: Vec<Place> = self.children.keys().copied().collect();
        for place in places {
            self.clear_timer(place);
            self.release_waiting(place);
            let Some(child) = self.children.get(&place) else { continue };
            match child.task {
                // These are told when it is down, as they wanted.
                Task::Stop(StopFor::Rest | StopFor::Quarantine | StopFor::Group) => {}
                Task::Start(_) | Task::Stop(StopFor::Bounce) | Task::Cut(_) | Task::None => {
                    self.answer(turn, place, &Reply::Refused(Refusal::ShuttingDown));
                }
            }
        }
        for mail in std::mem::take(&mut self.mailbox) {
            if let Mail::Call(call, _) = mail {
                turn.refuse(call, Refusal::ShuttingDown);
            }
        }
        let step = Step::Stop(Bound::Unbounded);
        self.group = Some(Group { what: What::Ending(end), first: Place::default(), step });
    }

    /// Restarts all children from `first` on at once, on account of one of them.
    pub(super) fn begin_restart(
        &mut self,
        turn: &mut Turn,
        cause: Place,
        first: Place,
        record: Option<DecisionRecord>,
    ) {
        self.tell_group(turn, cause, (first, turn.now), record);
        // Everything that waits for the pending restart is started by this one, or waits on
        // with the member that fails in it.
        if self.tied.first().is_none_or(|tied| first <= *tied) {
            self.pending = None;
        }
        self.lay_down(cause, turn.now);
        let step = Step::Stop(Bound::Unbounded);
        self.group = Some(Group { what: What::Restart, first, step });
    }

    /// Stops the group of a failed child at once, and starts it at `at`. What waits already for a
    /// group restart joins: the later time counts, and the larger group.
    pub(super) fn begin_hold(
        &mut self,
        turn: &mut Turn,
        cause: Place,
        at: Instant,
        record: Option<DecisionRecord>,
    ) {
        let at = self.pending.map_or(at, |pending| pending.at.max(at));
        let mut first = self.first_of_group(cause);
        self.tie_laid_down(at);
        if let Some(tied) = self.tied.first() {
            first = first.min(*tied);
        }
        self.tell_group(turn, cause, (first, at), record);
        self.tie(cause, at);
        self.wait_tied(at);
        let step = Step::Stop(Bound::Unbounded);
        self.group = Some(Group { what: What::Hold(at), first, step });
    }

    /// What the restart under way has laid down, and would start, waits with those that begin to
    /// wait now: the start of a child alone may fail while a group is being stopped.
    fn tie_laid_down(&mut self, at: Instant) {
        let Some(Group { what: What::Restart, first, .. }) = self.group else { return };
        let laid_down = self.children.range(first..).filter(|(_, child)| child.comes_back());
        let places: Vec<Place> = laid_down.map(|(place, _)| *place).collect();
        for place in places {
            self.tie(place, at);
        }
    }

    fn tell_group(
        &self,
        turn: &mut Turn,
        cause: Place,
        (first, at): (Place, Instant),
        record: Option<DecisionRecord>,
    ) {
        let Some(child) = self.children.get(&cause) else { return };
        let at_once = at <= turn.now;
        let members: Vec<_> = self
            .children
            .range(first..)
            .filter(|(place, _)| **place != cause)
            .filter(|(_, member)| member.has_begun() || at_once && member.comes_back())
            .map(|(_, member)| member.spec.name.clone())
            .collect();
        if members.is_empty() {
            return;
        }
        // Not only the failed child's group, and not before the time that others wait for.
        let next = next(NextKind::RestartGroup, at.saturating_duration_since(turn.now));
        let mut record = record
            .unwrap_or_else(|| self.record(cause, Reason::StartFailed, Inputs::default(), next));
        (record.reason, record.next) = (Reason::SiblingFailed, next);
        turn.note(Note::GroupRestart { cause: child.spec.name.clone(), members, record });
    }

    /// Whether a group is being restarted: its members are down for a moment only.
    #[must_use]
    pub fn restarts_group(&self) -> bool {
        self.group.as_ref().is_some_and(|group| matches!(group.what, What::Restart))
    }

    /// The group operation goes no further.
    pub(super) fn end_group(&mut self, turn: &mut Turn) {
        self.group = None;
        if self.stage == Stage::Starting {
            self.stage = Stage::Running;
            turn.out.push(Action::Ready);
        }
    }

    /// Takes the next step of the group operation.
    pub(super) fn advance(&mut self, turn: &mut Turn) -> Progress {
        let Some(group) = &self.group else { return Progress::Done };
        match group.step {
            Step::Stop(below) => self.stop_next(turn, below),
            Step::StopAll(0) => self.all_down(turn),
            Step::StopAll(_) => Progress::Waits,
            Step::Start(after) => self.start_next(turn, after),
        }
    }

    fn stop_next(&mut self, turn: &mut Turn, below: Bound<Place>) -> Progress {
        let Some(group) = &mut self.group else { return Progress::Done };
        let ending = matches!(group.what, What::Ending(_));
        if ending && self.spec.strategy == Strategy::SimpleOneForOne {
            return self.stop_all(turn);
        }
        // The one that was asked to stop is found without a walk.
        let asked = match below {
            Bound::Included(place) => self.children.get_key_value(&place),
            Bound::Excluded(_) | Bound::Unbounded => None,
        };
        let last = || self.children.range((Bound::Included(group.first), below)).next_back();
        let Some((place, child)) = asked.or_else(last) else { return self.all_down(turn) };
        let place = *place;
        match child.task {
            // OTP would have ended this start before it looked at the failure; so the group waits
            // for it. A supervisor that ends does not.
            Task::Start(_) if ending => self.cut(turn, place),
            Task::Start(_) | Task::Stop(_) | Task::Cut(_) => return Progress::Waits,
            Task::None => {
                let up = matches!(child.phase, Phase::Up(_)) && child.gone.is_none();
                // One that is asked to stop now is looked at again once it is down.
                let below = if up { Bound::Included(place) } else { Bound::Excluded(place) };
                group.step = Step::Stop(below);
                self.stop_member(turn, place);
            }
        }
        Progress::Done
    }

    fn stop_member(&mut self, turn: &mut Turn, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        if let Phase::Up(_) = child.phase {
            match child.gone.take() {
                Some(exit) => self.consumed(turn, place, &exit),
                None => self.stop(turn, place, StopFor::Group),
            }
            return;
        }
        let (phase, plain) = (child.phase, child.is_plain() && child.retry != Retry::Tied);
        match (phase, &self.group) {
            _ if child.is_temporary() => self.remove(turn, place),
            (Phase::Finished, _) => {}
            (_, Some(Group { what: What::Ending(_), .. })) => self.settle(place, Phase::Stopped),
            (Phase::Waiting(_), Some(Group { what: What::Hold(at), .. })) => {
                let at = *at;
                self.tie(place, at);
            }
            (Phase::Waiting(_), _) if plain => self.settle(place, Phase::Stopped),
            (Phase::Waiting(_), _) => self.tie(place, turn.now),
            (
                Phase::Created
                | Phase::Starting(_)
                | Phase::Up(_)
                | Phase::Stopping
                | Phase::Quarantined(_)
                | Phase::Parked(_)
                | Phase::Stopped,
                _,
            ) => {}
        }
    }

    /// All instances of a template are stopped side by side, as OTP does.
    fn stop_all(&mut self, turn: &mut Turn) -> Progress {
        let places: Vec<Place> = self.children.keys().rev().copied().collect();
        let mut waiting = 0;
        for place in places {
            let Some(child) = self.children.get(&place) else { continue };
            match child.task {
                Task::Start(_) => self.cut(turn, place),
                Task::Stop(_) | Task::Cut(_) => {}
                Task::None => self.stop_member(turn, place),
            }
            if self.children.get(&place).is_some_and(|child| child.is_busy()) {
                waiting += 1;
            }
        }
        if let Some(group) = &mut self.group {
            group.step = Step::StopAll(waiting);
        }
        Progress::Done
    }

    /// A start is given up.
    fn cut(&mut self, turn: &mut Turn, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        if child.task != Task::Start(StartFor::Group) {
            self.singles = self.singles.saturating_sub(1);
        }
        child.task = Task::Cut(StopFor::Group);
        child.phase = Phase::Stopping;
        turn.out.push(Action::Stop {
            child: child.spec.name.clone(),
            generation: child.generation,
            shutdown: child.spec.shutdown,
        });
    }

    /// A run ended by itself before the group operation, or a call, stopped it. It is taken for
    /// stopped and does not count again.
    fn consumed(&mut self, turn: &mut Turn, place: Place, exit: &ChildExit) {
        self.report_unexpected(turn, place, exit);
        self.member_down(turn, place, (exit, Ended::ByItself));
    }

    /// A member of the group operation is down.
    pub(super) fn member_down(
        &mut self,
        turn: &mut Turn,
        place: Place,
        (exit, ended): (&ChildExit, Ended),
    ) {
        let Some(child) = self.children.get(&place) else { return };
        if child.is_temporary() {
            return self.remove(turn, place);
        }
        let at = match self.group.as_ref().map(|group| &group.what) {
            Some(What::Hold(at)) => *at,
            Some(What::Restart) if !child.is_plain() => turn.now,
            Some(What::Restart | What::Init | What::Ending(_)) | None => {
                return self.settle(place, Phase::Stopped);
            }
        };
        // What is over for good, or for a time, on its own account stays so.
        if ended == Ended::ByItself && !child.is_otp() {
            if let ChildExit::Throttled { after_ms } = exit {
                return self.park_until(turn, place, *after_ms);
            }
            match exit.judged().map(|judged| judged.action) {
                Some(ExitAction::Park { after_ms }) => {
                    return self.park_until(turn, place, after_ms);
                }
                Some(ExitAction::Stop) => return self.stand_down(turn, place),
                Some(
                    ExitAction::Restart
                    | ExitAction::RestartGroup
                    | ExitAction::Quarantine
                    | ExitAction::Escalate,
                )
                | None => {}
            }
            if exit.is_clean() && child.spec.restart == RestartType::Transient {
                return self.forget_run(turn, place);
            }
        }
        self.tie(place, at);
    }

    /// One of the instances that are stopped side by side is down.
    pub(super) fn count_down(&mut self) {
        if let Some(Group { step: Step::StopAll(waiting), .. }) = &mut self.group {
            *waiting = waiting.saturating_sub(1);
        }
    }

    fn all_down(&mut self, turn: &mut Turn) -> Progress {
        let Some(group) = &mut self.group else { return Progress::Done };
        match &group.what {
            What::Ending(end) => {
                turn.out.push(Action::Ended { exit: end.exit.clone(), scope: end.scope });
                self.stage = Stage::Ended;
                self.group = None;
            }
            What::Hold(_) => self.end_group(turn),
            What::Restart | What::Init => group.step = Step::Start(Bound::Unbounded),
        }
        Progress::Done
    }

    fn start_next(&mut self, turn: &mut Turn, after: Bound<Place>) -> Progress {
        let Some(group) = &mut self.group else { return Progress::Done };
        if let Bound::Excluded(last) = after
            && self
                .children
                .get(&last)
                .is_some_and(|child| child.task == Task::Start(StartFor::Group))
        {
            return Progress::Waits;
        }
        let from = match after {
            Bound::Excluded(_) => after,
            Bound::Included(_) | Bound::Unbounded => Bound::Included(group.first),
        };
        let restart = matches!(group.what, What::Restart);
        let next = self.children.range((from, Bound::Unbounded)).find(|(_, child)| {
            child.task == Task::None
                && match child.phase {
                    Phase::Created => true,
                    Phase::Waiting(_) => child.retry == Retry::Tied,
                    // OTP brings back what had been stopped or had finished, too.
                    Phase::Stopped | Phase::Finished => restart && child.comes_back(),
                    Phase::Starting(_)
                    | Phase::Up(_)
                    | Phase::Stopping
                    | Phase::Quarantined(_)
                    | Phase::Parked(_) => false,
                }
        });
        match next {
            Some((place, _)) => {
                let place = *place;
                group.step = Step::Start(Bound::Excluded(place));
                self.start(turn, place, StartFor::Group);
            }
            None => self.end_group(turn),
        }
        Progress::Done
    }

    /// The child that is the cause of a restart waits for its start like the members.
    fn lay_down(&mut self, cause: Place, now: Instant) {
        let idle = self.children.get(&cause).filter(|child| !child.is_busy());
        let Some(child) = idle else { return };
        match child.phase {
            // Its start has failed, or its run has ended; it is not yet laid down.
            Phase::Waiting(_) | Phase::Up(_) | Phase::Starting(_) => {}
            Phase::Created
            | Phase::Stopping
            | Phase::Quarantined(_)
            | Phase::Parked(_)
            | Phase::Stopped
            | Phase::Finished => return,
        }
        if child.is_plain() && child.retry != Retry::Tied {
            self.settle(cause, Phase::Stopped);
        } else {
            self.tie(cause, now);
        }
    }
}
