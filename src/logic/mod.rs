//! Decisions. Each file is one state machine without I/O, clock, task or randomness.
//!
//! The contract is the same everywhere: inputs are `on_*` methods (or one `Input` enum) that take
//! `now` and give back decisions; `deadline` says when `on_deadline` wants to be called; jitter
//! comes in as a fraction in `0.0..=1.0`; maps are ordered; every machine is `Clone + Debug`, so
//! that a test may fork or print it. Every decision carries its record.

pub mod audit;
pub mod backoff;
pub mod intensity;
pub mod ledger;

pub mod circuit;
pub mod reload;
pub mod restart;

pub mod breaker;
pub mod call;
pub mod retry;

pub mod beats;
pub mod exit_rules;
pub mod explain;
pub mod health;
pub mod history;
pub mod lifecycle;
pub mod overall;
pub mod severity;
pub mod template;

pub mod alerts;
pub mod detect;

pub mod gather;
pub mod resources;
pub mod routing;
