//! How one run of a child ended, and why a start failed.
//!
//! OTP calls `normal`, `shutdown` and `{shutdown, Term}` clean; everything else is abnormal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one run of a child ended.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ChildExit {
    /// The process exited with this status; 0 is success.
    #[error("exited with code {code}")]
    Exited {
        /// Exit status, 0 to 255.
        code: i32,
    },
    /// The process was ended by a signal.
    #[error("ended by signal {signal}")]
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// An in-process child or supervisor finished by itself, successfully.
    #[error("finished")]
    Finished,
    /// The child stopped because it was asked to.
    #[error("stopped on request")]
    Stopped,
    /// The child did not stop within its time, or brutally, and was killed by us.
    #[error("killed")]
    Killed,
    /// An in-process child returned an error.
    #[error("failed: {message}")]
    Failed {
        /// The error as text.
        message: String,
    },
    /// Code inside the daemon panicked while serving the child.
    #[error("panicked: {message}")]
    Panicked {
        /// Panic payload as text.
        message: String,
    },
    /// A supervisor gave up: more restarts than its intensity allows.
    #[error("gave up: {restarts} restarts within {period_ms} ms, {intensity} are allowed")]
    GaveUp {
        /// Restarts counted in the window, the refused one included.
        restarts: u32,
        /// Restarts allowed in the window.
        intensity: u32,
        /// Length of the window in milliseconds.
        period_ms: u64,
    },
    /// The child said that it is throttled (rate limited) until later.
    #[error("throttled for {after_ms} ms")]
    Throttled {
        /// Time until the child may be started again, in milliseconds.
        after_ms: u64,
    },
    /// The child is gone and nobody can tell how it ended.
    #[error("lost: {message}")]
    Lost {
        /// What is known.
        message: String,
    },
    /// The child's memory limit was hit: the kernel or provost ended it.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// Limit and use, with their units.
        message: String,
        /// How its main process ended.
        #[serde(flatten)]
        codes: ExitCodes,
    },
    /// A probe failed as often as its threshold, so provost ended the child.
    #[error("probe failed: {message}")]
    ProbeFailed {
        /// Which probe, how often, and what it said last.
        message: String,
        /// How its main process ended.
        #[serde(flatten)]
        codes: ExitCodes,
    },
    /// The child did not ping its watchdog in time, or asked for its own end, so provost ended it.
    #[error("watchdog: {message}")]
    Watchdog {
        /// What was expected, in which time.
        message: String,
        /// How its main process ended.
        #[serde(flatten)]
        codes: ExitCodes,
    },
    /// The child lived without a sign of work (output, beats) for too long, so provost ended it.
    #[error("hung: {message}")]
    Hung {
        /// Which sign was expected, in which time.
        message: String,
        /// How its main process ended.
        #[serde(flatten)]
        codes: ExitCodes,
    },
    /// The child ran longer than it may, so provost ended it.
    #[error("ran too long: {message}")]
    RanTooLong {
        /// The limit.
        message: String,
        /// How its main process ended.
        #[serde(flatten)]
        codes: ExitCodes,
    },
    /// A rule, configured or built in, said what an end means and what is to be done.
    #[error("{exit} ({})", .judged.reason)]
    Judged {
        /// How it ended.
        exit: Box<Self>,
        /// What that means.
        judged: Judged,
    },
}

/// What a rule made of an end.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Judged {
    /// What the end means.
    pub class: ExitClass,
    /// What is done about it.
    pub action: ExitAction,
    /// Why, in words, with what was seen (exit code, matched line).
    pub reason: String,
    /// Where the rule was written, as `file:line`; `None` for a built-in one.
    pub rule: Option<String>,
}

/// What the end of a run means.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitClass {
    /// It finished its work.
    Ok,
    /// It failed.
    Crash,
    /// It hit its memory limit.
    Oom,
    /// It is rate limited.
    Throttled,
    /// Its configuration or program is wrong; starting it again will not help.
    ConfigFault,
    /// It did not ping in time, failed its probes, or hung.
    Watchdog,
    /// It was asked to stop.
    Stopped,
    /// Nobody can tell.
    Unknown,
}

/// What is done about the end of a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum ExitAction {
    /// What the restart type, the backoff and the circuit say.
    Restart,
    /// The child and all its siblings are restarted, whatever the strategy.
    RestartGroup,
    /// It is started again after this time; counts nowhere.
    Park {
        /// Time in milliseconds.
        after_ms: u64,
    },
    /// Its circuit opens at once.
    Quarantine,
    /// It stays down until somebody starts it.
    Stop,
    /// Its supervisor gives up and leaves the matter to its parent.
    Escalate,
}

