//! For tests of this folder: a daemon's answers and events at noon, with one of everything.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cli::client::{Fed, Seen};
use crate::cli::testing::{agent, envelope_with, fed, noon};
use crate::cli::top::keys::{Wish, press};
use crate::cli::top::model::Model;
use crate::cli::top::model::picture::{Look, News, Task};
use crate::protocol::decision::{NextAction, NextKind};
use crate::protocol::downstream::DownstreamStatus;
use crate::protocol::status::{AgentState, AgentStatus, CircuitState, TreeNode};

/// So many seconds before noon.
pub(crate) fn ago(seconds: i64) -> Timestamp {
    noon().checked_sub(SignedDuration::from_secs(seconds)).unwrap()
}

fn node(name: &str, state: &str, more: Value) -> Value {
    let mut node = json!({
        "name": name, "kind": "worker", "state": state, "generation": 1, "pid": null,
        "restarts": 0, "circuit": {"state": "closed", "retry_after_ms": null}, "reason": "started",
    });
    node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node
}

fn supervisor(name: &str, children: Vec<Value>) -> Value {
    let more = json!({"kind": "supervisor", "strategy": "one_for_one", "children": children});
    node(name, "running", more)
}

/// The tree.
pub(crate) fn tree() -> TreeNode {
    let open = json!({"state": "open", "retry_after_ms": 21_000});
    let down = json!({"state": "open", "retry_after_ms": 4_200});
    let parts = vec![node("keeper", "running", json!({})), node("nats", "running", json!({}))];
    let agents = vec![
        node("coder", "running", json!({"pid": 4711, "restarts": 3, "agent_id": "id-coder"})),
        node(
            "cruncher",
            "quarantined",
            json!({"restarts": 5, "circuit": open,
            "agent_id": "id-cruncher", "generation": 6,
            "reason": "too many restarts, circuit open; last: exited with code 137"}),
        ),
        node(
            "flaky",
            "backoff",
            json!({"restarts": 2, "agent_id": "id-flaky",
            "reason": "exited with code 1"}),
        ),
        node("sleeper", "stopped", json!({"agent_id": "id-sleeper", "reason": "on request"})),
    ];
    let root = supervisor(
        "root",
        vec![
            supervisor("system", parts),
            supervisor(
                "downstreams",
                vec![node("backend", "quarantined", json!({"circuit": down}))],
            ),
            supervisor("agents", agents),
            node("http", "running", json!({})),
        ],
    );
    serde_json::from_value(root).unwrap()
}

fn agents() -> Vec<AgentStatus> {
    let mut coder = agent("coder", AgentState::Running);
    coder.restarts = 3;
    coder.pid = Some(4711);
    coder.health.metrics.cpu_usage = Some(0.42);
    coder.health.metrics.memory_mb = Some(1_536.0);
    let mut cruncher = agent("cruncher", AgentState::Quarantined);
    cruncher.circuit.state = CircuitState::Open;
    cruncher.circuit.retry_after_ms = Some(21_000);
    cruncher.next = Some(NextAction { action: NextKind::Trial, in_ms: 21_000 });
    cruncher.since = ago(9);
    cruncher.labels.insert("team".to_owned(), "a".to_owned());
    let mut flaky = agent("flaky", AgentState::Backoff);
    flaky.next = Some(NextAction { action: NextKind::Restart, in_ms: 3_200 });
    flaky.since = ago(1);
    let sleeper = agent("sleeper", AgentState::Stopped);
    vec![coder, cruncher, flaky, sleeper]
}

