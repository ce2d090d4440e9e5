//! Events as people read them: one line each.
//!
//! Made from the event's data only. Events of a later version may lack what is looked for here, or
//! have more: nothing depends on it.

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::cli::colors::{FAINT, of_severity, of_state};
use crate::cli::human::{clock_time, date_time, one_line, span};
use crate::protocol::event::Envelope;
use crate::protocol::status::AgentState;

/// How much of what happens is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Detail {
    /// Each turn once: what failed, what runs, what recovered.
    Brief,
    /// Every event.
    #[cfg(test)]
    Full,
}

/// Name of the child that an event is about.
pub(crate) fn name_of(event: &Envelope) -> &str {
    let named = event.data.get("name").and_then(Value::as_str);
    let source = event.source.rsplit('/').next().filter(|last| !last.is_empty());
    named.or(source).unwrap_or(event.subject.as_str())
}

/// Whether an event is about a child, by name or id.
pub(crate) fn is_about(event: &Envelope, child: &str) -> bool {
    let field = |name: &str| event.data.get(name).and_then(Value::as_str) == Some(child);
    event.subject.as_str() == child
        || name_of(event) == child
        || field("agent_id")
        || field("downstream")
}

/// A line for a terminal that shows events as they come: `12:00:01 w1 running (pid 123)`. `None`
/// for what another line tells too.
pub(crate) fn live_line(event: &Envelope, detail: Detail, zone: &TimeZone) -> Option<String> {
    if detail == Detail::Brief && !is_a_turn(event) {
        return None;
    }
    let time = clock_time(event.time, zone);
    Some(format!("{FAINT}{time}{FAINT:#} {} {}", one_line(name_of(event)), colored(event)))
}

/// A line for a list of events: day and time, severity, child, what happened.
pub(crate) fn list_line(event: &Envelope, zone: &TimeZone) -> String {
    let time = date_time(event.time, zone);
    let color = of_severity(event.severity);
    let severity = event.severity.as_str();
    format!(
        "{FAINT}{time}{FAINT:#}  {color}{severity:<8}{color:#}  {:<16}  {}",
        one_line(name_of(event)),
        colored(event)
    )
}

fn colored(event: &Envelope) -> String {
    let text = one_line(&what(event));
    let state = text_of(&event.data, "new_state").and_then(state);
    let style = match (kind(event), state) {
        ("agent.state_changed" | "agent.terminated", Some(state)) => of_state(state),
        (_, _) => of_severity(event.severity),
    };
    format!("{style}{text}{style:#}")
}

/// The event's type without `provost.` and version.
pub(crate) fn kind(event: &Envelope) -> &str {
    let kind = event.event_type.strip_prefix("provost.").unwrap_or(&event.event_type);
    kind.rsplit_once(".v").map_or(kind, |(kind, _)| kind)
}

fn is_a_turn(event: &Envelope) -> bool {
    match kind(event) {
        "supervision.failure"
        | "supervision.recovery"
        | "supervision.circuit"
        | "supervision.gap"
        | "supervision.escalation"
        | "supervision.alert"
        | "agent.terminated"
        | "agent.error" => true,
        "agent.state_changed" => {
            // Failures tell of backoff, circuits of quarantine; starting and stopping pass.
            let state = text_of(&event.data, "new_state").and_then(state);
            matches!(
                state,
                Some(
                    AgentState::Running
                        | AgentState::Degraded
                        | AgentState::Probation
                        | AgentState::Parked
                        | AgentState::Stopped
                )
            )
        }
        _ => false,
    }
}

fn state(word: &str) -> Option<AgentState> {
    AgentState::ALL.into_iter().find(|state| state.as_str() == word)
}

/// What happened, in words.
pub(crate) fn what(event: &Envelope) -> String {
    let data = &event.data;
    match kind(event) {
        "agent.spawned" => format!("spawned{}", in_brackets("type ", text_of(data, "agent_type"))),
        "agent.state_changed" | "agent.terminated" => changed(data),
        "agent.error" => format!("error: {}", text_of(data, "error").unwrap_or("unknown")),
        "supervision.failure" => failure(data),
        "supervision.recovery" => recovery(data),
        "supervision.circuit" => circuit(data),
        "supervision.decision" => {
            let reason = text_of(data, "reason").unwrap_or("unknown reason");
            format!("decided: {}{}", words(reason), next(data))
        }
        "supervision.supervisor_started" => format!("supervisor started{}", children(data)),
        "supervision.supervisor_stopped" => format!("supervisor stopped{}", children(data)),
        "supervision.escalation" => {
            let reason = data.pointer("/record/reason").and_then(Value::as_str);
            format!("gave up: {}", words(reason.unwrap_or("unknown reason")))
        }
        "supervision.gap" => {
            let dropped = number_of(data, "dropped").unwrap_or(0);
            format!("{dropped} events had to be dropped")
        }
        "supervision.system" => system(data),
        "supervision.child_changed" => shown(data),
        "supervision.child_removed" => "not shown any more".to_owned(),
        "supervision.snapshot" => format!("all children told again{}", children(data)),
        "supervision.health" => format!("health {}", text_of(data, "status").unwrap_or("unknown")),
        other => other.to_owned(),
    }
}

