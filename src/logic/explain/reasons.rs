//! One sentence for every reason code. The match names them all, so that a new one cannot be
//! forgotten.

use crate::logic::explain::words::{Say, counted};
use crate::protocol::decision::{Inputs, Reason};

/// Why it was decided so, with the numbers it was decided on.
#[must_use]
pub fn because(reason: Reason, inputs: &Inputs) -> String {
    let say = Say(inputs);
    match reason {
        Reason::ChildExited => exited(say),
        Reason::StartFailed => match say.known("error") {
            Some(error) => format!("it could not be started: {error}"),
            None => "it could not be started".to_owned(),
        },
        Reason::CleanExit => "it ended well, and its restart type leaves it down then".to_owned(),
        Reason::TemporaryExit => "it is temporary: it is never started again".to_owned(),
        Reason::ChildLimitExceeded | Reason::SupervisorLimitExceeded => of_limit(reason, say),
        Reason::OpenTimeOver
        | Reason::TrialFailed
        | Reason::TrialPassed
        | Reason::TrialTimedOut => of_trial(reason, say),
        Reason::FailureThreshold | Reason::ErrorPercent | Reason::SlowPercent => {
            of_calls(reason, say)
        }
        Reason::StableRun => "it ran well for long enough, so its outage is over".to_owned(),
        Reason::Throttled => match say.known("after_ms").or_else(|| say.known("retry_after_ms")) {
            Some(after) => {
                format!("it is rate limited and waits {after}; that counts as no failure")
            }
            None => "it is rate limited and waits; that counts as no failure".to_owned(),
        },
        Reason::ExitRule => match say.known("exit_because") {
            Some(because) => format!("a rule about ends judged it: {because}"),
            None => "a rule about ends said what is done".to_owned(),
        },
        Reason::SiblingFailed => {
            "a sibling failed, and their supervisor's strategy restarts both".to_owned()
        }
        Reason::AutoShutdown => {
            "its significant children have ended, and so does their supervisor".to_owned()
        }
        Reason::Requested => "somebody asked for it".to_owned(),
        Reason::ShuttingDown => "the daemon, or its supervisor, is shutting down".to_owned(),
        Reason::Escalated => "a child of this supervisor left the matter to it".to_owned(),
        Reason::SupervisionDisabled => "supervision is switched off, so it stays down".to_owned(),
        Reason::AgentSaid
        | Reason::AttemptFailed
        | Reason::AgentGone
        | Reason::LeaseExpired
        | Reason::Undelivered
        | Reason::Forgotten
        | Reason::DeadlineOver
        | Reason::AttemptsExhausted
        | Reason::PoisonTask
        | Reason::SickAgent
        | Reason::BadSubmission
        | Reason::LateResult
        | Reason::AgentPicked
        | Reason::AgentKept
        | Reason::KeyMoved
        | Reason::ParticipantsFound
        | Reason::NoAgentMatches
        | Reason::NoAgentRoutable
        | Reason::AgentsFull
        | Reason::NeedsIncomplete
        | Reason::CompletionReached
        | Reason::CompletionImpossible
        | Reason::DeadlinePassed => of_work(reason, say),
    }
}

/// It ended and is started again.
fn exited(say: Say<'_>) -> String {
    match say.count("restarts_in_window") {
        Some(count) => format!(
            "it should run, so it is started again: {} within {}, {} allowed",
            counted(count, "restart"),
            say.get("period_ms"),
            say.get("intensity")
        ),
        None => "it should run, so it is started again".to_owned(),
    }
}

/// A limit that was exceeded: the child's own, or its supervisor's.
fn of_limit(reason: Reason, say: Say<'_>) -> String {
    if reason == Reason::ChildLimitExceeded {
        match say.count("restarts_in_window") {
            Some(_) => format!(
                "{} restarts within {} are too many, {} are allowed, so its circuit opened",
                say.get("restarts_in_window"),
                say.get("period_ms"),
                say.get("intensity")
            ),
            None => format!(
                "it failed {} times in a row, so its circuit opened",
                say.get("consecutive_failures")
            ),
        }
    } else {
        format!(
            "its supervisor counted {} restarts within {}, {} are allowed, so the supervisor gave up",
            say.known("supervisor_restarts_in_window")
                .unwrap_or_else(|| say.get("restarts_in_window")),
            say.known("supervisor_period_ms").unwrap_or_else(|| say.get("period_ms")),
            say.known("supervisor_intensity").unwrap_or_else(|| say.get("intensity"))
        )
    }
}

