//! Raw structs of what ends of runs mean, and of what requests may add to an agent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ends::{Codes, Signal};
use crate::config::units::Span;

/// What an end of a run means. The first rule that matches decides; the built-in ones come last.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ExitRule")]
pub(crate) struct RawExitRule {
    /// Exit codes and ranges of them; with `signals`, either is enough.
    #[schemars(length(max = 256))]
    pub(crate) codes: Vec<Codes>,
    /// Signals, by name or number; without codes and signals every end but code 0 is meant.
    #[schemars(length(max = 64))]
    pub(crate) signals: Vec<Signal>,
    /// Text that must be in the last 8 KiB of output too; `|` stands between several.
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) output: Option<String>,
    /// What the end means; `ok` counts as clean for a transient agent.
    pub(crate) class: Option<RawExitClass>,
    /// What is done; when absent, what is usual for the class.
    pub(crate) action: Option<RawExitAction>,
    /// How long it is parked; needed for park.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "30d"))]
    pub(crate) park_for: Option<Span>,
    /// Whether a time in the output, such as `retry after 30s`, goes before `park_for`.
    pub(crate) park_from_output: bool,
    /// Longest time that the output may ask for.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "30d"))]
    pub(crate) park_max: Span,
}

impl Default for RawExitRule {
    fn default() -> Self {
        Self {
            codes: Vec::new(),
            signals: Vec::new(),
            output: None,
            class: None,
            action: None,
            park_for: None,
            park_from_output: false,
            park_max: Span::secs(24 * 3600),
        }
    }
}

/// What a rule may say that an end means.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RuleClass")]
pub(crate) enum RawExitClass {
    /// It finished its work.
    Ok,
    /// It failed.
    Crash,
    /// It ran out of memory.
    Oom,
    /// It is rate limited.
    Throttled,
    /// Its configuration or program is wrong.
    ConfigFault,
    /// It hung.
    Watchdog,
}

/// What a rule may have done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RuleAction")]
pub(crate) enum RawExitAction {
    /// What restart type, backoff and circuit say.
    Restart,
    /// It is restarted with all its siblings.
    RestartGroup,
    /// It is started again after a time; counts nowhere.
    Park,
    /// Its circuit opens at once.
    Quarantine,
    /// It stays down until somebody starts it.
    Stop,
    /// Its supervisor gives up.
    Escalate,
}

/// What a spawn request may add to a type.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Spawn")]
#[expect(clippy::struct_excessive_bools, reason = "two independent switches of one section")]
pub(crate) struct RawSpawn {
    /// Whether it may add arguments.
    pub(crate) args: bool,
    /// Environment variables that it may set: names, beginnings (`APP_*`), or `*`; variables that
    /// load code, such as `PATH`, only by their whole name.
    #[schemars(length(max = 1000))]
    pub(crate) env: Vec<String>,
    /// Whether it may add labels.
    pub(crate) labels: bool,
}

impl Default for RawSpawn {
    fn default() -> Self {
        Self { args: true, env: vec!["*".to_owned()], labels: true }
    }
}
