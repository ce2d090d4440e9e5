//! Puts together the transport, which hears beats, and the runtimes, which judge them.

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::protocol::id::{AgentId, SubjectId};
use crate::runtimes::probed::{BeatFeed, Beats, Heartbeat};
use crate::transport::beats::{self, BeatSeen};
use crate::transport::slot::ConnectionSlot;

/// Beats over the daemon's own connection.
#[derive(Clone, Debug)]
pub struct NatsBeats {
    slot: ConnectionSlot,
    outside: Handle,
}

impl NatsBeats {
    /// Listens on whatever connection is in the slot, in tasks on `outside`.
    #[must_use]
    pub fn new(slot: ConnectionSlot, outside: Handle) -> Self {
        Self { slot, outside }
    }
}

impl Beats for NatsBeats {
    fn listen(&self, agent: &AgentId) -> BeatFeed {
        let (put, latest) = watch::channel(Heartbeat::default());
        let listening = listen(self.slot.clone(), SubjectId::from(agent), put);
        // Owned by the feed: it ends when the feed is dropped.
        let task = AbortOnDropHandle::new(self.outside.spawn(listening));
        BeatFeed::new(latest, Some(task))
    }
}

/// Hands the beats that the transport hears on to whoever judges them.
async fn listen(slot: ConnectionSlot, agent: SubjectId, put: watch::Sender<Heartbeat>) {
    let (seen, mut last) = watch::channel(BeatSeen::default());
    let handing_on = async move {
        while last.changed().await.is_ok() {
            let BeatSeen { number, every, ready } = *last.borrow_and_update();
            put.send_replace(Heartbeat { number, every, ready });
        }
    };
    tokio::join!(beats::follow(slot, agent, seen), handing_on);
}