impl ExitClass {
    /// Its word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Crash => "crash",
            Self::Oom => "oom",
            Self::Throttled => "throttled",
            Self::ConfigFault => "config_fault",
            Self::Watchdog => "watchdog",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

impl ExitAction {
    /// Its word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::RestartGroup => "restart_group",
            Self::Park { .. } => "park",
            Self::Quarantine => "quarantine",
            Self::Stop => "stop",
            Self::Escalate => "escalate",
        }
    }
}

impl ChildExit {
    /// Whether OTP would call this exit clean: a transient child stays down after it.
    ///
    /// [`ChildExit::GaveUp`] is abnormal here, although OTP reports it as `shutdown`: a transient
    /// supervisor that gave up must not vanish silently. In OTP mode the caller maps it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Exited { code } => *code == 0,
            Self::Finished | Self::Stopped => true,
            Self::Judged { judged, .. } => {
                matches!(judged.class, ExitClass::Ok | ExitClass::Stopped)
            }
            Self::Signaled { .. }
            | Self::Killed
            | Self::Failed { .. }
            | Self::Panicked { .. }
            | Self::GaveUp { .. }
            | Self::Throttled { .. }
            | Self::Lost { .. }
            | Self::OutOfMemory { .. }
            | Self::ProbeFailed { .. }
            | Self::Watchdog { .. }
            | Self::Hung { .. }
            | Self::RanTooLong { .. } => false,
        }
    }

    /// Exit status and signal as the wire shows them.
    #[must_use]
    pub fn code_and_signal(&self) -> ExitCodes {
        match self {
            Self::Exited { code } => ExitCodes { code: Some(*code), signal: None },
            Self::Signaled { signal } => ExitCodes { code: None, signal: Some(*signal) },
            Self::OutOfMemory { codes, .. }
            | Self::ProbeFailed { codes, .. }
            | Self::Watchdog { codes, .. }
            | Self::Hung { codes, .. }
            | Self::RanTooLong { codes, .. } => *codes,
            Self::Judged { exit, .. } => exit.code_and_signal(),
            Self::Finished
            | Self::Stopped
            | Self::Killed
            | Self::Failed { .. }
            | Self::Panicked { .. }
            | Self::GaveUp { .. }
            | Self::Throttled { .. }
            | Self::Lost { .. } => ExitCodes::default(),
        }
    }

    /// The end itself, without what a rule made of it.
    #[must_use]
    pub fn bare(&self) -> &Self {
        if let Self::Judged { exit, .. } = self { exit.bare() } else { self }
    }

    /// What a rule made of the end, if one did.
    #[must_use]
    pub fn judged(&self) -> Option<&Judged> {
        if let Self::Judged { judged, .. } = self { Some(judged) } else { None }
    }
}

/// Exit status and signal of a run that ended; both are `None` where nobody can tell.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ExitCodes {
    /// Exit status.
    pub code: Option<i32>,
    /// Signal number.
    pub signal: Option<i32>,
}

/// Reasons a run could not begin. All but [`StartError::Refused`] count as a failed start.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum StartError {
    /// The program does not exist.
    #[error("program {program:?} not found; check `command` and PATH")]
    NotFound {
        /// First word of the command.
        program: String,
    },
    /// The program exists but may not be executed.
    #[error("program {program:?} is not executable; check its permissions (chmod +x)")]
    NotExecutable {
        /// First word of the command.
        program: String,
    },
    /// The working directory does not exist or cannot be entered.
    #[error("cannot enter directory {cwd:?}: {message}; check `cwd`")]
    BadDirectory {
        /// The directory.
        cwd: String,
        /// What the operating system said.
        message: String,
    },
    /// The operating system refused for another reason (limits, memory, files).
    #[error("cannot start {program:?}: {message}")]
    System {
        /// First word of the command.
        program: String,
        /// What the operating system said.
        message: String,
    },
    /// The start took longer than allowed.
    #[error("start took longer than {timeout_ms} ms")]
    Timeout {
        /// The limit in milliseconds.
        timeout_ms: u64,
    },
    /// An in-process child's start function failed.
    #[error("start failed: {message}")]
    Failed {
        /// The error as text.
        message: String,
    },
    /// The part of the daemon that starts processes is away or closing.
    #[error("cannot start now: {message}")]
    Refused {
        /// What is missing.
        message: String,
    },
}
