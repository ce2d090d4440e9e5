//! What answers in the downstream's place, and how it says so.

use std::time::Duration;

use serde_json::json;

use crate::adapters::call::tests::{Bench, Step, fails, get, pass, plain, post, works};
use crate::config::{Fallback, Resilience};
use crate::logic::breaker::Force;
use crate::ports::AttemptFate::{Failed, NotSent, Rejected, Unknown};
use crate::protocol::downstream::{CallErrorKind, CallOp, CallRequest, CallSource};

fn with(fallback: Fallback) -> Resilience {
    let mut settings = Resilience { fallback, ..plain() };
    settings.retry.max_attempts = 1;
    settings
}

fn cached() -> Fallback {
    Fallback { cache: Some(Duration::from_secs(60)), ..Fallback::default() }
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_stands_in_with_its_age_until_it_is_too_old() {
    let bench = Bench::new(&with(cached()), [works(0), fails(0, Failed)]);
    assert_eq!(bench.path.call(get()).await.unwrap().source, CallSource::Live);
    pass(1_500).await;
    let done = bench.path.call(get()).await.unwrap();
    assert_eq!((done.source, done.age_ms, done.attempts), (CallSource::Cache, 1_500, 0));
    assert_eq!(done.result, json!("well"));
    // Another request, and one that does something, have none.
    let other = CallRequest { path: Some("/other".to_owned()), ..get() };
    assert_eq!(bench.path.call(other).await.unwrap_err().kind, CallErrorKind::RemoteError);
    assert!(bench.path.call(post()).await.is_err());
    // An open circuit is answered from it, too.
    bench.path.breaker().force(Force::Open);
    assert_eq!(bench.path.call(get()).await.unwrap().source, CallSource::Cache);
    pass(60_000).await;
    assert_eq!(bench.path.call(get()).await.unwrap_err().kind, CallErrorKind::CircuitOpen);
    assert_eq!(bench.path.counts().fallbacks, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_answer_stands_for_requests_and_never_for_a_call_that_is_wrong() {
    let fixed = Fallback { answer: Some(json!({"rate": 1})), ..Fallback::default() };
    let bench = Bench::new(&with(fixed.clone()), [fails(0, Failed)]);
    let done = bench.path.call(post()).await.unwrap();
    assert_eq!((done.source, done.result), (CallSource::Fallback, json!({"rate": 1})));
    let publish = CallRequest::new(CallOp::Publish);
    assert_eq!(bench.path.call(publish).await.unwrap_err().kind, CallErrorKind::RemoteError);
    let unsupported = CallRequest::new(CallOp::Ack);
    assert_eq!(bench.path.call(unsupported).await.unwrap_err().kind, CallErrorKind::Unsupported);
    let bench = Bench::new(&with(fixed), [fails(0, Rejected)]);
    assert_eq!(bench.path.call(get()).await.unwrap_err().kind, CallErrorKind::RemoteError);
}

/// A call whose attempt here ends so is answered by another downstream, or not.
async fn elsewhere(call: CallRequest, here: Step, expected: Option<CallSource>) {
    let first = Bench::new(&with(Fallback::default()), [here.clone()]);
    let second = Bench::new(&with(Fallback::default()), [works(0)]);
    first.path.fall_back_to(&second.path);
    // Each in the other's place: neither asks on.
    second.path.fall_back_to(&first.path);
    let answer = first.path.call(call.clone()).await;
    let source = answer.ok().map(|done| done.source);
    assert_eq!(source, expected, "{call:?} {here:?}");
    assert_eq!(second.began().len(), usize::from(expected.is_some()));
    assert_eq!(second.path.counts().calls, u64::from(expected.is_some()));
}

#[tokio::test(start_paused = true)]
async fn another_downstream_takes_what_surely_was_not_done_here_or_does_no_harm_twice() {
    let fallback = Some(CallSource::Fallback);
    elsewhere(get(), fails(0, Unknown), fallback).await;
    elsewhere(get(), fails(0, NotSent), fallback).await;
    elsewhere(post(), fails(0, NotSent), fallback).await;
    elsewhere(post(), fails(0, Unknown), None).await;
    elsewhere(post(), fails(0, Failed), None).await;
    elsewhere(get(), fails(0, Rejected), None).await;
}

#[tokio::test(start_paused = true)]
async fn when_all_fall_the_first_error_is_told() {
    let first = Bench::new(&with(Fallback::default()), [fails(0, NotSent)]);
    let second = Bench::new(&with(Fallback::default()), [fails(0, Failed)]);
    first.path.fall_back_to(&second.path);
    let error = first.path.call(get()).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (CallErrorKind::Unavailable, "NotSent"));
    drop(second);
    assert_eq!(first.path.call(get()).await.unwrap_err().kind, CallErrorKind::Unavailable);
}
