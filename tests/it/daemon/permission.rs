//! Who may start what: spawn requests against the rules of their types, over NATS.

use serde_json::{Value, json};

use crate::daemon::WORKER;
use crate::support::daemon::Daemon;
use crate::support::eventually_blocking;
use crate::support::nats::NatsServer;

/// A type that takes a few variables and nothing else, and one without rules of its own.
const TYPES: &str = r#"
[agent_types.closed]
command = ["sh", "-c", "echo got $APP_X; exec sleep 100000"]
env = { PROVOST_TEST_MARK = "{mark}" }
spawn = { args = false, env = ["APP_*", "KEY"], labels = false }
[agent_types.open]
command = ["sh", "-c", 'echo "got $0 $PATH_LIKE"; exec sleep 100000']
env = { PROVOST_TEST_MARK = "{mark}" }
"#;

struct Door {
    daemon: Daemon,
    client: async_nats::Client,
    _server: NatsServer,
}

impl Door {
    async fn open(config: &str) -> Self {
        let server = NatsServer::start();
        let daemon = Daemon::start_on(config, &server.url());
        let client = server.client().await;
        Self { daemon, client, _server: server }
    }

    async fn ask(&self, request: Value) -> Value {
        let payload = serde_json::to_vec(&request).unwrap();
        let answer = self.client.request("agent.command", payload.into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// Holds that a spawn with these additions is refused so, and that nothing is left of it.
    async fn refused(&self, agent_type: &str, additions: Value, kind: &str, word: &str) {
        let mut request = json!({"command": "spawn", "agent_type": agent_type, "name": "x1"});
        for (key, value) in additions.as_object().unwrap() {
            request[key] = value.clone();
        }
        let answer = self.ask(request.clone()).await;
        assert_eq!(answer["ok"], false, "{request}: {answer}");
        assert_eq!(answer["error"]["kind"], kind, "{request}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{request}: {answer}");
        assert!(!answer["error"]["hint"].as_str().unwrap().is_empty(), "{answer}");
        assert_eq!(self.daemon.agent("x1"), None, "{request} left something");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_that_a_type_does_not_permit_are_refused_and_leave_nothing() {
    let door = Door::open(&format!("{WORKER}{TYPES}")).await;
    let not = "not_permitted";
    door.refused("closed", json!({"args": ["-v"]}), not, "arguments").await;
    door.refused("closed", json!({"labels": {"a": "b"}}), not, "labels").await;
    door.refused("closed", json!({"env": {"OTHER": "x"}}), not, "OTHER").await;
    door.refused("closed", json!({"env": {"APP_X": "x", "KEY2": "x"}}), not, "KEY2").await;
    for name in
        ["LD_PRELOAD", "PATH", "NATS_URL", "PROVOST_AGENT_ID", "PYTHONPATH", "NOTIFY_SOCKET"]
    {
        for agent_type in ["closed", "open"] {
            door.refused(agent_type, json!({"env": {name: "x"}}), not, name).await;
        }
    }
    let line = json!({"command_line": ["sh", "-c", "true"]});
    door.refused("open", line.clone(), not, "command line").await;
    door.refused("nobody", line, not, "command line").await;
    door.refused("nobody", json!({}), "unknown_agent_type", "nobody").await;
    door.refused("open", json!({"node": "elsewhere"}), "invalid_request", "elsewhere").await;
    door.refused("open", json!({"env": {"A=B": "x"}}), "invalid_request", "A=B").await;
    door.refused("open", json!({"args": ["a\u{0}b"]}), "invalid_request", "zero byte").await;
    let many: Vec<&str> = std::iter::repeat_n("x", 1_001).collect();
    door.refused("open", json!({"args": many}), "invalid_request", "1000").await;
    assert_eq!(door.daemon.processes().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_that_a_type_permits_reach_the_process() {
    let door = Door::open(&format!("{WORKER}{TYPES}")).await;
    let spawned = |agent_type: &str, name: &str, more: Value| {
        let mut request = json!({"command": "spawn", "agent_type": agent_type, "name": name});
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        request
    };
    let answer = door.ask(spawned("closed", "c1", json!({"env": {"APP_X": "hello"}}))).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let more = json!({"args": ["one"], "env": {"PATH_LIKE": "two"}, "labels": {"team": "a"}});
    let answer = door.ask(spawned("open", "o1", more)).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(answer["agent"]["labels"]["team"], "a");
    for (name, line) in [("c1", "got hello"), ("o1", "got one two")] {
        eventually_blocking(&format!("{name} says {line}"), || {
            let logs = door.daemon.json(&["logs", name]);
            logs.to_string().contains(line).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_and_a_taken_name_are_typed_refusals() {
    let config = format!("{}{TYPES}", WORKER.replace("max = 100", "max = 1"));
    let door = Door::open(&config).await;
    let spawn = json!({"command": "spawn", "agent_type": "open", "name": "x1"});
    assert_eq!(door.ask(spawn.clone()).await["ok"], true);
    let other = json!({"command": "spawn", "agent_type": "open"});
    assert_eq!(door.ask(other).await["error"]["kind"], "pool_full");
    let stop = json!({"command": "stop", "agent": "x1"});
    assert_eq!(door.ask(stop).await["ok"], true);
    assert_eq!(door.ask(spawn).await["error"]["kind"], "already_exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_requests_may_only_look_nothing_is_changed() {
    let read_only = WORKER.replace("max = 100", "max = 100\ncommand_permission = \"read_only\"");
    let door = Door::open(&crate::daemon::with_agents(&read_only, &["w1"])).await;
    door.daemon.wait_state("w1", "running");
    for command in ["stop", "restart", "kill", "drain", "resume", "reset", "remove"] {
        let answer = door.ask(json!({"command": command, "agent": "w1"})).await;
        assert_eq!(answer["error"]["kind"], "not_permitted", "{command}: {answer}");
    }
    let answer = door.ask(json!({"command": "spawn", "agent_type": "worker"})).await;
    assert_eq!(answer["error"]["kind"], "not_permitted");
    assert_eq!(door.ask(json!({"command": "status", "agent": "w1"})).await["ok"], true);
    let no_spawn = WORKER.replace("max = 100", "max = 100\ncommand_permission = \"no_spawn\"");
    let door = Door::open(&no_spawn).await;
    let answer = door.ask(json!({"command": "spawn", "agent_type": "worker"})).await;
    assert_eq!(answer["error"]["kind"], "not_permitted");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("command_permission"));
}

#[tokio::test(flavor = "multi_thread")]
async fn undeclared_command_lines_run_where_the_configuration_allows_them() {
    let config = WORKER.replace("max = 100", "max = 100\nallow_undeclared = true");
    let door = Door::open(&config).await;
    let request = json!({"command": "spawn", "agent_type": "adhoc", "name": "x1",
        "command_line": ["sh", "-c", "exec sleep 100000"]});
    let answer = door.ask(request).await;
    assert_eq!(answer["ok"], true, "{answer}");
    door.daemon.wait_state("x1", "running");
    // Variables that load code are refused all the same.
    let request = json!({"command": "spawn", "agent_type": "adhoc", "name": "x2",
        "command_line": ["true"], "env": {"LD_PRELOAD": "x"}});
    assert_eq!(door.ask(request).await["error"]["kind"], "not_permitted");
    let empty = json!({"command": "spawn", "agent_type": "adhoc", "command_line": []});
    assert_eq!(door.ask(empty).await["error"]["kind"], "invalid_request");
}
