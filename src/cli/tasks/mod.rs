//! `provost task`: submit tasks, look at them, give them up, hold their log against its rules.
//!
//! Submissions go to the stream and so need no daemon to answer; only `cancel` asks one. What is
//! shown comes from the log of tasks, not from the daemon's memory.

pub(crate) mod arguments;
mod audit;
pub(crate) mod client;
mod show;

use std::io::Read as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::actors::defaults::SystemIds;
use crate::cli::arguments::Common;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::output::{Item, Page};
use crate::cli::tasks::arguments::{
    CancelArguments, OneArguments, RetryArguments, SubmitArguments, TaskVerb,
};
use crate::cli::tasks::client::{ResultSeen, TaskClient, headers, record_of, refused, unknown};
use crate::ports::Ids as _;
use crate::protocol::id::{SubjectId, TaskId};
use crate::protocol::subject::Subject;
use crate::protocol::task::{TaskRecord, TaskRequest, TaskState};
use crate::transport::connect::Connection;
use crate::transport::tasks::reader::Found;

/// Wait for the answer to a cancellation.
const CANCEL_WAIT: Duration = Duration::from_secs(15);

/// How often the stored result is looked at besides waiting for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a task verb works with.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) client: TaskClient,
    pub(crate) console: &'a mut Console,
    pub(crate) common: &'a Common,
}

/// Does a task verb over a connection.
///
/// # Errors
///
/// It was not done, or the output cannot be written.
pub(crate) async fn task(
    connection: Connection,
    console: &mut Console,
    common: &Common,
    verb: TaskVerb,
) -> Result<Exit, Failure> {
    let mut bench = Bench { client: TaskClient::new(connection), console, common };
    match verb {
        TaskVerb::Submit(arguments) => bench.submit(arguments).await,
        TaskVerb::Run(arguments) => bench.run(arguments).await,
        TaskVerb::List(arguments) => bench.list(&arguments).await,
        TaskVerb::Show(arguments) => bench.show(&arguments).await,
        TaskVerb::Watch(arguments) => bench.watch(&arguments).await,
        TaskVerb::Result(arguments) => bench.result(&arguments).await,
        TaskVerb::Cancel(arguments) => bench.cancel(&arguments).await,
        TaskVerb::Retry(arguments) => bench.retry(&arguments).await,
        TaskVerb::Audit(arguments) => bench.audit(&arguments).await,
    }
}

