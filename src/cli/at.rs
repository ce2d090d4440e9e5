//! `--at`: the tree, the list, statuses and circuits as they were at a moment.
//!
//! The documents are those of the present, with the moment beside them. Health is unknown: how an
//! agent was is kept elsewhere, and not for long.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::agent_view::{detail, table};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::{date_time, nearest, span};
use crate::cli::output::{Cell, Item, Page, Table, value_of};
use crate::cli::past::{Past, moment, read};
use crate::cli::session::{Session, WAIT};
use crate::cli::system::tree_page;
use crate::cli::values::Moment;
use crate::logic::history::History;
use crate::protocol::command::{Answer, ControlCommand, EmptyRequest};
use crate::protocol::id::ChildName;
use crate::protocol::status::{AgentStatus, CircuitState, CircuitStatus};

/// A document of the present, with the moment beside it.
fn dated(answer: &Answer, at: Timestamp) -> Result<Value, Failure> {
    let mut document = value_of(answer)?;
    if let Value::Object(fields) = &mut document {
        fields.insert("at".to_owned(), json!(at));
    }
    Ok(document)
}

/// The line above what was shown.
fn heading(session: &Session<'_>, at: Timestamp) -> String {
    format!("at {}", date_time(at, &session.zone))
}

/// Reads the past, and says what is missing.
async fn past(session: &mut Session<'_>, asked: Moment) -> Result<Past, Failure> {
    let at = moment(session, Some(asked))?;
    let past = read(session, at).await?;
    past.warn(session);
    Ok(past)
}

