//! A fleet of agents in virtual time, made from a seed: its everyday noise, and faults put into it
//! whose names are known.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::logic::detect::{
    DetectSettings, Detectors, Finding, Seen, Who, WhoKind, Work, WorkEnd,
};
use provost::protocol::decision::Inputs;
use provost::protocol::fact::FailureType;
use provost::protocol::id::ChildName;
use provost::protocol::insight::PatternKind;
use provost::protocol::status::AgentState;

/// A small generator of numbers; the same seed gives the same ones everywhere.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(super) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.part() * (high - low)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(count).unwrap()).unwrap()
    }

    pub(super) fn secs(&mut self, low: f64, high: f64) -> Duration {
        Duration::from_secs_f64(self.between(low, high))
    }

    /// Time to the next of events that come at a mean distance.
    fn wait(&mut self, mean: f64) -> Duration {
        Duration::from_secs_f64(-mean * (1.0 - self.part()).ln())
    }

    /// Normally distributed.
    fn normal(&mut self) -> f64 {
        let (one, two) = (1.0 - self.part(), self.part());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }
}

/// What comes next.
#[derive(Clone, Debug)]
enum Step {
    Tell(usize, Seen),
    /// A single crash, with its recovery.
    Crash(usize),
    /// Somebody restarts it.
    Restart(usize),
    /// A probe fails and passes again.
    Dip(usize),
    /// It is rate limited for a while.
    Throttle(usize),
    /// It does a task.
    Task(usize),
    Poison,
}

/// How an agent works at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) factor: f64,
    pub(super) failing: f64,
}

/// A fault that was put in.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: PatternKind,
    pub(super) scope: String,
    pub(super) at: Instant,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) at: Instant,
    pub(super) finding: Finding,
}

pub(super) struct Fleet {
    pub(super) random: Random,
    pub(super) start: Instant,
    now: Instant,
    pub(super) who: Vec<Who>,
    agents: usize,
    ways: Vec<Way>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    steps: BTreeMap<u64, Step>,
    number: u64,
    noise: Noise,
    pub(super) detectors: Detectors,
    pub(super) found: Vec<Found>,
    pub(super) events: u64,
}

/// Mean distances of what happens every day, for one agent, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    pub(super) crash: f64,
    pub(super) restart: f64,
    pub(super) dip: f64,
    pub(super) throttle: f64,
    pub(super) task: f64,
    /// Share of tasks that fail.
    pub(super) failing: f64,
}

pub(super) const DAILY: Noise = Noise {
    crash: 3_600.0,
    restart: 14_400.0,
    dip: 7_200.0,
    throttle: 7_200.0,
    task: 20.0,
    failing: 0.02,
};

fn name(text: String) -> ChildName {
    text.parse().unwrap()
}

impl Fleet {
    /// `agents` on four nodes, in two versions and three zones, of which a third each leans on one of
    /// three downstreams.
    pub(super) fn new(seed: u64, agents: usize, noise: Noise) -> Self {
        let mut random = Random::new(seed);
        let start = Instant::now() + Duration::from_secs(3_600);
        let mut who = Vec::new();
        for index in 0..agents {
            let zone = random.below(3);
            let tags = [
                format!("node=n{}", index % 4),
                format!("version={}", 1 + random.below(2)),
                format!("zone=z{zone}"),
                format!("agent_type=t{}", index % 2),
                format!("downstream=d{}", index % 3),
            ];
            who.push(Who {
                name: name(format!("a{index}")),
                kind: WhoKind::Worker,
                tags: tags.into_iter().map(Arc::from).collect(),
                leans_on: [name(format!("d{}", index % 3))].into(),
            });
        }
        for index in 0..3 {
            who.push(Who {
                name: name(format!("d{index}")),
                kind: WhoKind::Downstream,
                tags: [Arc::from("node=n0")].into(),
                leans_on: [].into(),
            });
        }
        let ways = (0..agents)
            // Not all machines are equally fast.
            .map(|_| Way { factor: random.between(0.8, 1.3), failing: noise.failing })
            .collect();
        let mut fleet = Self {
            random,
            start,
            now: start,
            who,
            agents,
            ways,
            queue: BinaryHeap::new(),
            steps: BTreeMap::new(),
            number: 0,
            noise,
            detectors: Detectors::new(DetectSettings::default()),
            found: Vec::new(),
            events: 0,
        };
        for agent in 0..agents {
            fleet.at(start, Step::Tell(agent, Seen::Is(AgentState::Starting)));
            fleet.at(start, Step::Tell(agent, Seen::Is(AgentState::Running)));
            fleet.next_noise(agent);
        }
        fleet
    }

