//! The machine against a model that keeps every result and judges by counting them anew, and a
//! replay against what was recorded.
//!
//! `PROPTEST_CASES=100000 cargo test --release --test it breaker::reference` runs as many sequences.

#![expect(clippy::excessive_nesting, reason = "threads and models are plainer in one piece")]

use std::time::Duration;

use proptest::prelude::*;
use provost::logic::breaker::replay::{Entry, Op, replay};
use provost::logic::breaker::{
    Admission, BreakerConfig, Force, Grant, Machine, Mode, Outcome, Window,
};
use provost::protocol::status::CircuitState;

/// A step of a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Acquire,
    /// Settles the permit at this place among those under way.
    Settle(usize, Outcome),
    Release(usize),
    Force(Force),
    Tick,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let wait = prop_oneof![3 => Just(0_u64), 3 => 1_u64..20, 2 => 20_u64..400, 1 => 400_u64..5000];
    let outcome = prop_oneof![
        4 => Just(Outcome::Ok),
        6 => Just(Outcome::Error),
        1 => Just(Outcome::Slow),
        1 => Just(Outcome::Ignored),
        1 => prop_oneof![Just(None), (1_u64..2000).prop_map(Some)]
            .prop_map(|retry_after_ms| Outcome::Throttled { retry_after_ms }),
    ];
    let step = prop_oneof![
        12 => Just(Step::Acquire),
        12 => (0_usize..4, outcome).prop_map(|(place, outcome)| Step::Settle(place, outcome)),
        1 => (0_usize..4).prop_map(Step::Release),
        1 => Just(Step::Tick),
    ];
    let force = prop_oneof![Just(Force::Open), Just(Force::Closed), Just(Force::Auto)];
    let step = prop_oneof![60 => step, 1 => force.prop_map(Step::Force)];
    proptest::collection::vec((wait, step), 1..120)
}

pub(crate) fn configs() -> impl Strategy<Value = BreakerConfig> {
    let window = prop_oneof![
        (1_u64..60).prop_map(|ms| Window::Time(Duration::from_millis(ms * 17))),
        (1_u32..12).prop_map(Window::Calls),
    ];
    let percent = || proptest::option::of((1_u8..=100).prop_map(f64::from));
    let ms = |ms: u64| Duration::from_millis(ms);
    let conditions =
        (proptest::option::of(1_u32..6), percent(), percent(), proptest::option::of(1_u64..200));
    let trial = (1_u32..4, 1_u32..4, proptest::option::of(1_u64..500));
    (conditions, 1_u32..12, window, (1_u64..500, 1.0_f64..3.0), trial).prop_map(
        move |(conditions, request_volume, window, (open, open_factor), trial)| BreakerConfig {
            mode: Mode::Armed,
            failure_threshold: conditions.0,
            error_percent: conditions.1,
            slow_percent: conditions.2,
            slow_call: conditions.3.map(ms),
            request_volume,
            window,
            open_for: ms(open),
            open_max: ms(2000),
            open_factor,
            jitter: 0.3,
            half_open_probes: trial.0,
            success_threshold: trial.1,
            half_open_timeout: trial.2.map(ms),
        },
    )
}

/// The model: states as words, results in one list, everything counted anew each time.
struct Model {
    config: BreakerConfig,
    state: &'static str,
    generation: u64,
    results: Vec<(u64, bool, bool)>,
    consecutive: u32,
    open_until: u64,
    openings: u32,
    probes: u32,
    successes: u32,
    probes_since: u64,
}

