//! Which agent a task goes to: strategies, conditions, standings; and what is said when none can.

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::tasks::{audit, began, go, ready, result, shown, workers};

/// Three workers that take several tasks at a time, the first of them elsewhere.
fn spread() -> String {
    let near = workers(2).replace("slots = 1", "slots = 8");
    let (_, of_worker) = near.split_once("[agent_types.worker]\n").unwrap();
    let (of_worker, _) = of_worker.split_once("[[agent]]").unwrap();
    format!(
        "{near}[agent_types.far]\n{of_worker}labels = {{ zone = \"far\" }}\n\
         [[agent]]\nname = \"far\"\ntype = \"far\"\n"
    )
}

fn run(daemon: &Daemon, id: &str, more: &[&str]) -> Value {
    let arguments = [&["task", "run", "x", "1", "--id", id][..], more].concat();
    let output = daemon.cli(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    shown(daemon, id)["records"][0].clone()
}

fn agent_id(daemon: &Daemon, name: &str) -> Value {
    daemon.agent(name).unwrap()["agent_id"].clone()
}

#[test]
fn tasks_of_one_key_stay_with_one_agent_until_it_drains() {
    let daemon = Daemon::start(&spread());
    ready(&daemon, &["w1", "w2", "far"]);
    let sticky = ["--strategy", "sticky", "--sticky-key", "k"];
    let first = run(&daemon, "s1", &sticky);
    assert_eq!(first["decision"]["reason"], "agent_picked");
    for number in 2..6 {
        let record = run(&daemon, &format!("s{number}"), &sticky);
        assert_eq!(record["agent_id"], first["agent_id"], "{number}");
        assert_eq!(record["decision"]["reason"], "agent_kept");
        assert_eq!(record["decision"]["rule"]["distribution"], "sticky");
    }
    let names = ["w1", "w2", "far"];
    let keeper = names.into_iter().find(|name| agent_id(&daemon, name) == first["agent_id"]);
    assert!(daemon.cli(&["drain", keeper.unwrap()]).status.success());
    let moved = run(&daemon, "s6", &sticky);
    assert_ne!(moved["agent_id"], first["agent_id"]);
    assert_eq!(moved["decision"]["reason"], "key_moved");
    audit(&daemon);
}

#[test]
fn a_condition_and_a_name_decide_and_a_test_of_the_route_sees_what_is_under_way() {
    let daemon = Daemon::start(&spread());
    ready(&daemon, &["w1", "w2", "far"]);
    let far = agent_id(&daemon, "far");
    let in_zone = r#"{"label":{"key":"zone","value":"far"}}"#;
    for number in 1..4 {
        let record = run(&daemon, &format!("z{number}"), &["--where", in_zone]);
        assert_eq!(record["agent_id"], far, "{number}");
    }
    let elsewhere = format!("{{\"not\":{in_zone}}}");
    for number in 1..4 {
        let record = run(&daemon, &format!("n{number}"), &["--where", &elsewhere]);
        assert_ne!(record["agent_id"], far, "{number}");
    }
    let record = run(&daemon, "d1", &["--strategy", "direct", "--to", "w2"]);
    assert_eq!(record["agent_id"], agent_id(&daemon, "w2"));
    assert_eq!(record["decision"]["rule"]["distribution"], "direct");

    let arguments = ["task", "submit", "x", "{\"wait\":true}", "--id", "long", "--to", "w1"];
    assert!(daemon.cli(&arguments).status.success());
    began(&daemon, "long", 1);
    let answer = daemon.json(&["route", "test", "work", "--strategy", "least_loaded"]);
    let rows = answer["route"]["candidates"].as_array().unwrap();
    let w1 = rows.iter().find(|row| row["name"] == "w1").unwrap();
    assert_eq!((&w1["inflight"], &w1["slots"]), (&json!(1), &json!(8)));
    assert_ne!(answer["route"]["picked"][0], agent_id(&daemon, "w1"), "it has the most to do");
    go(&daemon);
    result(&daemon, "long");
    audit(&daemon);
}

#[test]
fn a_task_that_nobody_can_have_waits_and_the_status_says_why_until_somebody_can() {
    let daemon = Daemon::start(&workers(1));
    ready(&daemon, &["w1"]);
    assert!(daemon.cli(&["drain", "w1"]).status.success());
    assert!(daemon.cli(&["task", "submit", "x", "1", "--id", "t1"]).status.success());
    let said = eventually_blocking("the status says why the task waits", || {
        let status = daemon.json(&["status"]);
        Some(status["system"]["tasks"]["trouble"].as_str()?.to_owned())
    });
    assert_eq!(
        said,
        "tasks of type x wait: no agent was picked by round_robin: none of those that match may be \
         given work now; of 1 agents 1 match, 0 may work, 0 have room"
    );
    assert!(daemon.cli(&["resume", "w1"]).status.success());
    assert_eq!(result(&daemon, "t1")["data"]["state"], "completed");
    eventually_blocking("the trouble is over", || {
        daemon.json(&["status"])["system"]["tasks"]["trouble"].is_null().then_some(())
    });
    audit(&daemon);
}