fn changed(data: &Value) -> String {
    let state = text_of(data, "new_state").unwrap_or("changed");
    if let Some(pid) = number_of(data, "pid") {
        return format!("{state} (pid {pid})");
    }
    match text_of(data, "reason").filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{state}: {reason}"),
        None => state.to_owned(),
    }
}

/// How a child is shown.
fn shown(data: &Value) -> String {
    let state = text_of(data, "state").unwrap_or("changed");
    match text_of(data, "reason").filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("shown as {state}: {reason}"),
        None => format!("shown as {state}"),
    }
}

/// Whether an event only tells again how children are shown: people are told by others.
pub(crate) fn is_bookkeeping(event: &Envelope) -> bool {
    matches!(
        kind(event),
        "supervision.child_changed" | "supervision.child_removed" | "supervision.snapshot"
    )
}

fn failure(data: &Value) -> String {
    let kind = words(text_of(data, "failure_type").unwrap_or("failure"));
    let exit = |field: &str| data.pointer(field).and_then(Value::as_i64);
    let message = match text_of(data, "message") {
        Some(message) => format!(": {message}"),
        None => match (exit("/exit/code"), exit("/exit/signal")) {
            (Some(code), _) => format!(": exited with code {code}"),
            (None, Some(signal)) => format!(": ended by signal {signal}"),
            (None, None) => String::new(),
        },
    };
    let decision = data.get("decision").unwrap_or(&Value::Null);
    let rule = decision.pointer("/rule/exit_rule").and_then(Value::as_str);
    let rule = rule.map(|place| format!(" [exit rule: {place}]")).unwrap_or_default();
    format!("{kind}{message}{rule}{}", next(decision))
}

fn recovery(data: &Value) -> String {
    let after = number_of(data, "after_ms").map(span);
    let after = after.map(|after| format!(" after {after}")).unwrap_or_default();
    let attempts = number_of(data, "attempts").map(|count| counted(count, "attempt"));
    format!("recovered{after}{}", in_brackets("", attempts.as_deref()))
}

fn circuit(data: &Value) -> String {
    let to = words(text_of(data, "to").unwrap_or("changed"));
    let reason = text_of(data, "reason").map(|reason| format!(": {}", words(reason)));
    let retry = number_of(data, "retry_after_ms");
    let retry = retry.map(|after| format!(", next trial in {}", span(after))).unwrap_or_default();
    format!("circuit {to}{}{retry}", reason.unwrap_or_default())
}

fn system(data: &Value) -> String {
    let what = words(text_of(data, "what").unwrap_or("system"));
    let Some(details) = data.get("details").and_then(Value::as_object) else { return what };
    let mut text = what;
    for (name, value) in details {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

/// What happens next, from a decision record.
fn next(record: &Value) -> String {
    let action = record.pointer("/next/action").and_then(Value::as_str);
    let Some(action) = action.filter(|action| *action != "none") else { return String::new() };
    let after = record.pointer("/next/in_ms").and_then(Value::as_u64).unwrap_or(0);
    let when = if after == 0 { "now".to_owned() } else { format!("in {}", span(after)) };
    format!("; {} {when}", words(action))
}

fn children(data: &Value) -> String {
    let children = data.get("children").and_then(Value::as_array).map(Vec::len);
    let count = children.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    if count == 1 { " (1 child)".to_owned() } else { format!(" ({count} children)") }
}

fn text_of<'d>(data: &'d Value, field: &str) -> Option<&'d str> {
    data.get(field).and_then(Value::as_str)
}

fn number_of(data: &Value, field: &str) -> Option<u64> {
    data.get(field).and_then(Value::as_u64)
}

fn in_brackets(before: &str, text: Option<&str>) -> String {
    text.map(|text| format!(" ({before}{text})")).unwrap_or_default()
}

fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// A code as words.
fn words(code: &str) -> String {
    code.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::envelope_with;

    fn line(kind: &str, data: Value, detail: Detail) -> Option<String> {
        let event = envelope_with(kind, "w1", data);
        let line = live_line(&event, detail, &TimeZone::UTC)?;
        Some(anstream::adapter::strip_str(&line).to_string())
    }

    fn check(kind: &str, data: Value, expected: &str) {
        assert_eq!(line(kind, data, Detail::Full).unwrap(), format!("12:00:01 w1 {expected}"));
    }

    #[test]
    fn every_kind_of_event_is_one_line_of_words() {
        check("agent.spawned", json!({"agent_type": "worker"}), "spawned (type worker)");
        check("agent.state_changed", json!({"new_state": "running", "pid": 7}), "running (pid 7)");
        check(
            "agent.state_changed",
            json!({"new_state": "stopped", "pid": null, "reason": "stopped on request"}),
            "stopped: stopped on request",
        );
        check("agent.terminated", json!({"new_state": "terminated", "reason": ""}), "terminated");
        check("agent.error", json!({"error": "it\nbroke"}), "error: it broke");
        check(
            "supervision.failure",
            json!({"failure_type": "process_crash", "message": "exited with code 1",
                "decision": {"next": {"action": "restart", "in_ms": 212}}}),
            "process crash: exited with code 1; restart in 212ms",
        );
        check(
            "supervision.failure",
            json!({"failure_type": "process_crash", "exit": {"code": null, "signal": 9},
                "decision": {"next": {"action": "none", "in_ms": 0}}}),
            "process crash: ended by signal 9",
        );
        check(
            "supervision.recovery",
            json!({"after_ms": 12_300, "attempts": 1, "how": "restart"}),
            "recovered after 12s (1 attempt)",
        );
        check(
            "supervision.circuit",
            json!({"from": "closed", "to": "open", "reason": "child_limit_exceeded",
                "retry_after_ms": 30_000}),
            "circuit open: child limit exceeded, next trial in 30s",
        );
        check(
            "supervision.decision",
            json!({"reason": "child_exited", "next": {"action": "restart", "in_ms": 0}}),
            "decided: child exited; restart now",
        );
        check(
            "supervision.supervisor_started",
            json!({"children": ["a"]}),
            "supervisor started (1 child)",
        );
        check(
            "supervision.escalation",
            json!({"record": {"reason": "supervisor_limit_exceeded"}}),
            "gave up: supervisor limit exceeded",
        );
        check("supervision.gap", json!({"dropped": 12}), "12 events had to be dropped");
        check(
            "supervision.system",
            json!({"what": "nats_connected", "details": {"url": "x", "n": 1}}),
            "nats connected url=x n=1",
        );
        check("supervision.health", json!({"status": "healthy"}), "health healthy");
    }

    #[test]
    fn events_that_lack_everything_or_come_from_later_versions_are_still_a_line() {
        for kind in [
            "agent.spawned",
            "agent.state_changed",
            "supervision.failure",
            "supervision.recovery",
            "supervision.circuit",
            "supervision.decision",
            "supervision.system",
            "supervision.gap",
            "supervision.escalation",
        ] {
            for data in [json!({}), json!(null), json!([1]), json!("x")] {
                assert!(line(kind, data, Detail::Full).is_some(), "{kind}");
            }
        }
        check("future.thing", json!({}), "future.thing");
    }

    #[test]
    fn a_brief_account_tells_each_turn_once() {
        let told = |kind: &str, state: &str| {
            line(kind, json!({"new_state": state}), Detail::Brief).is_some()
        };
        let states = AgentState::ALL.map(AgentState::as_str);
        let seen: Vec<&str> =
            states.into_iter().filter(|state| told("agent.state_changed", state)).collect();
        assert_eq!(seen, ["running", "degraded", "probation", "parked", "stopped"]);
        assert!(told("supervision.failure", "") && !told("supervision.decision", ""));
    }

    #[test]
    fn an_event_is_about_a_child_by_name_and_by_id() {
        let mut event = envelope_with("agent.spawned", "id-1", json!({"name": "w1"}));
        assert!(is_about(&event, "id-1") && is_about(&event, "w1") && !is_about(&event, "w2"));
        event.data = json!({"downstream": "redis"});
        assert!(is_about(&event, "redis"));
    }

    #[test]
    fn a_listed_event_shows_day_and_severity() {
        let event = envelope_with("supervision.gap", "w1", json!({"dropped": 1}));
        let line = anstream::adapter::strip_str(&list_line(&event, &TimeZone::UTC)).to_string();
        assert_eq!(
            line,
            "2026-11-21 12:00:01  info      w1                1 events had to be dropped"
        );
    }
}
