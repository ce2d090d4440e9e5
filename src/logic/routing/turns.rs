//! A queue of agents who take turns: whoever was picked stands at its end.
//!
//! An agent that cannot be picked is left out when its turn comes, and comes back at the end; one
//! that was away for less than a round keeps its place.

use std::collections::VecDeque;

use crate::logic::routing::types::{NOWHERE, Queued, Slot, index};

/// Entries of agents that are gone are cleared away when the queue is so much longer than twice its
/// class.
const SPARE: usize = 16;

/// The queue. Entries carry the membership they were made for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    entries: VecDeque<(u32, u32)>,
}

impl Turns {
    /// Lets these agents queue in the order given.
    pub(crate) fn new(which: Queued, members: &[u32], slots: &mut [Slot]) -> Self {
        let mut turns = Self::default();
        for slot in members {
            turns.put(which, *slot, members.len(), slots);
        }
        turns
    }

    /// Lets an agent queue at the end, unless it stands there already.
    pub(crate) fn put(&mut self, which: Queued, slot: u32, members: usize, slots: &mut [Slot]) {
        let Some(state) = slots.get_mut(index(slot)) else { return };
        if state.queued.has(which) {
            return;
        }
        state.queued.put(which);
        let stamp = state.stamp;
        if members.saturating_mul(2).saturating_add(SPARE) < self.entries.len() {
            let current = |entry: &(u32, u32)| is_current(*entry, slots);
            self.entries.retain(current);
        }
        self.entries.push_back((slot, stamp));
    }

    /// The open agent whose turn it is; it goes to the end.
    pub(crate) fn next(&mut self, which: Queued, slots: &mut [Slot]) -> Option<u32> {
        while let Some(entry) = self.entries.pop_front() {
            if !is_current(entry, slots) {
                continue;
            }
            let Some(state) = slots.get_mut(index(entry.0)) else { continue };
            if state.position == NOWHERE {
                state.queued.take(which);
                continue;
            }
            self.entries.push_back(entry);
            return Some(entry.0);
        }
        None
    }
}

/// Whether an entry still stands for the agent that it was made for.
fn is_current(entry: (u32, u32), slots: &[Slot]) -> bool {
    slots.get(index(entry.0)).is_some_and(|state| state.stamp == entry.1)
}
