//! Tasks that go to all that can have them: their parts are taken in as tasks of their own, and the
//! submission is acknowledged when the last of them is over.
//!
//! A part has no submission: the broadcast's record names it, and the broadcast's body is its own. So
//! a coordinator that begins anew finds all parts by their broadcasts, as long as those are open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::coordinator::desk::Desk;
use crate::daemon::coordinator::start::Records;
use crate::logic::ledger::{Candidate, Moment, Step, TaskKey};
use crate::logic::routing::Needs;
use crate::protocol::id::{AgentId, TaskId};
use crate::protocol::route::Completion;
use crate::protocol::status::AgentState;
use crate::protocol::task::TaskRecord;
use crate::transport::tasks::feed::{Arrived, PartOf};

/// What the coordinator knows of broadcasts besides the ledger.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    /// Records of parts that were there at the start.
    records: Records,
    /// Parts whose end is not told, by broadcast.
    open: BTreeMap<TaskKey, BTreeSet<TaskKey>>,
    /// Broadcasts whose own end is told.
    told: BTreeSet<TaskKey>,
    /// Agents that take part and were not there when they were looked for, since when.
    gone: BTreeMap<AgentId, Instant>,
}

/// Time for which an agent must be stopped or unknown until its part counts as lost. A restart by
/// hand is shorter, and so is the way back of remote agents after a restart of the daemon.
const GONE_FOR: Duration = Duration::from_secs(10);

impl Broadcasts {
    /// Takes the records of parts that were found at the start.
    pub(super) fn known(&mut self, records: Records) {
        self.records = records;
    }

    /// A broadcast ends: it is to be acknowledged when its parts are over too.
    pub(super) fn ends(&mut self, key: TaskKey) {
        self.open.entry(key).or_default();
    }
}

impl Desk {
    /// Begins a broadcast.
    ///
    /// # Errors
    ///
    /// Why it has to wait, in words.
    pub(super) fn broadcast(&mut self, moment: Moment, next: &Candidate) -> Result<(), String> {
        let needs = Needs::new(next.needs.question([]));
        let roster = self.hands.roster(&self.parts.board, &needs);
        let roster = roster.map_err(|refusal| refusal.to_string())?;
        let is_all = self.ledger.completion_of(next.key) == Completion::All;
        if is_all && !roster.absent.is_empty() {
            return Err(format!(
                "a broadcast to all needs everyone it names; {} cannot take part now",
                roster.absent.join(", ")
            ));
        }
        let decision = roster.record();
        let members = roster.members.into_iter().map(|member| member.agent).collect();
        let begun = self.ledger.broadcast(moment, next.key, (members, decision));
        self.carry_out(begun.map_err(|fault| fault.to_string())?);
        Ok(())
    }

    /// The parts of a broadcast are in its record: takes them in.
    pub(super) fn begin_parts(&mut self, key: TaskKey, parts: &BTreeMap<AgentId, TaskId>) {
        for (agent, id) in parts {
            let record = self.broadcasts.records.remove(id);
            // One that ended while no daemon was there may end the broadcast before the next is in.
            if record.is_some() || self.ledger.is_gathering(key) {
                self.take_part(key, (agent, id), record);
            }
        }
        if !self.ledger.is_gathering(key) {
            let steps = self.ledger.cancel_parts(self.moment(), key);
            self.carry_out(steps);
        }
    }

    /// A broadcast that has ended is there again: so are those of its parts that have not.
    pub(super) fn end_lingering(&mut self, key: TaskKey, ended: &TaskRecord) {
        for (agent, id) in &ended.parts {
            let record = self.broadcasts.records.remove(id);
            if record.is_some() {
                self.take_part(key, (agent, id), record);
            }
        }
        let steps = self.ledger.cancel_parts(self.moment(), key);
        self.carry_out(steps);
    }

    fn take_part(
        &mut self,
        key: TaskKey,
        (agent, id): (&AgentId, &TaskId),
        record: Option<(u64, TaskRecord)>,
    ) {
        let Some(whole) = self.bodies.get(&key) else { return };
        let part = self.ledger.part_key();
        let part_of =
            PartOf { sequence: whole.sequence, id: whole.id.clone(), agent: agent.clone() };
        let arrived = Arrived {
            sequence: part.0,
            id: id.clone(),
            acknowledge: String::new(),
            part_of: Some(part_of),
            ..Arrived::clone(whole)
        };
        self.broadcasts.open.entry(key).or_default().insert(part);
        self.arrived(Arc::new(arrived), record);
    }

    /// Everything about the end of this task is stored.
    pub(super) fn end_told(&mut self, key: TaskKey) {
        let Some(body) = self.bodies.get(&key) else { return };
        match &body.part_of {
            Some(part_of) => {
                let whole = TaskKey(part_of.sequence);
                self.bodies.remove(&key);
                if let Some(open) = self.broadcasts.open.get_mut(&whole) {
                    open.remove(&key);
                }
                if self.broadcasts.told.contains(&whole) {
                    self.close_broadcast(whole);
                }
            }
            None if self.broadcasts.open.contains_key(&key) => {
                self.broadcasts.told.insert(key);
                self.close_broadcast(key);
            }
            None => drop(self.bodies.remove(&key)),
        }
    }

    /// The end of a broadcast is told: once that is true of all its parts, it is acknowledged.
    fn close_broadcast(&mut self, key: TaskKey) {
        if self.broadcasts.open.get(&key).is_some_and(|parts| !parts.is_empty()) {
            return;
        }
        self.broadcasts.open.remove(&key);
        self.broadcasts.told.remove(&key);
        if let Some(body) = self.bodies.remove(&key) {
            self.acknowledge(&body.acknowledge);
        }
    }

    /// Agents that were stopped or forgotten do not work on their parts any more.
    pub(super) fn look_for_members(&mut self) {
        let is_gone = |agent: &AgentId| {
            self.hands.get(agent).is_none() && {
                let state = self.parts.board.find(agent.as_str()).map(|entry| entry.state);
                matches!(state, None | Some(AgentState::Stopped | AgentState::Terminated))
            }
        };
        let awaited = self.ledger.awaited().filter(|(_, agent)| is_gone(agent));
        let gone: Vec<(TaskKey, AgentId)> =
            awaited.map(|(key, agent)| (key, agent.clone())).collect();
        self.broadcasts.gone.retain(|agent, _| gone.iter().any(|(_, gone)| gone == agent));
        for (key, agent) in gone {
            let since = *self.broadcasts.gone.entry(agent.clone()).or_insert_with(Instant::now);
            if since.elapsed() < GONE_FOR {
                continue;
            }
            let steps: Vec<Step> = self.ledger.member_lost(self.moment(), key, &agent);
            self.carry_out(steps);
        }
    }
}
