//! Agents as routing sees them, and the settings of the router.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::id::{AgentId, ChildName};
use crate::protocol::route::{Distribution, Standing};

/// Most agents of one router.
pub const AGENTS_MAX: usize = 1_000_000;

/// Largest weight; larger ones count as this.
pub const WEIGHT_MAX: u32 = 1_000;

/// An agent, as it can be picked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentEntry {
    /// Identity.
    pub id: AgentId,
    /// Name.
    pub name: ChildName,
    /// What it can do.
    pub capabilities: BTreeSet<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Tasks that it takes at a time; 0 counts as 1.
    pub slots: u32,
    /// Share of the work under `weighted_round_robin`, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
}

/// What makes agents alike for a condition.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Profile {
    pub(crate) capabilities: BTreeSet<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Place of an agent in the slab. Another agent at the same place has another generation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Handle {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// What an open circuit means for routing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BreakerUse {
    /// An agent whose circuit is open or half-open gets nothing.
    #[default]
    Heeded,
    /// An agent that runs may get work whatever its circuit says.
    Ignored,
}

/// Settings of a router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Conditions memorised, and sticky keys, each; 0 counts as 1.
    pub cache_size: usize,
    /// What an open circuit means.
    pub breaker: BreakerUse,
    /// Strategy where the needs name none.
    pub distribution: Distribution,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_size: 1_000,
            breaker: BreakerUse::Heeded,
            distribution: Distribution::PowerOfTwo,
        }
    }
}

impl Settings {
    /// Whether an agent of this standing may be given work.
    #[must_use]
    pub fn admits(&self, standing: Standing) -> bool {
        match standing {
            Standing::Ready => true,
            Standing::OnTrial => self.breaker == BreakerUse::Ignored,
            Standing::CircuitOpen
            | Standing::Draining
            | Standing::NotReady
            | Standing::Suspect
            | Standing::Down => false,
        }
    }
}

/// The router holds as many agents as it can.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("router holds {AGENTS_MAX} agents; no more are allowed")]
pub struct RouterFull;

/// Marks a place that is none.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// All that changes about one agent in the slab.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Which agent at this place.
    pub(crate) generation: u32,
    /// Which membership of a class: entries of queues carry it.
    pub(crate) stamp: u32,
    pub(crate) class: u32,
    pub(crate) weight: u32,
    /// Index in its class's open agents, or [`NOWHERE`].
    pub(crate) position: u32,
    /// Index in its level, or [`NOWHERE`].
    pub(crate) level_position: u32,
    pub(crate) level: u8,
    pub(crate) queued: Queued,
    pub(crate) standing: Standing,
    /// When it was last picked from a short list.
    pub(crate) turn: u64,
    /// Credit in short lists under weighted round robin.
    pub(crate) credit: i64,
    /// Hash of its id, for sticky keys.
    pub(crate) id_hash: u64,
}

/// In which queues of its class an agent stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Queued(u8);

impl Queued {
    pub(crate) const TURNS: Self = Self(1);
    pub(crate) const WEIGHTED: Self = Self(2);

    pub(crate) fn has(self, queue: Self) -> bool {
        self.0 & queue.0 != 0
    }

    pub(crate) fn put(&mut self, queue: Self) {
        self.0 |= queue.0;
    }

    pub(crate) fn take(&mut self, queue: Self) {
        self.0 &= !queue.0;
    }
}

/// Tasks that an agent has, and may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) inflight: u32,
    /// At least 1.
    pub(crate) slots: u32,
}

impl Load {
    pub(crate) fn is_full(self) -> bool {
        self.slots <= self.inflight
    }

    /// Share of the slots that is taken.
    pub(crate) fn share(self) -> f64 {
        f64::from(self.inflight) / f64::from(self.slots)
    }

    /// Whether a smaller share is taken than of another.
    pub(crate) fn is_less_than(self, other: Self) -> bool {
        let cross = |one: u32, two: u32| u64::from(one) * u64::from(two);
        cross(self.inflight, other.slots) < cross(other.inflight, self.slots)
    }
}

/// Scatters the bits of a number (the finalizer of `SplitMix64`).
pub(crate) fn scatter(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A number below a bound, which is above 0, from 64 random bits.
#[expect(clippy::cast_possible_truncation, reason = "a product shifted by 64 is below the bound")]
pub(crate) fn below(random: u64, bound: usize) -> usize {
    let bound = u128::try_from(bound).unwrap_or(u128::MAX);
    ((u128::from(random).wrapping_mul(bound)) >> 64) as usize
}

/// A slot's number as an index.
pub(crate) fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// An index as a slot's number; the slab is bounded, so that it always fits.
pub(crate) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NOWHERE)
}
