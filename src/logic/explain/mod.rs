//! Explanations: why something is as it is, by which rule, what comes next, what it affects, what to
//! do about it. Made from decision records and what was told, never from a text of ours.
//!
//! Whoever asks gathers the evidence (`Evidence`, or the records of a task) and shows the result;
//! every reason code has its sentence in `reasons`, every kind of failure its steps in `advice`.

mod advice;
mod child;
mod reasons;
mod rules;
mod task;
mod words;

#[cfg(test)]
mod behaviour;

use jiff::Timestamp;
use serde::Serialize;

pub use crate::logic::explain::child::{Evidence, explain};
pub use crate::logic::explain::reasons::because;
pub use crate::logic::explain::task::explain_task;
pub use crate::logic::explain::words::span;

use crate::protocol::decision::{Inputs, NextKind, Reason};
use crate::protocol::fact::Severity;

/// Why something is as it is, in five parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Kind and name, such as `agent/w1`.
    pub subject: String,
    /// Its state.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The moment that is explained.
    pub at: Timestamp,
    /// Cause and evidence.
    pub why: Why,
    /// Rule that was followed.
    pub rule: RuleTold,
    /// What comes next.
    pub next: NextTold,
    /// What it affects.
    pub effect: Vec<String>,
    /// What can be done, the likeliest remedy first.
    #[serde(rename = "do")]
    pub steps: Vec<Step>,
}

/// Cause and evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Why {
    /// The cause in words.
    pub text: String,
    /// Code of the decision that led here.
    pub reason: Option<Reason>,
    /// Numbers it was made on.
    pub evidence: Inputs,
    /// What else speaks for it.
    pub more: Vec<String>,
    /// The chain of events that led here, the first cause first.
    pub chain: Vec<Link>,
}

/// One event of a chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Identity of the event or record.
    pub id: String,
    /// When.
    pub time: Timestamp,
    /// Type, without `provost.` and version.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, in words.
    pub text: String,
}

/// The rule that was followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuleTold {
    /// The rule in words; empty when none was.
    pub text: String,
    /// Where it was written, as `file:line`.
    pub origin: Option<String>,
    /// The rule about ends that judged the run, where one did.
    pub exit_rule: Option<String>,
}

/// What comes next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NextTold {
    /// In words.
    pub text: String,
    /// What.
    pub action: Option<NextKind>,
    /// In how many milliseconds.
    pub in_ms: Option<u64>,
}

/// One thing that can be done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Step {
    /// A command, or what to change.
    pub command: String,
    /// What it is for.
    pub why: String,
}

impl Step {
    fn new(command: impl Into<String>, why: impl Into<String>) -> Self {
        Self { command: command.into(), why: why.into() }
    }
}
