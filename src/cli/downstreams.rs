//! Verbs about downstreams: list, show, call.

use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::cli::colors::{STRONG, of_circuit, of_state};
use crate::cli::downstream_arguments::{CallArguments, DownstreamVerb};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::{nearest, one_line};
use crate::cli::output::{Cell, Item, Page, Table, value_of};
use crate::cli::session::{Session, WAIT};
use crate::protocol::command::{ControlCommand, EmptyRequest};
use crate::protocol::downstream::{
    CallAnswer, CallError, CallErrorKind, CallRequest, CallSource, DownstreamStatus,
};
use crate::protocol::id::{ChildName, SubjectId};
use crate::protocol::status::{AgentState, CircuitState};
use crate::protocol::subject::Subject;

/// Wait for the answer to a call without a deadline.
const CALL_WAIT: Duration = Duration::from_secs(60);

/// Time that an answer has for its way, besides the deadline of the call.
const WAY: Duration = Duration::from_secs(2);

/// Does a verb.
///
/// # Errors
///
/// No answer came, the daemon refused, or the call failed.
pub(crate) async fn downstream(
    session: &mut Session<'_>,
    verb: DownstreamVerb,
) -> Result<Exit, Failure> {
    match verb {
        DownstreamVerb::List(_) => {
            let names = names(session).await?;
            let statuses = statuses(session, &names).await?;
            let page = page(&statuses, table(&statuses))?;
            page.print(&mut session.console, session.format)?;
            Ok(Exit::Done)
        }
        DownstreamVerb::Show(arguments) => {
            let known = names(session).await?;
            for name in &arguments.names {
                exists(name, &known)?;
            }
            let statuses = statuses(session, &arguments.names).await?;
            let exits: Vec<Exit> = statuses.iter().map(exit_of).collect();
            let page = page(&statuses, statuses.iter().flat_map(detail).collect())?;
            page.print(&mut session.console, session.format)?;
            Ok(Exit::together(&exits))
        }
        DownstreamVerb::Call(arguments) => call(session, *arguments).await,
    }
}

async fn call(session: &mut Session<'_>, arguments: CallArguments) -> Result<Exit, Failure> {
    let name = arguments.name.clone();
    exists(&name, &names(session).await?)?;
    let wait = arguments.deadline.map_or(CALL_WAIT, |deadline| deadline.saturating_add(WAY));
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let request = CallRequest {
        method: arguments.method,
        path: arguments.path,
        topic: arguments.topic,
        params: arguments.params.unwrap_or_default(),
        headers: arguments.header.into_iter().collect(),
        deadline_ms: arguments.deadline.map(millis),
        idempotency_key: arguments.key,
        ..CallRequest::new(arguments.op.into())
    };
    let subject = Subject::DownstreamCall(SubjectId::from(&name));
    let document = ask(session, subject, &value_of(&request)?, wait).await?;
    let answer =
        CallAnswer::deserialize(&document).map_err(|error| unreadable().caused_by(&error))?;
    match (answer.done, answer.error) {
        (Some(done), None) => {
            let plain = done.result.as_str().map(str::to_owned);
            let text = plain
                .unwrap_or_else(|| serde_json::to_string_pretty(&done.result).unwrap_or_default());
            let page = Page::single(name.as_str(), document, vec![text]);
            page.print(&mut session.console, session.format)?;
            if done.source != CallSource::Live {
                let age = Duration::from_millis(done.age_ms);
                let source = done.source.as_str();
                let note = format!("{name} did not answer; this is from {source}, age {age:?}");
                session.console.note(&note);
            }
            Ok(Exit::Done)
        }
        (_, Some(error)) => {
            if session.format != crate::cli::output::Format::Table {
                let page = Page::single(name.as_str(), document, Vec::new());
                page.print(&mut session.console, session.format)?;
            }
            Err(failed(&name, &error))
        }
        (None, None) => Err(unreadable()),
    }
}

fn failed(name: &ChildName, error: &CallError) -> Failure {
    let (exit, next) = match error.kind {
        CallErrorKind::InvalidRequest | CallErrorKind::Unsupported => {
            (Exit::Usage, "provost downstream call --help shows what can be asked".to_owned())
        }
        CallErrorKind::CircuitOpen | CallErrorKind::BulkheadFull | CallErrorKind::RateLimited => {
            let next = match error.retry_after_ms {
                Some(after) => format!("try again in {:?}", Duration::from_millis(after)),
                None => format!("provost downstream show {name} tells how it is"),
            };
            (Exit::Refused, next)
        }
        CallErrorKind::Timeout => {
            (Exit::TimedOut, "it may have been carried out; ask before you repeat it".to_owned())
        }
        CallErrorKind::RemoteError => (Exit::Bad, "the answer is the downstream's own".to_owned()),
        CallErrorKind::Unavailable => {
            (Exit::Unreachable, format!("provost downstream show {name} tells how it is"))
        }
    };
    let kind = error.kind.as_str();
    let message = format!("the call of {name} failed ({kind}): {}", one_line(&error.message));
    Failure { exit, ..Failure::new(Fault::CallFailed, message, next) }
}