/// What came of the open time and of a trial.
fn of_trial(reason: Reason, say: Say<'_>) -> String {
    if reason == Reason::TrialFailed {
        match say.known("open_ms") {
            Some(open) => format!("its trial failed, so its circuit is open again, for {open}"),
            None => "its trial failed, so its circuit is open again".to_owned(),
        }
    } else if reason == Reason::TrialPassed {
        "its trial went well, so its circuit closed".to_owned()
    } else if reason == Reason::TrialTimedOut {
        "its trial did not come to an end in time, so its circuit is open again".to_owned()
    } else {
        "its circuit was open long enough, so one trial is let through".to_owned()
    }
}

/// Calls of a downstream that failed or were slow.
fn of_calls(reason: Reason, say: Say<'_>) -> String {
    if reason == Reason::FailureThreshold {
        format!(
            "{} calls failed in a row, which is the most that are allowed ({}), so its circuit opened",
            say.get("consecutive_failures"),
            say.get("failure_threshold")
        )
    } else if reason == Reason::ErrorPercent {
        format!(
            "{} of {} calls failed, {} % are allowed, so its circuit opened",
            say.get("errors"),
            say.get("calls"),
            say.get("error_percent")
        )
    } else {
        format!(
            "{} of {} calls were slow, {} % are allowed, so its circuit opened",
            say.get("slow"),
            say.get("calls"),
            say.get("slow_percent")
        )
    }
}

/// Reasons about tasks and routing.
fn of_work(reason: Reason, say: Say<'_>) -> String {
    match reason {
        Reason::AgentPicked => match say.known("candidates") {
            Some(count) => format!("the best of {count} agents that could do it"),
            None => "the best agent that could do it".to_owned(),
        },
        Reason::AgentSaid => "the agent said so".to_owned(),
        Reason::AttemptFailed => format!(
            "an attempt failed ({} of at most {}), so it is tried again",
            say.get("failures"),
            say.get("max_attempts")
        ),
        Reason::AgentGone => "the agent's run ended while it had the task".to_owned(),
        Reason::LeaseExpired => "nothing was heard of the attempt for its lease".to_owned(),
        Reason::Undelivered => "the agent could not be given the task".to_owned(),
        Reason::Forgotten => "the agent says that it does not have the task".to_owned(),
        Reason::DeadlineOver | Reason::DeadlinePassed => "its deadline is over".to_owned(),
        Reason::AttemptsExhausted => format!(
            "{} attempts failed, which is all that it may have ({})",
            say.get("failures"),
            say.get("max_attempts")
        ),
        Reason::PoisonTask => format!(
            "it failed on {} different agents: the task is at fault, not the agents",
            say.get("agents")
        ),
        Reason::SickAgent => format!(
            "the agent failed {} tasks that others can do, so it gets none for a while",
            say.get("tasks")
        ),
        Reason::BadSubmission => "what was submitted is no task".to_owned(),
        Reason::LateResult => "the result is of an attempt that does not count any more".to_owned(),
        Reason::AgentKept => "its key, or its name, stands for that agent".to_owned(),
        Reason::KeyMoved => "the agent of its key is away: the key moved to another".to_owned(),
        Reason::ParticipantsFound => "the agents that take part were found".to_owned(),
        Reason::NoAgentMatches => "no agent has what it needs".to_owned(),
        Reason::NoAgentRoutable => {
            "agents have what it needs, but none may be given work now".to_owned()
        }
        Reason::AgentsFull => "all slots of the agents that could do it are taken".to_owned(),
        Reason::NeedsIncomplete => "what it asks for cannot be routed as it stands".to_owned(),
        Reason::CompletionReached => "enough of those that take part have completed it".to_owned(),
        Reason::CompletionImpossible => "too few of those that take part are left".to_owned(),
        Reason::ChildExited
        | Reason::StartFailed
        | Reason::CleanExit
        | Reason::TemporaryExit
        | Reason::ChildLimitExceeded
        | Reason::SupervisorLimitExceeded
        | Reason::OpenTimeOver
        | Reason::TrialFailed
        | Reason::TrialPassed
        | Reason::TrialTimedOut
        | Reason::FailureThreshold
        | Reason::ErrorPercent
        | Reason::SlowPercent
        | Reason::StableRun
        | Reason::Throttled
        | Reason::ExitRule
        | Reason::SiblingFailed
        | Reason::AutoShutdown
        | Reason::Requested
        | Reason::ShuttingDown
        | Reason::Escalated
        | Reason::SupervisionDisabled => "it was decided by the rules of supervision".to_owned(),
    }
}
