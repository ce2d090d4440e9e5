//! A caller that goes away, at every moment of a call: nothing stays behind.

use std::time::Duration;

use crate::adapters::call::tests::{Bench, fails, get, pass, plain, post, works};
use crate::config::Resilience;
use crate::logic::breaker::{BreakerConfig, Force};
use crate::ports::AttemptFate::{Failed, Unknown};
use crate::protocol::status::CircuitState;

/// Settings under which a call waits for its turn, for its first attempt, for a hedge beside it, for
/// a repetition, and for that.
fn waiting() -> Resilience {
    Resilience {
        max_concurrent: 1,
        max_wait: Duration::from_secs(1),
        hedge_after: Some(Duration::from_millis(40)),
        ..plain()
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_moment_frees_everything() {
    for after in 0..520 {
        let steps = [works(50), fails(60, Unknown), fails(30, Failed), works(80)];
        let bench = Bench::new(&waiting(), steps);
        let cut = async {
            // Behind the first call, which takes the only place.
            tokio::task::yield_now().await;
            tokio::time::timeout(Duration::from_millis(after), bench.path.call(get())).await.ok()
        };
        let (first, _) = tokio::join!(bench.path.call(get()), cut);
        assert!(first.is_ok());
        assert_eq!((bench.path.in_flight(), bench.path.bulkhead.waiting()), (0, 0), "{after}");
        assert_eq!(bench.running(), 0, "{after}");
        let errors = bench.path.breaker().snapshot().counts.errors;
        assert_eq!(errors, 0, "{after}: what was dropped or worked in the end is no failure");
        let next = tokio::time::timeout(Duration::from_secs(5), bench.path.call(get())).await;
        assert!(next.is_ok(), "{after}: the next call has its turn");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_dropped_at_any_moment_leaves_room_for_the_next() {
    let breaker = BreakerConfig {
        failure_threshold: Some(1),
        open_for: Duration::from_millis(100),
        half_open_probes: 1,
        success_threshold: 1,
        half_open_timeout: None,
        ..plain().breaker
    };
    for after in 0..60 {
        let settings = Resilience { breaker, ..waiting() };
        let bench = Bench::new(&settings, [fails(0, Failed), works(50)]);
        // One failing call opens it; its own repetition is not made.
        assert!(bench.path.call(post()).await.is_err());
        pass(110).await;
        let cut = bench.path.call(post());
        tokio::time::timeout(Duration::from_millis(after), cut).await.ok();
        let state = bench.path.breaker().snapshot().state.circuit();
        if state != CircuitState::Closed {
            assert_eq!(state, CircuitState::HalfOpen, "{after}");
            assert!(bench.path.call(post()).await.is_ok(), "{after}: the probe's place is free");
        }
        assert_eq!(bench.path.breaker().snapshot().state.circuit(), CircuitState::Closed);
        bench.path.breaker().force(Force::Auto);
    }
}
