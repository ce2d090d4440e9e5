//! Which agents are sick: they fail different tasks in a row while others succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::logic::ledger::types::SICK_FOR;
use crate::protocol::id::{AgentId, TaskId};

#[derive(Clone, Debug, Default)]
struct Account {
    /// Tasks that it failed since it last completed one.
    failed: BTreeSet<TaskId>,
    /// Tasks that all agents had completed when it failed the first of them.
    completed_before: u64,
    sick_until: Option<Instant>,
}

/// Accounts of all agents that have failed something.
#[derive(Clone, Debug, Default)]
pub(super) struct Agents {
    accounts: BTreeMap<AgentId, Account>,
    completed: u64,
}

impl Agents {
    /// It completed a task.
    pub(super) fn completed(&mut self, agent: &AgentId) {
        self.completed = self.completed.saturating_add(1);
        self.accounts.remove(agent);
    }

    /// It failed a task; gives the number of tasks it has failed when that makes it sick.
    pub(super) fn failed(
        &mut self,
        agent: &AgentId,
        task: &TaskId,
        (now, sick_tasks): (Instant, usize),
    ) -> Option<usize> {
        let completed = self.completed;
        let account = self.accounts.entry(agent.clone()).or_default();
        if account.failed.is_empty() {
            account.completed_before = completed;
        }
        if account.failed.len() < sick_tasks {
            account.failed.insert(task.clone());
        }
        let others_succeed = account.completed_before < completed;
        let is_sick = account.sick_until.is_some_and(|until| now < until);
        if is_sick || account.failed.len() < sick_tasks || !others_succeed {
            return None;
        }
        account.sick_until = now.checked_add(SICK_FOR);
        let count = account.failed.len();
        account.failed.clear();
        Some(count)
    }

    /// Whether it shall get nothing now.
    pub(super) fn is_sick(&self, agent: &AgentId, now: Instant) -> bool {
        let account = self.accounts.get(agent);
        account.and_then(|account| account.sick_until).is_some_and(|until| now < until)
    }

    /// All that shall get nothing now.
    pub(super) fn sick(&self, now: Instant) -> impl Iterator<Item = &AgentId> {
        let is_sick = move |account: &Account| account.sick_until.is_some_and(|until| now < until);
        self.accounts.iter().filter(move |(_, account)| is_sick(account)).map(|(agent, _)| agent)
    }

    /// When the next sick agent may be tried again, if one is sick.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let until = self.accounts.values().filter_map(|account| account.sick_until);
        until.filter(|until| now < *until).min()
    }
}
