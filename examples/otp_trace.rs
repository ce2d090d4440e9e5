//! Replays supervision scenarios on provost's supervisor and writes their traces, in the format of
//! `tests/oracle/README.md`: one JSON document a line, both ways; lines that begin with `#` are
//! comments. Erlang/OTP's own supervisor gives the same traces.
//!
//! `cargo run --example otp_trace [--concurrent] < scenarios.jsonl > traces.jsonl`
//!
//! `--concurrent` lets a start of one child not hold back the others, as the daemon does.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use provost::logic::restart::Pace;

#[path = "support/otp_world.rs"]
mod otp_world;

fn main() -> ExitCode {
    let pace = match std::env::args().nth(1).as_deref() {
        Some("--concurrent") => Pace::Concurrent,
        _ => Pace::OneAtATime,
    };
    match replay(pace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "otp_trace: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs some instant to begin with")]
fn replay(pace: Pace) -> Result<(), Box<dyn std::error::Error>> {
    let origin = std::time::Instant::now();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let trace = otp_world::World::run(&serde_json::from_str(&line)?, pace, origin)?;
        writeln!(out, "{trace}")?;
    }
    out.flush()?;
    Ok(())
}
