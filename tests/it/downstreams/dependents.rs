//! Agents that lean on a downstream: paused while it is out, without losing a restart.

use serde_json::json;

use super::{SOON, Service, call, event, wait_status};
use crate::daemon::{WORKER, embedded_client};
use crate::support::daemon::Daemon;

/// The agent is started after the downstream that it leans on; another one leans on nothing.
const TEAM: &str = r#"
[[agent]]
name = "w1"
type = "worker"
[[agent]]
name = "free"
type = "worker"
[supervisors.team]
strategy = "rest_for_one"
intensity = 2
period = "60s"
children = ["backend", "w1"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn agents_behind_a_downstream_are_paused_while_it_is_out_and_lose_no_restart() {
    let mut service = Service::start();
    let worker = WORKER.replace(
        "[supervision]\nenabled = true",
        "[supervision]\nenabled = true\nhealth_check_interval = \"250ms\"",
    );
    let daemon = Daemon::start(&format!("{worker}{TEAM}{}", service.section("backend", SOON)));
    let client = embedded_client(&daemon).await;
    let before = daemon.wait_state("w1", "running");
    let free = daemon.wait_state("free", "running");

    service.kill();
    for _ in 0..3 {
        call(&client, "backend", json!({"op": "request"})).await;
    }
    daemon.wait("w1", "is paused", |agent| agent["pid"].is_null());
    // More failed trials than the team's limit allows restarts.
    for generation in 0..4 {
        event(&client, "supervision.circuit", "backend", |data| {
            data["to"] == "open" && data["evidence"]["openings"].as_u64() > Some(generation)
        })
        .await;
    }
    assert_eq!(daemon.agent("w1").unwrap()["pid"], json!(null), "it waits");
    service.revive();
    wait_status(&client, "backend", "runs", |status| status["state"] == "running").await;
    let after = daemon.wait_state("w1", "running");
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(after["circuit"]["state"], "closed");
    assert_eq!(daemon.wait_state("free", "running")["pid"], free["pid"], "it was left alone");
    let tree = daemon.json(&["tree"])["tree"].to_string();
    assert!(!tree.contains("gave up"), "{tree}");
}
