//! The service that empties the queue: one event at a time, until its outcome is known.
//!
//! Not for what a server's answer means; see `link`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, RetryReason};
use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::transport::outbox::entry::{Class, Draft, Event};
use crate::transport::outbox::envelope::GapNotice;
use crate::transport::outbox::link::{Link, Outcome, Stored, Unknown};
use crate::transport::outbox::queue::{Turn, What};
use crate::transport::outbox::{Core, OutboxSettings, count_dropped, wait_until};

/// How often a connection that is away is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a stopping service waits for a connection that is away.
const ABSENCE_MAX: Duration = Duration::from_millis(500);

/// How long a stopping service waits for the writer.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// Publishes what the handle takes; a child of the tree. Restarted, it goes on where it was.
#[derive(Debug)]
pub struct OutboxService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    settings: OutboxSettings,
    clients: watch::Receiver<Option<async_nats::Client>>,
    /// One run at a time, or two events would be under way.
    running: Semaphore,
}

impl OutboxService {
    pub(super) fn new(
        core: Arc<Core>,
        settings: OutboxSettings,
        clients: watch::Receiver<Option<async_nats::Client>>,
    ) -> Self {
        let running = Semaphore::new(1);
        Self { inner: Arc::new(Inner { core, settings, clients, running }) }
    }
}

impl Service for OutboxService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.run(stop, ready).await })
    }
}

impl Inner {
    async fn run(&self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        let Ok(_permit) = self.running.acquire().await else {
            return Err(ServiceError::new("the outbox is closed"));
        };
        self.core.writer.ensure().map_err(|error| {
            ServiceError::new(format!("cannot start the thread that writes the spool: {error}"))
        })?;
        // It works as soon as it takes events; NATS may be away.
        ready.tell();
        let mut publisher = Publisher {
            core: &self.core,
            settings: &self.settings,
            clients: self.clients.clone(),
            link: None,
            trouble: None,
        };
        let publishing = publisher.publish_for_ever();
        tokio::pin!(publishing);
        // Dropping the loop loses nothing: the event under way stays the turn, in doubt.
        tokio::select! {
            () = &mut publishing => {}
            () = stop.cancelled() => {}
        }
        let shared = &self.core.shared;
        let empty = || {
            let state = shared.lock();
            state.queue.is_settled(state.queue.last_seq())
        };
        tokio::select! {
            () = &mut publishing => {}
            () = wait_until(shared, empty) => {}
            () = self.connection_stays_away() => {}
            () = tokio::time::sleep(self.settings.drain) => {}
        }
        self.leave_in_spool().await;
        Ok(())
    }

    /// Ends when nothing can be published and what waits is safe in the spool.
    async fn connection_stays_away(&self) {
        let mut away = Duration::ZERO;
        while away < ABSENCE_MAX || self.core.shared.lock().spool_fault.is_some() {
            tokio::time::sleep(LOOK_EVERY).await;
            away = if self.clients.borrow().as_ref().is_some_and(is_connected) {
                Duration::ZERO
            } else {
                away.saturating_add(LOOK_EVERY)
            };
        }
    }

    async fn leave_in_spool(&self) {
        let shared = &self.core.shared;
        let spooled = wait_until(shared, || {
            let state = shared.lock();
            state.is_spooled() || state.spool_fault.is_some()
        });
        let in_time = tokio::time::timeout(WRITE_MAX, spooled).await.is_ok();
        let state = shared.lock();
        let (events, fault) = (state.queue.waiting(), state.spool_fault.clone());
        drop(state);
        if 0 < events && (fault.is_some() || !in_time) {
            tracing::error!(events, ?fault, "events were not published and are not in the spool");
        } else if 0 < events {
            tracing::info!(events, "events stay in the spool until the next start");
        }
    }
}

pub(super) fn is_connected(client: &async_nats::Client) -> bool {
    client.connection_state() == async_nats::connection::State::Connected
}

/// What became of a turn.
enum End {
    Stored,
    Dropped,
}

struct Publisher<'a> {
    core: &'a Core,
    settings: &'a OutboxSettings,
    clients: watch::Receiver<Option<async_nats::Client>>,
    link: Option<Link>,
    /// What was last said to be wrong, so that it is said once.
    trouble: Option<String>,
}

