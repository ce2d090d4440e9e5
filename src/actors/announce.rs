//! Turns decisions into events: who is told what, with which cause.
//!
//! The chain of one outage: the failure event; the decision it caused; the state changes and
//! circuit events that follow from the decision; in the end the recovery. `causationid` is one
//! step back, `correlationid` the first failure of the outage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use foldhash::fast::RandomState;

use crate::actors::tree::TreePorts;
use crate::logic::severity::{Topic, failure_of, severity_of};
use crate::ports::{EventDraft, EventSource, RunSpec};
use crate::protocol::decision::{DecisionRecord, Reason};
use crate::protocol::exit::{ChildExit, ExitCodes, StartError};
use crate::protocol::fact::{
    AgentChanged, AgentErred, AgentSpawned, CircuitChanged, Decided, Fact, Failed, FailureType,
    HealthReported, Recovered, RecoveryHow, Severity, StateChange, SupervisorReported,
};
use crate::protocol::id::{ChildName, EventId, Generation, SubjectId};
use crate::protocol::shown::{ChildRemoved, ChildShown};
use crate::protocol::spec::AgentSpec;
use crate::protocol::status::{AgentState, CircuitState};

/// Text that stands for a secret value.
const MASK: &str = "***";

/// What is known of one child's present outage.
#[derive(Debug, Default)]
struct Trail {
    /// First failure of the outage.
    outage: Option<EventId>,
    /// What the next event follows from.
    cause: Option<EventId>,
    /// Why the child is as it is, in words.
    because: String,
    /// How the last run ended.
    exit: Option<ExitCodes>,
    /// Whether somebody acted by hand during the outage.
    by_hand: bool,
    /// Who tells of its coming and its first start.
    told_by: FirstTeller,
}

/// Who tells of the coming and the first start of a child.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum FirstTeller {
    #[default]
    Us,
    /// The daemon that did it has told it.
    EarlierDaemon,
}

/// The child that an event is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) name: &'a ChildName,
    pub(crate) agent: Option<&'a AgentSpec>,
    pub(crate) generation: Generation,
}

impl About<'_> {
    fn subject(&self) -> SubjectId {
        self.agent.map_or_else(|| SubjectId::from(self.name), |agent| (&agent.agent_id).into())
    }

    fn kind(&self) -> &'static str {
        if self.agent.is_some() { "agent" } else { "child" }
    }
}

/// A failure to be told.
#[derive(Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) exit: Result<&'a ChildExit, &'a StartError>,
    pub(crate) change: StateChange,
    pub(crate) restarts: u64,
    pub(crate) record: DecisionRecord,
    /// Whether it is the failure of a downstream.
    pub(crate) downstream: bool,
}

/// Raises the events of one supervisor and its children.
#[derive(Debug)]
pub(crate) struct Announcer {
    supervisor: ChildName,
    ports: TreePorts,
    trails: HashMap<ChildName, Trail, RandomState>,
}

impl Announcer {
    pub(crate) fn new(supervisor: ChildName, ports: TreePorts) -> Self {
        Self { supervisor, ports, trails: HashMap::default() }
    }

    /// Somebody asked for what comes next: it has no cause among events.
    pub(crate) fn requested(&mut self, child: &ChildName, why: &str) {
        let trail = self.entry(child);
        trail.cause = None;
        trail.exit = None;
        trail.by_hand = true;
        why.clone_into(&mut trail.because);
    }

    /// A start that somebody asked for has failed.
    pub(crate) fn start_refused(&mut self, child: &ChildName, why: String) {
        let trail = self.entry(child);
        trail.by_hand = false;
        trail.because = why;
    }

    /// Whether the child's run, if one ended, ended because somebody asked for it.
    pub(crate) fn was_asked(&self, child: &ChildName) -> bool {
        self.trails.get(child).is_some_and(|trail| trail.by_hand && trail.exit.is_none())
    }

    /// Why the child is in this state, in words.
    pub(crate) fn reason(&self, child: &ChildName, state: AgentState) -> String {
        let mut reason = String::new();
        self.write_reason(child, state, &mut reason);
        reason
    }

    /// Writes why the child is in this state over a text that is there already.
    pub(crate) fn write_reason(&self, child: &ChildName, state: AgentState, reason: &mut String) {
        reason.clear();
        let Some(trail) = self.trails.get(child) else { return };
        if trail.outage.is_some() && matches!(state, AgentState::Starting | AgentState::Running) {
            reason.push_str("restarted; ");
        }
        reason.push_str(&trail.because);
    }

