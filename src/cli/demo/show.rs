//! One line for each event that is worth watching, and nothing for the others.

use jiff::tz::TimeZone;

use crate::protocol::decision::{NextAction, NextKind};
use crate::protocol::event::Envelope;
use crate::protocol::fact::{Fact, Failed};
use crate::protocol::status::AgentState;

/// The line for an event; `None` when it only repeats what another one tells.
#[must_use]
pub fn line(event: &Envelope) -> Option<String> {
    let fact = Fact::read(&event.event_type, &event.data).ok()??;
    let (name, text) = match fact {
        Fact::Failure(failed) => (failed.name.to_string(), failure(&failed)),
        Fact::Recovery(recovered) => {
            let text = format!(
                "recovered after {} ({})",
                duration(recovered.after_ms),
                counted(recovered.attempts, "attempt")
            );
            (recovered.name.to_string(), text)
        }
        Fact::Circuit(change) => {
            let wait = change.retry_after_ms.map(|wait| format!("; trial in {}", duration(wait)));
            let wait = wait.unwrap_or_default();
            let text = format!("circuit {} -> {}{wait}", change.from, change.to);
            (change.name.to_string(), text)
        }
        Fact::AgentStateChanged(change) => {
            let pid = change.pid?;
            let text = match change.new_state {
                AgentState::Running => "runs",
                AgentState::Probation => "trial runs",
                AgentState::Created
                | AgentState::Starting
                | AgentState::Degraded
                | AgentState::Stopping
                | AgentState::Backoff
                | AgentState::Quarantined
                | AgentState::Parked
                | AgentState::Stopped
                | AgentState::Terminated => return None,
            };
            let text = format!("{text} as process {pid} (run {})", change.generation);
            (change.name.to_string(), text)
        }
        Fact::AgentError(erred) => (erred.change.name.to_string(), erred.error),
        Fact::Gap(gap) => ("provost".to_owned(), format!("{} events were dropped", gap.dropped)),
        Fact::Health(_)
        | Fact::Decision(_)
        | Fact::Escalation(_)
        | Fact::SupervisorStarted(_)
        | Fact::SupervisorStopped(_)
        | Fact::System(_)
        | Fact::AgentSpawned(_)
        | Fact::AgentTerminated(_) => return None,
    };
    let time = event.time.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
    Some(format!("{time}  {name:<9} {text}"))
}

/// The process that an event says the agent of this name now runs as.
#[must_use]
pub fn process_of(event: &Envelope, agent: &str) -> Option<u32> {
    match Fact::read(&event.event_type, &event.data).ok()?? {
        Fact::AgentStateChanged(change) if change.name.as_str() == agent => change.pid,
        Fact::AgentStateChanged(_)
        | Fact::Health(_)
        | Fact::Failure(_)
        | Fact::Recovery(_)
        | Fact::Circuit(_)
        | Fact::Decision(_)
        | Fact::Escalation(_)
        | Fact::SupervisorStarted(_)
        | Fact::SupervisorStopped(_)
        | Fact::Gap(_)
        | Fact::System(_)
        | Fact::AgentSpawned(_)
        | Fact::AgentTerminated(_)
        | Fact::AgentError(_) => None,
    }
}

fn failure(failed: &Failed) -> String {
    let what =
        failed.message.clone().unwrap_or_else(|| match (failed.exit.code, failed.exit.signal) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "failed".to_owned(),
        });
    format!("failed: {what}; {}", next(failed.decision.next))
}

fn next(next: NextAction) -> String {
    let what = match next.action {
        NextKind::Restart => "restart",
        NextKind::RestartGroup => "restart of the group",
        NextKind::Trial => "quarantine, trial",
        NextKind::Stable => "watched, stable",
        NextKind::Escalate => "its supervisor gives up",
        NextKind::StopTree => "everything stops",
        NextKind::Stop => "it is stopped",
        NextKind::None => return "it stays down".to_owned(),
    };
    format!("{what} in {}", duration(next.in_ms))
}

fn duration(millis: u64) -> String {
    if millis < 1000 {
        format!("{millis} ms")
    } else {
        format!("{}.{} s", millis / 1000, millis % 1000 / 100)
    }
}

fn counted(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(event_type: &str, data: Value, expected: Option<&str>) {
        let event: Envelope = serde_json::from_value(json!({
            "specversion": "1.0", "id": "0192f3c1-0000-7000-8000-000000000001",
            "source": "provost://node-1/agent/a", "type": event_type, "subject": "a",
            "time": "2026-11-20T19:16:18.735Z", "datacontenttype": "application/json",
            "severity": "info", "category": "agent", "data": data,
        }))
        .unwrap();
        // The time of day depends on the machine's zone.
        let seen = line(&event).map(|line| line.chars().skip(10).collect::<String>());
        assert_eq!(seen.as_deref(), expected);
    }

    fn changed(state: &str, pid: Option<u32>) -> Value {
        json!({
            "name": "flaky", "agent_type": "t", "old_state": null, "new_state": state,
            "reason": "", "pid": pid, "generation": 3,
        })
    }

    #[test]
    fn what_is_worth_watching_has_one_line() {
        let failure = json!({
            "name": "flaky", "failure_type": "process_crash", "exit": { "code": null, "signal": 9 },
            "context": { "from": "running", "to": "backoff" },
            "detection_time": "2026-11-20T19:16:18.735Z", "restarts": 2,
            "decision": {
                "reason": "child_exited", "inputs": {}, "rule": {}, "cause": null,
                "next": { "action": "restart", "in_ms": 120 },
            },
        });
        let line = "flaky     failed: ended by signal 9; restart in 120 ms";
        check("provost.supervision.failure.v1", failure, Some(line));
        let recovery =
            json!({ "name": "flaky", "after_ms": 2345, "attempts": 1, "how": "restart" });
        let line = "flaky     recovered after 2.3 s (1 attempt)";
        check("provost.supervision.recovery.v1", recovery, Some(line));
        let circuit = json!({
            "name": "doomed", "from": "closed", "to": "open", "reason": "child_limit_exceeded",
            "evidence": {}, "retry_after_ms": 4000,
        });
        let line = "doomed    circuit closed -> open; trial in 4.0 s";
        check("provost.supervision.circuit.v1", circuit, Some(line));
        let line = "flaky     runs as process 77 (run 3)";
        check("provost.agent.state_changed.v1", changed("running", Some(77)), Some(line));
    }

    #[test]
    fn what_only_repeats_or_cannot_be_read_has_none() {
        check("provost.agent.state_changed.v1", changed("backoff", None), None);
        check("provost.agent.state_changed.v1", changed("stopping", Some(77)), None);
        check("provost.supervision.failure.v1", json!({}), None);
        check("provost.later.v9", json!({}), None);
    }
}