/// Asks on a subject of one downstream.
async fn ask(
    session: &Session<'_>,
    subject: Subject,
    request: &Value,
    usual: Duration,
) -> Result<Value, Failure> {
    let wait = session.timeout.unwrap_or(usual);
    let bytes = session.client.request(subject, request.to_string().into_bytes(), wait).await?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable().caused_by(&error))
}

fn unreadable() -> Failure {
    let next = "check that daemon and command line have the same version";
    Failure::new(Fault::BadAnswer, "the daemon's answer cannot be read", next)
}

/// Names of all downstreams.
///
/// # Errors
///
/// The daemon does not answer.
pub(crate) async fn names(session: &Session<'_>) -> Result<Vec<ChildName>, Failure> {
    let answer = session.ask_system(&ControlCommand::Status(EmptyRequest {}), WAIT).await?;
    match (answer.system, &answer.error) {
        (_, Some(error)) => Err(error.into()),
        (Some(system), None) => Ok(system.downstreams.into_keys().collect()),
        (None, None) => Err(unreadable()),
    }
}

fn exists(name: &ChildName, known: &[ChildName]) -> Result<(), Failure> {
    if known.contains(name) {
        return Ok(());
    }
    let message = format!("no downstream {:?}", name.as_str());
    let failure = Failure::new(Fault::NoSuchDownstream, message, "provost downstream list");
    Err(match nearest(name.as_str(), known.iter().map(ChildName::as_str)) {
        Some(near) => failure.suggest(&format!("did you mean {near:?}?")),
        None => failure,
    })
}

/// How these downstreams are.
///
/// # Errors
///
/// One does not answer.
pub(crate) async fn statuses(
    session: &Session<'_>,
    names: &[ChildName],
) -> Result<Vec<DownstreamStatus>, Failure> {
    let mut statuses = Vec::new();
    for name in names {
        let subject = Subject::DownstreamStatus(SubjectId::from(name));
        let document = ask(session, subject, &json!({}), WAIT).await?;
        let status = DownstreamStatus::deserialize(&document);
        statuses.push(status.map_err(|error| unreadable().caused_by(&error))?);
    }
    Ok(statuses)
}

/// The exit code of `show`.
fn exit_of(status: &DownstreamStatus) -> Exit {
    match status.state {
        AgentState::Running => Exit::Done,
        AgentState::Starting
        | AgentState::Degraded
        | AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Probation
        | AgentState::Parked => Exit::Bad,
        AgentState::Created | AgentState::Stopped | AgentState::Terminated => Exit::Stopped,
    }
}

fn page(statuses: &[DownstreamStatus], text: Vec<String>) -> Result<Page, Failure> {
    let mut items = Vec::new();
    for status in statuses {
        items.push(Item { name: status.name.to_string(), value: value_of(status)? });
    }
    let document = json!({"ok": true, "downstreams": value_of(&statuses)?});
    Ok(Page { document, items, text })
}

fn table(statuses: &[DownstreamStatus]) -> Vec<String> {
    let headers =
        &["NAME", "TYPE", "STATE", "CIRCUIT", "TRIAL", "CALLS", "FAILED", "REFUSED", "HEALTH"];
    let mut table = Table::new(headers);
    for status in statuses {
        let circuit = status.circuit.state;
        table.row(vec![
            status.name.as_str().into(),
            status.kind.as_str().into(),
            Cell::styled(status.state.as_str(), of_state(status.state)),
            Cell::styled(circuit.as_str(), of_circuit(circuit)),
            trial(status).into(),
            status.counts.calls.to_string().into(),
            status.counts.failed.to_string().into(),
            status.counts.refused.to_string().into(),
            health(status).into(),
        ]);
    }
    table.lines()
}

/// One downstream as a block of lines.
fn detail(status: &DownstreamStatus) -> Vec<String> {
    let state = of_state(status.state);
    let mut lines = vec![format!(
        "{STRONG}{}{STRONG:#}  {state}{}{state:#} ({})",
        status.name, status.state, status.kind
    )];
    let mut line = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {label:<8} {}", one_line(&text)));
        }
    };
    let due = if status.circuit.state == CircuitState::Open {
        format!(", trial in {}", trial(status))
    } else {
        String::new()
    };
    line("circuit", format!("{}{due}", status.circuit.state));
    line("health", health(status));
    let counts = status.counts;
    line(
        "calls",
        format!(
            "{} ({} succeeded, {} failed, {} refused), {} under way",
            counts.calls, counts.succeeded, counts.failed, counts.refused, status.in_flight
        ),
    );
    line("besides", format!("{} repeated, {} from a fallback", counts.retries, counts.fallbacks));
    lines
}

fn trial(status: &DownstreamStatus) -> String {
    let after = status.circuit.retry_after_ms.map(Duration::from_millis);
    after.map(|after| format!("{after:?}")).unwrap_or_default()
}

