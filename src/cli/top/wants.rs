//! What is asked only because the present screen shows it: downstreams, tasks, dead letters, a log,
//! the life of a task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::downstreams;
use crate::cli::failure::{Failure, Fault};
use crate::cli::nats_client::NatsClient;
use crate::cli::tasks::client::TaskClient;
use crate::cli::tasks::show;
use crate::cli::top::model::Want;
use crate::cli::top::model::picture::{News, Task};
use crate::cli::top::source::{asking, told};
use crate::protocol::command::{AgentCommand, LogsRequest};
use crate::protocol::task::TaskState;
use crate::transport::dead_letters::{DeadLetterError, DeadLetters, Filter};

/// Tasks that are shown, the newest.
const TASKS_MAX: usize = 1_000;

/// Dead letters that are shown, the oldest.
const LETTERS_MAX: usize = 1_000;

/// Lines of a log that are kept.
const LOG_LINES_MAX: usize = 1_000;

/// Lines of a log that are asked for at first.
const LOG_LINES_FIRST: u32 = 200;

/// Longest wait for the answer about a log.
const LOG_WAIT: Duration = Duration::from_secs(5);

/// Time between two questions.
const GAP: Duration = Duration::from_millis(500);

/// Asks for what is wanted.
#[derive(Debug)]
pub(crate) struct Wants {
    client: Arc<NatsClient>,
    news: mpsc::Sender<News>,
    log: Log,
}

/// The log that is followed.
#[derive(Debug, Default)]
struct Log {
    agent: String,
    lines: VecDeque<String>,
    next: Option<u64>,
}

impl Wants {
    /// Asks over this client.
    pub(crate) fn new((client, news): (Arc<NatsClient>, mpsc::Sender<News>)) -> Self {
        Self { client, news, log: Log::default() }
    }

    /// Asks again whenever something else is wanted, something has happened, or time has passed.
    /// Ends when nobody wants anything any more.
    pub(crate) async fn run(
        mut self,
        mut want: watch::Receiver<Want>,
        seen: Arc<Notify>,
    ) -> Failure {
        loop {
            let wanted = want.borrow_and_update().clone();
            let began = Instant::now();
            let asked = tokio::select! {
                asked = self.ask(&wanted) => asked,
                // What was asked for is not wanted any more: it is given up as a whole.
                changed = want.changed() => {
                    if changed.is_err() {
                        return ended();
                    }
                    continue;
                }
            };
            if let Some(news) = asked
                && self.news.send(news).await.is_err()
            {
                return ended();
            }
            tokio::select! {
                // Each of these only says when; nothing is lost with it.
                changed = want.changed() => if changed.is_err() { return ended() },
                () = seen.notified() => sleep_until(began + GAP).await,
                () = sleep(every(&wanted)) => {}
            }
        }
    }

    async fn ask(&mut self, want: &Want) -> Option<News> {
        match want {
            Want::Nothing => None,
            Want::Downstreams => self.downstreams().await,
            Want::Tasks => Some(News::Tasks(self.tasks().await.map_err(|error| told(&error)))),
            Want::Letters => {
                let connection = self.client.connection();
                let found = async {
                    let letters = DeadLetters::open(connection).await?;
                    letters.find(&Filter::default(), LETTERS_MAX).await
                };
                let found: Result<_, DeadLetterError> = found.await;
                let letters = found.map(|found| found.letters);
                Some(News::Letters(letters.map_err(|error| error.to_string())))
            }
            Want::Log(agent) => self.log(agent).await,
            Want::History(id) => {
                let lines = self.history(id).await.map_err(|error| told(&error));
                Some(News::History(id.clone(), lines))
            }
        }
    }

    /// Where they do not answer, the looks tell that the daemon is away.
    async fn downstreams(&self) -> Option<News> {
        let session = asking(&self.client);
        let names = downstreams::names(&session).await.ok()?;
        let statuses = downstreams::statuses(&session, &names).await.ok()?;
        Some(News::Downstreams(statuses))
    }

    async fn tasks(&self) -> Result<Vec<Task>, Failure> {
        let client = TaskClient::new(self.client.connection().clone());
        let last = client.last_records().await?;
        let waiting = client.waiting().await?;
        let waiting =
            waiting.into_iter().filter(|one| !last.contains_key(&one.id)).map(|one| Task {
                id: one.id.to_string(),
                kind: one.task_type.to_string(),
                state: TaskState::Accepted.as_str().to_owned(),
                submission: one.sequence,
                record: None,
            });
        let mut tasks: Vec<Task> = waiting.collect();
        tasks.extend(last.into_iter().map(|(id, mut record)| {
            // Results may be large, and are not shown here.
            record.result = None;
            Task {
                id: id.to_string(),
                kind: record.task_type.to_string(),
                state: record.state.as_str().to_owned(),
                submission: record.submission,
                record: Some(Box::new(record)),
            }
        }));
        tasks.sort_by_key(|task| std::cmp::Reverse(task.submission));
        tasks.truncate(TASKS_MAX);
        Ok(tasks)
    }

    async fn log(&mut self, agent: &str) -> Option<News> {
        if self.log.agent != agent {
            self.log = Log { agent: agent.to_owned(), ..Log::default() };
        }
        let first = self.log.next.is_none();
        let request = LogsRequest {
            agent: agent.to_owned(),
            lines: first.then_some(LOG_LINES_FIRST),
            after: self.log.next,
        };
        let session = asking(&self.client);
        let answer = match session.ask_agent(&AgentCommand::Logs(request), LOG_WAIT).await {
            Ok(answer) => answer,
            Err(failure) => return Some(News::Log(agent.to_owned(), Err(told(&failure)))),
        };
        if let Some(error) = &answer.error {
            return Some(News::Log(agent.to_owned(), Err(told(&error.into()))));
        }
        let found = answer.logs?;
        self.log.next = Some(found.next);
        if found.lines.is_empty() && !first {
            return None;
        }
        if 0 < found.lost_bytes {
            self.log.lines.push_back(format!("… {} bytes were rotated away …", found.lost_bytes));
        }
        self.log.lines.extend(found.lines);
        let too_many = self.log.lines.len().saturating_sub(LOG_LINES_MAX);
        self.log.lines.drain(..too_many);
        Some(News::Log(agent.to_owned(), Ok(self.log.lines.iter().cloned().collect())))
    }

    async fn history(&self, id: &str) -> Result<Vec<String>, Failure> {
        let id = id.parse().map_err(|error: crate::protocol::id::IdError| {
            Failure::new(Fault::Usage, "this is no id of a task", "report this").caused_by(&error)
        })?;
        let client = TaskClient::new(self.client.connection().clone());
        let records = client.records(&id).await?;
        if records.is_empty() {
            return Ok(vec!["accepted: waits for an agent".to_owned()]);
        }
        let zone = TimeZone::system();
        let lines = records.iter().map(|(sequence, record)| show::line(record, *sequence, &zone));
        Ok(lines.collect())
    }
}

/// Time after which it is asked again although nothing is known to have happened: tasks and logs
/// have no events that are listened to.
fn every(want: &Want) -> Duration {
    match want {
        Want::Log(_) => Duration::from_secs(1),
        Want::Tasks | Want::History(_) => Duration::from_secs(2),
        Want::Nothing | Want::Downstreams | Want::Letters => Duration::from_secs(5),
    }
}

fn ended() -> Failure {
    Failure::new(Fault::OutputFailed, "nobody looks any more", "report this")
}
