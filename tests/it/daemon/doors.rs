//! Commands, limits, and what a start refuses.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::daemon::{WORKER, with_agents};
use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::support::nats::{NatsOptions, NatsServer};

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_command_subject_is_answered_and_harms_nothing() {
    let server = NatsServer::with(NatsOptions::default().max_payload(16 * 1024 * 1024));
    let daemon = Daemon::start_on(&with_agents(WORKER, &["w1"]), &server.url());
    daemon.wait_state("w1", "running");
    let client = server.client().await;
    let garbage: Vec<Vec<u8>> = vec![
        vec![],
        b"not json".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"{}".to_vec(),
        b"[]".to_vec(),
        br#"{"command":"fly"}"#.to_vec(),
        br#"{"command":7}"#.to_vec(),
        br#"{"command":"list","extra":1}"#.to_vec(),
        br#"{"command":"spawn"}"#.to_vec(),
        br#"{"command":"spawn","agent_type":"worker","name":"a.b"}"#.to_vec(),
        br#"{"command":"spawn","agent_type":"worker","args":"x"}"#.to_vec(),
        br#"{"command":"stop","agent":"w1","grace_ms":-1}"#.to_vec(),
        vec![b'['; 100_000],
        vec![b'x'; 10 * 1024 * 1024],
    ];
    for payload in garbage {
        let shown = text(&payload[..payload.len().min(60)]);
        let answer = client.request("agent.command", payload.into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["ok"], false, "{shown}");
        assert_eq!(answer["error"]["kind"], "invalid_request", "{shown}: {answer}");
        assert_eq!(answer["error"]["code"], "PV0101");
        assert!(!answer["error"]["hint"].as_str().unwrap().is_empty());
    }
    let requests =
        (0..10_000).map(|_| client.request("agent.command", r#"{"command":"list"}"#.into()));
    let answers = futures_util::future::join_all(requests).await;
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
        let kind = answer["error"]["kind"].as_str().unwrap_or("ok").to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    assert!(kinds.keys().all(|kind| kind == "ok" || kind == "unavailable"), "{kinds:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak_kib: u64 = peak.trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak_kib < 300 * 1024, "the daemon took {peak_kib} KiB");
    daemon.wait_state("w1", "running");
}

#[test]
fn the_pool_refuses_more_agents_and_unknown_types() {
    let daemon = Daemon::start(&WORKER.replace("max = 100", "max = 2"));
    let spawn = |name: &str| daemon.cli(&["spawn", "worker", "--name", name, "-o", "json"]);
    assert_eq!(spawn("w1").status.code(), Some(0));
    assert_eq!(spawn("w2").status.code(), Some(0));
    let full = spawn("w3");
    assert_eq!(full.status.code(), Some(6));
    assert!(text(&full.stderr).contains("PV0105"), "{}", text(&full.stderr));
    assert_eq!(daemon.cli(&["stop", "w1"]).status.code(), Some(0));
    assert_eq!(spawn("w3").status.code(), Some(0));
    assert_eq!(spawn("w3").status.code(), Some(6), "a name is given once");
    let unknown = daemon.cli(&["spawn", "warker"]);
    assert_eq!(unknown.status.code(), Some(4));
    assert!(text(&unknown.stderr).contains("worker"), "{}", text(&unknown.stderr));
    assert_eq!(daemon.cli(&["status", "nobody"]).status.code(), Some(4));
    assert_eq!(daemon.cli(&["status", "w1"]).status.code(), Some(3));
}

#[test]
fn spawned_agents_come_back_with_the_next_daemon_until_they_are_removed() {
    let mut daemon = Daemon::start(WORKER);
    daemon.json(&["spawn", "worker", "--name", "kept"]);
    daemon.json(&["spawn", "worker", "--name", "gone"]);
    assert!(daemon.cli(&["remove", "gone"]).status.success());
    let before = daemon.wait_state("kept", "running");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.up();
    let after = daemon.wait_state("kept", "running");
    assert_eq!(after["agent_id"], before["agent_id"]);
    assert!(before["generation"].as_u64() < after["generation"].as_u64());
    assert!(daemon.agent("gone").is_none());
}

#[test]
fn a_second_daemon_is_refused_with_the_name_of_the_first() {
    let server = NatsServer::start();
    let config = format!("[provost]\nnode = \"first-node\"\n{WORKER}");
    let _first = Daemon::start_on(&config, &server.url());
    let second_config = WORKER.to_owned();
    let mut second = Daemon::prepare(&second_config).flag("--nats-url", &server.url());
    second.spawn();
    let status = eventually_blocking("the second daemon ends", || second.ended());
    assert_eq!(status.code(), Some(6), "{}", second.log());
    assert!(second.log().contains("first-node"), "{}", second.log());
}

#[test]
fn two_daemons_in_one_state_folder_are_refused() {
    let daemon = Daemon::start(WORKER);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_provost"))
        .args(["up", "--state-dir"])
        .arg(daemon.state_dir())
        .arg("-f")
        .arg(daemon.dir.path().join("provost.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&daemon.pid().to_string()), "{}", text(&output.stderr));
}

#[test]
fn wrong_values_stop_the_start_with_one_answer() {
    let check = |name: &str, value: &str, wanted: &str| {
        let mut daemon = Daemon::prepare(WORKER).env(name, value);
        daemon.spawn();
        let status = eventually_blocking("the daemon ends", || daemon.ended());
        assert_eq!(status.code(), Some(2), "{}", daemon.log());
        assert!(daemon.log().contains(wanted), "{}", daemon.log());
    };
    check("ENABLE_SUPERVISION", "maybe", "ENABLE_SUPERVISION");
    check("ENABLE_ADVANCED_ROUTING", "1", "ENABLE_COORDINATION");
    let server = NatsServer::with(NatsOptions::default().user("u", "right"));
    let url = server.url().replace("nats://", "nats://u:wrong@");
    let mut daemon = Daemon::prepare(WORKER).flag("--nats-url", &url);
    daemon.spawn();
    let status = eventually_blocking("the daemon ends", || daemon.ended());
    assert_eq!(status.code(), Some(7), "{}", daemon.log());
    assert!(!daemon.log().contains("wrong"), "{}", daemon.log());
}
