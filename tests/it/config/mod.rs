//! Configuration from outside. Here: the documented sample, defaults, specs, and the bench that all
//! parts use.

#![expect(clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

mod alerts;
mod breaker;
mod faults;
mod garbage;
mod hcl;
mod layers;
mod policies;
mod rules;
mod shipped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use provost::config::{
    AgentEntry, AgentType, Config, Distribution, DownstreamAuth, Durability, Environment, Http,
    Loaded, NatsAuth, NatsTarget, Overrides, ShowOrigin, Sources, SpecError, Switch,
};
use provost::protocol::care::ProbeCheck;
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
            variables: BTreeMap::from([("HOME".to_owned(), "/srv/u".to_owned())]),
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
    assert_eq!(liveness.check, ProbeCheck::Http("http://127.0.0.1:8080/healthz".to_owned()));
    assert_eq!(liveness.interval, Duration::from_secs(30));
    let team = config.supervisors.values().next().unwrap();
    assert_eq!(team.spec.strategy, Strategy::RestForOne);
    assert_eq!(team.children.len(), 1);
    let backend = config.downstreams.values().next().unwrap();
    assert!(matches!(&backend.auth, DownstreamAuth::Bearer(token) if token.reveal() == "t0p"));
    assert_eq!(backend.resilience.breaker.open_for, Duration::from_secs(5));
    assert!(!format!("{loaded:?}").contains("t0p"));
}

#[test]
fn a_probe_takes_its_interval_and_threshold_from_supervision() {
    let text = "[supervision]\nhealth_check_interval = \"7s\"\nfailure_detection_threshold = 4\n\
                [agent_types.w]\ncommand = [\"true\"]\n\
                [agent_types.w.probes.readiness]\ntcp = \"h:1\"\nsuccess_threshold = 2\n\
                [agent_types.w.probes.liveness]\nnotify = true\ninitial_delay = \"5s\"\n\
                interval = \"1s\"\nfailure_threshold = 1\n";
    let loaded = Bench::file(text).loaded();
    assert_eq!(loaded.warnings, []);
    let probes = &loaded.config.agent_types.values().next().unwrap().probes;
    let readiness = probes.readiness.as_ref().unwrap();
    let shown = (readiness.interval, readiness.failure_threshold, readiness.success_threshold);
    assert_eq!(shown, (Duration::from_secs(7), 4, 2));
    assert_eq!(readiness.initial_delay, Duration::ZERO);
    let liveness = probes.liveness.as_ref().unwrap();
    let shown = (liveness.interval, liveness.failure_threshold, liveness.initial_delay);
    assert_eq!(shown, (Duration::from_secs(1), 1, Duration::from_secs(5)));
}

