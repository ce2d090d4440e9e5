//! Seeded simulation of the supervisor machine in virtual time: random trees of one level, random
//! policies, crashes, slow and failing starts, slow stops, calls, pauses, late, doubled and stale
//! reports. After each step the world checks what must always hold; after the storm everything
//! that has to run must run.
//!
//! The world keeps its own account of runs, made from what it did, never from the machine's state.

mod checks;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::logic::restart::simulation::random::random_child;
use crate::logic::restart::{
    Action, Call, CallId, ChildView, Input, Pace, StartOutcome, Supervisor,
};
use crate::protocol::command::CircuitSet;
use crate::protocol::exit::{ChildExit, ExitAction, ExitClass, Judged, StartError};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{AutoShutdown, ChildSpec, Limit, Strategy, SupervisorSpec};

/// What the world knows of one child's run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Run {
    None,
    Starting(Generation),
    Up(Generation),
    /// Over; the machine has not been told.
    Dying(Generation),
}

/// What will happen.
#[derive(Clone, Debug)]
enum Event {
    StartDone(ChildName, Generation),
    StopDone(ChildName, Generation),
    Tell(Input),
    Crash,
    Call,
    Health,
    /// Something that was told before is told again.
    Again,
}

#[derive(Debug)]
struct Sim {
    seed: u64,
    rng: Rng,
    origin: Instant,
    now: Instant,
    machine: Supervisor,
    events: BTreeMap<(Instant, u64), Event>,
    next: u64,
    runs: BTreeMap<ChildName, Run>,
    used: BTreeMap<ChildName, Generation>,
    stopping: BTreeSet<(ChildName, Generation)>,
    told: Vec<Input>,
    calls: BTreeMap<u64, Call>,
    call_count: u64,
    /// Children that must not be started until a call asks for it.
    barred: BTreeSet<ChildName>,
    /// Children with an open circuit, and when their trial is due.
    open: BTreeMap<ChildName, Instant>,
    /// Counted restarts since the account was empty.
    counted: BTreeMap<ChildName, Vec<Instant>>,
    last_stop: Option<usize>,
    calm: Calm,
    /// Whether the supervisor was told to end, or said that it does.
    ending: bool,
    ended: Option<ChildExit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Calm {
    Storm,
    Calm,
}

fn name(n: usize) -> ChildName {
    format!("c{n}").parse().unwrap()
}

impl Sim {
    fn new(seed: u64, origin: Instant) -> Self {
        let mut rng = Rng::with_seed(seed);
        let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
        let strategy =
            if rng.u8(..8) == 0 { Strategy::SimpleOneForOne } else { strategies[rng.usize(..3)] };
        let limit = (rng.u8(..3) == 0)
            .then(|| Limit { intensity: rng.u32(3..30), period: Duration::from_secs(5) });
        let autos = [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
        let auto_shutdown =
            if rng.u8(..6) == 0 { autos[rng.usize(..2)] } else { AutoShutdown::Never };
        let spec = SupervisorSpec {
            name: "sup".parse().unwrap(),
            strategy,
            limit,
            auto_shutdown,
            origin: None,
        };
        let count = if strategy == Strategy::SimpleOneForOne { 1 } else { rng.usize(1..6) };
        let children =
            (0..count).map(|n| random_child(&mut rng, n, auto_shutdown)).collect::<Vec<_>>();
        let pace = if rng.u8(..4) == 0 { Pace::OneAtATime } else { Pace::Concurrent };
        Self {
            seed,
            rng,
            origin,
            now: origin,
            machine: Supervisor::new(spec, children).unwrap().with_pace(pace),
            events: BTreeMap::new(),
            next: 0,
            runs: BTreeMap::new(),
            used: BTreeMap::new(),
            stopping: BTreeSet::new(),
            told: Vec::new(),
            calls: BTreeMap::new(),
            call_count: 0,
            barred: BTreeSet::new(),
            open: BTreeMap::new(),
            counted: BTreeMap::new(),
            last_stop: None,
            calm: Calm::Storm,
            ending: false,
            ended: None,
        }
    }

    fn at(&mut self, delay_ms: u64, event: Event) {
        self.next += 1;
        self.events.insert((self.now + Duration::from_millis(delay_ms), self.next), event);
    }

    /// Lets a storm rage for a minute, then calm for hours, then sometimes orders the end.
    fn run(&mut self) {
        let early = self.rng.u8(..12) == 0;
        self.feed(Input::Init);
        if early {
            self.feed(Input::Shutdown);
        }
        for _ in 0..self.rng.usize(10..80) {
            let event = match self.rng.u8(..10) {
                0..5 => Event::Crash,
                5..8 => Event::Call,
                8 => Event::Health,
                _ => Event::Again,
            };
            let at = self.rng.u64(..60_000);
            self.at(at, event);
        }
        self.pass(self.origin + Duration::from_secs(60));
        self.calm = Calm::Calm;
        self.call(Call::Resume);
        for child in self.machine.children() {
            let (child, generation) = (child.spec.name.clone(), child.generation);
            self.feed(Input::Health { child, generation, healthy: true });
        }
        self.pass(self.origin + Duration::from_secs(7200));
        self.check_calm();
        self.feed(Input::Shutdown);
        self.pass(self.origin + Duration::from_secs(8000));
        assert!(self.ended.is_some(), "{self:#?}");
        self.check_end();
    }

    /// Lets time pass.
    fn pass(&mut self, until: Instant) {
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.machine.deadline();
            let Some(at) = [event, deadline].into_iter().flatten().min().filter(|at| *at <= until)
            else {
                self.now = until;
                return;
            };
            self.now = self.now.max(at);
            if deadline == Some(at) {
                let before = self.machine.children();
                let actions = self.machine.on_deadline(self.now, self.rng.f64());
                self.after(&before, actions);
            } else if let Some((_, event)) = self.events.pop_first() {
                self.happen(event);
            }
        }
    }