/// The tree as it was.
///
/// # Errors
///
/// The moment is not kept, or the output cannot be written.
pub(crate) async fn tree(session: &mut Session<'_>, asked: Moment) -> Result<Exit, Failure> {
    let past = past(session, asked).await?;
    let Some(root) = past.history.tree(past.at) else {
        let message = format!("nothing of the tree is known at {}", past.at);
        let next = "provost list --at shows the agents that are known";
        return Err(Failure::new(Fault::NotKept, message, next));
    };
    let answer = Answer { tree: Some(Box::new(root)), ..Answer::done() };
    let mut page = tree_page(&answer)?;
    page.document = dated(&answer, past.at)?;
    page.text.insert(0, heading(session, past.at));
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

/// The agents as they were listed.
///
/// # Errors
///
/// The moment is not kept, or the output cannot be written.
pub(crate) async fn list(session: &mut Session<'_>, asked: Moment) -> Result<Exit, Failure> {
    let past = past(session, asked).await?;
    let agents = past.history.agents(past.at);
    let mut items = Vec::new();
    for agent in &agents {
        items.push(Item { name: agent.name.to_string(), value: value_of(agent)? });
    }
    if agents.is_empty() {
        session.console.note("no agents were there");
    }
    let mut text = table(agents.iter().collect(), past.at);
    text.insert(0, heading(session, past.at));
    let answer = Answer { agents: Some(agents), ..Answer::done() };
    let page = Page { document: dated(&answer, past.at)?, items, text };
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

/// Agents as they were; without names, how many were in which state.
///
/// # Errors
///
/// The moment is not kept, an agent was not there, or the output cannot be written.
pub(crate) async fn status(
    session: &mut Session<'_>,
    names: &[String],
    asked: Moment,
) -> Result<Exit, Failure> {
    let past = past(session, asked).await?;
    if names.is_empty() {
        return summary(session, &past);
    }
    let mut page = Page { text: vec![heading(session, past.at)], ..Page::default() };
    let mut documents = Vec::new();
    let mut exits = Vec::new();
    for name in names {
        match find(&past, name) {
            Ok(agent) => {
                exits.push(Exit::of_agent(&agent));
                page.text.extend(detail(&agent, past.at));
                page.items.push(Item { name: agent.name.to_string(), value: value_of(&agent)? });
                documents.push(dated(&Answer::agent(agent), past.at)?);
            }
            Err(failure) => {
                session.console.failure(&failure);
                exits.push(failure.exit);
            }
        }
    }
    page.document = match documents.as_slice() {
        [one] if names.len() == 1 => one.clone(),
        _ => Value::Array(documents),
    };
    page.print(&mut session.console, session.format)?;
    Ok(Exit::together(&exits))
}

fn find(past: &Past, name: &str) -> Result<AgentStatus, Failure> {
    let child = past.history.find(name);
    child.and_then(|child| past.history.agent_status(child, past.at)).ok_or_else(|| {
        let known = past.history.agents(past.at);
        let near = nearest(name, known.iter().map(|agent| agent.name.as_str()));
        let message = format!("no agent {name:?} was there at {}", past.at);
        let failure =
            Failure::new(Fault::NoSuchThing, message, "provost list --at shows those there were");
        match near {
            Some(near) => failure.suggest(&format!("did you mean {near:?}?")),
            None => failure,
        }
    })
}

fn summary(session: &mut Session<'_>, past: &Past) -> Result<Exit, Failure> {
    let mut states = std::collections::BTreeMap::<String, u64>::new();
    for agent in past.history.agents(past.at) {
        let count = states.entry(agent.state.to_string()).or_default();
        *count = count.saturating_add(1);
    }
    let told: Vec<String> =
        states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let told = if told.is_empty() { "none".to_owned() } else { told.join(", ") };
    let document = json!({ "ok": true, "at": past.at, "agents": states });
    let text = vec![heading(session, past.at), format!("  agents  {told}")];
    Page::single("status", document, text).print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

/// One circuit in a list.
struct Row {
    name: ChildName,
    kind: &'static str,
    circuit: CircuitStatus,
    reason: String,
}

/// All circuits, now or as they were.
///
/// # Errors
///
/// The daemon does not answer, the moment is not kept, or the output cannot be written.
pub(crate) async fn circuits(
    session: &mut Session<'_>,
    asked: Option<Moment>,
) -> Result<Exit, Failure> {
    let (rows, at) = match asked {
        Some(asked) => {
            let past = past(session, asked).await?;
            (rows_of(&past.history, past.at), Some(past.at))
        }
        None => (rows_now(session).await?, None),
    };
    let mut table = Table::new(&["NAME", "KIND", "CIRCUIT", "NEXT", "REASON"]);
    let mut items = Vec::new();
    for row in &rows {
        let color = crate::cli::colors::of_circuit(row.circuit.state);
        let next = row.circuit.retry_after_ms.map(|after| format!("trial in {}", span(after)));
        table.row(vec![
            row.name.as_str().into(),
            row.kind.into(),
            Cell::styled(row.circuit.state.as_str(), color),
            next.unwrap_or_default().into(),
            row.reason.as_str().into(),
        ]);
        let value = json!({
            "name": row.name, "kind": row.kind, "circuit": row.circuit, "reason": row.reason,
        });
        items.push(Item { name: row.name.to_string(), value });
    }
    if rows.is_empty() {
        session.console.note("no circuits: there are neither agents nor downstreams");
    }
    let values: Vec<&Value> = items.iter().map(|item| &item.value).collect();
    let document = match at {
        Some(at) => json!({ "ok": true, "at": at, "circuits": values }),
        None => json!({ "ok": true, "circuits": values }),
    };
    let mut text = table.lines();
    if let Some(at) = at {
        text.insert(0, heading(session, at));
    }
    Page { document, items, text }.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

fn rows_of(history: &History, at: Timestamp) -> Vec<Row> {
    let agents = history.agents(at).into_iter().map(of_agent);
    let calls = history.calls().iter().map(|(name, calls)| {
        let passed = u64::try_from(at.duration_since(calls.told_at).as_millis()).unwrap_or(0);
        let left = calls.change.retry_after_ms.map(|after| after.saturating_sub(passed));
        let open = calls.change.to == CircuitState::Open;
        Row {
            name: name.clone(),
            kind: "downstream",
            circuit: CircuitStatus {
                state: calls.change.to,
                retry_after_ms: left.filter(|_| open),
            },
            reason: crate::logic::explain::because(calls.change.reason, &calls.change.evidence),
        }
    });
    agents.chain(calls).collect()
}

fn of_agent(agent: AgentStatus) -> Row {
    Row { name: agent.name, kind: "agent", circuit: agent.circuit, reason: agent.reason }
}

async fn rows_now(session: &Session<'_>) -> Result<Vec<Row>, Failure> {
    let agents = session.list().await?.agents.unwrap_or_default();
    let answer = session.ask_system(&ControlCommand::Status(EmptyRequest {}), WAIT).await?;
    if let Some(error) = &answer.error {
        return Err(error.into());
    }
    let downstreams = answer.system.map(|system| system.downstreams).unwrap_or_default();
    let downstreams = downstreams.into_iter().map(|(name, circuit)| Row {
        name,
        kind: "downstream",
        circuit,
        reason: String::new(),
    });
    Ok(agents.into_iter().map(of_agent).chain(downstreams).collect())
}
