//! A broadcast: one task, a part of it for each agent that takes part, and one result.
//!
//! The machine hears how each part ends and decides when the whole is complete: when all, one, or so
//! many of the parts are. It decides as early as it can: as soon as the rule is met, and as soon as
//! it cannot be met any more; the parts still under way are then to be cancelled. It knows nothing
//! of attempts: a part that is tried again has not ended.
//!
//! Words: a *part* is what one agent does; a part is *missing* when it ended without a result or had
//! not ended when the whole was decided.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::protocol::agent::TaskError;
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use crate::protocol::id::AgentId;
use crate::protocol::route::{Completion, Distribution};

#[cfg(test)]
mod behaviour;

/// Most agents that take part in one broadcast.
pub const MEMBERS_MAX: usize = 10_000;

/// Bytes of results that are gathered, as JSON; what goes beyond is left out and named, so that the
/// whole fits into one message.
pub const RESULTS_BYTES_MAX: usize = 768 * 1024;

/// Why a broadcast cannot begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GatherFault {
    /// Nobody takes part.
    #[error("nobody takes part in the broadcast; at least one agent is needed")]
    NoMembers,
    /// Too many take part.
    #[error("{members} agents take part in the broadcast; at most {MEMBERS_MAX} are allowed")]
    TooMany {
        /// How many.
        members: usize,
    },
    /// The quorum is none, or more than take part.
    #[error("quorum is {quorum}; 1 to {members} are possible, as many as take part")]
    Quorum {
        /// What was asked.
        quorum: u32,
        /// How many take part.
        members: u32,
    },
}

/// How a part ended, or that it has not.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// It is under way.
    Waiting,
    /// With a result.
    Completed(Value),
    /// With a result that was left out, because all of them together are too long.
    Omitted {
        /// Its length.
        bytes: usize,
    },
    /// It failed for good.
    Failed(TaskError),
    /// Its agent is gone, and the part cannot go to another.
    Lost,
}

impl Part {
    fn is_complete(&self) -> bool {
        match self {
            Self::Completed(_) | Self::Omitted { .. } => true,
            Self::Waiting | Self::Failed(_) | Self::Lost => false,
        }
    }

    fn is_waiting(&self) -> bool {
        *self == Self::Waiting
    }
}

/// How the whole ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Enough parts are complete.
    Complete,
    /// Too few can be.
    Impossible,
    /// The deadline has passed.
    Expired,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Decision {
    /// Nothing yet: so many parts are complete, so many are needed.
    Wait {
        /// Parts that are complete.
        complete: u32,
        /// Parts that must be.
        needed: u32,
    },
    /// The whole has ended.
    Done {
        /// How.
        ending: Ending,
        /// Agents whose parts are still under way, to be cancelled.
        cancel: Vec<AgentId>,
        /// Why.
        record: Box<DecisionRecord>,
    },
    /// The news is about no part that is under way: it changes nothing.
    Late,
}

/// One broadcast.
#[derive(Clone, Debug)]
pub struct Gather {
    completion: Completion,
    needed: u32,
    parts: BTreeMap<AgentId, Part>,
    bytes: usize,
    deadline: Option<Instant>,
    ending: Option<Ending>,
}

impl Gather {
    /// Begins, with all parts under way.
    ///
    /// # Errors
    ///
    /// [`GatherFault`] when the rule and those that take part do not fit.
    pub fn new(
        completion: Completion,
        members: impl IntoIterator<Item = AgentId>,
        deadline: Option<Instant>,
    ) -> Result<Self, GatherFault> {
        let parts: BTreeMap<AgentId, Part> =
            members.into_iter().map(|member| (member, Part::Waiting)).collect();
        let members = count(parts.len());
        if parts.is_empty() {
            return Err(GatherFault::NoMembers);
        }
        if MEMBERS_MAX < parts.len() {
            return Err(GatherFault::TooMany { members: parts.len() });
        }
        let needed = match completion {
            Completion::All => members,
            Completion::Any => 1,
            Completion::Quorum(quorum) if (1..=members).contains(&quorum) => quorum,
            Completion::Quorum(quorum) => return Err(GatherFault::Quorum { quorum, members }),
        };
        Ok(Self { completion, needed, parts, bytes: 0, deadline, ending: None })
    }

