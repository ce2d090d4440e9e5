//! What a configuration that was loaded again changes, and in which order it is carried out.
//!
//! Both configurations come as a [`Blueprint`]: settings of the daemon, and the members of the tree
//! with what is declared of them as named aspects. The answer is a list of changes for people, each
//! with what it takes, and a list of steps for the daemon. Nothing is decided anywhere else.
//!
//! What it takes:
//! * Settings under `agents.` are read when they are needed: in place. All other settings are read
//!   when the daemon starts: they are held until it is restarted.
//! * What a supervisor goes by (restart type, backoff, circuit, significance, labels; strategy,
//!   limit and auto-shutdown of a group) is changed in place, and what was counted stays.
//! * All else about an agent is part of its run: the agent is restarted, nobody else.
//! * Where the order of a group's children counts (rest-for-one, one-for-all), a child that is not
//!   added at the end, or another order, makes the group anew. Otherwise children come and go alone.
//! * A child that is moved to another group ends there before it begins here, so that it never
//!   runs twice.
//!
//! Order of the steps: what moves or goes away ends first; then rules and restarts in place; then
//! groups that are made anew; then what is new, in the order in which it is declared.

mod diff;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::protocol::id::ChildName;
use crate::protocol::reload::ConfigChange;

pub use crate::logic::reload::diff::compare;

/// One thing that is declared: what people are shown, and what tells it from another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Aspect {
    /// The value; secrets masked.
    pub shown: String,
    /// Equal for equal values, secret ones included.
    pub print: u64,
    /// Where it is written, as `file:line`.
    pub origin: Option<String>,
}

/// What is declared of the daemon and its tree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Blueprint {
    /// Settings by key.
    pub settings: BTreeMap<String, Aspect>,
    /// Agents and groups by name.
    pub members: BTreeMap<ChildName, Member>,
    /// Names of the members as they are declared.
    pub order: Vec<ChildName>,
}

/// One member of the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its supervisor.
    pub parent: ChildName,
    /// What is declared of it, by name.
    pub aspects: BTreeMap<String, Aspect>,
    /// Where it is declared.
    pub origin: Option<String>,
    /// What a group has besides.
    pub group: Option<Group>,
}

/// What a group has besides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Its children, in start order; downstreams, which are no members, too.
    pub children: Vec<ChildName>,
    /// Whether a child's place among its siblings counts.
    pub order: Order,
}

/// Whether a child's place among its siblings counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// It does: who fails takes others with it.
    Counts,
    /// It does not: everybody is restarted alone.
    IsFree,
}

/// What is different, and what is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// The changes, for people.
    pub changes: Vec<ConfigChange>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// One thing to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Stop it and forget it, with what is under it.
    Remove {
        /// The member.
        name: ChildName,
        /// What is under it.
        under: Vec<ChildName>,
    },
    /// Give an agent other rules or, from its next run on, another body; nothing is restarted.
    Tune(ChildName),
    /// The same for a group's own rules.
    TuneGroup(ChildName),
    /// Give an agent another body and restart it.
    Restart(ChildName),
    /// Make a group anew.
    Rebuild {
        /// The group.
        name: ChildName,
        /// What was under it and is declared nowhere any more.
        gone: Vec<ChildName>,
    },
    /// Add it and start it, with what is under it.
    Add(ChildName),
}
