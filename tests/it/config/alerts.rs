//! Patterns and alerts, from the file to the checked types.

use std::collections::BTreeSet;
use std::time::Duration;

use provost::config::{OnCritical, ReceiverKind, Resolved, Switch};
use provost::logic::alerts::{Receivers, Trigger, default_rules};
use provost::protocol::fact::{FailureType, Severity};
use provost::protocol::insight::PatternKind;

use crate::config::Bench;

#[test]
fn without_keys_there_is_a_rule_for_each_pattern_and_no_receiver() {
    let loaded = Bench::new(&[]).loaded();
    let alerts = &loaded.config.alerts;
    assert_eq!(alerts.rules, default_rules());
    assert!(alerts.receivers.is_empty() && alerts.on_critical.is_empty());
    assert_eq!(alerts.repeat_every, Duration::from_secs(4 * 3_600));
}

#[test]
fn patterns_are_a_part_of_supervision_that_can_be_set_and_switched_off() {
    let loaded = Bench::file(
        "[supervision]\nenabled = true\n[supervision.patterns]\ncrash_loop_failures = 9\nlabels = [\"rack\"]\n",
    )
    .loaded();
    let supervision = loaded.config.supervision.settings().unwrap();
    let patterns = supervision.patterns.settings().unwrap();
    assert_eq!(
        (patterns.detect.crash_loop_failures, &*patterns.labels),
        (9, &["rack".to_owned()][..])
    );
    let off = "[supervision]\nenabled = true\npattern_detection_enabled = false\n";
    let loaded = Bench::file(off).loaded();
    assert_eq!(loaded.config.supervision.settings().unwrap().patterns, Switch::Disabled);
}

#[test]
fn rules_and_receivers_can_be_written() {
    let bench = Bench::file(
        r#"
[alerts]
repeat_every = "1h"
on_critical = ["page", "drain"]
[alerts.rules.memory]
failure = "out_of_memory"
severity = "critical"
for = "30s"
scope = "w1"
to = ["oncall"]
[alerts.rules.flapping]
enabled = false
[alerts.rules.critical_failure]
to = []
[alerts.receivers.oncall]
webhook = "https://example.com/hook"
secret = "${env.HOOK}"
timeout = "2s"
send_resolved = false
[alerts.receivers.mail]
command = ["./mail.sh"]
min_severity = "high"
"#,
    )
    .env("HOOK", "s3cret");
    let loaded = bench.loaded();
    let alerts = &loaded.config.alerts;
    assert_eq!(alerts.on_critical, BTreeSet::from([OnCritical::Drain, OnCritical::Page]));
    assert!(!alerts.rules.contains_key("flapping"));
    let memory = &alerts.rules["memory"];
    assert_eq!(memory.on, Trigger::Failure(Some(FailureType::OutOfMemory)));
    assert_eq!(memory.to, Receivers::Named(vec!["oncall".to_owned()]));
    assert_eq!((memory.hold, memory.severity), (Duration::from_secs(30), Some(Severity::Critical)));
    let critical = &alerts.rules["critical_failure"];
    assert_eq!((critical.on, critical.min_severity), (Trigger::Failure(None), Severity::Critical));
    assert_eq!(critical.to, Receivers::Named(vec![]));
    assert_eq!(alerts.rules["cascade"].on, Trigger::Pattern(Some(PatternKind::Cascade)));
    let oncall = &alerts.receivers["oncall"];
    assert_eq!((oncall.resolved, oncall.timeout), (Resolved::Kept, Duration::from_secs(2)));
    let ReceiverKind::Command { folder, .. } = &alerts.receivers["mail"].by else {
        panic!("{alerts:?}")
    };
    assert_eq!(folder, bench.dir.path());
    assert!(!format!("{loaded:?}").contains("s3cret"));
}

#[test]
fn every_wrong_rule_and_receiver_is_a_fault_with_its_place() {
    Bench::file(
        r#"[alerts.rules.both]
pattern = "flapping"
failure = "hang"
[alerts.rules.neither]
for = "1s"
[alerts.rules.nobody]
pattern = "cascade"
to = ["onkall"]
[alerts.receivers.oncall]
command = ["./page"]
[alerts.receivers.two]
command = ["./page"]
webhook = "https://h/"
[alerts.receivers.none]
timeout = "1s"
[alerts.receivers.unsigned]
webhook = "https://h/"
[alerts.receivers.address]
webhook = "example.com"
secret = "s"
[alerts.receivers.coded]
webhook = "https://h/"
secret = "whsec_%"
"#,
    )
    .faults(&[
        "a.toml:3:11: alerts.rules.both.failure: a rule is about a pattern or a failure; leave one of them out",
        "a.toml:4:15: alerts.rules.neither: a rule needs `pattern` or `failure`; only those that provost has itself do without",
        "a.toml:8:7: alerts.rules.nobody.to[0]: no receiver is called onkall (did you mean `oncall`?)",
        "a.toml:13:11: alerts.receivers.two.webhook: a receiver is a command or a webhook; make two of it",
        "a.toml:14:19: alerts.receivers.none: a receiver needs `command` or `webhook`",
        "a.toml:17:11: alerts.receivers.unsigned.webhook: a webhook needs `secret`, by which the receiver knows who posts",
        "a.toml:19:11: alerts.receivers.address.webhook: is no address; write it like \"https://example.com/hook\" (value \"example.com\")",
        "a.toml:23:10: alerts.receivers.coded.secret: is empty, or not base64 after whsec_",
    ]);
}