/// A look at the daemon.
pub(crate) fn look() -> Look {
    let system = json!({
        "node": "node-1", "version": "0.1.0", "pid": 1, "since": ago(7_200),
        "mode": "running", "agents": {"running": 1, "quarantined": 1, "backoff": 1, "stopped": 1},
        "agents_max": 10,
        "nats": {"state": "connected", "url": "nats://127.0.0.1:4222", "server_version": "2.15.1",
            "embedded": true, "durability": "default", "error": null},
        "outbox": crate::protocol::command::OutboxStatus::default(),
        "tasks": {"state": "on", "ready": 1, "delayed": 0, "held": 1, "ended": {}, "requeued": 0,
            "late": 0},
        "http": null, "flags": {}, "state_dir": "/s", "subject_prefix": "",
        "downstreams": {"backend": {"state": "open", "retry_after_ms": 4_200}},
    });
    Look {
        system: serde_json::from_value(system).unwrap(),
        tree: tree(),
        agents: agents(),
        slots: [("coder".to_owned(), (1, 4))].into(),
        letters: Some(2),
    }
}

/// An event with a number of its own, so long ago.
pub(crate) fn event(number: u32, (kind, name): (&str, &str), seconds: i64, data: Value) -> Seen {
    let mut data = data;
    data["name"] = name.into();
    let severity = data.as_object_mut().unwrap().remove("severity");
    let cause = data.as_object_mut().unwrap().remove("caused_by");
    let mut event = envelope_with(kind, &format!("id-{name}"), data);
    event.id = id(number).parse().unwrap();
    event.time = ago(seconds);
    event.severity =
        severity.map_or_else(Default::default, |word| serde_json::from_value(word).unwrap());
    event.causationid =
        cause.and_then(|cause| id(u32::try_from(cause.as_u64()?).ok()?).parse().ok());
    let Fed::Event(seen) = fed(event) else { panic!("no event") };
    *seen
}

/// The id of an event.
pub(crate) fn id(number: u32) -> String {
    format!("01900000-0000-7000-8000-{number:012}")
}

/// A decision about a child.
pub(crate) fn decision(number: u32, name: &str, seconds: i64, action: &str) -> Seen {
    let data = json!({
        "supervisor": "agents", "reason": "child_exited",
        "inputs": {"exit": "exited with code 137", "restarts_in_window": 5, "jitter": 0.280_620_7},
        "rule": {"strategy": "one_for_one", "restart": "permanent", "intensity": 5,
            "period_ms": 60_000, "on_exceeded": "quarantine", "open_for_ms": 30_000,
            "stable_after_ms": 10_000, "origin": "provost.toml:12"},
        "cause": null, "next": {"action": action, "in_ms": 21_000}, "caused_by": number - 1,
    });
    event(number, ("supervision.decision", name), seconds, data)
}

/// The events before noon.
pub(crate) fn events() -> Vec<Seen> {
    let crash = json!({"failure_type": "process_crash", "severity": "high",
        "message": "exited with code 137", "decision": {"next": {"action": "restart", "in_ms": 9}}});
    let opened = |from: &str, to: &str| {
        json!({"from": from, "to": to, "reason": "failure_threshold", "evidence": {},
            "retry_after_ms": 30_000, "severity": "high"})
    };
    let spawned = json!({"new_state": "running", "pid": 4711});
    vec![
        event(1, ("agent.state_changed", "coder"), 580, spawned),
        event(2, ("supervision.circuit", "backend"), 300, opened("closed", "open")),
        event(3, ("supervision.circuit", "backend"), 200, opened("open", "half_open")),
        event(4, ("supervision.circuit", "backend"), 190, opened("half_open", "closed")),
        event(5, ("supervision.failure", "cruncher"), 20, crash),
        decision(6, "cruncher", 20, "restart"),
        event(7, ("supervision.circuit", "cruncher"), 9, opened("closed", "open")),
        decision(8, "cruncher", 9, "trial"),
        event(9, ("supervision.circuit", "backend"), 5, opened("closed", "open")),
    ]
}

/// The downstreams.
pub(crate) fn downstreams() -> Vec<DownstreamStatus> {
    let backend = json!({"name": "backend", "type": "http", "state": "quarantined",
        "circuit": {"state": "open", "retry_after_ms": 4_200}, "in_flight": 0,
        "counts": {"calls": 1_204, "succeeded": 1_100, "failed": 80, "refused": 24, "retries": 31,
            "fallbacks": 0},
        "health": {"name": "backend", "status": "DOWN", "latency_ms": 1.25,
            "last_check": ago(5), "details": "connection refused"}});
    vec![serde_json::from_value(backend).unwrap()]
}

