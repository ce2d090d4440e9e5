//! All agents in a slab, and the classes that they form.
//!
//! What strategies draw from is kept true at each change: an agent stands among the open ones of its
//! class exactly when its standing admits it and it has a free slot.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::logic::routing::class::{Class, Weights};
use crate::logic::routing::types::{
    AGENTS_MAX, AgentEntry, Handle, Load, NOWHERE, Profile, Queued, RouterFull, Settings, Slot,
    WEIGHT_MAX, index, number,
};
use crate::protocol::id::{AgentId, ChildName};
use crate::protocol::route::Standing;

/// Empty classes are cleared away when there are so many, and they are more than half.
const EMPTY_CLASSES_MAX: usize = 64;

/// The slab and the classes.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    settings: Settings,
    pub(crate) slots: Vec<Slot>,
    pub(crate) loads: Vec<Load>,
    pub(crate) ids: Vec<AgentId>,
    pub(crate) agents: Vec<Option<AgentEntry>>,
    pub(crate) classes: Vec<Class>,
    by_id: BTreeMap<AgentId, u32>,
    by_name: BTreeMap<ChildName, u32>,
    by_profile: BTreeMap<Arc<Profile>, u32>,
    free: Vec<u32>,
    empty: usize,
    /// Counts changes of the number of members of any class.
    pub(crate) members_stamp: u64,
    /// Counts weights that are new in any class.
    pub(crate) weights_stamp: u64,
    /// Counts the times that classes got new numbers.
    pub(crate) renumbered: u64,
}

