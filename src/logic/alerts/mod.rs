//! Decides which alerts stand and who is told.
//!
//! A [`Signal`] (a pattern, or a failure) that fits a rule makes an alert, named by rule and scope: its
//! *fingerprint*. The same signal again only counts up. The alert fires when the condition has held for
//! the rule's time, is told once, told again after a long while, and is resolved when the condition
//! has passed or somebody says so. A *silence* keeps what fits it from being delivered, for a time and
//! with a reason; events are raised all the same, and what still stands when the silence is over is
//! delivered then. A pattern that is a part of a larger one makes no alert of its own.
//!
//! Bounds: [`ALERTS_MAX`], [`SILENCES_MAX`]. An alert beyond the bound is not made, and counted.

mod book;
mod machine;
mod rules;

#[cfg(test)]
mod tests;

pub use crate::logic::alerts::machine::{AlertStep, Alerts, News, SilenceFault};
pub use crate::logic::alerts::rules::{AlertRule, Receivers, Trigger, default_rules};

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::protocol::decision::Inputs;
use crate::protocol::fact::{FailureType, Severity};
use crate::protocol::id::EventId;
use crate::protocol::insight::PatternKind;

/// Alerts that stand at a time.
pub const ALERTS_MAX: usize = 1_000;

/// Silences at a time.
pub const SILENCES_MAX: usize = 1_000;

/// Time that an alert of an earlier daemon stands if its condition is not seen again.
pub const STALE_AFTER: Duration = Duration::from_secs(600);

/// A moment, for the machine and for people.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// Now, on the wall.
    pub wall: Timestamp,
}

/// What a signal is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A pattern.
    Pattern(PatternKind),
    /// Failures of one child.
    Failure(FailureType),
}

/// Something that may make or end an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// A condition holds.
    Holds {
        /// What.
        cause: Cause,
        /// Where: as in a pattern, or the child's name.
        scope: String,
        /// How bad it is.
        severity: Severity,
        /// In words.
        summary: String,
        /// By which numbers.
        evidence: Inputs,
        /// The event behind it.
        event: Option<EventId>,
    },
    /// A pattern is over.
    PatternOver(PatternKind, String),
    /// The outage of a child is over.
    OutageOver(String),
}
