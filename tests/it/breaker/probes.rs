//! Seven probes that published breakers fail, each of which fails at least two.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use provost::adapters::breaker::{Breaker, Ticks};
use provost::logic::breaker::{BreakerConfig, Outcome, Window};
use provost::protocol::status::CircuitState;

/// Opens for a second after three failures in a row; two probes, two successes.
fn breaker(change: impl FnOnce(&mut BreakerConfig)) -> (Breaker, Arc<Ticks>) {
    let ticks = Ticks::manual();
    let mut config = BreakerConfig {
        failure_threshold: Some(3),
        error_percent: None,
        open_for: Duration::from_secs(1),
        open_factor: 1.0,
        jitter: 0.0,
        half_open_probes: 2,
        half_open_timeout: Some(Duration::from_secs(4)),
        ..BreakerConfig::default()
    };
    change(&mut config);
    (Breaker::new(config, Arc::clone(&ticks)), ticks)
}

fn trip(breaker: &Breaker) {
    for _ in 0..3 {
        breaker.acquire().unwrap().error();
    }
    assert_eq!(state(breaker), CircuitState::Open);
}

fn state(breaker: &Breaker) -> CircuitState {
    breaker.snapshot().state.circuit()
}

#[test]
fn p1_the_window_slides_after_many_successes() {
    let failures_to_trip = |window| {
        let (breaker, _) = breaker(|config| {
            config.failure_threshold = None;
            config.error_percent = Some(50.0);
            config.request_volume = 100;
            config.window = window;
        });
        for _ in 0..10_000 {
            breaker.acquire().unwrap().ok();
        }
        (1..).find(|_| {
            breaker.acquire().unwrap().error();
            state(&breaker) == CircuitState::Open
        })
    };
    assert_eq!(failures_to_trip(Window::Calls(100)), Some(50));
    // Within one time window nothing has left yet, which is what a time window means.
    assert_eq!(failures_to_trip(Window::Time(Duration::from_secs(10))), Some(10_000));
}

#[test]
fn p1_a_time_window_forgets_successes_with_time() {
    let (breaker, ticks) = breaker(|config| {
        config.failure_threshold = None;
        config.error_percent = Some(50.0);
        config.request_volume = 100;
        config.window = Window::Time(Duration::from_secs(10));
    });
    for _ in 0..10_000 {
        breaker.acquire().unwrap().ok();
    }
    ticks.set_ms(10_000);
    for _ in 0..100 {
        assert_eq!(state(&breaker), CircuitState::Closed);
        breaker.acquire().unwrap().error();
    }
    assert_eq!(state(&breaker), CircuitState::Open);
}

#[test]
fn p2_half_open_admits_no_more_probes_than_allowed() {
    let (breaker, ticks) = breaker(|_| ());
    trip(&breaker);
    ticks.set_ms(1000);
    let permits: Vec<_> = (0..50).map(|_| breaker.acquire()).collect();
    assert_eq!(permits.iter().filter(|permit| permit.is_ok()).count(), 2);
}

#[test]
fn p3_a_stale_success_does_not_close() {
    let (breaker, ticks) = breaker(|_| ());
    let old: Vec<_> = (0..8).map(|_| breaker.acquire().unwrap()).collect();
    trip(&breaker);
    ticks.set_ms(1000);
    let probe = breaker.acquire().unwrap();
    for permit in old {
        permit.ok();
    }
    assert_eq!(state(&breaker), CircuitState::HalfOpen);
    assert_eq!(breaker.snapshot().late, 8);
    probe.error();
    assert!((0..20).all(|_| breaker.acquire().is_err()));
}

#[test]
fn p4_a_panic_counts_as_a_failure_and_frees_its_slot() {
    let (breaker, ticks) = breaker(|_| ());
    let panicking = || {
        let call = || {
            let _permit = breaker.acquire().unwrap();
            std::panic::resume_unwind(Box::new("the call panics"));
        };
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    };
    (0..3).for_each(|_| panicking());
    assert_eq!(state(&breaker), CircuitState::Open);
    ticks.set_ms(1000);
    panicking();
    assert_eq!(state(&breaker), CircuitState::Open);
    ticks.set_ms(2000);
    assert!(breaker.acquire().is_ok());
}

#[test]
fn p5_a_cancelled_probe_frees_its_slot_and_says_nothing() {
    let (breaker, ticks) = breaker(|_| ());
    trip(&breaker);
    ticks.set_ms(1000);
    for _ in 0..100 {
        let mut call = pin!(async {
            let permit = breaker.acquire().unwrap();
            std::future::pending::<()>().await;
            permit.ok();
        });
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(state(&breaker), CircuitState::HalfOpen);
    breaker.acquire().unwrap().ok();
    breaker.acquire().unwrap().ok();
    assert_eq!(state(&breaker), CircuitState::Closed);
}

#[test]
fn p6_hung_probes_do_not_hold_the_circuit() {
    let (breaker, ticks) = breaker(|_| ());
    trip(&breaker);
    ticks.set_ms(1000);
    let hung = [breaker.acquire().unwrap(), breaker.acquire().unwrap()];
    ticks.set_ms(4999);
    let rejection = breaker.acquire().unwrap_err();
    assert_eq!((rejection.state, rejection.retry_after_ms), (CircuitState::HalfOpen, Some(1)));
    // Given up at 5 s, open for a second, probed again: without a timer, at the next call.
    ticks.set_ms(6000);
    breaker.acquire().unwrap().ok();
    for permit in hung {
        permit.error();
    }
    breaker.acquire().unwrap().ok();
    assert_eq!(state(&breaker), CircuitState::Closed);
    // Lost altogether, never even dropped.
    trip(&breaker);
    ticks.set_ms(7000);
    (0..2).for_each(|_| std::mem::forget(breaker.acquire().unwrap()));
    ticks.set_ms(12_000);
    assert!(breaker.acquire().is_ok());
}

#[test]
fn p7_a_rejection_of_our_own_is_not_a_failure() {
    let (breaker, ticks) = breaker(|_| ());
    for _ in 0..50 {
        breaker.acquire().unwrap().settle(Outcome::Ignored);
    }
    assert_eq!((state(&breaker), breaker.snapshot().counts.calls), (CircuitState::Closed, 0));
    trip(&breaker);
    ticks.set_ms(1000);
    for _ in 0..50 {
        breaker.acquire().unwrap().settle(Outcome::Ignored);
    }
    assert_eq!(state(&breaker), CircuitState::HalfOpen);
}
