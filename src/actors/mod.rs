//! Actors: where state, messages and timers meet. No decision is taken here.
//!
//! `tree` is what a user of the library sees: a tree is described, started, asked and stopped.
//! Inside, one `supervisor` actor stands for each supervisor; its `shell` carries out what
//! `logic::restart` decides, and `announce` turns the decisions into events. One `worker` actor
//! stands for each run of a child; it ends with the run.
//!
//! How an exit travels: a worker stores the end of its run in its state and stops, which is its
//! only way out. ractor hands the state to the supervisor with the termination; the supervisor
//! keeps it until the worker's task has completed, and only then counts the child as gone. So two
//! lives of one child never overlap.

pub mod tree;
mod tree_spec;

pub mod defaults;

pub mod supervisor;

mod announce;
mod shell;
mod worker;
