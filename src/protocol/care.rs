//! How the runs of one agent are looked after: probes, limits, and what their ends mean.
//!
//! Built by `config/` and checked there; carried out by `runtimes/`. As JSON every duration is whole
//! milliseconds, in a field whose name ends in `_ms`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::exit::ExitClass;
use crate::protocol::spec::millis;

/// Everything that is done for a run besides starting and stopping it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct CareSpec {
    /// How it is asked for its health.
    pub probes: ProbesSpec,
    /// What it may use.
    pub limits: LimitsSpec,
    /// What its ends mean; the first rule that matches decides, the built-in ones come last.
    pub exit_rules: Vec<ExitRule>,
}

/// Probes, with the meaning that Kubernetes gives them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct ProbesSpec {
    /// Holds the others back until it has succeeded; failing it ends the run.
    pub startup: Option<ProbeSpec>,
    /// Whether the agent gets work.
    pub readiness: Option<ProbeSpec>,
    /// Whether the agent lives; failing it ends the run.
    pub liveness: Option<ProbeSpec>,
}

/// One probe.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ProbeSpec {
    /// What is asked.
    pub check: ProbeCheck,
    /// Time from the start of the run to the first probe.
    #[serde(rename = "initial_delay_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub initial_delay: Duration,
    /// Time between two probes.
    #[serde(rename = "interval_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub interval: Duration,
    /// Longest wait for one answer.
    #[serde(rename = "timeout_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
    /// Successes in a row that count as success; above zero.
    pub success_threshold: u32,
    /// Failures in a row that count as failure; above zero.
    pub failure_threshold: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeCheck {
    /// A GET of this address; 200 to 399 is success.
    Http(String),
    /// A connection to this host:port.
    Tcp(String),
    /// A command; exit code 0 is success.
    Exec(Vec<String>),
    /// The `sd_notify` protocol: READY=1 at start, WATCHDOG=1 while it lives.
    Notify,
    /// Beats over NATS.
    Beat,
    /// A line of output at least this often.
    #[serde(rename = "stdout_within_ms", with = "millis")]
    #[schemars(with = "u64")]
    StdoutWithin(Duration),
}

/// What the processes of one run may use; `None` sets no limit. The memory limit is the agent's
/// `max_memory_mb`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct LimitsSpec {
    /// Processes and threads together.
    pub pids: Option<u32>,
    /// Share of the processor under contention, 1 to 10,000; 100 is usual.
    pub cpu_weight: Option<u32>,
    /// Open files of each process (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Size of a core file in bytes (`RLIMIT_CORE`).
    pub core_bytes: Option<u64>,
    /// Output of one run in bytes, standard output and error together.
    pub output_bytes: Option<u64>,
    /// Longest life of one run.
    #[serde(rename = "run_time_ms", with = "maybe_millis")]
    #[schemars(with = "Option<u64>")]
    pub run_time: Option<Duration>,
    /// Whether set-user-id programs still give privileges.
    pub privileges: Privileges,
    /// User to run as, by name or number; needs root.
    pub user: Option<String>,
    /// Group to run as, by name or number; needs root.
    pub group: Option<String>,
}

/// Whether the processes of a run may gain privileges by executing a program.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privileges {
    /// They may not (`no_new_privs`).
    #[default]
    NoNew,
    /// They may.
    MayGain,
}

/// Says what an end means. It matches a run that ended with one of the codes or signals (every end
/// but exit code 0 where none is named), if its last output has one of the texts (where any is
/// named).
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct ExitRule {
    /// Exit codes.
    pub codes: Vec<i32>,
    /// Signal numbers.
    pub signals: Vec<i32>,
    /// Texts of which one must be in the last output of the run; ASCII letters of either case.
    pub output: Vec<String>,
    /// What the end means; `None` leaves that to the built-in rules.
    pub class: Option<ExitClass>,
    /// What is done; `None` leaves that to the class.
    pub action: Option<RuleAction>,
    /// Where the rule was written, as `file:line`.
    pub origin: Option<String>,
}

/// What a rule does about an end.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// What the restart type, the backoff and the circuit say.
    Restart,
    /// The child and all its siblings are restarted.
    RestartGroup,
    /// It is started again after a time.
    Park(ParkSpec),
    /// Its circuit opens at once.
    Quarantine,
    /// It stays down.
    Stop,
    /// Its supervisor gives up.
    Escalate,
}

/// How long a run is parked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ParkSpec {
    /// Time, where the output does not say it.
    #[serde(rename = "after_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub after: Duration,
    /// Who says the time.
    pub from: ParkFrom,
    /// Longest time that the output may ask for.
    #[serde(rename = "max_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub max: Duration,
}

/// Who says how long a run is parked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkFrom {
    /// The rule.
    #[default]
    Rule,
    /// The run's last output, if it names a time, such as `retry after 30s`; else the rule.
    Output,
}

/// An optional duration as whole milliseconds.
mod maybe_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = duration.map(|set| u64::try_from(set.as_millis()).unwrap_or(u64::MAX));
        millis.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
