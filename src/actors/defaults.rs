//! What stands behind the ports when nobody gives anything else: the machine's clock, ids and
//! jitter, runs remembered in memory, events written to the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use crate::actors::tree::{MEASURE_EVERY, TreePorts};
use crate::board::Board;
use crate::ports::{EventDraft, EventSink, Ids, JitterSource, RunLog, WallClock};
use crate::protocol::id::{ChildName, EventId, Generation};

/// Mints UUID v7; those of one process are in the order of their making.
#[derive(Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn uuid(&self) -> uuid::Uuid {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that mints ids")]
        uuid::Uuid::now_v7()
    }
}

/// The machine's wall clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A fast generator, seeded by the operating system; jitter needs no more.
#[derive(Debug, Default)]
pub struct SystemJitter;

impl JitterSource for SystemJitter {
    fn fraction(&self) -> f64 {
        fastrand::f64()
    }
}

/// Remembers runs in memory only.
#[derive(Debug, Default)]
pub struct MemoryRuns(Mutex<HashMap<ChildName, Generation, RandomState>>);

impl RunLog for MemoryRuns {
    fn began(&self, child: &ChildName, generation: Generation) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(child.clone(), generation);
    }

    fn last(&self, child: &ChildName) -> Generation {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(child).copied().unwrap_or_default()
    }
}

/// Writes events to the log, one line each, as JSON.
#[derive(Debug, Default)]
pub struct LogSink;

impl EventSink for LogSink {
    fn emit(&self, draft: EventDraft) -> EventId {
        let data = serde_json::to_string(&draft.fact).unwrap_or_default();
        tracing::info!(about = %draft.about, r#type = draft.fact.type_name(), data, "event");
        SystemIds.event_id()
    }
}

impl TreePorts {
    /// Ports for a tree inside one's own program; `sink` takes its events.
    #[must_use]
    pub fn standalone(sink: Arc<dyn EventSink>) -> Self {
        Self {
            sink,
            clock: Arc::new(SystemClock),
            jitter: Arc::new(SystemJitter),
            runs: Arc::new(MemoryRuns::default()),
            board: Arc::new(Board::default()),
            severities: Arc::new(BTreeMap::new()),
            measure_every: MEASURE_EVERY,
        }
    }
}
