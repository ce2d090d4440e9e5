//! One sample of every document, with all fields set that can be.

use std::collections::BTreeMap;

use jiff::Timestamp;
use provost::protocol::command::{NatsStatus, OutboxStatus, SystemMode, SystemStatus, TasksStatus};
use provost::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use provost::protocol::event::{CONTENT_TYPE, Envelope, SPEC_VERSION};
use provost::protocol::exit::ExitCodes;
use provost::protocol::fact::{
    AgentChanged, AgentErred, AgentSpawned, CircuitChanged, Decided, Fact, Failed, FailureType,
    Gap, HealthMetrics, HealthReported, Recovered, RecoveryHow, Severity, StateChange,
    SupervisorReported, SystemReported,
};
use provost::protocol::id::{AgentId, Generation, SubjectId};
use provost::protocol::reload::ConfigStatus;
use provost::protocol::shown::{AgentIdentity, ChildRemoved, ChildShown, Snapshot};
use provost::protocol::spec::{ChildKind, Limit, OnExceeded, RestartType, Strategy};
use provost::protocol::status::{
    AgentState, AgentStatus, CircuitState, CircuitStatus, HealthStatus, HealthView, TreeNode,
};
use serde_json::json;

/// Id of the agent in all samples.
pub(super) const AGENT: &str = "0192f3c1-0000-7000-8000-000000000001";

fn time() -> Timestamp {
    "2026-11-20T19:16:18.735Z".parse().unwrap()
}

fn agent() -> AgentId {
    AGENT.parse().unwrap()
}