    /// A run that an earlier daemon or keeper had begun was taken over.
    pub(crate) fn adopted(&mut self, child: &ChildName, spec: RunSpec) {
        let because = match spec {
            RunSpec::Current => "adopted: its run outlived an earlier daemon",
            RunSpec::Outdated => {
                "adopted: its run outlived an earlier daemon and has the command, environment or \
                 working directory of then; the next restart takes the present ones"
            }
        };
        because.clone_into(&mut self.entry(child).because);
    }

    /// A run of the child's is there that will be adopted: that it was spawned and started has been told
    /// by the daemon that did it. So a daemon that follows a killed one tells one change for each agent.
    pub(crate) fn is_to_be_adopted(&mut self, child: &ChildName) {
        let trail = self.entry(child);
        trail.told_by = FirstTeller::EarlierDaemon;
        "its run outlived an earlier daemon".clone_into(&mut trail.because);
    }

    /// What speaks for the child says why it is so.
    pub(crate) fn because(&mut self, child: &ChildName, why: &str) {
        why.clone_into(&mut self.entry(child).because);
    }

    /// Forgets a child.
    pub(crate) fn forget(&mut self, child: &ChildName) {
        self.trails.remove(child);
    }

    pub(crate) fn spawned(
        &mut self,
        about: About<'_>,
        agent: &AgentSpec,
        shown: Option<ChildShown>,
    ) {
        let change = self.changed(about, None, AgentState::Created, shown);
        let fact = AgentSpawned { change, config: masked(agent) };
        let (trail, teller) = self.trail(about);
        let fact = Fact::AgentSpawned(Box::new(fact));
        trail.cause = Some(teller.emit(trail, fact, Severity::Info));
    }

    pub(crate) fn failed(&mut self, about: About<'_>, failure: Failure<'_>) {
        let (failure_type, exit, message) = match failure.exit {
            Ok(exit) => (failure_of(exit), exit.code_and_signal(), exit.to_string()),
            Err(error) => (FailureType::StartFailed, ExitCodes::default(), error.to_string()),
        };
        let topic = match failure.exit {
            Ok(ChildExit::GaveUp { .. }) => Topic::SupervisorGaveUp,
            Ok(_) | Err(_) => Topic::Failure(failure_type),
        };
        let fact = Failed {
            agent_id: about.agent.map(|agent| agent.agent_id.clone()),
            downstream: failure.downstream.then(|| about.name.clone()),
            name: about.name.clone(),
            failure_type,
            exit,
            context: failure.change,
            detection_time: self.ports.clock.now(),
            restarts: failure.restarts,
            decision: failure.record.clone(),
            message: Some(message.clone()),
        };
        let (trail, teller) = self.trail(about);
        trail.because = message;
        trail.exit = Some(exit);
        trail.cause = None;
        let id = teller.emit(trail, Fact::Failure(Box::new(fact)), teller.severity(topic));
        trail.outage.get_or_insert(id);
        trail.cause = Some(id);
        teller.decided(trail, failure.record);
    }

    /// Tells a decision; what follows is caused by it.
    pub(crate) fn decided(&mut self, about: About<'_>, record: DecisionRecord) {
        let (trail, teller) = self.trail(about);
        teller.decided(trail, record);
    }

    /// Tells that a group is restarted with a failed child; its members follow from that.
    pub(crate) fn group_restart(
        &mut self,
        about: About<'_>,
        members: &[ChildName],
        record: DecisionRecord,
    ) {
        self.decided(about, record);
        let cause = self.entry(about.name).cause;
        let because = format!("restarted with {}", about.name);
        for member in members.iter().filter(|member| *member != about.name) {
            let trail = self.entry(member);
            trail.cause = cause;
            trail.because.clone_from(&because);
        }
    }

    /// Tells that a run ended as the rules expect and the child stays down.
    pub(crate) fn finished(&mut self, about: About<'_>, exit: &ChildExit, record: DecisionRecord) {
        let (trail, teller) = self.trail(about);
        trail.because = exit.to_string();
        trail.exit = Some(exit.code_and_signal());
        trail.cause = None;
        teller.decided(trail, record);
    }

