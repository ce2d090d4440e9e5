//! Open agents of one class by how much of their slots is taken, so that the least loaded is at
//! hand.
//!
//! Loads are told apart to a sixty-second of an agent's slots, exactly up to 62 slots of agents with
//! as many slots; idle agents are always apart. Small classes do without and are searched.

use crate::logic::routing::types::{Load, NOWHERE, Slot, below, index, number};

/// Levels: one for idle agents, and one for each share of slots taken.
pub(crate) const LEVELS: usize = 64;

/// Classes of at most so many open agents are searched.
pub(crate) const SEARCHED_MAX: usize = 16;

/// Level of a load.
pub(crate) fn level(load: Load) -> u8 {
    if load.inflight == 0 {
        return 0;
    }
    let share = u64::from(load.inflight).saturating_mul(62) / u64::from(load.slots.max(1));
    u8::try_from(share.min(62)).unwrap_or(62).saturating_add(1)
}

/// Agents by level.
#[derive(Clone, Debug)]
pub(crate) struct Levels {
    levels: Vec<Vec<u32>>,
    /// Bit n is set when level n has agents.
    filled: u64,
}

impl Levels {
    /// Sorts the open agents of a class.
    pub(crate) fn new(open: &[u32], slots: &mut [Slot], loads: &[Load]) -> Self {
        let mut levels = Self { levels: vec![Vec::new(); LEVELS], filled: 0 };
        for slot in open {
            if let Some(load) = loads.get(index(*slot)) {
                levels.put(*slot, *load, slots);
            }
        }
        levels
    }

    /// Adds an agent.
    pub(crate) fn put(&mut self, slot: u32, load: Load, slots: &mut [Slot]) {
        let level = level(load);
        let (Some(list), Some(state)) =
            (self.levels.get_mut(usize::from(level)), slots.get_mut(index(slot)))
        else {
            return;
        };
        state.level = level;
        state.level_position = number(list.len());
        list.push(slot);
        self.filled |= 1 << level;
    }

    /// Takes an agent out.
    pub(crate) fn take(&mut self, slot: u32, slots: &mut [Slot]) {
        let Some(state) = slots.get_mut(index(slot)) else { return };
        let position = index(state.level_position);
        state.level_position = NOWHERE;
        let level = state.level;
        let Some(list) = self.levels.get_mut(usize::from(level)) else { return };
        if list.get(position) != Some(&slot) {
            debug_assert!(false, "slot {slot} is not at its place in level {level}");
            return;
        }
        list.swap_remove(position);
        if let Some(moved) = list.get(position).and_then(|moved| slots.get_mut(index(*moved))) {
            moved.level_position = number(position);
        }
        if list.is_empty() {
            self.filled &= !(1 << level);
        }
    }

    /// Lowest level with agents, and how many stand there.
    pub(crate) fn lowest(&self) -> Option<(u8, usize)> {
        if self.filled == 0 {
            return None;
        }
        let level = u8::try_from(self.filled.trailing_zeros()).unwrap_or(0);
        self.levels.get(usize::from(level)).map(|list| (level, list.len()))
    }

    /// Any agent of a level.
    pub(crate) fn draw(&self, level: u8, random: u64) -> Option<u32> {
        let list = self.levels.get(usize::from(level)).filter(|list| !list.is_empty())?;
        list.get(below(random, list.len())).copied()
    }
}
