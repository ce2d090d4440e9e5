//! The exit codes of the command line, all of them, in one place.
//!
//! Scripts rely on these numbers; they never change.

use std::process::ExitCode;

use crate::protocol::command::ErrorKind;
use crate::protocol::status::{AgentState, AgentStatus, HealthStatus};

/// What the program tells its caller when it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// 0: done, or healthy.
    Done,
    /// 1: it ran, but the answer is bad (unhealthy, failed).
    Bad,
    /// 2: wrong usage or invalid configuration; nothing was done.
    Usage,
    /// 3: the agent exists but is stopped.
    Stopped,
    /// 4: no such agent or agent type.
    NoSuchId,
    /// 5: the daemon or NATS cannot be reached.
    Unreachable,
    /// 6: refused: conflict, wrong state, full.
    Refused,
    /// 7: not permitted.
    NotPermitted,
    /// 8: some of several were done, or several have different answers.
    Partial,
    /// 10: changes wait to be applied.
    Pending,
    /// 124: no answer in time.
    TimedOut,
    /// 130: interrupted by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// All exit codes in rising order.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Bad,
        Self::Usage,
        Self::Stopped,
        Self::NoSuchId,
        Self::Unreachable,
        Self::Refused,
        Self::NotPermitted,
        Self::Partial,
        Self::Pending,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Bad => 1,
            Self::Usage => 2,
            Self::Stopped => 3,
            Self::NoSuchId => 4,
            Self::Unreachable => 5,
            Self::Refused => 6,
            Self::NotPermitted => 7,
            Self::Partial => 8,
            Self::Pending => 10,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }

    /// What it means, as `provost help` lists it.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or healthy",
            Self::Bad => "ran, but the answer is bad (unhealthy, failed)",
            Self::Usage => "wrong usage or invalid configuration",
            Self::Stopped => "stopped",
            Self::NoSuchId => "no such agent or type",
            Self::Unreachable => "daemon or NATS unreachable",
            Self::Refused => "refused: conflict, wrong state, full",
            Self::NotPermitted => "not permitted",
            Self::Partial => "partial: several with different results",
            Self::Pending => "changes wait to be applied (plan --exit-code, apply --dry-run)",
            Self::TimedOut => "timed out",
            Self::Interrupted => "interrupted",
        }
    }

    /// The exit code of several results: theirs if they agree, else [`Self::Partial`].
    #[must_use]
    pub fn together(results: &[Self]) -> Self {
        let Some((first, rest)) = results.split_first() else { return Self::Done };
        if rest.iter().all(|result| result == first) { *first } else { Self::Partial }
    }

    /// What `provost status AGENT` exits with.
    #[must_use]
    pub fn of_agent(status: &AgentStatus) -> Self {
        match status.state {
            AgentState::Running => match status.health.status {
                HealthStatus::Healthy | HealthStatus::Unknown => Self::Done,
                HealthStatus::Degraded | HealthStatus::Unhealthy => Self::Bad,
            },
            AgentState::Starting
            | AgentState::Degraded
            | AgentState::Stopping
            | AgentState::Backoff
            | AgentState::Quarantined
            | AgentState::Probation
            | AgentState::Parked => Self::Bad,
            AgentState::Created | AgentState::Stopped | AgentState::Terminated => Self::Stopped,
        }
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidRequest => Self::Usage,
            ErrorKind::UnknownAgentType | ErrorKind::UnknownAgent => Self::NoSuchId,
            ErrorKind::AlreadyExists | ErrorKind::PoolFull | ErrorKind::WrongState => Self::Refused,
            ErrorKind::NotPermitted => Self::NotPermitted,
            ErrorKind::Unavailable => Self::Unreachable,
            ErrorKind::Internal => Self::Bad,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::agent;

    #[test]
    fn the_numbers_are_those_of_the_wire() {
        let numbers: Vec<u8> = Exit::ALL.into_iter().map(Exit::code).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 124, 130]);
    }

    #[test]
    fn a_refusal_exits_by_its_kind() {
        let exits = [
            (ErrorKind::InvalidRequest, 2),
            (ErrorKind::UnknownAgentType, 4),
            (ErrorKind::UnknownAgent, 4),
            (ErrorKind::AlreadyExists, 6),
            (ErrorKind::PoolFull, 6),
            (ErrorKind::NotPermitted, 7),
            (ErrorKind::WrongState, 6),
            (ErrorKind::Unavailable, 5),
            (ErrorKind::Internal, 1),
        ];
        for (kind, code) in exits {
            assert_eq!(Exit::from(kind).code(), code, "{kind:?}");
        }
    }

    #[test]
    fn the_exit_of_a_status_follows_state_and_health() {
        let exits = [
            (AgentState::Created, 3),
            (AgentState::Starting, 1),
            (AgentState::Running, 0),
            (AgentState::Degraded, 1),
            (AgentState::Stopping, 1),
            (AgentState::Backoff, 1),
            (AgentState::Quarantined, 1),
            (AgentState::Probation, 1),
            (AgentState::Parked, 1),
            (AgentState::Stopped, 3),
            (AgentState::Terminated, 3),
        ];
        assert_eq!(exits.map(|(state, _)| state), AgentState::ALL);
        for (state, code) in exits {
            assert_eq!(Exit::of_agent(&agent("w1", state)).code(), code, "{state}");
        }
        for (health, code) in [
            (HealthStatus::Healthy, 0),
            (HealthStatus::Unknown, 0),
            (HealthStatus::Degraded, 1),
            (HealthStatus::Unhealthy, 1),
        ] {
            let mut status = agent("w1", AgentState::Running);
            status.health.status = health;
            assert_eq!(Exit::of_agent(&status).code(), code, "{health:?}");
        }
    }

    #[test]
    fn several_results_agree_or_are_partial() {
        assert_eq!(Exit::together(&[]), Exit::Done);
        assert_eq!(Exit::together(&[Exit::NoSuchId, Exit::NoSuchId]), Exit::NoSuchId);
        assert_eq!(Exit::together(&[Exit::Done, Exit::NoSuchId]), Exit::Partial);
    }
}
