//! Failures of agents: crash loop, memory, hang, rate limit, a fault of configuration, a full disk, a
//! node that is lost.

use serde_json::json;

use crate::daemon::embedded_client;
use crate::stories::{explained, failing, steps};
use crate::support::daemon::Daemon;

#[test]
fn a_crash_loop_is_told_with_its_exits_its_limit_and_the_line_of_the_limit() {
    let config = failing("echo no database; exit 3", "").replace(
        "restart = { backoff = { initial = \"1h\", max = \"1h\", jitter = \"none\" } }",
        "restart = { intensity = 2, period = \"60s\", open_for = \"1h\", open_max = \"2h\", \
         backoff = { initial = \"1ms\" } }",
    );
    let daemon = Daemon::start(&config);
    daemon.wait_state("w1", "quarantined");
    let (said, told) = explained(&daemon, "w1", "quarantined");
    assert_eq!(told["why"]["reason"], "child_limit_exceeded");
    assert_eq!(steps(&told), ["provost logs w1 --previous", "provost reset w1"]);
    insta::assert_snapshot!("crash_loop", said);
}

#[test]
fn a_memory_hog_is_told_as_one_with_the_limit_to_raise() {
    let script = "(head -c 150m /dev/zero; sleep 300) | tail; sleep 300";
    let daemon = Daemon::start(&failing(script, "max_memory_mb = 64"));
    daemon.wait_state("w1", "backoff");
    let (_, told) = explained(&daemon, "w1", "backoff");
    let text = told["why"]["text"].as_str().unwrap();
    assert!(text.starts_with("out of memory: "), "{text}");
    assert!(text.contains("max_memory_mb allows 64"), "{text}");
    let first = steps(&told)[0].to_owned();
    assert!(first.starts_with("raise max_memory_mb of agent_types.worker ("), "{first}");
    assert!(first.ends_with("provost.toml:3)"), "{first}");
}

#[test]
fn a_hang_is_told_with_what_was_waited_for() {
    let probe = "[agent_types.worker.probes.liveness]\nstdout_within = \"1s\"\ninterval = \"1s\"\n\
                 failure_threshold = 1";
    let daemon = Daemon::start(&failing("echo up; exec sleep 100000", probe));
    daemon.wait_state("w1", "backoff");
    let (said, told) = explained(&daemon, "w1", "backoff");
    let text = told["why"]["text"].as_str().unwrap();
    assert!(text.starts_with("hang: "), "{text}");
    assert_eq!(
        steps(&told),
        ["provost logs w1 --previous", "provost show w1", "provost restart w1"]
    );
    insta::assert_snapshot!("hang", said);
}

#[test]
fn a_rate_limit_is_told_as_no_failure_with_the_time_it_is_over() {
    let daemon = Daemon::start(&failing("echo retry after 3600; exit 75", ""));
    daemon.wait_state("w1", "parked");
    let (said, told) = explained(&daemon, "w1", "parked");
    assert_eq!(told["why"]["reason"], "throttled");
    assert_eq!(told["next"]["action"], "restart");
    assert!(3_500_000 < told["next"]["in_ms"].as_u64().unwrap(), "{told}");
    insta::assert_snapshot!("rate_limit", said);
}

#[test]
fn a_fault_of_the_configuration_is_told_with_the_setting_to_correct() {
    let daemon = Daemon::start(&failing("no-such-command-anywhere", ""));
    daemon.wait_state("w1", "quarantined");
    let (said, told) = explained(&daemon, "w1", "quarantined");
    let first = steps(&told)[0].to_owned();
    assert!(first.starts_with("correct `command` or `env` of agent_types.worker ("), "{first}");
    insta::assert_snapshot!("config_fault", said);
}

#[test]
fn a_full_disk_is_told_apart_from_a_fault_of_the_program() {
    let daemon = Daemon::start(&failing("head -c 1 /dev/zero >/dev/full", ""));
    daemon.wait_state("w1", "backoff");
    let (_, told) = explained(&daemon, "w1", "backoff");
    assert_eq!(steps(&told)[0], "df -h", "{told}");
    let more = told["why"]["more"].to_string();
    assert!(more.contains("No space left on device"), "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_node_is_lost_is_told_as_lost_with_where_to_look() {
    let config = "[supervision]\nenabled = true\n[agent_types.far]\nruntime = \"remote\"\n\
                  [[agent]]\nname = \"r1\"\ntype = \"far\"\n";
    let daemon = Daemon::start(config);
    let client = embedded_client(&daemon).await;
    let beat = json!({"op": "beat", "v": 1, "id": "r1", "instance": "one", "every_ms": 200,
        "capabilities": [], "slots": 1, "inflight": [], "state": "ready"});
    // A beat until it is seen; then its node is gone, and nobody says so.
    crate::support::eventually("the agent has come", async || {
        client.publish("agent.r1.beat", beat.to_string().into()).await.unwrap();
        client.flush().await.unwrap();
        tokio::task::block_in_place(|| {
            daemon.agent("r1").filter(|agent| agent["state"] == "running").map(|_| ())
        })
    })
    .await;
    let (_, told) = tokio::task::block_in_place(|| {
        daemon.wait("r1", "is lost", |agent| {
            agent["state"] != "running" && agent["state"] != "degraded"
        });
        explained(&daemon, "r1", "starting")
    });
    let text = told["why"]["text"].as_str().unwrap();
    assert!(text.starts_with("lost: "), "{text}");
    assert!(steps(&told)[0].starts_with("start r1 again where it runs"), "{told}");
}