impl Bench<'_> {
    async fn submit(&mut self, arguments: SubmitArguments) -> Result<Exit, Failure> {
        let (id, known) = self.send(&arguments).await?;
        if known {
            self.console.note(&format!("task {id} had been submitted already"));
        }
        let document = json!({ "ok": true, "task_id": id, "duplicate": known });
        Page::single(id.as_str(), document, vec![id.to_string()])
            .print(self.console, self.common.output)?;
        Ok(Exit::Done)
    }

    async fn send(&self, arguments: &SubmitArguments) -> Result<(TaskId, bool), Failure> {
        let id = arguments.id.clone().unwrap_or_else(|| TaskId::from(SystemIds.uuid()));
        let mut request = TaskRequest::new(input(arguments)?);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        request.requirements.required_capabilities = arguments.capability.iter().cloned().collect();
        request.requirements.priority = arguments.priority.into();
        request.participants.clone_from(&arguments.participants);
        request.requirements.condition.clone_from(&arguments.condition);
        request.sticky_key.clone_from(&arguments.sticky_key);
        request.strategy = arguments.strategy;
        request.completion = arguments.completion;
        request.deadline_ms = arguments.deadline.map(millis);
        request.delay_ms = arguments.delay.map(millis);
        request.max_attempts = arguments.max_attempts;
        let headers = headers(arguments.submitter.as_ref(), None);
        let task = (&arguments.task_type, &id);
        let known = self.client.submit(task, &request, &headers).await?;
        Ok((id, known))
    }

    async fn run(&mut self, mut arguments: SubmitArguments) -> Result<Exit, Failure> {
        let id = arguments.id.get_or_insert_with(|| TaskId::from(SystemIds.uuid())).clone();
        let connection = self.client.connection().clone();
        let subject = Subject::TaskResults(SubjectId::from(&id)).under(connection.prefix());
        let subscribing = connection.subscribe_confirmed(&subject).await;
        let mut results = subscribing.map_err(|error| lost(&error.to_string()))?;
        self.send(&arguments).await?;
        let waiting = async {
            loop {
                tokio::select! {
                    // What is missed here is found in the stream.
                    message = results.next() => {
                        let seen = message.and_then(|message| ResultSeen::read(&message.payload));
                        if let Some(seen) = seen {
                            return Ok::<ResultSeen, Failure>(seen);
                        }
                    }
                    () = tokio::time::sleep(LOOK_EVERY) => {
                        if let Some(seen) = self.client.result(&id).await? {
                            return Ok(seen);
                        }
                    }
                }
            }
        };
        let seen = match self.common.timeout {
            None => waiting.await?,
            Some(wait) => tokio::time::timeout(wait, waiting).await.map_err(|_elapsed| {
                let message = format!("task {id} has not ended within {wait:?}");
                let next = format!("it goes on; provost task result {id} tells its end");
                Failure::new(Fault::TimedOut, message, next)
            })??,
        };
        self.print_result(&id, &seen)
    }

    async fn result(&mut self, arguments: &OneArguments) -> Result<Exit, Failure> {
        let id = &arguments.task;
        if let Some(seen) = self.client.result(id).await? {
            return self.print_result(id, &seen);
        }
        match self.client.records(id).await?.pop() {
            Some((_, record)) => {
                let message = format!("task {id} has not ended: it is {}", record.state);
                Err(refused(message, format!("provost task watch {id} waits for it")))
            }
            None if self.waits(id).await? => {
                let message = format!("task {id} has not ended: it waits for an agent");
                Err(refused(message, format!("provost task watch {id} waits for it")))
            }
            None => Err(unknown(id)),
        }
    }

    pub(super) async fn waits(&self, id: &TaskId) -> Result<bool, Failure> {
        Ok(self.client.waiting().await?.iter().any(|waiting| waiting.id == *id))
    }

    fn print_result(&mut self, id: &TaskId, seen: &ResultSeen) -> Result<Exit, Failure> {
        let text = match (&seen.data.result, &seen.data.error) {
            (Some(Value::String(text)), _) => text.clone(),
            (Some(result), _) => result.to_string(),
            (None, Some(error)) => format!("{}: {error}", seen.data.state),
            (None, None) => seen.data.state.to_string(),
        };
        Page::single(id.as_str(), seen.document.clone(), vec![text])
            .print(self.console, self.common.output)?;
        Ok(if seen.data.state == TaskState::Completed { Exit::Done } else { Exit::Bad })
    }

    async fn watch(&mut self, arguments: &OneArguments) -> Result<Exit, Failure> {
        let id = &arguments.task;
        let connection = self.client.connection().clone();
        let subject = Subject::TaskLog(SubjectId::from(id)).under(connection.prefix());
        let subscribing = connection.subscribe_confirmed(&subject).await;
        let mut live = subscribing.map_err(|error| lost(&error.to_string()))?;
        let before = self.client.records(id).await?;
        if before.is_empty() && !self.waits(id).await? {
            return Err(unknown(id));
        }
        let mut last = 0;
        if let Some(exit) = self.all_watched(before.into_iter(), &mut last)? {
            return Ok(exit);
        }
        loop {
            tokio::select! {
                // What is missed here is found in the log.
                Some(message) = live.next() => {
                    let found = Found {
                        subject: message.subject.to_string(),
                        sequence: 0,
                        payload: message.payload,
                    };
                    // A record may come twice: it is told by the log below, in its order.
                    if record_of(&found).is_none() {
                        continue;
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let records = self.client.records(id).await?;
            let seen = last;
            let new = records.into_iter().filter(|(sequence, _)| seen < *sequence);
            if let Some(exit) = self.all_watched(new, &mut last)? {
                return Ok(exit);
            }
            self.console.flush()?;
        }
    }

    async fn cancel(&mut self, arguments: &CancelArguments) -> Result<Exit, Failure> {
        let grace_ms = arguments.grace.map(|grace| u64::try_from(grace.as_millis()).ok());
        let request = json!({ "grace_ms": grace_ms, "reason": arguments.reason });
        let wait = self.common.timeout.unwrap_or(CANCEL_WAIT);
        let mut exits = Vec::new();
        let mut page = Page::default();
        let mut documents = Vec::new();
        for id in &arguments.tasks {
            let answer = self.client.cancel(id, &request, wait).await?;
            if answer.get("ok") == Some(&Value::Bool(true)) {
                let state = answer.get("state").and_then(Value::as_str).unwrap_or("cancelling");
                page.text.push(format!("{id} {state}"));
                exits.push(Exit::Done);
            } else {
                let last = self.client.records(id).await?.pop();
                let (exit, said) = match last {
                    Some((_, record)) => (Exit::Refused, format!("has ended: {}", record.state)),
                    None => (Exit::NoSuchId, "is not known".to_owned()),
                };
                self.console.warn(&format!("task {id} {said}"));
                exits.push(exit);
            }
            page.items.push(Item { name: id.to_string(), value: answer.clone() });
            documents.push(answer);
        }
        page.document = Value::Array(documents);
        page.print(self.console, self.common.output)?;
        Ok(Exit::together(&exits))
    }

    async fn retry(&mut self, arguments: &RetryArguments) -> Result<Exit, Failure> {
        let dead = self.client.dead_letters(&arguments.tasks).await?;
        let mut exits = Vec::new();
        let mut page = Page::default();
        let mut documents = Vec::new();
        for id in &arguments.tasks {
            let letter = dead.get(id);
            let body = letter.and_then(|letter| letter.original.body.clone());
            let task_type = letter.and_then(|letter| letter.original.subject.rsplit('.').next());
            let request = body.and_then(|body| serde_json::from_value::<TaskRequest>(body).ok());
            let (Some(request), Some(Ok(task_type))) = (request, task_type.map(str::parse)) else {
                let said = match letter {
                    Some(_) => "its submission is no task, or was too large to be kept",
                    None => "it is not among the dead letters",
                };
                self.console.warn(&format!("task {id} cannot be tried again: {said}"));
                exits.push(Exit::Refused);
                continue;
            };
            let new = TaskId::from(SystemIds.uuid());
            let headers = headers(None, Some(id));
            self.client.submit((&task_type, &new), &request, &headers).await?;
            let document = json!({ "ok": true, "task_id": new, "retry_of": id });
            page.text.push(format!("{id} submitted again as {new}"));
            page.items.push(Item { name: new.to_string(), value: document.clone() });
            documents.push(document);
            exits.push(Exit::Done);
        }
        page.document = Value::Array(documents);
        page.print(self.console, self.common.output)?;
        Ok(Exit::together(&exits))
    }

    /// Shows records that are new; gives the exit when one of them is the last.
    fn all_watched(
        &mut self,
        records: impl Iterator<Item = (u64, TaskRecord)>,
        last: &mut u64,
    ) -> Result<Option<Exit>, Failure> {
        for (sequence, record) in records {
            *last = sequence;
            let exit = self.watched(&record)?;
            if exit.is_some() {
                return Ok(exit);
            }
        }
        Ok(None)
    }

    /// Shows a record that is new; gives the exit when it is the last.
    fn watched(&mut self, record: &TaskRecord) -> Result<Option<Exit>, Failure> {
        show::print_step(self, record)?;
        let done = record.state.is_terminal();
        let exit = if record.state == TaskState::Completed { Exit::Done } else { Exit::Bad };
        Ok(done.then_some(exit))
    }
}

fn input(arguments: &SubmitArguments) -> Result<Value, Failure> {
    let usage = |message: String, next: &str| Failure::new(Fault::Usage, message, next);
    let text = match (&arguments.input, &arguments.text, &arguments.file) {
        (_, Some(text), _) => return Ok(Value::String(text.clone())),
        (_, _, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
            usage(format!("{} cannot be read", path.display()), "give a file with JSON")
                .caused_by(&error)
        })?,
        (Some(dash), _, _) if dash == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| {
                usage("standard input cannot be read".to_owned(), "give JSON").caused_by(&error)
            })?;
            text
        }
        (Some(text), _, _) => text.clone(),
        (None, None, None) => return Ok(Value::Null),
    };
    serde_json::from_str(&text).map_err(|error| {
        usage(format!("the input is no JSON: {error}"), "for a plain text use --text TEXT")
    })
}

fn lost(said: &str) -> Failure {
    Failure::new(Fault::NatsUnreachable, "results cannot be heard", "try again").because(said)
}
