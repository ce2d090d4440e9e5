//! One sample of every document about patterns and alerts.

use provost::protocol::command::Answer;
use provost::protocol::decision::Inputs;
use provost::protocol::fact::{Fact, Severity};
use provost::protocol::insight::{
    AlertChanged, AlertList, AlertState, PatternKind, PatternSeen, PatternState, Silence,
    SilenceMatch,
};

fn pattern() -> PatternSeen {
    PatternSeen {
        kind: PatternKind::CrashLoop,
        scope: "w1".to_owned(),
        state: PatternState::Began,
        evidence: Inputs::default().with("failures", 3_u64).with("window_ms", 60_000_u64),
        members: vec!["w1".parse().unwrap()],
        part_of: Some("cascade backend".to_owned()),
    }
}

fn alert() -> AlertChanged {
    AlertChanged {
        alert: "crash_loop".to_owned(),
        state: AlertState::Firing,
        fingerprint: "9ae2f4d5a0b1c3e7".to_owned(),
        severity: Severity::High,
        scope: "w1".to_owned(),
        summary: "w1 fails again and again soon after its start".to_owned(),
        since: "2026-11-20T19:16:18.735Z".parse().unwrap(),
        count: 1,
        evidence: Inputs::default().with("failures", 3_u64),
        resolved_by: None,
        silenced_by: Some("5f0c".to_owned()),
    }
}

/// One fact of every type, by the name of its golden file.
pub(super) fn facts() -> Vec<(&'static str, Fact)> {
    vec![
        ("supervision.pattern", Fact::Pattern(Box::new(pattern()))),
        ("supervision.alert", Fact::Alert(Box::new(alert()))),
    ]
}

/// All that stands.
pub(super) fn answer() -> Answer {
    let silence = Silence {
        id: "5f0c".to_owned(),
        matches: SilenceMatch { scope: Some("w1".to_owned()), ..SilenceMatch::default() },
        until: "2026-11-20T20:16:18.735Z".parse().unwrap(),
        reason: "deploy".to_owned(),
    };
    let alerts = AlertList { firing: vec![alert()], silences: vec![silence] };
    Answer { alerts: Some(Box::new(alerts)), ..Answer::done() }
}