fn health(status: &DownstreamStatus) -> String {
    let Some(health) = &status.health else { return "not checked yet".to_owned() };
    let verdict = value_of(&health.status).ok();
    let verdict = verdict.as_ref().and_then(Value::as_str).unwrap_or_default();
    let took = health.latency_ms.map(|took| format!(" in {took:.1}ms")).unwrap_or_default();
    let details = health.details.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    format!("{verdict}{took}{details}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::arguments::Arguments;
    use crate::cli::ask as ask_daemon;
    use crate::cli::testing::{Screen, Script, block_on, session};

    fn system() -> Value {
        json!({"ok": true, "system": {
            "node": "n", "version": "0.1.0", "pid": 1, "since": "2026-11-21T12:00:00Z",
            "mode": "running", "agents": {}, "agents_max": 10,
            "nats": {"state": "connected", "url": "u", "server_version": null, "embedded": false,
                "durability": "default", "error": null},
            "outbox": crate::protocol::command::OutboxStatus::default(), "http": null, "flags": {},
            "state_dir": "/s", "subject_prefix": "",
            "downstreams": {"backend": {"state": "open", "retry_after_ms": 4200}},
        }})
    }

    fn status() -> Value {
        json!({"ok": true, "name": "backend", "type": "http", "state": "quarantined",
            "circuit": {"state": "open", "retry_after_ms": 4200}, "in_flight": 2,
            "counts": {"calls": 9, "succeeded": 3, "failed": 5, "refused": 1, "retries": 4,
                "fallbacks": 0},
            "health": {"name": "backend", "status": "DOWN", "latency_ms": 1.25,
                "last_check": "2026-11-21T12:00:00Z", "details": "connection\nrefused"}})
    }

    fn typed(answers: Vec<Value>, line: &str) -> (Result<Exit, Failure>, Screen, Script) {
        let script = Script::of(answers);
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let (mut session, screen) = session(&script, arguments.common.output);
        let done = block_on(ask_daemon(&mut session, arguments.verb.unwrap()));
        (done, screen, script)
    }

    #[test]
    fn downstreams_are_a_table_and_a_block() {
        let (done, screen, _) = typed(vec![system(), status()], "provost downstream list");
        assert_eq!(done, Ok(Exit::Done));
        insta::assert_snapshot!("downstream_list", screen.out());
        let (done, screen, _) = typed(vec![system(), status()], "provost downstream show backend");
        assert_eq!(done, Ok(Exit::Bad));
        insta::assert_snapshot!("downstream_show", screen.out());
        let line = "provost downstream list -o json";
        let (_, screen, _) = typed(vec![system(), status()], line);
        let document: Value = serde_json::from_str(&screen.out()).unwrap();
        assert_eq!(document["downstreams"][0]["counts"]["calls"], 9);
    }

    #[test]
    fn a_call_is_sent_as_typed_and_its_answer_printed() {
        let answer = json!({"ok": true, "result": {"a": 1}, "source": "cache", "age_ms": 1500,
            "attempts": 0});
        let line = "provost downstream call backend -m GET -p /x --params {\"b\":2} --header k=v \
                    --deadline 3s --key k1";
        let (done, screen, script) = typed(vec![system(), answer], line);
        assert_eq!(done, Ok(Exit::Done));
        assert_eq!(screen.out(), "{\n  \"a\": 1\n}\n");
        assert!(screen.err().contains("from cache, age 1.5s"), "{}", screen.err());
        let sent = json!({"op": "request", "method": "GET", "path": "/x", "params": {"b": 2},
            "headers": {"k": "v"}, "deadline_ms": 3000, "idempotency_key": "k1"});
        assert_eq!(script.asked()[1], ("downstream.backend.call".to_owned(), sent));
        assert_eq!(script.waits()[1], Duration::from_secs(5));
    }

    #[test]
    fn a_failed_call_exits_by_its_kind() {
        let table = [
            ("invalid_request", 2),
            ("unsupported", 2),
            ("circuit_open", 6),
            ("bulkhead_full", 6),
            ("rate_limited", 6),
            ("timeout", 124),
            ("remote_error", 1),
            ("unavailable", 5),
        ];
        for (kind, code) in table {
            let error = json!({"kind": kind, "message": "no", "retry_after_ms": 4200});
            let answers = vec![system(), json!({"ok": false, "error": error})];
            let (done, screen, _) = typed(answers, "provost downstream call backend -o json");
            assert_eq!(done.unwrap_err().exit.code(), code, "{kind}");
            assert!(screen.out().contains(kind), "the document is printed all the same");
        }
    }

    #[test]
    fn a_misspelt_downstream_is_no_such_id() {
        let (done, _, _) = typed(vec![system()], "provost downstream call bakend");
        let failure = done.unwrap_err();
        assert_eq!(failure.exit.code(), 4);
        assert!(format!("{failure:?}").contains("backend"), "{failure:?}");
    }
}
