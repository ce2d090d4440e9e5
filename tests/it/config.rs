//! Configuration from outside: faults word for word, layers, interpolation, the shipped files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use provost::config::{
    AgentEntry, Config, DownstreamAuth, Durability, EnvValue, Environment, Http, Loaded, NatsAuth,
    NatsTarget, Overrides, ProbeKind, ShowOrigin, Sources, SpecError, Switch, schema_json,
    validate,
};
use provost::protocol::id::AgentId;
use provost::protocol::spec::{
    Jitter, OnExceeded, RestartPolicy, RestartType, RuntimeKind, Significance, Strategy,
};
use serde_json::Value as Json;
use tempfile::TempDir;

/// Files in a folder of their own, an environment that knows only what it is told.
struct Bench {
    dir: TempDir,
    files: Vec<PathBuf>,
    variables: BTreeMap<String, String>,
    overrides: Overrides,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self {
            dir,
            files: files.iter().map(|(name, _)| PathBuf::from(name)).collect(),
            variables: BTreeMap::from([("HOME".to_owned(), "/home/u".to_owned())]),
            overrides: Overrides::default(),
        }
    }

    fn file(text: &str) -> Self {
        Self::new(&[("a.toml", text)])
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn environment(&self) -> Environment {
        Environment::of(self.variables.clone())
            .with_current_dir(self.dir.path())
            .with_host("box.lan")
    }

    fn load(&self) -> Result<Loaded, Vec<String>> {
        let sources = Sources {
            files: self.files.clone(),
            environment: self.environment(),
            overrides: self.overrides.clone(),
        };
        let lines = |faults: provost::config::Faults| {
            faults.list().iter().map(ToString::to_string).collect()
        };
        Config::load(sources).map_err(lines)
    }

    #[track_caller]
    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|faults| panic!("{}", faults.join("\n")))
    }

    #[track_caller]
    fn faults(&self, expected: &[&str]) {
        let seen = self.load().map_or_else(|faults| faults, |_| Vec::new());
        let dir = self.dir.path().to_string_lossy().into_owned();
        let seen: Vec<String> = seen.iter().map(|line| line.replace(&dir, "DIR")).collect();
        assert_eq!(seen, expected);
    }

    #[track_caller]
    fn warnings(&self, expected: &[&str]) {
        let seen: Vec<String> = self.loaded().warnings.iter().map(ToString::to_string).collect();
        assert_eq!(seen, expected);
    }
}

fn shown(loaded: &Loaded) -> BTreeMap<String, (Option<Json>, String)> {
    let keys = loaded.render(ShowOrigin::Yes).into_iter();
    keys.map(|key| (key.key, (key.value, key.origin.unwrap_or_default()))).collect()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_published_schema_is_the_one_of_the_code() {
    let path = repository("schema/provost.schema.json");
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration to read it from")]
    if std::env::var_os("PROVOST_BLESS").is_some() {
        std::fs::create_dir_all(repository("schema")).unwrap();
        std::fs::write(&path, schema_json()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == schema_json(),
        "schema/provost.schema.json is stale; run PROVOST_BLESS=1 cargo test config"
    );
}

/// The documented sample.
const SAMPLE: &str = r#"[provost]
node = "node-1"                 # default: the host's name
state_dir = "state"             # pids, logs, embedded server's store; default: the user's state folder
subject_prefix = ""
http = "127.0.0.1:0"            # "off" disables; the bound address is in state_dir and in `provost status -o json`
[nats]
url = "nats://127.0.0.1:4222"   # absent: embedded server
durability = "default"          # or "durable"
[supervision]                   # enabled = ENABLE_SUPERVISION; health_check_interval = "30s", failure_detection_threshold = 3, pattern_detection_enabled = true
[coordination]                  # enabled; task_distribution_strategy = "round_robin", resource_sharing_enabled = true
[routing]                       # enabled; load_balancing_algorithm = "weighted_round_robin", circuit_breaker_enabled = true, routing_decision_cache_size = 1000
[agents]
max = 10                        # the pool's limit
allow_undeclared = false
[agent_types.worker]
runtime = "process"             # process, stdio, exec, remote, in_process
command = ["python3", "worker.py"]
env = { KEY = "${env.KEY:-x}" }
capabilities = ["review"]
slots = 1
max_memory_mb = 1024
timeout = "300s"
cwd = "."                       # default: the config file's folder
stop = { signal = "SIGTERM", grace = "10s" }
nats_access = false             # true: NATS_URL and credentials of its own go into its environment
on_daemon_exit = "adopt"        # or "stop"
restart = { type = "permanent", intensity = 5, period = "60s", backoff = { initial = "200ms", factor = 2.0, max = "30s", jitter = "full" }, on_exceeded = "quarantine", open_for = "30s", stable_after = "10s" }   # jitter full, equal, none; initial may be "0s"; on_exceeded quarantine, restart_siblings, escalate, stop_tree
[agent_types.worker.probes.liveness]   # startup, readiness, liveness
http = "http://127.0.0.1:8080/healthz" # or exec = ["…"], tcp = "…", notify = true, beat = true, stdout_within = "60s"
interval = "30s"
timeout = "3s"
failure_threshold = 3
[[agent]]                       # started with the daemon
name = "w1"
type = "worker"
[supervisors.team]              # optional nesting; default: all agents under one one_for_one supervisor
strategy = "rest_for_one"
intensity = 10
period = "60s"
children = ["w1"]
[downstreams.backend]
type = "json_rpc"               # http, json_rpc, mqtt, redis, nats, websocket
endpoint = { address = "https://api.example.com", path = "/rpc" }
auth = { type = "bearer", token = "${env.API_TOKEN}" }
resilience = { timeout = "5s", max_concurrent = 100, retry = { max_attempts = 3, initial = "100ms", multiplier = 2, max = "30s" }, circuit_breaker = { failure_threshold = 5, error_percent = 50, request_volume = 20, success_threshold = 2, open_for = "5s" } }
"#;

#[test]
fn the_documented_sample_loads() {
    let bench = Bench::file(SAMPLE).env("API_TOKEN", "t0p");
    let loaded = bench.loaded();
    let config = &loaded.config;
    assert_eq!(config.provost.node.as_str(), "node-1");
    assert_eq!(config.provost.state_dir, bench.dir.path().join("state"));
    let worker = config.agent_types.values().next().unwrap();
    assert_eq!(worker.command, ["python3", "worker.py"]);
    assert_eq!(worker.cwd, bench.dir.path());
    assert_eq!(worker.env["KEY"].value, "x");
    assert_eq!(worker.policy, RestartPolicy::default());
    let liveness = worker.probes.liveness.as_ref().unwrap();
    assert_eq!(liveness.kind, ProbeKind::Http("http://127.0.0.1:8080/healthz".to_owned()));
    assert_eq!(liveness.interval, Duration::from_secs(30));
    let team = config.supervisors.values().next().unwrap();
    assert_eq!(team.spec.strategy, Strategy::RestForOne);
    assert_eq!(team.children.len(), 1);
    let backend = config.downstreams.values().next().unwrap();
    assert!(matches!(&backend.auth, DownstreamAuth::Bearer(token) if token.reveal() == "t0p"));
    assert_eq!(backend.resilience.breaker.open_for, Duration::from_secs(5));
    assert!(!format!("{loaded:?}").contains("t0p"));
}
