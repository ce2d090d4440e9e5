//! The shared breaker under every interleaving of its steps, by loom; and what it allocates.
//!
//! The same source as in the library is compiled here with loom's atomics and lock in the place of
//! the machine's (`sync`), with one stripe and few slices, so that threads do meet.

#![allow(
    clippy::unwrap_used,
    clippy::allow_attributes,
    dead_code,
    unreachable_pub,
    unsafe_code,
    missing_docs,
    reason = "a failed assumption must fail the test; not all of the breaker is used here"
)]

mod adapters;
mod allocations;

/// The library's own, under the names that the breaker's source uses.
mod logic {
    pub(crate) use provost::logic::breaker;
}

/// The library's own, under the names that the breaker's source uses.
mod protocol {
    pub(crate) use provost::protocol::status;
}

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use adapters::breaker::engine::Engine;
use logic::breaker::{BreakerConfig, Control, Outcome};
use protocol::status::CircuitState;

/// Opens for ten milliseconds at the first failure; one probe closes it.
fn rules() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: Some(1),
        error_percent: None,
        open_for: Duration::from_millis(10),
        jitter: 0.0,
        half_open_probes: 1,
        success_threshold: 1,
        half_open_timeout: Some(Duration::from_millis(10)),
        ..BreakerConfig::default()
    }
}

fn check(config: BreakerConfig, model: impl Fn(Arc<Engine>) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 10_000;
    builder.check(move || model(Arc::new(Engine::new(Control::new(config), 0))));
}

fn settle(engine: &Engine, generation: u64, outcome: Outcome) {
    engine.settle(generation, 0, None, outcome);
}

fn state(engine: &Engine) -> CircuitState {
    engine.control().state().circuit()
}

#[test]
fn nothing_passes_after_the_deciding_result_and_it_opens_once() {
    check(rules(), |engine| {
        let other = Arc::clone(&engine);
        let second = thread::spawn(move || {
            settle(&other, 0, Outcome::Error);
            assert!(!other.gate().passes());
        });
        settle(&engine, 0, Outcome::Error);
        assert!(!engine.gate().passes());
        second.join().unwrap();
        assert_eq!(engine.take_transitions().len(), 1);
    });
}

#[test]
fn a_share_reached_by_two_threads_is_never_missed() {
    let config = BreakerConfig {
        failure_threshold: None,
        error_percent: Some(50.0),
        request_volume: 2,
        ..rules()
    };
    check(config, |engine| {
        let other = Arc::clone(&engine);
        let second = thread::spawn(move || settle(&other, 0, Outcome::Ok));
        settle(&engine, 0, Outcome::Error);
        second.join().unwrap();
        assert_eq!(state(&engine), CircuitState::Open);
        assert_eq!(engine.take_transitions().len(), 1);
    });
}

#[test]
fn a_late_result_reaches_no_later_window() {
    for outcome in [Outcome::Ok, Outcome::Error] {
        let config = BreakerConfig { failure_threshold: Some(2), ..rules() };
        check(config, move |engine| {
            let other = Arc::clone(&engine);
            let late = thread::spawn(move || settle(&other, 0, outcome));
            engine.force(0, logic::breaker::Force::Open);
            engine.force(0, logic::breaker::Force::Auto);
            let before = engine.snapshot(0).counts;
            late.join().unwrap();
            let after = engine.snapshot(0).counts;
            assert_eq!((before.calls, before.consecutive), (0, 0));
            assert_eq!((after.calls, after.consecutive), (0, 0));
        });
    }
}

#[test]
fn one_slot_is_granted_once_and_never_lost() {
    check(rules(), |engine| {
        settle(&engine, 0, Outcome::Error);
        let other = Arc::clone(&engine);
        let probe = |engine: &Engine| {
            let (admission, _) = engine.admit(10);
            let granted = admission.ok().map(|grant| grant.generation);
            if let Some(generation) = granted {
                engine.settle(generation, 10, None, Outcome::Ignored);
            }
            granted.is_some()
        };
        let second = thread::spawn(move || probe(&other));
        let first = probe(&engine);
        let second = second.join().unwrap();
        assert!(first || second);
        assert_eq!(state(&engine), CircuitState::HalfOpen);
        // Whoever gave it back, the slot is free.
        assert!(engine.admit(10).0.is_ok());
        assert!(engine.admit(10).0.is_err());
    });
}

#[test]
fn a_stale_success_and_a_failing_probe_leave_it_open() {
    check(rules(), |engine| {
        settle(&engine, 0, Outcome::Error);
        let probe = engine.admit(10).0.unwrap();
        let other = Arc::clone(&engine);
        let stale = thread::spawn(move || settle(&other, 0, Outcome::Ok));
        engine.settle(probe.generation, 10, None, Outcome::Error);
        stale.join().unwrap();
        assert_eq!(state(&engine), CircuitState::Open);
    });
}
