//! Actors: where state, messages and timers meet. No decision is taken here.
//!
//! `tree` is what a user of the library sees: a tree is described, started, asked and stopped.
//! Inside, one `supervisor` actor stands for each supervisor; its `shell` carries out what
//! `logic::restart` decides, and `announce` turns the decisions into events. One `worker` actor
//! stands for each child that is not a supervisor and has its runs one after another; it leaves
//! when the child is down and nothing will start it again by itself.
//!
//! How an exit travels: everything of a run lives in one future of the worker. When that is over
//! the worker reports the end, after everything else that it had to say of the run; so nothing of
//! the run is left, and the next one cannot overlap with it. A worker that is gone without a word,
//! which only a bug of its own can do, is seen by ractor's event. A child supervisor leaves its
//! end in its last state and counts as gone only when its task has completed and everything under
//! it has dropped its lease.

pub mod tree;
mod tree_spec;

pub mod defaults;

pub mod supervisor;

mod announce;
mod shell;
mod worker;
