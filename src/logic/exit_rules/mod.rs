//! What the end of a run means: the agent type's own rules in order, the built-in ones last.
//!
//! | end | class | action |
//! |---|---|---|
//! | asked to stop, any end | stopped | restart type |
//! | a configured rule matches | as it says | as it says |
//! | exit code 78, 126, 127 | config fault | quarantine |
//! | exit code 75, and its output names a time | throttled | park until then |
//! | out of memory | oom | restart |
//! | probe failed, watchdog, hung, ran too long | watchdog | restart |
//! | exit code 0 | ok | restart type |
//! | all else | crash | restart |
//!
//! What needs no judgement comes back as it was: the tree knows what to do about a plain exit code,
//! and the kind of an end says its class. Not judged at all are ends that are no run's own: a panic
//! of ours, a run that was lost, a supervisor that gave up.
//!
//! Rules look at the last output for plain texts, not for patterns: every regular expression engine
//! would be an outside crate in a pure module and a way to write a rule that never matches; what
//! limits of rate say is plain text. The time in it is read by `wait`.

mod wait;

use std::time::Duration;

use jiff::Timestamp;

use crate::protocol::care::{ExitRule, ParkFrom, ParkSpec, RuleAction};
use crate::protocol::exit::{ChildExit, ExitAction, ExitClass, Judged};

/// Bytes of the end of a run's output that rules look at.
pub const TAIL_BYTES_MAX: u64 = 8 * 1024;

/// Shortest time that output may ask for. Parked runs are not counted, so nothing else would slow
/// down an agent that asks for no time at all, again and again.
pub const PARK_MIN: Duration = Duration::from_secs(1);

/// Longest time that output may ask for where no rule says otherwise.
pub const PARK_MAX: Duration = Duration::from_secs(24 * 3600);

/// Characters of a line of output that a reason quotes.
const QUOTED_MAX: usize = 200;

/// Exit code of sysexits for a failure that may pass.
const EX_TEMPFAIL: i32 = 75;

/// What is known of a run besides its end.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What was asked of it.
    pub asked: Asked,
    /// The end of its output; may be empty where [`needs_output`] says so.
    pub output: &'a str,
    /// Wall time, for output that names a point in time.
    pub now: Timestamp,
}

/// What was asked of a run before it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// Nothing: it ended by itself, or was killed.
    Nothing,
    /// To stop.
    Stop,
}

/// Whether judging an end needs the output of the run.
#[must_use]
pub fn needs_output(exit: &ChildExit, asked: Asked, rules: &[ExitRule]) -> bool {
    if asked == Asked::Stop || origin_of(exit) == Origin::Foreign {
        return false;
    }
    let of_code = |rule: &&ExitRule| matches_code(rule, exit);
    let reads = |rule: &ExitRule| {
        let from = |spec: ParkSpec| spec.from == ParkFrom::Output;
        let parks = matches!(rule.action, Some(RuleAction::Park(spec)) if from(spec));
        !rule.output.is_empty() || parks
    };
    let temporary = *exit == ChildExit::Exited { code: EX_TEMPFAIL };
    temporary || rules.iter().filter(of_code).any(reads)
}

/// Says what an end means: judged where a rule says more than the end itself does.
#[must_use]
pub fn judge(exit: ChildExit, rules: &[ExitRule], facts: &Facts<'_>) -> ChildExit {
    if origin_of(&exit) == Origin::Foreign {
        return exit;
    }
    if facts.asked == Asked::Stop {
        let reason = "it was asked to stop".to_owned();
        let (class, action) = (ExitClass::Stopped, ExitAction::Restart);
        return wrap(exit, Judged { class, action, reason, rule: None });
    }
    let found = rules.iter().find_map(|rule| matched(rule, &exit, facts).map(|line| (rule, line)));
    let judged = match found {
        Some((rule, line)) => Some(by_rule(rule, &exit, line, facts)),
        None => built_in(&exit, facts),
    };
    match judged {
        Some(judged) => wrap(exit, judged),
        None => exit,
    }
}

