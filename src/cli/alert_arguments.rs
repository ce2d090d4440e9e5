//! The arguments of `provost alert`.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::arguments::Files;
use crate::cli::values::span;

/// `provost alert`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AlertArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: AlertVerb,
}

/// What is done about alerts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AlertVerb {
    /// List alerts that fire, and silences; the exit code is 1 while one fires that is not silenced.
    List(Files),
    /// Keep alerts from being delivered for a time; they stay events.
    Silence(SilenceArguments),
    /// End silences before their time.
    Unsilence(ChosenArguments),
    /// Say that alerts are dealt with; they fire again when their condition begins again.
    Resolve(ChosenArguments),
}

impl AlertVerb {
    /// Where the daemon is.
    pub(crate) fn at(&self) -> &Files {
        match self {
            Self::List(at) => at,
            Self::Silence(arguments) => &arguments.at,
            Self::Unsilence(arguments) | Self::Resolve(arguments) => &arguments.at,
        }
    }
}

/// `provost alert silence`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct SilenceArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// One alert, by its fingerprint.
    #[arg(value_name = "FINGERPRINT", group = "what")]
    pub(crate) fingerprint: Option<String>,
    /// All alerts of a rule.
    #[arg(long, value_name = "RULE", group = "what")]
    pub(crate) alert: Option<String>,
    /// All alerts about a child, or what children have in common, such as version=2.
    #[arg(long, value_name = "SCOPE", group = "what")]
    pub(crate) scope: Option<String>,
    /// For how long, at most 30d.
    #[arg(long = "for", value_name = "TIME", value_parser = span, default_value = "1h")]
    pub(crate) time: Duration,
    /// Why, for the others.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Which silences or alerts.
#[derive(Args, Clone, Debug)]
pub(crate) struct ChosenArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Ids of silences, or fingerprints of alerts.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}
