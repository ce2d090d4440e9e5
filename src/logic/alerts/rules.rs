//! Rules: what makes an alert, how bad it is, who is told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::logic::alerts::Cause;
use crate::protocol::fact::{FailureType, Severity};
use crate::protocol::insight::PatternKind;

/// What a rule looks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// A pattern of this kind; any when none is named.
    Pattern(Option<PatternKind>),
    /// A failure of this kind; any when none is named.
    Failure(Option<FailureType>),
}

/// Who is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Receivers {
    /// All that are configured.
    All,
    /// These; with none the alert is only an event.
    Named(Vec<String>),
}

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertRule {
    /// What it looks for.
    pub on: Trigger,
    /// What is milder is let pass.
    pub min_severity: Severity,
    /// Only this scope, if one is named.
    pub scope: Option<String>,
    /// Time that the condition must hold.
    pub hold: Duration,
    /// Severity of the alert; the signal's when absent.
    pub severity: Option<Severity>,
    /// Who is told.
    pub to: Receivers,
}

impl AlertRule {
    /// A rule that fires at once, for everything of its kind, and tells everybody.
    #[must_use]
    pub fn new(on: Trigger) -> Self {
        Self {
            on,
            min_severity: Severity::Info,
            scope: None,
            hold: Duration::ZERO,
            severity: None,
            to: Receivers::All,
        }
    }

    /// Whether a condition fits.
    #[must_use]
    pub fn fits(&self, cause: Cause, scope: &str, severity: Severity) -> bool {
        let kind = match (self.on, cause) {
            (Trigger::Pattern(wanted), Cause::Pattern(kind)) => {
                wanted.is_none_or(|wanted| wanted == kind)
            }
            (Trigger::Failure(wanted), Cause::Failure(kind)) => {
                wanted.is_none_or(|wanted| wanted == kind)
            }
            (Trigger::Pattern(_), Cause::Failure(_)) | (Trigger::Failure(_), Cause::Pattern(_)) => {
                false
            }
        };
        kind && self.min_severity <= severity
            && self.scope.as_deref().is_none_or(|wanted| wanted == scope)
    }
}

/// The rules of whoever configures none: each kind of pattern, and critical failures.
#[must_use]
pub fn default_rules() -> BTreeMap<String, AlertRule> {
    let patterns = PatternKind::ALL
        .into_iter()
        .map(|kind| (kind.as_str().to_owned(), AlertRule::new(Trigger::Pattern(Some(kind)))));
    let critical =
        AlertRule { min_severity: Severity::Critical, ..AlertRule::new(Trigger::Failure(None)) };
    patterns.chain([("critical_failure".to_owned(), critical)]).collect()
}