    fn feed(&mut self, input: Input) {
        self.ending |= input == Input::Shutdown;
        let before = self.machine.children();
        let actions = self.machine.on_input(self.now, input, self.rng.f64());
        self.after(&before, actions);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::StartDone(child, generation) => self.start_done(child, generation),
            Event::StopDone(child, generation) => self.stop_done(child, generation),
            Event::Tell(input) => self.tell(input),
            Event::Crash => self.crash(),
            Event::Call => {
                let call = self.random_call();
                self.call(call);
            }
            Event::Health => {
                if let Some((child, Run::Up(generation))) = self.some_run() {
                    let healthy = self.rng.bool();
                    self.feed(Input::Health { child, generation, healthy });
                }
            }
            Event::Again => {
                if !self.told.is_empty() {
                    let old = self.told[self.rng.usize(..self.told.len())].clone();
                    self.feed(old);
                }
            }
        }
    }

    fn tell(&mut self, input: Input) {
        if let Input::Exited { child, generation, .. } = &input {
            if self.runs.get(child) == Some(&Run::Dying(*generation)) {
                self.runs.insert(child.clone(), Run::None);
            }
            self.stopping.remove(&(child.clone(), *generation));
        }
        self.told.push(input.clone());
        self.feed(input);
    }

    fn start_done(&mut self, child: ChildName, generation: Generation) {
        if self.runs.get(&child) != Some(&Run::Starting(generation)) {
            return;
        }
        let calm = self.calm == Calm::Calm;
        let outcome = match self.rng.u8(..20) {
            0..3 if !calm => StartOutcome::Failed(StartError::Failed { message: "boom".into() }),
            3 if !calm => StartOutcome::Failed(StartError::Refused { message: "closing".into() }),
            4 if !calm => StartOutcome::Ignored,
            _ => StartOutcome::Up,
        };
        if outcome != StartOutcome::Up {
            self.runs.insert(child.clone(), Run::None);
            self.stopping.remove(&(child.clone(), generation));
            return self.tell(Input::Started { child, generation, outcome });
        }
        if !calm && self.rng.u8(..10) == 0 {
            // It dies at once, and its death is told before its birth.
            self.runs.insert(child.clone(), Run::Dying(generation));
            let exit = self.random_exit();
            let late = Input::Started { child: child.clone(), generation, outcome };
            self.tell(Input::Exited { child, generation, exit });
            return self.tell(late);
        }
        self.runs.insert(child.clone(), Run::Up(generation));
        self.tell(Input::Started { child, generation, outcome });
    }

    fn stop_done(&mut self, child: ChildName, generation: Generation) {
        let run = self.runs.get(&child).copied();
        let exit = match self.rng.u8(..8) {
            0 => ChildExit::Killed,
            1 => ChildExit::Finished,
            2 => ChildExit::Signaled { signal: 6 },
            _ => ChildExit::Stopped,
        };
        if run == Some(Run::Up(generation)) {
            self.runs.insert(child.clone(), Run::Dying(generation));
            self.tell(Input::Exited { child, generation, exit });
        } else if run == Some(Run::Starting(generation)) {
            self.runs.insert(child.clone(), Run::Dying(generation));
            if self.rng.bool() {
                self.tell(Input::Exited { child, generation, exit });
            } else {
                self.runs.insert(child.clone(), Run::None);
                self.stopping.remove(&(child.clone(), generation));
                let message = "cut short".to_owned();
                let outcome = StartOutcome::Failed(StartError::Failed { message });
                self.tell(Input::Started { child, generation, outcome });
            }
        }
    }

    fn crash(&mut self) {
        let Some((child, Run::Up(generation))) = self.some_run() else { return };
        self.runs.insert(child.clone(), Run::Dying(generation));
        let exit = self.random_exit();
        let delay = self.rng.u64(..100);
        self.at(delay, Event::Tell(Input::Exited { child, generation, exit }));
    }

