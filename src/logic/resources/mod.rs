//! Shared resources: who has how much, until when, and who is next.
//!
//! - [`pool`]: one resource: leases, those who wait, what is given when.
//! - [`refused`]: why a request is not met.
//!
//! A *lock* is a pool of one; a *pool* has a capacity; a *quota* is taken from and refills with time
//! alone. Those who wait are served strictly in order: a large request at the head is not overtaken
//! by small ones, so nobody starves. A lease ends when it is released, when its time is over, or
//! with the run of the agent that holds it. Each lease has a token that is greater than all before
//! it, in all lives of the daemon, so that a guard of the real thing can refuse a late holder.
//!
//! Times are milliseconds of Unix time: leases outlive the daemon, and no other clock does. A wall
//! clock that is set back makes leases last longer, never shorter than promised by it.

pub mod pool;
pub mod refused;

pub use pool::{Ask, Changes, Grant, Pool, ResourceSpec, Turn, Waiter};
pub use refused::Refused;

#[cfg(test)]
mod behaviour;
