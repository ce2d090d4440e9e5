//! The checked configuration: types that cannot be wrong. What `check` could not build is a fault.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::agent::{AgentEntry, AgentType, Pool, SupervisorEntry};
use crate::config::alerts::{AlertSettings, Patterns};
use crate::config::downstream::Downstream;
use crate::config::nats::Nats;
use crate::logic::resources::ResourceSpec;
use crate::protocol::fact::{FailureType, Severity};
use crate::protocol::id::{AgentTypeName, ChildName, NodeName, SubjectId};
use crate::protocol::route::Distribution;
use crate::protocol::subject::SubjectPrefix;

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The daemon itself.
    pub provost: Daemon,
    /// The connection to NATS and its streams.
    pub nats: Nats,
    /// Supervision.
    pub supervision: Switch<Supervision>,
    /// Coordination.
    pub coordination: Switch<Coordination>,
    /// Advanced routing; enabled only where coordination is.
    pub routing: Switch<Routing>,
    /// Shared resources by name.
    pub resources: BTreeMap<SubjectId, ResourceSpec>,
    /// The way of events out.
    pub events: Events,
    /// Alerts.
    pub alerts: AlertSettings,
    /// The pool of agents.
    pub agents: Pool,
    /// What can be started.
    pub agent_types: BTreeMap<AgentTypeName, AgentType>,
    /// What starts with the daemon, in this order. Every type in it is declared.
    pub agents_list: Vec<AgentEntry>,
    /// Supervisors. Their children exist, stand under one supervisor each, and form no circle.
    pub supervisors: BTreeMap<ChildName, SupervisorEntry>,
    /// Downstreams.
    pub downstreams: BTreeMap<ChildName, Downstream>,
}

/// Something that is off, or on with settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Switch<T> {
    /// Off.
    Disabled,
    /// On.
    Enabled(T),
}

impl<T> Switch<T> {
    /// The settings, if it is on.
    #[must_use]
    pub fn settings(&self) -> Option<&T> {
        match self {
            Self::Disabled => None,
            Self::Enabled(settings) => Some(settings),
        }
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.settings().is_some()
    }
}

/// The daemon itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Daemon {
    /// Name of this node.
    pub node: NodeName,
    /// Folder for state, absolute.
    pub state_dir: PathBuf,
    /// What stands before every subject.
    pub subject_prefix: SubjectPrefix,
    /// HTTP server.
    pub http: Http,
}

/// Where the HTTP server listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Http {
    /// Nowhere.
    Off,
    /// Here; port 0 takes any free one.
    Listen(SocketAddr),
}

/// Settings of supervision.
#[derive(Clone, Debug, PartialEq)]
pub struct Supervision {
    /// Time between two health checks.
    pub health_check_interval: Duration,
    /// Failed checks in a row that make a failure.
    pub failure_detection_threshold: u32,
    /// How events are searched for patterns.
    pub patterns: Switch<Patterns>,
    /// Severities that replace the built-in ones.
    pub severity: BTreeMap<FailureType, Severity>,
}

/// Settings of coordination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Coordination {
    /// How tasks are spread when neither the task nor its type says.
    pub task_distribution_strategy: Distribution,
    /// Whether pools, locks and quotas are shared.
    pub resource_sharing: bool,
    /// What a resource is that is asked for and not declared.
    pub undeclared_resources: Undeclared,
}

/// What a resource is that nobody declared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Undeclared {
    /// A lock of that name.
    Lock,
    /// Unknown: requests are refused.
    Refuse,
}

/// Settings of advanced routing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Routing {
    /// How load is spread.
    pub load_balancing_algorithm: Distribution,
    /// Whether agents with an open circuit get nothing.
    pub circuit_breaker: bool,
    /// Decisions kept; at least 1.
    pub decision_cache_size: usize,
}

/// The way of events out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Events {
    /// Events kept while they cannot be published; at least 1.
    pub outbox_max_events: usize,
    /// Bytes of such events.
    pub outbox_max_bytes: u64,
    /// Longest wait for one acknowledgement.
    pub publish_timeout: Duration,
    /// Delay before the first repetition.
    pub retry_initial: Duration,
    /// Longest delay between two; at least `retry_initial`.
    pub retry_max: Duration,
}