fn wrap(exit: ChildExit, judged: Judged) -> ChildExit {
    ChildExit::Judged { exit: Box::new(exit), judged }
}

/// Whose doing an end is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Origin {
    /// The run's: it has a code or a signal of its own.
    Own,
    /// provost's, or a limit's: its codes say nothing.
    Caused,
    /// No run's: not judged.
    Foreign,
}

fn origin_of(exit: &ChildExit) -> Origin {
    match exit {
        ChildExit::Exited { .. } | ChildExit::Signaled { .. } => Origin::Own,
        ChildExit::Killed
        | ChildExit::Failed { .. }
        | ChildExit::OutOfMemory { .. }
        | ChildExit::ProbeFailed { .. }
        | ChildExit::Watchdog { .. }
        | ChildExit::Hung { .. }
        | ChildExit::RanTooLong { .. } => Origin::Caused,
        ChildExit::Finished
        | ChildExit::Stopped
        | ChildExit::Panicked { .. }
        | ChildExit::GaveUp { .. }
        | ChildExit::Throttled { .. }
        | ChildExit::Lost { .. }
        | ChildExit::Judged { .. } => Origin::Foreign,
    }
}

/// Whether a rule's codes and signals fit an end. Codes of an end that provost brought about are
/// not looked at: 0 after a failed probe is no success. A rule that names none fits every end but
/// success, so that a program which only writes about rate limits is not parked for it.
fn matches_code(rule: &ExitRule, exit: &ChildExit) -> bool {
    if rule.codes.is_empty() && rule.signals.is_empty() {
        return *exit != ChildExit::Exited { code: 0 };
    }
    let code = matches!(exit, ChildExit::Exited { code } if rule.codes.contains(code));
    code || matches!(exit, ChildExit::Signaled { signal } if rule.signals.contains(signal))
}

/// Whether a rule matches; then the line of output that has its text, if it asks for one.
fn matched<'f>(rule: &ExitRule, exit: &ChildExit, facts: &Facts<'f>) -> Option<Option<&'f str>> {
    if !matches_code(rule, exit) {
        return None;
    }
    if rule.output.is_empty() {
        return Some(None);
    }
    facts.output.lines().rev().find(|line| has_any(line, &rule.output)).map(Some)
}

/// Whether a line has one of some texts, whatever the case of ASCII letters.
fn has_any(line: &str, texts: &[String]) -> bool {
    let line = line.to_ascii_lowercase();
    texts.iter().any(|text| line.contains(&text.to_ascii_lowercase()))
}

fn by_rule(rule: &ExitRule, exit: &ChildExit, line: Option<&str>, facts: &Facts<'_>) -> Judged {
    let implied = match rule.action {
        Some(RuleAction::Park(_)) => Some(ExitClass::Throttled),
        Some(
            RuleAction::Restart
            | RuleAction::RestartGroup
            | RuleAction::Quarantine
            | RuleAction::Stop
            | RuleAction::Escalate,
        )
        | None => None,
    };
    let class = rule.class.or(implied).unwrap_or_else(|| class_of(exit));
    let mut reason = match line {
        Some(line) => format!("an exit rule matched its output: {}", quoted(line)),
        None => "an exit rule matched".to_owned(),
    };
    let action = match rule.action {
        Some(RuleAction::Restart) => ExitAction::Restart,
        Some(RuleAction::RestartGroup) => ExitAction::RestartGroup,
        Some(RuleAction::Quarantine) => ExitAction::Quarantine,
        Some(RuleAction::Stop) => ExitAction::Stop,
        Some(RuleAction::Escalate) => ExitAction::Escalate,
        Some(RuleAction::Park(spec)) => {
            let (after, by) = park_time(spec, &rule.output, facts);
            reason.push_str(&format!("; parked for {}{by}", shown(after)));
            ExitAction::Park { after_ms: ms(after) }
        }
        None => usual_action(class),
    };
    Judged { class, action, reason, rule: rule.origin.clone() }
}

