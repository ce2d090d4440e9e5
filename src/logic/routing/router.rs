//! The machine: which agents there are, and who gets the next task or call.
//!
//! It reads no clock and draws no number: chance comes in with each question. Whoever assigns what
//! was picked says so by [`Router::set_load_at`]; until then the pick has changed nothing but turns
//! and keys.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::logic::routing::draw::{self, Drawn};
use crate::logic::routing::needs::Needs;
use crate::logic::routing::pick::{Counts, Member, Pick, Picked, Refusal, Refused, Room, Roster};
use crate::logic::routing::pool::Memo;
use crate::logic::routing::table::Table;
use crate::logic::routing::types::{
    AgentEntry, Handle, RouterFull, Settings, index, number, scatter,
};
use crate::protocol::id::AgentId;
use crate::protocol::route::{Distribution, Standing};

/// A key without an agent is placed by the hashes of all open agents up to so many; among more, by
/// its own hash alone.
const RENDEZVOUS_MAX: usize = 512;

/// Retries that avoid agents look at all others up to so many; among more they draw.
const SHORT_LIST_MAX: usize = 64;

/// Draws that may meet an agent to avoid before all are looked at.
const AVOID_TRIES: u64 = 16;

/// Agents and their classes, conditions and keys.
#[derive(Clone, Debug)]
pub struct Router {
    settings: Settings,
    pub(crate) table: Table,
    memo: Memo,
    keys: LruCache<StickyKey, Handle>,
}

/// A key counts for one condition: tasks of one key that need different things may need different
/// agents.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct StickyKey {
    key: String,
    condition: u64,
}

/// One question under way.
struct Question<'a> {
    needs: &'a Needs,
    distribution: Distribution,
    random: u64,
}

