//! What is said when a command is refused.

use crate::actors::tree::TreeError;
use crate::board::Entry;
use crate::logic::restart::Refusal;
use crate::protocol::command::{AgentRequest, CommandError, ErrorKind};
use crate::protocol::id::ChildName;

pub(in crate::daemon::handler) fn because(what: &str, request: &AgentRequest) -> String {
    match &request.reason {
        Some(reason) => {
            let reason: String = reason.chars().take(500).collect();
            format!("{what}: {reason}")
        }
        None => what.to_owned(),
    }
}

pub(in crate::daemon::handler) fn unknown(name: &str, why: &str) -> CommandError {
    let shown: String = name.chars().take(80).collect();
    CommandError::new(
        ErrorKind::UnknownAgent,
        format!("no agent {shown:?}: {why}"),
        "`list` shows all agents",
    )
}

pub(in crate::daemon::handler) fn wrong_state(
    entry: &Entry,
    why: &str,
    hint: &str,
) -> CommandError {
    let message = format!("{} is {}: {why}", entry.name, entry.state);
    CommandError::new(ErrorKind::WrongState, message, hint)
}

pub(in crate::daemon::handler) fn stopping() -> CommandError {
    let message = "the daemon is stopping";
    CommandError::new(ErrorKind::Unavailable, message, "start it again with `provost up`")
}

/// A child that is gone already is as good as one that was stopped or deleted.
pub(in crate::daemon::handler) fn ignore_missing(
    error: TreeError,
    name: &ChildName,
) -> Result<(), CommandError> {
    match error {
        TreeError::NotFound(_) | TreeError::Refused(Refusal::NotFound) => Ok(()),
        other @ (TreeError::BadSpec(_)
        | TreeError::StartFailed(_)
        | TreeError::Refused(_)
        | TreeError::Gone) => Err(refused(&other, name)),
    }
}

/// A refusal of the tree as an answer.
pub(in crate::daemon::handler) fn refused(error: &TreeError, name: &ChildName) -> CommandError {
    let message = format!("{name}: {error}");
    let (kind, hint) = match error {
        TreeError::NotFound(_) | TreeError::Refused(Refusal::NotFound) => {
            (ErrorKind::WrongState, "it has ended for good; spawn a new agent")
        }
        TreeError::Refused(Refusal::AlreadyStarted | Refusal::AlreadyPresent) => {
            (ErrorKind::AlreadyExists, "choose another name")
        }
        TreeError::Refused(Refusal::Running) => {
            (ErrorKind::WrongState, "it runs already; use restart")
        }
        TreeError::Refused(Refusal::Restarting | Refusal::SimpleOneForOne) => {
            (ErrorKind::WrongState, "`status` shows what it waits for")
        }
        TreeError::Refused(Refusal::NoCircuit) => {
            (ErrorKind::WrongState, "parts of the daemon have no circuit")
        }
        TreeError::Refused(Refusal::ShuttingDown) | TreeError::Gone => {
            (ErrorKind::Unavailable, "try again in a moment")
        }
        TreeError::StartFailed(_) | TreeError::Refused(Refusal::StartFailed(_)) => {
            (ErrorKind::Unavailable, "check the type's `command` and `cwd`; see its logs")
        }
        TreeError::BadSpec(_) | TreeError::Refused(Refusal::BadSpec(_)) => {
            (ErrorKind::InvalidRequest, "check the type's settings")
        }
    };
    CommandError::new(kind, message, hint)
}

pub(in crate::daemon::handler) fn no_alerts() -> CommandError {
    let message = "there are no alerts: supervision is off";
    CommandError::new(ErrorKind::Unavailable, message, "set `supervision.enabled`")
}