    /// A part is complete.
    pub fn on_completed(&mut self, member: &AgentId, result: Value) -> Decision {
        if !self.is_under_way(member) {
            return Decision::Late;
        }
        let bytes = serde_json::to_string(&result).map_or(0, |text| text.len());
        let fits = self.bytes.saturating_add(bytes) <= RESULTS_BYTES_MAX;
        if fits {
            self.bytes += bytes;
        }
        self.settle(member, if fits { Part::Completed(result) } else { Part::Omitted { bytes } })
    }

    /// A part has failed and is not tried again.
    pub fn on_failed(&mut self, member: &AgentId, error: TaskError) -> Decision {
        self.settle(member, Part::Failed(error))
    }

    /// The agent of a part is gone, and the part with it.
    pub fn on_lost(&mut self, member: &AgentId) -> Decision {
        self.settle(member, Part::Lost)
    }

    /// When [`Self::on_deadline`] is to be called; `None` when it has ended.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.ending.is_none())
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, now: Instant) -> Decision {
        match self.deadline() {
            Some(deadline) if deadline <= now => self.end(Ending::Expired),
            Some(_) | None => self.judge(),
        }
    }

    /// All parts, by agent.
    #[must_use]
    pub fn parts(&self) -> &BTreeMap<AgentId, Part> {
        &self.parts
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// What was gathered, as one JSON value: `results` by agent, and `missing` by agent with the
    /// reason, for what failed, was lost, was too long or had not ended.
    #[must_use]
    pub fn gathered(&self) -> Value {
        let (mut results, mut missing) = (serde_json::Map::new(), serde_json::Map::new());
        for (member, part) in &self.parts {
            let member = member.to_string();
            let why = match part {
                Part::Completed(result) => {
                    results.insert(member, result.clone());
                    continue;
                }
                Part::Omitted { bytes } => {
                    serde_json::json!({ "reason": "result_too_long", "bytes": bytes })
                }
                Part::Failed(error) => serde_json::json!({ "reason": "failed", "error": error }),
                Part::Lost => serde_json::json!({ "reason": "agent_lost" }),
                Part::Waiting => serde_json::json!({ "reason": "not_ended" }),
            };
            missing.insert(member, why);
        }
        let complete = self.complete();
        serde_json::json!({
            "completion": self.completion,
            "needed": self.needed,
            "complete": complete,
            "members": self.parts.len(),
            "results": results,
            "missing": missing,
        })
    }

    fn is_under_way(&self, member: &AgentId) -> bool {
        self.ending.is_none() && self.parts.get(member).is_some_and(Part::is_waiting)
    }

    fn settle(&mut self, member: &AgentId, part: Part) -> Decision {
        if !self.is_under_way(member) {
            return Decision::Late;
        }
        if let Some(place) = self.parts.get_mut(member) {
            *place = part;
        }
        self.judge()
    }

    fn judge(&mut self) -> Decision {
        if self.ending.is_some() {
            return Decision::Late;
        }
        let (complete, waiting) = (self.complete(), self.waiting());
        if self.needed <= complete {
            self.end(Ending::Complete)
        } else if complete + waiting < self.needed {
            self.end(Ending::Impossible)
        } else {
            Decision::Wait { complete, needed: self.needed }
        }
    }

    fn end(&mut self, ending: Ending) -> Decision {
        self.ending = Some(ending);
        let waiting = self.parts.iter().filter(|(_, part)| part.is_waiting());
        let cancel: Vec<AgentId> = waiting.map(|(member, _)| member.clone()).collect();
        let reason = match ending {
            Ending::Complete => Reason::CompletionReached,
            Ending::Impossible => Reason::CompletionImpossible,
            Ending::Expired => Reason::DeadlinePassed,
        };
        let (complete, waiting, members) =
            (self.complete(), self.waiting(), count(self.parts.len()));
        let inputs = Inputs::default()
            .with("members", members)
            .with("needed", self.needed)
            .with("complete", complete)
            .with("failed", members - complete - waiting)
            .with("under_way", waiting);
        let record = DecisionRecord {
            reason,
            inputs,
            rule: Rule { distribution: Some(Distribution::Broadcast), ..Rule::default() },
            cause: None,
            next: NextAction { action: NextKind::None, in_ms: 0 },
        };
        Decision::Done { ending, cancel, record: Box::new(record) }
    }

    fn complete(&self) -> u32 {
        count(self.parts.values().filter(|part| part.is_complete()).count())
    }

    fn waiting(&self) -> u32 {
        count(self.parts.values().filter(|part| part.is_waiting()).count())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
