//! From a draft to the document on the wire: which subject, which class, which envelope.
//!
//! Pure: the identity and the time come in. Not for the order of events or for what is dropped;
//! see `queue`.

use jiff::Timestamp;

use crate::ports::EventDraft;
use crate::protocol::event::{CONTENT_TYPE, Envelope, SPEC_VERSION};
use crate::protocol::fact::{Fact, Gap, Severity};
use crate::protocol::id::{ChildName, EventId, NodeName, SubjectId};
use crate::protocol::subject::Subject;
use crate::transport::outbox::entry::{Class, Draft, Hole};

/// Value of `datacontenttype`.
const DATA_CONTENT_TYPE: &str = "application/json";

/// What every event of one daemon has in common.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Node in the source URI.
    pub(crate) node: NodeName,
    /// Name of the outbox itself, source and subject of its gap events.
    pub(crate) name: ChildName,
    /// Attribute `environment`.
    pub(crate) environment: Option<String>,
    /// Attribute `region`.
    pub(crate) region: Option<String>,
}

impl Identity {
    /// The event as it is queued, spooled and published.
    ///
    /// # Errors
    ///
    /// The fact cannot be written as JSON; none of the present facts can cause that.
    pub(crate) fn seal(
        &self,
        draft: &EventDraft,
        id: EventId,
        time: Timestamp,
    ) -> Result<Draft, serde_json::Error> {
        let envelope = self.envelope(draft, id, time)?;
        Ok(Draft {
            id,
            subject: subject_of(draft).to_string(),
            class: class_of(&draft.fact),
            payload: serde_json::to_vec(&envelope)?.into(),
            traceparent: envelope.traceparent,
        })
    }

    /// The event that tells of a hole.
    ///
    /// # Errors
    ///
    /// As [`Self::seal`].
    pub(crate) fn seal_gap(&self, gap: &GapNotice) -> Result<Draft, serde_json::Error> {
        let severity = if gap.hole.dropped == gap.hole.dropped_health {
            Severity::Medium
        } else {
            Severity::High
        };
        let draft = EventDraft {
            fact: Fact::Gap(Gap {
                dropped: gap.hole.dropped,
                dropped_health: gap.hole.dropped_health,
                since: gap.hole.since,
                bound_events: gap.bound_events,
                bound_bytes: gap.bound_bytes,
            }),
            about: SubjectId::from(&self.name),
            source: crate::ports::EventSource { kind: "daemon", name: self.name.clone() },
            severity,
            correlation: None,
            causation: None,
            generation: None,
        };
        self.seal(&draft, gap.id, gap.time)
    }

    /// The envelope of a draft.
    ///
    /// # Errors
    ///
    /// As [`Self::seal`].
    pub(crate) fn envelope(
        &self,
        draft: &EventDraft,
        id: EventId,
        time: Timestamp,
    ) -> Result<Envelope, serde_json::Error> {
        Ok(Envelope {
            specversion: SPEC_VERSION.to_owned(),
            id,
            source: format!("provost://{}/{}/{}", self.node, draft.source.kind, draft.source.name),
            event_type: draft.fact.type_name().to_owned(),
            subject: draft.about.clone(),
            time,
            datacontenttype: DATA_CONTENT_TYPE.to_owned(),
            severity: draft.severity,
            category: draft.fact.category(),
            coordinationtype: None,
            userid: None,
            sessionid: None,
            requestid: None,
            environment: known(self.environment.as_ref()),
            region: known(self.region.as_ref()),
            correlationid: draft.correlation,
            causationid: draft.causation.map(SubjectId::from),
            traceparent: None,
            generation: draft.generation,
            data: serde_json::to_value(&draft.fact)?,
        })
    }
}

/// What a gap event is made of.
#[derive(Clone, Debug)]
pub(crate) struct GapNotice {
    pub(crate) id: EventId,
    pub(crate) hole: Hole,
    pub(crate) time: Timestamp,
    pub(crate) bound_events: u64,
    pub(crate) bound_bytes: u64,
}

/// Headers of every published event, besides `Nats-Msg-Id` and `traceparent`.
pub(crate) const CONTENT_TYPE_HEADER: (&str, &str) = ("Content-Type", CONTENT_TYPE);

/// The subject that a fact goes to.
pub(crate) fn subject_of(draft: &EventDraft) -> Subject {
    let about = || draft.about.clone();
    match draft.fact {
        Fact::Health(_) => Subject::Health(about()),
        Fact::Failure(_) => Subject::Failures(draft.severity),
        Fact::Recovery(_) => Subject::Recovery(about()),
        Fact::Circuit(_) => Subject::Circuits(about()),
        Fact::Decision(_)
        | Fact::Escalation(_)
        | Fact::SupervisorStarted(_)
        | Fact::SupervisorStopped(_)
        | Fact::Gap(_)
        | Fact::System(_)
        | Fact::ChildChanged(_)
        | Fact::ChildRemoved(_)
        | Fact::Snapshot(_) => Subject::Events,
        Fact::AgentSpawned(_)
        | Fact::AgentStateChanged(_)
        | Fact::AgentTerminated(_)
        | Fact::AgentError(_) => Subject::AgentEvents(about()),
        Fact::TaskResult(_) => Subject::TaskResults(about()),
        Fact::DeadLetter(_) => Subject::DeadLetters(about()),
        Fact::TaskAssigned(_)
        | Fact::TaskRequeued(_)
        | Fact::LateResult(_)
        | Fact::AgentSick(_) => Subject::CoordinationEvents,
    }
}

