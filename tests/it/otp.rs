//! The supervisor machine against recorded traces of Erlang/OTP's own supervisor.
//!
//! `tests/oracle/README.md` tells where the traces come from and how fresh ones are compared.

use std::path::Path;
use std::time::Instant;

use provost::logic::restart::Pace;
use serde_json::Value;

#[path = "../../examples/support/otp_world.rs"]
mod otp_world;

use otp_world::World;

/// Scenarios, one a line; lines that are no JSON objects are comments.
fn read(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name);
    let text = std::fs::read_to_string(&path).expect("tests/oracle is part of the repository");
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("each line is one JSON document"))
        .collect()
}

fn run(scenario: &Value, pace: Pace) -> Value {
    World::run(scenario, pace, Instant::now()).expect("the scenario is complete")
}

/// Replays scenarios and compares the traces; tells the first differing step of each.
fn check(scenarios: &str, traces: &str, pace: Pace, wanted: impl Fn(&Value) -> bool) -> usize {
    let (scenarios, traces) = (read(scenarios), read(traces));
    assert_eq!(scenarios.len(), traces.len(), "each scenario has its trace");
    let mut faults = Vec::new();
    let mut compared = 0;
    for (scenario, expected) in scenarios.iter().zip(&traces) {
        assert_eq!(scenario["id"], expected["id"]);
        if !wanted(scenario) {
            continue;
        }
        compared += 1;
        let seen = run(scenario, pace);
        if seen != *expected {
            faults.push(difference(scenario, expected, &seen));
        }
    }
    assert!(faults.is_empty(), "{} of {compared} differ:\n{}", faults.len(), faults.join("\n"));
    compared
}

fn difference(scenario: &Value, expected: &Value, seen: &Value) -> String {
    let steps = |trace: &Value| {
        let mut all = vec![trace["start"].clone()];
        all.extend(trace["steps"].as_array().cloned().unwrap_or_default());
        all.push(trace["end"].clone());
        all
    };
    let (expected, seen) = (steps(expected), steps(seen));
    let first = expected.iter().zip(&seen).enumerate().find(|(_, (a, b))| a != b);
    let Some((at, (expected, seen))) = first else { return format!("{scenario}") };
    format!(
        "{}, step {at}:
  OTP {expected}
  we  {seen}
{scenario}",
        scenario["id"]
    )
}

#[test]
fn the_cases_of_otp_s_own_suite_give_otp_s_traces() {
    assert_eq!(check("cases.txt", "cases.traces.jsonl", Pace::OneAtATime, |_| true), 65);
}

#[test]
fn random_scenarios_give_otp_s_traces() {
    let compared = check("random.jsonl", "random.traces.jsonl", Pace::OneAtATime, |_| true);
    assert_eq!(compared, 360);
}

#[test]
fn where_one_child_fails_at_a_time_the_pace_makes_no_difference() {
    let single = |scenario: &Value| !scenario.to_string().contains("exit_many");
    check("cases.txt", "cases.traces.jsonl", Pace::Concurrent, single);
    let compared = check("random.jsonl", "random.traces.jsonl", Pace::Concurrent, single);
    assert!(100 < compared, "only {compared} scenarios have no simultaneous exits");
}

/// Whether one expectation `[field, value, …]` holds of one step's result.
fn holds(result: &Value, test: &[Value]) -> bool {
    let events: Vec<&Value> = result["ev"].as_array().unwrap().iter().collect();
    let tree = result["t"].as_str().unwrap();
    let (field, value, times) = match test {
        [field, value] => (field.as_str().unwrap(), value, 0),
        [field, value, times] => (field.as_str().unwrap(), value, times.as_u64().unwrap()),
        _ => return false,
    };
    match field {
        "r" | "t" => result[field] == *value,
        "tpre" => tree.starts_with(value.as_str().unwrap()),
        "tend" => tree.ends_with(value.as_str().unwrap()),
        "has" => events.contains(&value),
        "hasnot" => !events.contains(&value),
        "count" => events.iter().filter(|event| **event == value).count() as u64 == times,
        "order" => {
            let mut rest = events.iter();
            value.as_array().unwrap().iter().all(|event| rest.any(|seen| *seen == event))
        }
        _ => false,
    }
}

#[test]
fn what_otp_s_own_suite_expects_holds() {
    let mut held = 0;
    for case in read("cases.txt") {
        let trace = run(&case, Pace::OneAtATime);
        for expectation in case["expect"].as_array().unwrap() {
            let (at, test) = expectation.as_array().unwrap().split_first().unwrap();
            let result = match at.as_str() {
                Some(part) => &trace[part],
                None => &trace["steps"][usize::try_from(at.as_u64().unwrap()).unwrap()],
            };
            assert!(holds(result, test), "{} {expectation}: {result}", case["id"]);
            held += 1;
        }
    }
    assert_eq!(held, 214);
}
