//! The machine of alerts: what fires, what is told, what is silenced.

use std::time::{Duration, Instant};

use crate::logic::alerts::{
    AlertRule, AlertStep, Alerts, Cause, Moment, News, Receivers, STALE_AFTER, Signal,
    SilenceFault, Trigger, default_rules,
};
use crate::protocol::decision::Inputs;
use crate::protocol::fact::{FailureType, Severity};
use crate::protocol::insight::{AlertState, PatternKind, SilenceMatch, SilenceRequest};

/// A machine, and a time that only moves on demand.
struct Bench {
    alerts: Alerts,
    moment: Moment,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
    fn new(rules: impl IntoIterator<Item = (&'static str, AlertRule)>) -> Self {
        let rules = rules.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect();
        let moment = Moment { now: Instant::now(), wall: "2026-01-01T00:00:00Z".parse().unwrap() };
        Self { alerts: Alerts::new(rules, Duration::from_secs(4 * 3_600)), moment }
    }

    fn pass(&mut self, time: Duration) -> Vec<AlertStep> {
        self.moment.now += time;
        self.moment.wall += time;
        self.alerts.on_deadline(self.moment)
    }

    fn loops(&mut self, child: &str) -> Vec<AlertStep> {
        let signal = Signal::Holds {
            cause: Cause::Pattern(PatternKind::CrashLoop),
            scope: child.to_owned(),
            severity: Severity::High,
            summary: format!("{child} loops"),
            evidence: Inputs::default().with("failures", 5_u64),
            event: None,
        };
        self.alerts.on_signal(self.moment, signal)
    }

    fn fails(&mut self, child: &str, kind: FailureType, severity: Severity) -> Vec<AlertStep> {
        let signal = Signal::Holds {
            cause: Cause::Failure(kind),
            scope: child.to_owned(),
            severity,
            summary: format!("{child} failed"),
            evidence: Inputs::default(),
            event: None,
        };
        self.alerts.on_signal(self.moment, signal)
    }

    fn over(&mut self, child: &str) -> Vec<AlertStep> {
        let signal = Signal::PatternOver(PatternKind::CrashLoop, child.to_owned());
        self.alerts.on_signal(self.moment, signal)
    }

    fn silence(&mut self, matches: SilenceMatch, time: Duration) -> Result<(), SilenceFault> {
        let for_ms = u64::try_from(time.as_millis()).unwrap();
        let request = SilenceRequest { matches, for_ms, reason: "deploy".to_owned() };
        self.alerts.silence(self.moment, "s1".to_owned(), request).map(|_| ())
    }
}

fn shown(steps: &[AlertStep]) -> Vec<(&str, &str, AlertState, News, bool)> {
    let shown = |step: &AlertStep| (step.to == Receivers::All, step.news);
    steps
        .iter()
        .map(|step| {
            let (delivered, news) = shown(step);
            (
                step.alert.alert.as_str(),
                step.alert.scope.as_str(),
                step.alert.state,
                news,
                delivered,
            )
        })
        .collect()
}

fn of_loops() -> [(&'static str, AlertRule); 1] {
    [("loop", AlertRule::new(Trigger::Pattern(Some(PatternKind::CrashLoop))))]
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_pattern_fires_once_and_is_resolved_when_it_is_over() {
    let mut bench = Bench::new(of_loops());
    let fired = bench.loops("w1");
    assert_eq!(shown(&fired), [("loop", "w1", AlertState::Firing, News::Changed, true)]);
    assert_eq!(bench.loops("w1"), []);
    assert_eq!(bench.alerts.list().firing[0].count, 2);
    let resolved = bench.over("w1");
    assert_eq!(shown(&resolved), [("loop", "w1", AlertState::Resolved, News::Changed, true)]);
    assert_eq!(resolved[0].alert.resolved_by.as_deref(), Some("over"));
    assert_eq!(resolved[0].alert.fingerprint, fired[0].alert.fingerprint);
    assert_eq!(bench.over("w1"), []);
}

#[test]
fn the_fingerprint_is_of_rule_and_scope() {
    let mut bench = Bench::new(of_loops());
    let one = bench.loops("w1")[0].alert.fingerprint.clone();
    assert_ne!(bench.loops("w2")[0].alert.fingerprint, one);
    assert_eq!(Bench::new(of_loops()).loops("w1")[0].alert.fingerprint, one);
}

#[test]
fn a_condition_that_passes_within_the_hold_time_fires_nothing() {
    let rule = AlertRule { hold: 30 * SECOND, ..of_loops()[0].1.clone() };
    let mut bench = Bench::new([("loop", rule)]);
    assert_eq!(bench.loops("w1"), []);
    assert_eq!(bench.alerts.deadline(bench.moment), Some(bench.moment.now + 30 * SECOND));
    assert_eq!(bench.pass(29 * SECOND), []);
    assert_eq!(bench.over("w1"), []);
    assert_eq!(bench.pass(60 * SECOND), []);
    assert_eq!(bench.loops("w1"), []);
    assert_eq!(bench.pass(30 * SECOND).len(), 1);
}

#[test]
fn failures_fit_by_kind_and_severity_and_end_with_the_outage() {
    let oom = AlertRule {
        severity: Some(Severity::Critical),
        ..AlertRule::new(Trigger::Failure(Some(FailureType::OutOfMemory)))
    };
    let mut bench = Bench::new([("oom", oom)]);
    assert_eq!(bench.fails("w1", FailureType::ProcessCrash, Severity::High), []);
    let fired = bench.fails("w1", FailureType::OutOfMemory, Severity::High);
    assert_eq!(fired[0].alert.severity, Severity::Critical);
    let ended = bench.alerts.on_signal(bench.moment, Signal::OutageOver("w1".to_owned()));
    assert_eq!(ended[0].alert.state, AlertState::Resolved);
}

#[test]
fn what_is_silenced_is_an_event_and_delivered_when_the_silence_is_over() {
    let mut bench = Bench::new(of_loops());
    let scope = SilenceMatch { scope: Some("w1".to_owned()), ..SilenceMatch::default() };
    bench.silence(scope, 60 * SECOND).unwrap();
    let fired = bench.loops("w1");
    assert_eq!(fired[0].to, Receivers::Named(vec![]));
    assert_eq!(fired[0].alert.silenced_by.as_deref(), Some("s1"));
    assert_eq!(bench.loops("w2")[0].to, Receivers::All);
    assert_eq!(bench.pass(59 * SECOND), []);
    let told = bench.pass(SECOND);
    assert_eq!(shown(&told), [("loop", "w1", AlertState::Firing, News::Still, true)]);
    assert_eq!(bench.alerts.list().silences, []);
}

#[test]
fn a_silence_needs_a_match_a_length_and_a_reason() {
    let mut bench = Bench::new(of_loops());
    let one = SilenceMatch { alert: Some("loop".to_owned()), ..SilenceMatch::default() };
    assert_eq!(bench.silence(SilenceMatch::default(), SECOND), Err(SilenceFault::Everything));
    let none = bench.silence(one.clone(), Duration::ZERO);
    assert_eq!(none, Err(SilenceFault::Length { for_ms: 0 }));
    let request = SilenceRequest { matches: one, for_ms: 1, reason: " ".to_owned() };
    let refused = bench.alerts.silence(bench.moment, "s".to_owned(), request);
    assert_eq!(refused, Err(SilenceFault::Reason { bytes: 0 }));
}

#[test]
fn an_alert_that_stands_for_long_is_delivered_again_and_can_be_resolved_by_hand() {
    let mut bench = Bench::new(of_loops());
    let fingerprint = bench.loops("w1")[0].alert.fingerprint.clone();
    let told = bench.pass(4 * 3_600 * SECOND);
    assert_eq!(shown(&told), [("loop", "w1", AlertState::Firing, News::Still, true)]);
    assert_eq!(bench.alerts.resolve(bench.moment, "nothing"), None);
    let resolved = bench.alerts.resolve(bench.moment, &fingerprint).unwrap();
    assert_eq!(resolved[0].alert.resolved_by.as_deref(), Some("requested"));
    assert_eq!(bench.alerts.deadline(bench.moment), None);
}

#[test]
fn what_an_earlier_daemon_told_stands_until_it_was_not_seen_for_a_while() {
    let mut bench = Bench::new(of_loops());
    bench.loops("w1").clear();
    bench.loops("w2").clear();
    let kept = bench.alerts.list();
    let mut next = Bench::new(of_loops());
    next.alerts.restore(next.moment, kept);
    assert_eq!(next.loops("w1"), [], "it fires already");
    let stale = next.pass(STALE_AFTER);
    assert_eq!(stale.len(), 1);
    assert_eq!(stale[0].alert.scope, "w2");
    assert_eq!(stale[0].alert.resolved_by.as_deref(), Some("stale"));
}

#[test]
fn the_default_rules_are_one_for_each_pattern_and_critical_failures() {
    let rules = default_rules();
    assert_eq!(rules.len(), PatternKind::ALL.len() + 1);
    let critical = &rules["critical_failure"];
    let kind = Cause::Failure(FailureType::ProcessCrash);
    assert!(
        critical.fits(kind, "w1", Severity::Critical) && !critical.fits(kind, "w1", Severity::High)
    );
}
