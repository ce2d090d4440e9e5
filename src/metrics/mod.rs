//! Every metric that provost has: names, labels and units stand here and nowhere else.
//!
//! Not for the exporter: these functions go through the `metrics` facade, and cost next to nothing
//! while no recorder is installed. Names are `provost_<thing>_<unit>[_total]`. Ids of agents and
//! tasks, subjects and texts of errors are never labels; names of children and types of tasks are,
//! up to [`LABELS_MAX`] of each, and all others together are `_other`.

#![expect(clippy::disallowed_macros, reason = "this is the file that owns names and labels")]

mod children;
mod labels;
mod work;

pub use crate::metrics::children::told;
pub use crate::metrics::labels::{LABELS_MAX, OTHER};
pub use crate::metrics::work::{
    AttemptEnd, Delivery, alert_delivered, alerts_firing, alerts_refused, attempt_ended,
    attempt_took, insight_skipped, insight_unwatched, looked, pattern, patterns_forgotten,
    spans_dropped, task_finished,
};

use std::time::Duration;

use ::metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

const EVENTS_PUBLISHED: &str = "provost_events_published_total";
const EVENTS_DROPPED: &str = "provost_events_dropped_total";
const OUTBOX_EVENTS: &str = "provost_outbox_events";
const OUTBOX_BYTES: &str = "provost_outbox_bytes";
const OUTBOX_RETRIES: &str = "provost_outbox_retries_total";
const OUTBOX_PUBLISH_SECONDS: &str = "provost_outbox_publish_seconds";
const OUTBOX_SPOOL_BYTES: &str = "provost_outbox_spool_bytes";
const OUTBOX_SPOOL_WRITABLE: &str = "provost_outbox_spool_writable";
const OUTBOX_SPOOL_FAULTS: &str = "provost_outbox_spool_faults_total";
const OUTBOX_FOUND_STORED: &str = "provost_outbox_found_stored_total";
const AGENTS: &str = "provost_agents";
const DOWNSTREAM_CALLS: &str = "provost_downstream_calls_total";

/// All names. Those that end in `_seconds` are histograms, with `_bucket`, `_sum` and `_count`.
pub const NAMES: [&str; 36] = [
    EVENTS_PUBLISHED,
    EVENTS_DROPPED,
    OUTBOX_EVENTS,
    OUTBOX_BYTES,
    OUTBOX_RETRIES,
    OUTBOX_PUBLISH_SECONDS,
    OUTBOX_SPOOL_BYTES,
    OUTBOX_SPOOL_WRITABLE,
    OUTBOX_SPOOL_FAULTS,
    OUTBOX_FOUND_STORED,
    AGENTS,
    DOWNSTREAM_CALLS,
    children::AGENT_UP,
    children::AGENT_RESTARTS,
    children::AGENT_CPU,
    children::AGENT_MEMORY,
    children::AGENT_FILES,
    children::FAILURES,
    children::RECOVERIES,
    children::RECOVERY_SECONDS,
    children::BREAKER_STATE,
    children::BREAKER_TRANSITIONS,
    work::BUILD_INFO,
    work::BUS_CONNECTED,
    work::TASKS,
    work::TASKS_FINISHED,
    work::TASK_ATTEMPTS,
    work::TASK_RUN_SECONDS,
    work::PATTERNS,
    work::PATTERNS_ACTIVE,
    work::ALERTS_FIRING,
    work::ALERTS_REFUSED,
    work::ALERT_DELIVERIES,
    work::SPANS_DROPPED,
    work::INSIGHT_SKIPPED,
    work::INSIGHT_UNWATCHED,
];

/// Upper bounds of the buckets of all histograms, in seconds.
pub const BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0];

/// Class of a dropped event, the label `class` of `provost_events_dropped_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventClass {
    /// Health events, the first to go.
    Health,
    /// All others.
    Other,
}

impl EventClass {
    fn label(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Other => "other",
        }
    }
}

/// Why an event was published again, the label `reason` of `provost_outbox_retries_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryReason {
    /// No acknowledgement came in time.
    Timeout,
    /// The connection went away before the acknowledgement.
    Disconnected,
    /// The server refused for a reason that may pass.
    Refused,
}

impl RetryReason {
    fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
        }
    }
}

