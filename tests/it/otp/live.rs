//! Random scenarios against the real Erlang, when `escript` is on PATH; the recorded traces have
//! been compared in any case.
//!
//! `PROVOST_ORACLE_SCENARIOS` says how many scenarios (2,000 by default, and a quarter of them
//! through the real actors), `PROVOST_ORACLE_SEED` which.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use provost::logic::restart::Pace;
use serde_json::Value;

use super::otp_world::{Fault, World, otp_actors};
use super::shrink::shrink;
use super::{difference, otp_generator, read};

/// Scenarios when nothing else is said.
const SCENARIOS: u64 = 2_000;

/// Differences told at most; each is shrunk, which takes a while.
const TOLD_MAX: usize = 3;

/// A running Erlang that answers each scenario with OTP's trace.
struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// `None` where no Erlang is installed; that is said on the terminal.
    fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/otp_oracle.escript");
        let begun = Command::new("escript")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = begun else {
            say("no `escript` on PATH (Debian: erlang-base): only recorded traces are compared");
            return None;
        };
        let (questions, answers) = (child.stdin.take()?, child.stdout.take()?);
        Some(Self { child, questions, answers: BufReader::new(answers) })
    }

    fn trace(&mut self, scenario: &Value) -> Value {
        writeln!(self.questions, "{scenario}").expect("Erlang runs");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("Erlang answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Writes past the test runner, which keeps what passing tests print.
fn say(text: &str) {
    writeln!(std::io::stderr(), "otp: {text}").ok();
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

fn machines(scenario: &Value) -> Result<Value, Fault> {
    World::run(scenario, Pace::OneAtATime, Instant::now())
}

/// Compares with OTP and panics with the shrunk differences.
fn compare(
    oracle: &mut Oracle,
    scenarios: impl Iterator<Item = Value>,
    run: impl Fn(&Value) -> Result<Value, Fault>,
) -> usize {
    let (mut compared, mut faults) = (0, Vec::new());
    for scenario in scenarios {
        compared += 1;
        let expected = oracle.trace(&scenario);
        assert!(
            expected.get("error").is_none(),
            "the oracle itself failed: {expected}\n{scenario}"
        );
        if run(&scenario).as_ref() == Ok(&expected) {
            continue;
        }
        faults.push(explain(oracle, &scenario, &run));
        if TOLD_MAX <= faults.len() {
            break;
        }
    }
    assert!(faults.is_empty(), "in {compared} scenarios:\n{}", faults.join("\n\n"));
    compared
}

fn explain(
    oracle: &mut Oracle,
    scenario: &Value,
    run: impl Fn(&Value) -> Result<Value, Fault>,
) -> String {
    let shrunk = shrink(scenario, |candidate| {
        let expected = oracle.trace(candidate);
        expected.get("error").is_none() && run(candidate).as_ref() != Ok(&expected)
    });
    let expected = oracle.trace(&shrunk);
    let (head, seen) = match run(&shrunk) {
        Ok(seen) => (difference(&shrunk, &expected, &seen), seen),
        Err(fault) => (fault, Value::Null),
    };
    format!(
        "{head}\n  shrunk from {}, which is g<seed>-<number>-<count>\n  OTP's trace {expected}\n  \
         our trace   {seen}",
        scenario["id"]
    )
}

fn random(count: u64) -> impl Iterator<Item = Value> {
    let seed = setting("PROVOST_ORACLE_SEED", 1);
    (0..count).map(move |number| otp_generator::scenario(seed, number, count))
}

#[test]
fn the_rules_do_as_the_real_erlang_does() {
    let Some(mut oracle) = Oracle::start() else { return };
    let cases = compare(&mut oracle, read("cases.txt").into_iter(), machines);
    let count = setting("PROVOST_ORACLE_SCENARIOS", SCENARIOS);
    let compared = compare(&mut oracle, random(count), machines);
    say(&format!("rules: {cases} cases and {compared} random scenarios equal to OTP's"));
}

#[test]
fn the_real_actors_do_as_the_real_erlang_does() {
    let Some(mut oracle) = Oracle::start() else { return };
    let plain = |scenario: Value| otp_actors::expressible(&scenario).0;
    let count = setting("PROVOST_ORACLE_SCENARIOS", SCENARIOS).div_ceil(4);
    let compared = compare(&mut oracle, random(count).map(plain), otp_actors::run);
    say(&format!("actors: {compared} random scenarios equal to OTP's"));
}

#[test]
fn a_difference_is_told_with_both_traces_shrunk() {
    let Some(mut oracle) = Oracle::start() else { return };
    // The wrong rule: no supervisor ever reports that a child has terminated.
    let wrong = |scenario: &Value| {
        let mut trace = machines(scenario)?;
        for step in trace["steps"].as_array_mut().into_iter().flatten() {
            let events = step["ev"].as_array_mut().expect("events");
            events.retain(|event| !event.to_string().contains("child_terminated"));
        }
        Ok(trace)
    };
    let scenario = (0..).map(|number| otp_generator::scenario(7, 900 + number, 1_000));
    let scenario = scenario
        .take(100)
        .find(|scenario| wrong(scenario) != machines(scenario))
        .expect("one of them shows it");
    let told = explain(&mut oracle, &scenario, wrong);
    assert!(told.contains("child_terminated") && told.contains("shrunk from \"g7-9"), "{told}");
    let first = told.lines().find(|line| line.starts_with('{')).expect("the shrunk scenario");
    assert!(first.len() < 400, "{first}");
}
