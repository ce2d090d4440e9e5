//! Patterns that were found in events, and the alerts that are raised on them and on failures.
//!
//! The `data` of `supervision.pattern` and `supervision.alert`, and the requests about alerts on
//! `system.control`. Not for how patterns are found (`logic::detect`) or alerts decided
//! (`logic::alerts`).

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::decision::Inputs;
use crate::protocol::fact::Severity;
use crate::protocol::id::ChildName;

/// Longest silence accepted, in milliseconds (30 days).
pub const SILENCE_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// Longest reason of a silence, in bytes.
pub const SILENCE_REASON_BYTES_MAX: usize = 1_000;

/// What was recognized in the stream of events.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PatternKind {
    /// A child ends again and again soon after its start.
    CrashLoop,
    /// A child changes between good and bad states and comes to no rest.
    Flapping,
    /// Children that have something in common fail together.
    CorrelatedFailure,
    /// A failed downstream takes those with it that lean on it.
    Cascade,
    /// An agent works, but slower or worse than its peers.
    GrayFailure,
    /// A task fails wherever it is tried.
    PoisonTask,
    /// An agent fails tasks that others can do.
    SickAgent,
}

impl PatternKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CrashLoop,
        Self::Flapping,
        Self::CorrelatedFailure,
        Self::Cascade,
        Self::GrayFailure,
        Self::PoisonTask,
        Self::SickAgent,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CrashLoop => "crash_loop",
            Self::Flapping => "flapping",
            Self::CorrelatedFailure => "correlated_failure",
            Self::Cascade => "cascade",
            Self::GrayFailure => "gray_failure",
            Self::PoisonTask => "poison_task",
            Self::SickAgent => "sick_agent",
        }
    }

    /// How bad it is unless a rule says otherwise.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::CrashLoop | Self::CorrelatedFailure | Self::Cascade => Severity::High,
            Self::Flapping | Self::GrayFailure | Self::PoisonTask | Self::SickAgent => {
                Severity::Medium
            }
        }
    }
}

/// Whether a pattern, or an alert, has begun or is over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PatternState {
    /// It was recognized.
    Began,
    /// It is over.
    Ended,
}

/// `supervision.pattern`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PatternSeen {
    /// What.
    pub kind: PatternKind,
    /// Where: a child's name, or what the children have in common, such as `node=n1`,
    /// `version=2`, `task_type=review`.
    pub scope: String,
    /// Whether it begins or is over.
    pub state: PatternState,
    /// Numbers it was recognized by.
    pub evidence: Inputs,
    /// The children that take part, at most 20 of them.
    pub members: Vec<ChildName>,
    /// The larger pattern that this one is a part of, as `kind scope`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
}

/// Whether an alert stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Its condition holds.
    Firing,
    /// Its condition has passed, or somebody resolved it.
    Resolved,
}

impl AlertState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// `supervision.alert`, and the document that receivers get.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AlertChanged {
    /// Name of the rule.
    pub alert: String,
    /// Whether it stands.
    pub state: AlertState,
    /// Names the alert as long as it stands; the same rule and scope always have the same one.
    pub fingerprint: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: as in a pattern, or the failed child.
    pub scope: String,
    /// It in words.
    pub summary: String,
    /// Since when it stands.
    pub since: Timestamp,
    /// How often its condition was seen since.
    pub count: u64,
    /// Numbers behind it.
    pub evidence: Inputs,
    /// Why it is resolved: `over`, `requested`, or `stale` when it was not seen again after a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<String>,
    /// The silence that keeps it from being delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_by: Option<String>,
}

/// What an alert is silenced by: all that is said must fit.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceMatch {
    /// Name of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// One alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// A time in which alerts are not delivered.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Silence {
    /// Names it.
    pub id: String,
    /// What is silenced.
    #[serde(rename = "match")]
    pub matches: SilenceMatch,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
}

/// Asks for a silence.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceRequest {
    /// What is silenced; at least one of its fields.
    #[serde(rename = "match")]
    pub matches: SilenceMatch,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// Why.
    pub reason: String,
}

/// Asks for something about one silence or alert.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRequest {
    /// The silence's id, or the alert's fingerprint.
    pub id: String,
}

/// All that stands: alerts and silences.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AlertList {
    /// Alerts that fire.
    pub firing: Vec<AlertChanged>,
    /// Silences that are not over.
    pub silences: Vec<Silence>,
}
