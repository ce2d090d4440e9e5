//! Finds patterns in what happens: which failures belong together, and what kind they are.
//!
//! Fed with facts ([`Seen`]), it answers with [`Finding`]s: a pattern began, or is over. It never
//! acts on them. What the supervisor and the ledger decide themselves (a circuit that opens, a poison
//! task, a sick agent) is taken over and not decided a second time.
//!
//! Every fact costs O(log n) in the children watched, and all memory has a bound: [`CHILDREN_MAX`],
//! [`GROUPS_MAX`], [`TAGS_MAX`], [`WORKERS_MAX`]. What does not fit is not watched, and counted
//! ([`Detectors::unwatched`]).
//!
//! Words: a *scope* is what a pattern is about, a child or what children have in common; a *tag* is
//! such a common thing, `key=value`; the *onset* is the first failure of an outage, which lasts until
//! the child recovered or was taken away. Onsets are counted where failures of different children
//! are compared, so that one child that fails often is one.
//!
//! | pattern | rule | from |
//! |---|---|---|
//! | crash loop | failures in a window, those soon after a start doubly | OTP's intensity |
//! | flapping | good/bad changes in a counter with half-life, two thresholds | route flap damping |
//! | correlated failure | onsets of one tag in a window against a Poisson rate | scan statistics |
//! | cascade | onsets among those that lean on something failed | dependency order |
//! | gray failure | CUSUM over ln(latency) and failures against the peers | Page 1954 |
//! | poison task, sick agent | the ledger says so | `logic::ledger` |
//!
//! `child` holds what is known of one child, `group` what failed together, `peers` compares agents,
//! `finding` is what comes out.

mod child;
mod cusum;
mod finding;
mod group;
mod machine;
mod peers;
mod settings;
mod translate;

pub use crate::logic::detect::finding::Finding;
pub use crate::logic::detect::machine::Detectors;
pub use crate::logic::detect::settings::DetectSettings;
pub use crate::logic::detect::translate::seen_in;

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::decision::Inputs;
use crate::protocol::fact::FailureType;
use crate::protocol::id::{ChildName, EventId};
use crate::protocol::status::AgentState;

/// Children watched.
pub const CHILDREN_MAX: usize = 10_000;

/// Tags watched.
pub const GROUPS_MAX: usize = 10_000;

/// Tags of one child that count.
pub const TAGS_MAX: usize = 16;

/// Pairs of agent and kind of work whose latency is watched.
pub const WORKERS_MAX: usize = 20_000;

/// Children named in a finding.
pub const MEMBERS_MAX: usize = 20;

/// A child, as the detectors need to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Who {
    /// Name.
    pub name: ChildName,
    /// What it is.
    pub kind: WhoKind,
    /// What it has in common with others, as `key=value`.
    pub tags: Arc<[Arc<str>]>,
    /// Children that it cannot do without.
    pub leans_on: Arc<[ChildName]>,
}

/// What a child is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhoKind {
    /// An agent or a part of the daemon: it is restarted.
    Worker,
    /// A downstream: its circuit opens and closes.
    Downstream,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A child failed; or the circuit of a downstream opened.
    Failed(FailureType, Option<EventId>),
    /// A child is in another state.
    Is(AgentState),
    /// An outage is over.
    Recovered,
    /// A child was taken away.
    Gone,
    /// An agent ended an attempt of a task.
    Worked(Work),
    /// The ledger says that this agent fails what others can do.
    Sick(Inputs, Option<EventId>),
}

/// An attempt that an agent has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Kind of work: agents are compared with those that do the same.
    pub class: Arc<str>,
    /// Time it took.
    pub took: Duration,
    /// How it ended.
    pub ended: WorkEnd,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WorkEnd {
    /// Well.
    Done,
    /// Badly.
    Failed,
}
