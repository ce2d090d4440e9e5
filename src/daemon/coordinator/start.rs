//! What the coordinator begins with: the open submissions, and the last record of each of their
//! tasks.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use crate::ports::ServiceError;
use crate::protocol::id::TaskId;
use crate::protocol::subject::Subject;
use crate::protocol::task::TaskRecord;
use crate::transport::tasks::TASK_LOG;
use crate::transport::tasks::feed::{Arrived, Fed};
use crate::transport::tasks::journal::Journal;
use crate::transport::tasks::reader::{self, Which};

/// What is open.
#[derive(Debug)]
pub(super) struct Open {
    /// The open submissions in their order, each with its task's last record.
    pub(super) tasks: Vec<(Box<Arrived>, Option<Stored>)>,
    /// The last records of their parts, where they are broadcasts.
    pub(super) parts: Records,
}

/// Last records of tasks, with their sequences.
pub(super) type Records = BTreeMap<TaskId, Stored>;

/// A record with its sequence.
type Stored = (u64, TaskRecord);

/// Reads what is open.
///
/// # Errors
///
/// The log cannot be read, or holds what no record is.
pub(super) async fn open(
    journal: &Journal,
    submissions: &mut mpsc::Receiver<Fed>,
) -> Result<Open, ServiceError> {
    let mut open: Vec<Box<Arrived>> = Vec::new();
    loop {
        match submissions.recv().await {
            Some(Fed::Arrived(arrived)) => open.push(arrived),
            Some(Fed::CaughtUp) => break,
            None => return Err(ServiceError::new("the feed of submissions has ended")),
        }
    }
    let ids = open.iter().map(|arrived| arrived.id.clone()).collect();
    let mut records = last_records(journal, ids).await?;
    let parts = records.values().flat_map(|(_, record)| record.parts.values().cloned()).collect();
    let parts = last_records(journal, parts).await?;
    let with_record = |arrived: Box<Arrived>| {
        let record = records.remove(&arrived.id);
        (arrived, record)
    };
    Ok(Open { tasks: open.into_iter().map(with_record).collect(), parts })
}

async fn last_records(journal: &Journal, ids: BTreeSet<TaskId>) -> Result<Records, ServiceError> {
    let mut records = Records::new();
    if ids.is_empty() {
        return Ok(records);
    }
    let context = journal.jetstream().await;
    let stream = journal.prefix().stream_name(TASK_LOG);
    let pattern = journal.prefix().apply("coordination.log.*");
    let mut unreadable = None;
    let reading = reader::each(&context, (&stream, &pattern), Which::Last, |found| {
        let subject = journal.prefix().strip(&found.subject).unwrap_or_default();
        let Some(Subject::TaskLog(id)) = Subject::parse(subject) else { return };
        let Ok(id) = id.as_str().parse::<TaskId>() else { return };
        if !ids.contains(&id) {
            return;
        }
        match serde_json::from_slice(&found.payload) {
            Ok(record) => drop(records.insert(id, (found.sequence, record))),
            Err(error) => {
                unreadable = Some(format!("record {} on {subject}: {error}", found.sequence));
            }
        }
    });
    let failed =
        |said: String| ServiceError::new(format!("the log of tasks cannot be read: {said}"));
    reading.await.map_err(failed)?;
    match unreadable {
        Some(said) => Err(failed(said)),
        None => Ok(records),
    }
}
