//! The messages that the coordinator publishes: log records, result events, dead letters, events
//! about attempts.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::protocol::agent::TaskError;
use crate::protocol::event::{Envelope, SPEC_VERSION};
use crate::protocol::fact::{Fact, Severity};
use crate::protocol::id::{EventId, NodeName, SubjectId, TaskId};
use crate::protocol::subject::{Subject, SubjectPrefix};
use crate::protocol::task::{TaskRecord, TaskState};
use crate::protocol::task_fact::{DeadLettered, DeadOriginal, TaskNoted, TaskResulted};
use crate::transport::tasks::journal::Entry;
use crate::transport::tasks::{DEAD_LETTERS, TASK_LOG};

/// Longest text of a dead letter's body that is no JSON, or too long, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Room for everything in a dead letter besides its body, in bytes.
const ROOM: usize = 8 * 1024;

/// Makes messages under one prefix, for one node.
#[derive(Clone, Debug)]
pub struct Writer {
    prefix: SubjectPrefix,
    node: NodeName,
}

/// What was submitted, as a dead letter tells it.
#[derive(Clone, Debug)]
pub struct Original<'a> {
    /// Subject without prefix.
    pub subject: String,
    /// The body.
    pub payload: &'a [u8],
}

impl Writer {
    /// Makes messages of this node.
    #[must_use]
    pub fn new(prefix: SubjectPrefix, node: NodeName) -> Self {
        Self { prefix, node }
    }

    /// A log record, to be stored behind the one that it names.
    #[must_use]
    pub fn record(&self, record: &TaskRecord) -> Entry {
        Entry {
            subject: Subject::TaskLog(SubjectId::from(&record.task_id)).under(&self.prefix),
            stream: self.prefix.stream_name(TASK_LOG),
            expected: Some(record.previous),
            message_id: None,
            payload: serde_json::to_vec(record).unwrap_or_default().into(),
        }
    }

    /// The result event of a terminal record: always the same for the same record.
    #[must_use]
    pub fn result(&self, record: &TaskRecord) -> Option<Entry> {
        let id = record.event?;
        let severity = match record.state {
            TaskState::Failed | TaskState::Rejected => Severity::Medium,
            TaskState::Expired => Severity::Low,
            TaskState::Accepted
            | TaskState::Assigned
            | TaskState::Working
            | TaskState::InputRequired
            | TaskState::Completed
            | TaskState::Cancelled => Severity::Info,
        };
        let fact = Fact::TaskResult(Box::new(TaskResulted {
            task_type: record.task_type.clone(),
            state: record.state,
            result: record.result.clone(),
            error: record.error.clone(),
            agent_id: record.agent_id.clone(),
            attempt: record.attempt,
        }));
        let about = SubjectId::from(&record.task_id);
        let envelope = self.envelope((id, record.time), about.clone(), (severity, &fact));
        Some(Entry {
            subject: Subject::TaskResults(about).under(&self.prefix),
            stream: self.prefix.stream_name(TASK_LOG),
            expected: Some(0),
            message_id: Some(id.to_string()),
            payload: written(&Envelope {
                causationid: Some(record.record.into()),
                correlationid: record.task_id.as_str().parse().ok(),
                ..envelope
            }),
        })
    }

    /// The dead letter of a terminal record, if it is to have one.
    #[must_use]
    pub fn dead_letter(
        &self,
        record: &TaskRecord,
        original: &Original<'_>,
        payload_max: usize,
    ) -> Option<Entry> {
        let id = record.dead_letter?;
        let error = record.error.clone().unwrap_or_else(|| TaskError {
            code: record.state.as_str().to_owned(),
            message: String::new(),
            retry: false,
            after_ms: None,
        });
        let original = dead_original(&record.task_id, original, payload_max);
        let retry_count = record.failures;
        let fact = Fact::DeadLetter(Box::new(DeadLettered { original, error, retry_count }));
        let about = SubjectId::from(&record.task_type);
        let severity = Severity::Medium;
        let envelope = self.envelope((id, record.time), about.clone(), (severity, &fact));
        Some(Entry {
            subject: Subject::DeadLetters(about).under(&self.prefix),
            stream: self.prefix.stream_name(DEAD_LETTERS),
            expected: None,
            message_id: Some(id.to_string()),
            payload: written(&Envelope {
                causationid: Some(SubjectId::from(&record.task_id)),
                ..envelope
            }),
        })
    }

    /// An event about an attempt: its subject and document.
    #[must_use]
    pub fn noted(
        &self,
        (id, time): (EventId, Timestamp),
        fact: impl Fn(Box<TaskNoted>) -> Fact,
        noted: TaskNoted,
    ) -> (String, Bytes) {
        let about = SubjectId::from(&noted.task_id);
        let fact = fact(Box::new(noted));
        let severity = if matches!(fact, Fact::AgentSick(_)) {
            Severity::Medium
        } else if matches!(fact, Fact::TaskRequeued(_) | Fact::LateResult(_)) {
            Severity::Low
        } else {
            Severity::Info
        };
        let envelope = self.envelope((id, time), about, (severity, &fact));
        (Subject::CoordinationEvents.under(&self.prefix), written(&envelope))
    }

    fn envelope(
        &self,
        (id, time): (EventId, Timestamp),
        about: SubjectId,
        (severity, fact): (Severity, &Fact),
    ) -> Envelope {
        Envelope {
            specversion: SPEC_VERSION.to_owned(),
            id,
            source: format!("provost://{}/coordinator/coordinator", self.node),
            event_type: fact.type_name().to_owned(),
            subject: about,
            time,
            datacontenttype: "application/json".to_owned(),
            severity,
            category: fact.category(),
            coordinationtype: Some("task".to_owned()),
            userid: None,
            sessionid: None,
            requestid: None,
            environment: None,
            region: None,
            correlationid: None,
            causationid: None,
            traceparent: None,
            generation: None,
            data: serde_json::to_value(fact).unwrap_or_default(),
        }
    }
}

fn written(envelope: &Envelope) -> Bytes {
    // Text, numbers and JSON values can always be written.
    serde_json::to_vec(envelope).unwrap_or_default().into()
}

/// The original as far as it fits into one message.
fn dead_original(id: &TaskId, original: &Original<'_>, payload_max: usize) -> DeadOriginal {
    let bytes = original.payload.len();
    let fits = bytes < payload_max.saturating_sub(ROOM);
    let body: Option<Value> = fits.then(|| serde_json::from_slice(original.payload).ok()).flatten();
    let text = body.is_none().then(|| {
        let start = original.payload.get(..TEXT_BYTES_MAX).unwrap_or(original.payload);
        String::from_utf8_lossy(start).into_owned()
    });
    DeadOriginal {
        subject: original.subject.clone(),
        id: id.to_string(),
        body,
        text,
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
    }
}
