//! The event outbox: events go in without waiting and come out at NATS, in order, once.
//!
//! [`OutboxHandle::emit`](crate::ports::EventSink::emit) puts an event into a bounded queue and
//! returns. A writer thread appends it to the spool file in the state folder. The service
//! ([`OutboxService`], a child of the tree) publishes it and waits for the acknowledgement before
//! it touches the next: one at a time, because the client keeps its command queue but loses its
//! write buffer on a reconnect, so that anything sent ahead could overtake. The handle, the writer
//! and the service share the state; a restarted service goes on where the last one was.
//!
//! # What holds
//!
//! * Order: the stream has the events in the order of `emit`.
//! * Nothing twice: an event carries `Nats-Msg-Id`, and one whose outcome is unknown (the
//!   connection broke, no answer came, or the daemon died) is looked for in the stream, as the last
//!   event of its subject, before it is published again. So the window of the server's own
//!   de-duplication does not matter, as long as nobody else publishes on that subject.
//! * Nothing lost that reached the spool: what was not acknowledged is published by the next life.
//!   A SIGKILL loses what was emitted last and the writer thread had not taken yet: microseconds on
//!   an idle machine, a scheduling delay (tens of milliseconds) on an overloaded one. Who must know
//!   waits for [`OutboxHandle::spooled`]. A power cut loses besides what the system had not
//!   written, unless [`Durability::PowerCut`] is chosen.
//! * An event is published only when it is in the spool, unless the spool cannot be written.
//!
//! # When it is full
//!
//! Queue and spool have one bound, in events and in bytes. Beyond it the oldest health event goes;
//! if there is none, the oldest other one. An event that is larger than the whole bound goes
//! itself. The one that is being published never goes. Drops are counted, and told by a `gap` event
//! (count, of those health events, since when) in the place of the first dropped event. Drops that
//! happen before that gap event is being published join it; later ones make the next. Gap events
//! are not counted against the bound and are never dropped.
//!
//! # When the server refuses
//!
//! What can heal is tried again with backoff, and everything behind it waits: no stream for the
//! subject, a stream or a disk that is full. A health event gives way after the publish timeout, so
//! that it holds up nothing that matters more. What cannot heal, an event larger than the server's
//! limit, is dropped, counted and told by a gap event.
//!
//! # Core mode
//!
//! Without JetStream there is no acknowledgement: an event counts as delivered when it was written
//! to a connection that still stood afterwards. Order, bound, spool and gap events are the same; an
//! event may be seen twice or, when the server dies with it, not at all.

mod entry;
pub(crate) mod envelope;
mod link;
mod publish;
mod queue;
mod record;
mod spool;
mod writer;

pub use crate::transport::outbox::spool::{SPOOL_FOLDER, waiting_in};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::{self, EventClass};
use crate::ports::{EventDraft, EventSink, Ids, WallClock};
use crate::protocol::command::OutboxStatus;
use crate::protocol::id::{ChildName, EventId, NodeName};
use crate::protocol::subject::SubjectPrefix;
use crate::transport::outbox::envelope::Identity;
pub use crate::transport::outbox::publish::OutboxService;
use crate::transport::outbox::queue::{Bounds, Dropped, Queue};
use crate::transport::outbox::spool::{Spool, Sync};
use crate::transport::outbox::writer::{Shared, WriterThread};

/// How events are published.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PublishMode {
    /// To streams, each event acknowledged.
    #[default]
    JetStream,
    /// Over core NATS, for a server without JetStream.
    Core,
}

/// What the spool file survives.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// The death of the daemon.
    #[default]
    ProcessDeath,
    /// A power cut too: each write is flushed to the disk, which takes milliseconds.
    PowerCut,
}

/// Settings of an outbox.
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    /// Folder of the spool file; made if it is missing, used by one process at a time.
    pub spool_dir: PathBuf,
    /// Most events that wait; at least 1.
    pub bound_events: u64,
    /// Most bytes that wait; at least 64 KiB.
    pub bound_bytes: u64,
    /// Longest wait for an acknowledgement.
    pub publish_timeout: Duration,
    /// First pause before a publish is repeated; it doubles, with jitter.
    pub retry_initial: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// Longest time that a service which is asked to stop goes on publishing.
    pub drain: Duration,
    /// How events are published.
    pub mode: PublishMode,
    /// What the spool file survives.
    pub durability: Durability,
    /// Subject prefix.
    pub prefix: SubjectPrefix,
    /// Node in the source of every event.
    pub node: NodeName,
    /// The outbox's own name in the tree, source of its gap events.
    pub name: ChildName,
    /// Attribute `environment` of every event.
    pub environment: Option<String>,
    /// Attribute `region` of every event.
    pub region: Option<String>,
}