fn map<T>(entries: impl IntoIterator<Item = (&'static str, T)>) -> BTreeMap<String, T> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A restart that was decided after a crash.
pub(super) fn decision() -> DecisionRecord {
    DecisionRecord {
        reason: Reason::ChildExited,
        inputs: Inputs::default()
            .with("restarts_in_period", 2_u64)
            .with("delay_ms", 400_u64)
            .with("jitter", 0.5)
            .with("clean", false)
            .with("exit", "exited with code 1"),
        rule: Rule {
            strategy: Some(Strategy::OneForOne),
            distribution: None,
            restart: Some(RestartType::Permanent),
            intensity: Some(5),
            period_ms: Some(60_000),
            on_exceeded: Some(OnExceeded::Quarantine),
            open_for_ms: Some(30_000),
            stable_after_ms: Some(10_000),
            origin: Some("provost.toml:12".to_owned()),
            exit_rule: None,
        },
        cause: Some("0192f3c1-0000-7000-8000-0000000000aa".parse().unwrap()),
        next: NextAction { action: NextKind::Restart, in_ms: 200 },
    }
}

fn metrics() -> HealthMetrics {
    HealthMetrics {
        cpu_usage: Some(0.25),
        memory_mb: Some(48.5),
        response_time_ms: None,
        error_rate: None,
        throughput: None,
        open_files: Some(12),
    }
}

fn failed() -> Failed {
    Failed {
        agent_id: Some(agent()),
        downstream: None,
        name: "w1".parse().unwrap(),
        failure_type: FailureType::ProcessCrash,
        exit: ExitCodes { code: Some(1), signal: None },
        context: StateChange { from: AgentState::Running, to: AgentState::Backoff },
        detection_time: time(),
        restarts: 2,
        decision: decision(),
        message: Some("exited with code 1".to_owned()),
    }
}

/// A failure of a downstream: no exit, and so null.
fn downstream_failed() -> Failed {
    Failed {
        agent_id: None,
        downstream: Some("backend".parse().unwrap()),
        name: "backend".parse().unwrap(),
        failure_type: FailureType::CallFailed,
        exit: ExitCodes::default(),
        context: StateChange { from: AgentState::Running, to: AgentState::Degraded },
        message: None,
        ..failed()
    }
}

fn changed() -> AgentChanged {
    AgentChanged {
        name: "w1".parse().unwrap(),
        agent_type: "worker".parse().unwrap(),
        old_state: Some(AgentState::Running),
        new_state: AgentState::Backoff,
        reason: "exited with code 1; restart in 200 ms".to_owned(),
        pid: None,
        generation: Generation(3),
        exit: Some(ExitCodes { code: Some(1), signal: None }),
        shown: Some(Box::new(shown())),
    }
}

fn shown() -> ChildShown {
    ChildShown {
        name: "w1".parse().unwrap(),
        kind: ChildKind::Worker,
        parent: Some("agents".parse().unwrap()),
        place: Some(1),
        agent: Some(AgentIdentity {
            agent_id: agent(),
            agent_type: "worker".parse().unwrap(),
            labels: map([("team", "blue".to_owned())]),
        }),
        state: AgentState::Backoff,
        generation: Generation(3),
        pid: None,
        restarts: 2,
        since: time(),
        reason: "exited with code 1".to_owned(),
        circuit: CircuitStatus::default(),
        next: Some(NextAction { action: NextKind::Restart, in_ms: 200 }),
        strategy: None,
        limit: None,
        containment: None,
        limits: BTreeMap::new(),
    }
}

fn spawned() -> AgentSpawned {
    AgentSpawned {
        change: AgentChanged {
            old_state: None,
            new_state: AgentState::Created,
            reason: "spawned on request".to_owned(),
            generation: Generation(0),
            exit: None,
            shown: None,
            ..changed()
        },
        config: map([
            ("command", json!(["python3", "worker.py"])),
            ("env", json!({ "API_TOKEN": "***", "MODE": "fast" })),
        ]),
    }
}

fn terminated() -> AgentChanged {
    AgentChanged {
        old_state: Some(AgentState::Stopping),
        new_state: AgentState::Terminated,
        reason: "removed on request".to_owned(),
        exit: None,
        shown: None,
        ..changed()
    }
}

fn supervisor(record: Option<DecisionRecord>) -> Box<SupervisorReported> {
    let children = vec!["w1".parse().unwrap(), "w2".parse().unwrap()];
    Box::new(SupervisorReported { name: "team".parse().unwrap(), children, record })
}

/// One fact of every type, by the name of its golden file; failures twice.
pub(super) fn facts() -> Vec<(&'static str, Fact)> {
    let circuit = CircuitChanged {
        name: "w1".parse().unwrap(),
        from: CircuitState::Closed,
        to: CircuitState::Open,
        reason: Reason::ChildLimitExceeded,
        evidence: Inputs::default()
            .with("restarts_in_period", 6_u64)
            .with("intensity", 5_u64)
            .with("period_ms", 60_000_u64),
        retry_after_ms: Some(30_000),
    };
    let decided = Decided {
        name: "w1".parse().unwrap(),
        supervisor: "agents".parse().unwrap(),
        record: decision(),
    };
    let gap = Gap {
        dropped: 17,
        dropped_health: 15,
        since: time(),
        bound_events: 10_000,
        bound_bytes: 16_777_216,
    };
    let system = SystemReported {
        what: "nats_connected".to_owned(),
        details: Inputs::default().with("away_ms", 5_012_u64).with("server_version", "2.15.1"),
    };
    let recovered = Recovered {
        name: "w1".parse().unwrap(),
        after_ms: 10_412,
        attempts: 2,
        how: RecoveryHow::Restart,
    };
    let health = HealthReported { status: HealthStatus::Healthy, metrics: metrics() };
    let erred = AgentErred {
        change: AgentChanged { shown: None, ..changed() },
        error: "log file cannot be written: no space left on device".to_owned(),
    };
    let removed =
        ChildRemoved { name: "w1".parse().unwrap(), parent: Some("agents".parse().unwrap()) };
    let snapshot = Snapshot { part: 1, parts: 1, children: vec![shown()] };
    let mut facts = crate::wire::task_samples::facts();
    facts.extend(crate::wire::insight_samples::facts());
    facts.splice(
        0..0,
        [
            ("supervision.health", Fact::Health(health)),
            ("supervision.failure", Fact::Failure(Box::new(failed()))),
            ("supervision.failure.downstream", Fact::Failure(Box::new(downstream_failed()))),
            ("supervision.recovery", Fact::Recovery(recovered)),
            ("supervision.circuit", Fact::Circuit(circuit)),
            ("supervision.decision", Fact::Decision(Box::new(decided))),
            ("supervision.escalation", Fact::Escalation(supervisor(Some(decision())))),
            ("supervision.supervisor_started", Fact::SupervisorStarted(supervisor(None))),
            (
                "supervision.supervisor_stopped",
                Fact::SupervisorStopped(supervisor(Some(decision()))),
            ),
            ("supervision.gap", Fact::Gap(gap)),
            ("supervision.system", Fact::System(system)),
            ("supervision.child_changed", Fact::ChildChanged(Box::new(shown()))),
            ("supervision.child_removed", Fact::ChildRemoved(removed)),
            ("supervision.snapshot", Fact::Snapshot(Box::new(snapshot))),
            ("agent.spawned", Fact::AgentSpawned(Box::new(spawned()))),
            ("agent.state_changed", Fact::AgentStateChanged(Box::new(changed()))),
            ("agent.terminated", Fact::AgentTerminated(Box::new(terminated()))),
            ("agent.error", Fact::AgentError(Box::new(erred))),
        ],
    );
    facts
}

/// An event as it stands on the wire, every attribute set.
pub(super) fn envelope(fact: &Fact) -> Envelope {
    let word = |text: &str| Some(text.to_owned());
    Envelope {
        specversion: SPEC_VERSION.to_owned(),
        id: "0192f3c1-0000-7000-8000-0000000000bb".parse().unwrap(),
        source: "provost://node-1/agent/w1".to_owned(),
        event_type: fact.type_name().to_owned(),
        subject: SubjectId::from(&agent()),
        time: time(),
        datacontenttype: "application/json".to_owned(),
        severity: Severity::High,
        category: fact.category(),
        coordinationtype: word("assignment"),
        userid: word("u-1"),
        sessionid: word("s-1"),
        requestid: word("r-1"),
        environment: word("production"),
        region: word("eu-1"),
        correlationid: Some("0192f3c1-0000-7000-8000-0000000000aa".parse().unwrap()),
        causationid: Some("0192f3c1-0000-7000-8000-0000000000aa".parse().unwrap()),
        traceparent: word("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        generation: Some(Generation(3)),
        data: serde_json::to_value(fact).unwrap(),
    }
}

/// An event of which only the required attributes are known.
pub(super) fn bare_envelope(fact: &Fact) -> Envelope {
    Envelope {
        coordinationtype: None,
        userid: None,
        sessionid: None,
        requestid: None,
        environment: None,
        region: None,
        correlationid: None,
        causationid: None,
        traceparent: None,
        generation: None,
        ..envelope(fact)
    }
}

/// An agent that waits for its restart.
pub(super) fn agent_status() -> AgentStatus {
    AgentStatus {
        agent_id: agent(),
        name: "w1".parse().unwrap(),
        agent_type: "worker".parse().unwrap(),
        node: "node-1".parse().unwrap(),
        state: AgentState::Backoff,
        generation: Generation(3),
        pid: None,
        restarts: 2,
        since: time(),
        reason: "exited with code 1; restart in 200 ms".to_owned(),
        circuit: CircuitStatus { state: CircuitState::Closed, retry_after_ms: None },
        health: HealthView { status: HealthStatus::Unknown, metrics: HealthMetrics::default() },
        next: Some(NextAction { action: NextKind::Restart, in_ms: 200 }),
        labels: map([("team", "blue".to_owned())]),
        containment: None,
        limits: BTreeMap::new(),
    }
}

/// An agent in quarantine, and one at rest: null where nothing is due.
pub(super) fn other_statuses() -> Vec<AgentStatus> {
    let quarantined = AgentStatus {
        state: AgentState::Quarantined,
        circuit: CircuitStatus { state: CircuitState::Open, retry_after_ms: Some(30_000) },
        next: Some(NextAction { action: NextKind::Trial, in_ms: 30_000 }),
        reason: "6 restarts within 60 s, 5 are allowed".to_owned(),
        ..agent_status()
    };
    let running = AgentStatus {
        state: AgentState::Running,
        pid: Some(4242),
        health: HealthView { status: HealthStatus::Healthy, metrics: metrics() },
        next: None,
        reason: "started".to_owned(),
        labels: BTreeMap::new(),
        ..agent_status()
    };
    vec![quarantined, running]
}

pub(super) fn tree() -> TreeNode {
    let worker = TreeNode {
        name: "w1".parse().unwrap(),
        kind: ChildKind::Worker,
        state: AgentState::Running,
        generation: Generation(3),
        pid: Some(4242),
        restarts: 2,
        circuit: CircuitStatus::default(),
        reason: "started".to_owned(),
        agent_id: Some(agent()),
        strategy: None,
        limit: None,
        children: Vec::new(),
    };
    TreeNode {
        name: "agents".parse().unwrap(),
        kind: ChildKind::Supervisor,
        pid: None,
        restarts: 0,
        agent_id: None,
        strategy: Some(Strategy::OneForOne),
        limit: Some(Limit { intensity: 10, period: std::time::Duration::from_secs(60) }),
        children: vec![worker.clone()],
        ..worker
    }
}

pub(super) fn system() -> SystemStatus {
    SystemStatus {
        node: "node-1".parse().unwrap(),
        version: "0.1.0".to_owned(),
        pid: 4001,
        since: time(),
        mode: SystemMode::Running,
        agents: map([("backoff", 1), ("running", 4)]),
        agents_max: 10,
        nats: NatsStatus {
            state: "connected".to_owned(),
            url: "nats://127.0.0.1:4222".to_owned(),
            server_version: Some("2.15.1".to_owned()),
            embedded: true,
            durability: "default".to_owned(),
            error: None,
        },
        outbox: OutboxStatus {
            waiting: 0,
            bytes: 0,
            acknowledged: 812,
            dropped: 0,
            bound_events: 10_000,
            bound_bytes: 67_108_864,
            memory_only: false,
        },
        tasks: TasksStatus {
            state: "on".to_owned(),
            ready: 3,
            delayed: 1,
            held: 4,
            ended: map([("completed", 812)]),
            requeued: 2,
            late: 1,
            trouble: None,
        },
        http: None,
        flags: map([("ENABLE_SUPERVISION", true), ("ENABLE_COORDINATION", false)]),
        state_dir: "state".to_owned(),
        subject_prefix: String::new(),
        downstreams: BTreeMap::from([("backend".parse().unwrap(), CircuitStatus::default())]),
        config: Some(Box::new(ConfigStatus {
            files: vec!["provost.toml".to_owned()],
            loaded_at: Some(time()),
            changes: 2,
            held: 1,
            faults: Vec::new(),
            refused: None,
        })),
    }
}

/// One change with all fields set.
/// The headers of an event are part of the wire.
#[test]
fn the_content_type_of_events_is_that_of_structured_cloudevents() {
    assert_eq!(CONTENT_TYPE, "application/cloudevents+json");
}