/// Tasks in four states.
pub(crate) fn tasks() -> Vec<Task> {
    let waiting = Task {
        id: "task-9".to_owned(),
        kind: "review".to_owned(),
        state: "accepted".to_owned(),
        submission: 9,
        record: None,
    };
    let record = |number: u64, state: &str, more: Value| {
        let mut record = json!({
            "record": id(100), "task_id": format!("task-{number}"), "type": "review",
            "state": state, "time": ago(10), "accepted_at": ago(60), "submission": number,
            "previous": 0, "priority": "normal", "attempt": 2, "failures": 1, "max_attempts": 3,
            "agent_id": "id-coder",
            "decision": {"reason": "agent_picked", "inputs": {}, "rule": {}, "cause": null,
                "next": {"action": "none", "in_ms": 0}},
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Task {
            id: format!("task-{number}"),
            kind: "review".to_owned(),
            state: state.to_owned(),
            submission: number,
            record: Some(serde_json::from_value(record).unwrap()),
        }
    };
    let error = json!({"error": {"code": "rate_limited", "message": "try later"}});
    vec![
        waiting,
        record(8, "working", json!({"progress": [3, 10], "message": "reading"})),
        record(7, "completed", json!({})),
        record(6, "failed", error),
    ]
}

/// Dead letters.
pub(crate) fn letters() -> Vec<crate::transport::dead_letters::Kept> {
    let letter = |number: u32| {
        json!({"id": id(number), "sequence": number, "type": "review", "time": ago(120),
            "original": {"subject": "coordination.tasks.review", "id": format!("task-{number}"),
                "body": {"input": number}, "bytes": 11},
            "error": {"code": "rate_limited", "message": "try later"}, "retry_count": 3})
    };
    serde_json::from_value(json!([letter(201), letter(202)])).unwrap()
}

/// A model that knows all of it.
pub(crate) fn model() -> Model {
    let way = vec!["--state-dir".to_owned(), "/run/it's here".to_owned()];
    let mut model = Model::new(TimeZone::UTC, way);
    model.take(News::Looked(Box::new(look())), noon());
    for seen in events() {
        model.take(News::Event(Box::new(seen)), noon());
    }
    model.take(News::Downstreams(downstreams()), noon());
    model.take(News::Tasks(Ok(tasks())), noon());
    model.take(News::Letters(Ok(letters())), noon());
    let log = ["\u{1b}[32mreading\u{1b}[0m the input", "it\tis large", "working"];
    let log = log.map(str::to_owned).to_vec();
    model.take(News::Log("cruncher".to_owned(), Ok(log)), noon());
    model
}

/// The key of a name as the tables have it.
pub(crate) fn key(name: &str) -> KeyEvent {
    let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
    match name {
        "Enter" => plain(KeyCode::Enter),
        "Esc" => plain(KeyCode::Esc),
        "Tab" => plain(KeyCode::Tab),
        "Up" => plain(KeyCode::Up),
        "Down" => plain(KeyCode::Down),
        "Left" => plain(KeyCode::Left),
        "Right" => plain(KeyCode::Right),
        "End" => plain(KeyCode::End),
        "Home" => plain(KeyCode::Home),
        "Backspace" => plain(KeyCode::Backspace),
        "Space" => plain(KeyCode::Char(' ')),
        name => match name.strip_prefix("Ctrl-") {
            Some(letter) => {
                let letter = letter.chars().next().unwrap();
                KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)
            }
            None => plain(KeyCode::Char(name.chars().next().unwrap())),
        },
    }
}

/// Presses keys one after the other; gives what the last one wishes for.
pub(crate) fn type_keys(model: &mut Model, keys: &str) -> Option<Wish> {
    let mut wish = None;
    for name in keys.split(' ') {
        wish = press(model, key(name), noon());
    }
    wish
}