    fn random_exit(&mut self) -> ChildExit {
        match self.rng.u8(..10) {
            0 => ChildExit::Exited { code: 0 },
            1 => ChildExit::Throttled { after_ms: self.rng.u64(..20_000) },
            2 => ChildExit::Lost { message: "no trace".into() },
            3 => ChildExit::Signaled { signal: 9 },
            4 | 5 => self.judged_exit(),
            _ => ChildExit::Exited { code: 1 },
        }
    }

    fn judged_exit(&mut self) -> ChildExit {
        let action = match self.rng.u8(..12) {
            0..3 => ExitAction::Restart,
            3..6 => ExitAction::RestartGroup,
            6..8 => ExitAction::Park { after_ms: self.rng.u64(..20_000) },
            8..10 => ExitAction::Quarantine,
            10 => ExitAction::Stop,
            _ => ExitAction::Escalate,
        };
        let class = [ExitClass::Crash, ExitClass::Crash, ExitClass::Ok][self.rng.usize(..3)];
        let judged = Judged { class, action, reason: "drawn".into(), rule: None };
        ChildExit::Judged { exit: Box::new(ChildExit::Exited { code: 5 }), judged }
    }

    fn some_run(&mut self) -> Option<(ChildName, Run)> {
        let runs: Vec<_> = self.runs.iter().map(|(name, run)| (name.clone(), *run)).collect();
        (!runs.is_empty()).then(|| runs[self.rng.usize(..runs.len())].clone())
    }

    fn random_call(&mut self) -> Call {
        let child = name(self.rng.usize(..7));
        match self.rng.u8(..13) {
            0 => {
                let n = self.rng.usize(..7);
                let auto = self.machine.spec().auto_shutdown;
                Call::StartChild(random_child(&mut self.rng, n, auto))
            }
            1 | 2 => Call::TerminateChild(child),
            3 | 4 => Call::RestartChild(child),
            5 => Call::DeleteChild(child),
            6 | 7 => Call::BounceChild(child),
            8 => Call::ResetChild(child),
            9 => Call::SetCircuit(child, CircuitSet::Open),
            10 => Call::SetCircuit(child, CircuitSet::Closed),
            11 => Call::SetCircuit(child, CircuitSet::Auto),
            _ => [Call::Pause, Call::Resume][self.rng.usize(..2)].clone(),
        }
    }

    fn call(&mut self, request: Call) {
        self.call_count += 1;
        self.calls.insert(self.call_count, request.clone());
        if let Some(name) = may_start(&request) {
            self.barred.remove(name);
            self.open.remove(name);
            self.counted.remove(name);
        }
        self.feed(Input::Call { call: CallId(self.call_count), request });
    }

    /// Carries actions out and checks everything.
    fn after(&mut self, before: &[ChildView], actions: Vec<Action>) {
        assert!(self.machine.deadline().is_none_or(|at| self.now < at), "late {self:#?}");
        for action in actions {
            assert!(
                self.ended.is_none() || matches!(action, Action::Reply { .. }),
                "{action:?} after the end, seed {}",
                self.seed
            );
            match action {
                Action::Start { child, generation, trial } => {
                    self.check_start(&child, generation, trial);
                    self.runs.insert(child.clone(), Run::Starting(generation));
                    let delay = self.rng.u64(..300);
                    self.at(delay, Event::StartDone(child, generation));
                }
                Action::Stop { child, generation, .. } => self.check_stop(child, generation),
                Action::Reply { call, reply } => self.check_reply(call, &reply),
                Action::Note(note) => self.check_note(&note),
                Action::Ready => {}
                Action::Ended { exit, .. } => {
                    self.ended = Some(exit);
                    let alive: Vec<_> =
                        self.runs.iter().filter(|(_, run)| **run != Run::None).collect();
                    assert!(alive.is_empty(), "{alive:?} live on, seed {}", self.seed);
                }
            }
        }
        self.check_transitions(before);
    }
}

/// The child that a call may start.
fn may_start(call: &Call) -> Option<&ChildName> {
    match call {
        Call::StartChild(ChildSpec { name, .. })
        | Call::IntroduceChild(ChildSpec { name, .. })
        | Call::ReconfigureChild(ChildSpec { name, .. })
        | Call::RestartChild(name)
        | Call::BounceChild(name)
        | Call::ResetChild(name)
        | Call::DeleteChild(name)
        | Call::SetCircuit(name, CircuitSet::Closed | CircuitSet::Auto) => Some(name),
        Call::SetCircuit(_, CircuitSet::Open)
        | Call::TerminateChild(_)
        | Call::Reconfigure(_)
        | Call::Pause
        | Call::Resume => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
fn run_seeds(seeds: std::ops::Range<u64>) {
    let origin = Instant::now();
    for seed in seeds {
        Sim::new(seed, origin).run();
    }
}

#[test]
fn whatever_happens_the_rules_hold() {
    run_seeds(0..3000);
}
