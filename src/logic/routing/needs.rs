//! What is asked of an agent, compiled once: condition, strategy, names and key.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::logic::routing::types::Profile;
use crate::protocol::route::{Against, Distribution, Predicate, RouteQuery};

/// What a task or call needs. Cheap to clone; keep it with the task, or make it anew each time.
#[derive(Clone, Debug)]
pub struct Needs {
    pub(crate) key: ConditionKey,
    pub(crate) distribution: Option<Distribution>,
    pub(crate) participants: Vec<String>,
    pub(crate) sticky_key: Option<String>,
    pub(crate) avoid: Vec<String>,
}

impl Needs {
    /// Compiles a question whose bounds have been checked (`RouteQuery::check`).
    #[must_use]
    pub fn new(query: RouteQuery) -> Self {
        let mut required = query.required_capabilities;
        required.sort_unstable();
        required.dedup();
        Self {
            key: ConditionKey(Arc::new(Condition::new(required, query.condition))),
            distribution: query.strategy,
            participants: query.participants,
            sticky_key: query.sticky_key,
            avoid: query.avoid,
        }
    }

    /// The same with another strategy.
    #[must_use]
    pub fn spread(mut self, distribution: Distribution) -> Self {
        self.distribution = Some(distribution);
        self
    }

    /// The same for named agents alone, by id or name.
    #[must_use]
    pub fn only(mut self, participants: Vec<String>) -> Self {
        self.participants = participants;
        self
    }

    /// The same, with agents that are taken only if there is no other, by id or name.
    #[must_use]
    pub fn avoiding(mut self, avoid: Vec<String>) -> Self {
        self.avoid = avoid;
        self
    }

    /// Strategy asked for.
    #[must_use]
    pub fn distribution(&self) -> Option<Distribution> {
        self.distribution
    }

    /// Agents named, by id or name.
    #[must_use]
    pub fn participants(&self) -> &[String] {
        &self.participants
    }
}

/// A condition with its hash.
#[derive(Debug)]
pub(crate) struct Condition {
    hash: u64,
    required: Vec<String>,
    extra: Option<Predicate>,
}

impl Condition {
    fn new(required: Vec<String>, extra: Option<Predicate>) -> Self {
        // A hasher without a random key: the same condition has the same hash in every run.
        let mut hasher = DefaultHasher::new();
        (&required, &extra).hash(&mut hasher);
        Self { hash: hasher.finish(), required, extra }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether agents of this profile meet it.
    pub(crate) fn meets(&self, profile: &Profile) -> bool {
        self.required.iter().all(|required| profile.capabilities.contains(required))
            && self.extra.as_ref().is_none_or(|extra| holds(extra, profile))
    }

    /// What of it an agent of this profile does not meet.
    pub(crate) fn against(&self, profile: &Profile) -> Vec<Against> {
        let lacking = self.required.iter().filter(|name| !profile.capabilities.contains(*name));
        let lacking = lacking.map(|name| Against::LacksCapability { capability: name.clone() });
        let mut against: Vec<Against> = lacking.collect();
        if let Some(extra) = &self.extra {
            collect_failing(extra, profile, &mut against);
        }
        against
    }
}

/// Key of the memo: two conditions are one when they ask for the same.
#[derive(Clone, Debug)]
pub(crate) struct ConditionKey(pub(crate) Arc<Condition>);

impl Hash for ConditionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl PartialEq for ConditionKey {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&self.0, &other.0);
        Arc::ptr_eq(one, two)
            || (one.hash == two.hash && one.required == two.required && one.extra == two.extra)
    }
}

impl Eq for ConditionKey {}

/// Whether a predicate is true of a profile.
fn holds(predicate: &Predicate, profile: &Profile) -> bool {
    match predicate {
        Predicate::All(terms) => terms.iter().all(|term| holds(term, profile)),
        Predicate::Any(terms) => terms.iter().any(|term| holds(term, profile)),
        Predicate::Not(term) => !holds(term, profile),
        Predicate::Capability(name) => profile.capabilities.contains(name),
        Predicate::Label { key, value } => profile.labels.get(key) == Some(value),
        Predicate::HasLabel(key) => profile.labels.contains_key(key),
    }
}

/// Names the outermost terms that are false; of an `all` its parts.
fn collect_failing(predicate: &Predicate, profile: &Profile, into: &mut Vec<Against>) {
    if holds(predicate, profile) {
        return;
    }
    match predicate {
        Predicate::All(terms) => {
            for term in terms {
                collect_failing(term, profile, into);
            }
        }
        Predicate::Capability(name) => {
            into.push(Against::LacksCapability { capability: name.clone() });
        }
        Predicate::Any(_)
        | Predicate::Not(_)
        | Predicate::Label { .. }
        | Predicate::HasLabel(_) => {
            let term = serde_json::to_string(predicate).unwrap_or_default();
            into.push(Against::ConditionNotMet { term });
        }
    }
}
