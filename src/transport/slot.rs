//! The place where the parts of the daemon find the present connection, and the service that keeps
//! one in it.
//!
//! Nobody keeps a connection for longer than one piece of work: when the connection child is
//! restarted, everybody gets the new one from the slot.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::protocol::command::NatsStatus;
use crate::transport::connect::Connection;
use crate::transport::declare::{Ensured, ensure_all};
use crate::transport::failure::ConnectError;
use crate::transport::link::ConnectionState;
use crate::transport::settings::ConnectSettings;
use crate::transport::streams::StreamSettings;

/// How often the state is compared with what the client says.
const RECONCILE_EVERY: Duration = Duration::from_secs(1);

/// Holds the present connection, if there is one; clones are the same slot.
#[derive(Clone, Debug)]
pub struct ConnectionSlot {
    current: watch::Sender<Option<Connection>>,
}

impl Default for ConnectionSlot {
    fn default() -> Self {
        Self::new()
    }
}

impl ConnectionSlot {
    /// An empty slot.
    #[must_use]
    pub fn new() -> Self {
        Self { current: watch::Sender::new(None) }
    }

    /// The present connection.
    #[must_use]
    pub fn current(&self) -> Option<Connection> {
        self.current.borrow().clone()
    }

    /// Puts a connection in for everybody.
    pub fn put(&self, connection: Connection) {
        self.current.send_replace(Some(connection));
    }

    /// Empties the slot, if it still holds this connection.
    pub fn take_out(&self, connection: &Connection) {
        self.current.send_if_modified(|current| {
            let same = current.as_ref().is_some_and(|present| present.same_as(connection));
            if same {
                *current = None;
            }
            same
        });
    }

    /// To be told of every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Connection>> {
        self.current.subscribe()
    }

    /// The client of whatever connection is the present one, for parts that need no more. The
    /// task that follows the slot lives on `runtime` and ends when the slot or the receiver does.
    #[must_use]
    pub fn clients(&self, runtime: &Handle) -> watch::Receiver<Option<async_nats::Client>> {
        let mut connections = self.watch();
        let client = |connection: &Option<Connection>| {
            connection.as_ref().map(|connection| connection.client().clone())
        };
        let (sender, receiver) = watch::channel(client(&connections.borrow()));
        let mut told = Ok(());
        runtime.spawn(async move {
            while told.is_ok() && connections.changed().await.is_ok() {
                told = sender.send(client(&connections.borrow_and_update()));
            }
        });
        receiver
    }

    /// Waits until there is a connection.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn connection(&self) -> Connection {
        let mut current = self.watch();
        loop {
            let present = current.borrow_and_update().clone();
            if let Some(connection) = present {
                return connection;
            }
            if current.changed().await.is_err() {
                // The sender lives in `self`, so this cannot be; waiting is what is left.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until this connection is no longer the present one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn replaced(&self, connection: &Connection) {
        let mut current = self.watch();
        let other = |present: &Option<Connection>| {
            !present.as_ref().is_some_and(|present| present.same_as(connection))
        };
        if current.wait_for(other).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The connection as a status shows it; `connecting` while there is none.
    #[must_use]
    pub fn status(&self) -> NatsStatus {
        self.current().map_or_else(
            || NatsStatus { state: "connecting".to_owned(), ..NatsStatus::default() },
            |connection| connection.status(),
        )
    }
}

/// Takes a connection out of its slot when the service ends, however it ends.
struct Occupied<'a> {
    slot: &'a ConnectionSlot,
    connection: &'a Connection,
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.slot.take_out(self.connection);
    }
}

/// Connects, declares the streams, keeps the connection in the slot, and ends when it is closed.
#[derive(Clone, Debug)]
pub struct ConnectionService {
    slot: ConnectionSlot,
    settings: watch::Receiver<Option<ConnectSettings>>,
    streams: Vec<StreamSettings>,
}

