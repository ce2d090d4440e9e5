//! What goes beyond OTP, rule by rule: backoff, circuit, throttling, calls, pauses, generations.
//! OTP's own rules are held by the recorded traces in `tests/oracle`.

mod calls;
mod change;
mod failures;
mod peers;
mod rules;

use std::time::{Duration, Instant};

use crate::logic::restart::{
    Action, Call, CallId, EndScope, Generations, Input, Note, Pace, Phase, Reply, StartOutcome,
    Supervisor, Trial,
};
use crate::protocol::command::CircuitSet;
use crate::protocol::decision::{DecisionRecord, Input as Number};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{
    AutoShutdown, BackoffSpec, ChildSpec, CircuitSpec, Jitter, Limit, OnExceeded, RestartPolicy,
    RestartType, Strategy, SupervisorSpec,
};

/// A machine, virtual time, and everything that it did as lines of text.
struct Desk {
    now: Instant,
    machine: Supervisor,
    jitter: f64,
    records: Vec<DecisionRecord>,
}

/// 200 ms doubled to 1 s; 2 restarts in 60 s, open for 30 s doubled to 100 s; stable after 10 s.
fn policy(on_exceeded: OnExceeded) -> RestartPolicy {
    RestartPolicy {
        backoff: BackoffSpec {
            initial: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(1),
            jitter: Jitter::None,
        },
        circuit: Some(CircuitSpec {
            limit: Limit { intensity: 2, period: Duration::from_secs(60) },
            on_exceeded,
            open_for: Duration::from_secs(30),
            open_factor: 2.0,
            open_max: Duration::from_secs(100),
            stable_after: Duration::from_secs(10),
        }),
    }
}