impl Router {
    /// A router without agents.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let size = NonZeroUsize::new(settings.cache_size).unwrap_or(NonZeroUsize::MIN);
        Self {
            settings,
            table: Table::new(settings),
            memo: Memo::new(size),
            keys: LruCache::new(size),
        }
    }

    /// Adds an agent, which is down and idle at first, or takes over what has changed about it.
    ///
    /// # Errors
    ///
    /// [`RouterFull`] when there are too many.
    pub fn upsert(&mut self, entry: AgentEntry) -> Result<Handle, RouterFull> {
        self.table.upsert(entry)
    }

    /// Forgets an agent; `false` if it was not known.
    pub fn remove(&mut self, id: &AgentId) -> bool {
        self.table.remove(id)
    }

    /// Says how many tasks an agent has; `false` if it is not known.
    pub fn set_load(&mut self, id: &AgentId, inflight: u32) -> bool {
        let slot = self.table.by_id(id);
        slot.is_some_and(|slot| self.set_load_at(self.table.handle(slot), inflight))
    }

    /// The same for the agent of a pick, without a look-up; `false` if it is gone.
    pub fn set_load_at(&mut self, handle: Handle, inflight: u32) -> bool {
        let Some(slot) = self.table.live(handle) else { return false };
        self.table.set_load(slot, inflight);
        true
    }

    /// Says whether an agent may be given work; `false` if it is not known.
    pub fn set_standing(&mut self, id: &AgentId, standing: Standing) -> bool {
        let Some(slot) = self.table.by_id(id) else { return false };
        self.table.set_standing(slot, standing);
        true
    }

    /// Picks one agent. `random` is any 64 bits of chance.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why there is none, and whether it helps to wait.
    pub fn pick(&mut self, needs: &Needs, random: u64) -> Result<Pick, Refusal> {
        let distribution = needs.distribution.unwrap_or(self.settings.distribution);
        let question = Question { needs, distribution, random };
        match distribution {
            Distribution::Broadcast => return Err(self.refuse(&question, Refused::GoesToAll)),
            Distribution::Direct if needs.participants.is_empty() => {
                return Err(self.refuse(&question, Refused::NoName));
            }
            Distribution::Sticky => {
                let Some(key) = &needs.sticky_key else {
                    return Err(self.refuse(&question, Refused::NoKey));
                };
                return self.pick_sticky(&question, key);
            }
            Distribution::Direct
            | Distribution::RoundRobin
            | Distribution::WeightedRoundRobin
            | Distribution::LeastLoaded
            | Distribution::PowerOfTwo => {}
        }
        if needs.participants.is_empty() && needs.avoid.is_empty() {
            return self.pick_of_pool(&question);
        }
        self.pick_of_list(&question)
    }

    /// All that take part in a broadcast: those that match, are named if any are, and may be given
    /// work.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when there is none.
    pub fn roster(&self, needs: &Needs) -> Result<Roster, Refusal> {
        let condition = &needs.key.0;
        let fits = |slot: u32, entry: &AgentEntry| {
            let class = self.class(slot);
            self.table.is_routable(slot)
                && is_named(needs, entry)
                && class.is_some_and(|class| condition.meets(&class.profile))
        };
        let fitting = self.table.all().filter(|(slot, entry)| fits(*slot, entry));
        let members: Vec<Member> = fitting.map(|(slot, entry)| self.member(slot, entry)).collect();
        let is_there = |text: &String| {
            let slot = self.table.named(text);
            slot.is_some_and(|slot| members.iter().any(|member| member.handle.slot == slot))
        };
        let absent: Vec<String> =
            needs.participants.iter().filter(|text| !is_there(text)).cloned().collect();
        if members.is_empty() {
            let distribution = Distribution::Broadcast;
            let question = Question { needs, distribution, random: 0 };
            return Err(self.refuse_counted(&question));
        }
        Ok(Roster { members, absent })
    }

    /// Number of agents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no agent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Whether any agent could take anything.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.table.classes.iter().any(|class| !class.open.is_empty())
    }

    /// Settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn pick_of_pool(&mut self, question: &Question<'_>) -> Result<Pick, Refusal> {
        let table = &mut self.table;
        let pool = self.memo.pool(&question.needs.key, table);
        let alone = |slot| Drawn { slot, other: None };
        let drawn = match question.distribution {
            Distribution::RoundRobin => draw::in_turn(pool, table).map(alone),
            Distribution::WeightedRoundRobin => draw::weighted(pool, table).map(alone),
            Distribution::LeastLoaded => draw::least(pool, table, question.random).map(alone),
            Distribution::PowerOfTwo
            | Distribution::Sticky
            | Distribution::Direct
            | Distribution::Broadcast => {
                draw::two(pool, table, question.random).map(|drawn| draw::better(drawn, table))
            }
        };
        let classes = number(pool.classes.len());
        let Some(drawn) = drawn else { return Err(self.refuse_counted(question)) };
        self.picked(question, drawn, Picked::ByStrategy, classes)
    }

    /// Picks of named agents, or avoids some.
    fn pick_of_list(&mut self, question: &Question<'_>) -> Result<Pick, Refusal> {
        let needs = question.needs;
        let avoid: Vec<u32> =
            needs.avoid.iter().filter_map(|text| self.table.named(text)).collect();
        if needs.participants.is_empty() {
            return match self.pick_avoiding(question, &avoid) {
                Some(drawn) => self.picked(question, drawn, Picked::ByStrategy, 0),
                None => self.pick_of_pool(question),
            };
        }
        let named = self.named_open(needs);
        let others: Vec<u32> = named.iter().copied().filter(|slot| !avoid.contains(slot)).collect();
        let list = if others.is_empty() { named } else { others };
        let drawn = draw::among(&list, &mut self.table, question.distribution, question.random);
        let why = match question.distribution {
            Distribution::Direct => Picked::ByName,
            Distribution::RoundRobin
            | Distribution::WeightedRoundRobin
            | Distribution::LeastLoaded
            | Distribution::PowerOfTwo
            | Distribution::Broadcast
            | Distribution::Sticky => Picked::ByStrategy,
        };
        let Some(drawn) = drawn else { return Err(self.refuse_counted(question)) };
        self.picked(question, drawn, why, 0)
    }

    /// One that is not to be avoided: by the strategy among few, by drawing among many.
    fn pick_avoiding(&mut self, question: &Question<'_>, avoid: &[u32]) -> Option<Drawn> {
        let table = &mut self.table;
        let pool = self.memo.pool(&question.needs.key, table);
        let tries = if SHORT_LIST_MAX < pool.open(table) { AVOID_TRIES } else { 0 };
        for attempt in 0..tries {
            let random = question.random.wrapping_add(scatter(attempt));
            let drawn = draw::better(draw::two(pool, table, random)?, table);
            if !avoid.contains(&drawn.slot) {
                return Some(drawn);
            }
        }
        let open = |class: &u32| table.classes.get(index(*class)).map(|class| &class.open);
        let open = pool.classes.iter().filter_map(open).flatten().copied();
        let list: Vec<u32> = open.filter(|slot| !avoid.contains(slot)).collect();
        draw::among(&list, table, question.distribution, question.random)
    }

    fn pick_sticky(&mut self, question: &Question<'_>, key: &str) -> Result<Pick, Refusal> {
        let condition = question.needs.key.0.hash();
        let kept = StickyKey { key: key.to_owned(), condition };
        let handle = self.keys.get(&kept).copied();
        let mut why = Picked::KeyPlaced;
        if let Some(slot) = handle.and_then(|handle| self.table.live(handle))
            && self.fits(slot, question.needs)
        {
            if self.table.is_open(slot) {
                return self.picked(question, Drawn { slot, other: None }, Picked::KeyKept, 0);
            }
            if self.table.is_routable(slot) {
                return Err(self.refuse(question, Refused::KeyFull));
            }
        }
        if handle.is_some() {
            why = Picked::KeyMoved;
        }
        let Some(slot) = self.place(question, key) else {
            return Err(self.refuse_counted(question));
        };
        self.keys.put(kept, self.table.handle(slot));
        self.picked(question, Drawn { slot, other: None }, why, 0)
    }

    /// The agent for a key that has none.
    fn place(&mut self, question: &Question<'_>, key: &str) -> Option<u32> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        if !question.needs.participants.is_empty() {
            let named = self.named_open(question.needs);
            return draw::rendezvous(hash, &named, &self.table);
        }
        let table = &self.table;
        let pool = self.memo.pool(&question.needs.key, table);
        if RENDEZVOUS_MAX < pool.open(table) {
            return draw::two(pool, table, hash).map(|drawn| drawn.slot);
        }
        let open = |class: &u32| table.classes.get(index(*class)).map(|class| &class.open);
        let open: Vec<u32> = pool.classes.iter().filter_map(open).flatten().copied().collect();
        draw::rendezvous(hash, &open, table)
    }

    /// Agents that are named, match and are open, in the order in which they are named.
    fn named_open(&self, needs: &Needs) -> Vec<u32> {
        let named = needs.participants.iter().filter_map(|text| self.table.named(text));
        let mut open: Vec<u32> = Vec::new();
        for slot in named {
            if self.table.is_open(slot) && self.fits(slot, needs) && !open.contains(&slot) {
                open.push(slot);
            }
        }
        open
    }

    /// Whether an agent meets the condition, and is named if any are.
    fn fits(&self, slot: u32, needs: &Needs) -> bool {
        let entry = self.table.agents.get(index(slot)).and_then(Option::as_ref);
        entry.is_some_and(|entry| is_named(needs, entry))
            && self.class(slot).is_some_and(|class| needs.key.0.meets(&class.profile))
    }

    pub(crate) fn class(&self, slot: u32) -> Option<&crate::logic::routing::class::Class> {
        self.table.classes.get(index(self.table.slots.get(index(slot))?.class))
    }

    fn member(&self, slot: u32, entry: &AgentEntry) -> Member {
        let room = if self.table.is_open(slot) { Room::Free } else { Room::Full };
        Member { agent: entry.id.clone(), handle: self.table.handle(slot), room }
    }

    fn picked(
        &self,
        question: &Question<'_>,
        drawn: Drawn,
        why: Picked,
        classes: u32,
    ) -> Result<Pick, Refusal> {
        let Some(agent) = self.table.id(drawn.slot) else {
            debug_assert!(false, "slot {} is open and has no agent", drawn.slot);
            return Err(self.refuse_counted(question));
        };
        let (load, handle) = (self.table.load(drawn.slot), self.table.handle(drawn.slot));
        let other = drawn.other.map(|other| self.table.load(other));
        Ok(Pick {
            agent,
            handle,
            distribution: question.distribution,
            why,
            inflight: load.inflight,
            slots: load.slots,
            compared: other.map(|other| (other.inflight, other.slots)),
            classes,
        })
    }

    /// Refuses for what the counts say.
    fn refuse_counted(&self, question: &Question<'_>) -> Refusal {
        let counts = self.counts(question.needs);
        let refused = match counts {
            Counts { matching: 0, .. } => Refused::NoneMatches,
            Counts { routable: 0, .. } => Refused::NoneRoutable,
            Counts { .. } => Refused::AllFull,
        };
        Refusal { distribution: question.distribution, refused, counts }
    }

    fn refuse(&self, question: &Question<'_>, refused: Refused) -> Refusal {
        let counts = self.counts(question.needs);
        Refusal { distribution: question.distribution, refused, counts }
    }

    fn counts(&self, needs: &Needs) -> Counts {
        let mut counts = Counts { known: number(self.table.len()), ..Counts::default() };
        if needs.participants.is_empty() {
            let matching = self.table.classes.iter();
            for class in matching.filter(|class| needs.key.0.meets(&class.profile)) {
                counts.matching += class.members;
                counts.routable += class.routable;
                counts.open += number(class.open.len());
            }
            return counts;
        }
        let mut named: Vec<u32> =
            needs.participants.iter().filter_map(|text| self.table.named(text)).collect();
        named.sort_unstable();
        named.dedup();
        for slot in named.into_iter().filter(|slot| self.fits(*slot, needs)) {
            counts.matching += 1;
            counts.routable += u32::from(self.table.is_routable(slot));
            counts.open += u32::from(self.table.is_open(slot));
        }
        counts
    }
}

/// Whether an agent is among the participants, if there are any.
pub(crate) fn is_named(needs: &Needs, entry: &AgentEntry) -> bool {
    let is = |text: &String| text == entry.id.as_str() || text == entry.name.as_str();
    needs.participants.is_empty() || needs.participants.iter().any(is)
}
