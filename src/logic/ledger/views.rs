//! What others may know of the ledger.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::logic::ledger::machine::Ledger;
use crate::logic::ledger::task::{Phase, Task};
use crate::logic::ledger::types::{Counts, TaskKey};
use crate::protocol::id::{AgentId, TaskId};

impl Ledger {
    /// When [`Self::on_deadline`] wants to be called, or [`Self::next`] may say something else.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let own = self.timers.first().map(|(at, _)| *at);
        if self.queue.len() == 0 {
            return own;
        }
        let rates = self.limits.deadline(&self.policies, now);
        own.into_iter().chain(rates).chain(self.agents.deadline(now)).min()
    }

    /// Whether an agent fails what others can do, and so shall get nothing now.
    #[must_use]
    pub fn is_sick(&self, agent: &AgentId, now: Instant) -> bool {
        self.agents.is_sick(agent, now)
    }

    /// All agents of which this is true.
    pub fn sick(&self, now: Instant) -> impl Iterator<Item = &AgentId> {
        self.agents.sick(now)
    }

    /// How many tasks stand where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let held = self.by_agent.values().map(BTreeSet::len).sum();
        let ending = |task: &&Task| matches!(task.phase, Phase::Over);
        let ending = count(self.tasks.values().filter(ending).count());
        let ready = count(self.queue.len());
        let held = count(held).saturating_add(count(self.gathering.len()));
        let others = ready.saturating_add(held).saturating_add(ending);
        Counts { ready, held, ending, delayed: count(self.tasks.len()).saturating_sub(others) }
    }

    /// Whether anything waits for an agent.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        0 < self.queue.len()
    }

    /// Tasks that an agent has, with the run that has them.
    #[must_use]
    pub fn held_by(&self, agent: &AgentId) -> Vec<(TaskId, u32, Option<String>)> {
        let keys = self.by_agent.get(agent).into_iter().flatten();
        let tasks = keys.filter_map(|key| self.tasks.get(key));
        tasks
            .filter_map(|task| Some((task.id.clone(), task.attempt, task.held()?.run.clone())))
            .collect()
    }

    /// Agents that have tasks.
    pub fn holders(&self) -> impl Iterator<Item = &AgentId> {
        self.by_agent.keys()
    }

    /// The key of a task that has not ended.
    #[must_use]
    pub fn key_of(&self, id: &TaskId) -> Option<TaskKey> {
        self.ids.get(id).copied()
    }
}
