//! The rules of a downstream's circuit breaker, from the file to what the breaker takes.

use std::time::Duration;

use provost::logic::breaker::{BreakerConfig, Mode, Window};

use crate::config::Bench;

/// What a breaker is told by these keys of `circuit_breaker`.
fn rules(keys: &str) -> BreakerConfig {
    let text = format!(
        "[downstreams.d]\ntype = \"http\"\nendpoint = {{ address = \"http://h\" }}\n\
         [downstreams.d.resilience.circuit_breaker]\n{keys}\n"
    );
    let loaded = Bench::file(&text).loaded();
    let downstream = loaded.config.downstreams.values().next().unwrap();
    downstream.resilience.breaker
}

#[test]
fn without_keys_it_has_the_breakers_own_defaults() {
    assert_eq!(rules(""), BreakerConfig::default());
    assert_eq!(rules("").check(), Ok(()));
}

#[test]
fn every_rule_can_be_written() {
    let keys = r#"
mode = "metrics_only"
failure_threshold = 0
error_percent = 0
slow_percent = 80
slow_call_duration = "2s"
request_volume = 7
window_calls = 50
open_for = "10m"
open_factor = 1.5
jitter = 0.0
half_open_probes = 4
success_threshold = 5
half_open_timeout = "30s"
"#;
    let expected = BreakerConfig {
        mode: Mode::MetricsOnly,
        failure_threshold: None,
        error_percent: None,
        slow_percent: Some(80.0),
        slow_call: Some(Duration::from_secs(2)),
        request_volume: 7,
        window: Window::Calls(50),
        open_for: Duration::from_secs(600),
        open_max: Duration::from_secs(600),
        open_factor: 1.5,
        jitter: 0.0,
        half_open_probes: 4,
        success_threshold: 5,
        half_open_timeout: Some(Duration::from_secs(30)),
    };
    assert_eq!(rules(keys), expected);
    assert_eq!(rules(keys).check(), Ok(()));
}

#[test]
fn rules_that_contradict_each_other_are_told() {
    let text = r#"[downstreams.d]
type = "http"
endpoint = { address = "http://h" }
[downstreams.d.resilience.circuit_breaker]
slow_percent = 80
window = "1s"
window_calls = 5
open_for = "2s"
open_max = "1s"
"#;
    Bench::new(&[("a.toml", text)]).faults(&[
        "a.toml:4:35: downstreams.d.resilience.circuit_breaker.slow_call_duration: missing; slow_percent needs it",
        "a.toml:7:16: downstreams.d.resilience.circuit_breaker.window_calls: window is set as well; remove one of them",
        "a.toml:9:12: downstreams.d.resilience.circuit_breaker.open_max: is smaller than open_for \"2s\" (value \"1s\")",
    ]);
}
