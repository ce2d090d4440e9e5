//! Raw structs of agents, their types and their supervisors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::raw_rules::{RawExitRule, RawSpawn};
use crate::config::units::{ByteSize, Span};
use crate::protocol::spec::{
    AutoShutdown, ExecInput, ExecOutput, ExecSpec, Jitter, OnDaemonExit, OnExceeded, RestartType,
    RuntimeKind, SignalName,
};

/// What can be started, under a name.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "AgentType")]
pub(crate) struct RawAgentType {
    /// How its agents run.
    pub(crate) runtime: RuntimeKind,
    /// Program and arguments, each as it is; no shell. Needed for process, stdio and exec.
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) command: Option<Vec<String>>,
    /// Arguments added to the command.
    #[schemars(length(max = 1000))]
    pub(crate) args: Vec<String>,
    /// Environment variables given besides the allow-list.
    pub(crate) env: BTreeMap<String, String>,
    /// What its agents can do, for tasks that ask for it.
    #[schemars(length(max = 100))]
    pub(crate) capabilities: Vec<String>,
    /// Tasks that one agent takes at a time.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) slots: u32,
    /// Memory of one agent with its descendants, in MiB; 0 for no limit.
    #[schemars(range(min = 0, max = 16_777_216))]
    pub(crate) max_memory_mb: u64,
    /// Longest silence of a task before its lease ends.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "30d"))]
    pub(crate) timeout: Span,
    /// Working folder, relative to the file that declares the type; that file's folder when absent.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) cwd: Option<String>,
    /// How an agent is asked to stop.
    pub(crate) stop: RawStop,
    /// Whether its agents are told `NATS_URL` and credentials of their own.
    pub(crate) nats_access: bool,
    /// What becomes of its agents when the daemon is killed.
    pub(crate) on_daemon_exit: OnDaemonExit,
    /// When its agents are restarted.
    pub(crate) restart: RawRestart,
    /// How its agents are asked for their health.
    pub(crate) probes: RawProbes,
    /// What the ends of its runs mean; the first rule that matches decides.
    #[schemars(length(max = 100))]
    pub(crate) exit_rules: Vec<RawExitRule>,
    /// What a spawn request may add.
    pub(crate) spawn: RawSpawn,
    /// What its agents' processes may use, and who they are.
    pub(crate) limits: RawLimits,
    /// How a task reaches its process; for exec agents.
    pub(crate) exec: RawExec,
    /// Labels, for people and filters.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Default for RawAgentType {
    fn default() -> Self {
        Self {
            runtime: RuntimeKind::Process,
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            capabilities: Vec::new(),
            slots: 1,
            max_memory_mb: 1024,
            timeout: Span::secs(300),
            cwd: None,
            stop: RawStop::default(),
            nats_access: false,
            on_daemon_exit: OnDaemonExit::Adopt,
            restart: RawRestart::default(),
            probes: RawProbes::default(),
            exit_rules: Vec::new(),
            spawn: RawSpawn::default(),
            limits: RawLimits::default(),
            exec: RawExec::default(),
            labels: BTreeMap::new(),
        }
    }
}

/// What the processes of one agent may use, and who they are. Memory is the type's `max_memory_mb`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(crate) struct RawLimits {
    /// Processes and threads together; holds only with a delegated cgroup.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub(crate) pids: Option<u32>,
    /// Share of the processor under contention; holds only with a delegated cgroup.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) cpu_weight: Option<u32>,
    /// Open files of each process.
    #[schemars(range(min = 16, max = 1_073_741_816))]
    pub(crate) open_files: Option<u64>,
    /// Size of a core file; "0B" writes none.
    #[schemars(extend("x-minimum" = "0B", "x-maximum" = "1024TiB"))]
    pub(crate) core_size: ByteSize,
    /// Output of one run; beyond it the run is ended. Rotation bounds the disk without it.
    #[schemars(extend("x-minimum" = "1B", "x-maximum" = "1024TiB"))]
    pub(crate) output_size: Option<ByteSize>,
    /// Longest life of one run; then it is stopped as `stop` says.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "365d"))]
    pub(crate) run_time: Option<Span>,
    /// Whether set-user-id programs (sudo, su) give no privileges.
    pub(crate) no_new_privs: bool,
    /// User to run as, by name or number; needs root. Its groups come with it.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) user: Option<String>,
    /// Group to run as instead of the user's own, by name or number; needs root.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) group: Option<String>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            pids: None,
            cpu_weight: None,
            open_files: None,
            core_size: ByteSize(0),
            output_size: None,
            run_time: None,
            no_new_privs: true,
            user: None,
            group: None,
        }
    }
}

