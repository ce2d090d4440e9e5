//! Tasks over one connection: submitting, and reading logs, results and dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use serde_json::Value;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::protocol::event::Envelope;
use crate::protocol::fact::Fact;
use crate::protocol::id::{SubjectId, TaskId, TaskType};
use crate::protocol::subject::Subject;
use crate::protocol::task::{RETRY_OF_HEADER, SUBMITTER_HEADER, TaskRecord, TaskRequest};
use crate::protocol::task_fact::{DeadLettered, TaskResulted};
use crate::transport::connect::{CallError, Connection};
use crate::transport::tasks::journal::last_on;
use crate::transport::tasks::reader::{self, Found, Which};
use crate::transport::tasks::{DEAD_LETTERS, TASK_LOG, TASKS};

/// Waiting submissions that are looked at, at most.
const WAITING_MAX: usize = 1_000;

/// The way to tasks.
#[derive(Debug)]
pub(crate) struct TaskClient {
    connection: Connection,
    context: Context,
}

/// A result event, and what it tells.
#[derive(Clone, Debug)]
pub(crate) struct ResultSeen {
    /// The event as it came.
    pub(crate) document: Value,
    /// What it tells.
    pub(crate) data: TaskResulted,
}

/// A submission that no record stands for yet.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// The task.
    pub(crate) id: TaskId,
    /// Its type.
    pub(crate) task_type: TaskType,
    /// Sequence of the submission.
    pub(crate) sequence: u64,
}

impl TaskClient {
    /// Works on a connection.
    pub(crate) fn new(connection: Connection) -> Self {
        let context = connection.jetstream();
        Self { connection, context }
    }

    /// The connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Submits a task. Tells whether its id was known already.
    ///
    /// # Errors
    ///
    /// The submission was not stored; the failure says why.
    pub(crate) async fn submit(
        &self,
        (task_type, id): (&TaskType, &TaskId),
        request: &TaskRequest,
        headers: &[(&'static str, String)],
    ) -> Result<bool, Failure> {
        let payload = serde_json::to_vec(request).unwrap_or_default();
        TaskRequest::parse(&payload).map_err(|fault| {
            Failure::new(Fault::Usage, fault.to_string(), "correct the input or the options")
        })?;
        let mut message = PublishMessage::build().payload(payload.into()).message_id(id.as_str());
        for (name, value) in headers {
            message = message.header(*name, value.as_str());
        }
        let subject = Subject::Tasks(SubjectId::from(task_type)).under(self.connection.prefix());
        let sent = async { self.context.send_publish(subject, message).await?.await };
        match sent.await {
            Ok(stored) => Ok(stored.duplicate),
            Err(error) => Err(self.not_stored(&error)),
        }
    }

    fn not_stored(&self, error: &async_nats::jetstream::context::PublishError) -> Failure {
        let url = self.connection.url();
        match error.kind() {
            PublishErrorKind::StreamNotFound => {
                let message = format!("no stream takes tasks at {url}");
                let next = "switch coordination on: enabled = true under [coordination], or \
                            ENABLE_COORDINATION=true";
                refused(message, next)
            }
            PublishErrorKind::TimedOut => {
                let message = format!("the submission was not acknowledged at {url}");
                let next = "submit it again with the same --id: the same id is the same task";
                Failure::new(Fault::TimedOut, message, next).caused_by(error)
            }
            PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::WrongLastSequence
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::MaxAckPending
            | PublishErrorKind::MaxPayloadExceeded
            | PublishErrorKind::Other => {
                let next = "if the stream is full, wait for tasks to end, or raise \
                            nats.streams.TASKS.max_bytes";
                refused("the task was not taken", next).caused_by(error)
            }
        }
    }

    /// The records of a task, oldest first.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub(crate) async fn records(&self, id: &TaskId) -> Result<Vec<(u64, TaskRecord)>, Failure> {
        let subject = Subject::TaskLog(SubjectId::from(id)).to_string();
        let mut records = Vec::new();
        self.each(TASK_LOG, &subject, Which::All, |found| {
            records.extend(record_of(&found).map(|record| (found.sequence, record)));
        })
        .await?;
        Ok(records)
    }

    /// The last record of every task.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub(crate) async fn last_records(&self) -> Result<BTreeMap<TaskId, TaskRecord>, Failure> {
        let mut last = BTreeMap::new();
        self.each(TASK_LOG, "coordination.log.*", Which::Last, |found| {
            last.extend(record_of(&found).map(|record| (record.task_id.clone(), record)));
        })
        .await?;
        Ok(last)
    }

