//! Makes a scenario smaller as long as it still shows what it showed: greedy, one change at a time.

use serde_json::Value;

/// Scenarios tried at most; a shrunk scenario is for reading, not for proof.
const TRIES_MAX: usize = 3_000;

/// Keys without which a child still means something.
const OPTIONAL: &[&str] =
    &["starts", "on_stop", "shutdown", "significant", "auto_shutdown", "restart", "period"];

/// The smallest scenario found that still `shows` it.
pub(super) fn shrink(scenario: &Value, mut shows: impl FnMut(&Value) -> bool) -> Value {
    let mut best = scenario.clone();
    let mut tries = 0;
    'smaller: loop {
        for candidate in candidates(&best) {
            tries += 1;
            if TRIES_MAX < tries {
                return best;
            }
            if shows(&candidate) {
                best = candidate;
                continue 'smaller;
            }
        }
        return best;
    }
}

/// All scenarios that are one change smaller, the boldest changes first.
fn candidates(scenario: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    let steps = scenario["steps"].as_array().cloned().unwrap_or_default();
    if 1 < steps.len() {
        let mut half = scenario.clone();
        half["steps"] = Value::Array(steps[..steps.len() / 2].to_vec());
        all.push(half);
    }
    for at in (0..steps.len()).rev() {
        let mut less = steps.clone();
        less.remove(at);
        let mut candidate = scenario.clone();
        candidate["steps"] = Value::Array(less);
        all.push(candidate);
    }
    for part in ["tree", "steps"] {
        for smaller in smaller(&scenario[part]) {
            let mut candidate = scenario.clone();
            candidate[part] = smaller;
            all.push(candidate);
        }
    }
    all
}

/// All values that are one child, one exit, one key or one letter of a plan smaller.
fn smaller(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    if let Some(items) = value.as_array() {
        for (at, item) in items.iter().enumerate() {
            for less in smaller(item) {
                let mut items = items.clone();
                items[at] = less;
                all.push(Value::Array(items));
            }
        }
    }
    let Some(fields) = value.as_object() else { return all };
    for list in ["children", "exits"] {
        let items = value[list].as_array().cloned().unwrap_or_default();
        for at in (0..items.len()).rev() {
            let mut less = items.clone();
            less.remove(at);
            if list == "exits" && less.is_empty() {
                continue;
            }
            let mut candidate = value.clone();
            candidate[list] = Value::Array(less);
            all.push(candidate);
        }
    }
    for key in OPTIONAL.iter().filter(|key| fields.contains_key(**key)) {
        let mut less = fields.clone();
        less.shift_remove(*key);
        all.push(Value::Object(less));
    }
    let plan = value["starts"].as_str().unwrap_or_default();
    if let Some(shorter) = plan.get(..plan.len().saturating_sub(1)).filter(|plan| !plan.is_empty())
    {
        let mut candidate = value.clone();
        candidate["starts"] = Value::from(shorter);
        all.push(candidate);
    }
    for (key, inner) in fields {
        for less in smaller(inner) {
            let mut candidate = value.clone();
            candidate[key] = less;
            all.push(candidate);
        }
    }
    all
}

#[test]
fn a_scenario_shrinks_to_what_shows_the_difference() {
    let scenario = super::otp_generator::scenario(3, 990, 1_000);
    // Any exit of a worker that exists stands for a difference.
    let shows = |candidate: &Value| {
        let trace = super::otp_world::World::run(
            candidate,
            provost::logic::restart::Pace::OneAtATime,
            std::time::Instant::now(),
        );
        trace.is_ok_and(|trace| trace["steps"].to_string().contains("\"stop w"))
    };
    assert!(shows(&scenario));
    let shrunk = shrink(&scenario, shows);
    assert!(shows(&shrunk));
    assert_eq!(shrunk["steps"].as_array().unwrap().len(), 1, "{shrunk}");
    assert!(shrunk.to_string().len() < 300, "{shrunk}");
}
