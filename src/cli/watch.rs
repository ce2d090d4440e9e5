//! `provost list --watch`: every agent that changes, until Ctrl-C.
//!
//! Events only say *when* to look; what is shown is what the daemon answers. So nothing is missed
//! when events are, and a daemon that was away is picked up again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cli::agent_view::table;
use crate::cli::client::{Fed, Feed};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::output::{Format, value_of};
use crate::cli::session::Session;
use crate::protocol::status::AgentStatus;

/// Looks again after this time although no event came.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Events that come within this time are one look.
const SETTLE: Duration = Duration::from_millis(50);

/// Prints all agents, then those that change. Ends only with the feed or with a failure.
///
/// # Errors
///
/// The first look failed, or the output cannot be written.
pub(crate) async fn watch(session: &mut Session<'_>) -> Result<Exit, Failure> {
    // First the subscription, then the list: what changes in between is seen.
    let mut feed = session.client.live().await?;
    let mut known = BTreeMap::new();
    let mut looked = Err(());
    loop {
        match session.list().await {
            Ok(answer) => {
                show(session, &mut known, answer.agents.unwrap_or_default())?;
                looked = Ok(());
            }
            Err(failure) if known.is_empty() && looked.is_err() => return Err(failure),
            Err(failure) => {
                if looked.is_ok() && away(&failure) {
                    session.console.warn("the daemon does not answer; waiting for it");
                }
                looked = Err(());
            }
        }
        match wait(feed.as_mut()).await? {
            Went::On => {}
            Went::Over => return Ok(Exit::Done),
        }
    }
}

/// Whether a failure is one that time heals.
fn away(failure: &Failure) -> bool {
    failure.is(Fault::DaemonUnreachable)
        || failure.is(Fault::NatsUnreachable)
        || failure.is(Fault::TimedOut)
}

/// Whether there is more to come.
enum Went {
    On,
    Over,
}

/// Waits until there is a reason to look again.
async fn wait(feed: &mut dyn Feed) -> Result<Went, Failure> {
    let now = Instant::now();
    // A feed is not cancel safe, but a lost event only delays the next look.
    let Ok(fed) = timeout_at(now + LOOK_EVERY, feed.next()).await else { return Ok(Went::On) };
    if fed? == Fed::End {
        return Ok(Went::Over);
    }
    let settled = Instant::now() + SETTLE;
    while let Ok(fed) = timeout_at(settled, feed.next()).await {
        if fed? == Fed::End {
            // What came before the end is still worth a look.
            sleep_until(settled).await;
            break;
        }
    }
    Ok(Went::On)
}

/// Prints the agents that are new or other than before, and tells those that are gone.
fn show(
    session: &mut Session<'_>,
    known: &mut BTreeMap<String, AgentStatus>,
    agents: Vec<AgentStatus>,
) -> Result<(), Failure> {
    let first = known.is_empty();
    let now: BTreeMap<String, AgentStatus> =
        agents.into_iter().map(|agent| (agent.agent_id.to_string(), agent)).collect();
    let changed: Vec<&AgentStatus> = now
        .iter()
        .filter(|(id, agent)| known.get(*id).is_none_or(|before| differs(before, agent)))
        .map(|(_, agent)| agent)
        .collect();
    match session.format {
        Format::Table => {
            let skipped = usize::from(!first);
            for line in table(changed, session.now()).iter().skip(skipped) {
                session.console.line(line)?;
            }
        }
        Format::Json | Format::Jsonl => {
            for agent in changed {
                session.console.line(&value_of(agent)?.to_string())?;
            }
        }
        Format::Name => {
            for agent in changed {
                session.console.line(agent.name.as_str())?;
            }
        }
    }
    session.console.flush()?;
    let gone: Vec<&AgentStatus> =
        known.iter().filter(|(id, _)| !now.contains_key(*id)).map(|(_, agent)| agent).collect();
    for agent in gone {
        session.console.note(&format!("{} is gone", agent.name));
    }
    *known = now;
    Ok(())
}

/// Whether an agent is other than before. Times that run by themselves and measured values do not
/// count.
fn differs(before: &AgentStatus, after: &AgentStatus) -> bool {
    let still = |agent: &AgentStatus| {
        let mut still = agent.clone();
        still.next = None;
        still.circuit.retry_after_ms = None;
        still.health.metrics = Default::default();
        still
    };
    still(before) != still(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Script, agent, block_on, envelope, fed, session};
    use crate::protocol::status::AgentState;

    fn listing(agents: &[AgentStatus]) -> serde_json::Value {
        json!({"ok": true, "agents": agents})
    }

    fn script() -> Script {
        let mut other = agent("b", AgentState::Running);
        other.health.metrics.cpu_usage = Some(0.5);
        let looks = [
            listing(&[agent("a", AgentState::Running), agent("b", AgentState::Running)]),
            listing(&[agent("a", AgentState::Backoff), other]),
            listing(&[agent("a", AgentState::Backoff)]),
        ];
        let event = || fed(envelope("agent.state_changed", "id-a"));
        Script::of(looks).publishing([event(), event()])
    }

    #[test]
    fn only_what_changes_is_printed_again() {
        let script = script();
        let (mut session, screen) = session(&script, Format::Name);
        assert_eq!(block_on(watch(&mut session)), Ok(Exit::Done));
        assert_eq!(screen.out(), "a\nb\na\n");
    }

    #[test]
    fn the_headers_are_printed_once() {
        let script = script();
        let (mut session, screen) = session(&script, Format::Table);
        block_on(watch(&mut session)).unwrap();
        assert_eq!(screen.out().matches("STATE").count(), 1);
        assert_eq!(screen.out().lines().count(), 4);
    }

    #[test]
    fn a_daemon_that_never_answered_is_a_failure() {
        let away = Failure::new(Fault::DaemonUnreachable, "no daemon answers", "start it");
        let script = Script::default().then_fail(away.clone());
        let (mut session, _) = session(&script, Format::Table);
        assert_eq!(block_on(watch(&mut session)), Err(away));
    }
}