/// How a task reaches the process that works on it, and how its result is found; for exec agents.
/// The command may have places for the input: `{{input}}`, `{{input.name}}`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Exec")]
pub(crate) struct RawExec {
    /// What the process reads: the whole task as JSON, its input, or nothing.
    pub(crate) stdin: ExecInput,
    /// What the process writes: text, one JSON value, or a JSON value a line.
    pub(crate) stdout: ExecOutput,
    /// JSON Pointer to the result in the output; empty for the whole of it.
    #[schemars(length(max = 1024))]
    pub(crate) pointer: String,
    /// Longest output, in bytes.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub(crate) max_output_bytes: u64,
}

impl Default for RawExec {
    fn default() -> Self {
        let ExecSpec { stdin, stdout, pointer, max_output_bytes } = ExecSpec::default();
        Self { stdin, stdout, pointer, max_output_bytes }
    }
}

/// How an agent is asked to stop.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Stop")]
pub(crate) struct RawStop {
    /// Signal that asks.
    pub(crate) signal: SignalName,
    /// Time from the signal to SIGKILL of the whole group.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub(crate) grace: Span,
}

impl Default for RawStop {
    fn default() -> Self {
        Self { signal: SignalName::Term, grace: Span::secs(10) }
    }
}

/// When an agent is restarted, and what happens when that does not help.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Restart")]
pub(crate) struct RawRestart {
    /// When it is restarted.
    #[serde(rename = "type")]
    pub(crate) restart_type: RestartType,
    /// Restarts allowed within the period; 0 allows none.
    #[schemars(range(min = 0, max = 10_000))]
    pub(crate) intensity: u32,
    /// Length of the sliding window.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) period: Span,
    /// Delays between restarts.
    pub(crate) backoff: RawBackoff,
    /// What happens when there are more restarts than that.
    pub(crate) on_exceeded: OnExceeded,
    /// How long the circuit stays open the first time.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "7d"))]
    pub(crate) open_for: Span,
    /// Growth of the open time with each failed trial.
    #[schemars(range(min = 1.0, max = 10.0))]
    pub(crate) open_factor: f64,
    /// Longest open time; the larger of 10m and `open_for` when absent.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "30d"))]
    pub(crate) open_max: Option<Span>,
    /// Healthy running time that closes a trial and resets the backoff.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "7d"))]
    pub(crate) stable_after: Span,
}

impl Default for RawRestart {
    fn default() -> Self {
        Self {
            restart_type: RestartType::Permanent,
            intensity: 5,
            period: Span::secs(60),
            backoff: RawBackoff::default(),
            on_exceeded: OnExceeded::Quarantine,
            open_for: Span::secs(30),
            open_factor: 2.0,
            open_max: None,
            stable_after: Span::secs(10),
        }
    }
}

/// Delays between restarts.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Backoff")]
pub(crate) struct RawBackoff {
    /// First delay; "0s" restarts at once.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub(crate) initial: Span,
    /// Growth from one delay to the next.
    #[schemars(range(min = 1.0, max = 10.0))]
    pub(crate) factor: f64,
    /// Longest delay.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub(crate) max: Span,
    /// How the delay is drawn.
    pub(crate) jitter: Jitter,
}

impl Default for RawBackoff {
    fn default() -> Self {
        Self { initial: Span::millis(200), factor: 2.0, max: Span::secs(30), jitter: Jitter::Full }
    }
}

