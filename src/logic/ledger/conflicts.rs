//! What follows when another record stands where one was to be written.

use crate::logic::ledger::machine::Ledger;
use crate::logic::ledger::types::{Foreign, Moment, Step, TaskKey};
use crate::protocol::task::TaskRecord;

impl Ledger {
    /// Another record, or none, stands where a record was to be written.
    ///
    /// # Errors
    ///
    /// [`Foreign`] when the record is nobody's that this ledger knows.
    pub fn conflict(
        &mut self,
        moment: Moment,
        key: TaskKey,
        found: Option<(u64, TaskRecord)>,
    ) -> Result<Vec<Step>, Foreign> {
        let Some(task) = self.tasks.get_mut(&key) else { return Ok(Vec::new()) };
        let Some(writing) = &mut task.writing else { return Ok(Vec::new()) };
        let Some((sequence, record)) = found else {
            // The stream's limits have removed what stood there.
            writing.previous = 0;
            return Ok(vec![Step::Write(key, writing.clone())]);
        };
        if record.record == writing.record {
            return Ok(self.written(moment, key, sequence));
        }
        let never_was = task.held().map(|held| Step::Unassign {
            id: task.id.clone(),
            agent: held.agent.clone(),
            attempt: task.attempt,
        });
        if task.last == 0 && record.state.is_terminal() {
            // The same submission once more: whether its end was told is not known.
            let same = record.submission == task.submission;
            self.remove(key);
            let over = self.part_over(moment, &record);
            let step =
                if same { Step::EndedBefore(key, Box::new(record)) } else { Step::Drop(key) };
            return Ok(never_was.into_iter().chain([step]).chain(over).collect());
        }
        if record.submission == task.submission && record.previous == task.last && task.last == 0 {
            // It was written before this ledger began, and seen by nobody since.
            self.release(key);
            let steps = self.restore(moment, key, sequence, record);
            return Ok(never_was.into_iter().chain(steps).collect());
        }
        Err(Foreign { id: task.id.clone(), sequence })
    }
}
