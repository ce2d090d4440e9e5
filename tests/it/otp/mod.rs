//! The supervisor against Erlang/OTP's own: its rules alone (`World`), and the real actors under
//! paused time (`otp_actors`).
//!
//! Here the recorded traces are compared; `live` asks the real Erlang where it is installed,
//! `mutants` shows that a wrong rule would be noticed, `dynamic` has Elixir's list of behaviours.
//! `tests/oracle/README.md` tells where the traces come from.
//!
//! What is left out: OTP's own faults, [`otp_generator::OTP_FAULTS`], in all scenarios; what actors
//! cannot be told, [`otp_actors::LEFT_OUT`], in theirs. In the other direction nothing is: with
//! OTP's settings every trace is equal to the byte.

use std::path::Path;
use std::time::Instant;

use provost::logic::restart::Pace;
use serde_json::Value;

#[path = "../../../examples/support/otp_generator.rs"]
mod otp_generator;
#[path = "../../../examples/support/otp_world.rs"]
mod otp_world;

mod dynamic;
mod live;
mod mutants;
mod shrink;

use otp_world::{World, otp_actors};

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
fn check(name: &str, run: impl Fn(&Value) -> Value, wanted: impl Fn(&Value) -> bool) -> usize {
    let scenarios = match name {
        "cases" => read("cases.txt"),
        _ => read(&format!("{name}.jsonl")),
    };
    let traces = read(&format!("{name}.traces.jsonl"));
    assert_eq!(scenarios.len(), traces.len(), "each scenario has its trace");
    let mut faults = Vec::new();
    let mut compared = 0;
    for (scenario, expected) in scenarios.iter().zip(&traces) {
        assert_eq!(scenario["id"], expected["id"]);
        if !wanted(scenario) {
            continue;
        }
        compared += 1;
        let seen = run(scenario);
        if seen != *expected {
            faults.push(difference(scenario, expected, &seen));
        }
    }
    assert!(faults.is_empty(), "{} of {compared} differ:\n{}", faults.len(), faults.join("\n"));
    compared
}

fn machines(scenario: &Value) -> Value {
    run(scenario, Pace::OneAtATime)
}

fn actors(scenario: &Value) -> Value {
    otp_actors::run(scenario).expect("the scenario is complete")
}

fn told_to_actors(scenario: &Value) -> bool {
    let (_, changed) = otp_actors::expressible(scenario);
    !changed
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
    assert_eq!(check("cases", machines, |_| true), 65);
}

#[test]
fn random_scenarios_give_otp_s_traces() {
    assert_eq!(check("random", machines, |_| true), 300);
}

#[test]
fn real_actors_give_otp_s_traces_in_the_cases_of_otp_s_own_suite() {
    let left_out: Vec<String> = read("cases.txt")
        .iter()
        .filter(|case| !told_to_actors(case))
        .map(|case| case["id"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "02-sup_start_ignore_child",
        "03-sup_start_ignore_temporary_child",
        "05-sup_start_ignore_temporary_child_start_child_simple",
        "06-sup_start_ignore_permanent_child_start_child_simple",
        "23-sup_stop_race",
    ];
    assert_eq!(left_out, expected, "{:?}", otp_actors::LEFT_OUT);
    assert_eq!(check("cases", actors, told_to_actors), 60);
}

#[test]
fn real_actors_give_otp_s_traces_in_random_scenarios() {
    let compared = check("random", actors, told_to_actors);
    assert!(100 < compared, "only {compared} scenarios can be told to actors");
}

#[test]
fn where_one_child_fails_at_a_time_the_pace_makes_no_difference() {
    let single = |scenario: &Value| !scenario.to_string().contains("exit_many");
    let concurrent = |scenario: &Value| run(scenario, Pace::Concurrent);
    check("cases", concurrent, single);
    let compared = check("random", concurrent, single);
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

/// Asserts expectations `[step, field, value, …]` of a trace and returns how many there were.
fn assert_holds(trace: &Value, expectations: &Value) -> usize {
    let expectations = expectations.as_array().expect("a list of expectations");
    for expectation in expectations {
        let (at, test) = expectation.as_array().unwrap().split_first().unwrap();
        let result = match at.as_str() {
            Some(part) => &trace[part],
            None => &trace["steps"][usize::try_from(at.as_u64().unwrap()).unwrap()],
        };
        assert!(holds(result, test), "{} {expectation}: {result}", trace["id"]);
    }
    expectations.len()
}

#[test]
fn what_otp_s_own_suite_expects_holds() {
    let cases = read("cases.txt");
    let held: usize = cases.iter().map(|case| assert_holds(&machines(case), &case["expect"])).sum();
    assert_eq!(held, 214);
}
