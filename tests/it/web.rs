//! The HTTP server of a real daemon: its address, its documents, what it refuses.

#![expect(clippy::panic, reason = "helpers of tests fail the test")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{WORKER, with_agents};
use crate::support::daemon::{Daemon, signal};
use crate::support::eventually_blocking;

/// An answer, as far as tests look at it.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn get(address: &str, path: &str, host: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { code, head: head.to_owned(), body: body.to_owned() }
}

fn address(daemon: &Daemon) -> String {
    let status = daemon.json(&["status"]);
    let told = status["system"]["http"].as_str().map(str::to_owned);
    let file = std::fs::read_to_string(daemon.state_dir().join("http")).unwrap();
    assert_eq!(told.as_deref(), Some(file.trim()));
    file.trim().to_owned()
}

#[test]
fn a_daemon_tells_its_health_documents_and_metrics_over_http() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1"]));
    daemon.wait_state("w1", "running");
    let address = address(&daemon);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&address, path, "localhost").code, 200, "{path}");
    }
    let health = get(&address, "/health", &address);
    assert_eq!((health.code, health.json()["status"].as_str()), (200, Some("healthy")));
    let all = get(&address, "/health/all", &address).json();
    assert_eq!(all["services"], serde_json::json!([]));
    assert!(all["timestamp"].is_string());
    let agents = get(&address, "/api/v1/agents", &address).json();
    assert_eq!(agents["agents"][0]["name"], "w1");
    assert_eq!(get(&address, "/api/v1/agents/w1", &address).json()["agent"]["state"], "running");
    assert_eq!(get(&address, "/api/v1/agents/nobody", &address).code, 404);
    assert_eq!(get(&address, "/api/v1/tree", &address).json()["tree"]["name"], "root");
    assert_eq!(get(&address, "/api/v1/status", &address).json()["ok"], true);
    assert_eq!(get(&address, "/nothing", &address).json()["error"]["kind"], "invalid_request");
    let metrics = eventually_blocking("an event is counted", || {
        let metrics = get(&address, "/metrics", &address);
        metrics.body.contains("provost_events_published_total").then_some(metrics)
    });
    assert!(metrics.head.to_lowercase().contains("text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("provost_agents{state=\"running\"} 1"), "{}", metrics.body);
}

#[test]
fn a_name_that_points_to_loopback_is_refused() {
    let daemon = Daemon::start(&with_agents(WORKER, &[]));
    let address = address(&daemon);
    assert_eq!(get(&address, "/api/v1/agents", "evil.example").code, 421);
    assert_eq!(get(&address, "/health", "127.0.0.1").code, 200);
}

#[test]
fn without_nats_the_daemon_is_alive_but_not_ready() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1"]));
    daemon.wait_state("w1", "running");
    let address = address(&daemon);
    let file = std::fs::read(daemon.state_dir().join("nats.json")).unwrap();
    let told: Value = serde_json::from_slice(&file).unwrap();
    let pid = u32::try_from(told["pid"].as_u64().unwrap()).unwrap();
    signal(pid, Signal::KILL);
    eventually_blocking("readiness is lost", || {
        (get(&address, "/readyz", &address).code == 503).then_some(())
    });
    assert_eq!(get(&address, "/livez", &address).code, 200);
    eventually_blocking("readiness is back", || {
        (get(&address, "/readyz", &address).code == 200).then_some(())
    });
}

#[test]
fn the_server_can_be_switched_off() {
    let config = format!("[provost]\nhttp = \"off\"\n{WORKER}");
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.json(&["status"])["system"]["http"], Value::Null);
    assert!(!daemon.state_dir().join("http").exists());
}