impl OutboxSettings {
    /// The defaults.
    #[must_use]
    pub fn new(spool_dir: impl Into<PathBuf>, node: NodeName, name: ChildName) -> Self {
        Self {
            spool_dir: spool_dir.into(),
            bound_events: 10_000,
            bound_bytes: 64 << 20,
            publish_timeout: Duration::from_secs(5),
            retry_initial: Duration::from_millis(100),
            retry_max: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            mode: PublishMode::default(),
            durability: Durability::default(),
            prefix: SubjectPrefix::default(),
            node,
            name,
            environment: None,
            region: None,
        }
    }

    fn check(&self) -> Result<(), OutboxError> {
        let durations = [
            ("publish_timeout", self.publish_timeout),
            ("retry_initial", self.retry_initial),
            ("retry_max", self.retry_max),
        ];
        if let Some((key, _)) = durations.into_iter().find(|(_, value)| value.is_zero()) {
            return Err(OutboxError::Setting { key, found: 0, least: 1 });
        }
        if self.bound_events < EVENTS_LEAST {
            let (found, least) = (self.bound_events, EVENTS_LEAST);
            return Err(OutboxError::Setting { key: "bound_events", found, least });
        }
        if self.bound_bytes < BYTES_LEAST {
            let (found, least) = (self.bound_bytes, BYTES_LEAST);
            return Err(OutboxError::Setting { key: "bound_bytes", found, least });
        }
        Ok(())
    }
}

/// Least bound in events.
const EVENTS_LEAST: u64 = 1;

/// Least bound in bytes: room for a few events at least.
const BYTES_LEAST: u64 = 64 << 10;

/// Why an outbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A setting is too small.
    #[error("outbox setting {key} is {found}; it must be at least {least}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// Its value.
        found: u64,
        /// Least value.
        least: u64,
    },
    /// Another process uses the folder.
    #[error(
        "spool folder {} is in use by another process; stop it, or choose another state_dir",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The spool file was written by another version of provost.
    #[error(
        "spool file {} has version {found}; this provost reads version {}: start the provost that \
         wrote it until its events are published, or move the file away",
        path.display(),
        record::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// The folder cannot be used.
    #[error("cannot use {} for the event spool; check its owner and permissions", path.display())]
    Io {
        /// Path that was to be made, opened or read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The writer thread cannot be started.
    #[error("cannot start the thread that writes the event spool; check the limit on threads")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Some events were still waiting at the deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{waiting} events still wait after {waited_ms} ms; they stay in the outbox")]
pub struct FlushError {
    /// How many.
    pub waiting: u64,
    /// How long they were waited for.
    pub waited_ms: u64,
}

/// Opens outboxes.
#[derive(Debug)]
pub struct Outbox;

impl Outbox {
    /// Opens the spool, takes up what an earlier life left, and starts the writer.
    ///
    /// `clients` holds the present connection, or none; the outbox follows it when it changes.
    ///
    /// # Errors
    ///
    /// [`OutboxError`] says what is wrong with the settings or the folder. A disk that is full is
    /// no error: events are kept in memory until there is room.
    pub fn open(
        settings: OutboxSettings,
        clients: watch::Receiver<Option<async_nats::Client>>,
        ids: Arc<dyn Ids>,
        clock: Arc<dyn WallClock>,
    ) -> Result<(OutboxHandle, OutboxService), OutboxError> {
        settings.check()?;
        let sync = match settings.durability {
            Durability::ProcessDeath => Sync::Lazy,
            Durability::PowerCut => Sync::Always,
        };
        let (spool, scan) = Spool::open(&settings.spool_dir, sync)?;
        tell_damage(&settings.spool_dir, &scan);
        let bounds = Bounds { events: settings.bound_events, bytes: settings.bound_bytes };
        let (queue, dropped) = Queue::new(bounds, scan.recovered, clock.now());
        count_dropped(dropped);
        if 0 < queue.waiting() {
            let events = queue.waiting();
            tracing::info!(events, "events of an earlier life wait in the spool");
        }
        let shared = Arc::new(Shared::new(queue));
        let writer =
            WriterThread::start(&shared, spool).map_err(|source| OutboxError::Thread { source })?;
        let identity = Identity {
            node: settings.node.clone(),
            name: settings.name.clone(),
            environment: settings.environment.clone(),
            region: settings.region.clone(),
        };
        let core = Arc::new(Core { shared, writer, identity, ids, clock });
        let service = OutboxService::new(Arc::clone(&core), settings, clients);
        Ok((OutboxHandle { core }, service))
    }
}

/// What handles and services share.
#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    writer: WriterThread,
    identity: Identity,
    ids: Arc<dyn Ids>,
    clock: Arc<dyn WallClock>,
}