impl ConnectionService {
    /// A service that connects as the newest settings say and waits while there are none (the
    /// embedded server tells its address when it runs). Without streams JetStream is not asked
    /// for.
    #[must_use]
    pub fn new(
        slot: ConnectionSlot,
        settings: watch::Receiver<Option<ConnectSettings>>,
        streams: Vec<StreamSettings>,
    ) -> Self {
        Self { slot, settings, streams }
    }

    async fn connect_and_keep(
        mut self,
        stop: CancellationToken,
        ready: Ready,
    ) -> Result<(), ServiceError> {
        let settings = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Cancelling loses nothing: the settings stay in the channel.
            settings = newest(&mut self.settings) => settings?,
        };
        let connection = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Cancelling drops a connection that nobody has seen.
            connection = self.open(&settings) => connection?,
        };
        self.slot.put(connection.clone());
        let occupied = Occupied { slot: &self.slot, connection: &connection };
        ready.tell();
        let ended = keep(&connection, &mut self.settings, &settings, &stop).await;
        drop(occupied);
        connection.close().await;
        ended
    }

    async fn open(&self, settings: &ConnectSettings) -> Result<Connection, ServiceError> {
        let connection = Connection::open(settings).await.map_err(|error| failed(&error))?;
        if self.streams.is_empty() {
            return Ok(connection);
        }
        connection.require_jetstream().await.map_err(|error| failed(&error))?;
        let ensured = ensure_all(&connection.jetstream(), &self.streams)
            .await
            .map_err(|error| ServiceError::new(error.to_string()))?;
        for (stream, outcome) in self.streams.iter().zip(ensured) {
            match outcome {
                Ensured::Created => tracing::info!(stream = stream.name, "stream created"),
                Ensured::Unchanged => {
                    tracing::debug!(stream = stream.name, "stream is as declared");
                }
                Ensured::Updated(changes) => {
                    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                    let changes = changes.join(", ");
                    tracing::info!(stream = stream.name, changes, "stream updated");
                }
            }
        }
        Ok(connection)
    }
}

fn failed(error: &ConnectError) -> ServiceError {
    ServiceError::new(format!("{error}; {}", error.hint()))
}

async fn newest(
    settings: &mut watch::Receiver<Option<ConnectSettings>>,
) -> Result<ConnectSettings, ServiceError> {
    let gone = || ServiceError::new("nobody says which nats server to use");
    let newest = settings.wait_for(Option::is_some).await.map_err(|_closed| gone())?;
    newest.clone().ok_or_else(gone)
}

/// Returns when the connection is of no use any more, or when told to stop.
async fn keep(
    connection: &Connection,
    settings: &mut watch::Receiver<Option<ConnectSettings>>,
    used: &ConnectSettings,
    stop: &CancellationToken,
) -> Result<(), ServiceError> {
    let mut link = connection.link();
    let mut reconcile = interval(RECONCILE_EVERY);
    reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let moved = async {
        let other = |now: &Option<ConnectSettings>| now.as_ref().is_some_and(|now| now != used);
        if settings.wait_for(other).await.is_err() {
            // Nobody is left who could move it.
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(moved);
    loop {
        // Each of these is cancel safe: what it waits for stays visible.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = reconcile.tick() => connection.reconcile(),
            () = &mut moved => {
                return Err(ServiceError::new("the nats server has moved to another address"));
            }
            changed = link.changed() => {
                let state = link.borrow_and_update().state.clone();
                let closed = changed.is_err() || matches!(state, ConnectionState::Closed { .. });
                if closed {
                    let error = state.error().unwrap_or("it was closed").to_owned();
                    return Err(ServiceError::new(format!("nats connection is gone: {error}")));
                }
                if state == ConnectionState::Connected {
                    // The client may have moved to another server.
                    connection.require_version().map_err(|error| failed(&error))?;
                }
            }
        }
    }
}

impl Service for ConnectionService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().connect_and_keep(stop, ready))
    }
}
