//! Tells that the connection to NATS was lost, and that it is back. The first waits in the outbox and is
//! stored with the second, so that an outage of NATS can be explained afterwards.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::ports::{EventDraft, EventSink, EventSource};
use crate::protocol::decision::Inputs;
use crate::protocol::fact::{Fact, Severity, SystemReported};
use crate::protocol::id::{ChildName, EventId, SubjectId};
use crate::transport::connect::Connection;
use crate::transport::link::{ConnectionState, Link};
use crate::transport::slot::ConnectionSlot;

/// Code of the event about a loss.
pub(crate) const LOST: &str = "nats_lost";

/// Code of the event about a return.
pub(crate) const CONNECTED: &str = "nats_connected";

/// Where the connection is at present.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// There was none yet.
    New,
    /// It works.
    Up,
    /// It was lost then, which this event told.
    Away(Instant, EventId),
}

/// Watches the connection.
#[derive(Debug)]
pub(crate) struct ConnectionWatch {
    connections: watch::Receiver<Option<Connection>>,
    link: Option<watch::Receiver<Link>>,
    sink: Arc<dyn EventSink>,
    name: ChildName,
    line: Line,
}

impl ConnectionWatch {
    /// Tells under the name of the part of the daemon that connects.
    pub(crate) fn new(slot: &ConnectionSlot, sink: Arc<dyn EventSink>, name: ChildName) -> Self {
        let mut watch = Self { connections: slot.watch(), link: None, sink, name, line: Line::New };
        watch.look();
        watch
    }

    /// Waits until something about the connection has changed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the receivers remember what was seen last.
    pub(crate) async fn changed(&mut self) {
        let gone = match &mut self.link {
            Some(link) => tokio::select! {
                // Both are cancel safe: a change that was not seen is there at the next call.
                changed = self.connections.changed() => changed.is_err(),
                changed = link.changed() => {
                    if changed.is_err() {
                        self.link = None;
                    }
                    false
                }
            },
            None => self.connections.changed().await.is_err(),
        };
        if gone {
            // Nobody will ever put a connection in again: the daemon ends.
            std::future::pending::<()>().await;
        }
    }

    /// Looks how the connection is, and tells what has changed.
    pub(crate) fn look(&mut self) {
        if self.connections.has_changed().unwrap_or(false) || self.link.is_none() {
            let present = self.connections.borrow_and_update().clone();
            self.link = present.map(|connection| connection.link());
        }
        let link = self.link.as_mut().map(|link| link.borrow_and_update().clone());
        let up = link.as_ref().is_some_and(|link| link.state == ConnectionState::Connected);
        self.line = match (self.line, up) {
            (Line::New, true) => Line::Up,
            (Line::Up, false) => {
                let error = link.as_ref().and_then(|link| link.state.error());
                let details = Inputs::default();
                let details = match error {
                    Some(error) => details.with("error", error),
                    None => details,
                };
                Line::Away(Instant::now(), self.tell(LOST, details, Severity::High, None))
            }
            (Line::Away(since, lost), true) => {
                let away = u64::try_from(since.elapsed().max(Duration::ZERO).as_millis());
                let details = Inputs::default().with("away_ms", away.unwrap_or(u64::MAX));
                self.tell(CONNECTED, details, Severity::Info, Some(lost));
                Line::Up
            }
            (line, _) => line,
        };
    }

    fn tell(
        &self,
        what: &str,
        details: Inputs,
        severity: Severity,
        causation: Option<EventId>,
    ) -> EventId {
        self.sink.emit(EventDraft {
            fact: Fact::System(SystemReported { what: what.to_owned(), details }),
            about: SubjectId::from(&self.name),
            source: EventSource { kind: "daemon", name: self.name.clone() },
            severity,
            correlation: causation,
            causation,
            generation: None,
        })
    }
}
