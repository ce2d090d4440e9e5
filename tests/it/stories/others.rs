//! Failures of what is around agents: a downstream, a task, the NATS server.

use serde_json::json;

use crate::daemon::{WORKER, embedded_client, with_agents};
use crate::downstreams::{Service, call};
use crate::stories::{explained, steps};
use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::support::nats::NatsServer;
use crate::tasks::{ready, result, workers};

/// A worker that leans on a downstream whose circuit stays open once it is.
const TEAM: &str = "[[agent]]\nname = \"w1\"\ntype = \"worker\"\n[supervisors.team]\n\
                    strategy = \"rest_for_one\"\nchildren = [\"backend\", \"w1\"]\n";

const OPEN_LONG: &str = "resilience = { timeout = \"1s\", retry = { max_attempts = 1 }, \
                         circuit_breaker = { failure_threshold = 3, open_for = \"1h\", \
                         open_max = \"1h\", jitter = 0.0 } }";

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_paused_names_the_downstream_that_is_out() {
    let mut service = Service::start();
    let worker = WORKER.replace(
        "[supervision]\nenabled = true",
        "[supervision]\nenabled = true\nhealth_check_interval = \"250ms\"",
    );
    let daemon = Daemon::start(&format!("{worker}{TEAM}{}", service.section("backend", OPEN_LONG)));
    let client = embedded_client(&daemon).await;
    tokio::task::block_in_place(|| daemon.wait_state("w1", "running"));
    service.kill();
    for _ in 0..3 {
        call(&client, "backend", json!({"op": "request"})).await;
    }
    tokio::task::block_in_place(|| {
        daemon.wait("w1", "is paused", |agent| agent["pid"].is_null());
        let (said, told) = explained(&daemon, "downstream/backend", "circuit open");
        assert_eq!(told["why"]["reason"], "failure_threshold");
        assert!(steps(&told)[0].contains("check that the service behind backend runs"), "{told}");
        assert!(said.contains("calls of backend are answered at once with circuit_open"), "{said}");
        let paused = daemon.agent("w1").unwrap()["state"].as_str().unwrap().to_owned();
        let (_, told) = explained(&daemon, "w1", &paused);
        let chain = told["why"]["chain"].to_string();
        assert!(chain.contains("backend"), "the cause is not in its chain: {told:#}");
    });
}

#[test]
fn a_poison_task_is_told_as_the_one_at_fault_and_not_its_agents() {
    let daemon = Daemon::start(&workers(3));
    ready(&daemon, &["w1", "w2", "w3"]);
    let input = r#"{"fail":{"code":"bad_input","message":"cannot be parsed","after_ms":1}}"#;
    daemon.json(&["task", "submit", "x", input, "--id", "p1", "--max-attempts", "10"]);
    result(&daemon, "p1");
    let (said, told) = explained(&daemon, "task/p1", "failed");
    assert_eq!(told["why"]["reason"], "poison_task", "{said}");
    let text = told["why"]["text"].as_str().unwrap();
    assert!(text.contains("the task is at fault, not the agents"), "{text}");
    assert_eq!(steps(&told)[0], "provost task show p1");
    assert_eq!(*steps(&told).last().unwrap(), "provost task retry p1");
    // A task is found by its bare id, too.
    assert_eq!(explained(&daemon, "p1", "failed").1["subject"], "task/p1");
}

#[test]
fn without_nats_it_is_said_that_nothing_can_be_read_and_afterwards_what_was() {
    let mut server = NatsServer::start();
    let daemon = Daemon::start_on(&with_agents(WORKER, &["w1"]), &server.url());
    daemon.wait_state("w1", "running");
    server.kill9();
    let output = daemon.cli(&["explain", "w1", "--timeout", "2s"]);
    assert_eq!(output.status.code(), Some(5));
    let said = text(&output.stderr);
    assert!(said.starts_with("error[PV0202]: NATS at "), "{said}");
    let page = text(&daemon.cli(&["explain", "PV0202"]).stdout);
    assert!(page.contains("the NATS server cannot be reached"), "{page}");
    assert!(page.contains("check the address that the message names"), "{page}");
    server.restart();
    eventually_blocking("the daemon is back", || {
        daemon.cli(&["list"]).status.success().then_some(())
    });
    let (said, told) = explained(&daemon, "nats", "running");
    let more = told["why"]["more"].to_string();
    assert!(more.contains("nats connected ") && more.contains("away "), "{said}");
    let first = &told["why"]["chain"][0];
    assert!(first["text"].as_str().unwrap().starts_with("nats lost"), "{said}");
}
