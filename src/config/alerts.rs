//! Checked settings of patterns and alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::units::Secret;
use crate::logic::alerts::AlertRule;
use crate::logic::detect::DetectSettings;
use crate::protocol::fact::Severity;

/// How patterns are recognized.
#[derive(Clone, Debug, PartialEq)]
pub struct Patterns {
    /// The numbers.
    pub detect: DetectSettings,
    /// Labels by which children are compared.
    pub labels: Vec<String>,
}

impl Default for Patterns {
    /// The defaults, and the labels `version`, `zone` and `image`.
    fn default() -> Self {
        let labels = ["version", "zone", "image"].map(str::to_owned).to_vec();
        Self { detect: DetectSettings::default(), labels }
    }
}

/// Alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSettings {
    /// Time after which an alert is told again.
    pub repeat_every: Duration,
    /// What is done when a critical alert fires.
    pub on_critical: BTreeSet<OnCritical>,
    /// All rules that are used, by name.
    pub rules: BTreeMap<String, AlertRule>,
    /// Receivers by name. Every one that a rule names is there.
    pub receivers: BTreeMap<String, Receiver>,
}

/// What is done when a critical alert fires.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum OnCritical {
    /// No new work is taken.
    Drain,
    /// Nothing new is started.
    Pause,
    /// All receivers are told.
    Page,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// How.
    pub by: ReceiverKind,
    /// Longest time of one attempt.
    pub timeout: Duration,
    /// Attempts in all; at least 1.
    pub max_attempts: u32,
    /// Milder alerts are not told.
    pub min_severity: Severity,
    /// Whether it hears of the end.
    pub resolved: Resolved,
}

/// Whether a receiver hears that an alert is resolved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resolved {
    /// It does.
    Told,
    /// It does not.
    Kept,
}

/// How somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceiverKind {
    /// A command, with its folder.
    Command {
        /// Program and arguments; not empty.
        command: Vec<String>,
        /// The folder of the file that declares it.
        folder: PathBuf,
    },
    /// A signed post.
    Webhook {
        /// Address, http or https.
        url: String,
        /// Key of the signature.
        secret: Secret,
    },
}
