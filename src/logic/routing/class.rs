//! All agents of one profile: who is open, and in which order they are picked.
//!
//! The orders that only some strategies need are made at their first use, and kept from then on.

use std::sync::Arc;

use crate::logic::routing::levels::{Levels, SEARCHED_MAX, level};
use crate::logic::routing::turns::Turns;
use crate::logic::routing::types::{Load, NOWHERE, Profile, Queued, Slot, below, index, number};

/// One class.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) profile: Arc<Profile>,
    /// Agents of this profile.
    pub(crate) members: u32,
    /// Those that may be given work.
    pub(crate) routable: u32,
    /// Those that have a free slot, too; in no order.
    pub(crate) open: Vec<u32>,
    turns: Option<Turns>,
    levels: Option<Levels>,
    /// By weight, once weighted round robin is used.
    pub(crate) weights: Option<Vec<Weighted>>,
}

/// Agents of one class and one weight.
#[derive(Clone, Debug)]
pub(crate) struct Weighted {
    pub(crate) weight: u32,
    /// How many of them are open.
    pub(crate) open: u32,
    turns: Turns,
}

/// Whether a class got a weight that it had not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(crate) enum Weights {
    Same,
    Grown,
}

impl Class {
    pub(crate) fn new(profile: Arc<Profile>) -> Self {
        Self {
            profile,
            members: 0,
            routable: 0,
            open: Vec::new(),
            turns: None,
            levels: None,
            weights: None,
        }
    }

    /// An agent can be picked from now on.
    pub(crate) fn put(&mut self, slot: u32, load: Load, slots: &mut [Slot]) -> Weights {
        let Some(state) = slots.get_mut(index(slot)) else { return Weights::Same };
        if state.position != NOWHERE {
            return Weights::Same;
        }
        state.position = number(self.open.len());
        let weight = state.weight;
        self.open.push(slot);
        let members = index(self.members);
        if let Some(turns) = &mut self.turns {
            turns.put(Queued::TURNS, slot, members, slots);
        }
        if let Some(levels) = &mut self.levels {
            levels.put(slot, load, slots);
        }
        if self.weights.is_none() { Weights::Same } else { self.put_weight(slot, weight, slots) }
    }

    /// An agent cannot be picked from now on.
    pub(crate) fn take(&mut self, slot: u32, slots: &mut [Slot]) {
        let Some(state) = slots.get_mut(index(slot)) else { return };
        let position = index(state.position);
        let weight = state.weight;
        if self.open.get(position) != Some(&slot) {
            debug_assert!(state.position == NOWHERE, "slot {slot} is not at its place");
            return;
        }
        state.position = NOWHERE;
        self.open.swap_remove(position);
        if let Some(moved) = self.open.get(position).and_then(|moved| slots.get_mut(index(*moved)))
        {
            moved.position = number(position);
        }
        if let Some(levels) = &mut self.levels {
            levels.take(slot, slots);
        }
        let mut groups = self.weights.iter_mut().flatten();
        if let Some(group) = groups.find(|group| group.weight == weight) {
            group.open = group.open.saturating_sub(1);
        }
    }

    /// An open agent has more or less to do.
    pub(crate) fn reload(&mut self, slot: u32, load: Load, slots: &mut [Slot]) {
        let Some(levels) = &mut self.levels else { return };
        if slots.get(index(slot)).is_some_and(|state| state.level != level(load)) {
            levels.take(slot, slots);
            levels.put(slot, load, slots);
        }
    }

    /// The open agent whose turn it is.
    pub(crate) fn next(&mut self, slots: &mut [Slot]) -> Option<u32> {
        let open = &self.open;
        let turns = self.turns.get_or_insert_with(|| Turns::new(Queued::TURNS, open, slots));
        turns.next(Queued::TURNS, slots)
    }

    /// Sorts its agents by weight, unless that is done.
    pub(crate) fn weigh(&mut self, slots: &mut [Slot]) -> Weights {
        if self.weights.is_some() {
            return Weights::Same;
        }
        self.weights = Some(Vec::new());
        let weight = |slot: &u32| slots.get(index(*slot)).map(|state| state.weight);
        let all: Vec<(u32, u32)> =
            self.open.iter().filter_map(|slot| Some((*slot, weight(slot)?))).collect();
        let mut weights = Weights::Same;
        for (slot, weight) in all {
            if self.put_weight(slot, weight, slots) == Weights::Grown {
                weights = Weights::Grown;
            }
        }
        weights
    }

    /// The open agent of one weight whose turn it is.
    pub(crate) fn next_of(&mut self, group: usize, slots: &mut [Slot]) -> Option<u32> {
        self.weights.as_mut()?.get_mut(group)?.turns.next(Queued::WEIGHTED, slots)
    }

    fn put_weight(&mut self, slot: u32, weight: u32, slots: &mut [Slot]) -> Weights {
        let members = index(self.members);
        let groups = self.weights.get_or_insert_default();
        let found = groups.iter().position(|group| group.weight == weight);
        let at = found.unwrap_or(groups.len());
        if found.is_none() {
            groups.push(Weighted { weight, open: 0, turns: Turns::default() });
        }
        if let Some(group) = groups.get_mut(at) {
            group.open = group.open.saturating_add(1);
            group.turns.put(Queued::WEIGHTED, slot, members, slots);
        }
        if found.is_none() { Weights::Grown } else { Weights::Same }
    }

    /// Lowest level of its open agents, and how many stand there.
    pub(crate) fn lowest(&mut self, slots: &mut [Slot], loads: &[Load]) -> Option<(u8, usize)> {
        if self.open.len() <= SEARCHED_MAX && self.levels.is_none() {
            let lowest = self.open_levels(loads).map(|(_, level)| level).min()?;
            let count = self.open_levels(loads).filter(|(_, level)| *level == lowest).count();
            return Some((lowest, count));
        }
        let open = &self.open;
        self.levels.get_or_insert_with(|| Levels::new(open, slots, loads)).lowest()
    }

    /// Any open agent of a level.
    pub(crate) fn draw_level(&self, wanted: u8, random: u64, loads: &[Load]) -> Option<u32> {
        if let Some(levels) = &self.levels {
            return levels.draw(wanted, random);
        }
        let count = self.open_levels(loads).filter(|(_, level)| *level == wanted).count();
        let nth = below(random, count.max(1));
        let mut all = self.open_levels(loads).filter(|(_, level)| *level == wanted);
        all.nth(nth).map(|(slot, _)| slot)
    }

    fn open_levels<'a>(&'a self, loads: &'a [Load]) -> impl Iterator<Item = (u32, u8)> + 'a {
        self.open
            .iter()
            .filter_map(|slot| loads.get(index(*slot)).map(|load| (*slot, level(*load))))
    }
}