impl Publisher<'_> {
    async fn publish_for_ever(&mut self) {
        loop {
            let turn = self.next_turn().await;
            let Some(event) = self.event_of(&turn) else {
                self.core.shared.acknowledge(turn.seq);
                continue;
            };
            match self.publish(&turn, &event).await {
                End::Stored => {
                    self.core.shared.acknowledge(turn.seq);
                    self.all_is_well();
                }
                End::Dropped => {
                    let now = self.core.clock.now();
                    count_dropped(self.core.shared.lock().queue.refuse(turn.seq, now));
                }
            }
            self.core.shared.progress.notify_waiters();
            let (events, bytes) = {
                let state = self.core.shared.lock();
                (state.queue.waiting(), state.queue.bytes())
            };
            metrics::outbox_waiting(events, bytes);
        }
    }

    async fn next_turn(&self) -> Turn {
        let shared = &self.core.shared;
        loop {
            let (turn, write) = {
                let mut state = shared.lock();
                let gate = state.gate();
                let turn = state.queue.turn(gate, || self.core.ids.event_id());
                (turn, state.queue.has_urgent_marks())
            };
            if write {
                shared.wake_writer();
            }
            match turn {
                Some(turn) => return turn,
                // A permit is kept when the notification comes first.
                None => shared.to_publish.notified().await,
            }
        }
    }

    fn event_of(&self, turn: &Turn) -> Option<Arc<Event>> {
        let notice = match &turn.what {
            What::Event(event) => return Some(Arc::clone(event)),
            What::Gap(notice) => notice,
        };
        let bounds = self.core.shared.lock().queue.bounds();
        let notice = GapNotice {
            id: notice.id,
            hole: notice.hole,
            time: self.core.clock.now(),
            bound_events: bounds.events,
            bound_bytes: bounds.bytes,
        };
        match self.core.identity.seal_gap(&notice) {
            Ok(draft) => Some(Arc::new(Event { seq: turn.seq, draft })),
            Err(error) => {
                tracing::error!(%error, "a gap event cannot be written as JSON");
                None
            }
        }
    }

    /// Publishes until the outcome is known.
    async fn publish(&mut self, turn: &Turn, event: &Event) -> End {
        let mut retry = Retry::new(self.settings);
        let mut in_doubt = turn.in_doubt;
        loop {
            self.connect().await;
            let outcome = match (in_doubt, self.link.as_mut()) {
                (_, None) => continue,
                (true, Some(link)) => Self::publish_if_missing(self.core, link, turn, event).await,
                (false, Some(link)) => Self::publish_now(self.core, link, turn, event).await,
            };
            match outcome {
                Outcome::Stored(Stored) => return End::Stored,
                Outcome::Impossible(text) => {
                    tracing::warn!(
                        event.id = %event.draft.id,
                        subject = event.draft.subject,
                        reason = text,
                        "an event cannot be published and is dropped"
                    );
                    return End::Dropped;
                }
                Outcome::Refused(_) if self.gives_way(&event.draft, &retry) => return End::Dropped,
                Outcome::Refused(text) => {
                    in_doubt = false;
                    self.core.shared.lock().queue.clear_doubt(turn.seq);
                    self.refused(text, &mut retry).await;
                }
                Outcome::Unknown(unknown) => {
                    in_doubt = true;
                    self.pause_after(&unknown, &mut retry).await;
                }
            }
        }
    }

    /// Publishes unless the stream has the event already.
    async fn publish_if_missing(
        core: &Core,
        link: &mut Link,
        turn: &Turn,
        event: &Event,
    ) -> Outcome {
        match link.last_on_subject(&event.draft).await {
            Err(unknown) => Outcome::Unknown(unknown),
            Ok(last) if core.shared.lock().queue.is_stored(turn, last) => {
                metrics::event_found_stored();
                Outcome::Stored(Stored)
            }
            Ok(_) => Self::publish_now(core, link, turn, event).await,
        }
    }

    async fn publish_now(core: &Core, link: &mut Link, turn: &Turn, event: &Event) -> Outcome {
        // From here on the server may have it, even if this future is dropped.
        core.shared.lock().queue.doubt(turn.seq);
        let began = crate::transport::outbox::now();
        let outcome = link.publish(&event.draft).await;
        if matches!(outcome, Outcome::Stored(_)) {
            metrics::event_published(began.elapsed());
        }
        outcome
    }

    /// Whether a refused health event holds up something that matters more, for too long.
    fn gives_way(&self, draft: &Draft, retry: &Retry) -> bool {
        draft.class == Class::Health
            && self.settings.publish_timeout <= retry.began.elapsed()
            && self.core.shared.lock().queue.has_other_waiting()
    }

    async fn refused(&mut self, text: String, retry: &mut Retry) {
        metrics::publish_retried(RetryReason::Refused);
        self.tell_trouble(text);
        retry.pause().await;
    }

    async fn pause_after(&mut self, unknown: &Unknown, retry: &mut Retry) {
        self.tell_trouble(unknown.to_string());
        match unknown {
            Unknown::Timeout => {
                metrics::publish_retried(RetryReason::Timeout);
                retry.pause().await;
            }
            Unknown::Disconnected => {
                metrics::publish_retried(RetryReason::Disconnected);
                // The connection has a backoff of its own.
                retry.restart();
                retry.pause().await;
            }
            Unknown::Unreadable(_) => {
                metrics::publish_retried(RetryReason::Refused);
                retry.pause().await;
            }
        }
    }

    fn tell_trouble(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(reason = text, "events cannot be published for now and wait");
            self.trouble = Some(text);
        }
    }

    fn all_is_well(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("events are published again");
        }
    }

    /// Waits until there is a link over a connection that stands.
    async fn connect(&mut self) {
        loop {
            if self.clients.has_changed().unwrap_or(false) {
                self.link = None;
            }
            if self.link.is_none() {
                self.open_link().await;
            }
            if self.link.as_ref().is_some_and(Link::is_usable) {
                return;
            }
            if self.link.as_ref().is_some_and(Link::is_broken) {
                self.link = None;
            }
            // Cancelling either loses nothing: both only wait.
            tokio::select! {
                Ok(()) = self.clients.changed() => self.link = None,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn open_link(&mut self) {
        let client = self.clients.borrow_and_update().clone();
        let Some(client) = client.filter(is_connected) else { return };
        self.link = Link::open(client, self.settings).await;
    }
}

/// Pauses that double, with jitter between a half and a whole one.
struct Retry {
    began: tokio::time::Instant,
    initial: Duration,
    next: Duration,
    max: Duration,
}

impl Retry {
    fn new(settings: &OutboxSettings) -> Self {
        let (initial, max) = (settings.retry_initial, settings.retry_max);
        Self { began: crate::transport::outbox::now(), initial, next: initial.min(max), max }
    }

    fn restart(&mut self) {
        self.next = self.initial.min(self.max);
    }

    async fn pause(&mut self) {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = self.next.saturating_mul(2).min(self.max);
        tokio::time::sleep(pause).await;
    }
}
