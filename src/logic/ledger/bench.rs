//! A ledger for tests: a log that stores everything at once, and a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use crate::logic::gather::GatherFault;
use crate::logic::ledger::types::Again;
use crate::logic::ledger::{
    Accepted, Assignment, Dispatch, Gone, Ledger, Moment, Policies, Step, Submission, TaskKey, Told,
};
use crate::protocol::agent::{TaskError, TaskEvent, TaskNews};
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use crate::protocol::id::{AgentId, EventId, TaskId};
use crate::protocol::route::Distribution;
use crate::protocol::task::{TaskRecord, TaskRequest, TaskState};

/// A ledger with a log that stores everything at once, and a clock.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub(super) ledger: Ledger,
    pub(super) start: Instant,
    pub(super) ms: u64,
    pub(super) sequence: u64,
    pub(super) log: Vec<(u64, TaskRecord)>,
    pub(super) orders: Vec<Dispatch>,
    pub(super) cancels: Vec<(TaskId, u32)>,
    pub(super) ended: Vec<TaskRecord>,
    pub(super) told: Vec<Told>,
    pub(super) freed: Vec<AgentId>,
    /// Records that are being written, if they are to be held back.
    pub(super) held_back: Option<Vec<(TaskKey, TaskRecord)>>,
}

pub(super) fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

