//! Tasks that go to every agent that can have them.

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::tasks::{
    all_submissions_are_gone, audit, began, go, ready, result, shown, states, workers,
};

/// The task of each agent's part, by the agent's id.
fn parts(daemon: &Daemon, id: &str) -> Vec<String> {
    let parts = eventually_blocking("the broadcast has parts", || {
        let parts = shown(daemon, id)["records"][0]["parts"].clone();
        parts.is_object().then_some(parts)
    });
    parts.as_object().unwrap().values().map(|part| part.as_str().unwrap().to_owned()).collect()
}

fn submit(daemon: &Daemon, input: &str, id: &str, more: &[&str]) {
    let fixed = ["task", "submit", "x", input, "--id", id, "--strategy", "broadcast"];
    let output = daemon.cli(&[&fixed[..], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_is_worked_on_by_all_and_has_all_results() {
    let daemon = Daemon::start(&workers(3));
    ready(&daemon, &["w1", "w2", "w3"]);
    submit(&daemon, "7", "all", &["--capability", "work"]);
    let event = result(&daemon, "all");
    assert_eq!(event["data"]["state"], "completed");
    let gathered = &event["data"]["result"];
    assert_eq!((&gathered["complete"], &gathered["needed"]), (&json!(3), &json!(3)));
    let results = gathered["results"].as_object().unwrap();
    let pids: std::collections::BTreeSet<u64> =
        results.values().map(|result| result["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids.len(), 3, "each agent has worked on it");
    assert_eq!(states(&daemon, "all"), ["assigned", "completed"]);
    for part in parts(&daemon, "all") {
        assert_eq!(states(&daemon, &part), ["assigned", "completed"]);
        assert_eq!(shown(&daemon, &part)["records"][0]["part_of"], "all");
    }
    let nobody = ["--capability", "flying", "--deadline", "100ms"];
    submit(&daemon, "7", "nobody", &nobody);
    assert_eq!(result(&daemon, "nobody")["data"]["state"], "expired");
    all_submissions_are_gone(&daemon).await;
    audit(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_enough_ends_it_and_cancels_the_others() {
    let daemon = Daemon::start(&workers(2));
    ready(&daemon, &["w1", "w2"]);
    // One of the two is busy with something else, so that its part waits.
    let busy = ["task", "submit", "x", "{\"wait\":true}", "--id", "busy", "--to", "w1"];
    assert!(daemon.cli(&busy).status.success());
    began(&daemon, "busy", 1);
    submit(&daemon, "7", "any", &["--completion", "any"]);
    let event = result(&daemon, "any");
    assert_eq!(event["data"]["state"], "completed");
    assert_eq!(event["data"]["result"]["complete"], 1);
    let missing: Vec<&Value> =
        event["data"]["result"]["missing"].as_object().unwrap().values().collect();
    assert_eq!(missing, [&json!({"reason": "not_ended"})]);
    let ends = || -> Vec<String> {
        let mut ends: Vec<String> = parts(&daemon, "any")
            .iter()
            .filter_map(|part| states(&daemon, part).last().cloned())
            .collect();
        ends.sort();
        ends
    };
    eventually_blocking("the other part is cancelled", || {
        (ends() == ["cancelled", "completed"]).then_some(())
    });
    go(&daemon);
    result(&daemon, "busy");
    all_submissions_are_gone(&daemon).await;
    audit(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_outlives_a_killed_daemon() {
    let mut daemon = Daemon::start(&workers(2));
    ready(&daemon, &["w1", "w2"]);
    submit(&daemon, "{\"wait\":true}", "b", &[]);
    for part in parts(&daemon, "b") {
        began(&daemon, &part, 1);
    }
    daemon.kill9();
    daemon.up();
    ready(&daemon, &["w1", "w2"]);
    go(&daemon);
    let event = result(&daemon, "b");
    assert_eq!(event["data"]["state"], "completed", "{event}");
    assert_eq!(event["data"]["result"]["complete"], 2);
    assert_eq!(states(&daemon, "b"), ["assigned", "completed"]);
    all_submissions_are_gone(&daemon).await;
    audit(&daemon);
}
