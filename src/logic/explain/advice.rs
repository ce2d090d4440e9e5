//! What can be done, by kind of failure, by state, and by what a program wrote before it ended.

use crate::logic::explain::child::Evidence;
use crate::logic::explain::words::Say;
use crate::logic::explain::{RuleTold, Step};
use crate::protocol::fact::{Failed, FailureType};
use crate::protocol::status::{AgentState, CircuitState};

/// What programs write when something outside them is wrong, and what to look at.
const TELLING: [(&str, &str, &str); 8] = [
    (
        "No space left on device",
        "df -h",
        "the disk is full: make room, it is no fault of the program",
    ),
    ("ENOSPC", "df -h", "the disk is full: make room, it is no fault of the program"),
    ("Disk quota exceeded", "quota -s", "the quota of its user is used up"),
    (
        "Too many open files",
        "ulimit -n",
        "it has opened too many files: raise the limit, or find the leak",
    ),
    ("Address already in use", "ss -ltnp", "somebody else has the port"),
    ("Connection refused", "ss -ltnp", "what it connects to does not listen"),
    ("Permission denied", "id", "its user may not do what it tries"),
    ("ModuleNotFoundError", "python3 -m pip list", "a Python module is missing where it runs"),
];

/// What is out of order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Of {
    /// The child itself.
    Child,
    /// The calls of a downstream.
    Calls,
}

/// The steps for a child, the likeliest remedy first.
pub(super) fn steps(evidence: &Evidence<'_>, rule: &RuleTold, of: Of) -> Vec<Step> {
    let is_calls = of == Of::Calls;
    let shown = evidence.shown;
    let name = shown.name.as_str();
    let mut steps = Vec::new();
    let troubled = is_calls || troubles(shown.state);
    let failed = evidence.notes.failure().map(|failure| &failure.what).filter(|_| troubled);
    if is_calls {
        let at = rule.origin.as_deref().map(|origin| format!(" ({origin})")).unwrap_or_default();
        steps.push(Step::new(
            format!("check that the service behind {name} runs and answers at its address{at}"),
            "its calls fail there, not here",
        ));
    }
    if let Some(failed) = failed {
        let written = evidence.words.iter().chain(failed.message.iter());
        let told =
            written.flat_map(|line| TELLING.iter().filter(move |(mark, _, _)| line.contains(mark)));
        steps.extend(told.map(|(_, command, why)| Step::new(*command, *why)));
        steps.dedup();
        if !is_calls {
            remedy(failed, name, (rule, evidence), &mut steps);
        }
    }
    if is_calls {
        steps
            .push(Step::new(format!("provost downstream show {name}"), "see its state and counts"));
        steps.push(Step::new(
            format!("provost circuit {name} auto"),
            "close the circuit once the service is well, and let the rules decide again",
        ));
        return steps;
    }
    by_state(evidence, &mut steps);
    if steps.is_empty() {
        steps.push(Step::new(format!("provost events --for {name}"), "see what happened to it"));
    }
    steps
}

fn troubles(state: AgentState) -> bool {
    match state {
        AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Probation
        | AgentState::Parked
        | AgentState::Degraded
        | AgentState::Starting
        | AgentState::Stopped
        | AgentState::Terminated => true,
        AgentState::Created | AgentState::Running | AgentState::Stopping => false,
    }
}

