//! Arguments of the verbs of those who run a daemon.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::cli::arguments::Files;
use crate::cli::values::span;
use crate::protocol::status::AgentState;

/// What those who run a daemon do besides.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum OpsVerb {
    /// Show what the configuration on disk would change in the running daemon.
    Plan(PlanArguments),
    /// Carry out what the configuration on disk changes, without a restart of the daemon.
    Apply(ApplyArguments),
    /// Wait until agents are as wanted.
    Wait(WaitArguments),
    /// Check the daemon and everything it stands on; each finding says what to do.
    Doctor(Files),
    /// Tell from stored events what starts slowly, in which chain, and what keeps failing.
    Analyze(AnalyzeArguments),
    /// Check one thing for a monitoring system.
    Check(CheckArguments),
    /// Print a completion script for a shell.
    Completions(CompletionsArguments),
    /// Print the manual page, of one command or of all.
    Man(ManArguments),
    /// List all commands: whom they ask, and whether they change something.
    Commands,
}

/// `provost plan`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlanArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Exit with 10 when there are changes.
    #[arg(long)]
    pub(crate) exit_code: bool,
}

/// `provost apply`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ApplyArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Do not ask; needed where nobody can be asked.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Only show what would be done; exit with 10 when there are changes.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Carry out exactly the plan with this fingerprint; refused when it is stale.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) plan: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Who, for the record.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

/// `provost wait`.
#[derive(Args, Clone, Debug)]
pub(crate) struct WaitArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Names or ids of agents.
    #[arg(required = true, value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// What is waited for: ready, stopped, gone, or state=STATE. `--timeout` says how long; 30s when
    /// absent.
    #[arg(long = "for", value_name = "WHAT", value_parser = wanted, default_value = "ready")]
    pub(crate) wanted: Wanted,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// It runs and nothing says that it is unwell.
    Ready,
    /// It is down and stays down.
    Stopped,
    /// It is not listed any more.
    Gone,
    /// It is in this state.
    State(AgentState),
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let state = |name: &str| AgentState::ALL.into_iter().find(|state| state.as_str() == name);
    match (text, text.strip_prefix("state=")) {
        ("ready", _) => Ok(Wanted::Ready),
        ("stopped", _) => Ok(Wanted::Stopped),
        ("gone", _) => Ok(Wanted::Gone),
        (_, Some(name)) => state(name).map(Wanted::State).ok_or_else(|| {
            let all = AgentState::ALL.map(|state| state.as_str().to_owned());
            format!("no state {name:?}; states are {}", all.join(", "))
        }),
        _ => Err("use ready, stopped, gone or state=STATE".to_owned()),
    }
}

/// `provost analyze`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AnalyzeArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// What is told.
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: Analysis,
    /// Only what happened in this time before now, such as 1h.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) since: Option<Duration>,
}

/// What is told from stored events.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Analysis {
    /// How long agents took to start, slowest first.
    Blame,
    /// The chain of agents that the last start of the daemon had to wait for.
    CriticalChain,
    /// Agents and downstreams that fail and come back, worst first.
    Flapping,
}

/// `provost check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// What is checked; everything when absent.
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: Option<Subject>,
    /// Whom the answer is for. `nagios` exits with 0 ok, 1 warning, 2 critical, 3 unknown.
    #[arg(long, value_enum, value_name = "SYSTEM", default_value = "nagios")]
    pub(crate) format: CheckFormat,
}

/// What is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Subject {
    /// Agents are up and healthy.
    Agents,
    /// No circuit is open.
    Circuits,
    /// Tasks do not pile up, and records of them can be stored.
    Queue,
    /// The daemon is connected, and events get out.
    Bus,
}

/// Whom the answer of a check is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// One line with performance data, for Nagios and its kin.
    Nagios,
    /// Metrics in the text format of Prometheus, for a textfile collector.
    Prometheus,
    /// One JSON document.
    Json,
}

/// `provost completions`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompletionsArguments {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// `provost man`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ManArguments {
    /// Words of the command, such as `task submit`; all commands in one page when absent.
    #[arg(value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
}
