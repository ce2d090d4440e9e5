//! Resources over a real server and a real daemon, which may be killed.

use std::sync::Arc;
use std::time::Duration;

use provost::actors::defaults::SystemClock;
use provost::board::Board;
use provost::logic::resources::ResourceSpec;
use provost::transport::connect::Connection;
use provost::transport::resources::{ResourceService, ResourceSettings};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, signal};
use crate::support::eventually;
use crate::support::nats::NatsServer;
use crate::support::transport::{RunningService, connect, slot_with};

const WAIT: Duration = Duration::from_secs(20);

async fn ask(connection: &Connection, name: &str, request: Value) -> Value {
    let subject = format!("coordination.resources.{name}");
    let answer = connection.request(&subject, request.to_string().into(), WAIT).await;
    serde_json::from_slice(&answer.unwrap().payload).unwrap()
}

fn acquire(holder: &str) -> Value {
    json!({"op": "acquire", "holder": holder, "ttl_ms": 60_000})
}

async fn service(server: &NatsServer) -> (Connection, RunningService) {
    let connection = connect(server).await;
    let settings = ResourceSettings {
        declared: [
            ("pool".parse().unwrap(), ResourceSpec::pool(3)),
            ("quota".parse().unwrap(), ResourceSpec::quota(2, 3_600_000)),
        ]
        .into(),
        undeclared: Some(ResourceSpec::LOCK),
        replicas: 1,
    };
    let slot = slot_with(connection.clone());
    let board = Arc::new(Board::default());
    let service = ResourceService::new(slot, settings, board, Arc::new(SystemClock));
    let running = RunningService::start(&service).await;
    (connection, running)
}

