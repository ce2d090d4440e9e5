//! Raw structs of patterns and alerts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Secret, Span};
use crate::protocol::fact::{FailureType, Severity};
use crate::protocol::insight::PatternKind;

/// How patterns are recognized; `docs/detectors.md` tells what is measured at the defaults.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Patterns")]
pub(crate) struct RawPatterns {
    /// Failures within the window that make a crash loop; those soon after a start count twice.
    #[schemars(range(min = 2, max = 1000))]
    pub(crate) crash_loop_failures: u32,
    /// The window.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub(crate) crash_loop_window: Span,
    /// Changes between good and bad, of which half are forgotten in 5m, above which a child flaps.
    #[schemars(range(min = 3, max = 1000))]
    pub(crate) flapping_changes: u32,
    /// Different children with something in common that must fail together.
    #[schemars(range(min = 2, max = 1000))]
    pub(crate) correlated_children: u32,
    /// How close together.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub(crate) correlated_window: Span,
    /// Longest time between a failure and what it takes with it.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub(crate) cascade_window: Span,
    /// Sum of standard deviations by which an agent must be slower than its peers.
    #[schemars(range(min = 5.0, max = 1000.0))]
    pub(crate) latency_alarm: f64,
    /// Labels by which children are compared, besides node, type and downstreams.
    #[schemars(length(max = 8))]
    pub(crate) labels: Vec<String>,
}

impl Default for RawPatterns {
    fn default() -> Self {
        Self {
            crash_loop_failures: 5,
            crash_loop_window: Span::secs(60),
            flapping_changes: 8,
            correlated_children: 3,
            correlated_window: Span::secs(10),
            cascade_window: Span::secs(30),
            latency_alarm: 20.0,
            labels: ["version", "zone", "image"].map(str::to_owned).to_vec(),
        }
    }
}

/// Alerts: on what, and who is told. They need supervision.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Alerts")]
pub(crate) struct RawAlerts {
    /// Time after which receivers are told again of an alert that still stands.
    #[schemars(extend("x-minimum" = "1m", "x-maximum" = "30d"))]
    pub(crate) repeat_every: Span,
    /// What is done when a critical alert fires that is not silenced: `drain` and `pause` as
    /// `provost system` does, `page` tells all receivers whatever the rule says.
    #[schemars(length(max = 3))]
    pub(crate) on_critical: Vec<RawCritical>,
    /// Rules by name; there is one for each kind of pattern, and `critical_failure`. One of the same
    /// name takes the place of theirs.
    pub(crate) rules: BTreeMap<String, RawAlertRule>,
    /// Who is told, by name.
    pub(crate) receivers: BTreeMap<String, RawReceiver>,
}

impl Default for RawAlerts {
    fn default() -> Self {
        Self {
            repeat_every: Span::secs(4 * 3_600),
            on_critical: Vec::new(),
            rules: BTreeMap::new(),
            receivers: BTreeMap::new(),
        }
    }
}

/// What is done when a critical alert fires.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Critical")]
pub(crate) enum RawCritical {
    /// No new work is taken.
    Drain,
    /// Nothing new is started.
    Pause,
    /// All receivers are told.
    Page,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "AlertRule")]
pub(crate) struct RawAlertRule {
    /// Whether it is used.
    pub(crate) enabled: bool,
    /// Kind of pattern; this or `failure`, where the name does not say it.
    pub(crate) pattern: Option<PatternKind>,
    /// Kind of failure.
    pub(crate) failure: Option<FailureType>,
    /// Only this child, or what children have in common, such as `version=2`.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) scope: Option<String>,
    /// What is milder is let pass.
    pub(crate) min_severity: Severity,
    /// How long it must hold.
    #[serde(rename = "for")]
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub(crate) hold: Span,
    /// Severity of the alert; that of the pattern or failure when absent.
    pub(crate) severity: Option<Severity>,
    /// Receivers; all when absent, none when empty.
    #[schemars(length(max = 100))]
    pub(crate) to: Option<Vec<String>>,
}

impl Default for RawAlertRule {
    fn default() -> Self {
        Self {
            enabled: true,
            pattern: None,
            failure: None,
            scope: None,
            min_severity: Severity::Info,
            hold: Span::secs(0),
            severity: None,
            to: None,
        }
    }
}

/// Somebody who is told: by a command or a webhook.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Receiver")]
pub(crate) struct RawReceiver {
    /// Command that gets the alert as JSON on its standard input; one at a time.
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) command: Option<Vec<String>>,
    /// Address that the alert is posted to as JSON.
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) webhook: Option<String>,
    /// Secret that posts are signed with (HMAC-SHA256, Standard Webhooks); needed for a webhook.
    pub(crate) secret: Option<Secret>,
    /// Longest time of one command or post.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub(crate) timeout: Span,
    /// Attempts in all.
    #[schemars(range(min = 1, max = 20))]
    pub(crate) max_attempts: u32,
    /// Milder alerts are not told.
    pub(crate) min_severity: Severity,
    /// Whether it is told when an alert is resolved.
    pub(crate) send_resolved: bool,
}

impl Default for RawReceiver {
    fn default() -> Self {
        Self {
            command: None,
            webhook: None,
            secret: None,
            timeout: Span::secs(10),
            max_attempts: 5,
            min_severity: Severity::Info,
            send_resolved: true,
        }
    }
}
