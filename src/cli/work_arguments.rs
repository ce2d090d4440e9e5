//! The arguments of verbs about work: routing, resources, dead letters.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::arguments::Files;
use crate::cli::values::span;
use crate::protocol::route::{Completion, Distribution, Predicate};

/// `provost route`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RouteArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: RouteVerb,
}

/// What is asked about routing.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RouteVerb {
    /// Tell which agent would get a task now, and what stands against the others; nothing is sent.
    Test(RouteTestArguments),
}

/// `provost route test`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RouteTestArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// What the agent must be able to do.
    #[arg(value_name = "CAPABILITY")]
    pub(crate) capabilities: Vec<String>,
    /// Condition besides, as JSON, such as '{"not":{"label":{"key":"zone","value":"eu"}}}'; of
    /// all, any, not, capability, label, `has_label`.
    #[arg(long = "where", value_name = "JSON", value_parser = condition)]
    pub(crate) condition: Option<Predicate>,
    /// How the agent is chosen; as configured when absent.
    #[arg(long, value_name = "NAME", value_parser = distribution)]
    pub(crate) strategy: Option<Distribution>,
    /// Only this agent, by name or id; may be given several times.
    #[arg(long = "only", value_name = "AGENT")]
    pub(crate) participants: Vec<String>,
    /// Only if there is no other: this agent, by name or id; may be given several times.
    #[arg(long, value_name = "AGENT")]
    pub(crate) avoid: Vec<String>,
    /// Key whose tasks stay with one agent.
    #[arg(long, value_name = "KEY")]
    pub(crate) sticky_key: Option<String>,
}

pub(crate) fn condition(text: &str) -> Result<Predicate, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(crate) fn completion(text: &str) -> Result<Completion, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Completion::All),
        ("any", _) => Ok(Completion::Any),
        (_, Ok(quorum @ 1..)) => Ok(Completion::Quorum(quorum)),
        _ => Err("use all, any, or a number from 1 on".to_owned()),
    }
}

pub(crate) fn distribution(text: &str) -> Result<Distribution, String> {
    let known = Distribution::ALL.into_iter().find(|known| known.as_str() == text);
    known.ok_or_else(|| {
        let words: Vec<&str> = Distribution::ALL.iter().map(|known| known.as_str()).collect();
        format!("use one of {}", words.join(", "))
    })
}

/// `provost dlq`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DlqArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: DlqVerb,
}

/// What is done with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List dead letters, oldest first.
    List(DlqListArguments),
    /// Show dead letters as a whole.
    Show(DlqShowArguments),
    /// Send originals again; doing it twice is doing it once.
    Replay(DlqReplayArguments),
    /// Take dead letters out for good.
    Drop(DlqChosen),
}

/// Which dead letters.
#[derive(Args, Clone, Debug)]
pub(crate) struct DlqFilter {
    /// Only of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Only of this time before now, such as 1h.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) since: Option<Duration>,
    /// Only with this error's code.
    #[arg(long, value_name = "CODE")]
    pub(crate) error: Option<String>,
}

/// `provost dlq list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DlqListArguments {
    /// Which ones.
    #[command(flatten)]
    pub(crate) filter: DlqFilter,
    /// Most that are listed.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
}

/// `provost dlq show`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DlqShowArguments {
    /// Ids, of dead letters or of originals.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}

/// Which dead letters something is done to.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct DlqChosen {
    /// Ids, of dead letters or of originals.
    #[arg(value_name = "ID", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// All that fit the other options.
    #[arg(long)]
    pub(crate) all: bool,
    /// Which ones.
    #[command(flatten)]
    pub(crate) filter: DlqFilter,
    /// Only tell what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `provost dlq replay`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DlqReplayArguments {
    /// Which ones.
    #[command(flatten)]
    pub(crate) chosen: DlqChosen,
    /// Subject to send to instead of the original's, without prefix.
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) to: Option<String>,
    /// Leave the dead letters where they are.
    #[arg(long)]
    pub(crate) keep: bool,
}
