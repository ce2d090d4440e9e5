//! One task in one process: argument template, input, output, and what the end means.
//!
//! Input and output are files, so that no size and no dead reader can hold the process up, and
//! standard error goes to the agent's log. The files live in a folder beside the log and are
//! removed when the task is over.
//!
//! Exit codes: 0 completed; 75 failed, and another attempt may help; 64 and 65 rejected; 78, 126
//! and 127 a fault of the configuration; any other, or a signal, failed and tried again by policy.
//! A task may take as long as its lease or its deadline says, whichever is less: a process that
//! says nothing renews no lease. It is then asked to stop, and killed after the agent's grace.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::logic::template;
use crate::protocol::agent::{TaskError, TaskNews, TaskOrder, ToAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::Generation;
use crate::protocol::spec::{ExecInput, ExecOutput, ExecSpec, OnDaemonExit};
use crate::runtimes::keeper::{IoMode, KeeperSlot, ProcessHandle};
use crate::runtimes::process::ProcessSettings;
use crate::runtimes::stdio::sleep_until_some;

/// Time between two looks at the length of the output.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Entries of the environment that, with the agent's, are one task's alone.
const MARKS: [&str; 2] = ["PROVOST_TASK_ID", "PROVOST_TASK_ATTEMPT"];

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskEnd {
    /// It is done.
    Completed {
        /// What came out.
        result: Value,
    },
    /// It failed; whether another attempt may help stands in the error.
    Failed(TaskError),
    /// It can never be done as it is.
    Rejected(TaskError),
    /// The agent's configuration is wrong.
    Misconfigured(TaskError),
    /// It was given up on request.
    Cancelled,
}

impl TaskEnd {
    /// A failure that another agent, or a later attempt, may not meet.
    pub(super) fn refused(message: &str) -> Self {
        Self::Failed(error("refused", message.to_owned(), Retry::MayHelp))
    }

    /// The end as the agent contract tells it.
    #[must_use]
    pub fn into_news(self) -> TaskNews {
        match self {
            Self::Completed { result } => TaskNews::Completed { result, usage: None },
            Self::Failed(error) | Self::Rejected(error) | Self::Misconfigured(error) => {
                TaskNews::Failed { error }
            }
            Self::Cancelled => {
                let message = "given up on request".to_owned();
                TaskNews::Failed { error: error("cancelled", message, Retry::CannotHelp) }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Retry {
    MayHelp,
    CannotHelp,
}

fn error(code: &str, message: String, retry: Retry) -> TaskError {
    let retry = retry == Retry::MayHelp;
    TaskError { code: code.to_owned(), message, retry, after_ms: None }
}

/// Why a process was ended before it ended by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reason {
    Cancelled,
    Overdue { limit: Duration },
    TooLong,
}

/// Works on tasks of one run of an agent.
#[derive(Clone, Debug)]
pub struct TaskRunner {
    keeper: KeeperSlot,
    settings: ProcessSettings,
    generation: Generation,
}

impl TaskRunner {
    /// Works on the keeper of the moment.
    #[must_use]
    pub fn new(keeper: KeeperSlot, settings: ProcessSettings, generation: Generation) -> Self {
        Self { keeper, settings, generation }
    }

    /// Works on one task until it is done, failed, or given up: `cancel` says so by a grace.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process.
    pub async fn run(&self, task: TaskOrder, cancel: watch::Receiver<Option<Duration>>) -> TaskEnd {
        let spec = &self.settings.spec;
        let command = match template::fill(&spec.command, &task.input) {
            Ok(command) => command,
            Err(fault @ template::FillFault::Template(_)) => {
                return TaskEnd::Misconfigured(config_fault(fault.to_string()));
            }
            Err(fault) => {
                let cannot = error("bad_input", fault.to_string(), Retry::CannotHelp);
                return TaskEnd::Rejected(cannot);
            }
        };
        let folder = self.settings.log.file.with_extension("tasks");
        let prepared = {
            let (task, stdin) = (task.clone(), spec.exec.stdin);
            tokio::task::spawn_blocking(move || Files::make(&folder, &task, stdin)).await
        };
        let files = match prepared.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(files) => files,
            Err(fault) => {
                let message = format!("no file for input or output: {fault}");
                return TaskEnd::Failed(error("no_files", message, Retry::MayHelp));
            }
        };
        let mut run = match self.settings.prepared(self.generation).await {
            Ok(run) => run,
            Err(fault) => return not_started(&fault),
        };
        run.command = command;
        // Nobody could go on with the task: it ends with the daemon.
        (run.owner, run.on_daemon_exit) = (None, OnDaemonExit::Stop);
        run.io = IoMode::Files { stdin: files.stdin.clone(), stdout: files.stdout.clone() };
        let marks = [task.id.to_string(), task.attempt.to_string()];
        run.env.extend(MARKS.map(str::to_owned).into_iter().zip(marks));
        run.env.extend(task.trace.clone().map(|trace| ("TRACEPARENT".to_owned(), trace)));
        run.marks.extend(MARKS.map(str::to_owned));
        let started = self.keeper.start(run).await;
        let mut process = match started {
            Ok(process) => process,
            Err(fault) => return not_started(&fault),
        };
        let limit = self.limit(&task);
        let (exit, reason) = self.follow(&mut process, &files, limit, cancel).await;
        let exec = spec.exec.clone();
        let read = tokio::task::spawn_blocking(move || end_of(&exit, reason, &exec, &files));
        read.await.unwrap_or_else(|fault| TaskEnd::refused(&fault.to_string()))
    }

    /// Longest time of the task.
    fn limit(&self, task: &TaskOrder) -> Duration {
        let lease = Some(Duration::from_millis(task.lease_ms));
        let deadline = task.deadline_ms.map(Duration::from_millis);
        let run_time = self.settings.spec.care.limits.run_time;
        [lease, deadline, run_time]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.settings.spec.timeout)
    }

    async fn follow(
        &self,
        process: &mut ProcessHandle,
        files: &Files,
        limit: Duration,
        mut cancel: watch::Receiver<Option<Duration>>,
    ) -> (ChildExit, Option<Reason>) {
        let spec = &self.settings.spec;
        let overdue_at = Instant::now() + limit;
        let mut reason = None;
        let mut kill_at = None;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listening = true;
        loop {
            tokio::select! {
                biased;
                // Cancel safe: the exit is kept.
                exit = process.exited() => return (exit, reason),
                // Cancel safe: the value stays in the channel.
                asked = cancel.wait_for(Option::is_some), if listening => {
                    listening = false;
                    let Ok(grace) = asked.map(|asked| asked.unwrap_or_default()) else { continue };
                    reason.get_or_insert(Reason::Cancelled);
                    process.ask_to_stop();
                    kill_at = Some(Instant::now() + grace);
                }
                // Cancel safe, all: times and lengths stay.
                () = sleep_until_some(kill_at) => {
                    kill_at = None;
                    process.kill();
                }
                () = tokio::time::sleep_until(overdue_at), if reason.is_none() => {
                    reason = Some(Reason::Overdue { limit });
                    process.ask_to_stop();
                    kill_at = Some(Instant::now() + spec.stop.grace);
                }
                _ = looks.tick(), if reason.is_none() => {
                    if files.output_bytes() > spec.exec.max_output_bytes {
                        reason = Some(Reason::TooLong);
                        process.kill();
                    }
                }
            }
        }
    }
}

fn config_fault(message: String) -> TaskError {
    error("configuration_fault", message, Retry::CannotHelp)
}

fn not_started(fault: &StartError) -> TaskEnd {
    match fault {
        StartError::NotFound { .. }
        | StartError::NotExecutable { .. }
        | StartError::BadDirectory { .. }
        | StartError::Failed { .. } => TaskEnd::Misconfigured(config_fault(fault.to_string())),
        StartError::System { .. } | StartError::Timeout { .. } | StartError::Refused { .. } => {
            TaskEnd::Failed(error("not_started", fault.to_string(), Retry::MayHelp))
        }
    }
}

/// Files of one attempt, removed when this is dropped.
#[derive(Debug)]
struct Files {
    stdin: Option<PathBuf>,
    stdout: PathBuf,
}

impl Files {
    fn make(folder: &Path, task: &TaskOrder, input: ExecInput) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let name = format!("{}.{}", task.id, task.attempt);
        let stdin = match input {
            ExecInput::Nothing => None,
            ExecInput::Task => {
                let text = ToAgent::Task(Box::new(task.clone())).line();
                Some(written(&folder.join(format!("{name}.in")), text.as_bytes())?)
            }
            ExecInput::Input => {
                let text = task.input.as_str().map(str::to_owned);
                let text = text.unwrap_or_else(|| task.input.to_string());
                Some(written(&folder.join(format!("{name}.in")), text.as_bytes())?)
            }
        };
        // What an attempt of that name has left is nobody's.
        let stdout = written(&folder.join(format!("{name}.out")), b"")?;
        Ok(Self { stdin, stdout })
    }

    fn output_bytes(&self) -> u64 {
        fs::metadata(&self.stdout).map_or(0, |metadata| metadata.len())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in self.stdin.iter().chain([&self.stdout]) {
            fs::remove_file(path).ok();
        }
    }
}

fn written(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(path.to_owned())
}

/// What the end of a process means for its task.
fn end_of(exit: &ChildExit, reason: Option<Reason>, exec: &ExecSpec, files: &Files) -> TaskEnd {
    let failed = |code: &str, message: String, retry| TaskEnd::Failed(error(code, message, retry));
    let bound = exec.max_output_bytes;
    match reason {
        Some(Reason::Cancelled) => return TaskEnd::Cancelled,
        Some(Reason::Overdue { limit }) => {
            let message = format!("it took longer than {} ms", limit.as_millis());
            return failed("timeout", message, Retry::MayHelp);
        }
        Some(Reason::TooLong) => return too_long(bound),
        None => {}
    }
    let crashed = || failed("process_crash", exit.to_string(), Retry::MayHelp);
    let ChildExit::Exited { code } = exit else { return crashed() };
    match code {
        0 => match output(&files.stdout, bound) {
            Ok(Some(bytes)) => result_in(&bytes, exec),
            Ok(None) => too_long(bound),
            Err(fault) => failed("no_output", fault.to_string(), Retry::MayHelp),
        },
        75 => failed("temporary_failure", exit.to_string(), Retry::MayHelp),
        64 | 65 => TaskEnd::Rejected(error("rejected", exit.to_string(), Retry::CannotHelp)),
        78 | 126 | 127 => TaskEnd::Misconfigured(config_fault(exit.to_string())),
        _ => crashed(),
    }
}

fn too_long(bound: u64) -> TaskEnd {
    let message = format!("output has more than {bound} bytes; raise exec.max_output_bytes");
    TaskEnd::Failed(error("output_too_long", message, Retry::CannotHelp))
}

/// The output; none if it is longer than the bound.
fn output(path: &Path, bound: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bound.saturating_add(1)).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= bound);
    Ok(fits.then_some(bytes))
}

/// Picks the result out of the output.
fn result_in(bytes: &[u8], exec: &ExecSpec) -> TaskEnd {
    let pointer = exec.pointer.as_str();
    let bad = |said: String| TaskEnd::Failed(error("bad_output", said, Retry::CannotHelp));
    let missing = || bad(format!("output has nothing at {pointer:?}"));
    let picked = match exec.stdout {
        ExecOutput::Text => {
            let text = String::from_utf8_lossy(bytes);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            return TaskEnd::Completed { result: Value::String(text.to_owned()) };
        }
        ExecOutput::Json => match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => value.pointer(pointer).cloned(),
            Err(fault) => return bad(format!("output is no JSON: {fault}")),
        },
        ExecOutput::Jsonl => bytes
            .split(|byte| *byte == b'\n')
            .rev()
            .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
            .find_map(|value| value.pointer(pointer).cloned()),
    };
    picked.map_or_else(missing, |result| TaskEnd::Completed { result })
}
