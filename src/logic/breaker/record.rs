//! Events and decision records of a breaker, made from its transitions.

use crate::logic::breaker::config::{BreakerConfig, Window, millis};
use crate::logic::breaker::transition::{Cause, Transition};
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use crate::protocol::fact::CircuitChanged;
use crate::protocol::id::ChildName;
use crate::protocol::status::CircuitState;

impl Cause {
    /// The code on the wire.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::FailureThreshold => Reason::FailureThreshold,
            Self::ErrorPercent => Reason::ErrorPercent,
            Self::SlowPercent => Reason::SlowPercent,
            Self::Throttled => Reason::Throttled,
            Self::OpenTimeOver => Reason::OpenTimeOver,
            Self::TrialFailed => Reason::TrialFailed,
            Self::TrialTimedOut => Reason::TrialTimedOut,
            Self::TrialPassed => Reason::TrialPassed,
            Self::Requested => Reason::Requested,
        }
    }
}

impl Transition {
    /// The event about it. Its reason says which of the transitions it was.
    #[must_use]
    pub fn event(&self, name: ChildName) -> CircuitChanged {
        CircuitChanged {
            name,
            from: self.from,
            to: self.to,
            reason: self.cause.reason(),
            evidence: self.inputs(),
            retry_after_ms: self.evidence.open_ms,
        }
    }

    /// The decision record about it; `origin` is where the rules were written.
    #[must_use]
    pub fn record(&self, origin: Option<String>) -> DecisionRecord {
        let action = match self.to {
            CircuitState::Open | CircuitState::HalfOpen => NextKind::Trial,
            CircuitState::Closed | CircuitState::ForcedOpen | CircuitState::ForcedClosed => {
                NextKind::None
            }
        };
        let open_for_ms = Some(millis(self.evidence.config.open_for));
        DecisionRecord {
            reason: self.cause.reason(),
            inputs: self.inputs(),
            rule: Rule { open_for_ms, origin, ..Rule::default() },
            cause: None,
            next: NextAction { action, in_ms: self.evidence.open_ms.unwrap_or(0) },
        }
    }

    /// The numbers it was decided on and the rules they were held against.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        let evidence = &self.evidence;
        let mut inputs = rules(&evidence.config).with("generation", self.generation);
        if let Some(counts) = evidence.counts {
            inputs = inputs
                .with("calls", counts.calls)
                .with("errors", counts.errors)
                .with("slow", counts.slow)
                .with("consecutive_failures", counts.consecutive);
        }
        if self.from == CircuitState::HalfOpen {
            inputs = inputs
                .with("probes_under_way", evidence.probes_under_way)
                .with("successes", evidence.successes);
        }
        if let Some(open_ms) = evidence.open_ms {
            inputs = inputs
                .with("open_ms", open_ms)
                .with("openings", evidence.openings)
                .with("jitter_draw", evidence.fraction);
        }
        if let Some(wish) = evidence.retry_after_ms {
            inputs = inputs.with("retry_after_ms", wish);
        }
        inputs
    }
}

fn rules(config: &BreakerConfig) -> Inputs {
    let mut inputs = Inputs::default()
        .with("request_volume", config.volume())
        .with("open_for_ms", millis(config.open_for))
        .with("open_max_ms", millis(config.open_max))
        .with("open_factor", config.open_factor)
        .with("jitter", config.jitter)
        .with("half_open_probes", config.half_open_probes)
        .with("success_threshold", config.success_threshold);
    inputs = match config.window {
        Window::Time(window) => inputs.with("window_ms", millis(window)),
        Window::Calls(calls) => inputs.with("window_calls", calls),
    };
    if let Some(threshold) = config.failure_threshold {
        inputs = inputs.with("failure_threshold", threshold);
    }
    if let Some(percent) = config.error_percent {
        inputs = inputs.with("error_percent", percent);
    }
    if let Some(percent) = config.slow_percent {
        inputs = inputs.with("slow_percent", percent);
    }
    if let Some(limit) = config.slow_call {
        inputs = inputs.with("slow_call_ms", millis(limit));
    }
    if let Some(timeout) = config.half_open_timeout {
        inputs = inputs.with("half_open_timeout_ms", millis(timeout));
    }
    inputs
}
