//! Metrics of tasks, of insight, and of the daemon itself.

#![expect(clippy::disallowed_macros, reason = "src/metrics owns names and labels")]

use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use ::metrics::{gauge, histogram};

use crate::metrics::labels::TASK_TYPES;
use crate::metrics::lossy;
use crate::protocol::command::{NatsStatus, TasksStatus};
use crate::protocol::fact::Severity;
use crate::protocol::insight::{PatternKind, PatternState};

pub(super) const BUILD_INFO: &str = "provost_build_info";
pub(super) const BUS_CONNECTED: &str = "provost_bus_connected";
pub(super) const TASKS: &str = "provost_tasks";
pub(super) const TASKS_FINISHED: &str = "provost_tasks_finished_total";
pub(super) const TASK_ATTEMPTS: &str = "provost_task_attempts_total";
pub(super) const TASK_RUN_SECONDS: &str = "provost_task_run_seconds";
pub(super) const PATTERNS: &str = "provost_patterns_total";
pub(super) const PATTERNS_ACTIVE: &str = "provost_patterns_active";
pub(super) const ALERTS_FIRING: &str = "provost_alerts_firing";
pub(super) const ALERTS_REFUSED: &str = "provost_alerts_refused_total";
pub(super) const ALERT_DELIVERIES: &str = "provost_alert_deliveries_total";
pub(super) const SPANS_DROPPED: &str = "provost_spans_dropped_total";
pub(super) const INSIGHT_SKIPPED: &str = "provost_insight_skipped_total";
pub(super) const INSIGHT_UNWATCHED: &str = "provost_insight_unwatched_total";

/// What became of an alert on its way to a receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// It was taken.
    Done,
    /// All attempts failed.
    Failed,
    /// Too many were waiting.
    Dropped,
}

/// How an attempt of a task ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttemptEnd {
    /// Its agent did it.
    Completed,
    /// Its agent failed it.
    Failed,
    /// It was given out again, for whatever reason.
    Requeued,
}

pub(super) fn describe() {
    describe_gauge!(BUILD_INFO, Unit::Count, "Always 1; the version is a label.");
    describe_gauge!(BUS_CONNECTED, Unit::Count, "1 while NATS is connected.");
    describe_gauge!(TASKS, Unit::Count, "Tasks that have not ended: ready, delayed, held.");
    describe_counter!(TASKS_FINISHED, Unit::Count, "Tasks that ended, by type and last state.");
    describe_counter!(TASK_ATTEMPTS, Unit::Count, "Attempts that ended, by how.");
    describe_histogram!(TASK_RUN_SECONDS, Unit::Seconds, "Time of attempts, by type of task.");
    describe_counter!(PATTERNS, Unit::Count, "Patterns that were recognized, by kind.");
    describe_gauge!(PATTERNS_ACTIVE, Unit::Count, "Patterns that are not over, by kind.");
    describe_gauge!(ALERTS_FIRING, Unit::Count, "Alerts that fire, by severity.");
    describe_counter!(ALERTS_REFUSED, Unit::Count, "Alerts that were not made: too many stand.");
    describe_counter!(ALERT_DELIVERIES, Unit::Count, "Alerts handed to receivers, by outcome.");
    describe_counter!(SPANS_DROPPED, Unit::Count, "Spans that no collector took.");
    describe_counter!(
        INSIGHT_SKIPPED,
        Unit::Count,
        "Events that the detectors did not look at because too many waited."
    );
    describe_counter!(
        INSIGHT_UNWATCHED,
        Unit::Count,
        "Events about children, tags or agents beyond the detectors' bounds."
    );
}

/// Begins counters that are looked for before anything has happened.
pub(super) fn begin() {
    counter!(INSIGHT_SKIPPED).absolute(0);
}

/// Sets what is known when somebody looks.
pub fn looked(nats: &NatsStatus, tasks: &TasksStatus) {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let is_connected = nats.state == "connected";
    gauge!(BUS_CONNECTED).set(if is_connected { 1.0 } else { 0.0 });
    for (state, count) in [("ready", tasks.ready), ("delayed", tasks.delayed), ("held", tasks.held)]
    {
        gauge!(TASKS, "state" => state).set(lossy(count));
    }
}

/// Counts a task that ended; `state` is a word of `TaskState`.
pub fn task_finished(task_type: &str, state: &'static str) {
    counter!(TASKS_FINISHED, "type" => TASK_TYPES.label(task_type), "outcome" => state)
        .increment(1);
}

/// Counts an attempt that ended.
pub fn attempt_ended(end: AttemptEnd) {
    let outcome = match end {
        AttemptEnd::Completed => "completed",
        AttemptEnd::Failed => "failed",
        AttemptEnd::Requeued => "requeued",
    };
    counter!(TASK_ATTEMPTS, "outcome" => outcome).increment(1);
}

/// Notes how long an attempt took.
pub fn attempt_took(task_type: &str, took: Duration) {
    histogram!(TASK_RUN_SECONDS, "type" => TASK_TYPES.label(task_type)).record(took.as_secs_f64());
}

/// Counts a pattern that begins or is over.
pub fn pattern(kind: PatternKind, state: PatternState) {
    let active = gauge!(PATTERNS_ACTIVE, "kind" => kind.as_str());
    match state {
        PatternState::Began => {
            counter!(PATTERNS, "kind" => kind.as_str()).increment(1);
            active.increment(1.0);
        }
        PatternState::Ended => active.decrement(1.0),
    }
}

/// Begins to count patterns from none.
pub fn patterns_forgotten() {
    for kind in PatternKind::ALL {
        gauge!(PATTERNS_ACTIVE, "kind" => kind.as_str()).set(0.0);
    }
}

/// Sets how many alerts of a severity fire.
pub fn alerts_firing(severity: Severity, count: u64) {
    gauge!(ALERTS_FIRING, "severity" => severity.as_str()).set(lossy(count));
}

/// Sets how many alerts were not made.
pub fn alerts_refused(count: u64) {
    counter!(ALERTS_REFUSED).absolute(count);
}

/// Counts an alert on its way to a receiver.
pub fn alert_delivered(delivery: Delivery) {
    let outcome = match delivery {
        Delivery::Done => "done",
        Delivery::Failed => "failed",
        Delivery::Dropped => "dropped",
    };
    counter!(ALERT_DELIVERIES, "outcome" => outcome).increment(1);
}

/// Counts spans that no collector took.
pub fn spans_dropped(count: u64) {
    counter!(SPANS_DROPPED).increment(count);
}

/// Counts an event that the detectors did not look at.
pub fn insight_skipped() {
    counter!(INSIGHT_SKIPPED).increment(1);
}

/// Sets how many events were about things beyond the detectors' bounds.
pub fn insight_unwatched(count: u64) {
    counter!(INSIGHT_UNWATCHED).absolute(count);
}
