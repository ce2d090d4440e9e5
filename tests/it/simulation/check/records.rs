//! Decision records: each names the rule that was drawn for the child, and whoever applies that
//! rule to the numbers in the record arrives at the same decision.

use std::time::Duration;

use provost::protocol::decision::{DecisionRecord, Input, NextKind, Reason};
use provost::protocol::fact::Fact;
use provost::protocol::id::ChildName;
use provost::protocol::spec::{OnExceeded, RestartType, Strategy};

use crate::simulation::check::Faults;
use crate::simulation::shape::Family;
use crate::simulation::world::{Moment, What};

/// Looks at one record at a time.
#[derive(Debug)]
pub(super) struct Records;

impl Records {
    pub(super) fn see(&self, family: &Family, moment: &Moment, faults: &mut Faults) {
        let What::Event(_, draft) = &moment.what else { return };
        match &draft.fact {
            Fact::Decision(decided) => {
                check(family, moment, (&decided.name, &decided.record), faults);
            }
            Fact::Failure(failed) => {
                check(family, moment, (&failed.name, &failed.decision), faults);
            }
            Fact::Escalation(report) => match &report.record {
                Some(record) => {
                    if let Err(text) = rederive(record) {
                        faults.add("record", moment, &text);
                    }
                }
                None => faults.add("record", moment, "an escalation has no record"),
            },
            _ => {}
        }
    }
}

fn check(
    family: &Family,
    moment: &Moment,
    (child, record): (&ChildName, &DecisionRecord),
    faults: &mut Faults,
) {
    if let Err(text) = rederive(record).and_then(|()| is_the_rule(family, child, record)) {
        faults.add("record", moment, &format!("{text}: {record:?}"));
    }
}

/// The rule in the record is the one that was drawn.
fn is_the_rule(family: &Family, child: &ChildName, record: &DecisionRecord) -> Result<(), String> {
    let kin = &family.kin[child];
    let team = family.team(&kin.parent);
    let circuit = kin.spec.policy.circuit;
    let limit = circuit.map(|circuit| circuit.limit).or(team.limit);
    let rule = &record.rule;
    expect(rule.strategy == Some(team.strategy), "another strategy")?;
    expect(rule.restart == Some(kin.spec.restart), "another restart type")?;
    expect(rule.intensity == limit.map(|limit| limit.intensity), "another intensity")?;
    expect(rule.period_ms == limit.map(|limit| ms(limit.period)), "another period")?;
    expect(rule.on_exceeded == circuit.map(|one| one.on_exceeded), "another on_exceeded")?;
    if let Some(initial) = number(record, "backoff_initial_ms") {
        let backoff = kin.spec.policy.backoff;
        let factor = number(record, "backoff_factor").unwrap_or(0.0);
        expect(same(initial, ms(backoff.initial) as f64), "another first delay")?;
        expect(same(factor, backoff.factor), "another factor")?;
    }
    Ok(())
}

/// Applies the rule in a record to its numbers.
pub(crate) fn rederive(record: &DecisionRecord) -> Result<(), String> {
    use NextKind as N;
    let next = record.next.action;
    let restarts = matches!(next, N::Restart | N::RestartGroup);
    match record.reason {
        Reason::ChildExited => {
            asks_for_restart(record)?;
            within(record)?;
            expect(restarts && fits_strategy(record), "a restart was due")?;
            delayed(record)
        }
        Reason::StartFailed => {
            expect(word(record, "error").is_some(), "no error")?;
            if flag(record, "starting") == Some(true) {
                return expect(next == N::Escalate, "the supervisor's own start has failed");
            }
            within(record)?;
            expect(restarts && fits_strategy(record), "a retry was due")?;
            delayed(record)
        }
        Reason::SiblingFailed => expect(next == N::RestartGroup, "a group restart was due"),
        Reason::CleanExit => {
            expect(record.rule.restart == Some(RestartType::Transient), "not transient")?;
            expect(flag(record, "clean") == Some(true), "not clean")?;
            expect(next == N::None, "nothing was due")
        }
        Reason::TemporaryExit => {
            expect(record.rule.restart == Some(RestartType::Temporary), "not temporary")?;
            expect(next == N::None, "nothing was due")
        }
        Reason::Throttled => {
            let after = number(record, "after_ms").ok_or("no after_ms")?;
            expect(next == N::Restart && same(after, record.next.in_ms as f64), "not its time")
        }
        Reason::ChildLimitExceeded => exceeded(record),
        Reason::TrialFailed => opens(record),
        Reason::SupervisorLimitExceeded => {
            let (found, allowed) =
                pair(record, "supervisor_restarts_in_window", "supervisor_intensity")?;
            expect(allowed < found, "the limit was not exceeded")?;
            expect(next == N::Escalate, "the supervisor had to give up")
        }
        Reason::Escalated => {
            let kind = match record.rule.on_exceeded {
                Some(OnExceeded::StopTree) => N::StopTree,
                _ => N::Escalate,
            };
            expect(next == kind, "another end was due")
        }
        Reason::AutoShutdown => expect(next == N::Escalate, "the supervisor had to end"),
        other => Err(format!("no decision is made for {other:?}")),
    }
}

