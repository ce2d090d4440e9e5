//! `provost show`: everything that is known of one child: how it is, its settings and where they were
//! written, limits, probes, last exits and decisions, and where its log is.

use serde_json::{Value, json};

use crate::cli::agent_view::detail;
use crate::cli::arguments::Common;
use crate::cli::colors::STRONG;
use crate::cli::config_verbs::load;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::{date_time, nearest, one_line};
use crate::cli::look_arguments::ShowOneArguments;
use crate::cli::output::{Page, value_of};
use crate::cli::past::{Past, moment, read, read_from};
use crate::cli::session::{Session, WAIT};
use crate::config::{Environment, ShowOrigin, ShownKey};
use crate::logic::explain::because;
use crate::logic::history::{Child, Notes};
use crate::protocol::command::{AgentCommand, AgentRequest};
use crate::protocol::status::AgentStatus;

/// Failures that are listed.
const FAILURES_SHOWN: usize = 5;

/// The keys of the configuration, as far as its files can be read.
pub(crate) fn keys(
    console: &mut Console,
    common: &Common,
    arguments: &ShowOneArguments,
    environment: &Environment,
) -> Vec<ShownKey> {
    match load(common, &arguments.at.files, environment) {
        Ok(loaded) => loaded.render(ShowOrigin::Yes),
        Err(_) => {
            console.warn("the configuration has faults, so the origin of settings is not shown");
            Vec::new()
        }
    }
}

/// Shows one child.
///
/// # Errors
///
/// Nothing is stored, nothing has that name, or the output cannot be written.
pub(crate) async fn show(
    session: &mut Session<'_>,
    arguments: &ShowOneArguments,
    keys: &[ShownKey],
) -> Result<Exit, Failure> {
    let at = moment(session, arguments.when.at)?;
    let mut past = read(session, at).await?;
    let name = arguments.child.as_str();
    let lacks_settings = |past: &Past| {
        let child = past.history.find(name).filter(|child| child.shown.agent.is_some());
        let notes = child.and_then(|child| past.history.notes(&child.shown.name));
        child.is_some() && notes.is_none_or(|notes| notes.config.is_empty())
    };
    if lacks_settings(&past) && past.from.is_some() {
        // They are told once, when an agent is made, and that may be long ago.
        past = read_from(session, None, (past.at, past.oldest)).await?;
    }
    past.warn(session);
    let Some(child) = past.history.find(name) else {
        let names = past.history.children().map(|child| child.shown.name.as_str());
        let near = nearest(name, names.collect::<Vec<_>>());
        let message = format!("no child {name:?} is known at {at}");
        let failure = Failure::new(Fault::NoSuchThing, message, "provost tree shows all children");
        return Err(match near {
            Some(near) => failure.suggest(&format!("did you mean {near:?}?")),
            None => failure,
        });
    };
    let live = if arguments.when.at.is_none() { present(session, name).await } else { None };
    let status = live.or_else(|| past.history.agent_status(child, past.at));
    let none = Notes::default();
    let notes = past.history.notes(&child.shown.name).unwrap_or(&none);
    let origins = origins(child, keys);
    let document = json!({
        "at": past.at,
        "child": value_of(&child.shown)?,
        "status": status.as_ref().map(value_of).transpose()?,
        "spec": notes.config,
        "origins": origins,
        "failures": notes.failures.iter().map(|it| json!({"id": it.id, "time": it.time, "failure": it.what})).collect::<Vec<_>>(),
        "decision": notes.decision.as_ref().map(|it| json!({"id": it.id, "time": it.time, "record": it.what})),
        "circuit": notes.circuit.as_ref().map(|it| json!({"id": it.id, "time": it.time, "change": it.what})),
        "recovery": notes.recovery.as_ref().map(|it| json!({"id": it.id, "time": it.time, "recovery": it.what})),
    });
    let text = lines(session, (child, status.as_ref()), notes, &origins);
    let page = Page::single(child.shown.name.as_str(), document, text);
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

async fn present(session: &Session<'_>, name: &str) -> Option<AgentStatus> {
    let request = AgentRequest { agent: name.to_owned(), grace_ms: None, reason: None };
    let answer = session.ask_agent(&AgentCommand::Status(request), WAIT).await.ok()?;
    answer.agent.map(|agent| *agent)
}

/// The keys that the child's settings come from.
fn origins<'k>(child: &Child, keys: &'k [ShownKey]) -> Vec<&'k ShownKey> {
    let shown = &child.shown;
    let prefix = match &shown.agent {
        Some(agent) => format!("agent_types.{}.", agent.agent_type),
        None if shown.strategy.is_some() => format!("supervisors.{}.", shown.name),
        None => format!("downstreams.{}.", shown.name),
    };
    let written = |key: &&ShownKey| {
        key.key.starts_with(&prefix) && key.origin.as_deref().is_some_and(|it| it != "default")
    };
    keys.iter().filter(written).collect()
}

fn lines(
    session: &Session<'_>,
    (child, status): (&Child, Option<&AgentStatus>),
    notes: &Notes,
    origins: &[&ShownKey],
) -> Vec<String> {
    let shown = &child.shown;
    let mut lines = match status {
        Some(status) => detail(status, session.now()),
        None => vec![
            format!("{STRONG}{}{STRONG:#}  {} (run {})", shown.name, shown.state, shown.generation),
            format!("  reason    {}", one_line(&shown.reason)),
        ],
    };
    if let Some(parent) = &shown.parent {
        lines.push(format!("  under     {parent}"));
    }
    let mut section = |title: &str, text: Vec<String>| {
        if !text.is_empty() {
            lines.push(format!("{STRONG}{title}{STRONG:#}"));
            lines.extend(text.into_iter().map(|line| format!("  {}", one_line(&line))));
        }
    };
    section("settings", flat(&notes.config));
    let origin = |key: &&ShownKey| {
        let value = key.value.as_ref().map(Value::to_string).unwrap_or_default();
        format!("{} = {value}  ({})", key.key, key.origin.clone().unwrap_or_default())
    };
    section("written in", origins.iter().map(origin).collect());
    let failures = notes.failures.iter().rev().take(FAILURES_SHOWN).map(|failure| {
        let message = failure.what.message.clone().unwrap_or_default();
        format!("{}  {message}", date_time(failure.time, &session.zone))
    });
    section("last failures", failures.collect());
    let decision = notes.decision.iter().map(|decided| {
        let record = &decided.what;
        let text = because(record.reason, &record.inputs);
        format!("{}  {text}", date_time(decided.time, &session.zone))
    });
    section("last decision", decision.collect());
    if shown.agent.is_some() {
        section("log", vec![format!("provost logs {}", shown.name)]);
    }
    section("more", vec![format!("provost explain {0}   provost events --for {0}", shown.name)]);
    lines
}

/// Settings one a line, nested ones under their whole name.
fn flat(config: &std::collections::BTreeMap<String, Value>) -> Vec<String> {
    fn add(name: &str, value: &Value, lines: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| add(&format!("{name}.{key}"), value, lines));
            }
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                lines.push(format!("{name} = {value}"));
            }
        }
    }
    let mut lines = Vec::new();
    config.iter().for_each(|(name, value)| add(name, value, &mut lines));
    lines
}
