//! What stands around the calls of a downstream, from the file to the checked types.

use std::num::NonZeroU32;
use std::time::Duration;

use provost::config::{Fallback, HealthCheck, RateLimit};
use serde_json::json;

use crate::config::Bench;

/// Two downstreams, the first with more keys.
fn file(more: &str) -> Bench {
    Bench::file(&format!(
        "[downstreams.b]\ntype = \"http\"\nendpoint = {{ address = \"http://h\" }}\n\
         [downstreams.a]\ntype = \"http\"\nendpoint = {{ address = \"http://h\" }}\n{more}\n"
    ))
}

#[test]
fn without_keys_there_is_no_limit_no_fallback_and_no_wait() {
    let loaded = file("").loaded();
    let downstream = &loaded.config.downstreams[&"a".parse().unwrap()];
    let resilience = &downstream.resilience;
    assert_eq!((resilience.max_waiting, resilience.max_wait), (100, Duration::ZERO));
    assert_eq!((resilience.rate_limit, resilience.hedge_after), (None, None));
    assert_eq!(resilience.fallback, Fallback::default());
    let timeout = Duration::from_secs(3);
    assert_eq!(downstream.health, HealthCheck { interval: None, timeout, failure_threshold: None });
}

#[test]
fn every_policy_can_be_written() {
    let loaded = file(
        r#"
health = { interval = "5s", timeout = "1s", failure_threshold = 2 }
[downstreams.a.resilience]
max_waiting = 7
max_wait = "250ms"
hedge_after = "50ms"
retry = { idempotent_methods = ["get_rate"] }
rate_limit = { calls = 10, period = "1s", burst = 3 }
fallback = { cache = "5m", downstream = "b", answer = '{"rate": 1}' }
"#,
    )
    .loaded();
    let downstream = &loaded.config.downstreams[&"a".parse().unwrap()];
    let resilience = &downstream.resilience;
    assert_eq!((resilience.max_waiting, resilience.max_wait.as_millis()), (7, 250));
    assert_eq!(resilience.hedge_after, Some(Duration::from_millis(50)));
    assert!(resilience.retry.idempotent_methods.contains("get_rate"));
    let burst = NonZeroU32::new(3).unwrap();
    let every = Duration::from_millis(100);
    assert_eq!(resilience.rate_limit, Some(RateLimit { every, burst }));
    let fallback = Fallback {
        cache: Some(Duration::from_secs(300)),
        downstream: Some("b".parse().unwrap()),
        answer: Some(json!({"rate": 1})),
    };
    assert_eq!(resilience.fallback, fallback);
    assert_eq!(downstream.health.interval, Some(Duration::from_secs(5)));
    assert_eq!(downstream.health.failure_threshold, Some(2));
}

#[test]
fn what_cannot_work_is_said_where_it_stands() {
    file("resilience = { rate_limit = { period = \"2s\" } }").faults(&[
        "a.toml:7:16: downstreams.a.resilience.rate_limit.calls: missing; a rate limit needs it",
    ]);
    file("resilience = { fallback = { downstream = \"a\" } }").faults(&[
        "a.toml:7:42: downstreams.a.resilience.fallback.downstream: is the downstream itself; name another one (value \"a\")",
    ]);
    file("resilience = { fallback = { downstream = \"bb\" } }").faults(&[
        "a.toml:7:42: downstreams.a.resilience.fallback.downstream: no downstream has this name (value \"bb\"; did you mean `b`?)",
    ]);
    file("resilience = { fallback = { answer = \"well\" } }").faults(&[
        "a.toml:7:38: downstreams.a.resilience.fallback.answer: is no JSON: expected value at line 1 column 1; a text stands in double quotes",
    ]);
    file("health = { interval = \"1ms\" }").faults(&[
        "a.toml:7:23: downstreams.a.health.interval: out of range (value \"1ms\"; allowed 100ms..=24h)",
    ]);
}
