//! Tasks that do not go well: bad submissions, failures, duplicates, cancellations.

use serde_json::json;

use crate::daemon::embedded_client;
use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::tasks::{audit, began, go, ready, result, shown, states, stored_on, submit, workers};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_submission_is_rejected_and_becomes_a_dead_letter_that_names_the_fault() {
    let daemon = Daemon::start(&workers(1));
    ready(&daemon, &["w1"]);
    let client = embedded_client(&daemon).await;
    let huge = vec![b' '; 1024 * 1024 - 1024];
    let cases: [(&str, &[u8], &str); 7] = [
        ("b1", b"no json", "expected"),
        ("b2", b"{}", "missing field `input`"),
        ("b3", br#"{"input":1,"priority":"high"}"#, "unknown field `priority`"),
        ("b4", br#"{"input":1,"requirements":{"priority":"huge"}}"#, "requirements.priority"),
        ("b5", br#"{"input":1,"deadline_ms":0}"#, "field \"deadline_ms\" is 0"),
        ("b6", br#"{"input":1,"strategy":"sticky"}"#, "field \"sticky_key\" is missing"),
        ("b7", &huge, "at most 1044480 are allowed"),
    ];
    for (id, body, _) in &cases {
        submit(&client, "bad", id, body).await;
    }
    for (id, _, said) in &cases {
        let event = result(&daemon, id);
        assert_eq!(event["data"]["state"], "rejected", "{id}");
        let message = event["data"]["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{id}: {message}");
    }
    let mut letters = Box::pin(stored_on(&daemon, "DEAD_LETTERS", "dlq.bad")).await;
    // They are stored side by side.
    letters.sort_by_key(|letter| letter["causationid"].to_string());
    assert_eq!(letters.len(), cases.len());
    for ((id, ..), letter) in cases.iter().zip(&letters) {
        assert_eq!(letter["causationid"], *id);
        assert_eq!(letter["type"], "provost.dead_letter.v1");
        assert_eq!(letter["data"]["retry_count"], 0);
        assert_eq!(letter["data"]["original"]["subject"], "coordination.tasks.bad");
    }
    assert_eq!(letters[2]["data"]["original"]["body"], json!({"input": 1, "priority": "high"}));
    assert_eq!(letters[0]["data"]["original"]["text"], "no json");
    audit(&daemon);
}

#[test]
fn a_task_that_fails_is_tried_again_and_then_a_dead_letter_that_can_be_retried() {
    let daemon = Daemon::start(&workers(2));
    ready(&daemon, &["w1", "w2"]);
    let input = r#"{"fail":{"code":"busy","message":"later","after_ms":10}}"#;
    let arguments = ["task", "run", "x", input, "--id", "f1", "--max-attempts", "2"];
    let output = daemon.cli(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "failed: busy: later\n");
    assert_eq!(states(&daemon, "f1"), ["assigned", "accepted", "assigned", "failed"]);
    let records = shown(&daemon, "f1")["records"].clone();
    assert_eq!(records[3]["decision"]["reason"], "attempts_exhausted");
    assert_ne!(records[0]["agent_id"], records[2]["agent_id"], "another agent is tried first");
    let retried = daemon.json(&["task", "retry", "f1"]);
    let new = retried[0]["task_id"].as_str().unwrap();
    assert_eq!(result(&daemon, new)["data"]["state"], "failed");
    let refused = daemon.cli(&["task", "retry", "never"]);
    assert_eq!(refused.status.code(), Some(6));
    let status = daemon.json(&["status"]);
    assert_eq!(status["system"]["tasks"]["ended"]["failed"], 2);
    audit(&daemon);
}

#[test]
fn a_submission_that_comes_twice_is_one_task() {
    let daemon = Daemon::start(&workers(1));
    ready(&daemon, &["w1"]);
    for expected in [false, true] {
        let told = daemon.json(&["task", "submit", "x", "{\"wait\":true}", "--id", "d1"]);
        assert_eq!(told["duplicate"], expected);
    }
    began(&daemon, "d1", 1);
    go(&daemon);
    result(&daemon, "d1");
    assert_eq!(shown(&daemon, "d1")["attempt"], 1);
    audit(&daemon);
}

#[test]
fn a_cancelled_task_ends_after_its_grace_and_the_late_result_is_refused() {
    let daemon = Daemon::start(&workers(1));
    ready(&daemon, &["w1"]);
    daemon.json(&["task", "submit", "x", "{\"wait\":true}", "--id", "c1"]);
    began(&daemon, "c1", 1);
    let told = daemon.json(&["task", "cancel", "c1", "--grace", "50ms", "--reason", "no use"]);
    assert_eq!(told[0]["state"], "cancelling");
    let event = result(&daemon, "c1");
    assert_eq!(event["data"]["state"], "cancelled");
    assert_eq!(event["data"]["error"]["message"], "no use");
    let again = daemon.cli(&["task", "cancel", "c1"]);
    assert_eq!(again.status.code(), Some(6), "{}", text(&again.stderr));
    assert_eq!(daemon.cli(&["task", "cancel", "never"]).status.code(), Some(4));
    go(&daemon);
    eventually_blocking("the late result is refused", || {
        (daemon.json(&["status"])["system"]["tasks"]["late"] == 1).then_some(())
    });
    assert_eq!(result(&daemon, "c1"), event);
    audit(&daemon);
}