    pub(crate) fn circuit(
        &mut self,
        about: About<'_>,
        from: CircuitState,
        to: CircuitState,
        record: &DecisionRecord,
    ) {
        let due = matches!(to, CircuitState::Open);
        let fact = CircuitChanged {
            name: about.name.clone(),
            from,
            to,
            reason: record.reason,
            evidence: record.inputs.clone(),
            retry_after_ms: due.then_some(record.next.in_ms),
        };
        let (trail, teller) = self.trail(about);
        let severity = teller.severity(Topic::of_circuit(to));
        trail.cause = Some(teller.emit(trail, Fact::Circuit(fact), severity));
        if let Some(text) = circuit_text(to, record.reason) {
            trail.because = if trail.because.is_empty() || record.reason == Reason::Requested {
                text.to_owned()
            } else {
                format!("{text}; last: {}", last_of(&trail.because))
            };
        }
    }

    pub(crate) fn recovered(
        &mut self,
        about: About<'_>,
        since: Instant,
        now: Instant,
        attempts: u64,
    ) {
        let (trail, teller) = self.trail(about);
        let how = if trail.by_hand { RecoveryHow::Manual } else { RecoveryHow::Restart };
        let after = now.saturating_duration_since(since);
        let fact = Recovered {
            name: about.name.clone(),
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            attempts,
            how,
        };
        let id = teller.emit(trail, Fact::Recovery(fact), Severity::Info);
        let plural = if attempts == 1 { "" } else { "s" };
        let stable = format!("recovered after {attempts} restart{plural}");
        *trail = Trail { cause: Some(id), because: stable, ..Trail::default() };
    }

    pub(crate) fn state_changed(
        &mut self,
        about: About<'_>,
        old: AgentState,
        new: AgentState,
        shown: Option<ChildShown>,
    ) -> Option<EventId> {
        about.agent?;
        let told_by = std::mem::take(&mut self.entry(about.name).told_by);
        if told_by == FirstTeller::EarlierDaemon && new == AgentState::Starting {
            return None;
        }
        let change = Box::new(self.changed(about, Some(old), new, shown));
        let fact = if new == AgentState::Terminated {
            Fact::AgentTerminated(change)
        } else {
            Fact::AgentStateChanged(change)
        };
        let (trail, teller) = self.trail(about);
        let id = teller.emit(trail, fact, Severity::Info);
        if new == AgentState::Terminated {
            // It ended for good; when it is started again, that is no part of this outage.
            (trail.outage, trail.by_hand) = (None, false);
        }
        Some(id)
    }

    /// Tells how a child is shown where no change of its state tells it.
    pub(crate) fn shown(&mut self, about: About<'_>, shown: ChildShown) {
        self.emit(about, Fact::ChildChanged(Box::new(shown)), Severity::Info);
    }

    /// Tells that a child is not shown any more.
    pub(crate) fn removed(&mut self, about: About<'_>) {
        let (name, parent) = (about.name.clone(), Some(self.supervisor.clone()));
        self.emit(about, Fact::ChildRemoved(ChildRemoved { name, parent }), Severity::Info);
    }

    /// Whether an earlier daemon has told of the child's coming, and nothing changed since.
    pub(crate) fn is_told_by_earlier(&self, child: &ChildName) -> bool {
        let by_earlier = |trail: &Trail| trail.told_by == FirstTeller::EarlierDaemon;
        self.trails.get(child).is_some_and(by_earlier)
    }

    /// The child was stopped on request: what is told of it next is no part of its last outage.
    pub(crate) fn outage_over(&mut self, child: &ChildName) {
        if let Some(trail) = self.trails.get_mut(child) {
            trail.outage = None;
        }
    }

    /// Tells an agent's trouble that is no failure of a run, such as an unclean stop.
    pub(crate) fn erred(&mut self, about: About<'_>, state: AgentState, error: String) {
        if about.agent.is_none() {
            return;
        }
        let change = self.changed(about, Some(state), state, None);
        let fact = Fact::AgentError(Box::new(AgentErred { change, error }));
        self.emit(about, fact, Severity::Low);
    }

    pub(crate) fn health(&mut self, about: About<'_>, report: HealthReported) {
        self.emit(about, Fact::Health(report), Severity::Info);
    }

    /// Tells something about the supervisor itself.
    pub(crate) fn supervisor(
        &self,
        wrap: fn(Box<SupervisorReported>) -> Fact,
        children: Vec<ChildName>,
        record: Option<DecisionRecord>,
        severity: Severity,
    ) {
        let report = SupervisorReported { name: self.supervisor.clone(), children, record };
        self.own(wrap(Box::new(report)), severity);
    }

    /// Tells how the supervisor itself is shown.
    pub(crate) fn own_shown(&self, shown: ChildShown) {
        self.own(Fact::ChildChanged(Box::new(shown)), Severity::Info);
    }

