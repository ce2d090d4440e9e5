//! `provost logs` where the log files are: reads them itself, byte for byte, whether or not a
//! daemon runs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use crate::cli::arguments::LogsArguments;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::output::{Format, value_of};
use crate::daemon::registry;
use crate::protocol::command::{Answer, LogLines};
use crate::protocol::id::ChildName;
use crate::runtimes::keeper::history::{Chunk, History};

/// Time between two looks for new output.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The log of an agent, by its name or id, if this state folder has one.
pub(crate) fn log_file(state_dir: &Path, agent: &str) -> Option<PathBuf> {
    let of = |name: &ChildName| state_dir.join("logs").join(format!("{name}.log"));
    let by_name = agent.parse::<ChildName>().ok().map(|name| of(&name));
    if let Some(file) = by_name.filter(|file| file.is_file()) {
        return Some(file);
    }
    let name = registry::name_of(state_dir, agent)?;
    Some(of(&name)).filter(|file| file.is_file())
}

/// What to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Range {
    from: u64,
    to: u64,
}

/// Shows what was asked for of a log, and goes on if that was asked for.
///
/// # Errors
///
/// The log cannot be read, or standard output cannot be written.
pub(crate) async fn show(
    console: &mut Console,
    format: Format,
    arguments: &LogsArguments,
    (file, now): (&Path, Timestamp),
) -> Result<Exit, Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot read {}", file.display());
        let next = "check its permissions; it belongs to whoever runs the daemon";
        Failure::new(Fault::OutputFailed, message, next).caused_by(&error)
    };
    let mut history = History::open(file).map_err(failed)?;
    let range = range(&mut history, arguments, now).map_err(failed)?;
    let whole = format == Format::Json && !arguments.follow;
    let lines = whole.then(Vec::new);
    let agent = arguments.agent.as_str();
    let mut printer = Printer { console, format, agent, line: Vec::new(), lines };
    let mut at = range.from;
    let note = history.dropped(range.from, range.to);
    printer.lost(note);
    loop {
        let end = if arguments.follow { history.end() } else { range.to };
        while at < end {
            let Chunk { from, mut bytes } = history.read(at).map_err(failed)?;
            if bytes.is_empty() {
                break;
            }
            printer.lost(from.saturating_sub(at));
            let room = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
            bytes.truncate(room);
            at = from.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            printer.print(&bytes)?;
        }
        if !arguments.follow {
            printer.finish(at, history.dropped(range.from, range.to))?;
            return Ok(Exit::Done);
        }
        printer.console.flush()?;
        sleep(LOOK_EVERY).await;
        let before = history.end();
        history.refresh().map_err(failed)?;
        if history.end() < at {
            printer.console.warn("the log has become shorter by somebody's hand");
            at = history.begin();
        }
        printer.lost(history.dropped(before.saturating_add(1), history.end()));
    }
}

/// What of the output was asked for.
fn range(history: &mut History, arguments: &LogsArguments, now: Timestamp) -> io::Result<Range> {
    let mut range = Range { from: history.begin(), to: history.end() };
    if arguments.previous {
        let runs = history.runs();
        let mut last = runs.iter().rev();
        let present = last.next().map_or(range.to, |run| run.offset);
        // What stands before the first run that is known is the run before's.
        let before = last.next().map_or(range.from, |run| run.offset);
        range = Range { from: before.max(range.from), to: present.max(range.from) };
    }
    if let Some(since) = arguments.since {
        let time = since.before(now).as_millisecond();
        let from = history.since(u64::try_from(time).unwrap_or(0));
        range.from = range.from.max(from).min(range.to);
    }
    // Without a number all that was asked for by time or run is shown.
    let bounded = arguments.since.is_none() && !arguments.previous;
    let lines = arguments.lines.or(bounded.then_some(100));
    if let Some(lines) = lines {
        range.from = history.last_lines(u64::from(lines), range.from, range.to)?;
    }
    Ok(range)
}

/// Prints output as it is, or its lines as JSON.
struct Printer<'a> {
    console: &'a mut Console,
    format: Format,
    agent: &'a str,
    /// The beginning of a line, for JSON.
    line: Vec<u8>,
    /// All lines, where they make one document.
    lines: Option<Vec<String>>,
}

impl Printer<'_> {
    fn lost(&mut self, bytes: u64) {
        if 0 < bytes {
            self.console.warn(&format!("{bytes} bytes of the log were dropped or rotated away"));
        }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Name => self.console.raw_bytes(bytes),
            Format::Json | Format::Jsonl => self.print_lines(bytes),
        }
    }

    fn print_lines(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.line.pop();
                self.print_line()?;
            }
        }
        Ok(())
    }

    fn print_line(&mut self) -> Result<(), Failure> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(lines) = &mut self.lines {
            lines.push(line);
            return Ok(());
        }
        self.console.line(&json!({"agent": self.agent, "line": line}).to_string())
    }

    fn finish(&mut self, next: u64, lost_bytes: u64) -> Result<(), Failure> {
        if !self.line.is_empty() {
            self.print_line()?;
        }
        if let Some(lines) = self.lines.take() {
            let logs = LogLines { lines, next, lost_bytes };
            let document = value_of(&Answer { logs: Some(logs), ..Answer::done() })?;
            self.console.line(&serde_json::to_string_pretty(&document).unwrap_or_default())?;
        }
        self.console.flush()
    }
}
