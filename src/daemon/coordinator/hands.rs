//! The agents as those who can have tasks: what each takes, what it has, and who gets the next one.
//!
//! Who gets it is decided by [`crate::logic::routing`]; this keeps the router's picture of the
//! agents true. An agent's standing is read from the board when it is picked, so that one that is
//! away is never given anything, and, for those that could not be given work, once more whenever
//! the coordinator's clock ticks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::board::Board;
use crate::logic::routing::{AgentEntry, Needs, Pick, Refusal, Roster, Router, Settings};
use crate::ports::AgentChannel;
use crate::protocol::agent::{Beat, Held};
use crate::protocol::id::{AgentId, TaskId};
use crate::protocol::route::{RouteAnswer, Standing};
use crate::protocol::spec::RuntimeKind;
use crate::runtimes::channels::{Offer, Present};

/// The longest time for which an attempt that does not count any more takes its agent's slot
/// without a word from it. It is one more lease where that is shorter.
const GHOST_MAX: Duration = Duration::from_secs(60);

/// One attempt, as an agent has it.
type Attempt = (TaskId, u32);

/// One running agent.
#[derive(Debug)]
pub struct Hand {
    /// The way to it.
    pub channel: Arc<dyn AgentChannel>,
    /// What it takes.
    pub offer: Arc<Offer>,
    /// Which run of all.
    pub number: u64,
    /// What it can do, as it said itself or as its type says.
    capabilities: BTreeSet<String>,
    slots: u32,
    /// Attempts that take a slot, and since when without counting.
    held: BTreeMap<Attempt, Option<Instant>>,
    /// Whether it has ever said that it has a task, so that it is known to keep account.
    pub keeps_account: bool,
}

/// All running agents.
#[derive(Debug)]
pub struct Hands {
    hands: BTreeMap<AgentId, Hand>,
    router: Router,
    /// Those that could not be given work when they were looked at last.
    away: BTreeSet<AgentId>,
}

