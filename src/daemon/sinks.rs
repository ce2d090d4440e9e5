//! Event sinks around the outbox: one that shows events to an observer, one that lets only agents'
//! own events pass.

use std::sync::Arc;

use crate::daemon::Observer;
use crate::ports::{EventDraft, EventSink, WallClock};
use crate::protocol::command::OutboxStatus;
use crate::protocol::fact::Category;
use crate::protocol::id::EventId;
use crate::transport::outbox::OutboxSettings;
use crate::transport::outbox::envelope::Identity;

/// Shows every event to an observer.
#[derive(Debug)]
pub struct Observed {
    inner: Arc<dyn EventSink>,
    observer: Observer,
    identity: Identity,
    clock: Arc<dyn WallClock>,
}

impl Observed {
    /// Wraps a sink; the outbox's own settings make the envelope.
    #[must_use]
    pub fn new(
        inner: Arc<dyn EventSink>,
        observer: Observer,
        settings: &OutboxSettings,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let identity = Identity {
            node: settings.node.clone(),
            name: settings.name.clone(),
            environment: settings.environment.clone(),
            region: settings.region.clone(),
        };
        Self { inner, observer, identity, clock }
    }
}

impl EventSink for Observed {
    fn emit(&self, draft: EventDraft) -> EventId {
        let id = self.inner.emit(draft.clone());
        if let Ok(envelope) = self.identity.envelope(&draft, id, self.clock.now()) {
            self.observer.see(&envelope);
        }
        id
    }

    fn status(&self) -> OutboxStatus {
        self.inner.status()
    }
}

/// Lets only agents' own events pass: what remains when supervision is switched off.
#[derive(Debug)]
pub struct AgentsOnly {
    inner: Arc<dyn EventSink>,
}

impl AgentsOnly {
    /// Wraps a sink.
    #[must_use]
    pub fn new(inner: Arc<dyn EventSink>) -> Self {
        Self { inner }
    }
}

impl EventSink for AgentsOnly {
    fn emit(&self, mut draft: EventDraft) -> EventId {
        let untold = Some(EventId::new(uuid::Uuid::nil()));
        draft.causation = draft.causation.filter(|_| draft.causation != untold);
        draft.correlation = draft.correlation.filter(|_| draft.correlation != untold);
        match draft.fact.category() {
            Category::Agent | Category::System => self.inner.emit(draft),
            Category::Supervision | Category::Coordination | Category::Downstream => {
                // Nobody is told, so the identity stands for nothing.
                EventId::new(uuid::Uuid::nil())
            }
        }
    }

    fn status(&self) -> OutboxStatus {
        self.inner.status()
    }
}
