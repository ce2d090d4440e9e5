//! The breaker that threads share does what the machine of one thread does.

use std::sync::Arc;

use proptest::prelude::*;
use provost::adapters::breaker::{Breaker, Ticks};
use provost::logic::breaker::{
    Admission, BreakerConfig, Cause, Force, Machine, Mode, Outcome, Transition, Window,
};
use provost::protocol::status::CircuitState;

use super::reference::{Step, configs, steps};

/// What can be compared of transitions: not the draw, which the breaker takes from chance.
fn essence(transitions: &[Transition]) -> Vec<(u64, CircuitState, Cause, u64)> {
    transitions.iter().map(|found| (found.at_ms, found.to, found.cause, found.generation)).collect()
}

/// Runs steps on both and compares after each.
fn compare(config: BreakerConfig, steps: &[(u64, Step)]) {
    let ticks = Ticks::manual();
    let breaker = Breaker::new(config, Arc::clone(&ticks));
    let mut machine = Machine::new(config);
    let mut under_way = Vec::new();
    let mut now = 0;
    for (wait, step) in steps {
        now += wait;
        ticks.set_ms(now);
        match *step {
            Step::Acquire => match (breaker.acquire(), machine.acquire(now, 0.0)) {
                (Ok(permit), Admission::Granted(grant)) => under_way.push((permit, grant)),
                (Err(rejection), Admission::Rejected(expected)) => {
                    assert_eq!(rejection, expected, "at {now}");
                }
                (found, expected) => panic!("at {now}: {found:?} for {expected:?}"),
            },
            Step::Settle(place, _) | Step::Release(place) if place >= under_way.len() => {}
            Step::Settle(place, outcome) => {
                let (permit, grant) = under_way.remove(place);
                permit.settle(outcome);
                machine.settle(now, grant, outcome, 0.0);
            }
            Step::Release(place) => {
                let (permit, grant) = under_way.remove(place);
                drop(permit);
                machine.release(now, grant, 0.0);
            }
            Step::Force(force) => {
                breaker.force(force);
                machine.force(now, force, 0.0);
            }
            Step::Tick => {
                breaker.advance();
                machine.advance(now, 0.0);
            }
        }
        // The shared one catches up when it is next asked or told; its timer does so in time.
        breaker.advance();
        machine.advance(now, 0.0);
        let seen = breaker.snapshot();
        let place = format!("at {now}: {step:?}");
        assert_eq!(
            essence(&breaker.take_transitions()),
            essence(&machine.take_transitions()),
            "{place}"
        );
        assert_eq!(seen.state, machine.control().state(), "{place}");
        assert_eq!(seen.counts, machine.counts(now), "{place}");
        assert_eq!(breaker.deadline_ms(), machine.deadline(), "{place}");
    }
    assert_eq!(breaker.snapshot().late, machine.late());
    assert_eq!(breaker.snapshot().would_have_opened, machine.would_have_opened());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_shared_breaker_does_what_the_machine_does(
        config in configs(),
        mode in prop_oneof![4 => Just(Mode::Armed), 1 => Just(Mode::MetricsOnly), 1 => Just(Mode::Disabled)],
        steps in steps(),
    ) {
        compare(BreakerConfig { jitter: 0.0, mode, ..config }, &steps);
    }
}

#[test]
fn a_reconfiguration_keeps_state_window_and_permits() {
    let ticks = Ticks::manual();
    let rules = BreakerConfig { failure_threshold: Some(3), ..BreakerConfig::default() };
    let breaker = Breaker::new(rules, Arc::clone(&ticks));
    let old = breaker.acquire().unwrap();
    breaker.acquire().unwrap().error();
    let strict = BreakerConfig { failure_threshold: Some(2), jitter: 0.0, ..rules };
    breaker.reconfigure(strict).unwrap();
    assert_eq!(breaker.snapshot().counts.errors, 1);
    old.error();
    assert_eq!(breaker.snapshot().state.circuit(), CircuitState::Open);
    let reshaped = BreakerConfig { window: Window::Calls(5), ..strict };
    assert!(breaker.reconfigure(reshaped).is_err());
    let successor = breaker.successor(reshaped);
    assert!(successor.acquire().is_err());
    ticks.set_ms(5000);
    let probe = successor.acquire().unwrap();
    let heir = successor.successor(rules);
    drop(probe);
    for _ in 0..2 {
        heir.acquire().unwrap().ok();
    }
    assert_eq!(heir.snapshot().state.circuit(), CircuitState::Closed);
}

#[test]
fn transitions_that_nobody_takes_are_bounded_and_counted() {
    let breaker = Breaker::new(BreakerConfig::default(), Ticks::manual());
    for _ in 0..40 {
        breaker.force(Force::Open);
        breaker.force(Force::Auto);
    }
    assert_eq!(breaker.snapshot().transitions_missed, 16);
    let waiting = breaker.take_transitions();
    assert_eq!((waiting.len(), waiting[0].generation), (64, 17));
    assert_eq!(breaker.take_transitions(), []);
}

#[tokio::test]
async fn a_change_of_state_wakes_who_waits_for_it() {
    let breaker = Breaker::new(
        BreakerConfig { failure_threshold: Some(1), ..BreakerConfig::default() },
        Ticks::manual(),
    );
    breaker.acquire().unwrap().settle(Outcome::Error);
    breaker.changed().await;
    assert_eq!(breaker.take_transitions()[0].to, CircuitState::Open);
}

#[test]
fn the_clock_moves_and_sleeps_and_wakes_and_ends_with_its_owner() {
    let ticks = Ticks::start().unwrap();
    let begin = ticks.now_ms();
    let before = std::time::Instant::now();
    while ticks.now_ms() < begin + 10 {
        assert!(before.elapsed().as_secs() < 30, "the clock stands");
        std::thread::yield_now();
    }
    assert!(ticks.now_ns() / 1_000_000 + 1 >= begin + 10);
    let weak = Arc::downgrade(&ticks);
    drop(ticks);
    while weak.strong_count() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_breaker_is_no_larger_than_a_kilobyte() {
    assert!(size_of::<Breaker>() <= 1024, "{} bytes", size_of::<Breaker>());
}
