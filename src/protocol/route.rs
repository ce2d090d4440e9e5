//! What a task or call asks of an agent, and how it is answered which agents can do it.
//!
//! Words: a *predicate* is a condition on capabilities and labels; a *strategy* picks one of the
//! agents that meet it; a *candidate* is an agent with its score, or the reasons against it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::agent::{CAPABILITIES_MAX, CAPABILITY_BYTES_MAX};
use crate::protocol::decision::DecisionRecord;
use crate::protocol::id::{AgentId, ChildName};

/// Most terms of one predicate, itself and all within it.
pub const PREDICATE_TERMS_MAX: usize = 256;

/// Deepest nesting of one predicate.
pub const PREDICATE_DEPTH_MAX: usize = 16;

/// Longest key or value of a label in a predicate, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// Most agents named as participants, or as those to avoid.
pub const NAMED_MAX: usize = 1_000;

/// Longest sticky key, in bytes.
pub const STICKY_KEY_BYTES_MAX: usize = 256;

/// How tasks or calls are spread over the agents that can take them.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Distribution {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// Each in turn, as often as its weight says.
    WeightedRoundRobin,
    /// The one with the least to do.
    LeastLoaded,
    /// The less loaded one of two drawn.
    PowerOfTwo,
    /// All of them.
    Broadcast,
    /// The same one for the same key.
    Sticky,
    /// The one that is named.
    Direct,
}

impl Distribution {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastLoaded,
        Self::PowerOfTwo,
        Self::Broadcast,
        Self::Sticky,
        Self::Direct,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastLoaded => "least_loaded",
            Self::PowerOfTwo => "power_of_two",
            Self::Broadcast => "broadcast",
            Self::Sticky => "sticky",
            Self::Direct => "direct",
        }
    }
}

/// When a broadcast is complete.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// When all that take part have completed their part.
    #[default]
    All,
    /// When one of them has.
    Any,
    /// When so many of them have; at least 1.
    Quorum(u32),
}

/// A condition on an agent.
#[derive(
    Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Predicate {
    /// Every one of these; true when there are none.
    All(Vec<Self>),
    /// At least one of these; false when there are none.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// It can do this.
    Capability(String),
    /// It carries this label with this value.
    Label {
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// It carries this label, with whatever value.
    HasLabel(String),
}

/// Asks which agent would be picked, and why. Nothing is sent to any agent.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteQuery {
    /// Capabilities that the agent must have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_capabilities: Vec<String>,
    /// A condition besides.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Predicate>,
    /// Strategy; the configured one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Distribution>,
    /// Only these agents, by id or name; needed for `direct`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<String>,
    /// Key whose tasks stay with one agent; needed for `sticky`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky_key: Option<String>,
    /// Agents that are taken only if there is no other, by id or name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<String>,
}

/// What is wrong with a question about routing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QueryFault {
    /// A list is too long.
    #[error("{field} has {found} entries; at most {most} are allowed")]
    TooMany {
        /// The field.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The bound.
        most: usize,
    },
    /// A word is empty or too long.
    #[error("{field} has a word of {bytes} bytes; 1 to {most} are allowed")]
    Word {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// The predicate is nested too deeply.
    #[error("where is nested {depth} deep; at most {PREDICATE_DEPTH_MAX} are allowed")]
    TooDeep {
        /// How deep, as far as it was followed.
        depth: usize,
    },
    /// The strategy needs something that is not there.
    #[error("strategy {strategy} needs {field}")]
    Missing {
        /// The strategy.
        strategy: &'static str,
        /// The field.
        field: &'static str,
    },
}

impl RouteQuery {
    /// Checks the bounds, and that the strategy has what it needs.
    ///
    /// # Errors
    ///
    /// [`QueryFault`] names the field, the value and the bound.
    pub fn check(&self) -> Result<(), QueryFault> {
        few("required_capabilities", self.required_capabilities.len(), CAPABILITIES_MAX)?;
        few("participants", self.participants.len(), NAMED_MAX)?;
        few("avoid", self.avoid.len(), NAMED_MAX)?;
        for capability in &self.required_capabilities {
            word("required_capabilities", capability, CAPABILITY_BYTES_MAX)?;
        }
        if let Some(condition) = &self.condition {
            condition.check()?;
        }
        if let Some(key) = &self.sticky_key {
            word("sticky_key", key, STICKY_KEY_BYTES_MAX)?;
        }
        let strategy = self.strategy.map_or("", Distribution::as_str);
        match self.strategy {
            Some(Distribution::Direct) if self.participants.is_empty() => {
                Err(QueryFault::Missing { strategy, field: "participants" })
            }
            Some(Distribution::Sticky) if self.sticky_key.is_none() => {
                Err(QueryFault::Missing { strategy, field: "sticky_key" })
            }
            _ => Ok(()),
        }
    }
}

impl Predicate {
    /// Checks words, depth and number of terms.
    ///
    /// # Errors
    ///
    /// [`QueryFault`] names the value and the bound.
    pub fn check(&self) -> Result<(), QueryFault> {
        few("where", self.terms(1)?, PREDICATE_TERMS_MAX)
    }

