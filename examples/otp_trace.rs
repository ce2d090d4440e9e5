//! Replays supervision scenarios on provost's supervisor and writes their traces, in the format of
//! `tests/oracle/README.md`: one JSON document a line, both ways; lines that begin with `#` are
//! comments. Erlang/OTP's own supervisor gives the same traces.
//!
//! `cargo run --example otp_trace [--concurrent | --actors] < scenarios.jsonl > traces.jsonl`
//!
//! Without a word the rules alone are run, in virtual time. `--concurrent` lets a start of one
//! child not hold back the others, as the daemon does. `--actors` runs the real supervisor actors
//! under paused time; `--expressible` writes the scenarios without what actors cannot be told.
//! `--generate COUNT SEED` writes random scenarios instead, `--left-out` what they leave out and
//! why.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use otp_world::{Fault, World, otp_actors};
use provost::logic::restart::Pace;
use serde_json::Value;

#[path = "support/otp_generator.rs"]
mod otp_generator;
#[path = "support/otp_world.rs"]
mod otp_world;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [] => replay(machines(Pace::OneAtATime)),
        ["--concurrent"] => replay(machines(Pace::Concurrent)),
        ["--actors"] => replay(otp_actors::run),
        ["--expressible"] => replay(|scenario| Ok(otp_actors::expressible(scenario).0)),
        ["--left-out"] => tell_left_out(),
        ["--generate", count, seed] => generate(count, seed),
        _ => Err("unknown arguments; the head of this example tells them".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "otp_trace: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs some instant to begin with")]
fn machines(pace: Pace) -> impl Fn(&Value) -> Result<Value, Fault> {
    let origin = std::time::Instant::now();
    move |scenario| World::run(scenario, pace, origin)
}

/// Reads scenarios and writes what becomes of each.
fn replay(run: impl Fn(&Value) -> Result<Value, Fault>) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let scenario: Value = serde_json::from_str(&line)?;
        let id = scenario.get("id").unwrap_or(&Value::Null);
        let trace = run(&scenario).map_err(|error| format!("{id}: {error}"))?;
        writeln!(out, "{trace}")?;
    }
    out.flush()?;
    Ok(())
}

fn generate(count: &str, seed: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (count, seed) = (count.parse()?, seed.parse()?);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for number in 0..count {
        writeln!(out, "{}", otp_generator::scenario(seed, number, count))?;
    }
    out.flush()?;
    Ok(())
}

fn tell_left_out() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    for (what, why) in otp_generator::OTP_FAULTS {
        writeln!(out, "everywhere, for a fault of OTP's own: {what}: {why}")?;
    }
    for (what, why) in otp_actors::LEFT_OUT {
        writeln!(out, "for actors: {what}: {why}")?;
    }
    Ok(())
}
