//! Rules in words: strategy, restart type, limit, circuit, delays.

use crate::logic::explain::RuleTold;
use crate::logic::explain::words::{Say, span};
use crate::protocol::decision::DecisionRecord;
use crate::protocol::spec::{OnExceeded, RestartType, Strategy};

/// The rule of a record in words.
pub(super) fn told(record: &DecisionRecord) -> RuleTold {
    let rule = &record.rule;
    let say = Say(&record.inputs);
    let mut parts: Vec<String> = Vec::new();
    parts.extend(rule.strategy.map(strategy).map(str::to_owned));
    parts.extend(rule.restart.map(restart).map(str::to_owned));
    if let (Some(intensity), Some(period)) = (rule.intensity, rule.period_ms) {
        let over = rule.on_exceeded.map(|then| format!(", then {}", exceeded(then)));
        parts.push(format!(
            "at most {intensity} restarts in {}{}",
            span(period),
            over.unwrap_or_default()
        ));
    }
    if let (Some(initial), Some(factor)) =
        (say.known("backoff_initial_ms"), say.known("backoff_factor"))
    {
        parts.push(format!(
            "delay from {initial} ×{factor} up to {}, jitter {}",
            say.get("backoff_max_ms"),
            say.get("backoff_jitter")
        ));
    }
    parts.extend(rule.open_for_ms.map(|open| format!("circuit open for {}", span(open))));
    parts.extend(rule.stable_after_ms.map(|after| format!("stable after {}", span(after))));
    if rule.strategy.is_none() {
        parts.extend(calls(say));
    }
    RuleTold {
        text: parts.join(", "),
        origin: rule.origin.clone(),
        exit_rule: rule.exit_rule.clone(),
    }
}

/// The thresholds of a downstream's circuit.
pub(super) fn calls(say: Say<'_>) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(threshold) = say.known("failure_threshold") {
        parts.push(format!("at most {threshold} failed calls in a row"));
    }
    if let Some(percent) = say.known("error_percent") {
        let window = say
            .known("window_ms")
            .or_else(|| say.known("window_calls").map(|calls| format!("{calls} calls")));
        parts.push(format!(
            "at most {percent} % failed of at least {} calls within {}",
            say.get("request_volume"),
            window.unwrap_or_else(|| "?".to_owned())
        ));
    }
    if let Some(percent) = say.known("slow_percent") {
        parts.push(format!("at most {percent} % slower than {}", say.get("slow_call_ms")));
    }
    if let Some(successes) = say.known("success_threshold") {
        parts.push(format!("{successes} good probes close it"));
    }
    parts
}

pub(super) fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
        Strategy::SimpleOneForOne => "simple_one_for_one",
    }
}

fn restart(restart: RestartType) -> &'static str {
    match restart {
        RestartType::Permanent => "permanent",
        RestartType::Transient => "transient",
        RestartType::Temporary => "temporary",
    }
}

fn exceeded(then: OnExceeded) -> &'static str {
    match then {
        OnExceeded::Quarantine => "quarantine",
        OnExceeded::RestartSiblings => "its siblings are restarted with it",
        OnExceeded::Escalate => "its supervisor gives up",
        OnExceeded::StopTree => "the whole tree stops",
    }
}
