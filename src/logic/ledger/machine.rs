//! The ledger itself: its tasks, its timers, and the steps of a task from the submission to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::logic::ledger::agents::Agents;
use crate::logic::ledger::limits::Limits;
use crate::logic::ledger::queue::Queue;
use crate::logic::ledger::records::{Draft, millis, noted};
use crate::logic::ledger::task::{Happened, Held, Phase, Task};
use crate::logic::ledger::types::{
    Accepted, Again, Assignment, Cancelling, Candidate, INBOX_MAX, Moment, Needs, Policies, Step,
    Submission, TaskKey, Told, fault,
};
use crate::protocol::decision::{Inputs, Reason};
use crate::protocol::id::{AgentId, TaskId};
use crate::protocol::task::{TaskRecord, TaskRequest, TaskState};

/// All tasks that have not ended. See the page of [`crate::logic::ledger`].
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) policies: Policies,
    pub(super) tasks: BTreeMap<TaskKey, Task>,
    pub(super) ids: BTreeMap<TaskId, TaskKey>,
    pub(super) by_agent: BTreeMap<AgentId, BTreeSet<TaskKey>>,
    pub(super) queue: Queue,
    pub(super) limits: Limits,
    pub(super) agents: Agents,
    pub(super) timers: BTreeSet<(Instant, TaskKey)>,
    /// Broadcasts whose parts are under way.
    pub(super) gathering: BTreeSet<TaskKey>,
    /// Parts that have not ended, by their broadcast.
    pub(super) parts: BTreeMap<TaskKey, BTreeSet<TaskKey>>,
    pub(super) parts_begun: u64,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(policies: Policies) -> Self {
        let queue = Queue::new(policies.starve_after);
        Self {
            policies,
            tasks: BTreeMap::new(),
            ids: BTreeMap::new(),
            by_agent: BTreeMap::new(),
            queue,
            limits: Limits::default(),
            agents: Agents::default(),
            timers: BTreeSet::new(),
            gathering: BTreeSet::new(),
            parts: BTreeMap::new(),
            parts_begun: 0,
        }
    }

    /// Takes a submission that was stored `age` ago.
    pub fn accept(
        &mut self,
        moment: Moment,
        submission: Submission,
        request: &TaskRequest,
        age: Duration,
    ) -> Accepted {
        if let Some(present) = self.ids.get(&submission.id) {
            let same = *present == submission.key;
            return if same { Accepted::Known } else { Accepted::Duplicate(*present) };
        }
        let policy = self.policies.of(&submission.task_type);
        let millis = Duration::from_millis;
        let stored = moment.now.checked_sub(age).unwrap_or(moment.now);
        let until = stored.checked_add(millis(request.delay_ms.unwrap_or_default()));
        let deadline = request.deadline_ms.map(millis).or(policy.deadline);
        let needs = Needs::of(&submission.task_type, request, policy.strategy);
        let task = Task {
            needs: Arc::new(needs),
            priority: request.requirements.priority,
            deadline: deadline.and_then(|deadline| stored.checked_add(deadline)),
            lease: request.lease_ms.map(millis).or(policy.lease),
            max_attempts: request.max_attempts.unwrap_or(policy.max_attempts).max(1),
            completion: request.completion.unwrap_or_default(),
            phase: Phase::Delayed { until: until.unwrap_or(stored) },
            ..Task::empty(&submission)
        };
        Accepted::Taken(self.enter(moment, submission.key, task))
    }

    /// Takes a message that is no submission, to be recorded as rejected.
    pub fn reject(&mut self, moment: Moment, submission: &Submission, said: String) -> Accepted {
        if let Some(present) = self.ids.get(&submission.id) {
            let same = *present == submission.key;
            return if same { Accepted::Known } else { Accepted::Duplicate(*present) };
        }
        let (key, mut out) = (submission.key, Vec::new());
        let error = fault("bad_submission", said, Again::CannotHelp);
        let task = Task { error: Some(error), ..Task::empty(submission) };
        self.insert(key, task);
        let draft = Draft::of(TaskState::Rejected, Reason::BadSubmission, Inputs::default());
        self.write(moment, key, draft, &mut out);
        Accepted::Taken(out)
    }

    /// Goes on from the last record of a task that was just taken. To be called before any other
    /// step with it.
    pub fn restore(
        &mut self,
        moment: Moment,
        key: TaskKey,
        sequence: u64,
        record: TaskRecord,
    ) -> Vec<Step> {
        let mut out = Vec::new();
        if record.state.is_terminal() {
            self.remove(key);
            let over = self.part_over(moment, &record);
            out.push(Step::Ended(key, Box::new(record)));
            out.extend(over);
            return out;
        }
        self.unqueue(key);
        let Some(task) = self.tasks.get_mut(&key) else { return out };
        task.writing = None;
        task.last = sequence;
        (task.attempt, task.failures) = (record.attempt, record.failures);
        task.max_attempts = record.max_attempts.max(1);
        task.blamed = record.blamed;
        task.error = record.error;
        let is_assigned = record.state == TaskState::Assigned;
        task.last_token = if is_assigned { Some(sequence) } else { record.token };
        task.last_agent = record.agent_id.clone();
        if !record.parts.is_empty() {
            return self.go_on_gathering(moment, key, record.parts);
        }
        match record.agent_id.filter(|_| record.state.is_held()) {
            Some(agent) => {
                let lease = Duration::from_millis(record.lease_ms.unwrap_or(300_000));
                let waits = record.state == TaskState::InputRequired;
                task.phase = Phase::Held(Held {
                    agent: agent.clone(),
                    run: record.run,
                    token: task.last_token.unwrap_or(sequence),
                    lease,
                    lease_until: moment.now.checked_add(lease).filter(|_| !waits),
                    state: record.state,
                    give_up_at: None,
                    heard: !is_assigned,
                    dispatched: moment.now,
                    repeats: 0,
                    recorded: None,
                });
                self.limits.restore(&task.task_type);
                self.by_agent.entry(agent).or_default().insert(key);
            }
            None => {
                let gone = moment.wall.duration_since(record.time).unsigned_abs();
                let pause = Duration::from_millis(record.decision.next.in_ms);
                let left = pause.saturating_sub(gone);
                let until = moment.now.checked_add(left).unwrap_or(moment.now);
                task.phase = Phase::Delayed { until };
            }
        }
        self.settle(moment, key, &mut out);
        out
    }

    /// The task that comes next, of those that may run and whose lane is not among `refused`.
    #[must_use]
    pub fn next(&self, now: Instant, refused: &BTreeSet<Arc<Needs>>) -> Option<Candidate> {
        let may_run = |needs: &Needs| {
            !refused.contains(needs) && self.limits.admits(&self.policies, &needs.task_type, now)
        };
        let (key, needs) = self.queue.best(now, may_run)?;
        let blamed = self.tasks.get(&key).map(|task| task.blamed.keys().cloned().collect());
        Some(Candidate { key, needs, avoid: blamed.unwrap_or_default() })
    }

    /// Gives a task that is ready to an agent.
    pub fn assign(&mut self, moment: Moment, key: TaskKey, to: Assignment) -> Vec<Step> {
        let mut out = Vec::new();
        let Some(task) = self.tasks.get_mut(&key) else { return out };
        let Some(ticket) = task.ticket(key).filter(|_| task.writing.is_none()) else { return out };
        self.queue.serve(&ticket);
        self.limits.begin(&self.policies, &task.task_type, moment.now);
        let lease = task.lease.unwrap_or(to.lease);
        task.attempt = task.attempt.saturating_add(1);
        task.last_agent = Some(to.agent.clone());
        task.last_token = None;
        task.phase = Phase::Held(Held {
            agent: to.agent.clone(),
            run: to.run,
            token: 0,
            lease,
            lease_until: None,
            state: TaskState::Assigned,
            give_up_at: None,
            heard: false,
            dispatched: moment.now,
            repeats: 0,
            recorded: None,
        });
        let waited = moment.now.saturating_duration_since(ticket.place.0);
        self.by_agent.entry(to.agent).or_default().insert(key);
        let mut decision = to.decision;
        decision.inputs = decision.inputs.with("waited_ms", millis(waited));
        let draft = Draft::by(TaskState::Assigned, decision);
        self.write(moment, key, draft, &mut out);
        out
    }

    /// The record that was given to be written is stored under this sequence.
    pub fn written(&mut self, moment: Moment, key: TaskKey, sequence: u64) -> Vec<Step> {
        let mut out = Vec::new();
        let Some(task) = self.tasks.get_mut(&key) else { return out };
        let Some(record) = task.writing.take() else { return out };
        task.last = sequence;
        if record.state.is_terminal() {
            self.remove(key);
            let over = self.part_over(moment, &record);
            out.push(Step::Ended(key, record));
            out.extend(over);
            return out;
        }
        match record.state {
            TaskState::Assigned => self.assigned(moment, (key, sequence), &record, &mut out),
            TaskState::Accepted => {
                out.push(Step::Tell(Told::Requeued, Box::new(noted(&record))));
            }
            TaskState::Working
            | TaskState::InputRequired
            | TaskState::Completed
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Expired
            | TaskState::Rejected => {}
        }
        self.settle(moment, key, &mut out);
        out
    }

    fn assigned(
        &mut self,
        moment: Moment,
        (key, sequence): (TaskKey, u64),
        record: &TaskRecord,
        out: &mut Vec<Step>,
    ) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        task.last_token = Some(sequence);
        if let Phase::Held(held) = &mut task.phase {
            held.token = sequence;
            held.dispatched = moment.now;
            held.lease_until = moment.now.checked_add(held.lease);
        }
        let mut noted = noted(record);
        noted.token = Some(sequence);
        // An agent that has gone meanwhile is in the inbox.
        if !task.inbox.iter().any(|happened| matches!(happened, Happened::Gone { .. })) {
            out.extend(task.dispatch(key, moment.now).map(Step::Dispatch));
        }
        let parts = record.parts.clone();
        out.push(Step::Tell(Told::Assigned, Box::new(noted)));
        out.extend((!parts.is_empty()).then_some(Step::Parts(key, parts)));
    }

    /// The record that is to be written has got its identities.
    pub fn identify(&mut self, key: TaskKey, record: &TaskRecord) {
        let writing = self.tasks.get_mut(&key).and_then(|task| task.writing.as_mut());
        if let Some(writing) = writing {
            writing.record = record.record;
            writing.event = record.event;
            writing.dead_letter = record.dead_letter;
        }
    }

    /// Somebody wants the task to end.
    pub fn cancel(
        &mut self,
        moment: Moment,
        id: &TaskId,
        (grace, reason): (Duration, String),
    ) -> (Cancelling, Vec<Step>) {
        let Some(key) = self.ids.get(id).copied() else { return (Cancelling::Unknown, Vec::new()) };
        let held = self.tasks.get(&key).is_some_and(|task| task.held().is_some());
        let steps = self.happened(moment, key, Happened::Cancel { grace, reason });
        (if held { Cancelling::Told(grace) } else { Cancelling::Ending }, steps)
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, moment: Moment) -> Vec<Step> {
        let mut out = Vec::new();
        while let Some((at, key)) = self.timers.first().copied()
            && at <= moment.now
        {
            self.timers.remove(&(at, key));
            if let Some(task) = self.tasks.get_mut(&key) {
                task.due = None;
            }
            self.settle(moment, key, &mut out);
        }
        out
    }

    pub(super) fn happened(
        &mut self,
        moment: Moment,
        key: TaskKey,
        happened: Happened,
    ) -> Vec<Step> {
        let mut out = Vec::new();
        if let Some(task) = self.tasks.get_mut(&key) {
            if INBOX_MAX <= task.inbox.len() && happened.is_progress() {
                return out;
            }
            task.inbox.push_back(happened);
            self.settle(moment, key, &mut out);
        }
        out
    }

    /// Handles what waits for a task, until a record is to be written or nothing is left.
    pub(super) fn settle(&mut self, moment: Moment, key: TaskKey, out: &mut Vec<Step>) {
        loop {
            let Some(task) = self.tasks.get_mut(&key) else { return };
            if task.writing.is_some() {
                break;
            }
            if let Some(happened) = task.inbox.pop_front() {
                self.handle(moment, key, happened, out);
            } else if !self.on_time(moment, key, out) {
                break;
            }
        }
        self.retime(key);
    }

    /// Draws what follows from the time; tells whether anything did.
    fn on_time(&mut self, moment: Moment, key: TaskKey, out: &mut Vec<Step>) -> bool {
        let now = moment.now;
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let Some(task) = self.tasks.get_mut(&key) else { return false };
        if is_over(task.deadline) && !matches!(task.phase, Phase::Over) {
            self.expire(moment, key, out);
            return true;
        }
        match &task.phase {
            Phase::Delayed { until } if *until <= now => {
                let since = *until;
                task.phase = Phase::Ready { since };
                if let Some(ticket) = task.ticket(key) {
                    self.queue.push(&ticket);
                }
                true
            }
            Phase::Held(held) if is_over(held.give_up_at) => {
                self.give_up(moment, key, out);
                true
            }
            Phase::Held(held) if is_over(held.lease_until) => {
                self.lease_over(moment, key, out);
                true
            }
            Phase::Delayed { .. }
            | Phase::Held(_)
            | Phase::Ready { .. }
            | Phase::Gathering(_)
            | Phase::Over => false,
        }
    }

    /// Gives a record to be written. The task's state is brought in line with it.
    pub(super) fn write(
        &mut self,
        moment: Moment,
        key: TaskKey,
        draft: Draft,
        out: &mut Vec<Step>,
    ) {
        let state = draft.state;
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let record = Box::new(draft.record(moment, task));
        task.writing = Some(record.clone());
        if state.is_terminal() || state == TaskState::Accepted {
            let until = moment.now.checked_add(Duration::from_millis(record.decision.next.in_ms));
            self.release(key);
            self.unqueue(key);
            let waits = Phase::Delayed { until: until.unwrap_or(moment.now) };
            let phase = if state.is_terminal() { Phase::Over } else { waits };
            self.gathering.remove(&key);
            self.tasks.entry(key).and_modify(|task| task.phase = phase);
        }
        out.push(Step::Write(key, record));
        self.retime(key);
    }

    /// Takes the task away from its agent.
    pub(super) fn release(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get(&key) else { return };
        let Some(held) = task.held() else { return };
        self.limits.end(&task.task_type);
        if let Some(keys) = self.by_agent.get_mut(&held.agent) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_agent.remove(&held.agent);
            }
        }
    }

    fn unqueue(&mut self, key: TaskKey) {
        if let Some(ticket) = self.tasks.get(&key).and_then(|task| task.ticket(key)) {
            self.queue.remove(&ticket);
        }
    }

    fn enter(&mut self, moment: Moment, key: TaskKey, task: Task) -> Vec<Step> {
        let mut out = Vec::new();
        self.insert(key, task);
        self.settle(moment, key, &mut out);
        out
    }

    fn insert(&mut self, key: TaskKey, task: Task) {
        self.ids.insert(task.id.clone(), key);
        if let Some((parent, _)) = &task.part_of {
            self.parts.entry(*parent).or_default().insert(key);
        }
        self.tasks.insert(key, task);
    }

    pub(super) fn remove(&mut self, key: TaskKey) {
        self.release(key);
        self.unqueue(key);
        if let Some(task) = self.tasks.remove(&key) {
            self.ids.remove(&task.id);
            self.gathering.remove(&key);
            self.forget_part(key, &task);
            if let Some(due) = task.due {
                self.timers.remove(&(due, key));
            }
        }
    }

    pub(super) fn retime(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let wants = task.wants();
        if wants == task.due {
            return;
        }
        if let Some(due) = task.due {
            self.timers.remove(&(due, key));
        }
        task.due = wants;
        if let Some(due) = wants {
            self.timers.insert((due, key));
        }
    }
}
