//! The explanation of a task, from the records of its log.

use jiff::Timestamp;

use crate::logic::explain::reasons::because;
use crate::logic::explain::words::{counted, span};
use crate::logic::explain::{Explanation, Link, NextTold, RuleTold, Step, Why};
use crate::protocol::decision::{NextKind, Reason};
use crate::protocol::fact::Severity;
use crate::protocol::task::TaskState;
use crate::protocol::task_record::{Blame, TaskRecord};

/// Explains a task by its records, oldest first; `None` without records.
#[must_use]
pub fn explain_task(records: &[TaskRecord], at: Timestamp) -> Option<Explanation> {
    let last = records.last()?;
    let decision = &last.decision;
    let mut text = because(decision.reason, &decision.inputs);
    if let Some(error) = &last.error {
        text = format!("{}: {}; {text}", error.code, error.message);
    }
    let mut more = Vec::new();
    for (agent, blame) in &last.blamed {
        let how = match blame {
            Blame::Error => "said that it failed, or was silent",
            Blame::Crash => "ended while it had the task",
        };
        more.push(format!("agent {agent} {how}"));
    }
    let why = Why {
        text,
        reason: Some(decision.reason),
        evidence: decision.inputs.clone(),
        more,
        chain: records.iter().map(link).collect(),
    };
    let lease = last.lease_ms.map(|lease| format!(", lease {}", span(lease))).unwrap_or_default();
    let rule = RuleTold {
        text: format!("at most {}{lease}", counted(u64::from(last.max_attempts), "attempt")),
        origin: decision.rule.origin.clone(),
        exit_rule: None,
    };
    Some(Explanation {
        subject: format!("task/{}", last.task_id),
        state: last.state.as_str().to_owned(),
        since: Some(last.time),
        at,
        next: next(last, at),
        effect: effect(last),
        steps: steps(last),
        why,
        rule,
    })
}

fn link(record: &TaskRecord) -> Link {
    let agent = record.agent_id.as_ref().map(|agent| format!(" by {agent}")).unwrap_or_default();
    let error = record.error.as_ref().map(|error| format!(": {}", error.message));
    let failed = record.state == TaskState::Failed || record.state == TaskState::Rejected;
    Link {
        id: record.record.to_string(),
        time: record.time,
        kind: "coordination.log".to_owned(),
        name: record.task_id.to_string(),
        severity: if failed { Severity::Medium } else { Severity::Info },
        text: format!(
            "{}, attempt {}{agent}{}",
            record.state.as_str(),
            record.attempt,
            error.unwrap_or_default()
        ),
    }
}

fn next(last: &TaskRecord, at: Timestamp) -> NextTold {
    if last.state.is_terminal() {
        let text = "nothing: it has ended".to_owned();
        return NextTold { text, action: None, in_ms: None };
    }
    let due = last.decision.next;
    let passed = u64::try_from(at.duration_since(last.time).as_millis()).unwrap_or(0);
    let in_ms = due.in_ms.saturating_sub(passed);
    let what = match due.action {
        NextKind::Assign => "it is given to an agent",
        NextKind::Wait => "it waits until an agent can take it, or for its attempt",
        NextKind::Restart
        | NextKind::RestartGroup
        | NextKind::Trial
        | NextKind::Stable
        | NextKind::Escalate
        | NextKind::StopTree
        | NextKind::Stop
        | NextKind::None => "its agent works on it",
    };
    let when = if in_ms == 0 { String::new() } else { format!(", in {}", span(in_ms)) };
    NextTold { text: format!("{what}{when}"), action: Some(due.action), in_ms: Some(in_ms) }
}

fn effect(last: &TaskRecord) -> Vec<String> {
    let mut effects = Vec::new();
    if last.dead_letter.is_some() {
        effects.push(format!("it lies in the dead letters of {}", last.task_type));
    }
    if last.state.is_terminal() {
        effects.push("no other attempt is made; a late result is kept and not applied".to_owned());
    }
    effects
}

fn steps(last: &TaskRecord) -> Vec<Step> {
    let id = &last.task_id;
    let mut steps = Vec::new();
    let reason = last.decision.reason;
    if reason == Reason::PoisonTask {
        steps.push(Step::new(
            format!("provost task show {id}"),
            "look at its input: agents that do other tasks well fail on it",
        ));
    }
    for agent in last.blamed.keys().chain(&last.agent_id).take(1) {
        steps.push(Step::new(format!("provost logs {agent}"), "read what the agent said about it"));
    }
    if matches!(reason, Reason::NoAgentMatches | Reason::NoAgentRoutable | Reason::AgentsFull) {
        steps.push(Step::new("provost route test", "see what stands against each agent"));
    }
    if matches!(last.state, TaskState::Failed | TaskState::Rejected | TaskState::Expired) {
        steps.push(Step::new(
            format!("provost task retry {id}"),
            "submit it again once the cause is mended",
        ));
    } else if !last.state.is_terminal() {
        steps.push(Step::new(format!("provost task cancel {id}"), "give it up"));
    }
    steps
}