impl Model {
    fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: "closed",
            generation: 0,
            results: Vec::new(),
            consecutive: 0,
            open_until: 0,
            openings: 0,
            probes: 0,
            successes: 0,
            probes_since: 0,
        }
    }

    fn enter(&mut self, state: &'static str) {
        self.state = state;
        self.generation += 1;
        self.results.clear();
        (self.consecutive, self.probes, self.successes) = (0, 0, 0);
    }

    fn open(&mut self, now: u64, at_least: u64) {
        let growth = self.config.open_factor.powf(f64::from(self.openings));
        let most = self.config.open_max.as_secs_f64();
        let time = (self.config.open_for.as_secs_f64() * growth).min(most);
        // The draw is 0.5 throughout.
        let time = Duration::from_secs_f64(time).mul_f64(1.0 - self.config.jitter * 0.5);
        let ms = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap();
        self.open_until = now + ms.max(1).max(at_least);
        self.openings += 1;
        self.enter("open");
    }

    fn pass_time(&mut self, now: u64) {
        if self.state == "half_open"
            && self.probes > 0
            && let Some(timeout) = self.config.half_open_timeout
        {
            let due = self.probes_since + u64::try_from(timeout.as_millis()).unwrap();
            if due <= now {
                self.open(due, 0);
            }
        }
        if self.state == "open" && self.open_until <= now {
            self.enter("half_open");
        }
    }

    fn acquire(&mut self, now: u64) -> bool {
        self.pass_time(now);
        match self.state {
            "half_open" => {
                let granted = self.probes < self.config.half_open_probes;
                if granted {
                    if self.probes == 0 {
                        self.probes_since = now;
                    }
                    self.probes += 1;
                }
                granted
            }
            state => state.ends_with("closed"),
        }
    }

    fn give_back(&mut self, now: u64, grant: &(u64, u64), outcome: Outcome) {
        self.pass_time(now);
        let (generation, started) = *grant;
        if generation != self.generation {
            return;
        }
        let took = Duration::from_millis(now - started);
        let slow = outcome == Outcome::Slow || self.config.slow_call.is_some_and(|l| l <= took);
        let throttled = matches!(outcome, Outcome::Throttled { .. });
        let wish = match outcome {
            Outcome::Throttled { retry_after_ms: Some(wish) } => wish,
            _ => 0,
        };
        let error = throttled || outcome == Outcome::Error;
        if self.state == "half_open" {
            self.probes -= 1;
            if outcome == Outcome::Ignored {
                return;
            }
            if error || slow && self.config.slow_percent.is_some() {
                self.open(now, wish);
                return;
            }
            self.successes += 1;
            if self.successes >= self.config.success_threshold {
                self.openings = 0;
                self.enter("closed");
            }
            return;
        }
        if outcome == Outcome::Ignored || !self.state.ends_with("closed") {
            return;
        }
        self.results.push((now, error, slow));
        if outcome == Outcome::Error {
            self.consecutive += 1;
        } else if !throttled {
            self.consecutive = 0;
        }
        if self.state == "closed" {
            self.judge(now, wish);
        }
    }

    fn judge(&mut self, now: u64, wish: u64) {
        if wish > 0 {
            self.open_until = now + wish;
            self.enter("open");
            return;
        }
        let held: Vec<_> = match self.config.window {
            Window::Time(window) => {
                let window = u64::try_from(window.as_millis()).unwrap();
                let slice = |at: u64| at * 10 / window;
                self.results.iter().filter(|(at, ..)| slice(now) < slice(*at) + 10).collect()
            }
            Window::Calls(calls) => {
                self.results.iter().rev().take(usize::try_from(calls).unwrap()).collect()
            }
        };
        let count = |hit: fn(&(u64, bool, bool)) -> bool| held.iter().filter(|r| hit(r)).count();
        let (errors, slow) = (count(|r| r.1), count(|r| r.2));
        let too_many = |part: usize, percent: Option<f64>| {
            percent.is_some_and(|p| part > 0 && part as f64 / held.len() as f64 >= p / 100.0)
        };
        let volume = u64::try_from(held.len()).unwrap() >= self.config.volume();
        let run = self.config.failure_threshold.is_some_and(|most| most <= self.consecutive);
        let share =
            too_many(errors, self.config.error_percent) || too_many(slow, self.config.slow_percent);
        if run || volume && share {
            self.openings = 0;
            self.open(now, 0);
        }
    }

    fn force(&mut self, now: u64, force: Force) {
        self.pass_time(now);
        let to = match force {
            Force::Open => "forced_open",
            Force::Closed => "forced_closed",
            Force::Auto if self.state.starts_with("forced") => "closed",
            Force::Auto => return,
        };
        if to != self.state {
            self.openings = 0;
            self.enter(to);
        }
    }
}

