//! Carries out what the ledger says, and tells it what came of that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::daemon::coordinator::desk::{Desk, Done, is_remote};
use crate::logic::ledger::{
    Accepted, Assignment, CANCEL_GRACE, Cancelling, Candidate, Dispatch, Moment, Needs, Step,
    Submission, TaskKey, Told, Undelivered,
};
use crate::logic::routing;
use crate::ports::ChannelError;
use crate::protocol::agent::{TaskError, TaskEvent, TaskNews, TaskOrder, ToAgent};
use crate::protocol::command::{CommandError, ErrorKind};
use crate::protocol::fact::Fact;
use crate::protocol::id::{AgentId, SubjectId};
use crate::protocol::route::Distribution;
use crate::protocol::subject::Subject;
use crate::protocol::task::{TaskRecord, TaskState};
use crate::protocol::task_fact::TaskNoted;
use crate::transport::tasks::TASK_LOG;
use crate::transport::tasks::cancels::{Asked, answer, refused};
use crate::transport::tasks::feed::Arrived;
use crate::transport::tasks::journal::{Entry, Journal, Outcome, last_on};
use crate::transport::tasks::messages::Original;

/// Assignments made in one go before other things are looked at.
const SWEEP_MAX: usize = 256;

/// Room for everything in a record besides its result, in bytes.
const RECORD_ROOM: usize = 32 * 1024;

impl Desk {
    /// Takes a submission; with the last record of its task, if it has one.
    pub(super) fn arrived(&mut self, arrived: Arc<Arrived>, record: Option<(u64, TaskRecord)>) {
        let key = TaskKey(arrived.sequence);
        let moment = self.moment();
        let submission = Submission {
            key,
            id: arrived.id.clone(),
            task_type: arrived.task_type.clone(),
            submitter: Arc::from(arrived.submitter.as_str()),
            accepted_at: arrived.accepted_at,
            part_of: arrived.part_of.as_ref().map(|of| (TaskKey(of.sequence), of.id.clone())),
        };
        let age = moment.wall.duration_since(arrived.accepted_at);
        let age = if age.is_negative() { Duration::ZERO } else { age.unsigned_abs() };
        let ended = record.as_ref().filter(|(_, record)| record.state.is_terminal());
        if let Some((_, record)) = ended {
            // It ended and nobody knows whether that was told.
            let record = Box::new(record.clone());
            self.bodies.insert(key, arrived);
            let over = self.ledger.part_over(moment, &record);
            self.end_lingering(key, &record);
            self.tell_end(key, record, Before::Perhaps);
            self.carry_out(over);
            return;
        }
        let accepted = match arrived.request() {
            Ok(request) => self.ledger.accept(moment, submission, &request, age),
            Err(fault) => self.ledger.reject(moment, &submission, fault.to_string()),
        };
        match accepted {
            Accepted::Taken(steps) => {
                self.bodies.insert(key, arrived);
                let steps = match record {
                    Some((sequence, mut record)) => {
                        record.run = record.run.filter(|run| !is_remote(Some(run)));
                        self.ledger.restore(moment, key, sequence, record)
                    }
                    None => steps,
                };
                self.carry_out(steps);
            }
            Accepted::Known => {}
            Accepted::Duplicate(_) => self.acknowledge(&arrived.acknowledge),
        }
    }

    /// Gives out what can be given out now.
    pub(super) fn sweep(&mut self) {
        let mut refused: BTreeSet<Arc<Needs>> = BTreeSet::new();
        for _ in 0..SWEEP_MAX {
            if !self.ledger.has_ready() || !self.hands.any_free() {
                return;
            }
            let moment = self.moment();
            let Some(next) = self.ledger.next(moment.now, &refused) else { return };
            let is_for_all = next.needs.strategy == Distribution::Broadcast;
            let given =
                if is_for_all { self.broadcast(moment, &next) } else { self.give(moment, &next) };
            if let Err(said) = given {
                self.refused = Some((Arc::clone(&next.needs), said));
                refused.insert(next.needs);
            }
        }
    }

    /// Gives a task to an agent.
    ///
    /// # Errors
    ///
    /// Why nobody can have it now, in words.
    fn give(&mut self, moment: Moment, next: &Candidate) -> Result<(), String> {
        let avoid = next.avoid.iter().chain(self.ledger.sick(moment.now)).cloned();
        let question = routing::Needs::new(next.needs.question(avoid));
        let picked = self.hands.pick(&self.parts.board, &question, fastrand::u64(..));
        let pick = picked.map_err(|refusal| refusal.to_string())?;
        let Some(hand) = self.hands.get(&pick.agent) else { return Ok(()) };
        let to = Assignment {
            agent: pick.agent.clone(),
            run: Some(self.run_of(hand.number, &hand.offer)),
            lease: hand.offer.timeout,
            decision: pick.record(),
        };
        let steps = self.ledger.assign(moment, next.key, to);
        if let Some(Step::Write(_, record)) = steps.first() {
            self.hands.take(&pick.agent, (&record.task_id, record.attempt));
        }
        self.carry_out(steps);
        Ok(())
    }

