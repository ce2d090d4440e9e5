//! A downstream dies and comes back: circuit, events, health, status, recovery.

use std::time::Duration;

use serde_json::json;

use super::{QUICK, SOON, Service, call, event, status, wait_status, web};
use crate::daemon::{embedded_client, stored, supervision, type_of};
use crate::support::daemon::Daemon;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_opens_the_circuit_and_its_return_closes_it_without_a_call() {
    let mut service = Service::start();
    let other = Service::start();
    let config =
        format!("{QUICK}{}{}", service.section("backend", SOON), other.section("other", SOON));
    let daemon = Daemon::start(&config);
    let client = embedded_client(&daemon).await;
    let up = |status: &serde_json::Value| status["state"] == "running";
    wait_status(&client, "backend", "runs", up).await;

    service.kill();
    let refused = eventually("the circuit opens", async || {
        let answer = call(&client, "backend", json!({"op": "request"})).await;
        Some(answer).filter(|answer| answer["error"]["kind"] == "circuit_open")
    })
    .await;
    let wait = refused["error"]["retry_after_ms"].as_u64().unwrap();
    assert!(wait <= 500, "{refused}");
    let opened =
        event(&client, "supervision.circuit", "backend", |data| data["to"] == "open").await;
    assert_eq!(opened["severity"], "high");
    assert_eq!(opened["source"], format!("provost://{}/downstream/backend", node(&daemon)));
    assert_eq!(opened["data"]["evidence"]["failure_threshold"], 3, "{opened}");
    assert!(opened["data"]["retry_after_ms"].is_number());
    let failure = event(&client, "supervision.failure", "backend", |data| {
        data["failure_type"] == "call_failed"
    })
    .await;
    assert_eq!(failure["data"]["downstream"], "backend");
    assert_eq!(failure["data"]["exit"], serde_json::Value::Null);
    assert!(failure["data"].get("agent_id").is_none());

    // The session is given up, and is tried again as the circuit allows.
    event(&client, "supervision.failure", "backend", |data| data["failure_type"] == "lost").await;
    let down = wait_status(&client, "backend", "is quarantined", |status| {
        status["state"] == "quarantined" && status["circuit"]["state"] == "open"
    })
    .await;
    assert!(0 < down["counts"]["refused"].as_u64().unwrap());
    let (code, all) = web(&daemon, "/health/all").await;
    assert_eq!(code, 200);
    let verdicts = [&all["services"][0]["status"], &all["services"][1]["status"]];
    assert_eq!(verdicts, [&json!("DOWN"), &json!("UP")]);
    assert!(all["services"][0]["details"].is_string(), "{all}");
    let (_, health) = web(&daemon, "/health").await;
    assert_eq!(health["status"], "degraded");

    service.revive();
    let began = std::time::Instant::now();
    wait_status(&client, "backend", "runs again", |status| {
        status["state"] == "running" && status["circuit"]["state"] == "closed"
    })
    .await;
    // Generous for a busy machine: the open time is half a second, and nobody calls.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(service.calls(), 0);
    let recovered = event(&client, "supervision.recovery", "backend", |_| true).await;
    assert_eq!(recovered["data"]["how"], "reconnect");
    assert!(0 < recovered["data"]["after_ms"].as_u64().unwrap());
    assert_eq!(recovered["correlationid"], failure["id"], "{recovered}");
    let closed =
        event(&client, "supervision.circuit", "backend", |data| data["to"] == "closed").await;
    assert_eq!(closed["data"]["reason"], "trial_passed");
    let answer = call(&client, "backend", json!({"op": "request"})).await;
    assert_eq!(answer["source"], "live", "{answer}");
    let untouched = status(&client, "other").await;
    assert_eq!(untouched["circuit"]["state"], "closed");
    let mut stream = supervision(&client).await;
    // How it is shown is told of everything, when it starts.
    let of_other = stored(&mut stream)
        .await
        .into_iter()
        .find(|event| event["subject"] == "other" && type_of(event) != "supervision.child_changed");
    assert_eq!(of_other, None, "nothing is told of the one that worked");
}

