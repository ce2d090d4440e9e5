//! What happens when NATS is away, old, without JetStream or shared.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{WORKER, pid_of, stored, supervision, type_of, with_agents};
use crate::support::daemon::{Daemon, lives, signal};
use crate::support::nats::{NatsOptions, NatsServer, older_server};
use crate::support::{eventually, eventually_blocking};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_misses_no_event_and_touches_no_agent() {
    let mut server = NatsServer::start();
    let config = format!(
        "{}\n[agent_types.flaky]\nruntime = \"process\"\ncommand = [\"sh\", \"-c\", \"sleep 0.2; exit 1\"]\n\
         env = {{ PROVOST_TEST_MARK = \"{{mark}}\" }}\n\
         restart = {{ intensity = 10000, period = \"60s\", backoff = {{ initial = \"0s\" }} }}\n\
         [[agent]]\nname = \"f1\"\ntype = \"flaky\"\n[[agent]]\nname = \"f2\"\ntype = \"flaky\"\n",
        with_agents(WORKER, &["w1", "w2"])
    );
    let daemon = Daemon::start_on(&config, &server.url());
    let steady = pid_of(&daemon.wait_state("w1", "running"));
    daemon.wait("f1", "has crashed", |agent| 2 < agent["restarts"].as_u64().unwrap());
    server.kill9();
    let down = Instant::now();
    eventually_blocking("five seconds without a server", || {
        (Duration::from_secs(5) < down.elapsed()).then_some(())
    });
    assert!(lives(steady), "an agent was touched");
    server.restart();
    let restarts = |name: &str| daemon.agent(name).unwrap()["restarts"].as_u64().unwrap();
    let back = eventually_blocking("the daemon is back", || {
        let output = daemon.cli(&["list", "-o", "json"]);
        output.status.success().then(|| restarts("f1"))
    });
    daemon.wait("f1", "crashes on", |agent| back + 5 < agent["restarts"].as_u64().unwrap());
    for name in ["f1", "f2"] {
        assert!(daemon.cli(&["stop", name]).status.success());
    }
    let client = server.client().await;
    let mut stream = supervision(&client).await;
    let events = eventually("the outbox is empty", async || {
        let waiting = daemon.json(&["status"])["system"]["outbox"]["waiting"].as_u64();
        if waiting != Some(0) {
            return None;
        }
        Some(stored(&mut stream).await)
    })
    .await;
    let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    // Parts of the daemon number their events side by side; the order of each agent is held below.
    sorted.dedup();
    assert_eq!(ids.len(), sorted.len(), "an event is stored twice");
    for name in ["f1", "f2"] {
        let failures: Vec<u64> = events
            .iter()
            .filter(|event| {
                type_of(event) == "supervision.failure" && event["data"]["name"] == name
            })
            .map(|event| event["generation"].as_u64().unwrap())
            .collect();
        let expected: Vec<u64> = (1..=failures.len() as u64).collect();
        assert_eq!(failures, expected, "failures of {name} are missing or out of order");
        assert!(20 < failures.len());
    }
    assert_eq!(pid_of(&daemon.agent("w1").unwrap()), steady);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_killed_daemon_could_not_deliver_come_from_the_next_one() {
    let mut server = NatsServer::start();
    let mut daemon = Daemon::start_on(&with_agents(WORKER, &["w1"]), &server.url());
    let pid = pid_of(&daemon.wait_state("w1", "running"));
    server.kill9();
    signal(pid, Signal::KILL);
    eventually_blocking("the agent runs again", || {
        let others = daemon.processes();
        (others.len() == 1 && others[0] != pid).then_some(())
    });
    let alive = daemon.processes();
    daemon.kill9();
    server.restart();
    daemon.up();
    let client = server.client().await;
    let mut stream = supervision(&client).await;
    let events = eventually("the failure is stored", async || {
        let events = stored(&mut stream).await;
        events.iter().any(|event| type_of(event) == "supervision.failure").then_some(events)
    })
    .await;
    let ids: BTreeSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    let again = daemon.wait_state("w1", "running");
    assert_eq!(again["generation"], 2, "its second run is adopted");
    assert_eq!(alive, [pid_of(&again)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_switches_off_agents_and_commands_work_without_jetstream() {
    let server = NatsServer::with(NatsOptions::default().without_jetstream());
    let config = r#"
[agent_types.worker]
runtime = "process"
command = ["sleep", "100000"]
env = { PROVOST_TEST_MARK = "{mark}" }
"#;
    let daemon = Daemon::start_on(&with_agents(config, &["w1"]), &server.url());
    let client = server.client().await;
    let mut events = client.subscribe("agent.events.>").await.unwrap();
    client.flush().await.unwrap();
    let pid = pid_of(&daemon.wait_state("w1", "running"));
    signal(pid, Signal::KILL);
    let ended = daemon.wait_state("w1", "terminated");
    assert_eq!(ended["restarts"], 0);
    let seen = loop {
        let message = tokio::time::timeout(Duration::from_secs(10), events.next());
        let event: Value =
            serde_json::from_slice(&message.await.unwrap().unwrap().payload).unwrap();
        if type_of(&event) == "agent.terminated" {
            break event;
        }
    };
    assert_eq!(seen["data"]["new_state"], "terminated");
    assert_eq!(seen["data"]["exit"]["signal"], 9);
    assert!(daemon.cli(&["spawn", "worker", "--name", "w2"]).status.success());
    assert!(daemon.cli(&["stop", "w2"]).status.success());
    assert_eq!(daemon.agent("w2").unwrap()["state"], "stopped");
    for name in ["w1", "w2"] {
        assert!(daemon.cli(&["resume", name]).status.success(), "{name}");
        let again = daemon.wait_state(name, "running");
        assert_eq!(again["generation"], 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_stands_before_every_subject_and_two_prefixes_live_side_by_side() {
    let server = NatsServer::start();
    let prefixed = format!("[provost]\nsubject_prefix = \"acme.prod\"\n{WORKER}");
    let one = Daemon::start_on(&with_agents(&prefixed, &["w1"]), &server.url());
    let two = Daemon::start_on(&with_agents(WORKER, &["w1"]), &server.url());
    let client = server.client().await;
    let mut all = client.subscribe("acme.prod.>").await.unwrap();
    client.flush().await.unwrap();
    let request = client.request("acme.prod.agent.command", r#"{"command":"list"}"#.into());
    let answer: Value = serde_json::from_slice(&request.await.unwrap().payload).unwrap();
    assert_eq!(answer["agents"][0]["name"], "w1");
    let pid = pid_of(&one.wait_state("w1", "running"));
    signal(pid, Signal::KILL);
    let mut subjects = BTreeSet::new();
    eventually("failures, events and recovery under the prefix", async || {
        let next = tokio::time::timeout(Duration::from_millis(100), all.next());
        if let Ok(Some(message)) = next.await {
            subjects.insert(message.subject.to_string());
        }
        ["supervision.failures.high", "supervision.events", "supervision.recovery."]
            .iter()
            .all(|wanted| subjects.iter().any(|seen| seen.contains(wanted)))
            .then_some(())
    })
    .await;
    assert_eq!(two.agent("w1").unwrap()["restarts"], 0);
    let jetstream = async_nats::jetstream::new(client);
    jetstream.get_stream("acme_prod_SUPERVISION").await.unwrap();
}

#[test]
fn an_older_server_is_accepted_or_refused_as_stated() {
    let cases = [("2.12.0", Some(())), ("2.11.11", None)];
    for (version, accepted) in cases {
        let binary = older_server(version);
        let server = NatsServer::with(NatsOptions::default().binary(binary));
        let mut daemon =
            Daemon::prepare(&with_agents(WORKER, &["w1"])).flag("--nats-url", &server.url());
        if accepted.is_some() {
            daemon.up();
            daemon.wait_state("w1", "running");
        } else {
            daemon.spawn();
            let status = eventually_blocking("the daemon ends", || daemon.ended());
            assert_eq!(status.code(), Some(5), "{}", daemon.log());
            assert!(daemon.log().contains("2.11.11") && daemon.log().contains("2.12"));
        }
    }
}
