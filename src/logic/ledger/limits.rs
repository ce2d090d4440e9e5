//! How many tasks of a type may be with agents, and how many may be begun in a time.
//!
//! The rate is counted as a virtual clock (GCRA): each task moves it on by its share of the time,
//! and a task may begin while the clock is not farther ahead than one burst.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::logic::ledger::types::{Policies, Rate};
use crate::protocol::id::TaskType;

#[derive(Clone, Debug, Default)]
struct Used {
    held: u32,
    clock: Option<Instant>,
}

/// What is used of each type's bounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    used: BTreeMap<TaskType, Used>,
}

impl Limits {
    /// Whether another task of the type may begin.
    pub(super) fn admits(&self, policies: &Policies, task_type: &TaskType, now: Instant) -> bool {
        let policy = policies.of(task_type);
        let Some(used) = self.used.get(task_type) else { return true };
        policy.max_concurrent.is_none_or(|most| used.held < most)
            && policy.rate.is_none_or(|rate| opens_at(rate, used).is_none_or(|at| at <= now))
    }

    /// When the rate of some type admits its next task, if that is later than now.
    pub(super) fn deadline(&self, policies: &Policies, now: Instant) -> Option<Instant> {
        let opens = self.used.iter().filter_map(|(task_type, used)| {
            opens_at(policies.of(task_type).rate?, used).filter(|at| now < *at)
        });
        opens.min()
    }

    /// A task begins.
    pub(super) fn begin(&mut self, policies: &Policies, task_type: &TaskType, now: Instant) {
        let used = self.used.entry(task_type.clone()).or_default();
        used.held = used.held.saturating_add(1);
        if let Some(rate) = policies.of(task_type).rate {
            used.clock = used.clock.unwrap_or(now).max(now).checked_add(share(rate));
        }
    }

    /// A task was with an agent before this ledger began.
    pub(super) fn restore(&mut self, task_type: &TaskType) {
        let used = self.used.entry(task_type.clone()).or_default();
        used.held = used.held.saturating_add(1);
    }

    /// A task is with no agent any more.
    pub(super) fn end(&mut self, task_type: &TaskType) {
        if let Some(used) = self.used.get_mut(task_type) {
            used.held = used.held.saturating_sub(1);
            if used.held == 0 && used.clock.is_none() {
                self.used.remove(task_type);
            }
        }
    }
}

fn share(rate: Rate) -> Duration {
    rate.per.checked_div(rate.count).unwrap_or_default()
}

fn opens_at(rate: Rate, used: &Used) -> Option<Instant> {
    used.clock?.checked_sub(rate.per.saturating_sub(share(rate)))
}