#[tokio::test]
async fn a_lock_is_held_by_one_and_handed_on_in_order() {
    let server = NatsServer::start();
    let (connection, running) = service(&server).await;
    let first = ask(&connection, "build", acquire("a")).await;
    assert_eq!((&first["ok"], &first["amount"]), (&json!(true), &json!(1)), "{first}");
    let full = ask(&connection, "build", acquire("b")).await;
    assert_eq!(full["error"]["kind"], "exhausted", "{full}");
    assert!(full["error"]["retry_after_ms"].as_u64().unwrap() > 50_000);

    let mut waits = acquire("b");
    waits["wait_ms"] = json!(20_000);
    let waiting = {
        let connection = connection.clone();
        tokio::spawn(async move { ask(&connection, "build", waits).await })
    };
    eventually("b waits", async || {
        let status = ask(&connection, "build", json!({"op": "status"})).await;
        (status["resource"]["waiting"][0]["holder"] == "b").then_some(())
    })
    .await;
    let other = ask(&connection, "build", json!({"op": "release", "holder": "b"})).await;
    assert_eq!(other["error"]["kind"], "unknown_lease", "{other}");
    let renewed = ask(&connection, "build", json!({"op": "renew", "holder": "a"})).await;
    assert_eq!(renewed["token"], first["token"], "{renewed}");
    let released = json!({"op": "release", "holder": "a", "lease": first["lease"]});
    assert_eq!(ask(&connection, "build", released).await["count"], 1);
    let second = waiting.await.unwrap();
    assert!(first["token"].as_u64() < second["token"].as_u64(), "{first} {second}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_waits_too_long_is_told_and_a_lease_ends_with_its_time() {
    let server = NatsServer::start();
    let (connection, running) = service(&server).await;
    let short = json!({"op": "acquire", "holder": "a", "ttl_ms": 300});
    assert_eq!(ask(&connection, "build", short).await["ok"], true);
    let impatient = json!({"op": "acquire", "holder": "b", "wait_ms": 20});
    assert_eq!(ask(&connection, "build", impatient).await["error"]["kind"], "exhausted");
    let patient = json!({"op": "acquire", "holder": "c", "wait_ms": 15_000});
    assert_eq!(ask(&connection, "build", patient).await["holder"], "c");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn leases_and_tokens_outlive_the_service() {
    let server = NatsServer::start();
    let (connection, running) = service(&server).await;
    let mut named = acquire("a");
    (named["amount"], named["lease"]) = (json!(2), json!("mine"));
    let first = ask(&connection, "pool", named.clone()).await;
    assert_eq!(ask(&connection, "quota", acquire("a")).await["ok"], true);
    running.stop().await.unwrap();
    let (connection, running) = service(&server).await;
    let status = ask(&connection, "pool", json!({"op": "status"})).await;
    assert_eq!(
        (&status["resource"]["free"], &status["resource"]["capacity"]),
        (&json!(1), &json!(3))
    );
    let again = ask(&connection, "pool", named).await;
    assert_eq!((&again["token"], &again["lease"]), (&first["token"], &first["lease"]));
    let next = ask(&connection, "pool", acquire("b")).await;
    assert!(first["token"].as_u64() < next["token"].as_u64());
    assert_eq!(ask(&connection, "quota", acquire("b")).await["ok"], true);
    assert_eq!(ask(&connection, "quota", acquire("b")).await["error"]["kind"], "exhausted");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_the_field() {
    let server = NatsServer::start();
    let (connection, running) = service(&server).await;
    for (request, said) in [
        (json!({"op": "acquire"}), "holder is missing"),
        (json!({"op": "steal", "holder": "a"}), "unknown variant `steal`"),
        (json!({"op": "acquire", "holder": "a", "size": 1}), "unknown field `size`"),
        (json!({"op": "acquire", "holder": "a", "amount": 0}), "amount is 0"),
        (json!({"op": "acquire", "holder": "a", "amount": 4}), "the resource has 3 in all"),
        (json!({"op": "acquire", "holder": "a", "ttl_ms": 1}), "ttl_ms is 1; 100 to 86400000"),
        (json!({"op": "acquire", "holder": "a", "wait_ms": 9_999_999}), "wait_ms is 9999999"),
        (json!([1]), "request cannot be read"),
    ] {
        let answer = ask(&connection, "pool", request.clone()).await;
        assert_eq!(answer["error"]["kind"], "invalid_request", "{request}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    let subject = "coordination.resources.pool";
    let garbage = connection.request(subject, vec![0xFF; 100].into(), WAIT).await.unwrap();
    let garbage: Value = serde_json::from_slice(&garbage.payload).unwrap();
    assert_eq!(garbage["error"]["code"], "PV0301");
    running.stop().await.unwrap();
}

const CONFIG: &str = r#"
[supervision]
enabled = true
[coordination]
enabled = true
[resources.gpu]
kind = "pool"
capacity = 2
[agent_types.worker]
command = ["sleep", "3600"]
env = { PROVOST_TEST_MARK = "{mark}" }
restart = { backoff = { initial = "1ms" } }
[[agent]]
name = "w1"
type = "worker"
[[agent]]
name = "w2"
type = "worker"
"#;

/// What is free of the resource, and who holds the rest.
async fn gpu(connection: &Connection) -> (u64, Vec<String>) {
    let status = ask(connection, "gpu", json!({"op": "status"})).await;
    let leases = status["resource"]["leases"].as_array().unwrap();
    let holders = leases.iter().map(|lease| lease["holder"].as_str().unwrap().to_owned());
    (status["resource"]["free"].as_u64().unwrap(), holders.collect())
}

/// A daemon answers requests about resources only some time after it answers commands.
async fn answers(connection: &Connection) {
    eventually("resources are answered for", async || {
        let payload = json!({"op": "status"}).to_string();
        let wait = Duration::from_secs(1);
        connection.request("coordination.resources.gpu", payload.into(), wait).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_with_its_holders_run_and_who_waits_gets_it() {
    let server = NatsServer::start();
    let mut daemon = Daemon::start_on(CONFIG, &server.url());
    let w1 = daemon.wait_state("w1", "running");
    let w2 = daemon.wait_state("w2", "running");
    let connection = connect(&server).await;
    answers(&connection).await;
    let id = w2["agent_id"].as_str().unwrap();
    let first = ask(&connection, "gpu", acquire("w1")).await;
    assert_eq!(first["ok"], true, "{first}");
    assert_eq!(ask(&connection, "gpu", acquire(id)).await["ok"], true);
    assert_eq!(gpu(&connection).await, (0, vec!["w1".to_owned(), id.to_owned()]));
    let mut waits = acquire("outsider");
    waits["wait_ms"] = json!(20_000);
    let waiting = {
        let connection = connection.clone();
        tokio::spawn(async move { ask(&connection, "gpu", waits).await })
    };
    eventually("it waits", async || {
        let status = ask(&connection, "gpu", json!({"op": "status"})).await;
        status["resource"]["waiting"].get(0).map(|_| ())
    })
    .await;
    signal(u32::try_from(w1["pid"].as_u64().unwrap()).unwrap(), Signal::KILL);
    let given = waiting.await.unwrap();
    assert_eq!(given["holder"], "outsider", "{given}");
    assert!(first["token"].as_u64() < given["token"].as_u64());
    let late = json!({"op": "renew", "holder": "w1", "lease": first["lease"]});
    assert_eq!(ask(&connection, "gpu", late).await["error"]["kind"], "unknown_lease");
    assert!(daemon.cli(&["stop", "w2"]).status.success());
    eventually("a stopped agent holds nothing", async || {
        (gpu(&connection).await.1 == ["outsider"]).then_some(())
    })
    .await;
    let down = ask(&connection, "gpu", acquire("w2")).await;
    assert_eq!(down["error"]["kind"], "invalid_request", "{down}");
    daemon.terminate();
    daemon.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_outlive_a_killed_daemon_as_far_as_their_holders_do() {
    let server = NatsServer::start();
    let mut daemon = Daemon::start_on(CONFIG, &server.url());
    let before = daemon.wait_state("w1", "running");
    let connection = connect(&server).await;
    answers(&connection).await;
    let outside = ask(&connection, "gpu", acquire("outsider")).await;
    assert_eq!(ask(&connection, "gpu", acquire("w1")).await["ok"], true);
    daemon.kill9();
    daemon.up();
    let after = daemon.wait_state("w1", "running");
    answers(&connection).await;
    // An agent that the next daemon takes over goes on holding; one that was started anew does not.
    let lives_on = before["pid"] == after["pid"];
    let expected: &[&str] = if lives_on { &["outsider", "w1"] } else { &["outsider"] };
    eventually("the leases are those of whoever lives", async || {
        (gpu(&connection).await.1 == expected).then_some(())
    })
    .await;
    let renew = json!({"op": "renew", "holder": "outsider", "lease": outside["lease"]});
    assert_eq!(ask(&connection, "gpu", renew).await["token"], outside["token"]);
    let next = ask(&connection, "other", acquire("b")).await;
    assert_eq!(next["ok"], true, "a resource that nobody declared is a lock: {next}");
    daemon.terminate();
    daemon.nothing_left();
}