    /// Carries out steps, and those that follow from them.
    pub(super) fn carry_out(&mut self, steps: Vec<Step>) {
        let mut queue = VecDeque::from(steps);
        while let Some(step) = queue.pop_front() {
            match step {
                Step::Write(key, record) => self.write(key, record),
                Step::Dispatch(dispatch) => queue.extend(self.dispatch(&dispatch)),
                Step::Parts(key, parts) => self.begin_parts(key, &parts),
                Step::Cancel { id, agent, attempt, grace } => {
                    let grace_ms = millis(grace);
                    self.order(&agent, &ToAgent::Cancel { id, attempt, grace_ms });
                }
                Step::Unassign { id, agent, attempt } => self.hands.free(&agent, (&id, attempt)),
                Step::Ended(key, record) => self.tell_end(key, record, Before::Never),
                Step::EndedBefore(key, record) => self.tell_end(key, record, Before::Perhaps),
                Step::Drop(key) => {
                    let body = self.bodies.remove(&key);
                    body.iter().for_each(|body| self.acknowledge(&body.acknowledge));
                }
                Step::Tell(told, noted) => self.tell(told, *noted),
            }
        }
    }

    /// Gives an order that may be lost.
    fn order(&self, agent: &AgentId, order: &ToAgent) {
        let sent = self.hands.get(agent).map(|hand| hand.channel.send(order));
        if let Some(Err(error)) = sent {
            tracing::debug!(%agent, %error, "an order was not sent");
        }
    }

    fn write(&mut self, key: TaskKey, mut record: Box<TaskRecord>) {
        if record.record.is_nil() {
            record.record = self.parts.ids.event_id();
            if record.state.is_terminal() {
                record.event = Some(self.parts.ids.event_id());
            }
            if record.state.is_dead() {
                record.dead_letter = Some(self.parts.ids.event_id());
            }
            self.ledger.identify(key, &record);
        }
        let releases = record.state.is_terminal() || record.state == TaskState::Accepted;
        if let Some(agent) = record.agent_id.as_ref().filter(|_| releases) {
            // Its own word has freed the slot already; else it may still be at it.
            self.hands.orphan(agent, (&record.task_id, record.attempt));
        }
        let entry = self.writer.record(&record);
        let journal = self.journal.clone();
        self.writes.push(Box::pin(async move { Done::Record(key, journal.store(entry).await) }));
    }

    /// Gives an order to its agent; what follows when that does not work.
    fn dispatch(&mut self, dispatch: &Dispatch) -> Vec<Step> {
        let Some(body) = self.bodies.get(&dispatch.key) else { return Vec::new() };
        let input = match body.request() {
            Ok(request) => request.input,
            Err(error) => {
                let why = Undelivered::Impossible(error.to_string());
                return self.undelivered(dispatch, why);
            }
        };
        let order = TaskOrder {
            id: dispatch.id.clone(),
            attempt: dispatch.attempt,
            task_type: body.task_type.clone(),
            input,
            deadline_ms: dispatch.deadline.map(millis),
            lease_ms: millis(dispatch.lease),
            token: dispatch.token,
            trace: body.trace.clone(),
        };
        let Some(hand) = self.hands.get(&dispatch.agent) else {
            return self.undelivered(dispatch, Undelivered::Busy("the agent has gone".to_owned()));
        };
        match hand.channel.send(&ToAgent::Task(Box::new(order))) {
            Ok(()) => Vec::new(),
            Err(error @ ChannelError::TooLong { .. }) => {
                self.undelivered(dispatch, Undelivered::Impossible(error.to_string()))
            }
            Err(error @ (ChannelError::Full { .. } | ChannelError::Closed)) => {
                self.undelivered(dispatch, Undelivered::Busy(error.to_string()))
            }
        }
    }

    fn undelivered(&mut self, dispatch: &Dispatch, why: Undelivered) -> Vec<Step> {
        self.hands.free(&dispatch.agent, (&dispatch.id, dispatch.attempt));
        self.ledger.undelivered(self.moment(), dispatch.key, (dispatch.attempt, why))
    }

    /// An agent tells about an attempt.
    pub(super) fn on_news(&mut self, agent: &AgentId, mut event: TaskEvent) {
        match &event.state {
            TaskNews::Completed { result, .. } => {
                let bytes = serde_json::to_vec(result).map_or(0, |bytes| bytes.len());
                let bound = self.journal.payload_max().saturating_sub(RECORD_ROOM);
                if bound < bytes {
                    event.state = TaskNews::Failed { error: result_too_large(bytes, bound) };
                }
                self.hands.free(agent, (&event.id, event.attempt));
            }
            TaskNews::Failed { .. } => self.hands.free(agent, (&event.id, event.attempt)),
            TaskNews::Working { .. } | TaskNews::InputRequired { .. } => {}
        }
        let steps = self.ledger.news(self.moment(), agent, event);
        self.carry_out(steps);
    }

