//! Broadcasts: their parts begin, end, and are put together.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::logic::gather::{Decision, Ending, Gather, GatherFault, Part};
use crate::logic::ledger::machine::Ledger;
use crate::logic::ledger::records::Draft;
use crate::logic::ledger::task::{Happened, Phase, Task};
use crate::logic::ledger::types::{Again, CANCEL_GRACE, Moment, Step, TaskKey, fault};
use crate::protocol::agent::TaskError;
use crate::protocol::decision::DecisionRecord;
use crate::protocol::id::{AgentId, TaskId};
use crate::protocol::route::Completion;
use crate::protocol::task::{TaskRecord, TaskState};

/// Keys of parts begin here; no stream counts so far.
const PARTS_FROM: u64 = 1 << 63;

impl Ledger {
    /// Gives a broadcast that is ready to all that take part. Nothing happens when it is not ready.
    ///
    /// # Errors
    ///
    /// [`GatherFault`] when those that take part are not enough or too many: it stays ready.
    pub fn broadcast(
        &mut self,
        moment: Moment,
        key: TaskKey,
        (members, decision): (Vec<AgentId>, DecisionRecord),
    ) -> Result<Vec<Step>, GatherFault> {
        let mut out = Vec::new();
        let Some(task) = self.tasks.get_mut(&key) else { return Ok(out) };
        let Some(ticket) = task.ticket(key).filter(|_| task.writing.is_none()) else {
            return Ok(out);
        };
        let gather = Gather::new(task.completion, members, task.deadline)?;
        self.queue.serve(&ticket);
        task.attempt = task.attempt.saturating_add(1);
        (task.last_agent, task.last_token) = (None, None);
        task.parts = (1_u32..)
            .zip(gather.parts().keys())
            .filter_map(|(number, agent)| Some((agent.clone(), part_id(task, number)?)))
            .collect();
        task.phase = Phase::Gathering(Box::new(gather));
        self.gathering.insert(key);
        self.write(moment, key, Draft::by(TaskState::Assigned, decision), &mut out);
        Ok(out)
    }

    /// How many must complete their part of a broadcast: all, one, so many.
    #[must_use]
    pub fn completion_of(&self, key: TaskKey) -> Completion {
        self.tasks.get(&key).map_or(Completion::default(), |task| task.completion)
    }

    /// Whether the parts of a broadcast are under way.
    #[must_use]
    pub fn is_gathering(&self, key: TaskKey) -> bool {
        self.gathering.contains(&key)
    }

    /// A key for a part.
    pub fn part_key(&mut self) -> TaskKey {
        self.parts_begun = self.parts_begun.saturating_add(1);
        TaskKey(PARTS_FROM | self.parts_begun)
    }

    /// Agents whose parts are under way, with the broadcasts.
    pub fn awaited(&self) -> impl Iterator<Item = (TaskKey, &AgentId)> {
        self.gathering.iter().flat_map(|key| {
            let parts = match self.tasks.get(key).map(|task| &task.phase) {
                Some(Phase::Gathering(gather)) => Some(gather.parts()),
                _ => None,
            };
            let waiting = parts.into_iter().flatten().filter(|(_, part)| **part == Part::Waiting);
            waiting.map(|(agent, _)| (*key, agent))
        })
    }

    /// An agent that takes part in a broadcast is gone for good.
    pub fn member_lost(&mut self, moment: Moment, key: TaskKey, agent: &AgentId) -> Vec<Step> {
        let mut out = Vec::new();
        let Some(task) = self.tasks.get_mut(&key) else { return out };
        let Phase::Gathering(gather) = &mut task.phase else { return out };
        let part = task.parts.get(agent).cloned();
        let decision = gather.on_lost(agent);
        self.gathered(moment, key, decision, &mut out);
        if let Some(part) = part.and_then(|part| self.key_of(&part)) {
            let reason = format!("agent {agent} is gone");
            let cancel = Happened::Cancel { grace: CANCEL_GRACE, reason };
            out.extend(self.happened(moment, part, cancel));
        }
        self.retime(key);
        out
    }

    /// A task has ended: if it is a part, its broadcast hears of it.
    pub fn part_over(&mut self, moment: Moment, record: &TaskRecord) -> Vec<Step> {
        let parent = record.part_of.as_ref().and_then(|parent| self.key_of(parent));
        let Some(parent) = parent else { return Vec::new() };
        let end = match (record.state, &record.result) {
            (TaskState::Completed, result) => Ok(result.clone().unwrap_or_default()),
            (state, _) => Err(record.error.clone().unwrap_or_else(|| {
                fault(state.as_str(), "it ended so".to_owned(), Again::CannotHelp)
            })),
        };
        self.happened(moment, parent, Happened::Part { id: record.task_id.clone(), end })
    }

