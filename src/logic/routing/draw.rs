//! One agent of a pool, or of a short list of slots.

use crate::logic::routing::pool::Pool;
use crate::logic::routing::table::Table;
use crate::logic::routing::types::{below, index, scatter};
use crate::protocol::route::Distribution;

/// Pools of so many classes are drawn from by counting; larger ones by trying.
const FEW_CLASSES: usize = 8;

/// Tries before a large pool is searched.
const TRIES: u64 = 16;

/// Two agents drawn, the second to compare with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) slot: u32,
    pub(crate) other: Option<u32>,
}

/// Any open agent of a pool, and another one where there is one.
pub(crate) fn two(pool: &mut Pool, table: &Table, random: u64) -> Option<Drawn> {
    let (first, second) = (scatter(random), scatter(random ^ u64::MAX));
    if pool.classes.len() <= FEW_CLASSES {
        let open = pool.open(table);
        if open == 0 {
            return None;
        }
        let nth = below(first, open);
        let slot = nth_open(pool, table, nth)?;
        let step = 1 + below(second, (open - 1).max(1));
        let other = (1 < open).then(|| nth_open(pool, table, (nth + step) % open));
        return Some(Drawn { slot, other: other.flatten() });
    }
    let slot = one(pool, table, first)?;
    let other = one(pool, table, second).filter(|other| *other != slot);
    Some(Drawn { slot, other })
}

/// Any open agent of a large pool: members are drawn until one is open, so that all are as likely;
/// a pool that is nearly full is searched from a random place on.
fn one(pool: &mut Pool, table: &Table, random: u64) -> Option<u32> {
    for attempt in 0..TRIES {
        let (class, within) = pool.member(table, scatter(random.wrapping_add(attempt)))?;
        let open = table.classes.get(index(class)).map(|class| &class.open);
        if let Some(slot) = open.and_then(|open| open.get(within)) {
            return Some(*slot);
        }
    }
    let start = below(random, pool.classes.len());
    let (after, before) = (pool.classes.iter().skip(start), pool.classes.iter().take(start));
    let mut opens =
        after.chain(before).filter_map(|class| table.classes.get(index(*class))).map(|it| &it.open);
    let open = opens.find(|open| !open.is_empty())?;
    open.get(below(scatter(random), open.len())).copied()
}

fn nth_open(pool: &Pool, table: &Table, nth: usize) -> Option<u32> {
    let mut nth = nth;
    for class in &pool.classes {
        let open = &table.classes.get(index(*class))?.open;
        match open.get(nth) {
            Some(slot) => return Some(*slot),
            None => nth -= open.len(),
        }
    }
    None
}

/// The less loaded of two drawn.
pub(crate) fn better(drawn: Drawn, table: &Table) -> Drawn {
    match drawn.other {
        Some(other) if table.load(other).is_less_than(table.load(drawn.slot)) => {
            Drawn { slot: other, other: Some(drawn.slot) }
        }
        _ => drawn,
    }
}

/// The one whose turn it is: each class as often as it has open agents, within it each in turn.
pub(crate) fn in_turn(pool: &mut Pool, table: &mut Table) -> Option<u32> {
    let classes = pool.classes.len();
    for _ in 0..=classes {
        if pool.left > 0 {
            let class = table.classes.get_mut(index(*pool.classes.get(pool.cursor)?))?;
            pool.left -= 1;
            if let Some(slot) = class.next(&mut table.slots) {
                return Some(slot);
            }
        }
        pool.cursor = if pool.cursor + 1 < classes { pool.cursor + 1 } else { 0 };
        let class = table.classes.get(index(*pool.classes.get(pool.cursor)?))?;
        pool.left = class.open.len();
    }
    // All classes were passed; the last one may be the only one with somebody open.
    let class = table.classes.get_mut(index(*pool.classes.get(pool.cursor)?))?;
    pool.left = pool.left.checked_sub(1)?;
    class.next(&mut table.slots)
}

/// The one whose turn it is, as often as its weight says.
pub(crate) fn weighted(pool: &mut Pool, table: &mut Table) -> Option<u32> {
    pool.weigh(table);
    let (class, group) = pool.heaviest(table)?;
    table.classes.get_mut(index(class))?.next_of(group, &mut table.slots)
}

