//! Checked types of agents, their types and their supervisors.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::raw::CommandPermission;
use crate::config::spawn::SpawnPermission;
use crate::config::units::MASK;
use crate::protocol::care::{ExitRule, LimitsSpec, ProbesSpec};
use crate::protocol::id::{AgentTypeName, ChildName};
use crate::protocol::spec::{
    ExecSpec, OnDaemonExit, RestartPolicy, RestartType, RuntimeKind, Significance, StopSpec,
    SupervisorSpec,
};

/// The pool of agents.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// Local agents that are neither stopped nor removed; at least 1.
    pub max: usize,
    /// Whether a spawn request may bring a command line that no type declares.
    pub allow_undeclared: bool,
    /// What requests on `agent.command` may do.
    pub command_permission: CommandPermission,
}

/// Value of an environment variable; masked in `Debug` if it is secret.
#[derive(Clone, Eq, PartialEq)]
pub struct EnvValue {
    /// The value itself.
    pub value: String,
    /// Whether it must not be shown.
    pub secret: bool,
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str(MASK) } else { write!(f, "{:?}", self.value) }
    }
}

/// What can be started.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentType {
    /// How its agents run.
    pub runtime: RuntimeKind,
    /// Program and arguments; empty for remote and in-process agents only.
    pub command: Vec<String>,
    /// Environment besides the allow-list.
    pub env: BTreeMap<String, EnvValue>,
    /// What its agents can do.
    pub capabilities: Vec<String>,
    /// Tasks that one agent takes at a time; at least 1.
    pub slots: u32,
    /// Memory limit in MiB, if any.
    pub max_memory_mb: Option<u64>,
    /// Longest silence of a task.
    pub timeout: Duration,
    /// Working folder, absolute.
    pub cwd: PathBuf,
    /// How an agent is asked to stop.
    pub stop: StopSpec,
    /// Whether its agents get `NATS_URL` and credentials.
    pub nats_access: bool,
    /// What becomes of its agents when the daemon is killed.
    pub on_daemon_exit: OnDaemonExit,
    /// When its agents are restarted.
    pub restart: RestartType,
    /// Backoff and circuit.
    pub policy: RestartPolicy,
    /// Probes.
    pub probes: ProbesSpec,
    /// What the ends of its runs mean; the first that matches decides.
    pub exit_rules: Vec<ExitRule>,
    /// What a spawn request may add.
    pub spawn: SpawnPermission,
    /// What its agents' processes may use.
    pub limits: LimitsSpec,
    /// How a task reaches its process, for exec agents.
    pub exec: ExecSpec,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is declared, as `file:line`, if anywhere.
    pub origin: Option<String>,
}

impl AgentType {
    /// A process type that no file declares, all else at its default: for `provost run` and for
    /// undeclared command lines.
    #[must_use]
    pub fn process(command: Vec<String>, cwd: PathBuf) -> Self {
        Self {
            runtime: RuntimeKind::Process,
            command,
            env: BTreeMap::new(),
            capabilities: Vec::new(),
            slots: 1,
            max_memory_mb: Some(1024),
            timeout: Duration::from_secs(300),
            cwd,
            stop: StopSpec::default(),
            nats_access: false,
            on_daemon_exit: OnDaemonExit::default(),
            restart: RestartType::default(),
            policy: RestartPolicy::default(),
            probes: ProbesSpec::default(),
            exit_rules: Vec::new(),
            spawn: SpawnPermission::default(),
            limits: LimitsSpec { core_bytes: Some(0), ..LimitsSpec::default() },
            exec: ExecSpec::default(),
            labels: BTreeMap::new(),
            origin: None,
        }
    }
}

/// An agent to be made from a type: one `[[agent]]`, or one spawn request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentEntry {
    /// Its name.
    pub name: ChildName,
    /// Its type.
    pub agent_type: AgentTypeName,
    /// Arguments added to the type's command.
    pub args: Vec<String>,
    /// Environment added to the type's.
    pub env: BTreeMap<String, EnvValue>,
    /// Labels added to the type's.
    pub labels: BTreeMap<String, String>,
    /// A whole command instead of the type's; only where `agents.allow_undeclared` is set.
    pub command_line: Option<Vec<String>>,
    /// Where it is declared, as `file:line`, if anywhere.
    pub origin: Option<String>,
}

impl AgentEntry {
    /// An entry without additions.
    #[must_use]
    pub fn new(name: ChildName, agent_type: AgentTypeName) -> Self {
        Self {
            name,
            agent_type,
            args: Vec::new(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            command_line: None,
            origin: None,
        }
    }
}

/// A configured supervisor.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisorEntry {
    /// Its own settings.
    pub spec: SupervisorSpec,
    /// When it is restarted by its own supervisor.
    pub restart: RestartType,
    /// Its children in start order.
    pub children: Vec<(ChildName, Significance)>,
}
