//! Commands by NATS request, and their answers.
//!
//! Unknown commands and unknown fields are refused; every answer is `{"ok":true,…}` or
//! `{"ok":false,"error":{…}}`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::id::{AgentTypeName, ChildName, NodeName};
use crate::protocol::insight::{AlertList, AlertRequest, SilenceRequest};
use crate::protocol::reload::{ConfigPlan, ConfigStatus, ReloadRequest};
use crate::protocol::route::{RouteAnswer, RouteQuery};
use crate::protocol::status::{AgentStatus, CircuitStatus, TreeNode};

/// Largest command accepted, in bytes.
pub const COMMAND_BYTES_MAX: usize = 256 * 1024;

/// Longest grace period accepted in a command, in milliseconds (one hour).
pub const GRACE_MS_MAX: u64 = 3_600_000;

/// Most lines of a log given in one answer.
pub const LOG_LINES_MAX: u32 = 10_000;

/// A request on `agent.command`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum AgentCommand {
    /// Starts a new agent from a declared type.
    Spawn(SpawnRequest),
    /// Stops an agent; it stays listed as stopped.
    Stop(AgentRequest),
    /// Stops and starts an agent.
    Restart(AgentRequest),
    /// Ends an agent at once (SIGKILL); the restart rules apply as after a crash.
    Kill(AgentRequest),
    /// Gives an agent no new work.
    Drain(AgentRequest),
    /// Takes a drain back, or starts a stopped agent.
    Resume(AgentRequest),
    /// Clears restart counts and closes the circuit.
    Reset(AgentRequest),
    /// Stops an agent and forgets it.
    Remove(AgentRequest),
    /// Shows one agent.
    Status(AgentRequest),
    /// Reads the end of an agent's log.
    Logs(LogsRequest),
    /// Shows all agents.
    List(EmptyRequest),
}

/// No fields.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyRequest {}

/// Asks for a new agent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    /// Declared type.
    pub agent_type: AgentTypeName,
    /// Name; made from the type when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ChildName>,
    /// Arguments added to the type's command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment added to the type's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Node that shall run it; this one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// A whole command instead of the type's; only where `agents.allow_undeclared` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<Vec<String>>,
}

/// Asks for something about one agent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRequest {
    /// Agent id or name.
    pub agent: String,
    /// Grace before SIGKILL, in milliseconds; the type's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Asks for the end of an agent's log.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(from = "LogsFields")]
pub struct LogsRequest {
    /// Agent id or name.
    pub agent: String,
    /// Lines from the end; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// Byte position to read on from, as given in the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// All fields of a `logs` request on the wire: `grace_ms` and `reason` may stand in every command
/// about one agent, and mean nothing here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogsFields {
    agent: String,
    #[serde(default)]
    lines: Option<u32>,
    #[serde(default)]
    after: Option<u64>,
    #[serde(default, rename = "grace_ms")]
    _grace_ms: Option<u64>,
    #[serde(default, rename = "reason")]
    _reason: Option<String>,
}

impl From<LogsFields> for LogsRequest {
    fn from(fields: LogsFields) -> Self {
        Self { agent: fields.agent, lines: fields.lines, after: fields.after }
    }
}

/// A request on `system.control`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlCommand {
    /// Shows the daemon.
    Status(EmptyRequest),
    /// Shows the tree.
    Tree(EmptyRequest),
    /// Starts nothing new until `resume`; what runs goes on.
    Pause(EmptyRequest),
    /// Takes a pause or drain back.
    Resume(EmptyRequest),
    /// Takes no new work; what runs goes on.
    Drain(EmptyRequest),
    /// Reads the configuration again and carries out what has changed.
    Reload(ReloadRequest),
    /// Stops the daemon and everything under it.
    Shutdown(EmptyRequest),
    /// Sets a child's circuit by hand.
    Circuit(CircuitRequest),
    /// Tells which agent would get a task, and why, and sends nothing.
    Route(RouteQuery),
    /// Shows the alerts that fire, and the silences.
    Alerts(EmptyRequest),
    /// Keeps alerts from being delivered for a time.
    Silence(SilenceRequest),
    /// Ends a silence before its time.
    Unsilence(AlertRequest),
    /// Says that an alert is dealt with.
    ResolveAlert(AlertRequest),
}

/// Sets a circuit by hand.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CircuitRequest {
    /// Child's name or agent id.
    pub child: String,
    /// State wanted.
    pub set: CircuitSet,
}

/// What a circuit is set to by hand.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitSet {
    /// Held open: the child is stopped and not restarted.
    Open,
    /// Held closed: the limit is not applied.
    Closed,
    /// As the rules say, from a closed circuit with an empty account.
    Auto,
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request cannot be understood.
    InvalidRequest,
    /// No such agent type is declared.
    UnknownAgentType,
    /// No such agent exists.
    UnknownAgent,
    /// The name is taken.
    AlreadyExists,
    /// The pool is full.
    PoolFull,
    /// The caller may not do that.
    NotPermitted,
    /// The agent's state does not allow it.
    WrongState,
    /// A part that is needed is away.
    Unavailable,
    /// A fault of provost.
    Internal,
}

