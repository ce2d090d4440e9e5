//! All agents as one decision sees them: score, or what stands against each.

use std::cmp::Ordering;

use crate::logic::routing::needs::Needs;
use crate::logic::routing::pick::Picked;
use crate::logic::routing::router::{Router, is_named};
use crate::logic::routing::types::{AgentEntry, Load, index};
use crate::protocol::id::AgentId;
use crate::protocol::route::{Against, Candidate, Distribution, RouteAnswer, Standing};

impl Router {
    /// Who would be picked, and every agent with its score or the reasons against it. Changes
    /// nothing: neither turns nor keys.
    ///
    /// It looks at every agent, so it is for people, not for each task.
    #[must_use]
    pub fn explain(&self, needs: &Needs, random: u64) -> RouteAnswer {
        let strategy = needs.distribution.unwrap_or(self.settings().distribution);
        let (mut picked, mut kept) = (Vec::new(), false);
        let decision = if strategy == Distribution::Broadcast {
            match self.roster(needs) {
                Ok(roster) => {
                    picked.extend(roster.members.iter().map(|member| member.agent.clone()));
                    roster.record()
                }
                Err(refusal) => refusal.record(),
            }
        } else {
            match self.clone().pick(needs, random) {
                Ok(pick) => {
                    kept = pick.why == Picked::KeyKept;
                    picked.push(pick.agent.clone());
                    pick.record()
                }
                Err(refusal) => refusal.record(),
            }
        };
        let seen = Seen { needs, strategy, picked: &picked, kept };
        let mut candidates: Vec<Candidate> =
            self.table.all().map(|(slot, entry)| self.candidate(&seen, slot, entry)).collect();
        candidates.sort_by(in_order);
        RouteAnswer { strategy, picked, decision, candidates }
    }

    fn candidate(&self, seen: &Seen<'_>, slot: u32, entry: &AgentEntry) -> Candidate {
        let load = self.table.load(slot);
        let picked = seen.picked.contains(&entry.id);
        let mut against = Vec::new();
        if !is_named(seen.needs, entry) {
            against.push(Against::NotNamed);
        }
        if let Some(class) = self.class(slot) {
            against.extend(seen.needs.key.0.against(&class.profile));
        }
        let state = self.table.slots.get(index(slot));
        let standing = state.map_or(Standing::Down, |state| state.standing);
        if !self.settings().admits(standing) {
            against.push(Against::NotRoutable { standing });
        }
        // A part of a broadcast waits for its agent.
        if load.is_full() && seen.strategy != Distribution::Broadcast {
            against.push(Against::Full);
        }
        if against.is_empty() && !picked {
            against.extend(seen.others(entry));
        }
        Candidate {
            agent_id: entry.id.clone(),
            name: entry.name.clone(),
            picked,
            score: against.is_empty().then(|| Load::share(load)),
            inflight: load.inflight,
            slots: load.slots,
            weight: state.map_or(1, |state| state.weight),
            against,
        }
    }
}

/// One decision, for the look at each agent.
struct Seen<'a> {
    needs: &'a Needs,
    strategy: Distribution,
    picked: &'a [AgentId],
    kept: bool,
}

impl Seen<'_> {
    /// What stands against an agent that could do it, but for another.
    fn others(&self, entry: &AgentEntry) -> Option<Against> {
        if self.kept {
            return Some(Against::KeyHeldByAnother);
        }
        let is = |text: &String| text == entry.id.as_str() || text == entry.name.as_str();
        let avoids = self.strategy != Distribution::Sticky && self.strategy != Distribution::Direct;
        (avoids && self.needs.avoid.iter().any(is)).then_some(Against::Avoided)
    }
}

/// The picked ones first, then those that can be picked by score, then the others by name.
fn in_order(one: &Candidate, two: &Candidate) -> Ordering {
    let rank = |candidate: &Candidate| (!candidate.picked, candidate.score.is_none());
    let score = |candidate: &Candidate| candidate.score.unwrap_or(0.0);
    rank(one)
        .cmp(&rank(two))
        .then(score(one).total_cmp(&score(two)))
        .then_with(|| one.name.cmp(&two.name))
}
