//! The agents as those who can have tasks: what each takes, what it has, and who gets the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::board::Board;
use crate::logic::ledger::Needs;
use crate::ports::AgentChannel;
use crate::protocol::agent::{Beat, Held};
use crate::protocol::id::{AgentId, TaskId};
use crate::protocol::spec::RuntimeKind;
use crate::protocol::status::AgentState;
use crate::protocol::task::TaskStrategy;
use crate::runtimes::channels::{Offer, Present};

/// The longest time for which an attempt that does not count any more takes its agent's slot
/// without a word from it. It is one more lease where that is shorter.
const GHOST_MAX: Duration = Duration::from_secs(60);

/// One attempt, as an agent has it.
type Attempt = (TaskId, u32);

/// How an agent compares for one task, the least is best: has it failed the task, is it sick, its
/// load, its turn.
type Rank = (bool, bool, usize, u64);

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
    slots: usize,
    /// Attempts that take a slot, and since when without counting.
    held: BTreeMap<Attempt, Option<Instant>>,
    /// When it was chosen last, in choices.
    chosen: u64,
    /// Whether it has ever said that it has a task, so that it is known to keep account.
    pub keeps_account: bool,
}

/// Who gets a task.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pick {
    /// The agent.
    pub agent: AgentId,
    /// Agents that could have it.
    pub candidates: u64,
    /// Tasks that the agent has.
    pub load: u64,
}

/// Why nobody gets it now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No running agent can do it.
    NoneCan,
    /// All that can have enough to do, or take nothing now.
    AllBusy,
}

/// All running agents.
#[derive(Debug, Default)]
pub struct Hands {
    hands: BTreeMap<AgentId, Hand>,
    choices: u64,
}

impl Hands {
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
            slots: usize::try_from(present.offer.slots).unwrap_or(1),
            held: BTreeMap::new(),
            chosen: 0,
            keeps_account: false,
        };
        self.hands.insert(agent.clone(), hand).map(|before| before.number)
    }

    /// A run is over; tells whether it was the present one.
    pub fn leave(&mut self, agent: &AgentId, number: u64) -> bool {
        let is_present = self.hands.get(agent).is_some_and(|hand| hand.number == number);
        if is_present {
            self.hands.remove(agent);
        }
        is_present
    }

    /// An agent takes an attempt.
    pub fn take(&mut self, agent: &AgentId, attempt: (&TaskId, u32)) {
        self.choices = self.choices.saturating_add(1);
        if let Some(hand) = self.hands.get_mut(agent) {
            hand.chosen = self.choices;
            hand.held.insert((attempt.0.clone(), attempt.1), None);
        }
    }

    /// An attempt takes no slot any more.
    pub fn free(&mut self, agent: &AgentId, attempt: (&TaskId, u32)) {
        if let Some(hand) = self.hands.get_mut(agent) {
            hand.held.remove(&(attempt.0.clone(), attempt.1));
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
        for hand in self.hands.values_mut() {
            let bound = hand.offer.timeout.min(GHOST_MAX);
            let fresh = |since: &Option<Instant>| since.is_none_or(|at| at.elapsed() < bound);
            hand.held.retain(|_, since| fresh(since));
        }
    }

    /// A remote agent has beaten: what it says about itself counts.
    pub fn beat(&mut self, agent: &AgentId, beat: &Beat) {
        let Some(hand) = self.hands.get_mut(agent) else { return };
        hand.keeps_account |= !beat.inflight.is_empty();
        if hand.offer.runtime == RuntimeKind::Remote {
            hand.slots = usize::try_from(beat.slots).unwrap_or(1).max(1);
            if !beat.capabilities.is_empty() {
                hand.capabilities = beat.capabilities.iter().cloned().collect();
            }
        }
        let has = |id: &TaskId| beat.inflight.iter().any(|held: &Held| held.id == *id);
        hand.held.retain(|(id, _), since| since.is_none() || has(id));
    }

    /// Whether anybody could take anything.
    #[must_use]
    pub fn any_free(&self) -> bool {
        self.hands.values().any(|hand| hand.held.len() < hand.slots)
    }

    /// Who gets a task with these needs: of the agents that can have it the one with the least to
    /// do, of equals the one that was chosen longest ago. An agent that has failed it, or is sick,
    /// gets it only when there is no other that can.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when nobody gets it now.
    pub fn pick(
        &self,
        board: &Board,
        needs: &Needs,
        avoid: &BTreeSet<AgentId>,
        is_sick: impl Fn(&AgentId) -> bool,
    ) -> Result<Pick, Refusal> {
        let able = self.hands.iter().filter(|(id, hand)| hand.can(id, needs));
        let mut candidates = 0_u64;
        let mut anybody = false;
        let mut best: Option<(Rank, &AgentId, usize)> = None;
        for (id, hand) in able {
            anybody = true;
            if hand.slots <= hand.held.len() || !takes_tasks(board, hand) {
                continue;
            }
            candidates = candidates.saturating_add(1);
            let share = hand.held.len().saturating_mul(1_000) / hand.slots.max(1);
            let turn = match needs.strategy {
                TaskStrategy::RoundRobin | TaskStrategy::WeightedRoundRobin => 0,
                TaskStrategy::LeastLoaded
                | TaskStrategy::PowerOfTwo
                | TaskStrategy::Broadcast
                | TaskStrategy::Sticky
                | TaskStrategy::Direct => share,
            };
            let rank = (avoid.contains(id), is_sick(id), turn, hand.chosen);
            if best.as_ref().is_none_or(|(present, _, _)| rank < *present) {
                best = Some((rank, id, hand.held.len()));
            }
        }
        let load = |held: usize| u64::try_from(held).unwrap_or(u64::MAX);
        match best {
            Some((_, agent, held)) => {
                Ok(Pick { agent: agent.clone(), candidates, load: load(held) })
            }
            None if anybody => Err(Refusal::AllBusy),
            None => Err(Refusal::NoneCan),
        }
    }

    /// The agents and their runs.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &Hand)> {
        self.hands.iter()
    }
}

impl Hand {
    /// Whether it can have tasks with these needs at all.
    fn can(&self, id: &AgentId, needs: &Needs) -> bool {
        let named = |name: &String| name == id.as_str() || name == self.offer.name.as_str();
        needs.capabilities.is_subset(&self.capabilities)
            && (needs.participants.is_empty() || needs.participants.iter().any(named))
    }
}

/// Whether an agent gets new tasks in its state.
fn takes_tasks(board: &Board, hand: &Hand) -> bool {
    let state = board.read(&hand.offer.name, |entry| entry.state);
    matches!(state, Some(AgentState::Running | AgentState::Probation))
}