    fn own(&self, fact: Fact, severity: Severity) {
        let name = self.supervisor.clone();
        self.ports.sink.emit(EventDraft {
            fact,
            about: SubjectId::from(&name),
            source: EventSource { kind: "supervisor", name },
            severity,
            correlation: None,
            causation: None,
            generation: None,
        });
    }

    fn changed(
        &self,
        about: About<'_>,
        old: Option<AgentState>,
        new: AgentState,
        shown: Option<ChildShown>,
    ) -> AgentChanged {
        let pid = shown.as_ref().and_then(|shown| shown.pid);
        let trail = self.trails.get(about.name);
        let unknown = || about.name.as_str().parse().ok();
        let agent_type = about.agent.map(|agent| agent.agent_type.clone()).or_else(unknown);
        AgentChanged {
            name: about.name.clone(),
            agent_type: agent_type.unwrap_or_else(crate::protocol::id::AgentTypeName::unknown),
            old_state: old,
            new_state: new,
            reason: self.reason(about.name, new),
            pid,
            generation: about.generation,
            exit: trail.and_then(|trail| trail.exit).filter(|_| pid.is_none()),
            shown: shown.map(Box::new),
        }
    }

    fn emit(&mut self, about: About<'_>, fact: Fact, severity: Severity) {
        let (trail, teller) = self.trail(about);
        teller.emit(trail, fact, severity);
    }

    fn entry(&mut self, child: &ChildName) -> &mut Trail {
        self.trails.entry(child.clone()).or_default()
    }

    /// What is known of a child, and who tells more of it: looked up once for everything that is
    /// told together.
    fn trail<'a>(&'a mut self, about: About<'a>) -> (&'a mut Trail, Teller<'a>) {
        let trail = self.trails.entry(about.name.clone()).or_default();
        (trail, Teller { supervisor: &self.supervisor, ports: &self.ports, about })
    }
}

/// Raises events about one child.
#[derive(Clone, Copy, Debug)]
struct Teller<'a> {
    supervisor: &'a ChildName,
    ports: &'a TreePorts,
    about: About<'a>,
}

impl Teller<'_> {
    fn emit(self, trail: &Trail, fact: Fact, severity: Severity) -> EventId {
        self.ports.sink.emit(EventDraft {
            fact,
            about: self.about.subject(),
            source: EventSource { kind: self.about.kind(), name: self.about.name.clone() },
            severity,
            correlation: trail.outage,
            causation: trail.cause,
            generation: Some(self.about.generation),
        })
    }

    fn decided(self, trail: &mut Trail, record: DecisionRecord) {
        let record = DecisionRecord { cause: trail.cause, ..record };
        let name = self.about.name.clone();
        let fact = Decided { name, supervisor: self.supervisor.clone(), record };
        trail.cause = Some(self.emit(trail, Fact::Decision(Box::new(fact)), Severity::Info));
    }

    fn severity(self, topic: Topic) -> Severity {
        severity_of(topic, &self.ports.severities)
    }
}

fn circuit_text(to: CircuitState, reason: Reason) -> Option<&'static str> {
    match to {
        CircuitState::Open if reason == Reason::TrialFailed => Some("trial failed, circuit open"),
        CircuitState::Open if reason == Reason::ExitRule => Some("circuit opened by an exit rule"),
        CircuitState::Open if reason == Reason::StartFailed => {
            Some("its command cannot be executed, circuit open")
        }
        CircuitState::Open => Some("too many restarts, circuit open"),
        CircuitState::HalfOpen => Some("trial run"),
        CircuitState::ForcedOpen => Some("circuit held open by hand"),
        CircuitState::ForcedClosed | CircuitState::Closed => None,
    }
}

/// The last failure in a text that may already tell of a circuit.
fn last_of(because: &str) -> &str {
    because.rsplit("; last: ").next().unwrap_or(because)
}

/// An agent's settings as they may be shown: secret values masked.
fn masked(agent: &AgentSpec) -> BTreeMap<String, serde_json::Value> {
    let secret: BTreeSet<&str> = agent.secret_env.iter().map(String::as_str).collect();
    let mut shown = agent.clone();
    for (name, value) in &mut shown.env {
        if secret.contains(name.as_str()) || looks_secret(name) {
            MASK.clone_into(value);
        }
    }
    match serde_json::to_value(&shown) {
        Ok(serde_json::Value::Object(fields)) => fields.into_iter().collect(),
        Ok(_) | Err(_) => BTreeMap::new(),
    }
}

/// Names of environment variables whose values are masked although nobody said so.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"]
        .iter()
        .any(|word| name.contains(word))
}
