//! `provost circuit replay`: what recorded calls would have led to under other rules.
//!
//! The log is what a breaker saw, one JSON object a line, in the order of time:
//! `{"at_ms":N,"op":"acquire","id":"a","granted":true}`,
//! `{"at_ms":N,"op":"settle","id":"a","outcome":"ok|error|slow|throttled|ignored","retry_after_ms":N}`,
//! `{"at_ms":N,"op":"drop","id":"a"}`, `{"at_ms":N,"op":"force","to":"open|closed|auto"}`,
//! `{"at_ms":N,"op":"tick"}`. `granted` is true when absent; `draw` (0 to 1, 0.5 when absent) is
//! the chance that an open time was made from. No daemon is asked.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

use crate::cli::arguments::{Common, ReplayArguments};
use crate::cli::config_verbs::{load, warn};
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::output::{Item, Page, Table, refuse_names, value_of};
use crate::config::{Environment, Loaded};
use crate::logic::breaker::replay::{Entry, Op, Replay, replay as replayed};
use crate::logic::breaker::{BreakerConfig, Force, Outcome};
use crate::protocol::id::ChildName;

/// Largest log, in bytes.
const LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at_ms: u64,
    op: Word,
    id: Option<String>,
    granted: Option<bool>,
    outcome: Option<OutcomeWord>,
    retry_after_ms: Option<u64>,
    to: Option<ForceWord>,
    draw: Option<f64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Acquire,
    Settle,
    Drop,
    Force,
    Tick,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeWord {
    Ok,
    Error,
    Slow,
    Throttled,
    Ignored,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ForceWord {
    Open,
    Closed,
    Auto,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Shown {
    downstream: ChildName,
    calls: u64,
    rejected: u64,
    /// Rejected, and bad when they were made.
    spared: u64,
    /// Rejected, and good when they were made.
    lost: u64,
    /// Let through, and rejected then: what they would have come to is not known.
    unknown: u64,
    transitions: Vec<Change>,
}

#[derive(Debug, Serialize)]
struct Change {
    at_ms: u64,
    from: &'static str,
    to: &'static str,
    reason: &'static str,
    open_ms: Option<u64>,
}

/// Replays a log under the rules of a configuration.
///
/// # Errors
///
/// The configuration has faults, or the log cannot be read.
pub(crate) fn replay(
    console: &mut Console,
    common: &Common,
    arguments: &ReplayArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    refuse_names("a replay", common.output)?;
    let loaded = load(common, &arguments.config.files, environment)?;
    warn(console, &loaded);
    let (name, rules) = rules_of(&loaded, arguments.downstream.as_ref())?;
    let log = entries(&text_of(arguments)?)?;
    let shown = Shown::of(name, replayed(rules, &log));
    let mut items = Vec::new();
    for change in &shown.transitions {
        items.push(Item { name: change.to.to_owned(), value: value_of(change)? });
    }
    let text = lines_of(&shown);
    Page { document: value_of(&shown)?, items, text }.print(console, common.output)?;
    Ok(Exit::Done)
}

fn rules_of(
    loaded: &Loaded,
    wanted: Option<&ChildName>,
) -> Result<(ChildName, BreakerConfig), Failure> {
    let known = &loaded.config.downstreams;
    let names: Vec<&str> = known.keys().map(ChildName::as_str).collect();
    let next = match names.as_slice() {
        [] => "add the downstream whose rules are to be tried".to_owned(),
        names => format!("add --downstream with one of: {}", names.join(", ")),
    };
    let found = match wanted {
        Some(name) => known.get_key_value(name),
        None if known.len() == 1 => known.first_key_value(),
        None => None,
    };
    let found = found.map(|(name, one)| (name.clone(), one.resilience.breaker));
    found.ok_or_else(|| {
        let message = wanted.map_or_else(
            || format!("the configuration has {} downstreams; one is replayed", names.len()),
            |name| format!("the configuration has no downstream {name}"),
        );
        Failure::new(Fault::Usage, message, next)
    })
}

fn text_of(arguments: &ReplayArguments) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match &arguments.log {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(LOG_BYTES_MAX).read_to_string(&mut text)),
        None => std::io::stdin().lock().take(LOG_BYTES_MAX).read_to_string(&mut text),
    };
    let name = arguments
        .log
        .as_ref()
        .map_or("standard input".to_owned(), |path| path.display().to_string());
    read.map_err(|error| {
        let message = format!("the log of calls cannot be read from {name}");
        Failure::new(Fault::Usage, message, "name a readable file with --log").caused_by(&error)
    })?;
    Ok(text)
}

/// The entries of a log.
fn entries(text: &str) -> Result<Vec<Entry>, Failure> {
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    let mut log: Vec<Entry> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let last = log.last().map_or(0, |entry| entry.at_ms);
        let read = serde_json::from_str(line).map_err(|error| error.to_string());
        let entry = read.and_then(|line: Line| line.entry(&mut numbers, last));
        log.push(entry.map_err(|fault| {
            let message = format!("line {} of the log: {fault}", index + 1);
            Failure::new(Fault::Usage, message, "see `provost circuit replay --help`")
        })?);
    }
    Ok(log)
}

impl Line {
    fn entry(self, numbers: &mut BTreeMap<String, u64>, last: u64) -> Result<Entry, String> {
        if self.at_ms < last {
            return Err(format!("time goes back: at_ms is {} after {last}", self.at_ms));
        }
        let draw = self.draw.unwrap_or(0.5);
        if !(0.0..=1.0).contains(&draw) {
            return Err(format!("draw is {draw}; must be in 0..=1"));
        }
        let op = self.op(numbers)?;
        Ok(Entry { at_ms: self.at_ms, op, fraction: draw })
    }