impl ErrorKind {
    /// The stable error code of this kind.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "PV0101",
            Self::UnknownAgentType => "PV0102",
            Self::UnknownAgent => "PV0103",
            Self::AlreadyExists => "PV0104",
            Self::PoolFull => "PV0105",
            Self::NotPermitted => "PV0106",
            Self::WrongState => "PV0107",
            Self::Unavailable => "PV0108",
            Self::Internal => "PV0109",
        }
    }
}

/// A refusal: what, and what to do.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// Stable code.
    pub code: String,
    /// Kind.
    pub kind: ErrorKind,
    /// What is wrong, with the value and the bound.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl CommandError {
    /// Builds a refusal; the code follows from the kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: kind.code().to_owned(), kind, message: message.into(), hint: hint.into() }
    }
}

/// The answer to a command.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// One agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<AgentStatus>>,
    /// Several agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<AgentStatus>>,
    /// The tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Box<TreeNode>>,
    /// The daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Box<SystemStatus>>,
    /// Lines of a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogLines>,
    /// Who would be picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Box<RouteAnswer>>,
    /// Alerts and silences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Box<AlertList>>,
    /// What a reload changes, or has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<ConfigPlan>>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CommandError>,
}

impl Answer {
    /// Done, with nothing to show.
    #[must_use]
    pub fn done() -> Self {
        Self { ok: true, ..Self::default() }
    }

    /// Done, showing one agent.
    #[must_use]
    pub fn agent(status: AgentStatus) -> Self {
        Self { agent: Some(Box::new(status)), ..Self::done() }
    }
}

impl From<CommandError> for Answer {
    fn from(error: CommandError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// Part of a log.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LogLines {
    /// Lines, oldest first; bytes that are not UTF-8 are replaced.
    pub lines: Vec<String>,
    /// Byte position after the last line, for `after`.
    pub next: u64,
    /// Bytes lost to rotation since `after`.
    pub lost_bytes: u64,
}

/// The daemon as readers see it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SystemStatus {
    /// Node name.
    pub node: NodeName,
    /// Version of provost.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Since when it runs.
    pub since: jiff::Timestamp,
    /// `running`, `paused`, `draining` or `stopping`.
    pub mode: SystemMode,
    /// Agents by state.
    pub agents: BTreeMap<String, u64>,
    /// Limit of the pool.
    pub agents_max: u64,
    /// Connection to NATS.
    pub nats: NatsStatus,
    /// Events on their way.
    pub outbox: OutboxStatus,
    /// Tasks.
    #[serde(default)]
    pub tasks: TasksStatus,
    /// Address of the HTTP server, if one listens.
    pub http: Option<String>,
    /// Switches and where each came from.
    pub flags: BTreeMap<String, bool>,
    /// State folder.
    pub state_dir: String,
    /// Subject prefix.
    pub subject_prefix: String,
    /// Circuits of the downstreams, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, CircuitStatus>")]
    pub downstreams: BTreeMap<ChildName, CircuitStatus>,
    /// The configuration, where there are files to read it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Box<ConfigStatus>>,
}

/// What the daemon is doing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemMode {
    /// All parts work.
    #[default]
    Running,
    /// Nothing new is started.
    Paused,
    /// No new work is taken.
    Draining,
    /// On its way down.
    Stopping,
}

/// State of the connection to NATS.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NatsStatus {
    /// `connected`, `connecting`, `reconnecting`, `refused` or `closed`.
    pub state: String,
    /// Server's address, without credentials.
    pub url: String,
    /// Server's version.
    pub server_version: Option<String>,
    /// Whether the server is provost's own.
    pub embedded: bool,
    /// `default` or `durable`.
    pub durability: String,
    /// What the server said last, when it refused.
    pub error: Option<String>,
}

/// State of coordination.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TasksStatus {
    /// `off` (submissions stay in their stream), `starting`, `on`, or `stuck` while records cannot
    /// be stored.
    pub state: String,
    /// Waiting for an agent.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// With agents.
    pub held: u64,
    /// Ended since the daemon began, by state.
    pub ended: BTreeMap<String, u64>,
    /// Attempts that were followed by another.
    pub requeued: u64,
    /// Results that were refused because their attempt did not count any more.
    pub late: u64,
    /// Why tasks wait although there are agents, or why nothing can be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// State of the event outbox.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OutboxStatus {
    /// Events waiting for their acknowledgement.
    pub waiting: u64,
    /// Events acknowledged since the start.
    pub acknowledged: u64,
    /// Events dropped since the start.
    pub dropped: u64,
    /// Bound in events.
    pub bound_events: u64,
    /// Size of the events that wait.
    #[serde(default)]
    pub bytes: u64,
    /// Bound in bytes.
    #[serde(default)]
    pub bound_bytes: u64,
    /// Whether the spool file cannot be written, so that waiting events are in memory only.
    #[serde(default)]
    pub memory_only: bool,
}
