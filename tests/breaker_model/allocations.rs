//! A call through the breaker allocates nothing, whatever it comes to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use provost::adapters::breaker::{Breaker, Ticks};
use provost::logic::breaker::{BreakerConfig, Outcome, Window};

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

/// The system's allocator; counts for each thread.
struct Counting;

// SAFETY: everything is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.try_with(|count| count.set(count.get() + 1)).ok();
        // SAFETY: as asked by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as asked by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn check(name: &str, calls: impl FnOnce()) {
    let before = COUNT.with(Cell::get);
    calls();
    assert_eq!(COUNT.with(Cell::get) - before, 0, "{name}");
}

#[test]
fn a_call_allocates_nothing() {
    for window in [Window::Time(Duration::from_secs(10)), Window::Calls(1000)] {
        let ticks = Ticks::manual();
        let breaker = Breaker::new(
            BreakerConfig {
                failure_threshold: Some(10),
                error_percent: Some(90.0),
                slow_percent: Some(90.0),
                slow_call: Some(Duration::from_secs(1)),
                window,
                half_open_probes: 1,
                ..BreakerConfig::default()
            },
            ticks.clone(),
        );
        let outcomes = [
            Outcome::Ok,
            Outcome::Error,
            Outcome::Slow,
            Outcome::Ignored,
            Outcome::Throttled { retry_after_ms: None },
        ];
        check("closed", || {
            for number in 0..10_000 {
                ticks.set_ms(number);
                for outcome in outcomes {
                    breaker.acquire().unwrap().settle(outcome);
                }
                drop(breaker.acquire().unwrap());
            }
        });
        (0..10).for_each(|_| breaker.acquire().unwrap().error());
        check("open", || (0..10_000).for_each(|_| assert!(breaker.acquire().is_err())));
        ticks.set_ms(20_000);
        breaker.advance();
        check("half-open", || {
            let probe = breaker.acquire().unwrap();
            (0..10_000).for_each(|_| assert!(breaker.acquire().is_err()));
            drop(probe);
        });
    }
}
