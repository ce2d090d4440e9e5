//! The machine: signals and requests in, what is to be told out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::logic::alerts::book::{Alert, Key, Phase, silences};
use crate::logic::alerts::rules::{AlertRule, Receivers};
use crate::logic::alerts::{ALERTS_MAX, Cause, Moment, SILENCES_MAX, STALE_AFTER, Signal};
use crate::protocol::fact::Severity;
use crate::protocol::id::EventId;
use crate::protocol::insight::{
    AlertChanged, AlertList, AlertState, SILENCE_MS_MAX, SILENCE_REASON_BYTES_MAX, Silence,
    SilenceRequest,
};

/// Something to be told.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct AlertStep {
    /// The alert.
    pub alert: AlertChanged,
    /// Whether it is an event, or only delivered again.
    pub news: News,
    /// Who gets it; nobody when none is named.
    pub to: Receivers,
    /// The event behind it.
    pub cause: Option<EventId>,
}

/// Whether an alert has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// It fires, or is resolved.
    Changed,
    /// It still stands.
    Still,
}

/// Why a silence was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SilenceFault {
    /// Everything would be silenced.
    #[error(
        "match is empty, which would silence everything; name an alert, a scope or a fingerprint"
    )]
    Everything,
    /// It has no length, or is too long.
    #[error("for_ms is {for_ms}; it must be 1 to {SILENCE_MS_MAX}")]
    Length {
        /// What was asked.
        for_ms: u64,
    },
    /// Nobody says why, or says too much.
    #[error("reason has {bytes} bytes; it must have 1 to {SILENCE_REASON_BYTES_MAX}")]
    Reason {
        /// Its length.
        bytes: usize,
    },
    /// There are too many.
    #[error("there are {SILENCES_MAX} silences already")]
    Full,
}

/// All alerts and silences.
#[derive(Clone, Debug)]
pub struct Alerts {
    rules: BTreeMap<String, AlertRule>,
    repeat_every: Duration,
    alerts: BTreeMap<Key, Alert>,
    silences: BTreeMap<String, Silence>,
    refused: u64,
}

impl Alerts {
    /// No alert stands yet.
    #[must_use]
    pub fn new(rules: BTreeMap<String, AlertRule>, repeat_every: Duration) -> Self {
        Self { rules, repeat_every, alerts: BTreeMap::new(), silences: BTreeMap::new(), refused: 0 }
    }

    /// Takes over what an earlier daemon had; what its rules are gone of is dropped.
    pub fn restore(&mut self, moment: Moment, list: AlertList) {
        for silence in list.silences.into_iter().filter(|silence| moment.wall < silence.until) {
            self.silences.insert(silence.id.clone(), silence);
        }
        for alert in list.firing.into_iter().take(ALERTS_MAX) {
            let Some(rule) = self.rules.get(&alert.alert) else { continue };
            let key = Key { rule: alert.alert, scope: alert.scope };
            let restored = Alert {
                phase: Phase::Firing,
                pattern: matches!(rule.on, crate::logic::alerts::Trigger::Pattern(_)),
                since: alert.since,
                severity: alert.severity,
                summary: alert.summary,
                count: alert.count,
                evidence: alert.evidence,
                event: None,
                repeat_at: moment.now.checked_add(self.repeat_every),
                stale_at: moment.now.checked_add(STALE_AFTER),
                silenced_by: alert.silenced_by,
            };
            self.alerts.insert(key, restored);
        }
    }

    /// All that stands.
    #[must_use]
    pub fn list(&self) -> AlertList {
        let firing = self.alerts.iter().filter(|(_, alert)| alert.phase == Phase::Firing);
        AlertList {
            firing: firing.map(|(key, alert)| alert.document(key, AlertState::Firing)).collect(),
            silences: self.silences.values().cloned().collect(),
        }
    }

