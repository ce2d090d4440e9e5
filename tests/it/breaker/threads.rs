//! The breaker under several threads at once.

#![expect(clippy::excessive_nesting, reason = "threads and models are plainer in one piece")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::scope;
use std::time::Duration;

use provost::adapters::breaker::{Breaker, Permit, Ticks};
use provost::logic::breaker::{BreakerConfig, Force, Outcome, Window};
use provost::protocol::status::CircuitState;

const THREADS: u64 = 4;

fn rules() -> BreakerConfig {
    BreakerConfig { jitter: 0.0, open_factor: 1.0, ..BreakerConfig::default() }
}

/// Runs `work` in all threads at once, with the number of each.
fn together(work: impl Fn(u64) + Sync) {
    let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
    scope(|scope| {
        for number in 0..THREADS {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(number);
            });
        }
    });
}

#[test]
fn run_metrics_exactly_once_concurrent() {
    for window in [Window::Time(Duration::from_secs(10)), Window::Calls(10_000)] {
        let breaker = Breaker::new(
            BreakerConfig {
                failure_threshold: None,
                error_percent: Some(100.0),
                slow_percent: Some(100.0),
                window,
                ..rules()
            },
            Ticks::manual(),
        );
        breaker.acquire().unwrap().ok();
        together(|_| {
            for number in 0..2000 {
                breaker.acquire().unwrap().settle(match number % 4 {
                    0 => Outcome::Error,
                    1 => Outcome::Slow,
                    2 => Outcome::Ignored,
                    _ => Outcome::Ok,
                });
            }
        });
        let counts = breaker.snapshot().counts;
        assert_eq!((counts.calls, counts.errors, counts.slow), (6001, 2000, 2000), "{window:?}");
    }
}

#[test]
fn fail_max_thread_safety() {
    // Exactly so many failures are needed, however they come; and it opens once.
    for round in 0..200_u64 {
        let needed = 4 + round % 7;
        let breaker = Breaker::new(
            BreakerConfig {
                failure_threshold: Some(u32::try_from(needed).unwrap()),
                error_percent: None,
                ..rules()
            },
            Ticks::manual(),
        );
        let permits: Vec<_> = (0..needed - 1).map(|_| breaker.acquire().unwrap()).collect();
        settle_together(permits);
        assert_eq!(breaker.snapshot().state.circuit(), CircuitState::Closed);
        breaker.acquire().unwrap().error();
        assert_eq!(breaker.snapshot().state.circuit(), CircuitState::Open);
    }
}

fn settle_together(permits: Vec<Permit<'_>>) {
    scope(|scope| {
        for permit in permits {
            scope.spawn(move || permit.error());
        }
    });
}

#[test]
fn a_share_that_is_reached_by_many_threads_opens_once_and_is_never_missed() {
    for round in 0..200_u64 {
        let window =
            if round % 2 == 0 { Window::Time(Duration::from_secs(10)) } else { Window::Calls(40) };
        let breaker = Breaker::new(
            BreakerConfig {
                failure_threshold: None,
                error_percent: Some(50.0),
                request_volume: 40,
                window,
                ..rules()
            },
            Ticks::manual(),
        );
        let permits: Vec<_> = (0..40).map(|_| breaker.acquire().unwrap()).collect();
        let mut halves: Vec<Vec<_>> = vec![Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for (index, permit) in permits.into_iter().enumerate() {
            halves[index % 4].push(permit);
        }
        scope(|scope| {
            for (number, permits) in halves.into_iter().enumerate() {
                scope.spawn(move || {
                    for permit in permits {
                        if number % 2 == 0 { permit.error() } else { permit.ok() }
                    }
                });
            }
        });
        let opened = breaker.take_transitions();
        assert_eq!(opened.len(), 1, "round {round}: {:?}", breaker.snapshot());
    }
}

#[test]
fn half_open_admission_never_exceeds_permitted_calls_under_contention() {
    let ticks = Ticks::manual();
    let breaker = Breaker::new(
        BreakerConfig {
            failure_threshold: Some(1),
            half_open_probes: 3,
            success_threshold: 5,
            ..rules()
        },
        Arc::clone(&ticks),
    );
    for round in 1..200_u64 {
        if breaker.snapshot().state.circuit() == CircuitState::Closed {
            breaker.acquire().unwrap().error();
        }
        ticks.set_ms(round * 5000);
        let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
        together(|number| {
            for turn in 0..20 {
                let Ok(permit) = breaker.acquire() else { continue };
                if breaker.snapshot().state.circuit() != CircuitState::HalfOpen {
                    return;
                }
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                under_way.fetch_sub(1, Ordering::SeqCst);
                if (number + turn) % 3 == 0 {
                    drop(permit);
                } else {
                    permit.settle(Outcome::Ignored);
                }
            }
        });
        assert!(most.into_inner() <= 3);
    }
}

#[test]
fn transition_alternation_concurrent() {
    let ticks = Ticks::manual();
    let breaker = Breaker::new(
        BreakerConfig {
            failure_threshold: Some(2),
            open_for: Duration::from_millis(3),
            half_open_timeout: Some(Duration::from_millis(5)),
            ..rules()
        },
        Arc::clone(&ticks),
    );
    let clock = AtomicU64::new(0);
    let seen = std::sync::Mutex::new(Vec::new());
    together(|number| {
        for turn in 0..3000_u64 {
            if number == 0 {
                ticks.set_ms(clock.fetch_add(1, Ordering::SeqCst) / 4);
                seen.lock().unwrap().extend(breaker.take_transitions());
            }
            if number == 1 && turn % 500 == 0 {
                let config = BreakerConfig {
                    failure_threshold: Some(2 + u32::try_from(turn % 3).unwrap()),
                    ..rules()
                };
                breaker
                    .reconfigure(BreakerConfig { open_for: Duration::from_millis(3), ..config })
                    .unwrap();
            }
            if number == 2 && turn % 700 == 0 {
                breaker.force(if turn % 1400 == 0 { Force::Open } else { Force::Auto });
            }
            if let Ok(permit) = breaker.acquire() {
                match (turn + number) % 7 {
                    0 => drop(permit),
                    1..=3 => permit.ok(),
                    _ => permit.error(),
                }
            }
        }
    });
    let mut seen = seen.into_inner().unwrap();
    seen.extend(breaker.take_transitions());
    assert!(seen.len() > 3);
    for pair in seen.windows(2) {
        assert_eq!((pair[1].from, pair[1].generation), (pair[0].to, pair[0].generation + 1));
        assert!(pair[0].at_ms <= pair[1].at_ms);
    }
    // Not stuck, whatever happened.
    breaker.force(Force::Closed);
    breaker.force(Force::Auto);
    breaker.acquire().unwrap().ok();
}

#[test]
fn no_call_is_admitted_after_the_deciding_result() {
    for _ in 0..300 {
        let breaker =
            Breaker::new(BreakerConfig { failure_threshold: Some(1), ..rules() }, Ticks::manual());
        let decided = AtomicU32::new(0);
        together(|number| {
            if number == 0 {
                breaker.acquire().unwrap().error();
                decided.store(1, Ordering::SeqCst);
                return;
            }
            for _ in 0..200 {
                let after = decided.load(Ordering::SeqCst) == 1;
                match breaker.acquire() {
                    Ok(permit) => {
                        assert!(!after, "admitted after the deciding result");
                        permit.ok();
                    }
                    Err(_) => return,
                }
            }
        });
    }
}
