//! A configuration that is loaded again: what is asked, and what would change or has changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::id::ChildName;

/// Longest `plan`, `by` or `reason` of a reload, in bytes.
pub const RELOAD_TEXT_BYTES_MAX: usize = 1_024;

/// Asks the daemon to read its configuration again.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// Only tell what would change.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// Fingerprint of the plan that was looked at; refused if what would change differs by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Who asks, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What a reload changes, or has changed.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConfigPlan {
    /// Names exactly these changes, from what runs now.
    pub fingerprint: String,
    /// The files that were read.
    pub files: Vec<String>,
    /// The changes; empty when what is written is what runs.
    pub changes: Vec<ConfigChange>,
    /// Whether they were carried out, except those that need a restart of the daemon.
    pub done: bool,
    /// What is doubtful about the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl ConfigPlan {
    /// The changes that only a restart of the daemon brings about.
    pub fn held(&self) -> impl Iterator<Item = &ConfigChange> {
        self.changes.iter().filter(|change| change.effect == Effect::RestartsDaemon)
    }
}

/// One change.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConfigChange {
    /// Whether something comes, goes or differs.
    pub op: ChangeOp,
    /// What kind of thing.
    pub what: ChangeOf,
    /// Name of the agent or group; the key of a setting.
    pub name: String,
    /// What differs of an agent or group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Value that runs; secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Value that is written; secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What it takes.
    pub effect: Effect,
    /// Children that are stopped and started for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarts: Vec<ChildName>,
    /// Why it takes a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where it is written, as `file:line`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// Whether something comes, goes or differs.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOp {
    /// It comes.
    Add,
    /// It goes.
    Remove,
    /// It differs.
    Change,
}

/// What kind of thing changes.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOf {
    /// A setting of the daemon.
    Setting,
    /// An agent.
    Agent,
    /// A supervisor with its children.
    Group,
}

/// What a change takes.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing is restarted.
    InPlace,
    /// The children named are stopped and started.
    RestartsChildren,
    /// It is held until the daemon is restarted.
    RestartsDaemon,
}

/// The configuration as `status` tells of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConfigStatus {
    /// The files that the daemon reads.
    pub files: Vec<String>,
    /// When what runs was read.
    pub loaded_at: Option<jiff::Timestamp>,
    /// Changes on disk that do not run yet.
    pub changes: u64,
    /// Of those, how many need a restart of the daemon.
    pub held: u64,
    /// Why what is on disk cannot be loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Why the last reload was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
