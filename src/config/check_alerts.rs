//! Checks of patterns and alerts.

use std::collections::BTreeMap;

use crate::config::alerts::{
    AlertSettings, OnCritical, Patterns, Receiver, ReceiverKind, Resolved,
};
use crate::config::check::Checker;
use crate::config::fault::Fault;
use crate::config::raw_alerts::{RawAlertRule, RawAlerts, RawCritical, RawPatterns, RawReceiver};
use crate::config::tree::join;
use crate::logic::alerts::{AlertRule, Receivers, Trigger, default_rules};
use crate::logic::detect::DetectSettings;
use crate::protocol::id::SubjectId;

/// Settings of the detectors.
pub(crate) fn patterns(raw: RawPatterns) -> Patterns {
    Patterns {
        detect: DetectSettings {
            crash_loop_failures: raw.crash_loop_failures,
            crash_loop_window: raw.crash_loop_window.0,
            flapping_changes: raw.flapping_changes,
            correlated_children: raw.correlated_children,
            correlated_window: raw.correlated_window.0,
            cascade_window: raw.cascade_window.0,
            latency_alarm: raw.latency_alarm,
        },
        labels: raw.labels,
    }
}

impl Checker<'_> {
    /// All about alerts.
    pub(crate) fn alerts(&mut self, raw: RawAlerts) -> AlertSettings {
        let mut receivers = BTreeMap::new();
        let names: Vec<String> = raw.receivers.keys().cloned().collect();
        for (name, receiver) in raw.receivers {
            let key = join("alerts.receivers", &name);
            self.rule_name(&key, &name);
            receivers.extend(self.receiver(&key, receiver).map(|receiver| (name, receiver)));
        }
        let mut rules = default_rules();
        for (name, rule) in raw.rules {
            let key = join("alerts.rules", &name);
            self.rule_name(&key, &name);
            let built_in = rules.remove(&name);
            let is_used = rule.enabled;
            let checked = self.alert_rule(&key, rule, built_in.as_ref(), &names);
            rules.extend(checked.filter(|_| is_used).map(|rule| (name, rule)));
        }
        let on_critical = raw.on_critical.into_iter().map(OnCritical::from).collect();
        if names.is_empty() && raw_page(&on_critical) {
            self.warn("alerts.on_critical", "there is no receiver that could be paged");
        }
        AlertSettings { repeat_every: raw.repeat_every.0, on_critical, rules, receivers }
    }

    /// Names of rules and receivers stand in commands, files and events.
    fn rule_name(&mut self, key: &str, name: &str) {
        if let Err(error) = name.parse::<SubjectId>() {
            let place = self.key_place(key);
            self.push(Fault::new(place, key, error.to_string()));
        }
    }

    fn alert_rule(
        &mut self,
        key: &str,
        raw: RawAlertRule,
        built_in: Option<&AlertRule>,
        receivers: &[String],
    ) -> Option<AlertRule> {
        for (index, name) in raw.to.iter().flatten().enumerate() {
            if !receivers.contains(name) {
                let at = format!("{key}.to[{index}]");
                let fault =
                    Fault::new(self.place(&at), at, format!("no receiver is called {name}"));
                self.push(fault.suggest(name, receivers.iter().map(String::as_str)));
            }
        }
        let on = match (raw.pattern, raw.failure) {
            (Some(_), Some(_)) => {
                let text = "a rule is about a pattern or a failure; leave one of them out";
                self.fault(&join(key, "failure"), text);
                return None;
            }
            (Some(pattern), None) => Trigger::Pattern(Some(pattern)),
            (None, Some(failure)) => Trigger::Failure(Some(failure)),
            (None, None) => match built_in {
                Some(rule) => rule.on,
                None => {
                    let text = "a rule needs `pattern` or `failure`; only those that provost has \
                                itself do without";
                    self.fault(key, text);
                    return None;
                }
            },
        };
        let min_severity = if self.is_written(&join(key, "min_severity")) {
            raw.min_severity
        } else {
            built_in.map_or(raw.min_severity, |rule| rule.min_severity)
        };
        Some(AlertRule {
            on,
            min_severity,
            scope: raw.scope,
            hold: raw.hold.0,
            severity: raw.severity,
            to: raw.to.map_or(Receivers::All, Receivers::Named),
        })
    }

    fn receiver(&mut self, key: &str, raw: RawReceiver) -> Option<Receiver> {
        let by = match (raw.command, raw.webhook, raw.secret) {
            (Some(_), Some(_), _) => {
                let text = "a receiver is a command or a webhook; make two of it";
                self.fault(&join(key, "webhook"), text);
                return None;
            }
            (None, None, _) => {
                self.fault(key, "a receiver needs `command` or `webhook`");
                return None;
            }
            (Some(_), None, Some(_)) => {
                self.fault(&join(key, "secret"), "only a webhook has a secret; remove it");
                return None;
            }
            (Some(command), None, None) => {
                if command.first().is_none_or(String::is_empty) {
                    self.fault(&join(key, "command"), "names no program");
                    return None;
                }
                let folder = self.folder(&join(key, "command"));
                ReceiverKind::Command { command, folder }
            }
            (None, Some(_), None) => {
                let text = "a webhook needs `secret`, by which the receiver knows who posts";
                self.fault(&join(key, "webhook"), text);
                return None;
            }
            (None, Some(url), Some(secret)) => {
                let scheme = url.starts_with("http://") || url.starts_with("https://");
                if !scheme || url.parse::<axum::http::Uri>().is_err() {
                    let text = "is no address; write it like \"https://example.com/hook\"";
                    self.fault_of(&join(key, "webhook"), &url, text);
                    return None;
                }
                let text = secret.reveal();
                let coded = text.strip_prefix("whsec_").map(str::as_bytes);
                let is_coded = |text: &[u8]| data_encoding::BASE64.decode(text).is_ok();
                if text.is_empty() || coded.is_some_and(|coded| !is_coded(coded)) {
                    let text = "is empty, or not base64 after whsec_";
                    self.fault(&join(key, "secret"), text);
                    return None;
                }
                ReceiverKind::Webhook { url, secret }
            }
        };
        Some(Receiver {
            by,
            timeout: raw.timeout.0,
            max_attempts: raw.max_attempts,
            min_severity: raw.min_severity,
            resolved: if raw.send_resolved { Resolved::Told } else { Resolved::Kept },
        })
    }
}

fn raw_page(on_critical: &std::collections::BTreeSet<OnCritical>) -> bool {
    on_critical.contains(&OnCritical::Page)
}

impl From<RawCritical> for OnCritical {
    fn from(raw: RawCritical) -> Self {
        match raw {
            RawCritical::Drain => Self::Drain,
            RawCritical::Pause => Self::Pause,
            RawCritical::Page => Self::Page,
        }
    }
}
