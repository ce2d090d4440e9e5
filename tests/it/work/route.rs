//! `provost route test` over a real daemon.

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, text};

const CONFIG: &str = r#"
[supervision]
enabled = true
[agent_types.reviewer]
command = ["sleep", "3600"]
capabilities = ["review", "rust"]
slots = 4
labels = { zone = "eu" }
[agent_types.tester]
command = ["sleep", "3600"]
capabilities = ["test"]
[agent_types.crasher]
command = ["sh", "-c", "exit 3"]
capabilities = ["review"]
restart = { intensity = 0, open_for = "1h", open_max = "2h", backoff = { initial = "1ms" } }
[[agent]]
name = "r1"
type = "reviewer"
[[agent]]
name = "r2"
type = "reviewer"
[[agent]]
name = "t1"
type = "tester"
[[agent]]
name = "c1"
type = "crasher"
"#;

fn against(answer: &Value, name: &str) -> Value {
    let rows = answer["route"]["candidates"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap()["against"].clone()
}

#[test]
fn every_agent_is_listed_with_its_score_or_what_stands_against_it() {
    let daemon = Daemon::start(CONFIG);
    daemon.wait_state("r1", "running");
    daemon.wait_state("r2", "running");
    daemon.wait_state("t1", "running");
    daemon.wait_state("c1", "quarantined");

    let answer = daemon.json(&["route", "test", "review", "--strategy", "least_loaded"]);
    let route = &answer["route"];
    assert_eq!(route["candidates"].as_array().unwrap().len(), 4);
    assert_eq!(route["picked"].as_array().unwrap().len(), 1);
    assert_eq!(route["decision"]["reason"], "agent_picked");
    assert_eq!(route["decision"]["rule"]["distribution"], "least_loaded");
    assert_eq!(against(&answer, "r1"), Value::Null);
    let lacks = json!([{"reason": "lacks_capability", "capability": "review"}]);
    assert_eq!(against(&answer, "t1"), lacks);
    let open = json!([{"reason": "not_routable", "standing": "circuit_open"}]);
    assert_eq!(against(&answer, "c1"), open);

    assert!(daemon.cli(&["drain", "r1"]).status.success());
    let condition = r#"{"label":{"key":"zone","value":"eu"}}"#;
    let all = daemon.json(&["route", "test", "--strategy", "broadcast", "--where", condition]);
    let r2 = daemon.agent("r2").unwrap()["agent_id"].clone();
    assert_eq!(all["route"]["picked"], json!([r2]));
    let draining = json!([{"reason": "not_routable", "standing": "draining"}]);
    assert_eq!(against(&all, "r1"), draining);

    let shown = daemon.cli(&["route", "test", "review"]);
    let shown = text(&shown.stdout);
    assert!(shown.starts_with("round_robin: r2 of 1 that can, of 4 agents"), "{shown}");
    assert!(shown.contains("lacks review") && shown.contains("circuit open"), "{shown}");

    let nobody = daemon.cli(&["route", "test", "fly"]);
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody.stdout));
    assert!(text(&nobody.stdout).contains("no_agent_matches"), "{}", text(&nobody.stdout));
    let wrong = daemon.cli(&["route", "test", "--strategy", "direct"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("strategy direct needs participants"));
}