    fn next_noise(&mut self, agent: usize) {
        let noise = self.noise;
        let steps = [
            (noise.crash, Step::Crash(agent)),
            (noise.restart, Step::Restart(agent)),
            (noise.dip, Step::Dip(agent)),
            (noise.throttle, Step::Throttle(agent)),
            (noise.task, Step::Task(agent)),
        ];
        for (mean, step) in steps {
            let wait = self.random.wait(mean);
            self.at(self.now + wait, step);
        }
    }

    fn again(&mut self, mean: f64, step: Step) {
        let wait = self.random.wait(mean);
        self.at(self.now + wait, step);
    }

    fn at(&mut self, at: Instant, step: Step) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number)));
        self.steps.insert(self.number, step);
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, until: Instant) {
        loop {
            let step = self.queue.peek().map(|Reverse((at, _))| *at);
            let timer = self.detectors.deadline();
            let Some(next) = [step, timer].into_iter().flatten().min() else { break };
            if until < next {
                break;
            }
            self.now = self.now.max(next);
            if timer == Some(next) {
                let found = self.detectors.on_deadline(self.now);
                self.keep(found);
                continue;
            }
            let Some(Reverse((_, number))) = self.queue.pop() else { break };
            let step = self.steps.remove(&number).unwrap();
            self.step(step);
        }
        self.now = until;
    }

    fn keep(&mut self, found: Vec<Finding>) {
        let at = self.now;
        self.found.extend(found.into_iter().map(|finding| Found { at, finding }));
    }

    fn tell(&mut self, who: usize, seen: Seen) {
        self.events += 1;
        let found = self.detectors.see(self.now, &self.who[who], seen);
        self.keep(found);
    }

    fn step(&mut self, step: Step) {
        let noise = self.noise;
        match step.clone() {
            Step::Tell(who, seen) => self.tell(who, seen),
            Step::Crash(agent) => {
                self.crash(agent, self.now, None);
                self.again(noise.crash, step);
            }
            Step::Restart(agent) => {
                let steps = [AgentState::Stopping, AgentState::Stopped, AgentState::Starting];
                for state in steps.into_iter().chain([AgentState::Running]) {
                    self.tell(agent, Seen::Is(state));
                }
                self.again(noise.restart, step);
            }
            Step::Dip(agent) => {
                self.tell(agent, Seen::Is(AgentState::Degraded));
                let back = self.now + self.random.secs(5.0, 40.0);
                self.at(back, Step::Tell(agent, Seen::Is(AgentState::Running)));
                self.again(noise.dip, step);
            }
            Step::Throttle(agent) => {
                self.tell(agent, Seen::Failed(FailureType::Throttled, None));
                self.tell(agent, Seen::Is(AgentState::Parked));
                let back = self.now + self.random.secs(30.0, 300.0);
                self.at(back, Step::Tell(agent, Seen::Is(AgentState::Starting)));
                self.at(back, Step::Tell(agent, Seen::Is(AgentState::Running)));
                self.again(noise.throttle, step);
            }
            Step::Task(agent) => {
                let way = self.ways[agent];
                let took = 2.0 * way.factor * (0.6 * self.random.normal()).exp();
                let failed = self.random.part() < way.failing;
                let ended = if failed { WorkEnd::Failed } else { WorkEnd::Done };
                let took = Duration::from_secs_f64(took);
                let class = Arc::from(["review", "build"][agent % 2]);
                self.tell(agent, Seen::Worked(Work { class, took, ended }));
                self.again(noise.task, step);
            }
            Step::Poison => {
                let evidence = Inputs::default().with("agents", 3_u64);
                let task_type = "review".parse().unwrap();
                let found = self.detectors.poison(self.now, &task_type, (evidence, None));
                self.keep(found);
            }
        }
    }

    /// One crash, its restart, and its recovery unless it crashes again within `runs`.
    fn crash(&mut self, agent: usize, at: Instant, runs: Option<Duration>) -> Instant {
        let pause = self.random.secs(0.2, 2.0);
        self.at(at, Step::Tell(agent, Seen::Failed(FailureType::ProcessCrash, None)));
        self.at(at, Step::Tell(agent, Seen::Is(AgentState::Backoff)));
        self.at(at + pause, Step::Tell(agent, Seen::Is(AgentState::Starting)));
        self.at(at + pause, Step::Tell(agent, Seen::Is(AgentState::Running)));
        match runs {
            Some(runs) => at + pause + runs,
            None => {
                let stable = at + pause + Duration::from_secs(10);
                self.at(stable, Step::Tell(agent, Seen::Recovered));
                stable
            }
        }
    }

    fn fault(&self, kind: PatternKind, scope: impl Into<String>, at: Instant) -> Fault {
        Fault { kind, scope: scope.into(), at }
    }

    /// Puts a fault of a kind in.
    pub(super) fn inject(&mut self, kind: PatternKind, at: Instant) -> Fault {
        let agent = self.random.below(self.agents);
        let scope = self.who[agent].name.to_string();
        match kind {
            PatternKind::CrashLoop => {
                let mut next = at;
                let times = 4 + self.random.below(5);
                for _ in 0..times {
                    let runs = self.random.secs(0.1, 6.0);
                    next = self.crash(agent, next, Some(runs));
                }
                self.crash(agent, next, None);
            }
            PatternKind::Flapping => self.flap(agent, at),
            PatternKind::CorrelatedFailure => return self.correlated(at),
            PatternKind::Cascade => return self.cascade(at),
            PatternKind::GrayFailure => {
                let factor = self.random.between(2.0, 5.0);
                let is_slow = self.random.part() < 0.7;
                let failing = self.random.between(0.4, 0.8);
                let way = &mut self.ways[agent];
                if is_slow {
                    way.factor *= factor;
                } else {
                    way.failing = failing;
                }
            }
            PatternKind::PoisonTask => {
                self.at(at, Step::Poison);
                return self.fault(kind, "task_type=review", at);
            }
            PatternKind::SickAgent => {
                let evidence = Inputs::default().with("tasks", 3_u64);
                self.at(at, Step::Tell(agent, Seen::Sick(evidence, None)));
            }
        }
        self.fault(kind, scope, at)
    }

    /// Probes fail and pass, again and again.
    fn flap(&mut self, agent: usize, at: Instant) {
        let mut next = at;
        let rounds = 6 + self.random.below(5);
        for state in [AgentState::Degraded, AgentState::Running].repeat(rounds) {
            self.at(next, Step::Tell(agent, Seen::Is(state)));
            next += self.random.secs(10.0, 40.0);
        }
    }

    /// Most of those with one tag fail within seconds.
    fn correlated(&mut self, at: Instant) -> Fault {
        let tag = self.random.below(3);
        let one = self.random.below(self.agents);
        let tag = Arc::clone(&self.who[one].tags[tag]);
        let share = self.random.between(0.7, 1.0);
        for agent in 0..self.agents {
            if self.who[agent].tags.contains(&tag) && self.random.part() < share {
                let when = at + self.random.secs(0.0, 4.0);
                self.crash(agent, when, None);
            }
        }
        self.fault(PatternKind::CorrelatedFailure, &*tag, at)
    }

    /// A downstream fails, and with it some of those that lean on it; sometimes they are noticed
    /// first.
    fn cascade(&mut self, at: Instant) -> Fault {
        let downstream = self.random.below(3);
        let who = self.agents + downstream;
        let seen_at = at + self.random.secs(0.0, 8.0);
        self.at(seen_at, Step::Tell(who, Seen::Failed(FailureType::CallFailed, None)));
        self.at(seen_at + Duration::from_secs(90), Step::Tell(who, Seen::Recovered));
        let share = self.random.between(0.3, 1.0);
        let dependants: Vec<usize> =
            (0..self.agents).filter(|agent| agent % 3 == downstream).collect();
        for agent in dependants {
            if self.random.part() < share {
                let when = at + self.random.secs(2.0, 20.0);
                self.crash(agent, when, None);
            }
        }
        self.fault(PatternKind::Cascade, format!("d{downstream}"), at)
    }
}
