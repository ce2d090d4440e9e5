//! `system.control` through a bare NATS client: every verb, every wrong input, who may what.

use serde_json::{Value, json};

use crate::daemon::{WORKER, pid_of, with_agents};
use crate::support::daemon::{Daemon, lives, signal};
use crate::support::nats::NatsServer;
use crate::support::{eventually, eventually_blocking};
use rustix::process::Signal;

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

    async fn bytes(&self, subject: &'static str, payload: &[u8]) -> Value {
        let answer = self.client.request(subject, payload.to_vec().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    async fn ask(&self, request: Value) -> Value {
        self.bytes("system.control", request.to_string().as_bytes()).await
    }

    async fn agent(&self, request: Value) -> Value {
        self.bytes("agent.command", request.to_string().as_bytes()).await
    }

    async fn refused(&self, request: Value, kind: &str) {
        let answer = self.ask(request.clone()).await;
        assert_eq!(answer["ok"], false, "{request}: {answer}");
        assert_eq!(answer["error"]["kind"], kind, "{request}: {answer}");
        for field in ["code", "message", "hint"] {
            assert!(!answer["error"][field].as_str().unwrap().is_empty(), "{request}: {answer}");
        }
    }

    async fn mode(&self) -> Value {
        self.ask(json!({"command": "status"})).await["system"]["mode"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_of_system_control_does_what_it_says() {
    let mut door = Door::open(&with_agents(WORKER, &["w1"])).await;
    let w1 = door.daemon.wait_state("w1", "running");
    let status = door.ask(json!({"command": "status"})).await;
    assert_eq!(status["ok"], true);
    for field in ["node", "version", "pid", "since", "mode", "nats", "outbox", "http", "flags"] {
        assert!(!status["system"][field].is_null(), "{field}: {status}");
    }
    assert_eq!(status["system"]["mode"], "running");
    let tree = door.ask(json!({"command": "tree"})).await;
    assert_eq!(tree["tree"]["name"], "root", "{tree}");

    // Paused: nothing new begins, not even a restart; what runs goes on.
    let paused = door.ask(json!({"command": "pause"})).await;
    assert_eq!(paused["system"]["mode"], "paused", "{paused}");
    let spawn = json!({"command": "spawn", "agent_type": "worker"});
    assert_eq!(door.agent(spawn.clone()).await["error"]["kind"], "wrong_state");
    door.refused(json!({"command": "reload"}), "wrong_state").await;
    assert!(lives(pid_of(&w1)));
    signal(pid_of(&w1), Signal::KILL);
    door.daemon.wait("w1", "is held", |agent| agent["state"] == "backoff");
    let resumed = door.ask(json!({"command": "resume"})).await;
    assert_eq!(resumed["system"]["mode"], "running", "{resumed}");
    let w1 = door.daemon.wait_state("w1", "running");

    // Draining: no new work; what runs goes on.
    assert_eq!(door.ask(json!({"command": "drain"})).await["system"]["mode"], "draining");
    assert_eq!(door.agent(spawn).await["error"]["kind"], "wrong_state");
    assert!(lives(pid_of(&w1)));
    assert_eq!(door.ask(json!({"command": "resume"})).await["ok"], true);
    assert_eq!(door.mode().await, "running");

    // Circuits, by name and by id.
    let circuit =
        |child: &Value, set: &str| json!({"command": "circuit", "child": child, "set": set});
    let opened = door.ask(circuit(&w1["name"], "open")).await;
    assert_eq!(opened["agent"]["circuit"]["state"], "forced_open", "{opened}");
    assert_eq!(opened["agent"]["state"], "quarantined", "{opened}");
    let closed = door.ask(circuit(&w1["agent_id"], "closed")).await;
    assert_eq!(closed["agent"]["circuit"]["state"], "forced_closed", "{closed}");
    let auto = door.ask(circuit(&w1["name"], "auto")).await;
    assert_eq!(auto["agent"]["circuit"]["state"], "closed", "{auto}");
    door.daemon.wait_state("w1", "running");

    // Reload: a look first, then the deed.
    door.daemon.configure(&with_agents(WORKER, &["w1", "w2"]));
    let look = door.ask(json!({"command": "reload", "dry_run": true})).await;
    assert_eq!((&look["ok"], &look["plan"]["done"]), (&json!(true), &json!(false)), "{look}");
    assert_eq!(door.daemon.agent("w2"), None);
    let done = door.ask(json!({"command": "reload", "plan": look["plan"]["fingerprint"]})).await;
    assert_eq!(done["plan"]["done"], true, "{done}");
    door.daemon.wait_state("w2", "running");
    let nothing = door.ask(json!({"command": "reload"})).await;
    assert_eq!(nothing["plan"]["changes"], json!([]), "{nothing}");

    let last = door.ask(json!({"command": "shutdown"})).await;
    assert_eq!(last["system"]["mode"], "stopping", "{last}");
    let ended = eventually_blocking("the daemon ends", || door.daemon.ended());
    assert!(ended.success(), "{ended}");
    door.daemon.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_is_refused_with_its_kind_and_nothing_happens() {
    let door = Door::open(&with_agents(WORKER, &["w1"])).await;
    door.daemon.wait_state("w1", "running");
    let raw: [&[u8]; 9] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"\"status\"",
        b"{\"command\":\"status\"} x",
        b"{\"command\":\"status\",\"command\":\"shutdown\"}",
        b"{\"command\":7}",
    ];
    for payload in raw {
        let answer = door.bytes("system.control", payload).await;
        assert_eq!(answer["error"]["kind"], "invalid_request", "{payload:?}: {answer}");
    }
    let long = "x".repeat(2_000);
    for request in [
        json!({}),
        json!({"command": ""}),
        json!({"command": "Status"}),
        json!({"command": "halt"}),
        json!({"command": "status", "agent": "w1"}),
        json!({"command": "tree", "depth": 2}),
        json!({"command": "pause", "reason": "x"}),
        json!({"command": "resume", "agent": "w1"}),
        json!({"command": "drain", "grace_ms": 1}),
        json!({"command": "shutdown", "force": true}),
        json!({"command": "reload", "file": "/etc/passwd"}),
        json!({"command": "reload", "dry_run": "yes"}),
        json!({"command": "reload", "plan": 7}),
        json!({"command": "reload", "reason": long}),
        json!({"command": "circuit"}),
        json!({"command": "circuit", "child": "w1"}),
        json!({"command": "circuit", "set": "open"}),
        json!({"command": "circuit", "child": "w1", "set": "half_open"}),
        json!({"command": "circuit", "child": 7, "set": "open"}),
        json!({"command": "circuit", "child": "", "set": "open"}),
        json!({"command": "circuit", "child": "w1", "set": "open", "for": "1h"}),
        json!({"command": "route", "strategy": "fastest"}),
    ] {
        door.refused(request, "invalid_request").await;
    }
    let large = json!({"command": "x".repeat(300_000)});
    door.refused(large, "invalid_request").await;
    door.refused(json!({"command": "circuit", "child": "nobody", "set": "open"}), "unknown_agent")
        .await;
    door.refused(json!({"command": "circuit", "child": "outbox", "set": "open"}), "wrong_state")
        .await;
    door.refused(json!({"command": "reload", "plan": "0123"}), "wrong_state").await;
    assert_eq!(door.mode().await, "running");
    let w1 = door.daemon.agent("w1").unwrap();
    assert_eq!((&w1["state"], &w1["restarts"]), (&json!("running"), &json!(0)), "{w1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_changes_nothing() {
    let config = WORKER.replace("max = 100", "max = 100\ncommand_permission = \"read_only\"");
    let door = Door::open(&with_agents(&config, &["w1"])).await;
    door.daemon.wait_state("w1", "running");
    for command in ["pause", "resume", "drain", "reload", "shutdown"] {
        door.refused(json!({"command": command}), "not_permitted").await;
    }
    let circuit = json!({"command": "circuit", "child": "w1", "set": "open"});
    door.refused(circuit, "not_permitted").await;
    for look in [
        json!({"command": "status"}),
        json!({"command": "tree"}),
        json!({"command": "route"}),
        json!({"command": "reload", "dry_run": true}),
    ] {
        assert_eq!(door.ask(look.clone()).await["ok"], true, "{look}");
    }
    // Whoever may signal the daemon has it anyway: SIGHUP needs no permission of ours.
    door.daemon.configure(&with_agents(&config, &["w1", "w2"]));
    signal(door.daemon.pid(), Signal::HUP);
    eventually("w2 runs", || async {
        door.daemon.agent("w2").filter(|agent| agent["state"] == "running")
    })
    .await;
}