/// Takes events; see the page of this module. Clones are the same outbox. When the last clone and
/// the service are gone the writer writes what is left and ends.
#[derive(Clone, Debug)]
pub struct OutboxHandle {
    core: Arc<Core>,
}

impl OutboxHandle {
    /// Waits until every event emitted before is acknowledged, or dropped and told.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when that takes longer than `deadline`; nothing is lost then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        let last = self.core.shared.lock().queue.last_seq();
        self.wait(deadline, |queue| queue.is_settled(last)).await
    }

    /// Waits until every event emitted before is in the spool file, or settled: from then on it
    /// survives a SIGKILL.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when that takes longer than `deadline`, as it does while the file cannot be
    /// written.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub async fn spooled(&self, deadline: Duration) -> Result<(), FlushError> {
        let last = self.core.shared.lock().queue.last_seq();
        self.wait(deadline, |queue| queue.is_spooled(last)).await
    }

    async fn wait(
        &self,
        deadline: Duration,
        holds: impl Fn(&Queue) -> bool,
    ) -> Result<(), FlushError> {
        let shared = &self.core.shared;
        let done = wait_until(shared, || holds(&shared.lock().queue));
        match tokio::time::timeout(deadline, done).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(FlushError {
                waiting: shared.lock().queue.waiting(),
                waited_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Why the spool file takes no events at present, so that they are in memory only.
    #[must_use]
    pub fn spool_fault(&self) -> Option<String> {
        self.core.shared.lock().spool_fault.clone()
    }
}

impl EventSink for OutboxHandle {
    fn emit(&self, draft: EventDraft) -> EventId {
        let core = &self.core;
        let id = core.ids.event_id();
        let now = core.clock.now();
        let sealed = match core.identity.seal(&draft, id, now) {
            Ok(sealed) => sealed,
            Err(error) => {
                metrics::events_dropped(EventClass::Other, 1);
                tracing::error!(%error, event.id = %id, "an event cannot be written as JSON");
                return id;
            }
        };
        let dropped = {
            let mut state = core.shared.lock();
            let dropped = state.queue.push(sealed, now);
            if state.spool_fault.is_some() {
                core.shared.to_publish.notify_one();
            }
            dropped
        };
        core.shared.wake_writer();
        count_dropped(dropped);
        id
    }

    fn status(&self) -> OutboxStatus {
        let state = self.core.shared.lock();
        OutboxStatus {
            waiting: state.queue.waiting(),
            acknowledged: state.queue.acknowledged(),
            dropped: state.queue.dropped(),
            bound_events: state.queue.bounds().events,
            bytes: state.queue.bytes(),
            bound_bytes: state.queue.bounds().bytes,
            memory_only: state.spool_fault.is_some(),
        }
    }
}

fn count_dropped(dropped: Dropped) {
    metrics::events_dropped(EventClass::Health, dropped.health);
    metrics::events_dropped(EventClass::Other, dropped.other);
}

fn tell_damage(folder: &std::path::Path, scan: &record::Scan) {
    let folder = folder.display();
    if 0 < scan.torn_bytes {
        let bytes = scan.torn_bytes;
        tracing::warn!(%folder, bytes, "the spool's last record was torn and is skipped");
    }
    if 0 < scan.damaged_bytes {
        let (bytes, events) = (scan.damaged_bytes, scan.recovered.lost.map_or(0, |lost| lost.1));
        tracing::error!(%folder, bytes, events, "the spool was damaged; a gap event tells of it");
    }
}

/// Waits until a condition holds that only progress of the outbox can make true.
async fn wait_until(shared: &Shared, holds: impl Fn() -> bool) {
    loop {
        // Registered before the condition is looked at, so that no progress is missed.
        let progress = shared.progress.notified();
        tokio::pin!(progress);
        progress.as_mut().enable();
        if holds() {
            return;
        }
        progress.await;
    }
}

/// Now, for pauses and deadlines.
fn now() -> Instant {
    Instant::now()
}
