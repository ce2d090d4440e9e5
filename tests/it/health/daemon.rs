//! Probes through the whole daemon: states, restarts, events.

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{embedded_client, pid_of, stored, supervision, type_of, with_agents};
use crate::support::daemon::{Daemon, signal};
use crate::support::eventually;

/// Says READY=1 when a file is there, and pings from then on.
const NOTIFIES: &str = r#"
[supervision]
enabled = true
health_check_interval = "500ms"
[agent_types.worker]
runtime = "process"
command = ["python3", "-c", "import os,socket,time\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\nwhile not os.path.exists('go'): time.sleep(0.01)\ns.sendto(b'READY=1',os.environ['NOTIFY_SOCKET'])\nwhile True:\n  s.sendto(b'WATCHDOG=1',os.environ['NOTIFY_SOCKET'])\n  time.sleep(int(os.environ['WATCHDOG_USEC'])/4e6)"]
env = { PROVOST_TEST_MARK = "{mark}" }
stop = { grace = "200ms" }
restart = { backoff = { initial = "1ms" } }
[agent_types.worker.probes.startup]
notify = true
interval = "30s"
[agent_types.worker.probes.liveness]
notify = true
interval = "1s"
failure_threshold = 2
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hangs_without_exiting_is_found_and_restarted() {
    let daemon = Daemon::start(&with_agents(NOTIFIES, &["w1"]));
    let starting = daemon.wait("w1", "has a process", |agent| agent["pid"].is_number());
    assert_eq!(starting["state"], "starting");
    std::fs::write(daemon.dir.path().join("go"), "").unwrap();
    let before = daemon.wait_state("w1", "running");
    assert_eq!(before["pid"], starting["pid"]);
    assert_eq!(before["health"]["status"], "healthy");
    signal(pid_of(&before), Signal::STOP);
    let after = daemon.wait("w1", "runs again", |agent| {
        agent["state"] == "running" && agent["pid"] != before["pid"]
    });
    assert_eq!(after["restarts"], 1);

    let client = embedded_client(&daemon).await;
    let mut stream = supervision(&client).await;
    let failure = eventually("the failure is stored", async || {
        let events = stored(&mut stream).await;
        events.into_iter().find(|event| type_of(event) == "supervision.failure")
    })
    .await;
    assert_eq!(failure["data"]["failure_type"], "watchdog");
    // The default action of SIGTERM reaches a frozen process, too.
    assert_eq!(failure["data"]["exit"], serde_json::json!({"code": null, "signal": 15}));
    let changes = agent_states(&client).await;
    let shown: Vec<&str> = changes.iter().map(String::as_str).take(2).collect();
    assert_eq!(shown, ["starting", "running"], "it is not shown as running before it is ready");
}

/// The states that agents went through, from the stream of events.
async fn agent_states(client: &async_nats::Client) -> Vec<String> {
    let mut stream = supervision(client).await;
    let events = stored(&mut stream).await;
    let changes = events.iter().filter(|event| type_of(event) == "agent.state_changed");
    changes.map(|event| event["data"]["new_state"].as_str().unwrap().to_owned()).collect()
}

const BEATS: &str = r#"
[supervision]
enabled = true
[agent_types.worker]
runtime = "process"
command = ["sleep", "300"]
env = { PROVOST_TEST_MARK = "{mark}" }
nats_access = true
restart = { backoff = { initial = "1ms" } }
[agent_types.worker.probes.startup]
beat = true
[agent_types.worker.probes.liveness]
beat = true
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_beats_stop_is_suspect_and_then_hung() {
    let daemon = Daemon::start(&with_agents(BEATS, &["w1"]));
    let starting = daemon.wait("w1", "is starting with a process", |agent| {
        agent["state"] == "starting" && agent["pid"].is_number()
    });
    let client = embedded_client(&daemon).await;
    let subject = format!("agent.{}.beat", starting["agent_id"].as_str().unwrap());
    let beat = r#"{"op":"beat","v":1,"every_ms":300,"state":"ready"}"#;
    eventually("it runs with its beats", async || {
        client.publish(subject.clone(), beat.into()).await.unwrap();
        client.flush().await.unwrap();
        daemon.agent("w1").filter(|agent| agent["state"] == "running")
    })
    .await;
    daemon.wait("w1", "was started again", |agent| agent["restarts"] == 1);
    let mut stream = supervision(&client).await;
    let events = eventually("the failure is stored", async || {
        let events = stored(&mut stream).await;
        let failed = |event: &Value| type_of(event) == "supervision.failure";
        events.iter().any(failed).then_some(events)
    })
    .await;
    let failure = events.iter().find(|event| type_of(event) == "supervision.failure").unwrap();
    assert_eq!(failure["data"]["failure_type"], "hang");
    let degraded = |event: &Value| event["data"]["new_state"] == "degraded";
    assert!(events.iter().any(degraded), "it was not suspect before");
}

const ANSWERS: &str = r#"
[supervision]
enabled = true
health_check_interval = "300ms"
[agent_types.worker]
runtime = "process"
command = ["python3", "-m", "http.server", "{port}", "--bind", "127.0.0.1"]
env = { PROVOST_TEST_MARK = "{mark}" }
[agent_types.worker.probes.readiness]
http = "http://127.0.0.1:{port}/"
interval = "100ms"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn health_events_tell_the_response_time_and_nothing_that_is_not_known() {
    let port = crate::health::free_port().to_string();
    let daemon = Daemon::start(&with_agents(&ANSWERS.replace("{port}", &port), &["w1"]));
    let agent = daemon.wait("w1", "was measured", |agent| {
        agent["state"] == "running" && agent["health"]["metrics"]["response_time_ms"].is_number()
    });
    let metrics = &agent["health"]["metrics"];
    assert!(metrics["memory_mb"].as_f64().unwrap() > 1.0, "{metrics}");
    assert_eq!((&metrics["error_rate"], &metrics["throughput"]), (&Value::Null, &Value::Null));
}