fn class_of(fact: &Fact) -> Class {
    match fact {
        Fact::Health(_) => Class::Health,
        Fact::Failure(_)
        | Fact::Recovery(_)
        | Fact::Circuit(_)
        | Fact::Decision(_)
        | Fact::Escalation(_)
        | Fact::SupervisorStarted(_)
        | Fact::SupervisorStopped(_)
        | Fact::Gap(_)
        | Fact::System(_)
        | Fact::ChildChanged(_)
        | Fact::ChildRemoved(_)
        | Fact::Snapshot(_)
        | Fact::AgentSpawned(_)
        | Fact::AgentStateChanged(_)
        | Fact::AgentTerminated(_)
        | Fact::AgentError(_)
        | Fact::TaskResult(_)
        | Fact::DeadLetter(_)
        | Fact::TaskAssigned(_)
        | Fact::TaskRequeued(_)
        | Fact::LateResult(_)
        | Fact::AgentSick(_) => Class::Other,
    }
}

/// Unknown attributes are left out, never empty.
fn known(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::EventSource;
    use crate::protocol::decision::Inputs;
    use crate::protocol::fact::{
        AgentChanged, AgentErred, AgentSpawned, HealthMetrics, HealthReported, Recovered,
        RecoveryHow, SupervisorReported, SystemReported,
    };
    use crate::protocol::id::Generation;
    use crate::protocol::status::{AgentState, HealthStatus};

    fn identity() -> Identity {
        Identity {
            node: "node-1".parse().unwrap(),
            name: "outbox".parse().unwrap(),
            environment: Some("test".to_owned()),
            region: Some(String::new()),
        }
    }

    fn draft(fact: Fact) -> EventDraft {
        EventDraft {
            fact,
            about: "w1".parse().unwrap(),
            source: EventSource { kind: "agent", name: "worker".parse().unwrap() },
            severity: Severity::Low,
            correlation: None,
            causation: None,
            generation: Some(Generation(3)),
        }
    }

    fn id() -> EventId {
        "01900000-0000-7000-8000-000000000001".parse().unwrap()
    }

    fn changed() -> AgentChanged {
        AgentChanged {
            name: "worker".parse().unwrap(),
            agent_type: "t".parse().unwrap(),
            old_state: None,
            new_state: AgentState::Running,
            reason: "started".to_owned(),
            pid: Some(7),
            generation: Generation(3),
            exit: None,
            shown: None,
        }
    }

    #[test]
    fn each_fact_goes_to_the_subject_of_its_kind() {
        let health =
            HealthReported { status: HealthStatus::Healthy, metrics: HealthMetrics::default() };
        let recovered = Recovered {
            name: "worker".parse().unwrap(),
            after_ms: 1,
            attempts: 1,
            how: RecoveryHow::Restart,
        };
        let supervisor =
            SupervisorReported { name: "top".parse().unwrap(), children: vec![], record: None };
        let system = SystemReported { what: "reload".to_owned(), details: Inputs::default() };
        let spawned = AgentSpawned { change: changed(), config: Default::default() };
        let erred = AgentErred { change: changed(), error: "x".to_owned() };
        let cases = [
            (Fact::Health(health), "supervision.health.w1", Class::Health),
            (Fact::Recovery(recovered), "supervision.recovery.w1", Class::Other),
            (Fact::Escalation(Box::new(supervisor)), "supervision.events", Class::Other),
            (Fact::System(system), "supervision.events", Class::Other),
            (Fact::AgentSpawned(Box::new(spawned)), "agent.events.w1", Class::Other),
            (Fact::AgentTerminated(Box::new(changed())), "agent.events.w1", Class::Other),
            (Fact::AgentError(Box::new(erred)), "agent.events.w1", Class::Other),
        ];
        for (fact, subject, class) in cases {
            let sealed = identity().seal(&draft(fact), id(), Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!((sealed.subject.as_str(), sealed.class), (subject, class));
        }
    }

    #[test]
    fn the_envelope_leaves_out_what_is_unknown() {
        let system = SystemReported { what: "reload".to_owned(), details: Inputs::default() };
        let sealed =
            identity().seal(&draft(Fact::System(system)), id(), Timestamp::UNIX_EPOCH).unwrap();
        let text = std::str::from_utf8(&sealed.payload).unwrap();
        insta::assert_snapshot!(text, @r#"{"specversion":"1.0","id":"01900000-0000-7000-8000-000000000001","source":"provost://node-1/agent/worker","type":"provost.supervision.system.v1","subject":"w1","time":"1970-01-01T00:00:00Z","datacontenttype":"application/json","severity":"low","category":"system","environment":"test","generation":3,"data":{"what":"reload","details":{}}}"#);
    }

    #[test]
    fn a_gap_is_high_when_more_than_health_is_missing() {
        for (dropped_health, severity) in [(5, Severity::Medium), (4, Severity::High)] {
            let hole = Hole { at: 1, dropped: 5, dropped_health, since: Timestamp::UNIX_EPOCH };
            let notice = GapNotice {
                id: id(),
                hole,
                time: Timestamp::UNIX_EPOCH,
                bound_events: 10,
                bound_bytes: 100,
            };
            let sealed = identity().seal_gap(&notice).unwrap();
            let envelope: Envelope = serde_json::from_slice(&sealed.payload).unwrap();
            assert_eq!(envelope.severity, severity);
            assert_eq!(envelope.data["dropped"], 5);
            assert_eq!(sealed.subject, "supervision.events");
        }
    }
}
