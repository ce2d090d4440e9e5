//! The check: from values of the right shape to [`Config`], with every contradiction named.
//!
//! This file holds the means that all checks use, and the small sections. A check never stops at
//! a fault: it goes on with what is right and leaves out what is not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value as Json;

use crate::config::check_agents;
use crate::config::check_alerts;
use crate::config::check_probes::ProbeDefaults;
use crate::config::check_tree;
use crate::config::checked::{
    Config, Coordination, Daemon, Events, Http, Routing, Supervision, Switch,
};
use crate::config::env::Environment;
use crate::config::fault::Fault;
use crate::config::layers::Layered;
use crate::config::place::Place;
use crate::config::raw::{
    RawConfig, RawCoordination, RawDaemon, RawEvents, RawRouting, RawSupervision,
};
use crate::config::tree::{join, quoted};
use crate::config::units::MASK;
use crate::config::walk::Walked;
use crate::protocol::fact::FailureType;
use crate::protocol::id::{ID_BYTES_MAX, NodeName, is_token_char};

/// What a check is made on.
#[derive(Clone, Copy)]
pub(crate) struct Base<'b> {
    pub(crate) layers: &'b Layered,
    pub(crate) walked: &'b Walked,
    pub(crate) environment: &'b Environment,
}

/// What a check found.
pub(crate) struct Judged {
    /// The configuration, if all of it could be built.
    pub(crate) config: Option<Config>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Fault>,
}

/// Judges the values that have the right shape.
pub(crate) fn judge(values: &Json, base: Base<'_>) -> Judged {
    let shape_faults = base.walked.faults.iter().chain(&base.layers.faults);
    let faulty =
        shape_faults.map(|fault| fault.key.clone()).filter(|key| !key.is_empty()).collect();
    let mut checker = Checker { base, faulty, faults: Vec::new(), warnings: Vec::new() };
    let config = match serde_path_to_error::deserialize::<_, RawConfig>(values) {
        Ok(raw) => config(&mut checker, raw),
        Err(error) => {
            // The shape is generated from the same structs, so this is a gap between the two.
            let key = error.path().to_string();
            let place = checker.place(&key);
            checker.faults.push(Fault::new(place, key, error.inner().to_string()));
            None
        }
    };
    Judged { config, faults: checker.faults, warnings: checker.warnings }
}

fn config(checker: &mut Checker<'_>, raw: RawConfig) -> Option<Config> {
    if raw.routing.enabled
        && !raw.coordination.enabled
        && !checker.is_faulty("coordination.enabled")
    {
        let text = "advanced routing needs coordination; set coordination.enabled or \
                    ENABLE_COORDINATION, or switch routing off";
        checker.fault("routing.enabled", text);
    }
    let runtimes =
        raw.agent_types.iter().map(|(name, agent_type)| (name.clone(), agent_type.runtime));
    let runtimes: BTreeMap<_, _> = runtimes.collect();
    let facts = check_tree::child_facts(&raw);
    let names = checker.names(&raw);
    checker.pool_size(&raw, &runtimes);
    let provost = checker.daemon(raw.provost);
    let nats = checker.nats(raw.nats);
    let probes = ProbeDefaults {
        interval: raw.supervision.health_check_interval.0,
        failure_threshold: raw.supervision.failure_detection_threshold,
    };
    let supervision = checker.supervision(raw.supervision);
    let coordination = coordination(&raw.coordination);
    let routing = routing(&raw.routing);
    let resources = checker.resources(&raw.resources);
    let events = checker.events(&raw.events);
    let alerts = checker.alerts(raw.alerts);
    let agents = check_agents::pool(&raw.agents);
    let agent_types = checker.agent_types(raw.agent_types, probes);
    let agents_list = checker.agents(raw.agent, &runtimes);
    let supervisors = checker.supervisors(raw.supervisors, &names, &facts);
    let downstreams = checker.downstreams(raw.downstreams);
    if !checker.faults.is_empty() {
        return None;
    }
    Some(Config {
        provost: provost?,
        nats: nats?,
        supervision: supervision?,
        coordination,
        routing,
        resources,
        events,
        alerts,
        agents,
        agent_types,
        agents_list,
        supervisors,
        downstreams,
    })
}