/// Probes, each optional.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Probes")]
pub(crate) struct RawProbes {
    /// Asked first; the others begin when it has succeeded.
    pub(crate) startup: Option<RawProbe>,
    /// Whether the agent gets work.
    pub(crate) readiness: Option<RawProbe>,
    /// Whether the agent lives; failing it restarts the agent.
    pub(crate) liveness: Option<RawProbe>,
}

/// One probe: exactly one of http, tcp, exec, notify, beat, `stdout_within`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Probe")]
pub(crate) struct RawProbe {
    /// Address to GET; 200 to 399 is success.
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) http: Option<String>,
    /// Address to connect to, as host:port.
    #[schemars(length(min = 1, max = 300))]
    pub(crate) tcp: Option<String>,
    /// Command to run; exit code 0 is success.
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) exec: Option<Vec<String>>,
    /// Whether the agent speaks the `sd_notify` protocol.
    pub(crate) notify: Option<bool>,
    /// Whether the agent sends beats over NATS.
    pub(crate) beat: Option<bool>,
    /// Longest time without a line on stdout.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) stdout_within: Option<Span>,
    /// Time from the start of a run to the first probe.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub(crate) initial_delay: Span,
    /// Time between two probes; `supervision.health_check_interval` when absent.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "24h"))]
    pub(crate) interval: Option<Span>,
    /// Longest wait for one answer.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub(crate) timeout: Span,
    /// Successful probes in a row that count as a success; more than 1 for readiness only.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) success_threshold: u32,
    /// Failed probes in a row that count as a failure; `supervision.failure_detection_threshold`
    /// when absent.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) failure_threshold: Option<u32>,
}

impl Default for RawProbe {
    fn default() -> Self {
        Self {
            http: None,
            tcp: None,
            exec: None,
            notify: None,
            beat: None,
            stdout_within: None,
            initial_delay: Span::millis(0),
            interval: None,
            timeout: Span::secs(3),
            success_threshold: 1,
            failure_threshold: None,
        }
    }
}

/// An agent that starts with the daemon.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Agent")]
pub(crate) struct RawAgent {
    /// Name, unique among agents, supervisors and downstreams.
    #[schemars(length(min = 1, max = 64), extend("x-required" = true))]
    pub(crate) name: Option<String>,
    /// Declared agent type.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64), extend("x-required" = true))]
    pub(crate) agent_type: Option<String>,
    /// Arguments added to the type's command.
    #[schemars(length(max = 1000))]
    pub(crate) args: Vec<String>,
    /// Environment variables added to the type's.
    pub(crate) env: BTreeMap<String, String>,
    /// Labels added to the type's.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Strategies a configured supervisor can have.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawStrategy {
    /// Only the failed child is restarted.
    #[default]
    OneForOne,
    /// All children are.
    OneForAll,
    /// The failed child and those after it are.
    RestForOne,
}

/// A supervisor.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Supervisor")]
pub(crate) struct RawSupervisor {
    /// Which children are restarted with a failed one.
    pub(crate) strategy: RawStrategy,
    /// Restarts of all children together allowed within the period.
    #[schemars(range(min = 0, max = 10_000))]
    pub(crate) intensity: u32,
    /// Length of the sliding window.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) period: Span,
    /// Children in start order: names of agents, supervisors or downstreams.
    #[schemars(length(max = 100_000))]
    pub(crate) children: Vec<String>,
    /// Whether the end of significant children ends this supervisor.
    pub(crate) auto_shutdown: AutoShutdown,
    /// Children whose end counts for that; transient or temporary ones.
    #[schemars(length(max = 100_000))]
    pub(crate) significant: Vec<String>,
    /// When this supervisor is restarted by its own.
    pub(crate) restart: RestartType,
}

impl Default for RawSupervisor {
    fn default() -> Self {
        Self {
            strategy: RawStrategy::OneForOne,
            intensity: 10,
            period: Span::secs(60),
            children: Vec::new(),
            auto_shutdown: AutoShutdown::Never,
            significant: Vec::new(),
            restart: RestartType::Permanent,
        }
    }
}