/// One of the least loaded, any of them.
pub(crate) fn least(pool: &Pool, table: &mut Table, random: u64) -> Option<u32> {
    let (mut best, mut all): (Option<(u8, u32)>, usize) = (None, 0);
    for (turn, number) in (0_u64..).zip(&pool.classes) {
        let Some(class) = table.classes.get_mut(index(*number)) else { continue };
        let Some((level, count)) = class.lowest(&mut table.slots, &table.loads) else { continue };
        let is_lower = best.is_none_or(|(lowest, _)| level < lowest);
        if is_lower {
            (best, all) = (Some((level, *number)), count);
        } else if best.is_some_and(|(lowest, _)| level == lowest) {
            all += count;
            if below(scatter(random.wrapping_add(turn)), all) < count {
                best = Some((level, *number));
            }
        }
    }
    let (level, number) = best?;
    table.classes.get(index(number))?.draw_level(level, scatter(random), &table.loads)
}

/// The agent that a key points at: the highest of all hashes of key and agent, so that the others
/// keep their keys when one goes.
pub(crate) fn rendezvous(key: u64, among: &[u32], table: &Table) -> Option<u32> {
    let hash = |slot: &u32| {
        let id = table.slots.get(index(*slot)).map_or(0, |state| state.id_hash);
        (scatter(key ^ scatter(id)), id)
    };
    among.iter().copied().max_by_key(hash)
}

/// One of a short list of open agents, by a strategy that needs no more than their loads and turns.
pub(crate) fn among(
    list: &[u32],
    table: &mut Table,
    distribution: Distribution,
    random: u64,
) -> Option<Drawn> {
    let alone = |slot| Drawn { slot, other: None };
    match distribution {
        Distribution::RoundRobin => longest_waiting(list, table).map(alone),
        Distribution::WeightedRoundRobin => most_credit(list, table).map(alone),
        Distribution::LeastLoaded => {
            let start = below(scatter(random), list.len().max(1));
            let (after, before) = (list.iter().skip(start), list.iter().take(start));
            let mut all = after.chain(before).copied();
            let first = all.next()?;
            let less = |best, slot| {
                if table.load(slot).is_less_than(table.load(best)) { slot } else { best }
            };
            Some(alone(all.fold(first, less)))
        }
        Distribution::Direct => list.first().copied().map(alone),
        Distribution::PowerOfTwo | Distribution::Sticky | Distribution::Broadcast => {
            let nth = below(scatter(random), list.len().max(1));
            let step = 1 + below(scatter(random ^ u64::MAX), list.len().saturating_sub(1).max(1));
            let slot = *list.get(nth)?;
            let other = list.get((nth + step) % list.len()).copied();
            Some(better(Drawn { slot, other: other.filter(|other| *other != slot) }, table))
        }
    }
}

fn longest_waiting(list: &[u32], table: &mut Table) -> Option<u32> {
    let turn = |slot: &u32| table.slots.get(index(*slot)).map_or(0, |state| state.turn);
    let picked = list.iter().copied().min_by_key(turn)?;
    let last = list.iter().map(turn).max().unwrap_or(0);
    if let Some(state) = table.slots.get_mut(index(picked)) {
        state.turn = last.saturating_add(1);
    }
    Some(picked)
}

fn most_credit(list: &[u32], table: &mut Table) -> Option<u32> {
    let mut sum: i64 = 0;
    for slot in list {
        if let Some(state) = table.slots.get_mut(index(*slot)) {
            state.credit = state.credit.saturating_add(i64::from(state.weight));
            sum = sum.saturating_add(i64::from(state.weight));
        }
    }
    let credit = |slot: &u32| table.slots.get(index(*slot)).map_or(0, |state| state.credit);
    // Of equals the first, so that the order is stable.
    let picked = list.iter().rev().copied().max_by_key(credit)?;
    if let Some(state) = table.slots.get_mut(index(picked)) {
        state.credit = state.credit.saturating_sub(sum);
    }
    Some(picked)
}