fn child(name: &str) -> ChildSpec {
    let policy = policy(OnExceeded::Quarantine);
    ChildSpec { policy, ..ChildSpec::otp_worker(name.parse().unwrap()) }
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
fn desk(strategy: Strategy, children: Vec<ChildSpec>) -> Desk {
    let spec = SupervisorSpec {
        name: "sup".parse().unwrap(),
        strategy,
        limit: None,
        auto_shutdown: AutoShutdown::Never,
        origin: Some("tree.toml:1".into()),
    };
    let machine = Supervisor::new(spec, children).unwrap();
    Desk { now: Instant::now(), machine, jitter: 0.5, records: Vec::new() }
}

/// The same, with all children up.
fn running(strategy: Strategy, children: Vec<ChildSpec>) -> Desk {
    let names: Vec<ChildName> = children.iter().map(|child| child.name.clone()).collect();
    let mut desk = desk(strategy, children);
    desk.feed(Input::Init);
    for name in names {
        desk.up(name.as_str());
    }
    desk
}

impl Desk {
    fn feed(&mut self, input: Input) -> Vec<String> {
        let actions = self.machine.on_input(self.now, input, self.jitter);
        self.lines(actions)
    }

    /// Lets time pass and tells what falls due on the way.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        let until = self.now + Duration::from_millis(ms);
        let mut lines = Vec::new();
        while let Some(at) = self.machine.deadline().filter(|at| *at <= until) {
            self.now = at;
            let actions = self.machine.on_deadline(self.now, self.jitter);
            lines.extend(self.lines(actions));
        }
        self.now = until;
        lines
    }

    fn generation(&self, child: &str) -> Generation {
        self.machine.child(&child.parse().unwrap()).unwrap().generation
    }

    fn started(&mut self, child: &str, outcome: StartOutcome) -> Vec<String> {
        let generation = self.generation(child);
        self.feed(Input::Started { child: child.parse().unwrap(), generation, outcome })
    }

    fn up(&mut self, child: &str) -> Vec<String> {
        self.started(child, StartOutcome::Up)
    }

    fn fails_to_start(&mut self, child: &str) -> Vec<String> {
        self.fails_to_start_by(child, StartError::Failed { message: "x".into() })
    }

    fn fails_to_start_by(&mut self, child: &str, error: StartError) -> Vec<String> {
        self.started(child, StartOutcome::Failed(error))
    }

    fn exits(&mut self, child: &str, exit: ChildExit) -> Vec<String> {
        let generation = self.generation(child);
        self.feed(Input::Exited { child: child.parse().unwrap(), generation, exit })
    }

    fn crashes(&mut self, child: &str) -> Vec<String> {
        self.exits(child, ChildExit::Exited { code: 1 })
    }

    fn stops(&mut self, child: &str) -> Vec<String> {
        self.exits(child, ChildExit::Stopped)
    }

    fn call(&mut self, request: Call) -> Vec<String> {
        self.feed(Input::Call { call: CallId(1), request })
    }

    fn set(&mut self, child: &str, set: CircuitSet) -> Vec<String> {
        self.call(Call::SetCircuit(child.parse().unwrap(), set))
    }

    fn phase(&self, child: &str) -> Phase {
        self.machine.child(&child.parse().unwrap()).unwrap().phase
    }

    /// Crashes it at once again and again until its circuit opens.
    fn quarantine(&mut self, child: &str) -> Vec<String> {
        for _ in 0..2 {
            self.crashes(child);
            self.pass(1000);
            self.up(child);
        }
        self.crashes(child)
    }

    fn lines(&mut self, actions: Vec<Action>) -> Vec<String> {
        actions.iter().map(|action| self.line(action)).collect()
    }

    fn line(&mut self, action: &Action) -> String {
        match action {
            Action::Start { child, generation, trial: Trial::Ordinary } => {
                format!("start {child} {generation}")
            }
            Action::Start { child, generation, trial: Trial::Trial } => {
                format!("try {child} {generation}")
            }
            Action::Stop { child, generation, .. } => format!("stop {child} {generation}"),
            Action::Reply { reply: Reply::Refused(refusal), .. } => format!("refused: {refusal}"),
            Action::Reply { reply, .. } => format!("{reply:?}").to_lowercase(),
            Action::Ready => "ready".to_owned(),
            Action::Ended { exit, scope: EndScope::Supervisor } => format!("ended: {exit}"),
            Action::Ended { exit, scope: EndScope::Tree } => format!("tree ended: {exit}"),
            Action::Note(note) => self.note(note),
        }
    }

    fn note(&mut self, note: &Note) -> String {
        let (text, record) = match note {
            Note::ChildTerminated { child, record, .. } => (format!("{child} terminated"), record),
            Note::ChildFinished { child, record, .. } => (format!("{child} finished"), record),
            Note::StartFailed { child, record, .. } => (format!("{child} start failed"), record),
            Note::Circuit { child, from, to, record } => {
                (format!("{child} circuit {from} {to}"), record)
            }
            Note::Recovered { child, attempts, since, record, .. } => {
                let after = (self.now - *since).as_millis();
                (format!("{child} recovered after {after} ms, {attempts} attempts"), record)
            }
            Note::GroupRestart { cause, members, record } => {
                let members: Vec<&str> = members.iter().map(ChildName::as_str).collect();
                (format!("{cause} restarts {}", members.join(" ")), record)
            }
            Note::GivingUp { child, record } => (format!("giving up for {child}"), record),
            Note::ShutdownError { child, exit, .. } => {
                return format!("{child} did not stop as asked: {exit}");
            }
        };
        self.records.push(record.clone());
        let word = |value| serde_json::to_value(value).unwrap().as_str().unwrap().to_owned();
        let action = serde_json::to_value(record.next.action).unwrap();
        let next = format!("{} in {}", action.as_str().unwrap(), record.next.in_ms);
        format!("{text} ({}; {next})", word(record.reason))
    }
}

#[track_caller]
fn check(seen: Vec<String>, expected: &[&str]) {
    assert_eq!(seen, expected);
}