#[test]
fn every_documented_default_applies() {
    let loaded = Bench::new(&[]).loaded();
    let config = &loaded.config;
    assert_eq!(config.provost.node.as_str(), "box");
    assert_eq!(config.provost.state_dir, Path::new("/srv/u/.local/state/provost"));
    assert_eq!(config.provost.subject_prefix.as_str(), "");
    assert_eq!(config.provost.http, Http::Listen("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.nats.target, NatsTarget::Embedded);
    assert_eq!(config.nats.auth, NatsAuth::None);
    assert_eq!(config.nats.durability, Durability::Default);
    assert_eq!(config.nats.reconnect_wait, Duration::from_millis(250));
    assert_eq!(config.nats.ping_interval, Duration::from_secs(5));
    assert_eq!(config.supervision, Switch::Disabled);
    assert_eq!(config.coordination, Switch::Disabled);
    assert_eq!(config.routing, Switch::Disabled);
    assert_eq!(config.agents.max, 10);
    assert!(!config.agents.allow_undeclared);
    assert_eq!(config.events.outbox_max_events, 10_000);
    assert_eq!(config.events.outbox_max_bytes, 64 * 1024 * 1024);
    assert_eq!(config.events.publish_timeout, Duration::from_secs(5));
    assert_eq!(config.events.retry_initial, Duration::from_millis(100));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_defaults_of_the_switched_sections_apply() {
    let bench = Bench::new(&[])
        .env("ENABLE_SUPERVISION", "true")
        .env("ENABLE_COORDINATION", "on")
        .env("ENABLE_ADVANCED_ROUTING", "1");
    let config = bench.loaded().config;
    let supervision = config.supervision.settings().unwrap();
    assert_eq!(supervision.health_check_interval, Duration::from_secs(30));
    assert_eq!(supervision.failure_detection_threshold, 3);
    assert!(supervision.patterns.is_enabled());
    let coordination = config.coordination.settings().unwrap();
    assert_eq!(coordination.task_distribution_strategy, Distribution::RoundRobin);
    assert!(coordination.resource_sharing);
    let routing = config.routing.settings().unwrap();
    assert_eq!(routing.load_balancing_algorithm, Distribution::WeightedRoundRobin);
    assert!(routing.circuit_breaker);
    assert_eq!(routing.decision_cache_size, 1000);
}

#[test]
fn the_defaults_of_an_agent_type_apply() {
    let bench = Bench::file("[agent_types.w]\ncommand = [\"true\"]\n");
    let config = bench.loaded().config;
    let (name, seen) = config.agent_types.first_key_value().unwrap();
    assert_eq!(name.as_str(), "w");
    let mut expected = AgentType::process(vec!["true".to_owned()], bench.dir.path().to_path_buf());
    expected.origin = Some("a.toml:1".to_owned());
    assert_eq!(*seen, expected);
    assert_eq!(seen.max_memory_mb, Some(1024));
    assert_eq!(seen.timeout, Duration::from_secs(300));
    assert_eq!(seen.policy, RestartPolicy::default());
}

fn agent_id() -> AgentId {
    "0190a000-0000-7000-8000-000000000000".parse().unwrap()
}

#[test]
fn a_spec_is_its_type_with_what_its_entry_adds() {
    let file = "[agent_types.w]\nruntime = \"stdio\"\ncommand = [\"run\"]\nargs = [\"-v\"]\ncwd = \"sub\"\n\
                env = { A = \"1\", B = \"1\" }\nlabels = { team = \"x\" }\nmax_memory_mb = 0\n\
                restart = { type = \"transient\", open_for = \"1h\", on_exceeded = \"escalate\", \
                backoff = { initial = \"0s\", jitter = \"none\" } }\n\
                stop = { signal = \"SIGINT\", grace = \"2s\" }\n\
                [[agent]]\nname = \"a\"\ntype = \"w\"\nargs = [\"x\"]\nenv = { B = \"2\" }\nlabels = { n = \"1\" }\n";
    let bench = Bench::file(file);
    let config = bench.loaded().config;
    let spec = config.agent_spec(&config.agents_list[0], agent_id()).unwrap();
    assert_eq!(spec.command, ["run", "-v", "x"]);
    assert_eq!(spec.runtime, RuntimeKind::Stdio);
    assert_eq!(spec.cwd, bench.dir.path().join("sub"));
    assert_eq!((spec.env["A"].as_str(), spec.env["B"].as_str()), ("1", "2"));
    assert_eq!(spec.labels.len(), 2);
    assert_eq!(spec.max_memory_mb, None);
    assert_eq!(spec.restart, RestartType::Transient);
    assert_eq!(spec.origin.as_deref(), Some("a.toml:1"));
    assert_eq!(spec.policy.backoff.jitter, Jitter::None);
    let circuit = spec.policy.circuit.unwrap();
    assert_eq!(circuit.on_exceeded, OnExceeded::Escalate);
    let hour = Duration::from_secs(3600);
    assert_eq!((circuit.open_for, circuit.open_max), (hour, hour));
    let entry = AgentEntry::new("b".parse().unwrap(), "v".parse().unwrap());
    let error = config.agent_spec(&entry, agent_id()).unwrap_err();
    assert_eq!(error.to_string(), "agent type v is not declared; declared are w");
}

#[test]
fn an_undeclared_command_line_needs_permission() {
    let mut entry = AgentEntry::new("b".parse().unwrap(), "adhoc".parse().unwrap());
    entry.command_line = Some(vec!["sleep".to_owned(), "1".to_owned()]);
    let refused = Bench::new(&[]).loaded().config.agent_spec(&entry, agent_id());
    assert_eq!(refused, Err(SpecError::NotPermitted));
    let config = Bench::file("[agents]\nallow_undeclared = true\n").loaded().config;
    let spec = config.agent_spec(&entry, agent_id()).unwrap();
    assert_eq!(spec.command, ["sleep", "1"]);
    entry.command_line = Some(Vec::new());
    assert_eq!(config.agent_spec(&entry, agent_id()), Err(SpecError::EmptyCommand));
}

#[test]
fn supervisors_keep_order_and_significance() {
    let file = "[agent_types.w]\ncommand = [\"x\"]\nrestart = { type = \"temporary\" }\n\
                [[agent]]\nname = \"a\"\ntype = \"w\"\n[[agent]]\nname = \"b\"\ntype = \"w\"\n\
                [supervisors.top]\nchildren = [\"b\", \"inner\"]\nauto_shutdown = \"any_significant\"\n\
                significant = [\"b\"]\n[supervisors.inner]\nchildren = [\"a\"]\nrestart = \"transient\"\n";
    let config = Bench::file(file).loaded().config;
    let top = &config.supervisors[&"top".parse().unwrap()];
    let children: Vec<(&str, Significance)> =
        top.children.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(children, [("b", Significance::Significant), ("inner", Significance::Ordinary)]);
    assert_eq!(top.spec.strategy, Strategy::OneForOne);
    assert_eq!(top.spec.origin.as_deref(), Some("a.toml:10"));
    assert_eq!(config.supervisors[&"inner".parse().unwrap()].restart, RestartType::Transient);
}

#[test]
fn remote_agents_do_not_count_for_the_pool() {
    let file = "[agents]\nmax = 1\n[agent_types.r]\nruntime = \"remote\"\n\
                [agent_types.w]\ncommand = [\"x\"]\n[[agent]]\nname = \"a\"\ntype = \"r\"\n\
                [[agent]]\nname = \"b\"\ntype = \"r\"\n[[agent]]\nname = \"c\"\ntype = \"w\"\n";
    assert_eq!(Bench::file(file).loaded().config.agents_list.len(), 3);
}
