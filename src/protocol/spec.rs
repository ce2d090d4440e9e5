//! What a child is declared to be: the words of OTP's child specification, and provost's beyond.
//!
//! Specs are built by `config/` or by a library user; they are already checked when they exist
//! inside the tree. As JSON every duration is whole milliseconds, in a field whose name ends in
//! `_ms`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::care::CareSpec;
use crate::protocol::id::{AgentId, AgentTypeName, ChildName};

/// Which children are restarted together with a failed one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the failed child.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The failed child and those started after it.
    RestForOne,
    /// Like one-for-one, for any number of instances of one template.
    SimpleOneForOne,
}

/// When an ended child is started again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartType {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal exit.
    Transient,
    /// Never; its spec goes when it ends.
    Temporary,
}

/// How long a child may take to stop before it is killed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shutdown {
    /// Killed at once, without being asked.
    BrutalKill,
    /// Asked to stop, killed after this time.
    #[serde(rename = "timeout_ms", with = "millis")]
    #[schemars(with = "u64")]
    Timeout(Duration),
    /// Asked to stop and waited for without limit.
    Infinity,
}

/// Whether a child is a worker or a supervisor; for counting only, as in OTP.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// A worker.
    #[default]
    Worker,
    /// A supervisor.
    Supervisor,
}

/// Whether the end of significant children ends their supervisor (OTP 24).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// Never.
    #[default]
    Never,
    /// When any significant child ends by itself and is not restarted.
    AnySignificant,
    /// When the last significant child has ended so.
    AllSignificant,
}

/// Whether the end of a child counts for [`AutoShutdown`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Significance {
    /// It does not.
    #[default]
    Ordinary,
    /// It does.
    Significant,
}

/// More than `intensity` restarts within `period` are too many.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub struct Limit {
    /// Restarts allowed within the period; 0 allows none.
    pub intensity: u32,
    /// Length of the sliding window; above zero.
    #[serde(rename = "period_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub period: Duration,
}

/// How the delay before a restart is drawn.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Uniform between zero and the whole delay.
    #[default]
    Full,
    /// Uniform between half the delay and the whole.
    Equal,
    /// The whole delay.
    None,
}

/// Delays between restarts: `initial * factor^n`, at most `max`, then jittered downwards.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct BackoffSpec {
    /// First delay; zero switches backoff off.
    #[serde(rename = "initial_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub initial: Duration,
    /// Growth from one delay to the next; at least 1.
    pub factor: f64,
    /// Longest delay; at least `initial`.
    #[serde(rename = "max_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub max: Duration,
    /// How the delay is drawn.
    pub jitter: Jitter,
}

/// What happens when a child exceeds its own limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceeded {
    /// Its circuit opens: it is not restarted until a trial.
    #[default]
    Quarantine,
    /// All children of its supervisor are restarted once; if it fails on, quarantine.
    RestartSiblings,
    /// Its supervisor gives up and leaves the matter to its parent.
    Escalate,
    /// The whole tree stops.
    StopTree,
}

/// A child's own circuit: when it opens, for how long, and when a trial has passed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CircuitSpec {
    /// The child's own restart limit, besides its supervisor's.
    pub limit: Limit,
    /// What happens when the limit is exceeded.
    pub on_exceeded: OnExceeded,
    /// How long the circuit stays open the first time; above zero.
    #[serde(rename = "open_for_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub open_for: Duration,
    /// Growth of the open time with each failed trial; at least 1.
    pub open_factor: f64,
    /// Longest open time; at least `open_for`.
    #[serde(rename = "open_max_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub open_max: Duration,
    /// Healthy running time that closes a trial and resets the backoff; above zero.
    #[serde(rename = "stable_after_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub stable_after: Duration,
}

/// What goes beyond OTP. [`RestartPolicy::OTP`] switches all of it off.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RestartPolicy {
    /// Delays between restarts.
    pub backoff: BackoffSpec,
    /// The child's own circuit; `None` leaves only the supervisor's intensity.
    pub circuit: Option<CircuitSpec>,
}

impl RestartPolicy {
    /// Restart at once, no circuit: exactly OTP.
    pub const OTP: Self = Self {
        backoff: BackoffSpec {
            initial: Duration::ZERO,
            factor: 1.0,
            max: Duration::ZERO,
            jitter: Jitter::None,
        },
        circuit: None,
    };
}

impl Default for BackoffSpec {
    /// 200 ms, doubled up to 30 s, full jitter.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: Jitter::Full,
        }
    }
}

impl Default for CircuitSpec {
    /// 5 restarts in 60 s, then open for 30 s (doubled up to 10 min); stable after 10 s.
    fn default() -> Self {
        Self {
            limit: Limit { intensity: 5, period: Duration::from_secs(60) },
            on_exceeded: OnExceeded::Quarantine,
            open_for: Duration::from_secs(30),
            open_factor: 2.0,
            open_max: Duration::from_secs(600),
            stable_after: Duration::from_secs(10),
        }
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { backoff: BackoffSpec::default(), circuit: Some(CircuitSpec::default()) }
    }
}

/// One child as its supervisor sees it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ChildSpec {
    /// Name, unique under its supervisor.
    pub name: ChildName,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// When it is restarted.
    pub restart: RestartType,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// Whether its end counts for auto-shutdown.
    pub significance: Significance,
    /// Backoff and circuit.
    pub policy: RestartPolicy,
    /// Where the rule was written, as `file:line`, if it was written anywhere.
    pub origin: Option<String>,
}