fn node(daemon: &Daemon) -> String {
    daemon.json(&["status"])["system"]["node"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_calls_open_the_circuit_of_a_service_whose_health_path_is_well() {
    let service = Service::start();
    let daemon = Daemon::start(&format!("{QUICK}{}", service.section("backend", SOON)));
    let client = embedded_client(&daemon).await;
    let up = |status: &serde_json::Value| status["state"] == "running";
    wait_status(&client, "backend", "runs", up).await;
    service.answers(500);
    for _ in 0..3 {
        let answer = call(&client, "backend", json!({"op": "request"})).await;
        assert_eq!(answer["error"]["kind"], "remote_error", "{answer}");
    }
    let answer = call(&client, "backend", json!({"op": "request"})).await;
    assert_eq!(answer["error"]["kind"], "circuit_open", "{answer}");
    assert_eq!(service.calls(), 3);
    let failure = event(&client, "supervision.failure", "backend", |_| true).await;
    assert_eq!(failure["data"]["failure_type"], "call_failed");
    assert_eq!(failure["severity"], "medium");
    assert_eq!(failure["data"]["decision"]["reason"], "failure_threshold");
    let opened = event(&client, "supervision.circuit", "backend", |_| true).await;
    assert_eq!(opened["causationid"], failure["id"]);
    // Its checks are well, so the session stays, and the probes close the circuit.
    wait_status(&client, "backend", "lets calls pass", |status| {
        status["circuit"]["state"] == "closed"
    })
    .await;
    let recovered = event(&client, "supervision.recovery", "backend", |_| true).await;
    assert_eq!(recovered["data"]["how"], "probe");
    let mut stream = supervision(&client).await;
    let events = stored(&mut stream).await;
    let failures = events
        .iter()
        .filter(|event| type_of(event) == "supervision.failure" && event["subject"] == "backend");
    assert_eq!(failures.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_says_it_is_ill_is_told_and_one_without_a_health_path_is_called() {
    let service = Service::start();
    let daemon = Daemon::start(&format!("{QUICK}{}", service.section("backend", SOON)));
    let client = embedded_client(&daemon).await;
    let up = |status: &serde_json::Value| status["state"] == "running";
    wait_status(&client, "backend", "runs", up).await;
    service.health(404);
    wait_status(&client, "backend", "is degraded", |status| status["state"] == "degraded").await;
    let (_, all) = web(&daemon, "/health/all").await;
    assert_eq!(all["services"][0]["status"], "DOWN", "{all}");
    let answer = call(&client, "backend", json!({"op": "request"})).await;
    assert_eq!(answer["source"], "live", "{answer}");
    service.health(0);
    wait_status(&client, "backend", "runs", up).await;
    service.health(503);
    let failure = event(&client, "supervision.failure", "backend", |data| {
        data["failure_type"] == "probe_failed"
    })
    .await;
    assert_eq!(failure["data"]["downstream"], "backend");
    service.health(0);
    wait_status(&client, "backend", "runs", up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_held_by_hand_and_let_go() {
    let service = Service::start();
    let daemon = Daemon::start(&format!("{QUICK}{}", service.section("backend", SOON)));
    let client = embedded_client(&daemon).await;
    let up = |status: &serde_json::Value| status["state"] == "running";
    wait_status(&client, "backend", "runs", up).await;
    daemon.json(&["circuit", "backend", "open"]);
    let held = daemon.cli(&["downstream", "call", "backend"]);
    assert_eq!(held.status.code(), Some(6));
    assert_eq!(status(&client, "backend").await["circuit"]["state"], "forced_open");
    event(&client, "supervision.circuit", "backend", |data| data["to"] == "forced_open").await;
    let tree = daemon.json(&["tree"])["tree"].to_string();
    assert!(tree.contains("forced_open"), "{tree}");
    assert_eq!(service.calls(), 0);
    daemon.json(&["circuit", "backend", "auto"]);
    assert!(daemon.cli(&["downstream", "call", "backend"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_starts_beside_a_downstream_that_is_away() {
    let mut service = Service::start();
    service.kill();
    let daemon = Daemon::start(&format!("{QUICK}{}", service.section("backend", SOON)));
    let client = embedded_client(&daemon).await;
    let answer = call(&client, "backend", json!({"op": "request"})).await;
    assert_eq!(answer["ok"], false, "{answer}");
    service.revive();
    wait_status(&client, "backend", "runs", |status| {
        status["state"] == "running" && status["circuit"]["state"] == "closed"
    })
    .await;
    event(&client, "supervision.recovery", "backend", |_| true).await;
}