    /// Gives every stored message of a stream to `see`.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub(crate) async fn each(
        &self,
        stream: &str,
        pattern: &str,
        which: Which,
        see: impl FnMut(Found),
    ) -> Result<(), Failure> {
        let prefix = self.connection.prefix();
        let (name, pattern) = (prefix.stream_name(stream), prefix.apply(pattern));
        let read = reader::each(&self.context, (&name, &pattern), which, see).await;
        read.map_err(|said| self.unreadable(&name, said))
    }

    fn unreadable(&self, stream: &str, said: String) -> Failure {
        let message = format!("stream {stream} at {} cannot be read", self.connection.url());
        let next = "switch coordination on, or check the permissions of our NATS user";
        Failure::new(Fault::NotStored, message, next).because(said)
    }

    /// The result of a task, if it has ended.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) async fn result(&self, id: &TaskId) -> Result<Option<ResultSeen>, Failure> {
        let prefix = self.connection.prefix();
        let stream = prefix.stream_name(TASK_LOG);
        let subject = Subject::TaskResults(SubjectId::from(id)).under(prefix);
        let last = last_on(&self.context, &stream, &subject).await;
        let found = last.map_err(|said| self.unreadable(&stream, said))?;
        Ok(found.and_then(|(_, payload)| ResultSeen::read(&payload)))
    }

    /// Submissions without a record, oldest first.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub(crate) async fn waiting(&self) -> Result<Vec<Waiting>, Failure> {
        let prefix = self.connection.prefix();
        let name = prefix.stream_name(TASKS);
        let stream = self.context.get_stream_no_info(&name).await;
        let stream = stream.map_err(|error| self.unreadable(&name, error.to_string()))?;
        let pattern = prefix.apply("coordination.tasks.>");
        let mut waiting = Vec::new();
        let mut from = 1;
        // The stream belongs to one consumer; so they are looked at one by one.
        while waiting.len() < WAITING_MAX {
            let next = stream.raw_message_builder().sequence(from).next_by_subject(&pattern);
            let Ok(message) = next.send().await else { break };
            from = message.sequence.saturating_add(1);
            let subject = prefix.strip(message.subject.as_str()).and_then(Subject::parse);
            let Some(Subject::Tasks(kind)) = subject else { continue };
            let Ok(task_type) = kind.as_str().parse() else { continue };
            let given = message.headers.get("Nats-Msg-Id").and_then(|id| id.as_str().parse().ok());
            let sequence = message.sequence;
            let id = given.unwrap_or_else(|| TaskId::of_submission(sequence));
            waiting.push(Waiting { id, task_type, sequence });
        }
        Ok(waiting)
    }

    /// The dead letter of a task, if it has one.
    ///
    /// # Errors
    ///
    /// Dead letters cannot be read.
    pub(crate) async fn dead_letters(
        &self,
        ids: &[TaskId],
    ) -> Result<BTreeMap<TaskId, DeadLettered>, Failure> {
        let mut found = BTreeMap::new();
        self.each(DEAD_LETTERS, "dlq.*", Which::All, |message| {
            let Ok(event) = serde_json::from_slice::<Envelope>(&message.payload) else { return };
            let Ok(Some(Fact::DeadLetter(dead))) = Fact::read(&event.event_type, &event.data)
            else {
                return;
            };
            let of = ids.iter().find(|id| id.as_str() == dead.original.id);
            found.extend(of.map(|id| (id.clone(), *dead)));
        })
        .await?;
        Ok(found)
    }

    /// Asks for the end of a task.
    ///
    /// # Errors
    ///
    /// Nobody answers.
    pub(crate) async fn cancel(
        &self,
        id: &TaskId,
        request: &Value,
        wait: Duration,
    ) -> Result<Value, Failure> {
        let subject = Subject::TaskCancel(SubjectId::from(id)).under(self.connection.prefix());
        let payload = request.to_string().into();
        let answer = self.connection.request(&subject, payload, wait).await;
        let message = answer.map_err(|error| match error {
            CallError::NoResponders { .. } => {
                let message = format!("no coordinator answers at {}", self.connection.url());
                let next = "provost status shows whether coordination is on";
                Failure::new(Fault::DaemonUnreachable, message, next)
            }
            CallError::TimedOut { .. } => {
                let message = format!("no answer within {wait:?}");
                Failure::new(Fault::TimedOut, message, "provost task show tells what became of it")
            }
            CallError::TooLarge { .. }
            | CallError::BadSubject { .. }
            | CallError::Closed { .. } => {
                Failure::new(Fault::NatsUnreachable, "the request was not sent", "try again")
                    .caused_by(&error)
            }
        })?;
        serde_json::from_slice(&message.payload).map_err(|error| {
            let next = "check that daemon and command line have the same version";
            Failure::new(Fault::BadAnswer, "the answer cannot be read", next).caused_by(&error)
        })
    }
}

impl ResultSeen {
    /// Reads a result event.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(payload).ok()?;
        let data = serde_json::from_value(document.get("data")?.clone()).ok()?;
        Some(Self { document, data })
    }
}

/// The headers that a submission may carry.
pub(crate) fn headers(
    submitter: Option<&String>,
    retry_of: Option<&TaskId>,
) -> Vec<(&'static str, String)> {
    let submitter = submitter.map(|name| (SUBMITTER_HEADER, name.clone()));
    let retry_of = retry_of.map(|id| (RETRY_OF_HEADER, id.to_string()));
    submitter.into_iter().chain(retry_of).collect()
}

/// A refusal: nothing was done, and asking again helps only when something has changed.
pub(crate) fn refused(message: impl Into<String>, next: impl Into<String>) -> Failure {
    Failure { exit: Exit::Refused, ..Failure::new(Fault::NotStored, message, next) }
}

/// No such task.
pub(crate) fn unknown(id: &TaskId) -> Failure {
    let failure = Failure::new(
        Fault::NotStored,
        format!("no task {id} is known"),
        "provost task list shows the tasks there are",
    );
    Failure { exit: Exit::NoSuchId, ..failure }
}

/// A log record out of a message.
pub(crate) fn record_of(found: &Found) -> Option<TaskRecord> {
    serde_json::from_slice(&found.payload).ok()
}
