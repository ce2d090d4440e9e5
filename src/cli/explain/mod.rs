//! `provost explain`: why something is as it is. Gathers what the explanation is made of (stored
//! events, the records of a task, the schema and files of the configuration, the pages of errors)
//! and shows it in five parts.
//!
//! The cause comes from records alone. The daemon is asked only whether it is there, so that what was
//! stored last is not taken for the present, and for the last lines that an agent wrote.

mod key;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::arguments::Common;
use crate::cli::console::Console;
use crate::cli::errors;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::nearest;
use crate::cli::look_arguments::ExplainArguments;
use crate::cli::output::{Page, value_of};
use crate::cli::past::{Past, moment, read, read_from};
use crate::cli::session::{Session, WAIT};
use crate::cli::tasks::client::TaskClient;
use crate::config::Environment;
use crate::logic::explain::{Evidence, Explanation, Link, explain, explain_task};
use crate::logic::history::{CallCircuit, Notes};
use crate::protocol::command::{AgentCommand, AgentRequest, LogsRequest};
use crate::protocol::id::{ChildName, TaskId};
use crate::protocol::status::{AgentState, AgentStatus, CircuitState};

/// Last lines of an agent's log that are shown.
const WORDS: usize = 3;

/// Lines of the log that are asked for, blank ones included.
const WORDS_ASKED: u32 = 10;

/// Wait for the daemon where only its presence is asked for.
const PRESENCE_WAIT: Duration = Duration::from_secs(3);

/// How often stored events are read again, until they tell what the daemon says now.
const CATCH_UP_TRIES: u32 = 20;

/// Time between two such readings.
const CATCH_UP_EVERY: Duration = Duration::from_millis(150);

/// Kinds of events by which somebody tells what they saw: nobody is affected by that.
const WATCHING: [&str; 3] = ["supervision.health", "supervision.pattern", "supervision.alert"];

/// Other children that are named as affected.
const AFFECTED_MAX: usize = 20;

/// What is asked about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// An error code.
    Code(String),
    /// A key of the configuration.
    Key(String),
    /// A child, by name or id.
    Child(String),
    /// A task.
    Task(TaskId),
    /// Whatever has that name.
    Any(String),
}

impl Target {
    /// Reads what was typed.
    pub(crate) fn of(word: &str) -> Self {
        if errors::is_code(word) {
            return Self::Code(word.to_owned());
        }
        match word.split_once('/') {
            Some(("task", id)) => match id.parse() {
                Ok(id) => Self::Task(id),
                Err(_) => Self::Any(id.to_owned()),
            },
            Some((
                "agent" | "circuit" | "downstream" | "child" | "supervisor" | "sup" | "down",
                name,
            )) => Self::Child(name.to_owned()),
            _ if word.contains('.') => Self::Key(word.to_owned()),
            _ => Self::Any(word.to_owned()),
        }
    }
}

/// Explains what needs no daemon; `None` for all else.
///
/// # Errors
///
/// There is no such code or key, or the output cannot be written.
pub(crate) fn without_daemon(
    console: &mut Console,
    common: &Common,
    arguments: &ExplainArguments,
    environment: &Environment,
) -> Option<Result<Exit, Failure>> {
    match Target::of(&arguments.what) {
        Target::Code(code) => Some(errors::error(console, common.output, Some(&code))),
        Target::Key(key) => {
            Some(key::explain(console, common, (&key, &arguments.at.files), environment))
        }
        Target::Any(_) | Target::Child(_) | Target::Task(_) => None,
    }
}

/// Explains a section of the configuration that no child or task has the name of; `None` for all else.
///
/// # Errors
///
/// The output cannot be written.
pub(crate) fn section(
    console: &mut Console,
    common: &Common,
    arguments: &ExplainArguments,
    environment: &Environment,
) -> Option<Result<Exit, Failure>> {
    let word = arguments.what.as_str();
    key::is_section(word)
        .then(|| key::explain(console, common, (word, &arguments.at.files), environment))
}

