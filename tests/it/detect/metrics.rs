//! Metrics: those that the shipped dashboard and rules use exist, and a real daemon shows them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use provost::metrics::NAMES;

use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;
use crate::tidy::root;

/// Names of ours in a text, without what a histogram adds to them.
fn used(text: &str) -> BTreeSet<String> {
    let is_part = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
    let words = text.split(|char| !is_part(char)).filter(|word| word.starts_with("provost_"));
    words
        .map(|word| {
            let histogram = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|tail| word.strip_suffix(tail).filter(|name| name.ends_with("_seconds")));
            histogram.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn every_metric_in_the_shipped_dashboard_and_rules_exists() {
    let known: BTreeSet<String> = NAMES.into_iter().map(str::to_owned).collect();
    assert_eq!(known.len(), NAMES.len(), "a name stands twice");
    for file in ["deploy/grafana/provost.json", "deploy/prometheus/alerts.yml"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let used = used(&text);
        assert!(5 < used.len(), "{file}");
        let unknown: Vec<&String> = used.difference(&known).collect();
        assert_eq!(unknown, Vec::<&String>::new(), "{file}");
    }
    let text = std::fs::read_to_string(root().join("deploy/grafana/provost.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    text(&answer)
}

#[test]
fn a_daemon_shows_the_metrics_of_its_agents_patterns_and_alerts() {
    let daemon = Daemon::start(
        r#"
[supervision]
enabled = true
[agent_types.worker]
command = ["sh", "-c", "test $NAME = good && exec sleep 100000; exit 3"]
env = { PROVOST_TEST_MARK = "{mark}", NAME = "bad" }
restart = { intensity = 1000, backoff = { initial = "50ms", factor = 1.0, max = "50ms", jitter = "none" } }
[[agent]]
name = "w1"
type = "worker"
[[agent]]
name = "w2"
type = "worker"
env = { NAME = "good" }
"#,
    );
    daemon.wait_state("w2", "running");
    let status = daemon.json(&["status"]);
    let address = status["system"]["http"].as_str().unwrap().to_owned();
    let shown = eventually_blocking("the alert is in the metrics", || {
        let shown = scrape(&address);
        shown.contains("provost_alerts_firing{severity=\"high\"} 1").then_some(shown)
    });
    let value = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{shown}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(value("provost_agent_up{agent=\"w2\"}"), "1");
    assert_eq!(value("provost_bus_connected"), "1");
    assert_eq!(value("provost_tasks{state=\"held\"}"), "0");
    assert_eq!(value("provost_patterns_active{kind=\"crash_loop\"}"), "1");
    assert_eq!(value("provost_patterns_total{kind=\"crash_loop\"}"), "1");
    assert_eq!(value("provost_insight_skipped_total"), "0");
    assert!(2 <= value("provost_agent_restarts_total{agent=\"w1\"}").parse().unwrap());
    assert!(3 <= value("provost_failures_total{kind=\"process_crash\"}").parse().unwrap());
    assert!(shown.contains("provost_outbox_publish_seconds_bucket{le="), "{shown}");
    // Everything that is shown is a name of ours.
    let known: BTreeSet<String> = NAMES.into_iter().map(str::to_owned).collect();
    let lines = shown.lines().filter(|line| line.starts_with("provost_"));
    let names: BTreeSet<String> =
        lines.flat_map(|line| used(line.split(['{', ' ']).next().unwrap())).collect();
    assert!(names.is_subset(&known), "{:?}", names.difference(&known));
}