    /// Tells the end of a task: dead letter, result event; then its submission is acknowledged.
    fn tell_end(&mut self, key: TaskKey, record: Box<TaskRecord>, told: Before) {
        let state = record.state.as_str();
        if told == Before::Never {
            let count = self.status.ended.entry(state.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
        for reply in self.askers.remove(&key).unwrap_or_default() {
            let (slot, id) = (self.parts.slot.clone(), record.task_id.clone());
            let said = json!({ "ok": true, "task_id": id, "state": state });
            self.writes.push(Box::pin(async move {
                answer(&slot, Some(&reply), &said).await;
                Done::End(TaskKey(0))
            }));
        }
        let Some(body) = self.bodies.get(&key).cloned() else { return };
        let payload = if record.dead_letter.is_some() { body.body() } else { Bytes::new() };
        let original = Original {
            subject: Subject::Tasks(SubjectId::from(&body.task_type)).to_string(),
            payload: &payload,
        };
        let payload_max = self.journal.payload_max();
        let dead = self.writer.dead_letter(&record, &original, payload_max);
        let result = self.writer.result(&record);
        let journal = self.journal.clone();
        // A broadcast is acknowledged once all its parts are over too, and a part never.
        let alone = record.parts.is_empty() && body.part_of.is_none();
        let acknowledge = alone.then(|| body.acknowledge.clone());
        if !record.parts.is_empty() {
            self.broadcasts.ends(key);
        }
        self.writes.push(Box::pin(async move {
            store_end(&journal, dead, result, told).await;
            if let Some(acknowledge) = acknowledge {
                journal.acknowledge(&acknowledge).await;
            }
            Done::End(key)
        }));
    }

    pub(super) fn acknowledge(&self, to: &str) {
        let (journal, to) = (self.journal.clone(), to.to_owned());
        self.writes.push(Box::pin(async move {
            journal.acknowledge(&to).await;
            Done::End(TaskKey(0))
        }));
    }

    fn tell(&mut self, told: Told, noted: TaskNoted) {
        let fact: fn(Box<TaskNoted>) -> Fact = match told {
            Told::Assigned => Fact::TaskAssigned,
            Told::Requeued => Fact::TaskRequeued,
            Told::LateResult => Fact::LateResult,
            Told::AgentSick => Fact::AgentSick,
        };
        match told {
            Told::Requeued => self.status.requeued = self.status.requeued.saturating_add(1),
            Told::LateResult => self.status.late = self.status.late.saturating_add(1),
            Told::Assigned | Told::AgentSick => {}
        }
        let identity = (self.parts.ids.event_id(), self.parts.clock.now());
        let (subject, payload) = self.writer.noted(identity, fact, noted);
        let journal = self.journal.clone();
        self.writes.push(Box::pin(async move {
            journal.tell(&subject, identity.0, payload).await;
            Done::End(TaskKey(0))
        }));
    }

    /// Somebody wants a task to end.
    pub(super) async fn cancel(&mut self, asked: Asked) {
        let Asked { id, request, reply } = asked;
        let key = self.ledger.key_of(&id);
        let grace = request.grace_ms.map_or(CANCEL_GRACE, Duration::from_millis);
        let reason = request.reason.unwrap_or_default();
        let (cancelling, steps) = self.ledger.cancel(self.moment(), &id, (grace, reason));
        let said = match (cancelling, key, reply.clone()) {
            (Cancelling::Ending, Some(key), Some(reply)) => {
                self.askers.entry(key).or_default().push(reply);
                None
            }
            (Cancelling::Ending, _, _) => None,
            (Cancelling::Told(grace), _, _) => Some(json!({
                "ok": true, "task_id": id, "state": "cancelling", "grace_ms": millis(grace),
            })),
            (Cancelling::Unknown, _, _) => {
                let message = format!("task {id} has ended, or never was");
                let hint = format!("provost task show {id}");
                let error = CommandError::new(ErrorKind::WrongState, message, hint);
                Some(refused(&error))
            }
        };
        self.carry_out(steps);
        if let Some(said) = said {
            answer(&self.parts.slot, reply.as_deref(), &said).await;
        }
    }
}

/// Whether the end of a task may have been told before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    Never,
    Perhaps,
}

/// Stores the dead letter, then the result event. Where the result is stored already, so is the
/// dead letter, and neither is stored again.
async fn store_end(journal: &Journal, dead: Option<Entry>, result: Option<Entry>, told: Before) {
    let mut dead = dead;
    if told == Before::Perhaps
        && let (Some(result), true) = (&result, dead.is_some())
    {
        let context = journal.jetstream().await;
        let stream = journal.prefix().stream_name(TASK_LOG);
        if let Ok(Some(_)) = last_on(&context, &stream, &result.subject).await {
            dead = None;
        }
    }
    for entry in dead.into_iter().chain(result) {
        let subject = entry.subject.clone();
        if let Outcome::Impossible(said) = journal.store(entry).await {
            tracing::error!(subject, said, "the end of a task cannot be told");
        }
    }
}

fn result_too_large(bytes: usize, bound: usize) -> TaskError {
    TaskError {
        code: "result_too_large".to_owned(),
        message: format!("the result has {bytes} bytes; at most {bound} can be stored"),
        retry: false,
        after_ms: None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
