//! Which agent gets a task or call, and why not the others.
//!
//! - [`types`]: agents as routing sees them, settings.
//! - [`needs`]: what is asked of an agent, compiled once.
//! - `class`, `levels`, `turns`: agents of one profile, in the orders that the strategies need.
//! - `table`: all agents in a slab, and their classes.
//! - `pool`: the classes that meet one condition, memorised.
//! - `draw`: one agent of a pool, or of a short list.
//! - [`router`]: the machine: what is asked, what is answered.
//! - [`pick`]: the answers and their decision records.
//! - `explain`: all candidates with score or reason.
//!
//! Words: a *class* is all agents of equal capabilities and labels; an agent is *routable* when its
//! standing lets it have work, and *open* when it has a free slot besides; a *pool* is all classes
//! that meet one condition.
//!
//! # What a decision costs
//!
//! Nothing is searched per decision: each class keeps its open agents, so an agent that is dead,
//! drains or is full is not in any list that is drawn from, and a pool is found by one look-up.
//! Only `least_loaded` and `weighted_round_robin` look at each class of the pool, which is many only
//! where labels make nearly every agent its own class.
//!
//! # What is memorised, and what never
//!
//! Condition to classes, and sticky key to agent: the one depends on the class table alone and is
//! brought up to date at each use, the other holds slot and generation, so that an agent that was
//! removed is missed by one comparison. Never "the best agent": it would be stale at once.

pub mod needs;
pub mod types;

mod class;
mod levels;
mod turns;

mod pool;
mod table;

mod draw;
mod explain;
pub mod pick;
pub mod router;

pub use needs::Needs;
pub use pick::{Pick, Refusal, Refused, Roster};
pub use router::Router;
pub use types::{AgentEntry, BreakerUse, Handle, RouterFull, Settings};

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod reference;
