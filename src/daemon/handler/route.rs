//! Which agent would get a task now: `route` on `system.control`.
//!
//! The question is put to a router of its own, filled from the board, so that it changes no turn and
//! no key of the router that hands out tasks.

use crate::config::{Config, Distribution};
use crate::daemon::handler::{Outcome, TreeHandler};
use crate::logic::routing::{AgentEntry, BreakerUse, Needs, Router, Settings};
use crate::protocol::command::{Answer, CommandError, ErrorKind};
use crate::protocol::route::RouteQuery;

/// How the configuration has tasks routed: as `[routing]` says where it is on, else as
/// `[coordination]` says.
#[must_use]
pub(crate) fn settings(config: &Config) -> Settings {
    let section = config.coordination.settings();
    let by_section = section.map_or(Distribution::RoundRobin, |it| it.task_distribution_strategy);
    match config.routing.settings() {
        None => Settings { distribution: by_section, ..Settings::default() },
        Some(routing) => Settings {
            cache_size: routing.decision_cache_size,
            breaker: if routing.circuit_breaker { BreakerUse::Heeded } else { BreakerUse::Ignored },
            distribution: routing.load_balancing_algorithm,
        },
    }
}

impl TreeHandler {
    pub(in crate::daemon::handler) fn route(&self, query: RouteQuery) -> Outcome {
        let mut router = Router::new(settings(self.maker.config()));
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
        let answer = router.explain(&Needs::new(query), fastrand::u64(..));
        Ok(Answer { route: Some(Box::new(answer)), ..Answer::done() })
    }
}
