//! What is known of one alert, and of silences.

use std::time::Instant;

use jiff::Timestamp;

use crate::protocol::decision::Inputs;
use crate::protocol::fact::Severity;
use crate::protocol::id::EventId;
use crate::protocol::insight::{AlertChanged, AlertState, Silence, SilenceMatch};

/// What an alert is known by.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) rule: String,
    pub(super) scope: String,
}

impl Key {
    /// The same rule and scope, in any daemon: FNV-1a, 64 bits, as hexadecimal digits.
    pub(super) fn fingerprint(&self) -> String {
        let bytes = self.rule.bytes().chain([0]).chain(self.scope.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

/// Whether the condition has held for long enough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Pending { due: Instant },
    Firing,
}

/// One alert.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    pub(super) phase: Phase,
    pub(super) pattern: bool,
    pub(super) since: Timestamp,
    pub(super) severity: Severity,
    pub(super) summary: String,
    pub(super) count: u64,
    pub(super) evidence: Inputs,
    pub(super) event: Option<EventId>,
    /// When it is told again.
    pub(super) repeat_at: Option<Instant>,
    /// When it is given up because its condition was not seen since a start of the daemon.
    pub(super) stale_at: Option<Instant>,
    /// The silence under which it was told last.
    pub(super) silenced_by: Option<String>,
}

impl Alert {
    pub(super) fn document(&self, key: &Key, state: AlertState) -> AlertChanged {
        AlertChanged {
            alert: key.rule.clone(),
            state,
            fingerprint: key.fingerprint(),
            severity: self.severity,
            scope: key.scope.clone(),
            summary: self.summary.clone(),
            since: self.since,
            count: self.count,
            evidence: self.evidence.clone(),
            resolved_by: None,
            silenced_by: self.silenced_by.clone(),
        }
    }
}

/// Whether a silence is about an alert.
pub(super) fn silences(silence: &Silence, key: &Key) -> bool {
    let SilenceMatch { alert, scope, fingerprint } = &silence.matches;
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|want| want == is);
    fits(alert, &key.rule) && fits(scope, &key.scope) && fits(fingerprint, &key.fingerprint())
}
