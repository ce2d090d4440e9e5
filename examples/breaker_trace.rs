//! Runs the circuit breaker of downstreams over a trace in virtual time: JSON lines in, JSON lines
//! out. Blank lines and lines that begin with `#` are comments.
//!
//! `cargo run --example breaker_trace < trace.jsonl`
//!
//! First the rules, which get no answer; a key that is absent or null switches its condition off:
//!
//! ```json
//! {"config":{"failure_threshold":5,"error_percent":50,"slow_percent":80,"slow_ms":500,
//!  "request_volume":20,"window_ms":10000,"open_ms":5000,"open_max_ms":60000,"open_factor":2,
//!  "jitter":0,"half_open_probes":3,"success_threshold":2,"half_open_timeout_ms":10000}}
//! ```
//!
//! `window_calls` may stand for `window_ms`. Absent `request_volume`, `half_open_probes` and
//! `success_threshold` are 1, `open_ms` is 5000, `open_max_ms` a day, `open_factor` 1, `jitter` 0,
//! the window 10 s; without `half_open_timeout_ms` half-open waits for its probes for ever.
//!
//! Then operations, each with `at_ms`, which never goes back:
//!
//! ```json
//! {"at_ms":0,"op":"acquire","id":"a"}
//! {"at_ms":9,"op":"settle","id":"a","outcome":"throttled","retry_after_ms":3000}
//! {"at_ms":9,"op":"drop","id":"b"}
//! {"at_ms":9,"op":"force","to":"open"}
//! {"at_ms":9,"op":"tick"}
//! ```
//!
//! `outcome` is `ok`, `error`, `slow`, `throttled` or `ignored`; `to` is `open`, `closed` or `auto`.
//! Each operation is answered:
//!
//! ```json
//! {"granted":false,"state":"open","retry_after_ms":3000,"transitions":[
//!  {"from":"closed","to":"open","reason":"throttled"}]}
//! ```
//!
//! What fell due before an operation happens at its own time, first. `granted` is true for an
//! acquired permit alone. `retry_after_ms` is the rest of the open time; for a call that half-open
//! rejects, the time until its probes are given up. Settling or dropping an id whose acquire was
//! rejected changes nothing. A faulty operation changes nothing; its answer has an `error` besides,
//! and the exit code will be 2. Faulty rules are told on stderr, with exit code 2.
//!
//! With `jitter` above 0 an open time is `time × (1 − jitter × draw)`; the draws are the fractional
//! parts of 0.618033988749895 × 1, × 2, …, one for each opening.

use std::io::{BufRead, Write};
use std::process::ExitCode;

#[path = "support/breaker_words.rs"]
mod breaker_words;

use breaker_words::Trace;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            writeln!(std::io::stderr(), "breaker_trace: {error}").ok();
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let mut trace: Option<Trace> = None;
    let mut code = ExitCode::SUCCESS;
    for (index, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let place = |fault: String| format!("line {}: {fault}", index + 1);
        let Some(trace) = &mut trace else {
            trace = Some(Trace::begin(&line).map_err(place)?);
            continue;
        };
        let (answer, fault) = trace.answer(&line, place);
        if let Some(fault) = fault {
            writeln!(std::io::stderr(), "breaker_trace: {fault}").ok();
            code = ExitCode::from(2);
        }
        // Flushed each time, so that a partner who waits for the answer gets it.
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    match trace {
        Some(_) => Ok(code),
        None => Err("no line; the first is {\"config\":{…}}".into()),
    }
}