/// How long a run is parked, and who said so, for the reason.
fn park_time(spec: ParkSpec, texts: &[String], facts: &Facts<'_>) -> (Duration, &'static str) {
    if spec.from == ParkFrom::Rule {
        return (spec.after, "");
    }
    match wait::named_in(facts.output, texts, facts.now) {
        Some(named) if spec.max < named => (spec.max, ", the most that the rule allows"),
        Some(named) => (named.max(PARK_MIN.min(spec.max)), ", as its output says"),
        None => (spec.after, ", as its output names no time"),
    }
}

/// What is done about a class where a rule does not say.
fn usual_action(class: ExitClass) -> ExitAction {
    match class {
        ExitClass::ConfigFault => ExitAction::Quarantine,
        ExitClass::Ok
        | ExitClass::Crash
        | ExitClass::Oom
        | ExitClass::Throttled
        | ExitClass::Watchdog
        | ExitClass::Stopped
        | ExitClass::Unknown => ExitAction::Restart,
    }
}

/// What an end means where no configured rule says it.
#[must_use]
pub fn class_of(exit: &ChildExit) -> ExitClass {
    match exit {
        ChildExit::Exited { code: 0 } | ChildExit::Finished => ExitClass::Ok,
        ChildExit::Exited { code } if config_fault(*code).is_some() => ExitClass::ConfigFault,
        ChildExit::Exited { .. }
        | ChildExit::Signaled { .. }
        | ChildExit::Killed
        | ChildExit::Failed { .. }
        | ChildExit::Panicked { .. }
        | ChildExit::GaveUp { .. } => ExitClass::Crash,
        ChildExit::Stopped => ExitClass::Stopped,
        ChildExit::Throttled { .. } => ExitClass::Throttled,
        ChildExit::Lost { .. } => ExitClass::Unknown,
        ChildExit::OutOfMemory { .. } => ExitClass::Oom,
        ChildExit::ProbeFailed { .. }
        | ChildExit::Watchdog { .. }
        | ChildExit::Hung { .. }
        | ChildExit::RanTooLong { .. } => ExitClass::Watchdog,
        ChildExit::Judged { judged, .. } => judged.class,
    }
}

/// The rules that nobody has to write.
fn built_in(exit: &ChildExit, facts: &Facts<'_>) -> Option<Judged> {
    let ChildExit::Exited { code } = exit else { return None };
    if let Some(reason) = config_fault(*code) {
        let (class, action) = (ExitClass::ConfigFault, ExitAction::Quarantine);
        return Some(Judged { class, action, reason: reason.to_owned(), rule: None });
    }
    if *code != EX_TEMPFAIL {
        return None;
    }
    let named = wait::named_in(facts.output, &[], facts.now)?.clamp(PARK_MIN, PARK_MAX);
    Some(Judged {
        class: ExitClass::Throttled,
        action: ExitAction::Park { after_ms: ms(named) },
        reason: format!("EX_TEMPFAIL, and its output asks for a retry in {}", shown(named)),
        rule: None,
    })
}

/// What is wrong with a program that ended with one of the codes for that, and what to check.
fn config_fault(code: i32) -> Option<&'static str> {
    match code {
        78 => Some(
            "EX_CONFIG, its configuration is wrong: check its arguments, environment and \
             configuration files, then reset it",
        ),
        126 => Some(
            "a program is not executable: check its permissions (chmod +x) and that the \
             interpreter in its first line exists, then reset it",
        ),
        127 => {
            Some("a command was not found by its shell: check its spelling and PATH, then reset it")
        }
        _ => None,
    }
}

/// A line as a reason can quote it.
fn quoted(line: &str) -> String {
    let clean = |found: char| if found.is_control() { ' ' } else { found };
    let short: String = line.trim().chars().take(QUOTED_MAX).map(clean).collect();
    format!("{short:?}")
}

