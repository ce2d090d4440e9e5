//! The examples do what their pages say.

use std::path::PathBuf;
use std::process::Command;

/// Runs an example that cargo has built beside the tests, and returns what it said.
fn run(name: &str) -> String {
    let mut folder: PathBuf = std::env::current_exe().unwrap();
    folder.pop();
    folder.pop();
    let output = Command::new(folder.join("examples").join(name)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn an_embedded_tree_opens_a_circuit_and_closes_it_without_daemon_or_nats() {
    let said = run("embedded_tree");
    let open = said.find("\"to\":\"open\"").expect(&said);
    let closed = said.find("\"to\":\"closed\"").expect(&said);
    let recovered = said.find("provost.supervision.recovery.v1").expect(&said);
    assert!(open < closed && closed < recovered, "{said}");
}