/// A decision for an agent.
pub(super) fn picked() -> DecisionRecord {
    DecisionRecord {
        reason: Reason::AgentPicked,
        inputs: Inputs::default(),
        rule: Rule::default(),
        cause: None,
        next: NextAction { action: NextKind::Assign, in_ms: 0 },
    }
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "only differences count")]
    pub(super) fn new(policies: Policies) -> Self {
        Self {
            ledger: Ledger::new(policies),
            start: Instant::now(),
            ms: 0,
            sequence: 0,
            log: Vec::new(),
            orders: Vec::new(),
            cancels: Vec::new(),
            ended: Vec::new(),
            told: Vec::new(),
            freed: Vec::new(),
            held_back: None,
        }
    }

    pub(super) fn moment(&self) -> Moment {
        let wall = Timestamp::UNIX_EPOCH + Duration::from_millis(self.ms);
        Moment { now: self.start + Duration::from_millis(self.ms), wall, jitter: 1.0 }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.ms += ms;
        let steps = self.ledger.on_deadline(self.moment());
        self.carry_out(steps);
    }

    pub(super) fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Write(key, mut record) => {
                    record.record = EventId::new(uuid::Uuid::from_u128(self.log.len() as u128 + 1));
                    self.ledger.identify(key, &record);
                    match &mut self.held_back {
                        Some(held_back) => held_back.push((key, *record)),
                        None => self.store(key, *record),
                    }
                }
                Step::Parts(key, parts) => self.begin_parts(key, parts),
                Step::Dispatch(dispatch) => self.orders.push(dispatch),
                Step::Cancel { id, attempt, .. } => self.cancels.push((id, attempt)),
                Step::Ended(_, record) | Step::EndedBefore(_, record) => self.ended.push(*record),
                Step::Unassign { agent, .. } => self.freed.push(agent),
                Step::Drop(_) => {}
                Step::Tell(told, _) => self.told.push(told),
            }
        }
    }

    fn begin_parts(&mut self, key: TaskKey, parts: BTreeMap<AgentId, TaskId>) {
        if !self.ledger.is_gathering(key) {
            return;
        }
        for (agent, id) in parts {
            self.take_part(key, (&agent, &id));
        }
    }

    /// Takes one part of a broadcast in.
    pub(super) fn take_part(&mut self, key: TaskKey, (agent, id): (&AgentId, &TaskId)) {
        let mut request = TaskRequest::new(json!(1));
        request.strategy = Some(Distribution::Direct);
        request.participants = vec![agent.to_string()];
        let submission = Submission {
            key: self.ledger.part_key(),
            id: id.clone(),
            part_of: Some((key, format!("t{}", key.0).parse().unwrap())),
            ..self.submission(key.0, "")
        };
        match self.ledger.accept(self.moment(), submission, &request, Duration::ZERO) {
            Accepted::Taken(steps) => self.carry_out(steps),
            other @ (Accepted::Duplicate(_) | Accepted::Known) => panic!("{other:?}"),
        }
    }

    /// Begins a broadcast of this number.
    pub(super) fn broadcast(&mut self, number: u64, members: &[&str]) -> Result<(), GatherFault> {
        let members = members.iter().map(|member| agent(member)).collect();
        let begun = self.ledger.broadcast(self.moment(), TaskKey(number), (members, picked()))?;
        self.carry_out(begun);
        Ok(())
    }

    /// Says something about the part of an agent, at its first attempt.
    pub(super) fn say_part(&mut self, number: u64, who: &str, state: TaskNews) {
        let id = self.part(number, who);
        let event = TaskEvent { id, attempt: 1, state };
        let steps = self.ledger.news(self.moment(), &agent(who), event);
        self.carry_out(steps);
    }

    /// The part of an agent.
    pub(super) fn part(&self, number: u64, who: &str) -> TaskId {
        let name: TaskId = format!("t{number}").parse().unwrap();
        let (_, record) = self.log.iter().find(|(_, record)| record.task_id == name).unwrap();
        record.parts[&agent(who)].clone()
    }

    fn store(&mut self, key: TaskKey, record: TaskRecord) {
        self.sequence += 1;
        let last = self.log.iter().rfind(|(_, known)| known.task_id == record.task_id);
        assert_eq!(record.previous, last.map_or(0, |(sequence, _)| *sequence), "{record:?}");
        self.log.push((self.sequence, record));
        let steps = self.ledger.written(self.moment(), key, self.sequence);
        self.carry_out(steps);
    }

    /// Stores what was held back.
    pub(super) fn flush(&mut self) {
        for (key, record) in self.held_back.take().unwrap_or_default() {
            self.store(key, record);
        }
    }

    pub(super) fn submission(&self, number: u64, submitter: &str) -> Submission {
        Submission {
            key: TaskKey(number),
            id: format!("t{number}").parse().unwrap(),
            task_type: "x".parse().unwrap(),
            submitter: Arc::from(submitter),
            accepted_at: self.moment().wall,
            part_of: None,
        }
    }

    pub(super) fn accept(&mut self, number: u64, change: impl FnOnce(&mut TaskRequest)) {
        let mut request = TaskRequest::new(json!(1));
        change(&mut request);
        let submission = self.submission(number, "");
        match self.ledger.accept(self.moment(), submission, &request, Duration::ZERO) {
            Accepted::Taken(steps) => self.carry_out(steps),
            other @ (Accepted::Duplicate(_) | Accepted::Known) => panic!("{other:?}"),
        }
    }

    /// Gives the next task to an agent; its number.
    pub(super) fn give(&mut self, to: &str) -> Option<u64> {
        let next = self.ledger.next(self.moment().now, &BTreeSet::new())?;
        let to = Assignment {
            agent: agent(to),
            run: Some(format!("run-of-{to}")),
            lease: Duration::from_secs(60),
            decision: picked(),
        };
        let steps = self.ledger.assign(self.moment(), next.key, to);
        self.carry_out(steps);
        Some(next.key.0)
    }

    pub(super) fn say(&mut self, who: &str, number: u64, attempt: u32, state: TaskNews) {
        let id = format!("t{number}").parse().unwrap();
        let steps = self.ledger.news(self.moment(), &agent(who), TaskEvent { id, attempt, state });
        self.carry_out(steps);
    }

    pub(super) fn gone(&mut self, who: &str, why: Gone) {
        let run = format!("run-of-{who}");
        let why = (why, "it is over");
        let steps = self.ledger.agent_gone(self.moment(), &agent(who), Some(&run), why);
        self.carry_out(steps);
    }

    pub(super) fn states(&self) -> Vec<TaskState> {
        self.log.iter().map(|(_, record)| record.state).collect()
    }

    pub(super) fn last(&self) -> &TaskRecord {
        &self.log.last().unwrap().1
    }
}

pub(super) fn done() -> TaskNews {
    TaskNews::Completed { result: json!({"ok": 1}), usage: None }
}

pub(super) fn failed(again: Again, after_ms: Option<u64>) -> TaskNews {
    let retry = again == Again::MayHelp;
    let error = TaskError { code: "e".to_owned(), message: "m".to_owned(), retry, after_ms };
    TaskNews::Failed { error }
}

pub(super) fn working() -> TaskNews {
    TaskNews::Working { message: None, progress: None }
}
