//! The command line as it is typed: verbs, their arguments and their help. Nothing is done here.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::alert_arguments::AlertArguments;
use crate::cli::downstream_arguments::DownstreamArguments;
use crate::cli::exit::Exit;
use crate::cli::look_arguments::{
    CircuitListArguments, ErrorArguments, EventsArguments, ExplainArguments, ListArguments,
    ShowOneArguments, StatusArguments, TreeArguments,
};
use crate::cli::ops::arguments::OpsVerb;
use crate::cli::output::Format;
use crate::cli::tasks::arguments::TaskArguments;
use crate::cli::values::{Moment, agent_name, grace, log_lines, moment, pair, prefix, timeout};
use crate::cli::work_arguments::{DlqArguments, RouteArguments};
use crate::protocol::command::CircuitSet;
use crate::protocol::id::{AgentTypeName, ChildName, NodeName};
use crate::protocol::spec::RestartType;
use crate::protocol::subject::SubjectPrefix;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Keeps workers and the services they lean on alive.
#[derive(Clone, Debug, Parser)]
#[command(name = "provost", version, styles = STYLES, after_help = exit_codes(), max_term_width = 100)]
pub(crate) struct Arguments {
    /// What every verb takes.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Form of the output.
    #[arg(
        short = 'o',
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
    /// When to use colours; `NO_COLOR` in the environment switches them off too.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorWhen,
    /// State folder of the daemon, where the address of its NATS server is.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// NATS server of the daemon, as nats://host:port; several joined by commas.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) nats_url: Option<String>,
    /// Context of the `nats` command line to connect with.
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "nats_url")]
    pub(crate) context: Option<String>,
    /// Prefix of the daemon's subjects.
    #[arg(long, global = true, value_name = "PREFIX", value_parser = prefix)]
    pub(crate) prefix: Option<SubjectPrefix>,
    /// Longest wait for an answer; 10s, and longer for what stops something.
    #[arg(long, global = true, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On terminals.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The configuration files that say where the daemon is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Files {
    /// Configuration file that says where the daemon is; may be given several times.
    #[arg(short = 'f', long = "config", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// The configuration files of a verb that works on them.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigFiles {
    /// Configuration files; later ones go before earlier ones.
    #[arg(short = 'f', long = "config", value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Supervise one program in the foreground, without any configuration.
    Run(RunArguments),
    /// Start the daemon in the foreground.
    Up(UpArguments),
    /// Start an agent of a declared type.
    Spawn(SpawnArguments),
    /// List all agents.
    #[command(visible_alias = "ps")]
    List(ListArguments),
    /// Show the supervision tree.
    Tree(TreeArguments),
    /// Show agents, or the daemon; the exit code says how an agent is.
    Status(StatusArguments),
    /// Stop agents; they stay listed.
    Stop(ActArguments),
    /// Stop and start agents.
    Restart(ActArguments),
    /// End agents at once, as a crash would.
    Kill(ActArguments),
    /// Give agents no new work.
    Drain(ActArguments),
    /// Take a drain back, or start stopped agents.
    Resume(ActArguments),
    /// Clear restart counts and close the circuits of agents.
    Reset(ActArguments),
    /// Stop agents and forget them.
    #[command(visible_alias = "rm")]
    Remove(ActArguments),
    /// Hold the circuit of a child or downstream open or closed, or let the rules decide again.
    Circuit(CircuitArguments),
    /// Show and call downstreams.
    Downstream(DownstreamArguments),
    /// Act on the daemon as a whole.
    System(SystemArguments),
    /// Ask how tasks are routed.
    Route(RouteArguments),
    /// Show alerts, silence and resolve them.
    Alert(AlertArguments),
    /// List, send again or drop dead letters.
    Dlq(DlqArguments),
    /// Show everything that is known of one child.
    Show(ShowOneArguments),
    /// Tell why a child, a task, a setting or an error is as it is, and what to do.
    Explain(ExplainArguments),
    /// Tell what an error code means.
    Error(ErrorArguments),
    /// Show the events that were stored, and follow new ones.
    Events(EventsArguments),
    /// Show what an agent wrote.
    Logs(LogsArguments),
    /// Watch the tree live on a terminal, and act on what is selected.
    #[cfg(feature = "tui")]
    Top(Files),
    /// Submit tasks, look at them, give them up.
    Task(TaskArguments),
    /// Check and show the configuration.
    Config(ConfigArguments),
    /// Show the switches ENABLE_* and who set them.
    Flags(ConfigFiles),
    /// What those who run a daemon do besides.
    #[command(flatten)]
    Ops(OpsVerb),
    /// Show the version.
    Version,
    /// Run a demonstration and tell what was seen.
    #[command(hide = true)]
    Demo(DemoArguments),
}

/// `provost demo`, behind `make demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArguments {
    /// Configuration of the daemon.
    #[arg(short = 'f', long = "config", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Ends by itself after so many seconds.
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
}

/// `provost run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArguments {
    /// Name of the agent; made from the program when absent.
    #[arg(long, value_name = "NAME", value_parser = agent_name::<ChildName>)]
    pub(crate) name: Option<ChildName>,
    /// When the program is started again.
    #[arg(long, value_name = "TYPE", value_parser = restart_type, default_value = "permanent")]
    pub(crate) restart: RestartType,
    /// Environment variable for the program, besides those of this shell.
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// What is logged to standard error.
    #[command(flatten)]
    pub(crate) log: LogSettings,
    /// The program and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub(crate) command: Vec<String>,
}

