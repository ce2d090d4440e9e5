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
            Self::Signaled { .. }
            | Self::Killed
            | Self::Failed { .. }
            | Self::Panicked { .. }
            | Self::GaveUp { .. }
            | Self::Throttled { .. }
            | Self::Lost { .. } => false,
        }
    }

    /// Exit status and signal as the wire shows them.
    #[must_use]
    pub fn code_and_signal(&self) -> ExitCodes {
        match self {
            Self::Exited { code } => ExitCodes { code: Some(*code), signal: None },
            Self::Signaled { signal } => ExitCodes { code: None, signal: Some(*signal) },
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
