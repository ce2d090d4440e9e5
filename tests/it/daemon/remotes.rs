//! Remote and stdio agents under a real daemon.

use std::path::Path;
use std::process::{Child, Command};

use serde_json::json;

use crate::daemon::WORKER;
use crate::support::daemon::{Daemon, text};
use crate::support::nats::NatsServer;

/// The example of a remote agent, ended with the test.
struct Remote(Child);

impl Remote {
    fn start(name: &str, server: &NatsServer) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("python3");
        command
            .arg(root.join("examples/agents/remote.py"))
            .env("PYTHONPATH", root.join(".tools/python"))
            .env("NATS_URL", server.url())
            .env("AGENT", name);
        Self(command.spawn().unwrap())
    }

    fn ends(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Fails only when it has ended.
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

/// A pool without a free place, and a declared remote agent.
const CONFIG: &str = r#"
[agent_types.far]
runtime = "remote"
labels = { team = "x" }
restart = { stable_after = "300ms", backoff = { initial = "0s" } }
[[agent]]
name = "r1"
type = "far"
[[agent]]
name = "w1"
type = "worker"
"#;

#[test]
fn a_remote_agent_is_known_by_its_beats() {
    let server = NatsServer::start();
    let config = format!("{}{CONFIG}", WORKER.replace("max = 100", "max = 1"));
    let mut daemon = Daemon::start_on(&config, &server.url());
    let waiting = daemon.wait_state("r1", "starting");
    assert_eq!((&waiting["agent_id"], &waiting["restarts"]), (&json!("r1"), &json!(0)));
    daemon.wait_state("w1", "running");

    let first = Remote::start("r1", &server);
    daemon.wait_state("r1", "running");
    let newcomer = Remote::start("visitor", &server);
    let visitor = daemon.wait_state("visitor", "running");
    assert_eq!(visitor["agent_type"], "remote");
    assert_eq!(
        visitor["labels"],
        json!({"undeclared": "true", "slots": "4", "capabilities": "count"})
    );

    drop(first);
    let lost = daemon.wait("r1", "was lost and is awaited", |agent| {
        agent["state"] == "starting" && agent["restarts"] == 1
    });
    assert_eq!(lost["generation"], 2);
    let again = Remote::start("r1", &server);
    daemon.wait_state("r1", "running");

    daemon.json(&["stop", "visitor"]);
    daemon.wait_state("visitor", "stopped");
    newcomer.ends();
    daemon.json(&["drain", "r1"]);

    assert!(daemon.terminate().success(), "{}", daemon.log());
    drop(again);
}

#[test]
fn a_stdio_and_an_exec_agent_run_under_the_daemon() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agents");
    let config = format!(
        r#"
[agent_types.lines]
runtime = "stdio"
command = ["python3", "{root}/upper.py"]
[agent_types.tool]
runtime = "exec"
command = ["sh", "{root}/count.sh"]
exec = {{ stdout = "json", pointer = "/words" }}
[[agent]]
name = "s1"
type = "lines"
[[agent]]
name = "e1"
type = "tool"
"#,
        root = root.display()
    );
    let mut daemon = Daemon::start(&(WORKER.to_owned() + &config));
    assert!(daemon.wait_state("s1", "running")["pid"].is_u64());
    assert!(daemon.wait_state("e1", "running")["pid"].is_null());
    daemon.json(&["stop", "s1"]);
    daemon.wait_state("s1", "stopped");
    daemon.json(&["stop", "e1"]);
    daemon.wait_state("e1", "stopped");
    assert!(daemon.terminate().success());
    daemon.nothing_left();
    assert!(!text(daemon.log().as_bytes()).contains("panicked"));
}
