//! Answers of the router, and the decision records made of them.
//!
//! A pick holds numbers alone; its record is made when somebody asks for it, so that a decision
//! costs no allocation.

use std::fmt;

use crate::logic::routing::types::Handle;
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use crate::protocol::id::AgentId;
use crate::protocol::route::Distribution;

/// An agent was picked.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Pick {
    /// The agent.
    pub agent: AgentId,
    /// Its place in the router.
    pub handle: Handle,
    /// Strategy that was followed.
    pub distribution: Distribution,
    /// Why this one.
    pub why: Picked,
    /// Tasks that it had, before this one.
    pub inflight: u32,
    /// Tasks that it takes at a time.
    pub slots: u32,
    /// The busier one that it was compared with: tasks and slots.
    pub compared: Option<(u32, u32)>,
    /// Classes that meet the condition; 0 when the agents were named.
    pub classes: u32,
}

/// Why an agent was picked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Picked {
    /// The strategy says so.
    ByStrategy,
    /// It was named, and the first that can take it.
    ByName,
    /// It has the key.
    KeyKept,
    /// The key had no agent.
    KeyPlaced,
    /// The agent that had the key is away.
    KeyMoved,
}

impl Pick {
    /// Why, for the record.
    #[must_use]
    pub fn record(&self) -> DecisionRecord {
        let reason = match self.why {
            Picked::ByStrategy | Picked::KeyPlaced => Reason::AgentPicked,
            Picked::ByName | Picked::KeyKept => Reason::AgentKept,
            Picked::KeyMoved => Reason::KeyMoved,
        };
        let mut inputs = Inputs::default()
            .with("agent", self.agent.as_str())
            .with("inflight", self.inflight)
            .with("slots", self.slots);
        if let Some((inflight, slots)) = self.compared {
            inputs = inputs.with("other_inflight", inflight).with("other_slots", slots);
        }
        if 0 < self.classes {
            inputs = inputs.with("classes", self.classes);
        }
        record(reason, inputs, self.distribution, NextKind::Assign)
    }
}

/// Who takes part in a broadcast.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Roster {
    /// Agents that may be given work, by id; some may be full at the moment.
    pub members: Vec<Member>,
    /// Names of participants that cannot take part: unknown, unfit or not routable.
    pub absent: Vec<String>,
}

/// One that takes part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The agent.
    pub agent: AgentId,
    /// Its place in the router.
    pub handle: Handle,
    /// Whether it has a free slot.
    pub room: Room,
}

/// Whether an agent has a free slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Room {
    /// It has.
    Free,
    /// It has none: its part waits.
    Full,
}

impl Roster {
    /// Who was found, for the record.
    #[must_use]
    pub fn record(&self) -> DecisionRecord {
        let full = self.members.iter().filter(|member| member.room == Room::Full).count();
        let inputs = Inputs::default()
            .with("members", count(self.members.len()))
            .with("full", count(full))
            .with("absent", count(self.absent.len()));
        record(Reason::ParticipantsFound, inputs, Distribution::Broadcast, NextKind::Assign)
    }
}

/// Nobody was picked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no agent was picked by {}: {refused}; {counts}", distribution.as_str())]
pub struct Refusal {
    /// Strategy that was followed.
    pub distribution: Distribution,
    /// Why.
    pub refused: Refused,
    /// How many agents were left after each question.
    pub counts: Counts,
}

/// Why nobody was picked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refused {
    /// No agent has what is needed. Nothing but another agent, or another description of one, helps.
    NoneMatches,
    /// Those that have it may not be given work now.
    NoneRoutable,
    /// Those that may be given work are full. It helps to wait.
    AllFull,
    /// The agent that has the key is full. It helps to wait.
    KeyFull,
    /// `sticky` was asked for without a key.
    NoKey,
    /// `direct` was asked for without a name.
    NoName,
    /// `broadcast` goes to all: who takes part is for [`crate::logic::routing::Router::roster`].
    GoesToAll,
}

impl Refused {
    /// Whether the same question may be answered otherwise later.
    #[must_use]
    pub fn may_change(self) -> bool {
        match self {
            Self::NoneMatches | Self::NoneRoutable | Self::AllFull | Self::KeyFull => true,
            Self::NoKey | Self::NoName | Self::GoesToAll => false,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoneMatches => "none has what is needed",
            Self::NoneRoutable => "none of those that match may be given work now",
            Self::AllFull => "all slots are taken",
            Self::KeyFull => "all slots of the agent that has the key are taken",
            Self::NoKey => "no sticky key was given",
            Self::NoName => "no participant was named",
            Self::GoesToAll => "it goes to all that match, not to one",
        })
    }
}

/// Agents left after each question.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Agents known.
    pub known: u32,
    /// Those that match, and are named if any are.
    pub matching: u32,
    /// Those of them that may be given work.
    pub routable: u32,
    /// Those of them that have a free slot.
    pub open: u32,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { known, matching, routable, open } = self;
        write!(f, "of {known} agents {matching} match, {routable} may work, {open} have room")
    }
}

impl Refusal {
    /// Why nobody was picked, for the record.
    #[must_use]
    pub fn record(&self) -> DecisionRecord {
        let reason = match self.refused {
            Refused::NoneMatches => Reason::NoAgentMatches,
            Refused::NoneRoutable => Reason::NoAgentRoutable,
            Refused::AllFull | Refused::KeyFull => Reason::AgentsFull,
            Refused::NoKey | Refused::NoName | Refused::GoesToAll => Reason::NeedsIncomplete,
        };
        let next = if self.refused.may_change() { NextKind::Wait } else { NextKind::None };
        let inputs = Inputs::default()
            .with("known", self.counts.known)
            .with("matching", self.counts.matching)
            .with("routable", self.counts.routable)
            .with("open", self.counts.open);
        record(reason, inputs, self.distribution, next)
    }
}

fn record(
    reason: Reason,
    inputs: Inputs,
    distribution: Distribution,
    action: NextKind,
) -> DecisionRecord {
    let rule = Rule { distribution: Some(distribution), ..Rule::default() };
    let next = NextAction { action, in_ms: 0 };
    DecisionRecord { reason, inputs, rule, cause: None, next }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
