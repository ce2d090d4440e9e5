//! `provost wait`: until agents are as wanted.
//!
//! Events only say *when* to look; what counts is what the daemon answers.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::cli::client::Fed;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::ops::arguments::{WaitArguments, Wanted};
use crate::cli::output::{Item, Page, value_of};
use crate::cli::session::Session;
use crate::protocol::command::{CommandError, ErrorKind};
use crate::protocol::status::{AgentState, AgentStatus};
use serde_json::json;

/// Wait when nobody says how long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again after this time although no event came: health is no event here.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits.
///
/// # Errors
///
/// An agent is not there (unless that is waited for), the time is over, or no answer came.
pub(crate) async fn wait(
    session: &mut Session<'_>,
    arguments: &WaitArguments,
) -> Result<Exit, Failure> {
    let patience = session.timeout.unwrap_or(PATIENCE);
    let until = Instant::now() + patience;
    let names = &arguments.agents;
    // First the subscription, then the look: what changes in between is seen.
    let mut feed = session.client.live().await?;
    loop {
        let agents = session.list().await?.agents.unwrap_or_default();
        let found = |name: &String| {
            agents
                .iter()
                .find(|agent| agent.name.as_str() == name || agent.agent_id.as_str() == name)
        };
        let missing = names.iter().find(|name| found(name).is_none());
        if let Some(missing) = missing.filter(|_| arguments.wanted != Wanted::Gone) {
            return Err(unknown(session, missing).await);
        }
        let late: Vec<String> = names
            .iter()
            .filter_map(|name| {
                let agent = found(name);
                (!is_there(arguments.wanted, agent)).then(|| match agent {
                    Some(agent) => format!("{} is {}", agent.name, agent.state),
                    None => format!("{name} is not there"),
                })
            })
            .collect();
        if late.is_empty() {
            let agents: Vec<&AgentStatus> = names.iter().filter_map(found).collect();
            return show(session, &agents);
        }
        if until <= Instant::now() {
            let message = format!("not as wanted after {patience:?}: {}", late.join(", "));
            let next = "provost status AGENT shows why; --timeout gives more time";
            return Err(Failure::new(Fault::TimedOut, message, next));
        }
        // A feed is not cancel safe, but a lost event only delays the next look.
        let next_look = until.min(Instant::now() + LOOK_EVERY);
        if let Ok(Ok(Fed::End)) = timeout_at(next_look, feed.next()).await {
            tokio::time::sleep_until(next_look).await;
        }
    }
}

async fn unknown(session: &Session<'_>, name: &str) -> Failure {
    let message = format!("no agent {name:?}: no child has that name or id");
    let error = CommandError::new(ErrorKind::UnknownAgent, message, "");
    session.refusal(&error, name).await
}

fn is_there(wanted: Wanted, agent: Option<&AgentStatus>) -> bool {
    match (wanted, agent) {
        (Wanted::Gone, None) => true,
        (Wanted::Gone, Some(agent)) => agent.state == AgentState::Terminated,
        (_, None) => false,
        (Wanted::Ready, Some(agent)) => Exit::of_agent(agent) == Exit::Done,
        (Wanted::Stopped, Some(agent)) => Exit::of_agent(agent) == Exit::Stopped,
        (Wanted::State(state), Some(agent)) => agent.state == state,
    }
}

fn show(session: &mut Session<'_>, agents: &[&AgentStatus]) -> Result<Exit, Failure> {
    let mut items = Vec::new();
    for agent in agents {
        items.push(Item { name: agent.name.to_string(), value: value_of(agent)? });
    }
    let text = agents.iter().map(|agent| format!("{}  {}", agent.name, agent.state)).collect();
    let document = json!({"ok": true, "agents": value_of(&agents)?});
    Page { document, items, text }.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use crate::cli::testing::{Script, agent, block_on, session};

    fn list(state: AgentState) -> serde_json::Value {
        json!({"ok": true, "agents": [agent("w1", state)]})
    }

    fn arguments(wanted: Wanted) -> WaitArguments {
        WaitArguments { at: Default::default(), agents: vec!["w1".to_owned()], wanted }
    }

    #[test]
    fn it_looks_until_the_agent_is_as_wanted() {
        let script = Script::of([list(AgentState::Starting), list(AgentState::Running)]);
        let (mut session, screen) = session(&script, Format::Table);
        let done = block_on(wait(&mut session, &arguments(Wanted::Ready)));
        assert_eq!(done, Ok(Exit::Done));
        assert_eq!(screen.out(), "w1  running\n");
    }

    #[test]
    fn an_agent_that_is_not_there_is_told_at_once_unless_that_is_wanted() {
        let empty = || json!({"ok": true, "agents": []});
        // The refusal looks for a name that is alike.
        let script = Script::of([empty(), empty(), empty()]);
        let (mut session, _) = session(&script, Format::Table);
        let failure = block_on(wait(&mut session, &arguments(Wanted::Ready))).unwrap_err();
        assert_eq!(failure.exit, Exit::NoSuchId);
        assert_eq!(block_on(wait(&mut session, &arguments(Wanted::Gone))), Ok(Exit::Done));
    }

    #[test]
    fn the_time_is_over_some_time() {
        let script = Script::of((0..50).map(|_| list(AgentState::Backoff)));
        let (mut session, _) = session(&script, Format::Table);
        session.timeout = Some(Duration::from_millis(1));
        let failure = block_on(wait(&mut session, &arguments(Wanted::Ready))).unwrap_err();
        assert_eq!(failure.exit, Exit::TimedOut);
        assert!(failure.report.unwrap().message.contains("w1 is backoff"));
    }
}