/// Collects faults while the checked types are built.
pub(crate) struct Checker<'b> {
    base: Base<'b>,
    faulty: BTreeSet<String>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl<'b> Checker<'b> {
    /// Where a key was written, or else the nearest table around it.
    pub(crate) fn place(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.base.walked.places.get(key) {
                return place.clone();
            }
            match key.rsplit_once(['.', '[']) {
                Some((parent, _)) => key = parent,
                None => return Place::Default,
            }
        }
    }

    /// Whether somebody wrote a key.
    pub(crate) fn is_written(&self, key: &str) -> bool {
        self.base.walked.places.contains_key(key)
    }

    /// Where the name of an entry of a map was written.
    pub(crate) fn key_place(&self, key: &str) -> Place {
        self.base.walked.key_places.get(key).cloned().unwrap_or_else(|| self.place(key))
    }

    /// Where a thing was declared, as `file:line`.
    pub(crate) fn origin(&self, key: &str) -> Option<String> {
        self.is_written(key).then(|| self.place(key).short())
    }

    /// Whether a key, or something around it, is known to be faulty, so that its absence from the
    /// values means nothing.
    pub(crate) fn is_faulty(&self, key: &str) -> bool {
        let mut key = key;
        loop {
            if self.faulty.contains(key) || self.base.walked.meant.contains(key) {
                return true;
            }
            match key.rsplit_once(['.', '[']) {
                Some((parent, _)) => key = parent,
                None => return false,
            }
        }
    }

    /// Whether anything under a key is known to be faulty.
    pub(crate) fn any_faulty_under(&self, key: &str) -> bool {
        self.faulty.iter().any(|faulty| faulty.starts_with(key))
    }

    /// Whether the value of a key must be masked.
    pub(crate) fn is_secret(&self, key: &str) -> bool {
        self.base.walked.secrets.contains(key)
    }

    pub(crate) fn environment(&self) -> &'b Environment {
        self.base.environment
    }

    /// Notes a fault, unless the key is known to be faulty.
    pub(crate) fn fault(&mut self, key: &str, text: impl Into<String>) {
        self.push(Fault::new(self.place(key), key, text));
    }

    /// Notes a fault with the value; a secret one is masked.
    pub(crate) fn fault_of(&mut self, key: &str, value: &str, text: impl Into<String>) {
        let value = if self.is_secret(key) { MASK.to_owned() } else { quoted(value) };
        self.push(Fault::new(self.place(key), key, text).value(value));
    }

    /// Notes a fault that was made elsewhere, unless its key is known to be faulty.
    pub(crate) fn push(&mut self, fault: Fault) {
        if !self.is_faulty(&fault.key) {
            self.faults.push(fault);
        }
    }

    /// Notes what is doubtful but allowed.
    pub(crate) fn warn(&mut self, key: &str, text: impl Into<String>) {
        self.warnings.push(Fault::new(self.place(key), key, text));
    }

    /// Reads a text as a checked type.
    pub(crate) fn parsed<T>(&mut self, key: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, error.to_string());
                None
            }
        }
    }

    /// A path made absolute: against the folder of the file that says it, else against the current
    /// folder.
    pub(crate) fn path(&self, key: &str, text: &str) -> PathBuf {
        let place = self.place(key);
        let folder = place.file().and_then(Path::parent).unwrap_or(Path::new(""));
        self.environment().absolute(text, folder)
    }

    /// The folder of the file that declares a key, absolute.
    pub(crate) fn folder(&self, key: &str) -> PathBuf {
        self.path(key, "")
    }

    /// A path of a file that must be there.
    pub(crate) fn file(&mut self, key: &str, text: &str) -> PathBuf {
        let path = self.path(key, text);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => self.fault_of(key, text, format!("{} is not a file", path.display())),
            Err(error) => {
                self.fault_of(key, text, format!("cannot read {}: {error}", path.display()));
            }
        }
        path
    }

    fn daemon(&mut self, raw: RawDaemon) -> Option<Daemon> {
        let node = match raw.node {
            Some(node) => self.parsed("provost.node", &node),
            None => Some(self.host_name()?),
        };
        let state_dir = match raw.state_dir {
            Some(path) => Some(self.path("provost.state_dir", &path)),
            None => {
                let found = self.environment().state_dir();
                if found.is_none() {
                    let text = "missing, and neither XDG_STATE_HOME nor HOME says where state \
                                may be kept; set it or give --state-dir";
                    self.fault("provost.state_dir", text);
                }
                found
            }
        };
        let subject_prefix = self.parsed("provost.subject_prefix", &raw.subject_prefix);
        let http = self.http(&raw.http);
        Some(Daemon {
            node: node?,
            state_dir: state_dir?,
            subject_prefix: subject_prefix?,
            http: http?,
        })
    }

    /// The host's name as a node name: what may not stand in a subject becomes `-`.
    fn host_name(&mut self) -> Option<NodeName> {
        let host = self.environment().host();
        let fit = |found: char| if is_token_char(found) { found } else { '-' };
        let short = host.split('.').next().unwrap_or(host);
        let name: String = short.chars().map(fit).take(ID_BYTES_MAX).collect();
        let name = if name.is_empty() { "node".to_owned() } else { name };
        // Reserved words get a tail instead of stopping a start that nobody misconfigured.
        name.parse().or_else(|_| format!("{name}-node").parse()).ok()
    }

    fn http(&mut self, text: &str) -> Option<Http> {
        if text == "off" {
            return Some(Http::Off);
        }
        let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        match local.as_deref().unwrap_or(text).parse::<SocketAddr>() {
            Ok(address) => {
                if !address.ip().is_loopback() {
                    let text = "the HTTP server will be reachable from other machines, and it asks \
                                nobody who they are";
                    self.warn("provost.http", text);
                }
                Some(Http::Listen(address))
            }
            Err(_) => {
                let place = self.place("provost.http");
                let fault = Fault::new(place, "provost.http", "is no address to listen on");
                self.push(
                    fault.value(quoted(text)).allowed("address:port such as 127.0.0.1:0, or off"),
                );
                None
            }
        }
    }

    fn supervision(&mut self, raw: RawSupervision) -> Option<Switch<Supervision>> {
        let mut severity = BTreeMap::new();
        for (name, value) in raw.severity {
            let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&name);
            match <FailureType as serde::Deserialize>::deserialize(word) {
                Ok(kind) => {
                    severity.insert(kind, value);
                }
                Err(_) => {
                    let key = join("supervision.severity", &name);
                    let fault = Fault::new(self.key_place(&key), key, "unknown kind of failure");
                    self.push(fault.suggest(&name, FAILURE_TYPES));
                }
            }
        }
        let settings = Supervision {
            health_check_interval: raw.health_check_interval.0,
            failure_detection_threshold: raw.failure_detection_threshold,
            patterns: if raw.pattern_detection_enabled {
                Switch::Enabled(check_alerts::patterns(raw.patterns))
            } else {
                Switch::Disabled
            },
            severity,
        };
        Some(if raw.enabled { Switch::Enabled(settings) } else { Switch::Disabled })
    }

    fn events(&mut self, raw: &RawEvents) -> Events {
        if raw.retry_max < raw.retry_initial {
            self.smaller("events.retry_max", "events.retry_initial");
        }
        Events {
            outbox_max_events: usize::try_from(raw.outbox_max_events).unwrap_or(usize::MAX),
            outbox_max_bytes: raw.outbox_max_bytes.0,
            publish_timeout: raw.publish_timeout.0,
            retry_initial: raw.retry_initial.0,
            retry_max: raw.retry_max.0,
        }
    }

    /// Notes that a largest value is smaller than the one it bounds, at the one that was written.
    pub(crate) fn smaller(&mut self, most: &str, least: &str) {
        let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
        let shown = |checker: &Self, key: &str| {
            let found = checker.base.walked.shown.iter().find(|(shown, _)| shown == key);
            found
                .and_then(|(_, value)| value.as_ref())
                .map_or_else(String::new, ToString::to_string)
        };
        let (key, other) = if self.is_written(most) { (most, least) } else { (least, most) };
        let than = if key == most { "smaller" } else { "larger" };
        let text = format!("is {than} than {} {}", last(other), shown(self, other));
        let fault = Fault::new(self.place(key), key, text).value(shown(self, key));
        self.push(fault);
    }
}

/// The words of [`FailureType`].
const FAILURE_TYPES: [&str; 11] = [
    "process_crash",
    "out_of_memory",
    "start_failed",
    "probe_failed",
    "watchdog",
    "hang",
    "task_timeout",
    "lost",
    "call_failed",
    "panic",
    "throttled",
];

fn coordination(raw: &RawCoordination) -> Switch<Coordination> {
    if !raw.enabled {
        return Switch::Disabled;
    }
    Switch::Enabled(Coordination {
        task_distribution_strategy: raw.task_distribution_strategy,
        resource_sharing: raw.resource_sharing_enabled,
        undeclared_resources: raw.undeclared_resources.into(),
    })
}

fn routing(raw: &RawRouting) -> Switch<Routing> {
    if !raw.enabled {
        return Switch::Disabled;
    }
    Switch::Enabled(Routing {
        load_balancing_algorithm: raw.load_balancing_algorithm,
        circuit_breaker: raw.circuit_breaker_enabled,
        decision_cache_size: usize::try_from(raw.routing_decision_cache_size).unwrap_or(usize::MAX),
    })
}
