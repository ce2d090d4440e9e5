//! The classes that meet one condition, memorised.
//!
//! A pool is brought up to date at each use: classes are only added, until all get new numbers, so
//! that what it has not seen yet is at the end of the list.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::logic::routing::class::Weights;
use crate::logic::routing::needs::{Condition, ConditionKey};
use crate::logic::routing::table::Table;
use crate::logic::routing::types::{below, index, number};

/// Classes in all pools that are memorised. Beyond it the pools used longest ago are forgotten, and
/// found anew when they are asked for.
pub(crate) const MEMO_CLASSES_MAX: usize = 1 << 20;

/// Classes that meet one condition, and where its strategies stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    seen: usize,
    /// Their numbers, ascending.
    pub(crate) classes: Vec<u32>,
    /// Members of all classes up to and with each.
    ends: Vec<u64>,
    ends_stamp: Option<u64>,
    /// Whose turn it is among the classes, and for how many more picks.
    pub(crate) cursor: usize,
    pub(crate) left: usize,
    pub(crate) credits: Vec<Credit>,
    credits_stamp: Option<u64>,
}

/// Standing of one weight of one class under smooth weighted round robin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    pub(crate) class: u32,
    pub(crate) group: usize,
    weight: u32,
    pub(crate) credit: i64,
}

impl Pool {
    /// Looks at the classes that are new since the last time.
    fn catch_up(&mut self, condition: &Condition, table: &Table) {
        for (offset, class) in table.classes.iter().skip(self.seen).enumerate() {
            if condition.meets(&class.profile) {
                self.classes.push(number(self.seen + offset));
            }
        }
        self.seen = table.classes.len();
        self.ends_stamp = None;
        self.credits_stamp = None;
    }

    /// Open agents of all its classes.
    pub(crate) fn open(&self, table: &Table) -> usize {
        let open = |class: &u32| table.classes.get(index(*class)).map_or(0, |it| it.open.len());
        self.classes.iter().map(open).sum()
    }

    /// The class in which the n-th member stands, and which one of it that is; with the number of
    /// members modulo which n counts.
    pub(crate) fn member(&mut self, table: &Table, random: u64) -> Option<(u32, usize)> {
        if self.ends_stamp != Some(table.members_stamp) {
            self.ends_stamp = Some(table.members_stamp);
            let mut end = 0;
            let members = |class: &u32| {
                let members = table.classes.get(index(*class)).map_or(0, |it| it.members);
                end += u64::from(members);
                end
            };
            self.ends = self.classes.iter().map(members).collect();
        }
        let all = usize::try_from(*self.ends.last()?).ok().filter(|all| *all > 0)?;
        let nth = below(random, all);
        let nth_wide = u64::try_from(nth).unwrap_or(u64::MAX);
        let at = self.ends.partition_point(|end| *end <= nth_wide);
        let before = at.checked_sub(1).and_then(|at| self.ends.get(at)).copied().unwrap_or(0);
        let within = usize::try_from(nth_wide.saturating_sub(before)).ok()?;
        Some((*self.classes.get(at)?, within))
    }

    /// Brings the credits up to date: one for each weight of each class.
    pub(crate) fn weigh(&mut self, table: &mut Table) {
        if self.credits_stamp == Some(table.weights_stamp) {
            return;
        }
        let old = std::mem::take(&mut self.credits);
        for number in &self.classes {
            let Some(class) = table.classes.get_mut(index(*number)) else { continue };
            if class.weigh(&mut table.slots) == Weights::Grown {
                table.weights_stamp += 1;
            }
            for (group, weighted) in class.weights.iter().flatten().enumerate() {
                let before = old
                    .binary_search_by_key(&(*number, group), |credit| (credit.class, credit.group));
                let credit = before.ok().and_then(|at| old.get(at)).map_or(0, |it| it.credit);
                let weight = weighted.weight;
                self.credits.push(Credit { class: *number, group, weight, credit });
            }
        }
        self.credits_stamp = Some(table.weights_stamp);
    }

    /// Smooth weighted round robin over the weights: gives each its share, takes the sum of all from
    /// the one that is picked.
    pub(crate) fn heaviest(&mut self, table: &Table) -> Option<(u32, usize)> {
        let (mut sum, mut best): (i64, Option<(usize, i64)>) = (0, None);
        for (at, credit) in self.credits.iter_mut().enumerate() {
            let class = table.classes.get(index(credit.class));
            let groups = class.and_then(|class| class.weights.as_ref());
            let open = groups.and_then(|it| it.get(credit.group)).map_or(0, |it| it.open);
            if open == 0 {
                continue;
            }
            let share = i64::from(credit.weight) * i64::from(open);
            sum = sum.saturating_add(share);
            credit.credit = credit.credit.saturating_add(share);
            if best.is_none_or(|(_, most)| most < credit.credit) {
                best = Some((at, credit.credit));
            }
        }
        let picked = self.credits.get_mut(best?.0)?;
        picked.credit = picked.credit.saturating_sub(sum);
        Some((picked.class, picked.group))
    }
}

/// Pools by condition.
#[derive(Clone, Debug)]
pub(crate) struct Memo {
    pools: LruCache<ConditionKey, Pool>,
    renumbered: u64,
    has_grown: bool,
}

impl Memo {
    pub(crate) fn new(size: NonZeroUsize) -> Self {
        Self { pools: LruCache::new(size), renumbered: 0, has_grown: false }
    }

    /// The pool of a condition, up to date.
    pub(crate) fn pool(&mut self, key: &ConditionKey, table: &Table) -> &mut Pool {
        if self.renumbered != table.renumbered {
            self.pools.clear();
            self.renumbered = table.renumbered;
        }
        if self.has_grown {
            self.shrink();
        }
        let pool = self.pools.get_or_insert_mut_ref(key, Pool::default);
        if pool.seen < table.classes.len() {
            pool.catch_up(&key.0, table);
            self.has_grown = true;
        }
        pool
    }

    fn shrink(&mut self) {
        self.has_grown = false;
        let mut held: usize = self.pools.iter().map(|(_, pool)| pool.classes.len()).sum();
        while MEMO_CLASSES_MAX < held && 1 < self.pools.len() {
            let Some((_, pool)) = self.pools.pop_lru() else { break };
            held = held.saturating_sub(pool.classes.len());
        }
    }
}
