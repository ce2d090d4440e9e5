//! What one decision costs: the supervisor machine alone, without actors, tasks or events.
//!
//! One round is an exit of one child, its judgement, and the answer that its replacement runs.
//! Time is virtual. `otp` is a child with OTP's rules alone; `circuit` one with backoff and a
//! circuit of its own, whose round holds the delay and the stable time, too.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measurement reads clocks and has nobody to hand errors to"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use provost::logic::restart::{Action, Input, StartOutcome, Supervisor};
use provost::protocol::exit::ChildExit;
use provost::protocol::id::{ChildName, Generation};
use provost::protocol::spec::{ChildSpec, RestartPolicy, Strategy, SupervisorSpec};

/// A machine whose children run.
struct Bench {
    machine: Supervisor,
    now: Instant,
    generations: Vec<(ChildName, Generation)>,
    turn: usize,
}

impl Bench {
    fn new(count: usize, policy: RestartPolicy) -> Self {
        let name = |child| format!("w{child}").parse::<ChildName>().unwrap();
        let spec = |child| ChildSpec { policy, ..ChildSpec::otp_worker(name(child)) };
        let supervisor = SupervisorSpec::new("root".parse().unwrap(), Strategy::OneForOne);
        let machine = Supervisor::new(supervisor, (0..count).map(spec).collect()).unwrap();
        let mut bench =
            Self { machine, now: Instant::now(), generations: Vec::with_capacity(count), turn: 0 };
        let mut actions = bench.machine.on_input(bench.now, Input::Init, 0.5);
        while let Some(Action::Start { child, generation, .. }) = actions.pop() {
            bench.generations.push((child.clone(), generation));
            actions = bench.up(child, generation);
        }
        bench
    }

    fn up(&mut self, child: ChildName, generation: Generation) -> Vec<Action> {
        let outcome = StartOutcome::Up;
        let actions =
            self.machine.on_input(self.now, Input::Started { child, generation, outcome }, 0.5);
        // The last action is `Ready`, when all run.
        actions.into_iter().filter(|action| matches!(action, Action::Start { .. })).collect()
    }

    /// One child ends and is started again.
    fn round(&mut self) {
        self.turn = (self.turn + 7_919) % self.generations.len();
        let (child, generation) = self.generations.get(self.turn).unwrap().clone();
        let exit = ChildExit::Exited { code: 1 };
        let mut actions =
            self.machine.on_input(self.now, Input::Exited { child, generation, exit }, 0.5);
        loop {
            if let Some(Action::Start { child, generation, .. }) =
                actions.iter().find(|action| matches!(action, Action::Start { .. }))
            {
                let (child, generation) = (child.clone(), *generation);
                self.generations.get_mut(self.turn).unwrap().1 = generation;
                black_box(self.up(child, generation));
                break;
            }
            self.now = self.machine.deadline().unwrap();
            actions = self.machine.on_deadline(self.now, 0.5);
        }
        // Until it is judged stable.
        while let Some(at) = self.machine.deadline() {
            self.now = at;
            black_box(self.machine.on_deadline(at, 0.5));
        }
        self.now += Duration::from_micros(1);
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exit to restart");
    for count in [1, 1_000, 100_000] {
        for (name, policy) in [("otp", RestartPolicy::OTP), ("circuit", RestartPolicy::default())] {
            let mut bench = Bench::new(count, policy);
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| bench.round());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