/// A time as a reason can say it.
fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{}ms", ms(time))
    } else {
        format!("{}s", time.as_secs())
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "working\nError: Rate limit reached, retry after 90s\nbye\n";

    fn rule() -> ExitRule {
        ExitRule { origin: Some("a.toml:7".into()), ..ExitRule::default() }
    }

    fn park(from: ParkFrom) -> Option<RuleAction> {
        let (after, max) = (Duration::from_secs(300), Duration::from_secs(3600));
        Some(RuleAction::Park(ParkSpec { after, from, max }))
    }

    fn code(code: i32) -> ChildExit {
        ChildExit::Exited { code }
    }

    fn judged_by(exit: &ChildExit, rules: &[ExitRule], output: &str) -> String {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let facts = Facts { asked: Asked::Nothing, output, now };
        let seen = judge(exit.clone(), rules, &facts);
        assert_eq!(seen.bare(), exit);
        let Some(judged) = seen.judged() else { return "as it was".to_owned() };
        let words = format!("{} {}", judged.class.as_str(), judged.action.as_str());
        let ExitAction::Park { after_ms } = judged.action else { return words };
        format!("{words} {after_ms}")
    }

    #[track_caller]
    fn check(exit: &ChildExit, rules: &[ExitRule], output: &str, expected: &str) {
        assert_eq!(judged_by(exit, rules, output), expected, "{exit:?} {rules:?}");
    }

    #[test]
    fn the_built_in_rules_are_this_table() {
        for faulty in [78, 126, 127] {
            check(&code(faulty), &[], "", "config_fault quarantine");
        }
        for ordinary in [0, 1, 2, 64, 75, 100, 111, 125, 128, 143, 255] {
            check(&code(ordinary), &[], "", "as it was");
        }
        check(&code(75), &[], OUTPUT, "throttled park 90000");
        check(&code(75), &[], "retry after 0", "throttled park 1000");
        check(&code(75), &[], "retry after 99 days", "throttled park 86400000");
        check(&code(1), &[], OUTPUT, "as it was");
        check(&ChildExit::Signaled { signal: 9 }, &[], OUTPUT, "as it was");
        let hung = ChildExit::Hung { message: "silent".into(), codes: code(0).code_and_signal() };
        check(&hung, &[], "", "as it was");
        assert_eq!(class_of(&hung), ExitClass::Watchdog);
    }

    #[test]
    fn what_to_check_stands_in_the_reason_of_a_config_fault() {
        for (faulty, word) in [(78, "configuration files"), (126, "chmod +x"), (127, "PATH")] {
            let facts = Facts { asked: Asked::Nothing, output: "", now: Timestamp::UNIX_EPOCH };
            let text = judge(code(faulty), &[], &facts).to_string();
            assert!(text.contains(word) && text.contains(&faulty.to_string()), "{text}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_goes_before_the_built_in_ones() {
        let stop = ExitRule { codes: vec![3, 127], action: Some(RuleAction::Stop), ..rule() };
        let group = ExitRule { action: Some(RuleAction::RestartGroup), ..rule() };
        let signal =
            ExitRule { signals: vec![6, 11], action: Some(RuleAction::Escalate), ..rule() };
        let done = ExitRule { codes: vec![5], class: Some(ExitClass::Ok), ..rule() };
        let rules = [stop, signal, done, group];
        check(&code(3), &rules, "", "crash stop");
        check(&code(127), &rules, "", "config_fault stop");
        check(&ChildExit::Signaled { signal: 11 }, &rules, "", "crash escalate");
        check(&ChildExit::Signaled { signal: 3 }, &rules, "", "crash restart_group");
        check(&code(5), &rules, "", "ok restart");
        check(&code(78), &rules, "", "config_fault restart_group");
        check(&code(0), &rules, "", "as it was");
        let oom = ChildExit::OutOfMemory {
            message: "1 GiB".into(),
            codes: ChildExit::Signaled { signal: 11 }.code_and_signal(),
        };
        check(&oom, &rules, "", "oom restart_group");
    }

    #[test]
    fn output_parks_for_the_time_of_the_rule_or_its_own() {
        let texts = vec!["overloaded".to_owned(), "rate LIMIT".to_owned()];
        let fixed = ExitRule { output: texts, action: park(ParkFrom::Rule), ..rule() };
        let own = ExitRule { action: park(ParkFrom::Output), ..fixed.clone() };
        check(&code(1), std::slice::from_ref(&fixed), OUTPUT, "throttled park 300000");
        check(&code(1), std::slice::from_ref(&own), OUTPUT, "throttled park 90000");
        check(&code(1), std::slice::from_ref(&own), "Overloaded", "throttled park 300000");
        let long = "rate limit: retry after 3 days";
        check(&code(1), std::slice::from_ref(&own), long, "throttled park 3600000");
        check(&code(1), std::slice::from_ref(&own), "all is well", "as it was");
        // It wrote about rate limits and finished.
        check(&code(0), std::slice::from_ref(&own), OUTPUT, "as it was");
        let exact = ExitRule { codes: vec![0], ..own };
        check(&code(0), &[exact], OUTPUT, "throttled park 90000");
        let class = Some(ExitClass::Crash);
        check(&code(1), &[ExitRule { class, ..fixed }], OUTPUT, "crash park 300000");
    }

    #[test]
    fn a_reason_says_what_was_seen_and_names_the_rule() {
        let rule = ExitRule {
            output: vec!["rate limit".into()],
            action: park(ParkFrom::Output),
            ..rule()
        };
        let now = Timestamp::UNIX_EPOCH;
        let facts = Facts { asked: Asked::Nothing, output: OUTPUT, now };
        let seen = judge(code(1), &[rule], &facts);
        assert_eq!(
            seen.to_string(),
            "exited with code 1 (an exit rule matched its output: \"Error: Rate limit reached, \
             retry after 90s\"; parked for 90s, as its output says)"
        );
        assert_eq!(seen.judged().unwrap().rule.as_deref(), Some("a.toml:7"));
    }

    #[test]
    fn a_line_is_quoted_short_and_without_control_characters() {
        let line = format!("\x1b[31m{}", "x".repeat(5_000));
        assert_eq!(quoted(&line).chars().count(), QUOTED_MAX + 2);
        assert!(!quoted(&line).contains('\x1b'));
    }

    #[test]
    fn whoever_was_asked_to_stop_has_stopped_however_it_ended() {
        let catch_all = ExitRule { action: Some(RuleAction::Escalate), ..rule() };
        let facts = Facts { asked: Asked::Stop, output: "", now: Timestamp::UNIX_EPOCH };
        for exit in [code(0), code(3), code(127), ChildExit::Signaled { signal: 6 }] {
            let seen = judge(exit, std::slice::from_ref(&catch_all), &facts);
            assert_eq!(seen.judged().unwrap().class, ExitClass::Stopped);
            assert!(seen.is_clean());
        }
        let lost = ChildExit::Lost { message: "no trace".into() };
        assert_eq!(judge(lost.clone(), &[catch_all], &facts), lost);
    }

    #[test]
    fn output_is_read_only_where_a_rule_looks_at_it() {
        let by_text = ExitRule { codes: vec![1], output: vec!["x".into()], ..rule() };
        let by_time = ExitRule { codes: vec![2], action: park(ParkFrom::Output), ..rule() };
        let rules = [by_text, by_time];
        let needs = |exit, asked| needs_output(&exit, asked, &rules);
        assert!(needs(code(1), Asked::Nothing) && needs(code(2), Asked::Nothing));
        assert!(needs(code(75), Asked::Nothing));
        assert!(!needs(code(0), Asked::Nothing) && !needs(code(3), Asked::Nothing));
        assert!(!needs(code(1), Asked::Stop));
        assert!(!needs(ChildExit::Panicked { message: String::new() }, Asked::Nothing));
    }
}
