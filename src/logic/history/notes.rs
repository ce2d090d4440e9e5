//! What is kept of a child besides how it is shown: the last of each kind of event about it.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::protocol::decision::DecisionRecord;
use crate::protocol::event::Envelope;
use crate::protocol::fact::{
    AgentChanged, CircuitChanged, Fact, Failed, Recovered, SystemReported,
};
use crate::protocol::id::{ChildName, EventId, NodeName, SubjectId};

/// Failures of one child that are kept; the oldest goes first.
const FAILURES_MAX: usize = 20;

/// One event, as the fold takes it.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// Identity.
    pub id: EventId,
    /// When it happened.
    pub time: Timestamp,
    /// Who told it: `provost://<node>/<kind>/<name>`.
    pub source: &'a str,
    /// First event of its chain.
    pub correlation: Option<EventId>,
    /// What caused it.
    pub causation: Option<&'a SubjectId>,
    /// What happened.
    pub fact: &'a Fact,
}

impl<'a> Heard<'a> {
    /// An envelope whose data was read.
    #[must_use]
    pub fn of(envelope: &'a Envelope, fact: &'a Fact) -> Self {
        Self {
            id: envelope.id,
            time: envelope.time,
            source: &envelope.source,
            correlation: envelope.correlationid,
            causation: envelope.causationid.as_ref(),
            fact,
        }
    }

    /// The node in its source.
    #[must_use]
    pub fn node(&self) -> Option<NodeName> {
        self.source.strip_prefix("provost://")?.split('/').next()?.parse().ok()
    }

    /// The name in its source.
    #[must_use]
    pub fn name(&self) -> Option<ChildName> {
        self.source.rsplit('/').next()?.parse().ok()
    }

    /// The kind of child in its source, such as `agent`.
    #[must_use]
    pub fn kind(&self) -> &'a str {
        self.source.rsplit('/').nth(1).unwrap_or_default()
    }
}

/// Something that was told of a child, and by which event.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted<T> {
    /// The event.
    pub id: EventId,
    /// When.
    pub time: Timestamp,
    /// First event of its chain.
    pub correlation: Option<EventId>,
    /// What caused it.
    pub causation: Option<SubjectId>,
    /// What was told.
    pub what: T,
}

impl<T> Noted<T> {
    /// Notes something that was heard.
    pub(super) fn of(heard: &Heard<'_>, what: T) -> Self {
        Self {
            id: heard.id,
            time: heard.time,
            correlation: heard.correlation,
            causation: heard.causation.cloned(),
            what,
        }
    }
}

/// What was told of one child.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// Its settings when it was made, secrets masked; empty for a child that is no agent.
    pub config: BTreeMap<String, serde_json::Value>,
    /// Its failures, oldest first; the last twenty.
    pub failures: VecDeque<Noted<Failed>>,
    /// The last decision about it.
    pub decision: Option<Noted<DecisionRecord>>,
    /// The last change of its circuit.
    pub circuit: Option<Noted<CircuitChanged>>,
    /// The last change of its state, if it is an agent.
    pub changed: Option<Noted<AgentChanged>>,
    /// What was told last of a part of the daemon, such as a lost connection.
    pub system: Option<Noted<SystemReported>>,
    /// Its last recovery.
    pub recovery: Option<Noted<Recovered>>,
    /// First failure of the outage that is not over.
    pub outage: Option<EventId>,
}

impl Notes {
    /// The last failure.
    #[must_use]
    pub fn failure(&self) -> Option<&Noted<Failed>> {
        self.failures.back()
    }

    pub(super) fn failed(&mut self, heard: &Heard<'_>, failed: &Failed) {
        self.outage = heard.correlation.or(Some(heard.id));
        self.failures.push_back(Noted::of(heard, failed.clone()));
        if FAILURES_MAX < self.failures.len() {
            self.failures.pop_front();
        }
    }

    pub(super) fn recovered(&mut self, recovery: Noted<Recovered>) {
        self.outage = None;
        self.recovery = Some(recovery);
    }
}
