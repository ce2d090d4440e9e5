//! Which agent would get a task now: `route` on `system.control`.
//!
//! The question changes no turn and no key of the router that hands out tasks. Where no coordinator
//! is at work, it is put to a router of its own, filled from the board.

use std::collections::BTreeSet;

use crate::daemon::handler::{Outcome, TreeHandler};
use crate::daemon::settings;
use crate::logic::routing::{AgentEntry, Needs, Router};
use crate::protocol::command::{Answer, CommandError, ErrorKind};
use crate::protocol::id::AgentId;
use crate::protocol::route::{Against, Candidate, RouteAnswer, RouteQuery};

impl TreeHandler {
    /// The coordinator answers, where one is at work; agents that it does not know are put behind
    /// those that it does.
    pub(in crate::daemon::handler) async fn route(&self, query: RouteQuery) -> Outcome {
        let mut answer = self.by_board(query.clone())?;
        if self.maker.config().coordination.is_enabled()
            && let Some(mut live) = self.facts.questions.ask(query).await
        {
            let known: BTreeSet<&AgentId> =
                live.candidates.iter().map(|candidate| &candidate.agent_id).collect();
            answer.candidates.retain(|candidate| !known.contains(&candidate.agent_id));
            live.candidates.extend(answer.candidates.into_iter().map(takes_none));
            answer = live;
        }
        Ok(Answer { route: Some(Box::new(answer)), ..Answer::done() })
    }

    fn by_board(&self, query: RouteQuery) -> Result<RouteAnswer, CommandError> {
        let mut router = Router::new(settings::routing(&self.maker.config()));
        for entry in self.tree.board().agents() {
            let Some(agent) = entry.agent else { continue };
            let routed = AgentEntry {
                id: agent.agent_id.clone(),
                name: entry.name,
                capabilities: agent.capabilities.into_iter().collect(),
                labels: agent.labels,
                slots: agent.slots,
                weight: agent.slots,
            };
            router.upsert(routed).map_err(|full| {
                let hint = "ask for fewer agents at the daemon";
                CommandError::new(ErrorKind::Unavailable, full.to_string(), hint)
            })?;
            router.set_standing(&agent.agent_id, entry.standing);
        }
        Ok(router.explain(&Needs::new(query), fastrand::u64(..)))
    }
}

/// An agent that the coordinator does not know.
fn takes_none(mut candidate: Candidate) -> Candidate {
    let is_there = |against: &Against| !matches!(against, Against::Full | Against::Avoided);
    candidate.against.retain(is_there);
    if candidate.against.is_empty() {
        candidate.against.push(Against::TakesNoTasks);
    }
    Candidate { picked: false, score: None, ..candidate }
}
