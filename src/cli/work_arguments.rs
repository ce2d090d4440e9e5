//! The arguments of verbs about work: routing, resources, dead letters.

use clap::{Args, Subcommand};

use crate::cli::arguments::Files;
use crate::protocol::route::{Distribution, Predicate};

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

fn condition(text: &str) -> Result<Predicate, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn distribution(text: &str) -> Result<Distribution, String> {
    let known = Distribution::ALL.into_iter().find(|known| known.as_str() == text);
    known.ok_or_else(|| {
        let words: Vec<&str> = Distribution::ALL.iter().map(|known| known.as_str()).collect();
        format!("use one of {}", words.join(", "))
    })
}