/// `provost up`.
#[derive(Args, Clone, Debug)]
pub(crate) struct UpArguments {
    /// Configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFiles,
    /// Name of this node; the host's name when absent.
    #[arg(long, value_name = "NAME", value_parser = agent_name::<NodeName>)]
    pub(crate) node: Option<NodeName>,
    /// Print no events.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// What is logged to standard error.
    #[command(flatten)]
    pub(crate) log: LogSettings,
}

/// What the daemon logs to standard error.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogSettings {
    /// Log level, or a filter such as `info,provost::transport=debug`; `PROVOST_LOG` when
    /// absent, else warn.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Form of the log.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "auto")]
    pub(crate) log_format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `provost spawn`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SpawnArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Declared type of the agent.
    #[arg(value_name = "TYPE", value_parser = agent_name::<AgentTypeName>)]
    pub(crate) agent_type: AgentTypeName,
    /// Name of the agent; made from the type when absent.
    #[arg(long, value_name = "NAME", value_parser = agent_name::<ChildName>)]
    pub(crate) name: Option<ChildName>,
    /// Environment variable added to the type's.
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Label of the agent.
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,
    /// Node that shall run it.
    #[arg(long, value_name = "NAME", value_parser = agent_name::<NodeName>)]
    pub(crate) node: Option<NodeName>,
    /// Arguments added to the type's command.
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// What is done to agents.
#[derive(Args, Clone, Debug)]
pub(crate) struct ActArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Names or ids of agents.
    #[arg(required = true, value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// Time between the stop signal and SIGKILL, at most 1h; the type's when absent.
    #[arg(long, value_name = "TIME", value_parser = grace)]
    pub(crate) grace: Option<Duration>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `provost circuit`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct CircuitArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Name of the child, or id of the agent.
    #[arg(value_name = "CHILD", required = true)]
    pub(crate) child: Option<String>,
    /// State wanted.
    #[arg(value_enum, value_name = "STATE", required = true)]
    pub(crate) set: Option<CircuitWord>,
    /// What else is done with circuits.
    #[command(subcommand)]
    pub(crate) verb: Option<CircuitVerb>,
}

/// What else is done with circuits.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CircuitVerb {
    /// List all circuits.
    List(CircuitListArguments),
    /// Show what recorded calls would have led to under the rules of a configuration.
    Replay(ReplayArguments),
}

/// `provost circuit replay`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReplayArguments {
    /// Configuration whose rules are tried.
    #[command(flatten)]
    pub(crate) config: ConfigFiles,
    /// Downstream whose rules are tried; needed where the configuration has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) downstream: Option<ChildName>,
    /// Log of calls, one JSON object a line; standard input when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

/// State of a circuit, as typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CircuitWord {
    /// Held open: the child is stopped and not restarted.
    Open,
    /// Held closed: the limit is not applied.
    Closed,
    /// As the rules say, from a closed circuit.
    Auto,
}

impl From<CircuitWord> for CircuitSet {
    fn from(word: CircuitWord) -> Self {
        match word {
            CircuitWord::Open => Self::Open,
            CircuitWord::Closed => Self::Closed,
            CircuitWord::Auto => Self::Auto,
        }
    }
}

/// `provost system`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SystemArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: SystemVerb,
}

/// What is done to the daemon.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SystemVerb {
    /// Start nothing new until `resume`; what runs goes on.
    Pause(Files),
    /// Take a pause or drain back.
    Resume(Files),
    /// Take no new work; what runs goes on.
    Drain(Files),
    /// Read the configuration again.
    Reload(Files),
    /// Stop the daemon and everything under it.
    Shutdown(Files),
}

/// `provost logs`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct LogsArguments {
    /// Configuration file that says where the daemon is; may be given several times.
    #[arg(long = "config", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Name or id of the agent.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,
    /// Go on with new lines, until Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what the run before the present one wrote.
    #[arg(short, long, conflicts_with = "follow")]
    pub(crate) previous: bool,
    /// Only what came after this time: a length of time before now, such as 10m, or a date and time
    /// such as 2026-01-31T12:00:00Z. Exact to two seconds.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Moment>,
    /// Lines from the end, 1 to 10000; 100 unless --previous or --since says what is wanted.
    #[arg(short = 'n', long, value_name = "LINES", value_parser = log_lines)]
    pub(crate) lines: Option<u32>,
}

/// `provost config`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

/// What is done with the configuration.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Tell all faults; start nothing.
    Validate(ConfigFiles),
    /// Show every key with its value.
    Show(ShowArguments),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

/// `provost config show`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArguments {
    /// Configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFiles,
    /// Tell where each value was written.
    #[arg(long)]
    pub(crate) origin: bool,
}

fn restart_type(text: &str) -> Result<RestartType, String> {
    match text {
        "permanent" => Ok(RestartType::Permanent),
        "transient" => Ok(RestartType::Transient),
        "temporary" => Ok(RestartType::Temporary),
        _ => {
            Err("use permanent (always), transient (after a crash) or temporary (never)".to_owned())
        }
    }
}

/// The exit codes, as they stand under the help.
fn exit_codes() -> String {
    let mut text = "Exit codes:".to_owned();
    for exit in Exit::ALL {
        text.push_str(&format!("\n  {:<3}  {}", exit.code(), exit.meaning()));
    }
    text
}