fn remedy(
    failed: &Failed,
    name: &str,
    (rule, evidence): (&RuleTold, &Evidence<'_>),
    steps: &mut Vec<Step>,
) {
    let at = rule.origin.as_deref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    let of_type = evidence
        .shown
        .agent
        .as_ref()
        .map_or_else(|| name.to_owned(), |agent| format!("agent_types.{}", agent.agent_type));
    let logs = || {
        Step::new(format!("provost logs {name} --previous"), "read what it wrote before it ended")
    };
    let is_agent = evidence.shown.agent.is_some();
    let class = Say(&failed.decision.inputs).known("exit_class");
    let is_fault = class.as_deref() == Some("config_fault");
    match failed.failure_type {
        FailureType::StartFailed => misconfigured((&of_type, &at), evidence, steps),
        FailureType::ProcessCrash if is_fault => {
            misconfigured((&of_type, &at), evidence, steps);
        }
        FailureType::ProcessCrash if is_agent => {
            steps.push(logs());
            if failed.exit.signal == Some(9) {
                steps.push(Step::new(
                    "dmesg | grep -i 'killed process'",
                    "signal 9 came from outside: somebody's kill, or the kernel short of memory",
                ));
            }
        }
        FailureType::OutOfMemory => {
            steps.push(Step::new(
                format!("raise max_memory_mb of {of_type}{at}"),
                "if it needs that much; else find what grows",
            ));
            steps.push(logs());
        }
        FailureType::ProbeFailed | FailureType::Watchdog | FailureType::Hang => {
            steps.push(logs());
            steps.push(Step::new(
                format!("provost show {name}"),
                "see its probes: if it is only slow, give them a longer timeout or threshold",
            ));
        }
        FailureType::Lost => steps.push(Step::new(
            format!("start {name} again where it runs, and check its way to NATS"),
            "nothing was heard of it; it is back with its next beat",
        )),
        FailureType::CallFailed => steps.push(Step::new(
            format!("provost downstream show {name}"),
            "see how many of its calls fail, and why",
        )),
        FailureType::Throttled if is_agent => steps.push(Step::new(
            format!("provost restart {name}"),
            "try at once instead of waiting, if the rate limit is known to be over",
        )),
        FailureType::TaskTimeout if is_agent => steps.push(logs()),
        FailureType::Panic => steps.push(Step::new(
            "report it with the daemon's log",
            "code inside the daemon panicked; it goes on without harm",
        )),
        FailureType::ProcessCrash | FailureType::Throttled | FailureType::TaskTimeout => {
            steps.push(Step::new(
                "provost status",
                "see which part of the daemon is away, and read its log",
            ));
        }
    }
}

/// Starting it again as it is will not help.
fn misconfigured((of_type, at): (&str, &str), evidence: &Evidence<'_>, steps: &mut Vec<Step>) {
    steps.push(Step::new(
        format!("correct `command` or `env` of {of_type}{at}"),
        "starting it again as it is will not help",
    ));
    if evidence.shown.agent.is_some() {
        let name = &evidence.shown.name;
        steps.push(Step::new(format!("provost logs {name}"), "see whether it said why"));
    }
}

fn by_state(evidence: &Evidence<'_>, steps: &mut Vec<Step>) {
    let shown = evidence.shown;
    let name = shown.name.as_str();
    if shown.agent.is_none() {
        return;
    }
    match (shown.state, shown.circuit.state) {
        (_, CircuitState::ForcedOpen | CircuitState::ForcedClosed) => steps.push(Step::new(
            format!("provost circuit {name} auto"),
            "let the rules decide again: its circuit is held by hand",
        )),
        (AgentState::Quarantined, _) => steps.push(Step::new(
            format!("provost reset {name}"),
            "close its circuit and start it now, once the cause is mended",
        )),
        (AgentState::Stopped, _) => {
            steps.push(Step::new(format!("provost resume {name}"), "start it again"));
        }
        (AgentState::Degraded, _) => steps.push(Step::new(
            format!("provost show {name}"),
            "see its probes and whether it drains",
        )),
        (AgentState::Backoff, _) => steps
            .push(Step::new(format!("provost restart {name}"), "start it now instead of waiting")),
        (
            AgentState::Created
            | AgentState::Starting
            | AgentState::Running
            | AgentState::Stopping
            | AgentState::Probation
            | AgentState::Parked
            | AgentState::Terminated,
            _,
        ) => {}
    }
}
