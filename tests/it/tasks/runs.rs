//! Tasks that go well, through each kind of agent, and what they leave behind.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::daemon::embedded_client;
use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::tasks::{
    BASE, audit, began, examples, go, python_path, ready, result, states, stored_on, submit,
    workers,
};

#[test]
fn a_task_runs_through_the_stdio_example() {
    let upper = examples().join("upper.py");
    let config = format!(
        "{BASE}[agent_types.upper]\nruntime = \"stdio\"\ncommand = [\"python3\", {:?}]\n\
         capabilities = [\"upper\"]\n[[agent]]\nname = \"u1\"\ntype = \"upper\"\n",
        upper.display().to_string()
    );
    let daemon = Daemon::start(&config);
    ready(&daemon, &["u1"]);
    let output = daemon.cli(&["task", "run", "shout", "--text", "loud", "--capability", "upper"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "{\"text\":\"LOUD\"}\n");
    audit(&daemon);
}

#[test]
fn a_task_runs_through_the_exec_example_and_exit_code_65_rejects_it() {
    let count = examples().join("count.sh");
    let config = format!(
        "{BASE}[agent_types.count]\nruntime = \"exec\"\ncommand = [\"sh\", {:?}]\n\
         exec = {{ stdout = \"json\", pointer = \"/words\" }}\n[[agent]]\nname = \"c1\"\ntype = \"count\"\n",
        count.display().to_string()
    );
    let daemon = Daemon::start(&config);
    ready(&daemon, &["c1"]);
    let output = daemon.cli(&["task", "run", "count", "--text", "one two three"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "3\n".to_owned()));
    let output = daemon.cli(&["task", "run", "count", "--text", "", "--id", "empty"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(result(&daemon, "empty")["data"]["state"], "rejected");
    audit(&daemon);
}

#[test]
fn a_task_runs_through_the_remote_example() {
    let daemon = Daemon::start(BASE);
    ready(&daemon, &[]);
    let address = std::fs::read(daemon.state_dir().join("nats.json")).unwrap();
    let address: Value = serde_json::from_slice(&address).unwrap();
    let mut agent = Command::new("python3")
        .arg(examples().join("remote.py"))
        .env("PYTHONPATH", python_path())
        .env("NATS_URL", address["url"].as_str().unwrap())
        .env("AGENT", "r1")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    daemon.wait_state("r1", "running");
    let output = daemon.cli(&["task", "run", "count", "--text", "four", "--capability", "count"]);
    let (code, said) = (output.status.code(), text(&output.stdout));
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!((code, said.as_str()), (Some(0), "4\n"), "{}", text(&output.stderr));
    audit(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_leaves_two_records_and_one_result_and_its_submission_is_gone() {
    let daemon = Daemon::start(&workers(1));
    ready(&daemon, &["w1"]);
    let client = embedded_client(&daemon).await;
    submit(&client, "x", "t1", br#"{"input":7}"#).await;
    submit(&client, "x", "", br#"{"input":8}"#).await;
    let event = result(&daemon, "t1");
    assert_eq!(event["type"], "provost.coordination.result.v1");
    assert_eq!(event["subject"], "t1");
    assert_eq!(event["data"]["result"]["input"], 7);
    assert_eq!(event["data"]["attempt"], 1);
    assert_eq!(states(&daemon, "t1"), ["assigned", "completed"]);
    assert_eq!(result(&daemon, "seq-2")["data"]["result"]["input"], 8);
    let records = Box::pin(stored_on(&daemon, "TASK_LOG", "coordination.log.t1")).await;
    assert_eq!(records[1]["event"], event["id"], "the end names its result");
    let context = async_nats::jetstream::new(client.clone());
    let mut stream = context.get_stream("TASKS").await.unwrap();
    crate::support::eventually("both submissions have left their stream", async || {
        (stream.info().await.unwrap().state.messages == 0).then_some(())
    })
    .await;
    // The same id again stands for the task that has ended.
    let again = daemon.cli(&["task", "submit", "x", "9", "--id", "t1"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(result(&daemon, "t1"), event);
    let results = Box::pin(stored_on(&daemon, "TASK_LOG", "coordination.results.t1")).await;
    assert_eq!(results.len(), 1);
    audit(&daemon);
}

#[test]
fn a_list_shows_tasks_and_a_watch_follows_one_to_its_end() {
    let daemon = Daemon::start(&workers(1));
    ready(&daemon, &["w1"]);
    let submit = |id: &str, more: &[&str]| {
        let arguments = ["task", "submit", "x", "{\"wait\":true}", "--id", id];
        let output = daemon.cli(&[&arguments[..], more].concat());
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{id}\n")));
    };
    submit("first", &[]);
    began(&daemon, "first", 1);
    submit("second", &[]);
    submit("nobody", &["--capability", "flying"]);
    eventually_blocking("the first works", || {
        (states(&daemon, "first").last()?.as_str() == "working").then_some(())
    });
    let list = daemon.json(&["task", "list"]);
    let state = |id: &str| {
        let tasks = list["tasks"].as_array().unwrap();
        let task = tasks.iter().find(|task| task["task_id"] == id).unwrap();
        task["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        [state("first"), state("second"), state("nobody")],
        ["working", "accepted", "accepted"]
    );
    let output = daemon.cli(&["task", "result", "first"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert_eq!(daemon.cli(&["task", "show", "never"]).status.code(), Some(4));
    go(&daemon);
    let output = daemon.cli(&["task", "watch", "second", "-o", "jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let last: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(last["state"], "completed");
    let status = daemon.json(&["status"]);
    assert_eq!(status["system"]["tasks"]["ready"], 1, "nobody can fly");
    let cancelled = daemon.json(&["task", "cancel", "nobody"]);
    assert_eq!(cancelled[0]["state"], "cancelled");
    audit(&daemon);
}

#[test]
fn without_coordination_nothing_takes_tasks_and_the_status_says_so() {
    let config = BASE.replace("[coordination]\nenabled = true", "");
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.json(&["status"])["system"]["tasks"]["state"], "off");
    let output = daemon.cli(&["task", "submit", "x", "1"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("switch coordination on"));
    let tree = daemon.json(&["tree"]);
    assert!(!tree.to_string().contains("\"coordinator\""), "{tree}");
}