    fn op(&self, numbers: &mut BTreeMap<String, u64>) -> Result<Op, String> {
        let id = || self.id.as_deref().ok_or("`id` is missing");
        match self.op {
            Word::Acquire => {
                let next = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
                if numbers.insert(id()?.to_owned(), next).is_some() {
                    return Err(format!("id {:?} was acquired before", id()?));
                }
                let granted = self.granted.unwrap_or(true);
                Ok(if granted { Op::Passed(next) } else { Op::Rejected(next) })
            }
            Word::Settle | Word::Drop => {
                let id = id()?;
                let unknown = || format!("id {id:?} was never acquired");
                let call = *numbers.get(id).ok_or_else(unknown)?;
                if matches!(self.op, Word::Drop) {
                    return Ok(Op::Released(call));
                }
                let outcome = match self.outcome.ok_or("`outcome` is missing")? {
                    OutcomeWord::Ok => Outcome::Ok,
                    OutcomeWord::Error => Outcome::Error,
                    OutcomeWord::Slow => Outcome::Slow,
                    OutcomeWord::Throttled => {
                        Outcome::Throttled { retry_after_ms: self.retry_after_ms }
                    }
                    OutcomeWord::Ignored => Outcome::Ignored,
                };
                Ok(Op::Settled(call, outcome))
            }
            Word::Force => Ok(Op::Forced(match self.to.ok_or("`to` is missing")? {
                ForceWord::Open => Force::Open,
                ForceWord::Closed => Force::Closed,
                ForceWord::Auto => Force::Auto,
            })),
            Word::Tick => Ok(Op::Tick),
        }
    }
}

impl Shown {
    fn of(downstream: ChildName, replay: Replay) -> Self {
        let Replay { transitions, calls, rejected, spared, lost, unknown } = replay;
        let change = |one: &crate::logic::breaker::Transition| Change {
            at_ms: one.at_ms,
            from: one.from.as_str(),
            to: one.to.as_str(),
            reason: one.cause.as_str(),
            open_ms: one.evidence.open_ms,
        };
        let transitions = transitions.iter().map(change).collect();
        Self { downstream, calls, rejected, spared, lost, unknown, transitions }
    }
}

fn lines_of(shown: &Shown) -> Vec<String> {
    let mut table = Table::new(&["AT_MS", "FROM", "TO", "REASON", "OPEN_MS"]);
    for change in &shown.transitions {
        let open = change.open_ms.map_or_else(String::new, |ms| ms.to_string());
        table.row(vec![
            change.at_ms.to_string().into(),
            change.from.into(),
            change.to.into(),
            change.reason.into(),
            open.into(),
        ]);
    }
    let mut lines = table.lines();
    lines.push(String::new());
    lines.push(format!(
        "{}: {} of {} calls would have been rejected: {} that were bad, {} that were good",
        shown.downstream, shown.rejected, shown.calls, shown.spared, shown.lost
    ));
    if 0 < shown.unknown {
        lines.push(format!(
            "{} more would have passed that were rejected then: how they would have ended is not known",
            shown.unknown
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let text = format!("{{\"at_ms\":5,\"op\":\"acquire\",\"id\":\"a\"}}\n\n{line}\n");
        entries(&text).unwrap_err().report.unwrap().message
    }

    #[test]
    fn a_faulty_log_is_refused_with_its_line() {
        for (line, fault) in [
            (r#"{"at_ms":4,"op":"tick"}"#, "time goes back"),
            (r#"{"at_ms":5,"op":"settle","id":"b","outcome":"ok"}"#, "was never acquired"),
            (r#"{"at_ms":5,"op":"settle","id":"a"}"#, "`outcome` is missing"),
            (r#"{"at_ms":5,"op":"acquire","id":"a"}"#, "was acquired before"),
            (r#"{"at_ms":5,"op":"acquire"}"#, "`id` is missing"),
            (r#"{"at_ms":5,"op":"tick","draw":2}"#, "draw is 2"),
            (r#"{"at_ms":5,"op":"sleep"}"#, "unknown variant"),
            ("no json", "expected"),
        ] {
            let text = refused(line);
            assert!(text.starts_with("line 3 of the log: ") && text.contains(fault), "{text}");
        }
    }

    #[test]
    fn a_log_becomes_entries() {
        let log = entries(
            "{\"at_ms\":1,\"op\":\"acquire\",\"id\":\"a\"}\n\
             {\"at_ms\":2,\"op\":\"acquire\",\"id\":\"b\",\"granted\":false,\"draw\":0.25}\n\
             {\"at_ms\":3,\"op\":\"settle\",\"id\":\"a\",\"outcome\":\"throttled\",\"retry_after_ms\":7}\n\
             {\"at_ms\":4,\"op\":\"force\",\"to\":\"open\"}\n",
        )
        .unwrap();
        let ops: Vec<Op> = log.iter().map(|entry| entry.op).collect();
        let throttled = Outcome::Throttled { retry_after_ms: Some(7) };
        let expected =
            [Op::Passed(0), Op::Rejected(1), Op::Settled(0, throttled), Op::Forced(Force::Open)];
        assert_eq!(ops, expected);
        assert!((log[1].fraction - 0.25).abs() < f64::EPSILON);
    }
}