impl Table {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            slots: Vec::new(),
            loads: Vec::new(),
            ids: Vec::new(),
            agents: Vec::new(),
            classes: Vec::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_profile: BTreeMap::new(),
            free: Vec::new(),
            empty: 0,
            members_stamp: 0,
            weights_stamp: 0,
            renumbered: 0,
        }
    }

    /// Adds an agent, or takes over what has changed about it. Load and standing stay as they are;
    /// a new agent has nothing to do and is down.
    pub(crate) fn upsert(&mut self, entry: AgentEntry) -> Result<Handle, RouterFull> {
        let known = self.by_id.get(&entry.id).copied();
        let slot = match known {
            Some(slot) => slot,
            None => self.vacant(&entry)?,
        };
        let at = index(slot);
        let profile =
            Profile { capabilities: entry.capabilities.clone(), labels: entry.labels.clone() };
        let class = self.class_of(profile);
        let weight = entry.weight.clamp(1, WEIGHT_MAX);
        let moved =
            self.slots.get(at).is_some_and(|state| state.class != class || state.weight != weight);
        if known.is_none() || moved {
            self.leave(slot);
            if let Some(state) = self.slots.get_mut(at) {
                state.weight = weight;
            }
            self.join(slot, class);
        }
        if let Some(old) = self.agents.get(at).and_then(Option::as_ref)
            && self.by_name.get(&old.name) == Some(&slot)
            && old.name != entry.name
        {
            self.by_name.remove(&old.name);
        }
        if let Some(load) = self.loads.get_mut(at) {
            load.slots = entry.slots.max(1);
        }
        self.by_name.insert(entry.name.clone(), slot);
        self.by_id.insert(entry.id.clone(), slot);
        if let Some(place) = self.agents.get_mut(at) {
            *place = Some(entry);
        }
        self.settle(slot);
        self.compact();
        Ok(self.handle(slot))
    }

    /// Takes an agent out.
    pub(crate) fn remove(&mut self, id: &AgentId) -> bool {
        let Some(slot) = self.by_id.remove(id) else { return false };
        let at = index(slot);
        self.set_standing(slot, Standing::Down);
        self.leave(slot);
        if let Some(state) = self.slots.get_mut(at) {
            state.generation = state.generation.wrapping_add(1);
        }
        if let Some(entry) = self.agents.get_mut(at).and_then(Option::take)
            && self.by_name.get(&entry.name) == Some(&slot)
        {
            self.by_name.remove(&entry.name);
        }
        self.free.push(slot);
        self.compact();
        true
    }

    pub(crate) fn set_load(&mut self, slot: u32, inflight: u32) {
        let Some(load) = self.loads.get_mut(index(slot)) else { return };
        load.inflight = inflight;
        self.settle(slot);
    }

    pub(crate) fn set_standing(&mut self, slot: u32, standing: Standing) {
        let settings = self.settings;
        let Some(state) = self.slots.get_mut(index(slot)) else { return };
        let (before, after) = (settings.admits(state.standing), settings.admits(standing));
        state.standing = standing;
        if before == after {
            return;
        }
        if let Some(class) = self.classes.get_mut(index(state.class)) {
            class.routable =
                if after { class.routable + 1 } else { class.routable.saturating_sub(1) };
        }
        self.settle(slot);
    }

    /// Slot of an agent by id, or else by name.
    pub(crate) fn named(&self, text: &str) -> Option<u32> {
        let by_id = text.parse::<AgentId>().ok().and_then(|id| self.by_id.get(&id).copied());
        by_id.or_else(|| self.by_name.get(&text.parse::<ChildName>().ok()?).copied())
    }

    pub(crate) fn by_id(&self, id: &AgentId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The slot, if the agent that the handle was made for is still there.
    pub(crate) fn live(&self, handle: Handle) -> Option<u32> {
        let state = self.slots.get(index(handle.slot))?;
        let occupied = self.agents.get(index(handle.slot)).is_some_and(Option::is_some);
        (state.generation == handle.generation && occupied).then_some(handle.slot)
    }

    pub(crate) fn handle(&self, slot: u32) -> Handle {
        let generation = self.slots.get(index(slot)).map_or(0, |state| state.generation);
        Handle { slot, generation }
    }

    pub(crate) fn is_open(&self, slot: u32) -> bool {
        self.slots.get(index(slot)).is_some_and(|state| state.position != NOWHERE)
    }

    pub(crate) fn is_routable(&self, slot: u32) -> bool {
        let standing = self.slots.get(index(slot)).map(|state| state.standing);
        standing.is_some_and(|standing| self.settings.admits(standing))
    }

    pub(crate) fn load(&self, slot: u32) -> Load {
        self.loads.get(index(slot)).copied().unwrap_or(Load { inflight: 0, slots: 1 })
    }

    /// The agent of a slot that is taken.
    pub(crate) fn id(&self, slot: u32) -> Option<AgentId> {
        self.ids.get(index(slot)).cloned()
    }

    /// Agents there are, with their slots, by id.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &AgentEntry)> {
        self.by_id
            .values()
            .filter_map(|slot| Some((*slot, self.agents.get(index(*slot))?.as_ref()?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn vacant(&mut self, entry: &AgentEntry) -> Result<u32, RouterFull> {
        let mut hasher = DefaultHasher::new();
        entry.id.hash(&mut hasher);
        let id_hash = hasher.finish();
        if let Some(slot) = self.free.pop() {
            if let Some(state) = self.slots.get_mut(index(slot)) {
                state.id_hash = id_hash;
                state.standing = Standing::Down;
            }
            if let Some(load) = self.loads.get_mut(index(slot)) {
                load.inflight = 0;
            }
            if let Some(id) = self.ids.get_mut(index(slot)) {
                *id = entry.id.clone();
            }
            return Ok(slot);
        }
        if AGENTS_MAX <= self.slots.len() {
            return Err(RouterFull);
        }
        self.slots.push(Slot {
            generation: 0,
            stamp: 0,
            class: NOWHERE,
            weight: 1,
            position: NOWHERE,
            level_position: NOWHERE,
            level: 0,
            queued: Queued::default(),
            standing: Standing::Down,
            turn: 0,
            credit: 0,
            id_hash,
        });
        self.loads.push(Load { inflight: 0, slots: entry.slots.max(1) });
        self.ids.push(entry.id.clone());
        self.agents.push(None);
        Ok(number(self.slots.len() - 1))
    }

    fn class_of(&mut self, profile: Profile) -> u32 {
        if let Some(class) = self.by_profile.get(&profile) {
            return *class;
        }
        let profile = Arc::new(profile);
        let class = number(self.classes.len());
        self.classes.push(Class::new(Arc::clone(&profile)));
        self.by_profile.insert(profile, class);
        self.empty += 1;
        class
    }

    /// Puts an agent of no class into one. Who is open is for [`Self::settle`].
    fn join(&mut self, slot: u32, to: u32) {
        let Some(state) = self.slots.get_mut(index(slot)) else { return };
        state.class = to;
        let routable = self.settings.admits(state.standing);
        let Some(class) = self.classes.get_mut(index(to)) else { return };
        if class.members == 0 {
            self.empty = self.empty.saturating_sub(1);
        }
        class.members += 1;
        class.routable += u32::from(routable);
        self.members_stamp += 1;
    }

    /// Takes an agent out of its class, if it has one. Entries of queues made for it are void.
    fn leave(&mut self, slot: u32) {
        let Some(state) = self.slots.get_mut(index(slot)) else { return };
        let from = state.class;
        let routable = self.settings.admits(state.standing);
        let Some(class) = self.classes.get_mut(index(from)) else { return };
        class.take(slot, &mut self.slots);
        class.members = class.members.saturating_sub(1);
        class.routable = class.routable.saturating_sub(u32::from(routable));
        if class.members == 0 {
            self.empty += 1;
        }
        if let Some(state) = self.slots.get_mut(index(slot)) {
            state.class = NOWHERE;
            state.stamp = state.stamp.wrapping_add(1);
            state.queued = Queued::default();
            state.turn = 0;
            state.credit = 0;
        }
        self.members_stamp += 1;
    }

    /// Makes an agent stand among the open ones exactly when it belongs there.
    fn settle(&mut self, slot: u32) {
        let load = self.load(slot);
        let belongs = self.is_routable(slot) && !load.is_full();
        let Some(state) = self.slots.get(index(slot)) else { return };
        let (stands, class) = (state.position != NOWHERE, state.class);
        let Some(class) = self.classes.get_mut(index(class)) else { return };
        match (stands, belongs) {
            (false, true) => {
                if class.put(slot, load, &mut self.slots) == Weights::Grown {
                    self.weights_stamp += 1;
                }
            }
            (true, false) => class.take(slot, &mut self.slots),
            (true, true) => class.reload(slot, load, &mut self.slots),
            (false, false) => {}
        }
    }

    /// Clears empty classes away when they are many; the others get new numbers.
    fn compact(&mut self) {
        if self.empty <= EMPTY_CLASSES_MAX || self.empty <= self.classes.len() / 2 {
            return;
        }
        let mut numbers = BTreeMap::new();
        let mut kept = Vec::with_capacity(self.classes.len() - self.empty);
        for (old, class) in self.classes.drain(..).enumerate() {
            if class.members == 0 {
                self.by_profile.remove(&class.profile);
            } else {
                numbers.insert(number(old), number(kept.len()));
                self.by_profile.insert(Arc::clone(&class.profile), number(kept.len()));
                kept.push(class);
            }
        }
        self.classes = kept;
        for state in &mut self.slots {
            state.class = numbers.get(&state.class).copied().unwrap_or(NOWHERE);
        }
        self.empty = 0;
        self.renumbered += 1;
    }
}
