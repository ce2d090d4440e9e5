//! Limits through the whole daemon: from the file to the event and the status.

use serde_json::json;

use crate::daemon::{WORKER, embedded_client, stored, supervision, type_of, with_agents};
use crate::support::daemon::{Daemon, text};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_hog_is_told_as_out_of_memory_and_comes_back() {
    let config = WORKER.replace(
        r#"["sleep", "100000"]"#,
        r#"["sh", "-c", "test $PROVOST_GENERATION -gt 1 || (head -c 150m /dev/zero; sleep 300) | tail; sleep 300"]
max_memory_mb = 64
limits = { open_files = 100, run_time = "1h", pids = 50 }"#,
    );
    let daemon = Daemon::start(&with_agents(&config, &["w1"]));
    let after = daemon
        .wait("w1", "runs again", |agent| agent["state"] == "running" && agent["generation"] == 2);
    let held = after["containment"].as_str().unwrap();
    assert!(["cgroup", "subreaper"].contains(&held), "{held}");
    let limits = &after["limits"];
    assert_eq!(limits["open_files"], "kernel");
    assert_eq!(limits["core_size"], "kernel");
    assert_eq!(limits["run_time"], "timer");
    let by_kernel = limits["memory"] == "kernel";
    assert_eq!(limits["memory"], if by_kernel { "kernel" } else { "sampled" });
    assert_eq!(limits["pids"], if by_kernel { "kernel" } else { "nobody" });
    let shown = text(&daemon.cli(&["status", "w1"]).stdout);
    assert!(shown.contains("held by") && shown.contains("open_files by the kernel"), "{shown}");

    let client = embedded_client(&daemon).await;
    let mut stream = supervision(&client).await;
    let failure = eventually("the failure is stored", async || {
        let events = stored(&mut stream).await;
        events.into_iter().find(|event| type_of(event) == "supervision.failure")
    })
    .await;
    assert_eq!(failure["data"]["failure_type"], "out_of_memory");
    assert_eq!(failure["data"]["exit"], json!({"code": null, "signal": 9}));
    assert_eq!(failure["severity"], "high");
    if !by_kernel {
        assert!(daemon.log().contains("limit does not hold"), "{}", daemon.log());
    }
}
