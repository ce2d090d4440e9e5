//! Watches how fast dead letters come, and tells when they come fast.
//!
//! Counted is what was put into the stream, not what lies there: dropping old ones hides no new ones.
//! Each look back covers one period; the event names how many came and how many are kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ports::{BoxFuture, EventDraft, EventSink, EventSource, Ready, Service, ServiceError};
use crate::protocol::decision::Inputs;
use crate::protocol::fact::{Fact, Severity, SystemReported};
use crate::protocol::id::{ChildName, SubjectId};
use crate::transport::dead_letters::STREAM;
use crate::transport::slot::ConnectionSlot;

/// The code of the event.
pub const GREW: &str = "dead_letters_grew";

/// When dead letters come too fast.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Growth {
    /// So many new ones are told.
    pub letters: u64,
    /// Within this time.
    pub within: Duration,
}

impl Default for Growth {
    fn default() -> Self {
        Self { letters: 10, within: Duration::from_secs(60) }
    }
}

/// Looks at the stream once a period.
#[derive(Clone, Debug)]
pub struct DeadLetterWatch {
    slot: ConnectionSlot,
    sink: Arc<dyn EventSink>,
    name: ChildName,
    growth: Growth,
}

/// The stream's state.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Sequence of the newest.
    last: u64,
    /// How many are kept.
    kept: u64,
}

impl DeadLetterWatch {
    /// A watch that tells under this name.
    #[must_use]
    pub fn new(
        slot: ConnectionSlot,
        sink: Arc<dyn EventSink>,
        name: ChildName,
        growth: Growth,
    ) -> Self {
        Self { slot, sink, name, growth }
    }

    async fn watch(self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        ready.tell();
        let mut before: Option<Seen> = None;
        let mut look = interval(self.growth.within);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // A tick is without state.
                _ = look.tick() => {}
            }
            let seen = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Only a look: nothing is lost.
                seen = self.look() => seen,
            };
            let Some(seen) = seen else { continue };
            let new = before.map_or(0, |before| seen.last.saturating_sub(before.last));
            before = Some(seen);
            if self.growth.letters <= new {
                self.tell(new, seen.kept);
            }
        }
    }

    /// The stream's state; `None` while there is no connection or no stream.
    async fn look(&self) -> Option<Seen> {
        let connection = self.slot.current()?;
        let name = connection.prefix().stream_name(STREAM);
        let stream = connection.jetstream().get_stream(name).await.ok()?;
        let state = &stream.cached_info().state;
        Some(Seen { last: state.last_sequence, kept: state.messages })
    }

    fn tell(&self, new: u64, kept: u64) {
        let within = u64::try_from(self.growth.within.as_millis()).unwrap_or(u64::MAX);
        let details = Inputs::default()
            .with("new", new)
            .with("kept", kept)
            .with("within_ms", within)
            .with("limit", self.growth.letters);
        let what = GREW.to_owned();
        self.sink.emit(EventDraft {
            fact: Fact::System(SystemReported { what, details }),
            about: SubjectId::from(&self.name),
            source: EventSource { kind: "daemon", name: self.name.clone() },
            severity: Severity::High,
            correlation: None,
            causation: None,
            generation: None,
        });
    }
}

impl Service for DeadLetterWatch {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().watch(stop, ready))
    }
}
