//! `provost task …` as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::arguments::Files;
use crate::cli::values::{agent_name, grace, span};
use crate::cli::work_arguments::{completion, condition, distribution};
use crate::protocol::id::{TaskId, TaskType};
use crate::protocol::route::{Completion, Distribution, Predicate};
use crate::protocol::task::{Priority, TaskState};

/// `provost task`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TaskArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: TaskVerb,
}

/// What is done with tasks.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TaskVerb {
    /// Submit a task and print its id.
    Submit(SubmitArguments),
    /// Submit a task, wait for its end, and print the result.
    Run(SubmitArguments),
    /// List tasks, newest first.
    #[command(visible_alias = "ps")]
    List(ListArguments),
    /// Show the life of a task.
    Show(OneArguments),
    /// Follow a task until it ends.
    Watch(OneArguments),
    /// Print the result of a task that has ended.
    Result(OneArguments),
    /// Give a task up.
    Cancel(CancelArguments),
    /// Submit the tasks again that failed or were rejected, under new ids.
    Retry(RetryArguments),
    /// Hold the whole log of tasks against its rules.
    Audit(AuditArguments),
}

/// `provost task submit` and `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SubmitArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Type of the task.
    #[arg(value_name = "TYPE", value_parser = agent_name::<TaskType>)]
    pub(crate) task_type: TaskType,
    /// Input as JSON; `-` reads it from standard input; null when absent.
    #[arg(value_name = "INPUT", conflicts_with_all = ["text", "file"])]
    pub(crate) input: Option<String>,
    /// Input as a text.
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    pub(crate) text: Option<String>,
    /// File with the input as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Id of the task; the same id is the same task. Made when absent.
    #[arg(long, value_name = "ID", value_parser = agent_name::<TaskId>)]
    pub(crate) id: Option<TaskId>,
    /// Capability that the agent must have; may be given several times.
    #[arg(long, value_name = "WORD")]
    pub(crate) capability: Vec<String>,
    /// Name or id of an agent that may have it; may be given several times.
    #[arg(long = "to", value_name = "AGENT")]
    pub(crate) participants: Vec<String>,
    /// Condition on the agent besides, as JSON, such as '{"label":{"key":"zone","value":"eu"}}'.
    #[arg(long = "where", value_name = "JSON", value_parser = condition)]
    pub(crate) condition: Option<Predicate>,
    /// How the agent is chosen; as configured when absent.
    #[arg(long, value_name = "NAME", value_parser = distribution)]
    pub(crate) strategy: Option<Distribution>,
    /// When a broadcast is done: all, any, or a number of agents.
    #[arg(long, value_name = "HOW", value_parser = completion)]
    pub(crate) completion: Option<Completion>,
    /// Key whose tasks stay with one agent, under the strategy sticky.
    #[arg(long, value_name = "KEY")]
    pub(crate) sticky_key: Option<String>,
    /// How urgent it is.
    #[arg(long, value_enum, value_name = "PRIORITY", default_value = "normal")]
    pub(crate) priority: PriorityWord,
    /// Time after which the result is of no use, such as 10m.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) deadline: Option<Duration>,
    /// Time before which it is not begun.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) delay: Option<Duration>,
    /// Failed attempts after which it has failed.
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,
    /// On whose behalf, for fair shares.
    #[arg(long, value_name = "NAME")]
    pub(crate) submitter: Option<String>,
}

/// Urgency, as typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum PriorityWord {
    /// When there is nothing else to do.
    Low,
    /// As it comes.
    Normal,
    /// Before what is normal.
    High,
    /// Before everything else.
    Critical,
}

impl From<PriorityWord> for Priority {
    fn from(word: PriorityWord) -> Self {
        match word {
            PriorityWord::Low => Self::Low,
            PriorityWord::Normal => Self::Normal,
            PriorityWord::High => Self::High,
            PriorityWord::Critical => Self::Critical,
        }
    }
}

/// `provost task list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Only tasks in this state.
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<TaskState>,
    /// Only tasks of this type.
    #[arg(long = "type", value_name = "TYPE", value_parser = agent_name::<TaskType>)]
    pub(crate) task_type: Option<TaskType>,
    /// Tasks shown, at most.
    #[arg(short = 'n', long, value_name = "N", default_value = "100")]
    pub(crate) limit: usize,
}

/// Verbs about one task.
#[derive(Args, Clone, Debug)]
pub(crate) struct OneArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Id of the task.
    #[arg(value_name = "TASK", value_parser = agent_name::<TaskId>)]
    pub(crate) task: TaskId,
}

/// `provost task cancel`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CancelArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Ids of tasks.
    #[arg(required = true, value_name = "TASK", value_parser = agent_name::<TaskId>)]
    pub(crate) tasks: Vec<TaskId>,
    /// Time that the agent has to give up, at most 1h; 10s when absent.
    #[arg(long, value_name = "TIME", value_parser = grace)]
    pub(crate) grace: Option<Duration>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `provost task retry`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RetryArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Ids of tasks.
    #[arg(required = true, value_name = "TASK", value_parser = agent_name::<TaskId>)]
    pub(crate) tasks: Vec<TaskId>,
}

/// `provost task audit`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AuditArguments {
    /// Where the daemon is.
    #[command(flatten)]
    pub(crate) at: Files,
    /// Nothing is under way any more: a task that has not ended is a fault.
    #[arg(long)]
    pub(crate) quiet: bool,
}

fn state(text: &str) -> Result<TaskState, String> {
    let known = TaskState::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| {
        let words: Vec<&str> = TaskState::ALL.into_iter().map(TaskState::as_str).collect();
        format!("use one of {}", words.join(", "))
    })
}