impl ChildSpec {
    /// A permanent worker with OTP's defaults: 5 s to stop, not significant, no backoff, no circuit.
    #[must_use]
    pub fn otp_worker(name: ChildName) -> Self {
        Self {
            name,
            kind: ChildKind::Worker,
            restart: RestartType::Permanent,
            shutdown: Shutdown::Timeout(Duration::from_secs(5)),
            significance: Significance::Ordinary,
            policy: RestartPolicy::OTP,
            origin: None,
        }
    }
}

/// One supervisor's own settings; its children come apart.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SupervisorSpec {
    /// Name, unique under its parent.
    pub name: ChildName,
    /// Strategy.
    pub strategy: Strategy,
    /// Restart limit over all children; `None` never gives up (the children's circuits limit).
    pub limit: Option<Limit>,
    /// Auto-shutdown.
    pub auto_shutdown: AutoShutdown,
    /// Where the rule was written, as `file:line`.
    pub origin: Option<String>,
}

impl SupervisorSpec {
    /// A supervisor that never gives up (its children's circuits limit restarts) and never ends by
    /// itself.
    #[must_use]
    pub fn new(name: ChildName, strategy: Strategy) -> Self {
        Self { name, strategy, limit: None, auto_shutdown: AutoShutdown::Never, origin: None }
    }
}

/// How an agent runs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    /// A long-running OS process.
    Process,
    /// A long-running process that takes tasks and gives results as JSON lines.
    Stdio,
    /// One process per task.
    Exec,
    /// A NATS worker started elsewhere.
    Remote,
    /// Rust code inside the daemon.
    InProcess,
}

/// What becomes of an agent when the daemon is killed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDaemonExit {
    /// It runs on and the next daemon adopts it.
    #[default]
    Adopt,
    /// It is ended too.
    Stop,
}

/// How a process is asked to stop.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct StopSpec {
    /// Signal name, for example `SIGTERM`.
    pub signal: SignalName,
    /// Time from the signal to SIGKILL of the whole group.
    #[serde(rename = "grace_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub grace: Duration,
}

impl Default for StopSpec {
    /// SIGTERM, 10 s.
    fn default() -> Self {
        Self { signal: SignalName::Term, grace: Duration::from_secs(10) }
    }
}

/// Signals that may be configured as the stop signal.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SignalName {
    /// SIGTERM (15).
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// SIGINT (2).
    #[serde(rename = "SIGINT")]
    Int,
    /// SIGQUIT (3).
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// SIGHUP (1).
    #[serde(rename = "SIGHUP")]
    Hup,
    /// SIGUSR1 (10 on Linux).
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// SIGUSR2 (12 on Linux).
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// SIGKILL (9): no grace.
    #[serde(rename = "SIGKILL")]
    Kill,
}

/// One agent, ready to be placed in the tree.
#[derive(Clone, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AgentSpec {
    /// Stable identity.
    pub agent_id: AgentId,
    /// Unique name.
    pub name: ChildName,
    /// Type it was made from.
    pub agent_type: AgentTypeName,
    /// How it runs.
    pub runtime: RuntimeKind,
    /// Program and arguments; never empty for process runtimes.
    pub command: Vec<String>,
    /// Environment given besides the allow-list, values may be secret.
    pub env: BTreeMap<String, String>,
    /// Names in `env` whose values must be masked wherever they are shown.
    pub secret_env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Concurrent tasks it takes.
    pub slots: u32,
    /// Memory limit in MiB, if any.
    pub max_memory_mb: Option<u64>,
    /// Time limit of one task.
    #[serde(rename = "timeout_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
    /// How it is stopped.
    pub stop: StopSpec,
    /// Whether it gets `NATS_URL` and credentials.
    pub nats_access: bool,
    /// What happens when the daemon is killed.
    pub on_daemon_exit: OnDaemonExit,
    /// Probes, limits, and what its ends mean.
    #[serde(default)]
    pub care: CareSpec,
    /// How its tasks reach the processes that work on them; for exec agents.
    #[serde(default)]
    pub exec: ExecSpec,
    /// When it is restarted.
    pub restart: RestartType,
    /// Backoff and circuit.
    pub policy: RestartPolicy,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Where its type was written, as `file:line`.
    pub origin: Option<String>,
}

/// How one process works on one task of an exec agent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct ExecSpec {
    /// What it reads.
    pub stdin: ExecInput,
    /// What its output is.
    pub stdout: ExecOutput,
    /// JSON Pointer to the result in the output; the whole of it when empty.
    pub pointer: String,
    /// Longest output in bytes; above zero.
    pub max_output_bytes: u64,
}

impl Default for ExecSpec {
    /// The task's input in, text of at most 1 MiB out.
    fn default() -> Self {
        Self {
            stdin: ExecInput::Input,
            stdout: ExecOutput::Text,
            pointer: String::new(),
            max_output_bytes: 1024 * 1024,
        }
    }
}

/// What the process of a task reads on its standard input.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecInput {
    /// The whole task as JSON.
    Task,
    /// The task's input: a text as it is, else JSON.
    #[default]
    Input,
    /// Nothing.
    Nothing,
}

/// What the process of a task writes on its standard output.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecOutput {
    /// Text; the result is the text without the line end at its end.
    #[default]
    Text,
    /// One JSON value.
    Json,
    /// A JSON value a line; the last one that has the result counts.
    Jsonl,
}

/// Durations stand on the wire as whole milliseconds, and the field's name says so.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

impl fmt::Debug for AgentSpec {
    /// Shows no environment: its values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSpec")
            .field("agent_id", &self.agent_id)
            .field("name", &self.name)
            .field("agent_type", &self.agent_type)
            .field("runtime", &self.runtime)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}
