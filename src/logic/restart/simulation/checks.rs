//! What must always hold, checked after each step.

use std::time::Duration;

use crate::logic::lifecycle::{Intake, may_follow, state_of};
use crate::logic::restart::simulation::{Event, Run, Sim, may_start, name};
use crate::logic::restart::{
    Action, Call, CallId, ChildView, Input, Note, Phase, Refusal, Reply, Trial,
};
use crate::protocol::command::CircuitSet;
use crate::protocol::decision::{DecisionRecord, Input as Number, NextKind, Reason};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::Strategy;
use crate::protocol::status::{AgentState, CircuitState, HealthStatus, Readiness};

impl Sim {
    pub(super) fn check_start(&mut self, child: &ChildName, generation: Generation, trial: Trial) {
        let seed = self.seed;
        let run = self.runs.get(child).copied().unwrap_or(Run::None);
        assert_eq!(run, Run::None, "two lives of {child}, seed {seed}");
        let used = self.used.insert(child.clone(), generation).unwrap_or_default();
        assert!(used < generation, "{child} {generation} again, seed {seed}");
        assert!(!self.barred.contains(child), "{child} was taken down, seed {seed}");
        assert!(!self.ending, "{child} started at the end, seed {seed}");
        if let Some(due) = self.open.remove(child) {
            assert!(due <= self.now, "{child} started in quarantine, seed {seed}");
            assert_eq!(trial, Trial::Trial, "{child}, seed {seed}");
        }
    }

    pub(super) fn check_stop(&mut self, child: ChildName, generation: Generation) {
        let seed = self.seed;
        let run = self.runs.get(&child).copied().unwrap_or(Run::None);
        let runs = [Run::Starting(generation), Run::Up(generation), Run::Dying(generation)];
        assert!(runs.contains(&run), "stop of {child} {generation}, but {run:?}, seed {seed}");
        let first = self.stopping.insert((child.clone(), generation));
        assert!(first, "{child} {generation} stopped twice, seed {seed}");
        let simple = self.machine.spec().strategy == Strategy::SimpleOneForOne;
        if self.ending && !simple {
            let children = self.machine.children();
            let at = children.iter().position(|view| view.spec.name == child).unwrap();
            assert!(self.last_stop.is_none_or(|last| at < last), "stop order, seed {seed}");
            self.last_stop = Some(at);
        }
        let delay = self.rng.u64(..500);
        self.at(delay, Event::StopDone(child, generation));
    }

    pub(super) fn check_reply(&mut self, call: CallId, reply: &Reply) {
        let request = self.calls.remove(&call.0);
        let Some(request) = request else { panic!("{call:?} answered twice, seed {}", self.seed) };
        if let Call::ResetChild(name) | Call::SetCircuit(name, _) = &request {
            // The account was emptied when the call was handled, at some time before now.
            self.counted.remove(name);
        }
        if *reply != Reply::Ok {
            return;
        }
        match request {
            Call::TerminateChild(name) => {
                // OTP brings back what was terminated, with its group.
                let circuit = |view: ChildView| view.spec.policy.circuit.is_some();
                self.open.remove(&name);
                if self.machine.child(&name).is_none_or(circuit) {
                    self.bar(name);
                }
            }
            Call::SetCircuit(name, CircuitSet::Open) => {
                self.open.remove(&name);
                self.bar(name);
            }
            Call::StartChild(_)
            | Call::RestartChild(_)
            | Call::DeleteChild(_)
            | Call::BounceChild(_)
            | Call::ResetChild(_)
            | Call::SetCircuit(..)
            | Call::IntroduceChild(_)
            | Call::ReconfigureChild(_)
            | Call::Reconfigure(_)
            | Call::Pause
            | Call::Resume => {}
        }
    }

    /// The child is taken down; only calls that wait already may start it.
    pub(super) fn bar(&mut self, name: ChildName) {
        if !self.calls.values().any(|call| may_start(call) == Some(&name)) {
            self.barred.insert(name);
        }
    }

