//! `provost logs`: what an agent wrote, as it wrote it.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::cli::agents::refused;
use crate::cli::arguments::LogsArguments;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::output::{Format, refuse_names, value_of};
use crate::cli::session::{Session, WAIT};
use crate::protocol::command::{AgentCommand, Answer, LogLines, LogsRequest};

/// Lines from the end when nobody says how many.
const LINES: u32 = 100;

/// Time between two questions for new lines.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// Shows the end of an agent's log, and goes on if that was asked for.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn logs(
    session: &mut Session<'_>,
    arguments: &LogsArguments,
) -> Result<Exit, Failure> {
    refuse_names("a log", session.format)?;
    let mut request = LogsRequest {
        agent: arguments.agent.clone(),
        lines: arguments.lines.or(Some(LINES)),
        after: None,
    };
    loop {
        let answer = session.ask_agent(&AgentCommand::Logs(request.clone()), WAIT).await?;
        let Some(lines) = &answer.logs else { return refusal(session, answer, arguments).await };
        show(session, &answer, lines, arguments)?;
        if !arguments.follow {
            return Ok(Exit::Done);
        }
        request = LogsRequest { lines: None, after: Some(lines.next), ..request };
        if lines.lines.is_empty() {
            sleep(ASK_EVERY).await;
        }
    }
}

async fn refusal(
    session: &mut Session<'_>,
    answer: Answer,
    arguments: &LogsArguments,
) -> Result<Exit, Failure> {
    let failure = match &answer.error {
        Some(error) => session.refusal(error, &arguments.agent).await,
        None => {
            let next = "check that daemon and command line have the same version";
            Failure::new(Fault::BadAnswer, "the daemon's answer holds no log", next)
        }
    };
    refused(session, &answer, failure)
}

fn show(
    session: &mut Session<'_>,
    answer: &Answer,
    lines: &LogLines,
    arguments: &LogsArguments,
) -> Result<(), Failure> {
    if 0 < lines.lost_bytes {
        let text = format!("{} bytes of the log were rotated away", lines.lost_bytes);
        session.console.warn(&text);
    }
    match session.format {
        Format::Json if !arguments.follow => {
            let document = value_of(answer)?;
            let text = serde_json::to_string_pretty(&document).unwrap_or_default();
            session.console.line(&text)?;
        }
        Format::Json | Format::Jsonl => {
            for line in &lines.lines {
                let document = json!({"agent": arguments.agent, "line": line});
                session.console.line(&document.to_string())?;
            }
        }
        Format::Table | Format::Name => {
            for line in &lines.lines {
                session.console.raw_line(line)?;
            }
        }
    }
    session.console.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Script, block_on, session};

    fn arguments() -> LogsArguments {
        LogsArguments {
            files: Vec::new(),
            agent: "w1".to_owned(),
            follow: false,
            previous: false,
            since: None,
            lines: Some(2),
        }
    }

    fn answer(lines: &[&str], next: u64, lost_bytes: u64) -> serde_json::Value {
        json!({"ok": true, "logs": {"lines": lines, "next": next, "lost_bytes": lost_bytes}})
    }

    #[test]
    fn the_end_of_a_log_is_printed_as_it_is() {
        let script = Script::of([answer(&["a", "  b"], 6, 0)]);
        let (mut session, screen) = session(&script, Format::Table);
        assert_eq!(block_on(logs(&mut session, &arguments())), Ok(Exit::Done));
        assert_eq!(screen.out(), "a\n  b\n");
        let command = json!({"command": "logs", "agent": "w1", "lines": 2});
        assert_eq!(script.asked(), [("agent.command".to_owned(), command)]);
    }

    #[test]
    fn following_reads_on_from_the_last_position_until_the_agent_is_gone() {
        let gone = json!({"ok": false, "error": {"code": "PV0103", "kind": "unknown_agent",
            "message": "no agent named \"w1\"", "hint": "did you mean nothing"}});
        let script =
            Script::of([answer(&["a"], 2, 0), answer(&[], 2, 0), answer(&["b"], 9, 5), gone]);
        let (mut session, screen) = session(&script, Format::Table);
        let failure = block_on(logs(&mut session, &LogsArguments { follow: true, ..arguments() }))
            .unwrap_err();
        assert_eq!(failure.exit, Exit::NoSuchId);
        assert_eq!(screen.out(), "a\nb\n");
        assert_eq!(screen.err(), "warning: 5 bytes of the log were rotated away\n");
        let asked = script.asked();
        let after: Vec<_> = asked.iter().map(|(_, command)| command["after"].as_u64()).collect();
        assert_eq!(after, [None, Some(2), Some(2), Some(9)]);
    }

    #[test]
    fn lines_can_be_had_as_json() {
        let script = Script::of([answer(&["a"], 2, 0)]);
        let (mut session, screen) = session(&script, Format::Jsonl);
        block_on(logs(&mut session, &arguments())).unwrap();
        assert_eq!(screen.out(), "{\"agent\":\"w1\",\"line\":\"a\"}\n");
    }

    #[test]
    fn a_log_has_no_names() {
        let script = Script::default();
        let (mut session, _) = session(&script, Format::Name);
        let failure = block_on(logs(&mut session, &arguments())).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