/// Gives the installed recorder the help texts and units; call once, after installing it.
pub fn describe() {
    describe_counter!(EVENTS_PUBLISHED, Unit::Count, "Events acknowledged by the server.");
    describe_counter!(
        EVENTS_DROPPED,
        Unit::Count,
        "Events given up, by class; each is told by a gap event."
    );
    describe_counter!(
        DOWNSTREAM_CALLS,
        Unit::Count,
        "Calls of downstreams by their end: live, cache, fallback, or the kind of error."
    );
    describe_gauge!(AGENTS, Unit::Count, "Agents, by state.");
    describe_gauge!(OUTBOX_EVENTS, Unit::Count, "Events waiting for their acknowledgement.");
    describe_gauge!(OUTBOX_BYTES, Unit::Bytes, "Size of the events that wait.");
    describe_counter!(OUTBOX_RETRIES, Unit::Count, "Publishes that had to be repeated, by reason.");
    describe_histogram!(
        OUTBOX_PUBLISH_SECONDS,
        Unit::Seconds,
        "Time from a publish to its acknowledgement."
    );
    describe_gauge!(OUTBOX_SPOOL_BYTES, Unit::Bytes, "Length of the spool file.");
    describe_gauge!(
        OUTBOX_SPOOL_WRITABLE,
        Unit::Count,
        "1 while the spool file takes events, 0 while they are kept in memory only."
    );
    describe_counter!(OUTBOX_SPOOL_FAULTS, Unit::Count, "Failed writes of the spool file.");
    describe_counter!(
        OUTBOX_FOUND_STORED,
        Unit::Count,
        "Events of unknown outcome that were found stored and not published again."
    );
    children::describe();
    work::describe();
    begin();
}

/// Begins counters that are looked for before anything has happened.
fn begin() {
    counter!(EVENTS_PUBLISHED).absolute(0);
    work::begin();
    insight_unwatched(0);
    alerts_refused(0);
    patterns_forgotten();
}

/// Sets how many agents are in a state; `state` is a word of `AgentState`.
pub fn agents(state: &'static str, count: u32) {
    gauge!(AGENTS, "state" => state).set(count);
}

/// Counts a call of a downstream; `outcome` is a word of `CallSource` or `CallErrorKind`.
pub fn downstream_called(outcome: &'static str) {
    counter!(DOWNSTREAM_CALLS, "outcome" => outcome).increment(1);
}

/// Counts an event that the server acknowledged, and the time that took.
pub fn event_published(latency: Duration) {
    counter!(EVENTS_PUBLISHED).increment(1);
    histogram!(OUTBOX_PUBLISH_SECONDS).record(latency.as_secs_f64());
}

/// Counts an event of unknown outcome that the server turned out to have.
pub fn event_found_stored() {
    counter!(EVENTS_PUBLISHED).increment(1);
    counter!(OUTBOX_FOUND_STORED).increment(1);
}

/// Counts events that were given up.
pub fn events_dropped(class: EventClass, count: u64) {
    if 0 < count {
        counter!(EVENTS_DROPPED, "class" => class.label()).increment(count);
    }
}

/// Sets how much waits in the outbox.
pub fn outbox_waiting(events: u64, bytes: u64) {
    gauge!(OUTBOX_EVENTS).set(lossy(events));
    gauge!(OUTBOX_BYTES).set(lossy(bytes));
}

/// Counts a publish that has to be repeated.
pub fn publish_retried(reason: RetryReason) {
    counter!(OUTBOX_RETRIES, "reason" => reason.label()).increment(1);
}

/// Sets the length of the spool file, which takes writes.
pub fn spool_written(bytes: u64) {
    gauge!(OUTBOX_SPOOL_BYTES).set(lossy(bytes));
    gauge!(OUTBOX_SPOOL_WRITABLE).set(1.0);
}

/// Counts a failed write of the spool file.
pub fn spool_failed() {
    counter!(OUTBOX_SPOOL_FAULTS).increment(1);
    gauge!(OUTBOX_SPOOL_WRITABLE).set(0.0);
}

/// Gauges are floats; counts and sizes stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "no exact value is needed above 2^53")]
fn lossy(value: u64) -> f64 {
    value as f64
}
