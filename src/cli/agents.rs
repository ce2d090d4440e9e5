//! Verbs about agents: spawn, list, status, and what is done to them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::cli::agent_view::{detail, table};
use crate::cli::arguments::{ActArguments, SpawnArguments};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::{Item, Page, value_of};
use crate::cli::session::{Session, WAIT};
use crate::protocol::command::{
    AgentCommand, AgentRequest, Answer, CircuitRequest, ControlCommand, SpawnRequest,
};
use crate::protocol::status::AgentStatus;

/// Wait for an answer to a command that stops something, besides the grace.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// What is done to agents.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// Stop.
    Stop,
    /// Stop and start.
    Restart,
    /// End at once.
    Kill,
    /// Give no new work.
    Drain,
    /// Take a drain back, or start.
    Resume,
    /// Clear the account.
    Reset,
    /// Stop and forget.
    Remove,
    /// Only look.
    Status,
}

impl Act {
    fn command(self, request: AgentRequest) -> AgentCommand {
        match self {
            Self::Stop => AgentCommand::Stop(request),
            Self::Restart => AgentCommand::Restart(request),
            Self::Kill => AgentCommand::Kill(request),
            Self::Drain => AgentCommand::Drain(request),
            Self::Resume => AgentCommand::Resume(request),
            Self::Reset => AgentCommand::Reset(request),
            Self::Remove => AgentCommand::Remove(request),
            Self::Status => AgentCommand::Status(request),
        }
    }

    /// How long an answer may usually take.
    fn wait(self, grace: Option<Duration>) -> Duration {
        match self {
            Self::Stop | Self::Restart | Self::Remove => {
                STOP_WAIT.saturating_add(grace.unwrap_or_default())
            }
            Self::Kill | Self::Drain | Self::Resume | Self::Reset | Self::Status => WAIT,
        }
    }
}

/// Does one thing to several agents, one after the other; goes on after a refusal.
///
/// # Errors
///
/// No answer came.
pub(crate) async fn act(
    session: &mut Session<'_>,
    act: Act,
    arguments: &ActArguments,
) -> Result<Exit, Failure> {
    let grace_ms =
        arguments.grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    let mut answers = Vec::new();
    let mut exits = Vec::new();
    for agent in &arguments.agents {
        let request =
            AgentRequest { agent: agent.clone(), grace_ms, reason: arguments.reason.clone() };
        let answer = session.ask_agent(&act.command(request), act.wait(arguments.grace)).await?;
        exits.push(match (&answer.error, &answer.agent) {
            (Some(error), _) => {
                let failure = session.refusal(error, agent).await;
                session.console.failure(&failure);
                failure.exit
            }
            (None, Some(status)) if act == Act::Status => Exit::of_agent(status),
            (None, _) => Exit::Done,
        });
        answers.push(answer);
    }
    let page = answers_page(session, act, &answers)?;
    page.print(&mut session.console, session.format)?;
    Ok(Exit::together(&exits))
}

/// One answer is shown as it is, several as an array in the order they were asked for.
fn answers_page(session: &Session<'_>, act: Act, answers: &[Answer]) -> Result<Page, Failure> {
    let statuses: Vec<&AgentStatus> =
        answers.iter().filter_map(|answer| answer.agent.as_deref()).collect();
    let text = if act == Act::Status {
        let blocks: Vec<Vec<String>> =
            statuses.iter().map(|status| detail(status, session.now())).collect();
        blocks.join(&String::new())
    } else {
        table(statuses, session.now())
    };
    let mut items = Vec::new();
    let mut documents = Vec::new();
    for answer in answers {
        let document = value_of(answer)?;
        let item = match &answer.agent {
            // What stands in lines is one kind of thing: statuses. Refusals go to standard error.
            Some(status) => Item { name: status.name.to_string(), value: value_of(status)? },
            None => {
                documents.push(document);
                continue;
            }
        };
        items.push(item);
        documents.push(document);
    }
    let document = match documents.as_slice() {
        [one] => one.clone(),
        _ => Value::Array(documents),
    };
    Ok(Page { document, items, text })
}

/// Starts an agent.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn spawn(
    session: &mut Session<'_>,
    arguments: SpawnArguments,
) -> Result<Exit, Failure> {
    let request = SpawnRequest {
        agent_type: arguments.agent_type,
        name: arguments.name,
        args: arguments.args,
        env: arguments.env.into_iter().collect::<BTreeMap<_, _>>(),
        labels: arguments.label.into_iter().collect::<BTreeMap<_, _>>(),
        node: arguments.node,
        command_line: None,
    };
    let answer = session.ask_agent(&AgentCommand::Spawn(request), STOP_WAIT).await?;
    show_one(session, &answer)
}

/// Sets a circuit by hand.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn circuit(
    session: &mut Session<'_>,
    request: CircuitRequest,
) -> Result<Exit, Failure> {
    let child = request.child.clone();
    let answer = session.ask_system(&ControlCommand::Circuit(request), STOP_WAIT).await?;
    if let Some(error) = &answer.error {
        let failure = session.refusal(error, &child).await;
        return refused(session, &answer, failure);
    }
    show_one(session, &answer)
}

/// Shows an answer that is about one agent, or its refusal.
fn show_one(session: &mut Session<'_>, answer: &Answer) -> Result<Exit, Failure> {
    if let Some(error) = &answer.error {
        let failure = Failure::from(error);
        return refused(session, answer, failure);
    }
    let page = match &answer.agent {
        Some(_) => answers_page(session, Act::Resume, std::slice::from_ref(answer))?,
        None => Page::single("done", value_of(answer)?, vec!["done".to_owned()]),
    };
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

/// A refusal is data too where data was asked for as a document.
pub(crate) fn refused(
    session: &mut Session<'_>,
    answer: &Answer,
    failure: Failure,
) -> Result<Exit, Failure> {
    let page = Page { document: value_of(answer)?, items: Vec::new(), text: Vec::new() };
    page.print(&mut session.console, session.format)?;
    Err(failure)
}

/// All agents.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn list(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let answer = session.list().await?;
    let agents = answer.agents.as_deref().unwrap_or_default();
    if agents.is_empty() {
        session.console.note("no agents; start one with: provost spawn TYPE");
    }
    let mut items = Vec::new();
    for agent in agents {
        items.push(Item { name: agent.name.to_string(), value: value_of(agent)? });
    }
    let text = table(agents.iter().collect(), session.now());
    let page = Page { document: value_of(&answer)?, items, text };
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}
