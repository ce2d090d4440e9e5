//! The format as it is written: raw structs, from which the JSON Schema is generated. Every key
//! has a default here, and its unit and range in its attributes.
//!
//! Raw values are filled from a tree that the walk has already held against the schema; what they
//! mean together is for `check`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::raw_agent::{RawAgent, RawAgentType, RawSupervisor};
use crate::config::raw_alerts::{RawAlerts, RawPatterns};
use crate::config::raw_downstream::RawDownstream;
use crate::config::raw_nats::RawNats;
use crate::config::raw_resources::{RawResource, RawUndeclared};
use crate::config::units::{ByteSize, Span};
use crate::protocol::fact::Severity;
use crate::protocol::route::Distribution;

/// Configuration of provost.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Configuration")]
pub(crate) struct RawConfig {
    /// The daemon itself.
    pub(crate) provost: RawDaemon,
    /// The NATS server or cluster that carries events and commands.
    pub(crate) nats: RawNats,
    /// Supervision: health, failures, restarts, patterns.
    pub(crate) supervision: RawSupervision,
    /// Coordination: tasks and shared resources.
    pub(crate) coordination: RawCoordination,
    /// Advanced routing; needs coordination.
    pub(crate) routing: RawRouting,
    /// Shared resources by name: locks, pools and quotas; need coordination.
    pub(crate) resources: BTreeMap<String, RawResource>,
    /// How events leave the daemon.
    pub(crate) events: RawEvents,
    /// Alerts: on what, and who is told. They need supervision.
    pub(crate) alerts: RawAlerts,
    /// The pool of agents and what may be started in it.
    pub(crate) agents: RawPool,
    /// Agent types by name: what can be started.
    pub(crate) agent_types: BTreeMap<String, RawAgentType>,
    /// Agents that start with the daemon.
    pub(crate) agent: Vec<RawAgent>,
    /// Supervisors by name; without any, all agents stand under one that restarts each alone.
    pub(crate) supervisors: BTreeMap<String, RawSupervisor>,
    /// Downstreams by name: services that agents call.
    pub(crate) downstreams: BTreeMap<String, RawDownstream>,
}

/// The daemon itself.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Daemon")]
pub(crate) struct RawDaemon {
    /// Name of this node; the host's name when absent.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) node: Option<String>,
    /// Folder for process records, logs and the embedded server's store; relative to the file that
    /// says it. The user's state folder when absent.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) state_dir: Option<String>,
    /// Tokens before every subject, joined by dots; empty for none.
    #[schemars(length(max = 128))]
    pub(crate) subject_prefix: String,
    /// Address the HTTP server listens on, as address:port with port 0 for any free one, or "off".
    #[schemars(length(min = 1, max = 64))]
    pub(crate) http: String,
}

impl Default for RawDaemon {
    fn default() -> Self {
        Self {
            node: None,
            state_dir: None,
            subject_prefix: String::new(),
            http: "127.0.0.1:0".to_owned(),
        }
    }
}

/// Supervision.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Supervision")]
#[expect(clippy::struct_excessive_bools, reason = "independent keys of the format")]
pub(crate) struct RawSupervision {
    /// Whether it is on; `ENABLE_SUPERVISION` goes before it.
    pub(crate) enabled: bool,
    /// Time between two health checks of a child that says nothing else.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "24h"))]
    pub(crate) health_check_interval: Span,
    /// Failed checks in a row that make a failure.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) failure_detection_threshold: u32,
    /// Whether events are searched for patterns.
    pub(crate) pattern_detection_enabled: bool,
    /// How patterns are recognized.
    pub(crate) patterns: RawPatterns,
    /// Severities that replace the built-in ones, by kind of failure.
    pub(crate) severity: BTreeMap<String, Severity>,
}

impl Default for RawSupervision {
    fn default() -> Self {
        Self {
            enabled: false,
            health_check_interval: Span::secs(30),
            failure_detection_threshold: 3,
            pattern_detection_enabled: true,
            patterns: RawPatterns::default(),
            severity: BTreeMap::new(),
        }
    }
}

/// Coordination.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Coordination")]
#[expect(clippy::struct_excessive_bools, reason = "independent keys of the format")]
pub(crate) struct RawCoordination {
    /// Whether it is on; `ENABLE_COORDINATION` goes before it.
    pub(crate) enabled: bool,
    /// How tasks are spread when neither the task nor its type says.
    pub(crate) task_distribution_strategy: Distribution,
    /// Whether pools, locks and quotas are shared.
    pub(crate) resource_sharing_enabled: bool,
    /// What a resource is that is asked for and not declared.
    pub(crate) undeclared_resources: RawUndeclared,
}

impl Default for RawCoordination {
    fn default() -> Self {
        Self {
            enabled: false,
            task_distribution_strategy: Distribution::RoundRobin,
            resource_sharing_enabled: true,
            undeclared_resources: RawUndeclared::Lock,
        }
    }
}

/// Advanced routing.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Routing")]
#[expect(clippy::struct_excessive_bools, reason = "independent keys of the format")]
pub(crate) struct RawRouting {
    /// Whether it is on; `ENABLE_ADVANCED_ROUTING` goes before it.
    pub(crate) enabled: bool,
    /// How load is spread.
    pub(crate) load_balancing_algorithm: Distribution,
    /// Whether agents with an open circuit get nothing.
    pub(crate) circuit_breaker_enabled: bool,
    /// Routing decisions kept.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) routing_decision_cache_size: u32,
}

impl Default for RawRouting {
    fn default() -> Self {
        Self {
            enabled: false,
            load_balancing_algorithm: Distribution::WeightedRoundRobin,
            circuit_breaker_enabled: true,
            routing_decision_cache_size: 1000,
        }
    }
}

/// The outbox of events.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Events")]
pub(crate) struct RawEvents {
    /// Events kept while they cannot be published; then the oldest health events go first.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) outbox_max_events: u32,
    /// Bytes of such events.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "64GiB"))]
    pub(crate) outbox_max_bytes: ByteSize,
    /// Longest wait for the acknowledgement of one event.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub(crate) publish_timeout: Span,
    /// Delay before the first repetition; doubles up to `retry_max`.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    pub(crate) retry_initial: Span,
    /// Longest delay between two repetitions.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub(crate) retry_max: Span,
}

impl Default for RawEvents {
    fn default() -> Self {
        Self {
            outbox_max_events: 10_000,
            outbox_max_bytes: ByteSize::mib(64),
            publish_timeout: Span::secs(5),
            retry_initial: Span::millis(100),
            retry_max: Span::secs(5),
        }
    }
}

/// What requests on `agent.command` may do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CommandPermission {
    /// Everything, starting agents included.
    #[default]
    All,
    /// Everything but start new agents.
    NoSpawn,
    /// Only look.
    ReadOnly,
}

/// The pool of agents.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Pool")]
pub(crate) struct RawPool {
    /// Local agents that are neither stopped nor removed; remote ones do not count.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max: u32,
    /// Whether a spawn request may bring a command line that no type declares.
    pub(crate) allow_undeclared: bool,
    /// What requests on `agent.command` may do.
    pub(crate) command_permission: CommandPermission,
}

impl Default for RawPool {
    fn default() -> Self {
        Self { max: 10, allow_undeclared: false, command_permission: CommandPermission::All }
    }
}