    pub(super) fn part_ended(
        &mut self,
        moment: Moment,
        key: TaskKey,
        (id, end): (&TaskId, Result<Value, TaskError>),
        out: &mut Vec<Step>,
    ) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let Phase::Gathering(gather) = &mut task.phase else { return };
        let agent = task.parts.iter().find(|(_, part)| *part == id).map(|(agent, _)| agent);
        let Some(agent) = agent else { return };
        let decision = match end {
            Ok(result) => gather.on_completed(agent, result),
            Err(error) => gather.on_failed(agent, error),
        };
        self.gathered(moment, key, decision, out);
    }

    /// The deadline of a broadcast is over; tells whether it was one that had begun.
    pub(super) fn gather_over(
        &mut self,
        moment: Moment,
        key: TaskKey,
        out: &mut Vec<Step>,
    ) -> bool {
        let Some(task) = self.tasks.get_mut(&key) else { return false };
        let Phase::Gathering(gather) = &mut task.phase else { return false };
        let decision = gather.on_deadline(moment.now);
        self.gathered(moment, key, decision, out);
        true
    }

    fn gathered(&mut self, moment: Moment, key: TaskKey, decision: Decision, out: &mut Vec<Step>) {
        let Decision::Done { ending, record, .. } = decision else { return };
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let result = task.gathered();
        let state = match ending {
            Ending::Complete => TaskState::Completed,
            Ending::Impossible => {
                let message = "too few of those that take part can complete their part".to_owned();
                task.error = Some(fault("broadcast_failed", message, Again::CannotHelp));
                TaskState::Failed
            }
            Ending::Expired => {
                let message = "the deadline is over, and too few parts are complete".to_owned();
                task.error = Some(fault("expired", message, Again::CannotHelp));
                TaskState::Expired
            }
        };
        self.write(moment, key, Draft { result, ..Draft::by(state, *record) }, out);
        self.end_parts(moment, key, out);
    }

    /// Cancels what is still under way of a broadcast that has ended.
    pub fn cancel_parts(&mut self, moment: Moment, key: TaskKey) -> Vec<Step> {
        let mut out = Vec::new();
        self.end_parts(moment, key, &mut out);
        out
    }

    pub(super) fn end_parts(&mut self, moment: Moment, key: TaskKey, out: &mut Vec<Step>) {
        let parts = self.parts.get(&key).cloned().unwrap_or_default();
        for part in parts {
            let reason = "the broadcast has ended".to_owned();
            let cancel = Happened::Cancel { grace: CANCEL_GRACE, reason };
            out.extend(self.happened(moment, part, cancel));
        }
    }

    /// Goes on with a broadcast whose parts had begun.
    pub(super) fn go_on_gathering(
        &mut self,
        moment: Moment,
        key: TaskKey,
        parts: BTreeMap<AgentId, TaskId>,
    ) -> Vec<Step> {
        let mut out = Vec::new();
        let Some(task) = self.tasks.get_mut(&key) else { return out };
        match Gather::new(task.completion, parts.keys().cloned(), task.deadline) {
            Ok(gather) => {
                task.parts = parts.clone();
                task.phase = Phase::Gathering(Box::new(gather));
                self.gathering.insert(key);
                out.push(Step::Parts(key, parts));
            }
            // It had begun with them, so this never is; begun anew it is not lost.
            Err(_) => task.phase = Phase::Delayed { until: moment.now },
        }
        self.settle(moment, key, &mut out);
        out
    }

    pub(super) fn forget_part(&mut self, key: TaskKey, task: &Task) {
        let Some((parent, _)) = &task.part_of else { return };
        if let Some(parts) = self.parts.get_mut(parent) {
            parts.remove(&key);
            if parts.is_empty() {
                self.parts.remove(parent);
            }
        }
    }
}

impl Task {
    /// What was gathered of a broadcast so far.
    pub(super) fn gathered(&self) -> Option<Value> {
        if let Phase::Gathering(gather) = &self.phase { Some(gather.gathered()) } else { None }
    }
}

/// Names a part for all time: the stream may count from the beginning again, but not at the same
/// moment.
fn part_id(task: &Task, number: u32) -> Option<TaskId> {
    let moment = task.accepted_at.as_millisecond();
    format!("part-{}-{moment}-{number}", task.submission).parse().ok()
}
