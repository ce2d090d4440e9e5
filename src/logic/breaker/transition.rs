//! A change of state, with what it was decided on.

use crate::logic::breaker::config::BreakerConfig;
use crate::logic::breaker::counts::Counts;
use crate::protocol::status::CircuitState;

/// Why the state changed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// Too many failures in a row.
    FailureThreshold,
    /// Too large a share of failures.
    ErrorPercent,
    /// Too large a share of slow calls.
    SlowPercent,
    /// The service named a time before which it does not want to be asked.
    Throttled,
    /// The open time is over.
    OpenTimeOver,
    /// A probe failed, was slow where slow calls count, or was throttled.
    TrialFailed,
    /// Probes were under way for too long.
    TrialTimedOut,
    /// Enough probes succeeded.
    TrialPassed,
    /// Somebody asked for it.
    Requested,
}

impl Cause {
    /// The word of traces, logs and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailureThreshold => "failure_threshold",
            Self::ErrorPercent => "error_percent",
            Self::SlowPercent => "slow_percent",
            Self::Throttled => "throttled",
            Self::OpenTimeOver => "open_time_over",
            Self::TrialFailed => "trial_failed",
            Self::TrialTimedOut => "trial_timed_out",
            Self::TrialPassed => "trial_passed",
            Self::Requested => "requested",
        }
    }
}

/// What a change of state was decided on: with the rules, it derives the change again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The window, when a judgement on it decided.
    pub counts: Option<Counts>,
    /// Successful probes of this half-open state.
    pub successes: u32,
    /// Probes under way when it was left.
    pub probes_under_way: u32,
    /// Openings in a row that failed trials made longer, this one included.
    pub openings: u32,
    /// Open time that follows.
    pub open_ms: Option<u64>,
    /// The draw that shortened it.
    pub fraction: f64,
    /// What the service asked for.
    pub retry_after_ms: Option<u64>,
    /// The rules.
    pub config: BreakerConfig,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// When.
    pub at_ms: u64,
    /// State before.
    pub from: CircuitState,
    /// State after.
    pub to: CircuitState,
    /// Why.
    pub cause: Cause,
    /// The generation that begins.
    pub generation: u64,
    /// What it was decided on.
    pub evidence: Evidence,
}
