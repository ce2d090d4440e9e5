//! Holds the log of tasks against what must be true of it.
//!
//! Fed with every record in the order of the log; says what is wrong. Records are facts of the
//! past: nothing here knows the ledger that wrote them, so that one fault is not in both.
//!
//! What is checked:
//! * legality: no step that cannot follow the one before, nothing after an end;
//! * one writer: each record was decided on the record before it (`previous`);
//! * fence: what an agent said counts only under the token of the last assignment;
//! * attempts: they rise by one with each assignment; failures never fall, and stay within bounds;
//! * results: an end has one result event, that of its record, and no result is without an end.

use std::collections::BTreeMap;

use crate::protocol::id::{EventId, TaskId};
use crate::protocol::task::{TaskRecord, TaskState};

/// Violations kept; more are counted.
pub const VIOLATIONS_MAX: usize = 1_000;

/// Something that must not be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The task.
    pub task: TaskId,
    /// Sequence of the record, or of the result.
    pub sequence: u64,
    /// Which rule, as a word.
    pub rule: &'static str,
    /// What is wrong.
    pub said: String,
}

/// What is known of a task so far.
#[derive(Clone, Debug)]
struct Life {
    state: TaskState,
    sequence: u64,
    attempt: u32,
    failures: u32,
    /// Sequence of the last `assigned` record.
    token: Option<u64>,
    event: Option<EventId>,
    results: u32,
}

/// Counts of what was seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Tasks by their last state.
    pub tasks: BTreeMap<&'static str, u64>,
    /// Violations, those that were not kept included.
    pub violations: u64,
}

/// The check, while it goes on.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    lives: BTreeMap<TaskId, Life>,
    records: u64,
    count: u64,
    found: Vec<Violation>,
}

impl Audit {
    /// Takes the next record.
    pub fn record(&mut self, sequence: u64, record: &TaskRecord) {
        self.records = self.records.saturating_add(1);
        let id = record.task_id.clone();
        let before = self.lives.get(&id).cloned();
        let mut wrong: Vec<(&'static str, String)> = Vec::new();
        let last = before.as_ref().map_or(0, |life| life.sequence);
        if record.previous != last {
            let said = format!("decided on record {}, but {last} is the last", record.previous);
            wrong.push(("one_writer", said));
        }
        let from = before.as_ref().map(|life| life.state);
        if !may_follow(from, record.state) {
            let from = from.map_or("nothing", TaskState::as_str);
            wrong.push(("legality", format!("{} after {from}", record.state)));
        }
        let (attempt, failures) =
            before.as_ref().map_or((0, 0), |life| (life.attempt, life.failures));
        let is_assignment = record.state == TaskState::Assigned;
        if record.attempt != attempt.saturating_add(u32::from(is_assignment)) {
            wrong.push(("attempts", format!("attempt {} after {attempt}", record.attempt)));
        }
        if record.failures < failures || record.max_attempts < record.failures {
            let said = format!(
                "{} failures after {failures}, at most {}",
                record.failures, record.max_attempts
            );
            wrong.push(("attempts", said));
        }
        let token = before.as_ref().and_then(|life| life.token);
        let speaks = matches!(
            record.state,
            TaskState::Working | TaskState::InputRequired | TaskState::Completed
        );
        if speaks && record.token != token {
            let said = format!("token {:?}, but {token:?} is the last assignment", record.token);
            wrong.push(("fence", said));
        }
        let life = Life {
            state: record.state,
            sequence,
            attempt: record.attempt,
            failures: record.failures,
            token: if is_assignment { Some(sequence) } else { token },
            event: record.event,
            results: before.map_or(0, |life| life.results),
        };
        self.lives.insert(id.clone(), life);
        for (rule, said) in wrong {
            self.wrong(&id, sequence, rule, said);
        }
    }

    /// Takes a result event, after the record that it belongs to.
    pub fn result(&mut self, sequence: u64, task: &TaskId, event: EventId, state: TaskState) {
        let Some(life) = self.lives.get_mut(task) else {
            let said = "a result without any record".to_owned();
            return self.wrong(task, sequence, "results", said);
        };
        life.results = life.results.saturating_add(1);
        let (ended, same, once) =
            (life.state == state, life.event == Some(event), life.results == 1);
        if !once {
            self.wrong(task, sequence, "results", "a second result".to_owned());
        } else if !ended || !same {
            let said = "the result is not that of the last record".to_owned();
            self.wrong(task, sequence, "results", said);
        }
    }

    /// What was seen. When nothing is under way any more, `quiet`, every task must have ended and
    /// told its result.
    #[must_use]
    pub fn finish(mut self, quiet: Quiet) -> (Tally, Vec<Violation>) {
        let mut tally = Tally { records: self.records, ..Tally::default() };
        for (id, life) in std::mem::take(&mut self.lives) {
            let count = tally.tasks.entry(life.state.as_str()).or_default();
            *count = count.saturating_add(1);
            if quiet == Quiet::No {
                continue;
            }
            if !life.state.is_terminal() {
                let said = format!("it is still {}", life.state);
                self.wrong(&id, life.sequence, "never_ended", said);
            } else if life.results == 0 {
                self.wrong(&id, life.sequence, "results", "no result was told".to_owned());
            }
        }
        tally.violations = self.count;
        (tally, self.found)
    }

    fn wrong(&mut self, task: &TaskId, sequence: u64, rule: &'static str, said: String) {
        self.count = self.count.saturating_add(1);
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push(Violation { task: task.clone(), sequence, rule, said });
        }
    }
}

/// Whether anything may still be under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quiet {
    /// Tasks may be open.
    No,
    /// All must have ended.
    Yes,
}

/// Whether a state may stand behind another; the submission stands for the first `accepted`.
fn may_follow(from: Option<TaskState>, to: TaskState) -> bool {
    use TaskState::{
        Accepted, Assigned, Cancelled, Completed, Expired, Failed, InputRequired, Rejected, Working,
    };
    match from {
        None => matches!(to, Assigned | Cancelled | Expired | Rejected),
        Some(Accepted) => matches!(to, Assigned | Cancelled | Expired),
        Some(Assigned | Working | InputRequired) => match to {
            Accepted | Working | InputRequired => true,
            Completed | Failed | Cancelled | Expired | Rejected => true,
            Assigned => false,
        },
        Some(Completed | Failed | Cancelled | Expired | Rejected) => false,
    }
}
