//! A probe that is a command: run by the keeper like an agent, in the agent's environment and
//! folder, with limits of its own.
//!
//! Its output goes to a file of its own, of which the end is told. It is known by its own marks, so
//! that what it leaves behind is ended with it and the agent is not.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::timeout;

use crate::config::Account;
use crate::logic::health::Outcome;
use crate::protocol::exit::ChildExit;
use crate::protocol::id::Generation;
use crate::protocol::spec::{SignalName, StopSpec};
use crate::runtimes::keeper::{Confines, ProcessRun};
use crate::runtimes::limits::{account_of, confines};
use crate::runtimes::probed::ProbedSettings;
use crate::runtimes::probed::look::Question;

/// Bytes from the end of the output that are read.
const TAIL_BYTES_MAX: u64 = 10 * 1024;

/// Characters of the output that are told.
const TOLD_CHARS_MAX: usize = 300;

/// Size of the output from which its beginning is dropped; looked at once a second.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// Longest wait for a killed command; the keeper needs at most 2 s.
const GONE_MAX: Duration = Duration::from_secs(5);

/// Names the probe in its environment.
const MARK: &str = "PROVOST_PROBE";

/// Runs the command once; exit code 0 is success.
pub(super) async fn run(
    settings: &ProbedSettings,
    command: &[String],
    limit: Duration,
    question: Question,
) -> Outcome {
    let Ok(_turn) = settings.commands.acquire().await else {
        return Outcome::Unknown { message: "the daemon ends".to_owned() };
    };
    let file = output_file(settings, question);
    // An earlier answer is not this one's.
    if let Err(error) = tokio::fs::remove_file(&file).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Outcome::Unknown { message: format!("{}: {error}", file.display()) };
    }
    let account = match account_of(settings.agent()).await {
        Ok(account) => account,
        Err(error) => return Outcome::Unknown { message: error.to_string() },
    };
    let mut run = ProcessRun::new(command.to_vec(), file.clone());
    confine(&mut run, settings, question, account.as_ref());
    let mut handle = match settings.keeper.start(run).await {
        Ok(handle) => handle,
        Err(error) => return could_not_start(&error),
    };
    // Cancel safe: dropping the handle kills the command and all that it started.
    let exit = match timeout(limit, handle.exited()).await {
        Ok(exit) => exit,
        Err(_elapsed) => {
            handle.kill();
            // Commands that cannot be ended must not pile up: the next one waits for this.
            timeout(GONE_MAX, handle.exited()).await.ok();
            let message = format!("took longer than {} s", limit.as_secs_f64());
            return failure(&file, message).await;
        }
    };
    if exit == (ChildExit::Exited { code: 0 }) {
        return Outcome::Success { took: None };
    }
    if let ChildExit::Lost { message } = exit {
        // The keeper was lost, and the command with it.
        return Outcome::Unknown { message };
    }
    failure(&file, exit.to_string()).await
}

/// A command that does not exist fails; a machine that cannot start one says nothing of the run.
fn could_not_start(error: &crate::protocol::exit::StartError) -> Outcome {
    use crate::protocol::exit::StartError as E;
    let message = error.to_string();
    match error {
        E::NotFound { .. } | E::NotExecutable { .. } | E::BadDirectory { .. } => {
            Outcome::Failure { took: None, message }
        }
        E::System { .. } | E::Timeout { .. } | E::Failed { .. } | E::Refused { .. } => {
            Outcome::Unknown { message }
        }
    }
}

fn output_file(settings: &ProbedSettings, question: Question) -> std::path::PathBuf {
    let name = format!("{}.{}.out", settings.agent().name, question.role);
    settings.state_dir.join("probes").join(name)
}

/// Makes the run one of the agent's: environment, folder, user, limits; and yet one of its own.
fn confine(
    run: &mut ProcessRun,
    settings: &ProbedSettings,
    question: Question,
    account: Option<&Account>,
) {
    let agent = settings.agent();
    let none = Generation(0);
    run.env = settings.process.environment(none, account);
    // With it the probe would count as a part of the agent's run.
    run.env.remove("PROVOST_GENERATION");
    run.env.insert(MARK.to_owned(), format!("{}-{}", question.role, question.number));
    run.cwd.clone_from(&agent.cwd);
    run.log.max_bytes = OUTPUT_BYTES_MAX;
    run.log.keep = 0;
    run.stop = StopSpec { signal: SignalName::Kill, grace: Duration::ZERO };
    run.marks = vec![MARK.to_owned(), "PROVOST_AGENT_ID".to_owned()];
    let name = format!("{}.{}-probe", agent.name, question.role);
    run.confines = Confines { name, ..confines(agent, none, account) };
}

async fn failure(file: &Path, what: String) -> Outcome {
    let told = tail(file).await.unwrap_or_default();
    let message = if told.is_empty() { what } else { format!("{what}: {told}") };
    Outcome::Failure { took: None, message }
}

/// The end of what the command wrote, in one line.
async fn tail(file: &Path) -> std::io::Result<String> {
    let mut file = tokio::fs::File::open(file).await?;
    let length = file.metadata().await?.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX))).await?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    let text: String = text.trim().chars().map(shown).collect();
    let surplus = text.chars().count().saturating_sub(TOLD_CHARS_MAX);
    Ok(text.chars().skip(surplus).collect())
}