fn asks_for_restart(record: &DecisionRecord) -> Result<(), String> {
    let clean = flag(record, "clean").ok_or("no clean")?;
    match record.rule.restart {
        Some(RestartType::Permanent) => Ok(()),
        Some(RestartType::Transient) => expect(!clean, "a transient child ended cleanly"),
        Some(RestartType::Temporary) => Err("a temporary child is not restarted".to_owned()),
        None => Err("no restart type".to_owned()),
    }
}

/// No limit that was counted is exceeded.
fn within(record: &DecisionRecord) -> Result<(), String> {
    let held_closed = flag(record, "limit_applied") == Some(false);
    if let Ok((found, allowed)) = pair(record, "restarts_in_window", "intensity") {
        expect(found <= allowed || held_closed, "the child's limit was exceeded")?;
    }
    if let Ok((found, allowed)) =
        pair(record, "supervisor_restarts_in_window", "supervisor_intensity")
    {
        expect(found <= allowed, "the supervisor's limit was exceeded")?;
    }
    Ok(())
}

fn exceeded(record: &DecisionRecord) -> Result<(), String> {
    let (found, allowed) = pair(record, "restarts_in_window", "intensity")?;
    // A loop that is slower than the window is known by its failures in a row.
    let slow = pair(record, "failures_in_a_row", "failures_in_a_row_max")
        .is_ok_and(|(in_a_row, most)| most < in_a_row);
    expect(allowed < found || slow, "the child's limit was not exceeded")?;
    let next = record.next.action;
    match record.rule.on_exceeded {
        Some(OnExceeded::Quarantine) => opens(record),
        Some(OnExceeded::RestartSiblings) if next == NextKind::RestartGroup => Ok(()),
        Some(OnExceeded::RestartSiblings) => opens(record),
        Some(OnExceeded::Escalate) => expect(next == NextKind::Escalate, "it had to escalate"),
        Some(OnExceeded::StopTree) => expect(next == NextKind::StopTree, "the tree had to stop"),
        None => Err("no on_exceeded".to_owned()),
    }
}

/// The circuit opens, for as long as the numbers say.
fn opens(record: &DecisionRecord) -> Result<(), String> {
    let first = record.rule.open_for_ms.ok_or("no open_for_ms")? as f64;
    let openings = number(record, "openings").ok_or("no openings")?;
    let factor = number(record, "open_factor").ok_or("no open_factor")?;
    let most = number(record, "open_max_ms").ok_or("no open_max_ms")?;
    let jitter = number(record, "jitter").ok_or("no jitter")?;
    let open = (first * factor.powf(openings - 1.0)).min(most.max(first)) * (1.0 - 0.1 * jitter);
    expect(record.next.action == NextKind::Trial, "a trial was due")?;
    expect(same(open, record.next.in_ms as f64), "another open time")
}

/// The restart comes after the delay that the numbers give.
fn delayed(record: &DecisionRecord) -> Result<(), String> {
    let told = record.next.in_ms as f64;
    let Some(initial) = number(record, "backoff_initial_ms") else {
        let least = number(record, "delay_min_ms").unwrap_or(0.0);
        return expect(same(told, least), "no delay was due");
    };
    let factor = number(record, "backoff_factor").ok_or("no backoff_factor")?;
    let most = number(record, "backoff_max_ms").ok_or("no backoff_max_ms")?;
    let failures = number(record, "consecutive_failures").ok_or("no consecutive_failures")?;
    let jitter = number(record, "jitter").ok_or("no jitter")?;
    let whole = (initial * factor.powf(failures)).min(most.max(initial));
    let drawn = match word(record, "backoff_jitter") {
        Some("full") => whole * jitter,
        Some("equal") => whole * (0.5 + 0.5 * jitter),
        Some("none") => whole,
        other => return Err(format!("no such jitter: {other:?}")),
    };
    let least = number(record, "delay_min_ms").unwrap_or_else(|| whole.min(1.0));
    expect(same(drawn.max(least), told), &format!("the delay is {}", drawn.max(least)))
}

fn fits_strategy(record: &DecisionRecord) -> bool {
    let single =
        matches!(record.rule.strategy, Some(Strategy::OneForOne | Strategy::SimpleOneForOne));
    !single || record.next.action == NextKind::Restart
}

fn expect(holds: bool, text: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text.to_owned()) }
}

/// Equal, as whole milliseconds are.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1.0
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

fn pair(record: &DecisionRecord, found: &str, allowed: &str) -> Result<(f64, f64), String> {
    let of = |name: &str| number(record, name).ok_or_else(|| format!("no {name}"));
    Ok((of(found)?, of(allowed)?))
}

fn number(record: &DecisionRecord, name: &str) -> Option<f64> {
    match record.inputs.0.get(name)? {
        Input::Count(count) => Some(*count as f64),
        Input::Number(number) => Some(*number),
        Input::Flag(_) | Input::Word(_) => None,
    }
}

fn flag(record: &DecisionRecord, name: &str) -> Option<bool> {
    match record.inputs.0.get(name)? {
        Input::Flag(flag) => Some(*flag),
        Input::Count(_) | Input::Number(_) | Input::Word(_) => None,
    }
}

fn word<'a>(record: &'a DecisionRecord, name: &str) -> Option<&'a str> {
    match record.inputs.0.get(name)? {
        Input::Word(word) => Some(word),
        Input::Count(_) | Input::Number(_) | Input::Flag(_) => None,
    }
}
