//! Deadline, rate limit, circuit, bulkhead, retry, timeout, hedge: each by itself.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;

use crate::adapters::call::tests::{
    Bench, Step, fails, get, keyed, pass, plain, post, throttles, within, works,
};
use crate::config::{RateLimit, Resilience};
use crate::logic::breaker::BreakerConfig;
use crate::ports::AttemptFate::{Failed, NotSent, Rejected, Unknown};
use crate::protocol::downstream::{CallErrorKind, CallOp, CallRequest, CallSource};
use crate::protocol::status::CircuitState;

/// Makes one call over a script; checks when attempts began and what came of it: the attempts of a
/// success, or the kind of an error.
async fn check(
    steps: Vec<Step>,
    call: CallRequest,
    expected: Result<u32, CallErrorKind>,
    began: &[u64],
) {
    let shown = format!("{steps:?} {call:?}");
    let bench = Bench::new(&plain(), steps);
    let answer = bench.path.call(call).await;
    let seen = answer.map(|done| done.attempts).map_err(|error| error.kind);
    assert_eq!(seen, expected, "{shown}");
    assert_eq!(bench.began(), began, "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_repeated_where_that_helps_and_does_no_harm() {
    use CallErrorKind::{RateLimited, RemoteError, Timeout};
    let thrice = || vec![fails(0, Failed)];
    check(vec![works(5)], get(), Ok(1), &[0]).await;
    check(vec![fails(0, Unknown), works(0)], get(), Ok(2), &[0, 100]).await;
    check(vec![fails(0, Unknown), works(0)], post(), Err(Timeout), &[0]).await;
    check(vec![fails(0, Unknown), works(0)], keyed(post()), Ok(2), &[0, 100]).await;
    check(vec![fails(0, Failed), works(0)], post(), Err(RemoteError), &[0]).await;
    check(vec![fails(0, NotSent), works(0)], post(), Ok(2), &[0, 100]).await;
    check(vec![fails(0, Rejected), works(0)], get(), Err(RemoteError), &[0]).await;
    check(thrice(), get(), Err(RemoteError), &[0, 100, 300]).await;
    // What the downstream names is waited for, and then the draw.
    check(vec![throttles(2_000), works(0)], post(), Ok(2), &[0, 3_000]).await;
    check(vec![throttles(31_000), works(0)], post(), Err(RateLimited), &[0]).await;
    // Never past the deadline.
    check(thrice(), within(get(), 101), Err(RemoteError), &[0, 100]).await;
    check(thrice(), within(get(), 100), Err(RemoteError), &[0]).await;
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_the_repetitions_of_all_calls_together() {
    let bench = Bench::new(&plain(), [fails(0, Failed)]);
    let calls = join_all((0..100).map(|_| bench.path.call(get()))).await;
    assert!(calls.iter().all(Result::is_err));
    // Ten from the start, a fifth of the calls, and a little for the time that passed.
    let repeated = bench.path.counts().retries;
    assert!((28..=32).contains(&repeated), "{repeated}");
    assert_eq!(bench.began().len() as u64, 100 + repeated);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_time_and_a_call_at_its_deadline() {
    let bench = Bench::new(&plain(), [works(10_000)]);
    let error = bench.path.call(post()).await.unwrap_err();
    assert_eq!((error.kind, bench.now()), (CallErrorKind::Timeout, 1_000));
    let error = bench.path.call(within(get(), 1_500)).await.unwrap_err();
    assert_eq!((error.kind, bench.now()), (CallErrorKind::Timeout, 2_500));
    assert_eq!(bench.began(), [0, 1_000, 2_100]);
    let error = bench.path.call(within(get(), 0)).await.unwrap_err();
    assert_eq!((error.kind, bench.began().len()), (CallErrorKind::Timeout, 3));
    assert!(error.message.contains("before anything was sent"), "{error}");
    let error = bench.path.call(within(get(), 3_600_001)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::InvalidRequest);
}

fn tripping(failures: u32) -> Resilience {
    let breaker = BreakerConfig {
        failure_threshold: Some(failures),
        open_for: Duration::from_secs(5),
        success_threshold: 1,
        half_open_probes: 1,
        ..plain().breaker
    };
    Resilience { breaker, ..plain() }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_answers_at_once_with_the_time_until_its_trial() {
    let bench = Bench::new(&tripping(2), [fails(0, Rejected), fails(0, Failed)]);
    for _ in 0..3 {
        bench.path.call(post()).await.unwrap_err();
    }
    pass(1_000).await;
    let before = bench.now();
    let error = bench.path.call(post()).await.unwrap_err();
    assert_eq!((error.kind, bench.now()), (CallErrorKind::CircuitOpen, before));
    let wait = error.retry_after_ms.unwrap();
    assert!((3_990..=4_010).contains(&wait), "{wait}");
    assert_eq!(bench.began().len(), 3, "nothing was sent");
    assert_eq!(bench.path.counts().refused, 1);
    // After that time one call is its trial.
    pass(wait + 1).await;
    let error = bench.path.call(post()).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::RemoteError);
    assert_eq!(bench.path.call(post()).await.unwrap_err().kind, CallErrorKind::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn a_call_counts_once_for_the_circuit_and_is_not_repeated_into_an_open_one() {
    let bench = Bench::new(&tripping(2), [fails(0, Failed)]);
    let (first, second) = tokio::join!(bench.path.call(get()), bench.path.call(get()));
    assert!(first.is_err() && second.is_err());
    // Three attempts of the first; the second ended in the same moment, its circuit still closed.
    assert_eq!(bench.path.breaker().snapshot().state.circuit(), CircuitState::Open);
    let bench = Bench::new(&tripping(2), [fails(0, Failed)]);
    let repeated = bench.path.call(get());
    let others = async {
        pass(50).await;
        for _ in 0..2 {
            bench.path.call(post()).await.unwrap_err();
        }
    };
    let (answer, ()) = tokio::join!(repeated, others);
    assert!(answer.is_err());
    // The second attempt at 100 was due already; after it none follows.
    assert_eq!(bench.began(), [0, 50, 50, 100]);
}

#[tokio::test(start_paused = true)]
async fn what_we_refuse_ourselves_is_no_failure_of_the_downstream() {
    use CallErrorKind::{BulkheadFull, InvalidRequest, Timeout, Unsupported};
    let rate_limit =
        Some(RateLimit { every: Duration::from_secs(3_600), burst: NonZeroU32::new(20).unwrap() });
    let settings = Resilience { max_concurrent: 1, rate_limit, ..tripping(1) };
    let bench = Bench::new(&settings, [works(5_000), works(0)]);
    let kinds = async {
        pass(1).await;
        let mut kinds = Vec::new();
        for call in
            [post(), within(post(), 0), CallRequest::new(CallOp::Ack), within(post(), 9_999_999)]
        {
            let calls = join_all((0..5).map(|_| bench.path.call(call.clone()))).await;
            kinds.extend(calls.into_iter().map(|call| call.unwrap_err().kind));
        }
        kinds
    };
    let settings_timeout = bench.path.call(within(post(), 400));
    let (first, kinds) = tokio::join!(settings_timeout, kinds);
    assert_eq!(first.unwrap_err().kind, Timeout, "its caller had less than half");
    let expected: Vec<CallErrorKind> = [BulkheadFull, Timeout, Unsupported, InvalidRequest]
        .into_iter()
        .flat_map(|kind| [kind; 5])
        .collect();
    assert_eq!(kinds, expected);
    bench.path.disconnected();
    for _ in 0..5 {
        let error = bench.path.call(post()).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Unavailable);
    }
    let limited = join_all((0..20).map(|_| bench.path.call(post()))).await;
    let limited = limited.into_iter().filter_map(Result::err);
    let limited: Vec<_> =
        limited.filter(|error| error.kind == CallErrorKind::RateLimited).collect();
    assert_eq!(limited.len(), 11);
    assert!(limited.iter().all(|error| error.retry_after_ms > Some(3_000_000)));
    let snapshot = bench.path.breaker().snapshot();
    assert_eq!(snapshot.state.circuit(), CircuitState::Closed);
    assert_eq!((snapshot.counts.calls, snapshot.counts.errors), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_its_turn_as_long_as_it_may() {
    let settings = Resilience {
        max_concurrent: 1,
        max_waiting: 1,
        max_wait: Duration::from_millis(300),
        ..plain()
    };
    let bench = Bench::new(&settings, [works(200), works(500), works(0)]);
    let calls = join_all((0..3).map(|_| bench.path.call(post()))).await;
    let kinds: Vec<_> =
        calls.iter().map(|call| call.as_ref().err().map(|error| error.kind)).collect();
    assert_eq!(kinds, [None, None, Some(CallErrorKind::BulkheadFull)]);
    assert_eq!(bench.began(), [0, 200]);
    assert_eq!((bench.path.in_flight(), bench.path.counts().refused), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_overtakes_a_slow_attempt_of_a_harmless_call_only() {
    let settings = Resilience { hedge_after: Some(Duration::from_millis(50)), ..plain() };
    let slow = || [works(800), works(10)];
    let bench = Bench::new(&settings, slow());
    let done = bench.path.call(get()).await.unwrap();
    assert_eq!((done.attempts, bench.now(), bench.running()), (2, 60, 0));
    assert_eq!(done.source, CallSource::Live);
    let bench = Bench::new(&settings, slow());
    let done = bench.path.call(post()).await.unwrap();
    assert_eq!((done.attempts, bench.now()), (1, 800));
    // The first to succeed counts, whichever fails before.
    let bench = Bench::new(&settings, [works(100), fails(10, Failed)]);
    assert_eq!(bench.path.call(get()).await.unwrap().attempts, 2);
    assert_eq!(bench.now(), 100);
    // Without budget there is no second attempt.
    let bench = Bench::new(&settings, [works(200)]);
    let calls = join_all((0..100).map(|_| bench.path.call(get()))).await;
    let hedged = calls.iter().filter(|call| call.as_ref().is_ok_and(|done| done.attempts == 2));
    assert!((28..=32).contains(&hedged.count()));
    let errors = bench.path.breaker().snapshot().counts.errors;
    assert_eq!(errors, 0, "one that was overtaken has not failed");
}
