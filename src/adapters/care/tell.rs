//! The events of one downstream: health, the failure of its calls, its circuit, its recovery.
//!
//! The failure of a session is told by its supervisor, like the failure of any child's run.

use std::sync::Mutex;

use tokio::time::Instant;

use crate::adapters::care::{CarePorts, lock};
use crate::logic::breaker::config::millis;
use crate::logic::breaker::{Cause, Transition};
use crate::logic::call::{Outage, Over, Up};
use crate::logic::severity::{Topic, severity_of};
use crate::ports::{EventDraft, EventSource};
use crate::protocol::exit::ExitCodes;
use crate::protocol::fact::{
    Fact, Failed, FailureType, HealthMetrics, HealthReported, Recovered, RecoveryHow, Severity,
    StateChange,
};
use crate::protocol::id::{ChildName, EventId, SubjectId};
use crate::protocol::status::{AgentState, CircuitState, HealthStatus};

/// Raises the events of one downstream.
#[derive(Debug)]
pub(crate) struct Teller {
    name: ChildName,
    ports: CarePorts,
    origin: Option<String>,
    began: Instant,
    trail: Mutex<Trail>,
}

/// What is known of the present outage.
#[derive(Debug)]
struct Trail {
    outage: Outage,
    /// Its first event.
    first: Option<EventId>,
    /// The last one.
    cause: Option<EventId>,
    how: RecoveryHow,
}

impl Teller {
    pub(crate) fn new(name: ChildName, ports: CarePorts, origin: Option<String>) -> Self {
        let how = RecoveryHow::Probe;
        let trail = Trail { outage: Outage::default(), first: None, cause: None, how };
        Self { name, ports, origin, began: Instant::now(), trail: Mutex::new(trail) }
    }

    /// Tells how it is.
    pub(crate) fn health(&self, status: HealthStatus, metrics: HealthMetrics) {
        let fact = Fact::Health(HealthReported { status, metrics });
        self.emit(&lock(&self.trail), fact, Severity::Info);
    }

    /// A session was tried again.
    pub(crate) fn tried(&self) {
        lock(&self.trail).outage.attempt();
    }

    /// There is a session, or no more.
    pub(crate) fn session(&self, there: Up) {
        let mut trail = lock(&self.trail);
        if trail.outage.is_on() && there == Up::Yes {
            trail.how = RecoveryHow::Reconnect;
        }
        let over = trail.outage.session(self.now_ms(), there);
        self.over(&mut trail, over);
    }

    /// A check came out like this.
    pub(crate) fn checked(&self, well: Up) {
        let mut trail = lock(&self.trail);
        let over = trail.outage.check(self.now_ms(), well);
        self.over(&mut trail, over);
    }

    /// The circuit has changed. That it opened because of calls is a failure of the downstream.
    pub(crate) fn circuit(&self, transition: &Transition) {
        let mut trail = lock(&self.trail);
        match (transition.from, transition.to, transition.cause) {
            (_, CircuitState::Open, Cause::TrialFailed | Cause::TrialTimedOut) => {}
            (_, CircuitState::Open, cause) => {
                let id = self.failed(&trail, transition, cause);
                trail.first.get_or_insert(id);
                trail.cause = Some(id);
            }
            (_, CircuitState::HalfOpen, _) => trail.outage.attempt(),
            (_, CircuitState::Closed, Cause::Requested) => trail.how = RecoveryHow::Manual,
            (
                _,
                CircuitState::Closed | CircuitState::ForcedOpen | CircuitState::ForcedClosed,
                _,
            ) => {}
        }
        let fact = Fact::Circuit(transition.event(self.name.clone()));
        let severity = self.severity(Topic::of_circuit(transition.to));
        let id = self.emit(&trail, fact, severity);
        if trail.first.is_some() {
            trail.cause = Some(id);
        }
        let over = match transition.to {
            CircuitState::Open => trail.outage.circuit(self.now_ms(), Up::No),
            CircuitState::Closed | CircuitState::ForcedClosed => {
                trail.outage.circuit(self.now_ms(), Up::Yes)
            }
            // What somebody holds open is no outage, and what is tried is not over.
            CircuitState::HalfOpen | CircuitState::ForcedOpen => None,
        };
        self.over(&mut trail, over);
    }

    fn failed(&self, trail: &Trail, transition: &Transition, cause: Cause) -> EventId {
        let failure_type = match cause {
            Cause::Throttled => FailureType::Throttled,
            Cause::FailureThreshold
            | Cause::ErrorPercent
            | Cause::SlowPercent
            | Cause::OpenTimeOver
            | Cause::TrialFailed
            | Cause::TrialTimedOut
            | Cause::TrialPassed
            | Cause::Requested => FailureType::CallFailed,
        };
        let fact = Failed {
            agent_id: None,
            downstream: Some(self.name.clone()),
            name: self.name.clone(),
            failure_type,
            exit: ExitCodes::default(),
            context: StateChange { from: AgentState::Running, to: AgentState::Quarantined },
            detection_time: self.ports.clock.now(),
            restarts: 0,
            decision: transition.record(self.origin.clone()),
            message: Some(words(cause).to_owned()),
        };
        let severity = self.severity(Topic::Failure(failure_type));
        self.emit(trail, Fact::Failure(Box::new(fact)), severity)
    }

    fn over(&self, trail: &mut Trail, over: Option<Over>) {
        let Some(Over { after_ms, attempts }) = over else { return };
        let name = self.name.clone();
        let fact = Recovered { name, after_ms, attempts, how: trail.how };
        self.emit(trail, Fact::Recovery(fact), self.severity(Topic::Recovery));
        (trail.first, trail.cause) = (None, None);
        trail.how = RecoveryHow::Probe;
    }

    fn emit(&self, trail: &Trail, fact: Fact, severity: Severity) -> EventId {
        self.ports.sink.emit(EventDraft {
            fact,
            about: SubjectId::from(&self.name),
            source: EventSource { kind: "downstream", name: self.name.clone() },
            severity,
            correlation: trail.first,
            causation: trail.cause,
            generation: None,
        })
    }

    fn severity(&self, topic: Topic) -> Severity {
        severity_of(topic, &self.ports.severities)
    }

    fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

fn words(cause: Cause) -> &'static str {
    match cause {
        Cause::FailureThreshold => "too many of its calls failed in a row",
        Cause::ErrorPercent => "too large a share of its calls failed",
        Cause::SlowPercent => "too large a share of its calls was slow",
        Cause::Throttled => "it asked not to be called for a while",
        Cause::OpenTimeOver
        | Cause::TrialFailed
        | Cause::TrialTimedOut
        | Cause::TrialPassed
        | Cause::Requested => "its circuit opened",
    }
}