    /// How many alerts fire, by severity.
    #[must_use]
    pub fn firing(&self) -> BTreeMap<Severity, u64> {
        let mut counts: BTreeMap<Severity, u64> =
            Severity::ALL.into_iter().map(|severity| (severity, 0)).collect();
        for alert in self.alerts.values().filter(|alert| alert.phase == Phase::Firing) {
            let count = counts.entry(alert.severity).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }

    /// Alerts that were not made because there are too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes in a signal.
    pub fn on_signal(&mut self, moment: Moment, signal: Signal) -> Vec<AlertStep> {
        let mut out = self.on_deadline(moment);
        match signal {
            Signal::Holds { .. } => self.holds(moment, &signal, &mut out),
            Signal::PatternOver(kind, scope) => {
                let rules: Vec<String> = self
                    .rules
                    .iter()
                    .filter(|(_, rule)| rule.fits(Cause::Pattern(kind), &scope, Severity::Critical))
                    .map(|(name, _)| name.clone())
                    .collect();
                for rule in rules {
                    self.end(moment, &Key { rule, scope: scope.clone() }, "over", &mut out);
                }
            }
            Signal::OutageOver(scope) => {
                let keys: Vec<Key> = self
                    .alerts
                    .iter()
                    .filter(|(key, alert)| !alert.pattern && key.scope == scope)
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in keys {
                    self.end(moment, &key, "over", &mut out);
                }
            }
        }
        out
    }

    fn holds(&mut self, moment: Moment, signal: &Signal, out: &mut Vec<AlertStep>) {
        let Signal::Holds { cause, scope, severity, summary, evidence, event } = signal else {
            return;
        };
        let fitting: Vec<(String, Duration, Option<Severity>)> = self
            .rules
            .iter()
            .filter(|(_, rule)| rule.fits(*cause, scope, *severity))
            .map(|(name, rule)| (name.clone(), rule.hold, rule.severity))
            .collect();
        for (rule, hold, replaced) in fitting {
            let key = Key { rule, scope: scope.clone() };
            if let Some(alert) = self.alerts.get_mut(&key) {
                alert.count = alert.count.saturating_add(1);
                alert.evidence = evidence.clone();
                alert.stale_at = None;
                continue;
            }
            if ALERTS_MAX <= self.alerts.len() {
                self.refused = self.refused.saturating_add(1);
                continue;
            }
            let due = moment.now.checked_add(hold).unwrap_or(moment.now);
            let alert = Alert {
                phase: Phase::Pending { due },
                pattern: matches!(cause, Cause::Pattern(_)),
                since: moment.wall,
                severity: replaced.unwrap_or(*severity),
                summary: summary.clone(),
                count: 1,
                evidence: evidence.clone(),
                event: *event,
                repeat_at: None,
                stale_at: None,
                silenced_by: None,
            };
            self.alerts.insert(key.clone(), alert);
            if hold.is_zero() {
                self.fire(moment, &key, out);
            }
        }
    }

    fn fire(&mut self, moment: Moment, key: &Key, out: &mut Vec<AlertStep>) {
        let silenced_by = self.silence_of(key);
        let to = self.receivers(key);
        let Some(alert) = self.alerts.get_mut(key) else { return };
        alert.phase = Phase::Firing;
        alert.repeat_at = moment.now.checked_add(self.repeat_every);
        alert.silenced_by = silenced_by;
        let document = alert.document(key, AlertState::Firing);
        out.push(step(document, News::Changed, to, alert.event));
    }

    fn end(&mut self, _moment: Moment, key: &Key, why: &str, out: &mut Vec<AlertStep>) {
        let silenced_by = self.silence_of(key);
        let to = self.receivers(key);
        let Some(mut alert) = self.alerts.remove(key) else { return };
        if alert.phase != Phase::Firing {
            return;
        }
        alert.silenced_by = silenced_by;
        let resolved_by = Some(why.to_owned());
        let document = AlertChanged { resolved_by, ..alert.document(key, AlertState::Resolved) };
        out.push(step(document, News::Changed, to, alert.event));
    }

    /// Somebody says that an alert is dealt with. Whether there was one.
    pub fn resolve(&mut self, moment: Moment, fingerprint: &str) -> Option<Vec<AlertStep>> {
        let mut out = self.on_deadline(moment);
        let found = self
            .alerts
            .iter()
            .find(|(key, alert)| alert.phase == Phase::Firing && key.fingerprint() == fingerprint);
        let key = found.map(|(key, _)| key.clone())?;
        self.end(moment, &key, "requested", &mut out);
        Some(out)
    }

    /// Makes a silence.
    ///
    /// # Errors
    ///
    /// [`SilenceFault`] says what is wrong with it.
    pub fn silence(
        &mut self,
        moment: Moment,
        id: String,
        request: SilenceRequest,
    ) -> Result<Silence, SilenceFault> {
        let SilenceRequest { matches, for_ms, reason } = request;
        if matches.alert.is_none() && matches.scope.is_none() && matches.fingerprint.is_none() {
            return Err(SilenceFault::Everything);
        }
        if for_ms == 0 || SILENCE_MS_MAX < for_ms {
            return Err(SilenceFault::Length { for_ms });
        }
        let bytes = reason.trim().len();
        if bytes == 0 || SILENCE_REASON_BYTES_MAX < bytes {
            return Err(SilenceFault::Reason { bytes });
        }
        if SILENCES_MAX <= self.silences.len() {
            return Err(SilenceFault::Full);
        }
        let until = moment
            .wall
            .checked_add(Duration::from_millis(for_ms))
            .map_err(|_too_late| SilenceFault::Length { for_ms })?;
        let silence = Silence { id: id.clone(), matches, until, reason };
        self.silences.insert(id, silence.clone());
        for (key, alert) in &mut self.alerts {
            if alert.silenced_by.is_none() && silences(&silence, key) {
                alert.silenced_by = Some(silence.id.clone());
            }
        }
        Ok(silence)
    }

    /// Ends a silence; `None` when there is none of that name.
    pub fn unsilence(&mut self, moment: Moment, id: &str) -> Option<Vec<AlertStep>> {
        self.silences.remove(id)?;
        let mut out = self.on_deadline(moment);
        self.heard_again(moment, &mut out);
        Some(out)
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self, moment: Moment) -> Option<Instant> {
        let alerts = self.alerts.values().flat_map(|alert| {
            let pending = match alert.phase {
                Phase::Pending { due } => Some(due),
                Phase::Firing => None,
            };
            [pending, alert.repeat_at, alert.stale_at].into_iter().flatten()
        });
        let silences = self.silences.values().filter_map(|silence| {
            let left = silence.until.duration_since(moment.wall);
            let left = if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() };
            moment.now.checked_add(left)
        });
        alerts.chain(silences).min()
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, moment: Moment) -> Vec<AlertStep> {
        let mut out = Vec::new();
        let silences = self.silences.len();
        self.silences.retain(|_, silence| moment.wall < silence.until);
        if self.silences.len() < silences {
            self.heard_again(moment, &mut out);
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= moment.now);
        let due: Vec<Key> = self
            .alerts
            .iter()
            .filter(|(_, alert)| {
                let pending = matches!(alert.phase, Phase::Pending { due } if due <= moment.now);
                pending || is_due(alert.repeat_at) || is_due(alert.stale_at)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(alert) = self.alerts.get(&key) else { continue };
            if is_due(alert.stale_at) {
                self.end(moment, &key, "stale", &mut out);
            } else if alert.phase == Phase::Firing {
                self.again(moment, &key, &mut out);
            } else {
                self.fire(moment, &key, &mut out);
            }
        }
        out
    }

    /// Tells an alert again that stands for long.
    fn again(&mut self, moment: Moment, key: &Key, out: &mut Vec<AlertStep>) {
        let to = self.receivers(key);
        let repeat_at = moment.now.checked_add(self.repeat_every);
        let Some(alert) = self.alerts.get_mut(key) else { return };
        alert.repeat_at = repeat_at;
        if alert.silenced_by.is_none() {
            let document = alert.document(key, AlertState::Firing);
            out.push(step(document, News::Still, to, alert.event));
        }
    }

    /// Delivers what stands and is silenced no more.
    fn heard_again(&mut self, moment: Moment, out: &mut Vec<AlertStep>) {
        let silenced = self.alerts.iter().filter(|(_, alert)| alert.silenced_by.is_some());
        let keys: Vec<Key> = silenced.map(|(key, _)| key.clone()).collect();
        for key in keys {
            let still = self.silence_of(&key);
            let is_heard = still.is_none();
            if let Some(alert) = self.alerts.get_mut(&key) {
                alert.silenced_by = still;
            }
            let fires = self.alerts.get(&key).is_some_and(|alert| alert.phase == Phase::Firing);
            if is_heard && fires {
                self.again(moment, &key, out);
            }
        }
    }

    fn silence_of(&self, key: &Key) -> Option<String> {
        let found = self.silences.values().find(|silence| silences(silence, key));
        found.map(|silence| silence.id.clone())
    }

    fn receivers(&self, key: &Key) -> Receivers {
        self.rules.get(&key.rule).map_or(Receivers::Named(Vec::new()), |rule| rule.to.clone())
    }
}

/// What is told; nobody gets what is silenced.
fn step(alert: AlertChanged, news: News, to: Receivers, cause: Option<EventId>) -> AlertStep {
    let to = if alert.silenced_by.is_some() { Receivers::Named(Vec::new()) } else { to };
    AlertStep { alert, news, to, cause }
}
