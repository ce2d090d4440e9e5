//! What is typed behind `provost downstream`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::cli::arguments::Files;
use crate::cli::values::{agent_name, pair, timeout};
use crate::protocol::downstream::CallOp;
use crate::protocol::id::ChildName;

/// `provost downstream`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DownstreamArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: DownstreamVerb,
}

/// What is done with downstreams.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DownstreamVerb {
    /// List all downstreams.
    #[command(visible_alias = "ls")]
    List(Files),
    /// Show downstreams; the exit code says how they are.
    Show(ShowDownstreams),
    /// Call a downstream and print its answer.
    Call(Box<CallArguments>),
}

/// `provost downstream show`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShowDownstreams {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Names of downstreams.
    #[arg(required = true, value_name = "NAME", value_parser = agent_name::<ChildName>)]
    pub(crate) names: Vec<ChildName>,
}

/// `provost downstream call`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CallArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Name of the downstream.
    #[arg(value_name = "NAME", value_parser = agent_name::<ChildName>)]
    pub(crate) name: ChildName,
    /// What it is asked for.
    #[arg(long, value_enum, value_name = "OP", default_value = "request")]
    pub(crate) op: OpWord,
    /// Method, of HTTP or JSON-RPC.
    #[arg(short, long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Path added to the endpoint's.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Topic, channel, subject, stream or list.
    #[arg(short, long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    /// Parameters, body or message, as JSON.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) params: Option<Value>,
    /// Header.
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) header: Vec<(String, String)>,
    /// Time for the whole call with its repetitions, at most 1h.
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) deadline: Option<Duration>,
    /// Key that makes a repetition harmless.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

/// An operation, as typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum OpWord {
    /// Ask and wait for the answer.
    Request,
    /// Send to whoever listens.
    Publish,
    /// Put into a queue.
    Enqueue,
    /// Take out of a queue.
    Dequeue,
    /// Confirm what was taken out.
    Ack,
}

impl From<OpWord> for CallOp {
    fn from(word: OpWord) -> Self {
        match word {
            OpWord::Request => Self::Request,
            OpWord::Publish => Self::Publish,
            OpWord::Enqueue => Self::Enqueue,
            OpWord::Dequeue => Self::Dequeue,
            OpWord::Ack => Self::Ack,
        }
    }
}

impl DownstreamVerb {
    /// Where the daemon is.
    pub(crate) fn at(&self) -> &Files {
        match self {
            Self::List(at) => at,
            Self::Show(arguments) => &arguments.at,
            Self::Call(arguments) => &arguments.at,
        }
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("no JSON: {error}; a text stands in double quotes"))
}