impl Hands {
    /// Nobody, to be routed by these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { hands: BTreeMap::new(), router: Router::new(settings), away: BTreeSet::new() }
    }

    /// An agent's hand.
    #[must_use]
    pub fn get(&self, agent: &AgentId) -> Option<&Hand> {
        self.hands.get(agent)
    }

    /// An agent has begun a run. Gives the number of the run that it replaces.
    pub fn enter(&mut self, agent: &AgentId, present: &Present) -> Option<u64> {
        let hand = Hand {
            channel: Arc::clone(&present.channel),
            offer: Arc::clone(&present.offer),
            number: present.number,
            capabilities: present.offer.capabilities.iter().cloned().collect(),
            slots: present.offer.slots.max(1),
            held: BTreeMap::new(),
            keeps_account: false,
        };
        let before = self.hands.insert(agent.clone(), hand).map(|before| before.number);
        self.introduce(agent);
        // It is looked at when the clock ticks, or somebody asks.
        self.away.insert(agent.clone());
        before
    }

    /// A run is over; tells whether it was the present one.
    pub fn leave(&mut self, agent: &AgentId, number: u64) -> bool {
        let is_present = self.hands.get(agent).is_some_and(|hand| hand.number == number);
        if is_present {
            self.hands.remove(agent);
            self.router.remove(agent);
            self.away.remove(agent);
        }
        is_present
    }

    /// An agent takes an attempt.
    pub fn take(&mut self, agent: &AgentId, attempt: (&TaskId, u32)) {
        if let Some(hand) = self.hands.get_mut(agent) {
            hand.held.insert((attempt.0.clone(), attempt.1), None);
            self.router.set_load(agent, hand.load());
        }
    }

    /// An attempt takes no slot any more.
    pub fn free(&mut self, agent: &AgentId, attempt: (&TaskId, u32)) {
        if let Some(hand) = self.hands.get_mut(agent) {
            hand.held.remove(&(attempt.0.clone(), attempt.1));
            self.router.set_load(agent, hand.load());
        }
    }

    /// An attempt does not count any more; its agent may still be at it.
    pub fn orphan(&mut self, agent: &AgentId, attempt: (&TaskId, u32)) {
        if let Some(hand) = self.hands.get_mut(agent)
            && let Some(since) = hand.held.get_mut(&(attempt.0.clone(), attempt.1))
        {
            since.get_or_insert_with(Instant::now);
        }
    }

    /// Frees what its agent has not spoken of for long.
    pub fn forget_ghosts(&mut self) {
        for (agent, hand) in &mut self.hands {
            let bound = hand.offer.timeout.min(GHOST_MAX);
            let fresh = |since: &Option<Instant>| since.is_none_or(|at| at.elapsed() < bound);
            let before = hand.held.len();
            hand.held.retain(|_, since| fresh(since));
            if hand.held.len() != before {
                self.router.set_load(agent, hand.load());
            }
        }
    }

    /// A remote agent has beaten: what it says about itself counts.
    pub fn beat(&mut self, agent: &AgentId, beat: &Beat) {
        let Some(hand) = self.hands.get_mut(agent) else { return };
        hand.keeps_account |= !beat.inflight.is_empty();
        let mut is_other = false;
        if hand.offer.runtime == RuntimeKind::Remote {
            let slots = beat.slots.max(1);
            is_other = slots != hand.slots;
            hand.slots = slots;
            if !beat.capabilities.is_empty() {
                let said: BTreeSet<String> = beat.capabilities.iter().cloned().collect();
                is_other |= said != hand.capabilities;
                hand.capabilities = said;
            }
        }
        let has = |id: &TaskId| beat.inflight.iter().any(|held: &Held| held.id == *id);
        hand.held.retain(|(id, _), since| since.is_none() || has(id));
        let load = hand.load();
        if is_other {
            self.introduce(agent);
        }
        self.router.set_load(agent, load);
    }

    /// Whether anybody could take anything.
    #[must_use]
    pub fn any_free(&self) -> bool {
        self.router.has_room()
    }

    /// Looks once more at those that could not be given work.
    pub fn look_again(&mut self, board: &Board) {
        let Self { hands, router, away } = self;
        away.retain(|agent| {
            let Some(hand) = hands.get(agent) else { return false };
            let standing = standing(board, hand);
            router.set_standing(agent, standing);
            !router.settings().admits(standing)
        });
    }

    /// Who gets a task with these needs.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why nobody gets it now.
    pub fn pick(&mut self, board: &Board, needs: &Needs, random: u64) -> Result<Pick, Refusal> {
        loop {
            let pick = self.router.pick(needs, random)?;
            let standing =
                self.hands.get(&pick.agent).map_or(Standing::Down, |hand| standing(board, hand));
            if self.router.settings().admits(standing) {
                return Ok(pick);
            }
            // One fewer can be picked each time: this comes to an end.
            self.router.set_standing(&pick.agent, standing);
            self.away.insert(pick.agent);
        }
    }

    /// Who would be picked, and what speaks for and against each. Nothing is changed by it.
    #[must_use]
    pub fn explain(&mut self, board: &Board, needs: &Needs, random: u64) -> RouteAnswer {
        self.look_at_all(board);
        self.router.explain(needs, random)
    }

    /// All that take part in a broadcast.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when nobody does now.
    pub fn roster(&mut self, board: &Board, needs: &Needs) -> Result<Roster, Refusal> {
        self.look_at_all(board);
        self.router.roster(needs)
    }

    fn look_at_all(&mut self, board: &Board) {
        let Self { hands, router, away } = self;
        for (agent, hand) in hands.iter() {
            let standing = standing(board, hand);
            router.set_standing(agent, standing);
            if !router.settings().admits(standing) {
                away.insert(agent.clone());
            }
        }
    }

    /// The agents and their runs.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &Hand)> {
        self.hands.iter()
    }

    /// Tells the router what an agent takes.
    fn introduce(&mut self, agent: &AgentId) {
        let Some(hand) = self.hands.get(agent) else { return };
        let entry = AgentEntry {
            id: agent.clone(),
            name: hand.offer.name.clone(),
            capabilities: hand.capabilities.clone(),
            labels: hand.offer.labels.clone(),
            slots: hand.slots,
            weight: hand.slots,
        };
        if let Err(full) = self.router.upsert(entry) {
            tracing::error!(%agent, error = %full, "an agent gets no tasks");
        }
        self.router.set_load(agent, hand.load());
    }
}

impl Hand {
    fn load(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }
}

/// Whether an agent may be given work.
fn standing(board: &Board, hand: &Hand) -> Standing {
    board.read(&hand.offer.name, |entry| entry.standing).unwrap_or(Standing::Down)
}
