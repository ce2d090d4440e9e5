//! Actors: where state, messages and timers meet. No decision is taken here.
//!
//! `tree` is what a user of the library sees: a tree is described, started, asked and stopped.
//! Inside, one `supervisor` actor stands for each supervisor; its `shell` carries out what
//! `logic::restart` decides, and `announce` turns the decisions into events. One `worker` actor
//! stands for each run of a child; it ends with the run.
//!
//! How an exit travels: the worker's run is its `post_start`, and the end of the run is the typed
//! error that this returns, so ractor's event of the failure carries it. When the supervisor sees
//! the event, the future that held everything of the run is over: nothing of it is left, and a
//! replacement cannot overlap with it. A child supervisor leaves its end in its last state and
//! counts as gone only when its task has completed and everything under it has dropped its lease.

pub mod tree;
mod tree_spec;

pub mod defaults;

pub mod supervisor;

mod announce;
mod shell;
mod worker;
