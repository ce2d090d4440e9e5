//! The past through the command line: any moment that is kept, and chains of causes.

use serde_json::Value;

use crate::daemon::{WORKER, with_agents};
use crate::stories::{explained, failing};
use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::support::nats::NatsServer;

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[test]
fn tree_list_status_and_circuits_are_shown_as_they_were() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1", "w2"]));
    daemon.wait_state("w2", "running");
    let before = daemon.wait_state("w1", "running");
    // What is told a moment later is later.
    eventually_blocking("both are told", || {
        let list = daemon.json(&["list", "--at", "0s"]);
        let agents = list["agents"].as_array()?.clone();
        (agents.len() == 2 && agents.iter().all(|agent| agent["state"] == "running")).then_some(())
    });
    let then = now();
    assert!(daemon.cli(&["stop", "w1"]).status.success());
    daemon.wait_state("w1", "stopped");
    let list = daemon.json(&["list", "--at", &then]);
    assert_eq!(list["at"], then);
    let mut was = list["agents"][0].clone();
    was["health"] = before["health"].clone();
    assert_eq!(was, before);
    let status = daemon.json(&["status", "w1", "--at", &then]);
    assert_eq!(status["agent"]["pid"], before["pid"]);
    let tree = text(&daemon.cli(&["tree", "--at", &then]).stdout);
    let live = text(&daemon.cli(&["tree"]).stdout);
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("at "));
        lines.map(|line| line.split("  ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&tree).len(), names(&live).len(), "{tree}\n{live}");
    assert!(tree.contains("w1  running"), "{tree}");
    let circuits = daemon.json(&["circuit", "list", "--at", &then]);
    assert_eq!(circuits["circuits"][0]["circuit"]["state"], "closed");
    assert_eq!(daemon.json(&["circuit", "list"])["circuits"].as_array().unwrap().len(), 2);
    let shown = daemon.json(&["show", "w1", "--at", &then]);
    assert_eq!(shown["child"]["state"], "running");
    assert_eq!(shown["spec"]["command"][0], "sleep");
    let explained = daemon.json(&["explain", "w1", "--at", &then]);
    assert_eq!(explained["state"], "running");

    let early = daemon.cli(&["list", "--at", "2001-01-01T00:00:00Z"]);
    assert_eq!(early.status.code(), Some(4));
    let said = text(&early.stderr);
    assert!(
        said.starts_with("error[PV0212]: nothing is known of 2001-01-01T00:00:00Z: "),
        "{said}"
    );
    let ahead = daemon.cli(&["tree", "--at", "2999-01-01T00:00:00Z"]);
    assert!(text(&ahead.stderr).contains("lies ahead"), "{}", text(&ahead.stderr));
}

#[test]
fn the_past_is_read_without_a_daemon_where_its_events_are() {
    let server = NatsServer::start();
    let mut daemon = Daemon::start_on(&failing("echo boom; exit 3", ""), &server.url());
    daemon.wait_state("w1", "backoff");
    explained(&daemon, "w1", "backoff");
    daemon.kill9();
    let output = daemon.cli(&["explain", "w1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("the daemon does not answer"),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("exited with code 3"), "{}", text(&output.stdout));
    let list = daemon.json(&["list", "--at", "0s"]);
    assert_eq!(list["agents"][0]["state"], "backoff");
    let unknown = daemon.cli(&["explain", "w9"]);
    assert_eq!(unknown.status.code(), Some(4), "{}", text(&unknown.stderr));
    assert!(text(&unknown.stderr).starts_with("warning: the daemon"), "{}", text(&unknown.stderr));
}

#[test]
fn a_chain_of_causes_is_drawn_as_a_tree_from_its_root() {
    let daemon = Daemon::start(&failing("exit 3", ""));
    daemon.wait_state("w1", "backoff");
    explained(&daemon, "w1", "backoff");
    let events = daemon.json(&["events", "--for", "w1", "--kind", "state_changed"]);
    let last = events.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let tree = daemon.json(&["events", "--cause", &last])["tree"].clone();
    assert_eq!(tree["type"], "supervision.failure");
    assert_eq!(tree["caused"][0]["type"], "supervision.decision");
    let caused = tree["caused"][0]["caused"].as_array().unwrap();
    assert!(caused.iter().any(|event: &Value| event["id"] == last.as_str()), "{tree:#}");
    let said = text(&daemon.cli(&["events", "--cause", &last]).stdout);
    assert!(
        said.lines().any(|line| line.starts_with("   └─ ") || line.starts_with("   ├─ ")),
        "{said}"
    );
    assert_eq!(said.matches('◀').count(), 1, "{said}");
    let none = daemon.cli(&["events", "--cause", "01900000-0000-7000-8000-000000000000"]);
    assert_eq!(none.status.code(), Some(4), "{}", text(&none.stderr));
}
