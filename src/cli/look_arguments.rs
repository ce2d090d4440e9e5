//! The arguments of verbs that only look: list, tree, status, show, explain, error, events.

use clap::Args;

use crate::cli::arguments::Files;
use crate::cli::values::{Moment, moment, severity};
use crate::protocol::fact::Severity;

/// A moment of the past.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct When {
    /// As it was then, rebuilt from stored events: a length of time ago, such as 10m, or a date and
    /// time such as 2026-01-31T12:00:00Z.
    #[arg(long = "at", value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<Moment>,
}

/// `provost list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Go on: print every agent that changes, until Ctrl-C.
    #[arg(short, long, conflicts_with = "at")]
    pub(crate) watch: bool,
    /// A moment of the past.
    #[command(flatten)]
    pub(crate) when: When,
}

/// `provost tree`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TreeArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// A moment of the past.
    #[command(flatten)]
    pub(crate) when: When,
}

/// `provost status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Names or ids of agents; the daemon itself when absent.
    #[arg(value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// A moment of the past.
    #[command(flatten)]
    pub(crate) when: When,
}

/// `provost show`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShowOneArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Name or id of a child.
    #[arg(value_name = "CHILD")]
    pub(crate) child: String,
    /// A moment of the past.
    #[command(flatten)]
    pub(crate) when: When,
}

/// `provost explain`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Name or id of a child or task, a key of the configuration, or an error code; agent/NAME,
    /// downstream/NAME and task/ID say which is meant.
    #[arg(value_name = "WHAT")]
    pub(crate) what: String,
    /// A moment of the past.
    #[command(flatten)]
    pub(crate) when: When,
}

/// `provost error`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ErrorArguments {
    /// Code, such as PV0101; all codes when absent.
    #[arg(value_name = "CODE")]
    pub(crate) code: Option<String>,
}

/// `provost circuit list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CircuitListArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// A moment of the past.
    #[command(flatten)]
    pub(crate) when: When,
}

/// `provost events`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct EventsArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Go on with new events, until Ctrl-C.
    #[arg(short, long, conflicts_with_all = ["until", "cause"])]
    pub(crate) watch: bool,
    /// Only what is about this child, by name or id.
    #[arg(long = "for", value_name = "CHILD")]
    pub(crate) child: Option<String>,
    /// Only what happened after this time: a length of time ago, such as 1h, or a date and time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Moment>,
    /// Only what happened before this time, given like --since.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Moment>,
    /// Only what is at least that bad.
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub(crate) severity: Option<Severity>,
    /// Only events of this type, such as supervision.failure or failure; may be given several times.
    #[arg(long, value_name = "TYPE")]
    pub(crate) kind: Vec<String>,
    /// Show what led to the event with this id, and what else came of that, as a tree.
    #[arg(long, value_name = "ID", conflicts_with_all = ["child", "since", "until", "severity", "kind"])]
    pub(crate) cause: Option<uuid::Uuid>,
}