    pub(super) fn check_note(&mut self, note: &Note) {
        match note {
            Note::Circuit { child, to, record, .. } => match to {
                CircuitState::Open if record.next.action == NextKind::Trial => {
                    // The record rounds to milliseconds.
                    let least = record.next.in_ms.saturating_sub(1);
                    self.open.insert(child.clone(), self.now + Duration::from_millis(least));
                }
                CircuitState::Closed | CircuitState::ForcedClosed | CircuitState::ForcedOpen => {
                    self.counted.remove(child);
                    self.open.remove(child);
                }
                // A call that had waited since before it opened.
                CircuitState::HalfOpen if record.reason == Reason::Requested => {
                    self.open.remove(child);
                }
                CircuitState::Open | CircuitState::HalfOpen => {}
            },
            Note::ChildTerminated { child, record, .. }
            | Note::StartFailed { child, record, .. } => {
                self.check_limit(child, record);
                self.check_stop_by_rule(child, record);
            }
            Note::Recovered { since, attempts, .. } => {
                assert!(*since <= self.now && 0 < *attempts, "{note:?}, seed {}", self.seed);
            }
            Note::ChildFinished { child, record, .. } => self.check_stop_by_rule(child, record),
            Note::ShutdownError { .. } | Note::GroupRestart { .. } => {}
            Note::GivingUp { .. } => self.ending = true,
        }
    }

    /// What a rule stopped is started by calls alone. Without a circuit OTP's rules hold, and its
    /// group brings it back.
    fn check_stop_by_rule(&mut self, child: &ChildName, record: &DecisionRecord) {
        let stopped = record.reason == Reason::ExitRule && record.next.action == NextKind::None;
        let view = self.machine.child(child);
        if stopped && view.is_some_and(|view| view.spec.policy.circuit.is_some()) {
            self.bar(child.clone());
        }
    }

    /// Never more counted restarts in a window than the child's limit allows.
    pub(super) fn check_limit(&mut self, child: &ChildName, record: &DecisionRecord) {
        let Some(view) = self.machine.child(child) else { return };
        let Some(circuit) = view.spec.policy.circuit else { return };
        let restarts = matches!(record.next.action, NextKind::Restart | NextKind::RestartGroup);
        let uncounted = record.inputs.0.contains_key("counted");
        let unlimited = record.inputs.0.contains_key("limit_applied");
        // Beyond the limit, by restarting the siblings.
        let beyond = record.reason == Reason::ChildLimitExceeded;
        if !restarts || uncounted || unlimited || beyond {
            return;
        }
        if let Some(Number::Count(delay)) = record.inputs.0.get("delay_ms") {
            assert_eq!(*delay, record.next.in_ms, "{record:?}");
        }
        let times = self.counted.entry(child.clone()).or_default();
        times.push(self.now);
        let window = times.iter().filter(|t| self.now - **t <= circuit.limit.period).count();
        let most = usize::try_from(circuit.limit.intensity).unwrap();
        assert!(window <= most, "{window} restarts of {child}, {most} allowed, seed {}", self.seed);
    }

    pub(super) fn check_transitions(&self, before: &[ChildView]) {
        let state = |view: &ChildView| {
            state_of(view, HealthStatus::Unknown, Readiness::Ready, Intake::Open)
        };
        for old in before {
            let new = self.machine.child(&old.spec.name);
            let to = new.as_ref().map_or(AgentState::Terminated, state);
            let from = state(old);
            let replaced = new.is_some_and(|new| new.spec != old.spec);
            assert!(
                from == to || replaced || may_follow(from, to),
                "{} {from} -> {to}, seed {}",
                old.spec.name,
                self.seed
            );
        }
    }

    /// After the storm, what is to run runs, and nobody waits.
    pub(super) fn check_calm(&self) {
        assert!(self.calls.is_empty(), "{:?} not answered, seed {}", self.calls, self.seed);
        if self.ended.is_some() {
            return;
        }
        for view in self.machine.children() {
            let settled = matches!(
                view.phase,
                Phase::Up(Trial::Ordinary)
                    | Phase::Stopped
                    | Phase::Finished
                    | Phase::Quarantined(None)
            );
            assert!(settled, "{view:?} after the storm, seed {}\n{:#?}", self.seed, self.machine);
            let run = self.runs.get(&view.spec.name).copied().unwrap_or(Run::None);
            let up = matches!(view.phase, Phase::Up(_));
            assert_eq!(up, run == Run::Up(view.generation), "{view:?} {run:?} seed {}", self.seed);
        }
    }

    pub(super) fn check_end(&mut self) {
        let calls = self.call_count + 1;
        self.call(Call::RestartChild(name(0)));
        assert!(!self.calls.contains_key(&calls), "answered at the end, seed {}", self.seed);
        assert_eq!(self.machine.deadline(), None, "seed {}", self.seed);
        let refused = self.machine.on_input(
            self.now,
            Input::Call { call: CallId(0), request: Call::Pause },
            0.0,
        );
        let reply = Reply::Refused(Refusal::ShuttingDown);
        assert_eq!(refused, [Action::Reply { call: CallId(0), reply }]);
    }
}