    /// Checks words and depth; gives back the number of terms.
    fn terms(&self, depth: usize) -> Result<usize, QueryFault> {
        if PREDICATE_DEPTH_MAX < depth {
            return Err(QueryFault::TooDeep { depth });
        }
        match self {
            Self::All(terms) | Self::Any(terms) => {
                let mut count: usize = 1;
                for term in terms {
                    count = count.saturating_add(term.terms(depth + 1)?);
                }
                Ok(count)
            }
            Self::Not(term) => Ok(term.terms(depth + 1)?.saturating_add(1)),
            Self::Capability(name) => word("where", name, CAPABILITY_BYTES_MAX).map(|()| 1),
            Self::HasLabel(key) => word("where", key, LABEL_BYTES_MAX).map(|()| 1),
            Self::Label { key, value } => {
                few("where", value.len(), LABEL_BYTES_MAX)?;
                word("where", key, LABEL_BYTES_MAX).map(|()| 1)
            }
        }
    }
}

fn few(field: &'static str, found: usize, most: usize) -> Result<(), QueryFault> {
    if most < found { Err(QueryFault::TooMany { field, found, most }) } else { Ok(()) }
}

fn word(field: &'static str, text: &str, most: usize) -> Result<(), QueryFault> {
    let bytes = text.len();
    if (1..=most).contains(&bytes) { Ok(()) } else { Err(QueryFault::Word { field, bytes, most }) }
}

/// The answer: who would be picked, and every agent with its score or the reasons against it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RouteAnswer {
    /// Strategy that was followed.
    pub strategy: Distribution,
    /// Who is picked: none, one, or all that take part in a broadcast.
    pub picked: Vec<AgentId>,
    /// Why.
    pub decision: DecisionRecord,
    /// All agents: first those that can be picked, best first, then the others.
    pub candidates: Vec<Candidate>,
}

/// One agent, as a decision sees it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Candidate {
    /// The agent.
    pub agent_id: AgentId,
    /// Its name.
    pub name: ChildName,
    /// Whether it is the one, or one of those, picked.
    pub picked: bool,
    /// Share of its slots that is taken, 0 to 1: lower is better. Null when it cannot be picked.
    pub score: Option<f64>,
    /// Tasks that it has.
    pub inflight: u32,
    /// Tasks that it takes at a time.
    pub slots: u32,
    /// Its weight.
    pub weight: u32,
    /// Why it cannot be picked; empty when it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<Against>,
}

/// What stands against an agent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Against {
    /// It is not among the participants.
    NotNamed,
    /// It cannot do something that is required.
    LacksCapability {
        /// What.
        capability: String,
    },
    /// It does not meet the condition.
    ConditionNotMet {
        /// The part of the condition that fails, as JSON.
        term: String,
    },
    /// It may not be given work now.
    NotRoutable {
        /// Why not.
        standing: Standing,
    },
    /// It is of a kind that is given no tasks, or it has just come.
    TakesNoTasks,
    /// All its slots are taken.
    Full,
    /// It is to be avoided, and others can be picked.
    Avoided,
    /// The key belongs to another agent.
    KeyHeldByAnother,
}

/// Whether an agent may be given work, and if not, why.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may.
    Ready,
    /// Its circuit is half-open: its trial run is under watch.
    OnTrial,
    /// Its circuit is open.
    CircuitOpen,
    /// It drains.
    Draining,
    /// It runs, but says that it cannot take work, or its health says so.
    NotReady,
    /// Nothing has been heard of it for a while.
    Suspect,
    /// Nothing of it runs.
    #[default]
    Down,
}

impl Standing {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::OnTrial => "on_trial",
            Self::CircuitOpen => "circuit_open",
            Self::Draining => "draining",
            Self::NotReady => "not_ready",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(value: serde_json::Value) -> Result<RouteQuery, String> {
        let query: RouteQuery = serde_json::from_value(value).map_err(|error| error.to_string())?;
        query.check().map_err(|fault| fault.to_string())?;
        Ok(query)
    }

    #[test]
    fn a_question_goes_there_and_back() {
        let text = json!({
            "required_capabilities": ["review"],
            "where": {"all": [
                {"any": [{"capability": "rust"}, {"label": {"key": "zone", "value": "eu"}}]},
                {"not": {"has_label": "old"}},
            ]},
            "strategy": "sticky",
            "participants": ["w1"],
            "sticky_key": "s",
            "avoid": ["w2"],
        });
        assert_eq!(serde_json::to_value(query(text.clone()).unwrap()).unwrap(), text);
        assert_eq!(query(json!({})).unwrap(), RouteQuery::default());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let fault = |value| query(value).unwrap_err();
        assert!(fault(json!({"wher": {}})).contains("unknown field `wher`"));
        assert!(fault(json!({"strategy": "best"})).contains("unknown variant `best`"));
        assert_eq!(
            fault(json!({"required_capabilities": [""]})),
            "required_capabilities has a word of 0 bytes; 1 to 64 are allowed"
        );
        assert_eq!(
            fault(json!({"where": {"any": vec![json!({"capability": "x"}); 256]}})),
            "where has 257 entries; at most 256 are allowed"
        );
        let mut deep = json!({"capability": "x"});
        for _ in 0..16 {
            deep = json!({"not": deep});
        }
        assert_eq!(
            fault(json!({"where": deep})),
            "where is nested 17 deep; at most 16 are allowed"
        );
        assert_eq!(fault(json!({"strategy": "direct"})), "strategy direct needs participants");
        assert_eq!(fault(json!({"strategy": "sticky"})), "strategy sticky needs sticky_key");
    }
}