/// Runs steps on both and compares after each; returns what was recorded on the way.
fn compare(config: BreakerConfig, steps: &[(u64, Step)]) -> (Machine, Vec<Entry>) {
    let (mut machine, mut model) = (Machine::new(config), Model::new(config));
    let mut under_way: Vec<(u64, Grant, (u64, u64))> = Vec::new();
    let (mut now, mut calls, mut log) = (0, 0, Vec::new());
    for (wait, step) in steps {
        now += wait;
        let op = match *step {
            Step::Acquire => {
                calls += 1;
                let granted = model.acquire(now);
                match machine.acquire(now, 0.5) {
                    Admission::Granted(grant) => {
                        assert!(granted, "granted at {now}");
                        under_way.push((calls, grant, (model.generation, now)));
                        Op::Passed(calls)
                    }
                    Admission::Rejected(rejection) => {
                        assert!(!granted, "rejected at {now}");
                        let known = rejection.retry_after_ms.is_some();
                        assert!(known || rejection.state != CircuitState::Open);
                        Op::Rejected(calls)
                    }
                }
            }
            Step::Settle(place, _) | Step::Release(place) if place >= under_way.len() => continue,
            Step::Settle(place, outcome) => {
                let (call, grant, kept) = under_way.remove(place);
                machine.settle(now, grant, outcome, 0.5);
                model.give_back(now, &kept, outcome);
                Op::Settled(call, outcome)
            }
            Step::Release(place) => {
                let (call, grant, kept) = under_way.remove(place);
                machine.release(now, grant, 0.5);
                model.give_back(now, &kept, Outcome::Ignored);
                Op::Released(call)
            }
            Step::Force(force) => {
                machine.force(now, force, 0.5);
                model.force(now, force);
                Op::Forced(force)
            }
            Step::Tick => {
                machine.advance(now, 0.5);
                model.pass_time(now);
                Op::Tick
            }
        };
        log.push(Entry { at_ms: now, op, fraction: 0.5 });
        assert_eq!(machine.control().state().circuit().as_str(), model.state, "at {now}: {step:?}");
        assert_eq!(machine.control().generation(), model.generation, "at {now}: {step:?}");
    }
    // Never stuck: with all permits lost, a day later a call passes, unless somebody forbade it or
    // the rules wait for probes for ever.
    let waits = config.half_open_timeout.is_none() && model.state == "half_open";
    let mut later = machine.clone();
    let granted = matches!(later.acquire(now + 86_400_000, 0.5), Admission::Granted(_));
    assert_eq!(granted || waits, model.state != "forced_open" || waits);
    (machine, log)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_a_simple_model_does(config in configs(), steps in steps()) {
        compare(config, &steps);
    }

    #[test]
    fn a_replay_under_the_same_rules_yields_the_same_transitions(
        config in configs(),
        steps in steps(),
    ) {
        let (mut machine, log) = compare(config, &steps);
        let replayed = replay(config, &log);
        prop_assert_eq!(replayed.transitions, machine.take_transitions());
        prop_assert_eq!((replayed.spared, replayed.lost, replayed.unknown), (0, 0, 0));
    }

    #[test]
    fn every_transition_derives_from_its_evidence(config in configs(), steps in steps()) {
        let (mut machine, _) = compare(config, &steps);
        let mut state = CircuitState::Closed;
        for (index, transition) in machine.take_transitions().iter().enumerate() {
            prop_assert_eq!(transition.from, state);
            prop_assert_ne!(transition.from, transition.to);
            prop_assert_eq!(transition.generation, index as u64 + 1);
            state = transition.to;
            if let (Some(counts), None) =
                (transition.evidence.counts, transition.evidence.retry_after_ms)
            {
                prop_assert_eq!(counts.judge(&transition.evidence.config), Some(transition.cause));
            }
        }
    }
}

#[test]
fn a_replay_under_other_rules_tells_what_they_would_have_spared_and_cost() {
    let lenient = BreakerConfig { failure_threshold: Some(100), ..BreakerConfig::default() };
    let mut log = Vec::new();
    for call in 0..20 {
        let at_ms = call * 100;
        let outcome = if call % 5 == 4 { Outcome::Ok } else { Outcome::Error };
        for op in [Op::Passed(call), Op::Settled(call, outcome)] {
            log.push(Entry { at_ms, op, fraction: 0.0 });
        }
    }
    log.push(Entry { at_ms: 9000, op: Op::Rejected(99), fraction: 0.0 });
    let strict = BreakerConfig { failure_threshold: Some(3), ..lenient };
    let (as_is, other) = (replay(lenient, &log), replay(strict, &log));
    assert_eq!((as_is.transitions.len(), as_is.rejected), (2, 0), "at the twentieth call");
    assert_eq!(other.transitions.len(), 2);
    assert_eq!((other.calls, other.rejected, other.spared, other.lost), (21, 17, 13, 4));
    assert_eq!(other.unknown, 1);
}