/// Explains a child or a task.
///
/// # Errors
///
/// Nothing is stored, nothing has that name, or the output cannot be written.
pub(crate) async fn explain_it(
    session: &mut Session<'_>,
    tasks: &TaskClient,
    arguments: &ExplainArguments,
) -> Result<Exit, Failure> {
    let at = moment(session, arguments.when.at)?;
    let told = match Target::of(&arguments.what) {
        Target::Task(id) => of_task(tasks, &id, at).await?,
        Target::Child(name) => child(session, &name, arguments, at).await?,
        Target::Any(word) | Target::Code(word) | Target::Key(word) => {
            match child(session, &word, arguments, at).await {
                Err(failure) if failure.is(Fault::NoSuchThing) => {
                    task_of_that_name(tasks, &word, at).await?.ok_or(failure)?
                }
                other => other?,
            }
        }
    };
    let text = view::lines(&told, &session.zone);
    let page = Page::single(&told.subject, value_of(&told)?, text);
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

async fn task_of_that_name(
    tasks: &TaskClient,
    word: &str,
    at: Timestamp,
) -> Result<Option<Explanation>, Failure> {
    let Ok(id) = word.parse::<TaskId>() else { return Ok(None) };
    match of_task(tasks, &id, at).await {
        Ok(told) => Ok(Some(told)),
        // Without coordination there are no tasks: the name is what was not found.
        Err(failure) if failure.is(Fault::NoSuchThing) || failure.is(Fault::NotStored) => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn of_task(tasks: &TaskClient, id: &TaskId, at: Timestamp) -> Result<Explanation, Failure> {
    let records = tasks.records(id).await?;
    let records: Vec<_> =
        records.into_iter().map(|(_, record)| record).filter(|record| record.time <= at).collect();
    explain_task(&records, at).ok_or_else(|| {
        let message = format!("no task {id} is known at {at}");
        let next = "provost task list shows the tasks there are; one that waits has no record yet";
        Failure::new(Fault::NoSuchThing, message, next)
    })
}

async fn child(
    session: &mut Session<'_>,
    name: &str,
    arguments: &ExplainArguments,
    at: Timestamp,
) -> Result<Explanation, Failure> {
    let now = arguments.when.at.is_none();
    let live = if now { present(session, name).await } else { Live::NotAsked };
    let past = caught_up(session, name, (at, now), &live).await?;
    if live == Live::Away {
        let text = "the daemon does not answer: this is how it was when it was heard last";
        session.console.warn(text);
    }
    past.warn(session);
    let Some(found) = past.history.find(name) else { return Err(unknown(&past, name)) };
    let full_name = found.shown.name.clone();
    let past = deeper(session, past, &full_name).await?;
    let Some(found) = past.history.find(name) else { return Err(unknown(&past, name)) };
    let mut shown = found.shown.clone();
    (shown.circuit, shown.next) = (found.circuit(past.at), found.next(past.at));
    let none = Notes::default();
    let notes = past.history.notes(&shown.name).unwrap_or(&none);
    let (chain, affected) = causes(&past, &shown.name, notes);
    let has_failed = notes.failure().is_some() && shown.agent.is_some();
    let words = if has_failed && matches!(live, Live::There(_)) {
        last_words(session, name).await
    } else {
        Vec::new()
    };
    Ok(explain(&Evidence {
        at: past.at,
        shown: &shown,
        notes,
        calls: past.history.calls().get(&shown.name),
        chain,
        affected,
        words,
    }))
}

fn unknown(past: &Past, name: &str) -> Failure {
    let names: Vec<&str> = past.history.children().map(|child| child.shown.name.as_str()).collect();
    let near = nearest(name, names);
    let next = "provost tree shows all children, provost task list the tasks";
    let message = format!("nothing named {name:?} is known");
    let failure = Failure::new(Fault::NoSuchThing, message, next);
    match near {
        Some(near) => failure.suggest(&format!("did you mean {near:?}?")),
        None => failure,
    }
}

/// Whether the daemon is there, and how an agent is.
#[derive(Debug, PartialEq)]
enum Live {
    NotAsked,
    Away,
    There(Option<Box<AgentStatus>>),
}

async fn present(session: &Session<'_>, name: &str) -> Live {
    let request = AgentRequest { agent: name.to_owned(), grace_ms: None, reason: None };
    match session.ask_agent(&AgentCommand::Status(request), PRESENCE_WAIT).await {
        Ok(answer) => Live::There(answer.agent),
        Err(_) => Live::Away,
    }
}

/// Reads the past until it tells what the daemon says now: an event takes a moment to be stored.
async fn caught_up(
    session: &Session<'_>,
    name: &str,
    (at, is_now): (Timestamp, bool),
    live: &Live,
) -> Result<Past, Failure> {
    let mut past = read(session, at).await?;
    let Live::There(Some(status)) = live else { return Ok(past) };
    for _ in 0..CATCH_UP_TRIES {
        let told = past.history.find(name).map(|child| &child.shown);
        let is_told = told.is_some_and(|shown| {
            status.generation < shown.generation
                || (shown.state == status.state && shown.generation == status.generation)
        });
        if is_told || !is_now {
            break;
        }
        tokio::time::sleep(CATCH_UP_EVERY).await;
        past = read(session, session.now()).await?;
    }
    Ok(past)
}

/// Reads on from where the child's present state, or its outage, began.
async fn deeper(session: &Session<'_>, past: Past, name: &ChildName) -> Result<Past, Failure> {
    let Some(from) = past.from else { return Ok(past) };
    let margin = jiff::SignedDuration::from_mins(1);
    let since = past.history.find(name.as_str()).map(|child| child.shown.since);
    let notes = past.history.notes(name);
    // Ids are ordered by time: that of the first failure says when it was.
    let outage = notes
        .and_then(|notes| notes.outage)
        .and_then(|id| id.to_string().parse::<uuid::Uuid>().ok())
        .and_then(|id| id.get_timestamp())
        .and_then(|time| {
            let (seconds, nanos) = time.to_unix();
            Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
        });
    let Some(wanted) = since.into_iter().chain(outage).min() else { return Ok(past) };
    let wanted = wanted.checked_sub(margin).unwrap_or(wanted);
    if from <= wanted {
        return Ok(past);
    }
    read_from(session, Some(wanted), (past.at, past.oldest)).await
}

/// The chain of events that led to the child's state, and who else its first cause affected.
fn causes(
    past: &Past,
    name: &ChildName,
    notes: &Notes,
) -> (Vec<Link>, Vec<(ChildName, AgentState)>) {
    let newest = [
        notes.changed.as_ref().map(|it| (it.time, it.id)),
        notes.circuit.as_ref().map(|it| (it.time, it.id)),
        notes.decision.as_ref().map(|it| (it.time, it.id)),
        notes.failure().map(|it| (it.time, it.id)),
        notes.system.as_ref().map(|it| (it.time, it.id)),
    ];
    // What is told of a downstream whose calls are refused is why they are.
    let is_out = |calls: &&CallCircuit| calls.change.to != CircuitState::Closed;
    let of_calls = past.history.calls().get(name).filter(is_out);
    let of_calls = of_calls.and(notes.circuit.as_ref()).map(|it| (it.time, it.id));
    let last = of_calls.or_else(|| newest.into_iter().flatten().max());
    let Some((_, last)) = last else {
        return (Vec::new(), Vec::new());
    };
    let chain = past.chain(&last.to_string());
    let first = chain.first().map(|tale| tale.link.id.clone()).unwrap_or_default();
    let links = chain.into_iter().map(|tale| tale.link.clone()).collect();
    let mut known: BTreeMap<String, bool> = BTreeMap::from([(first, true)]);
    let mut names: BTreeSet<&str> = BTreeSet::new();
    // Oldest first: whether its cause is of the chain is known by then.
    for tale in past.tales() {
        let cause = tale.causation.as_ref();
        let follows = cause.is_some_and(|cause| known.get(cause).copied().unwrap_or(false));
        let of_it = follows || known.get(&tale.link.id).copied().unwrap_or(false);
        known.insert(tale.link.id.clone(), of_it);
        if of_it && tale.link.name != name.as_str() && !WATCHING.contains(&tale.link.kind.as_str())
        {
            names.insert(tale.link.name.as_str());
        }
    }
    let state = |name: &&str| {
        let child = past.history.find(name)?;
        Some((child.shown.name.clone(), child.shown.state))
    };
    (links, names.iter().filter_map(state).take(AFFECTED_MAX).collect())
}

/// The last lines that an agent wrote.
async fn last_words(session: &Session<'_>, name: &str) -> Vec<String> {
    let request = LogsRequest { agent: name.to_owned(), lines: Some(WORDS_ASKED), after: None };
    let Ok(answer) = session.ask_agent(&AgentCommand::Logs(request), WAIT).await else {
        return Vec::new();
    };
    let lines = answer.logs.map(|logs| logs.lines).unwrap_or_default();
    let filled = lines.into_iter().filter(|line| !line.trim().is_empty());
    let mut filled: Vec<String> = filled.collect();
    filled.dedup();
    let from = filled.len().saturating_sub(WORDS);
    filled.into_iter().skip(from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_is_told_by_how_it_is_written() {
        let any = |word: &str| Target::Any(word.to_owned());
        let child = |name: &str| Target::Child(name.to_owned());
        for (word, target) in [
            ("PV0101", Target::Code("PV0101".to_owned())),
            ("agents.max", Target::Key("agents.max".to_owned())),
            ("agent/w1", child("w1")),
            ("downstream/redis", child("redis")),
            ("circuit/redis", child("redis")),
            ("task/t1", Target::Task("t1".parse().unwrap())),
            ("w1", any("w1")),
            ("supervision", any("supervision")),
            ("nats", any("nats")),
        ] {
            assert_eq!(Target::of(word), target, "{word}");
        }
        assert!(key::is_section("supervision") && !key::is_section("w1"));
    }
}
