//! Decision records of the supervisor machine: reason, numbers, rule, next.
//!
//! Rule and numbers are given so that somebody who knows the rules arrives at the same decision.
//! Durations are whole milliseconds, rounded to the nearest.

use std::time::Duration;

use crate::logic::circuit::{Circuit, Opening};
use crate::logic::intensity::Tally;
use crate::logic::restart::child::Place;
use crate::logic::restart::machine::Supervisor;
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use crate::protocol::exit::{ChildExit, Judged, StartError};
use crate::protocol::spec::{BackoffSpec, Jitter, Limit};

/// Milliseconds of a duration, rounded.
pub(super) fn ms(duration: Duration) -> u64 {
    let rounded = duration.saturating_add(Duration::from_micros(500)).as_millis();
    u64::try_from(rounded).unwrap_or(u64::MAX)
}

pub(super) fn next(action: NextKind, delay: Duration) -> NextAction {
    NextAction { action, in_ms: ms(delay) }
}

pub(super) fn at_once(action: NextKind) -> NextAction {
    next(action, Duration::ZERO)
}

impl Supervisor {
    /// A record about one child, with the child's own limit as its rule where it has one.
    pub(super) fn record(
        &self,
        place: Place,
        reason: Reason,
        inputs: Inputs,
        next: NextAction,
    ) -> DecisionRecord {
        let child = self.children.get(&place);
        let circuit = child.and_then(|child| child.circuit.as_deref()).map(Circuit::spec);
        let limit = circuit.map(|circuit| circuit.limit).or(self.spec.limit);
        let origin = child.and_then(|child| child.spec.origin.clone());
        let rule = Rule {
            strategy: Some(self.spec.strategy),
            distribution: None,
            restart: child.map(|child| child.spec.restart),
            intensity: limit.map(|limit| limit.intensity),
            period_ms: limit.map(|limit| ms(limit.period)),
            on_exceeded: circuit.map(|circuit| circuit.on_exceeded),
            open_for_ms: circuit.map(|circuit| ms(circuit.open_for)),
            stable_after_ms: circuit.map(|circuit| ms(circuit.stable_after)),
            origin: origin.or_else(|| self.spec.origin.clone()),
            exit_rule: None,
        };
        DecisionRecord { reason, inputs, rule, cause: None, next }
    }

    /// A record about the supervisor, with its own limit as its rule.
    pub(super) fn own_record(
        &self,
        place: Place,
        reason: Reason,
        inputs: Inputs,
        next: NextAction,
    ) -> DecisionRecord {
        let mut record = self.record(place, reason, inputs, next);
        record.rule.intensity = self.spec.limit.map(|limit| limit.intensity);
        record.rule.period_ms = self.spec.limit.map(|limit| ms(limit.period));
        record.rule.origin = self.spec.origin.clone();
        record
    }

    /// The supervisor's count, next to its limit.
    pub(super) fn with_own_count(&self, inputs: Inputs, tally: Tally) -> Inputs {
        let Some(limit) = self.spec.limit else { return inputs };
        inputs
            .with("supervisor_restarts_in_window", tally.in_window)
            .with("supervisor_intensity", limit.intensity)
            .with("supervisor_period_ms", ms(limit.period))
    }
}

/// How a run ended, and what a rule made of that.
pub(super) fn exit_inputs(exit: &ChildExit) -> Inputs {
    let codes = exit.code_and_signal();
    let mut inputs =
        Inputs::default().with("exit", exit.bare().to_string()).with("clean", exit.is_clean());
    if let Some(code) = codes.code {
        inputs = inputs.with("exit_code", f64::from(code));
    }
    if let Some(signal) = codes.signal {
        inputs = inputs.with("exit_signal", f64::from(signal));
    }
    if let Some(judged) = exit.judged() {
        inputs = inputs
            .with("exit_class", judged.class.as_str())
            .with("exit_action", judged.action.as_str())
            .with("exit_because", judged.reason.as_str());
    }
    inputs
}

/// Names the rule about ends that a decision followed, if one did.
pub(super) fn under_rule(mut record: DecisionRecord, exit: &ChildExit) -> DecisionRecord {
    let origin = |judged: &Judged| judged.rule.clone().unwrap_or_else(|| "built in".to_owned());
    record.rule.exit_rule = exit.judged().map(origin);
    record
}

/// Why a start failed.
pub(super) fn error_inputs(error: &StartError) -> Inputs {
    Inputs::default().with("error", error.to_string())
}

/// The child's count, next to its limit.
pub(super) fn count_inputs(inputs: Inputs, limit: Limit, tally: Tally) -> Inputs {
    inputs
        .with("restarts_in_window", tally.in_window)
        .with("intensity", limit.intensity)
        .with("period_ms", ms(limit.period))
}

/// How a delay came about.
pub(super) fn delay_inputs(
    inputs: Inputs,
    spec: &BackoffSpec,
    failures: u32,
    (delay, fraction): (Duration, f64),
) -> Inputs {
    let inputs = inputs.with("consecutive_failures", failures).with("delay_ms", ms(delay));
    if spec.initial.is_zero() {
        return inputs;
    }
    let jitter = match spec.jitter {
        Jitter::Full => "full",
        Jitter::Equal => "equal",
        Jitter::None => "none",
    };
    inputs
        .with("backoff_jitter", jitter)
        .with("backoff_initial_ms", ms(spec.initial))
        .with("backoff_factor", spec.factor)
        .with("backoff_max_ms", ms(spec.max))
        .with("jitter", fraction)
}

/// How an open time came about.
pub(super) fn opening_inputs(inputs: Inputs, circuit: &Circuit, opening: Opening) -> Inputs {
    inputs
        .with("open_ms", ms(opening.open_for))
        .with("openings", opening.openings)
        .with("open_factor", circuit.spec().open_factor)
        .with("open_max_ms", ms(circuit.spec().open_max))
        .with("jitter", opening.fraction)
}
