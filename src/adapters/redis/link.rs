//! Connections to Redis: how one is opened, and the shared one that is kept open.

#![expect(
    clippy::excessive_nesting,
    reason = "one loop over what may happen: its arms read better together"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add variants; what is not named is meant as one"
)]

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    ServerErrorKind,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::AdapterError;
use crate::adapters::dial::{Dialer, Ports};
use crate::adapters::patience::{PATIENCE, delay, within};
use crate::adapters::target::{Credentials, Target};
use crate::ports::{BoxFuture, ServiceError};

/// Pushed messages that may wait; what comes beyond is counted as missed.
pub(super) const PUSHES_MAX: usize = 16_384;

/// Longest time for an answer to a sign of life.
const PING_MAX: Duration = Duration::from_secs(5);

/// Opens connections with one identity.
#[derive(Clone, Debug)]
pub(super) struct Opener {
    dialer: Dialer,
    info: Arc<RedisConnectionInfo>,
    keep_alive: Duration,
}

/// An open connection and the future that drives it.
pub(super) struct Opened {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: BoxFuture<'static, ()>,
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Trying again may help.
    Passing(String),
    /// Trying again with the same settings does not help.
    Lasting(String),
}

/// Where pushed messages go.
pub(super) type Pushes = mpsc::Sender<PushInfo>;

impl Opener {
    pub(super) fn new(target: &Target) -> Result<Self, AdapterError> {
        let ports = Ports { plain: 6379, tls: 6379 };
        let dialer = Dialer::new(target, &["rediss"], ports)?;
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        match &target.credentials {
            Credentials::None => {}
            Credentials::Basic { username, password } => {
                if !username.is_empty() {
                    info = info.set_username(username);
                }
                info = info.set_password(password);
            }
            Credentials::Bearer(_) | Credentials::NatsFile(_) => {
                let auth = if matches!(target.credentials, Credentials::Bearer(_)) {
                    "bearer"
                } else {
                    "nats"
                };
                let instead = "none, basic (user name \"default\" for requirepass) or \
                               client_certificate";
                return Err(AdapterError::Auth { auth, kind: "redis", instead });
            }
        }
        let path = target.url.path().trim_matches('/');
        if !path.is_empty() {
            let number = path.parse::<i64>().ok().filter(|number| (0..=65_535).contains(number));
            let number = number.ok_or_else(|| AdapterError::Address {
                address: target.url.as_str().to_owned(),
                reason: format!("its path {path:?} is no number of a database (0..=65535)"),
            })?;
            info = info.set_db(number);
        }
        Ok(Self { dialer, info: Arc::new(info), keep_alive: target.keep_alive })
    }

    /// Opens a connection; with `pushes` it takes what is pushed on subscriptions, and `missed`
    /// hears of what found no room.
    pub(super) async fn open(
        &self,
        pushes: Option<(Pushes, watch::Sender<u64>)>,
    ) -> Result<Opened, OpenError> {
        let mut config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        if let Some((queue, missed)) = pushes {
            config = config.set_push_sender(move |push: PushInfo| {
                if queue.try_send(push).is_err() {
                    missed.send_modify(|count| *count += 1);
                }
                Ok::<(), redis::aio::SendError>(())
            });
        }
        let mut lasting = false;
        let attempt = async {
            let stream = self.dialer.dial().await.map_err(|error| error.to_string())?;
            let opened = MultiplexedConnection::new_with_config(&self.info, stream, config).await;
            opened.map_err(|error| {
                lasting = refuses_us(&error);
                error.to_string()
            })
        };
        match within(attempt).await {
            Ok((connection, driver)) => Ok(Opened { connection, driver: Box::pin(driver) }),
            Err(reason) => {
                let reason = format!("redis at {}: {reason}", self.dialer.address());
                Err(if lasting { OpenError::Lasting(reason) } else { OpenError::Passing(reason) })
            }
        }
    }

    /// Opens a connection again, for as long as [`PATIENCE`] lasts.
    pub(super) async fn open_again<'a, T>(
        &self,
        mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, OpenError>>,
    ) -> Result<T, ServiceError> {
        let begin = Instant::now();
        let mut count = 0;
        loop {
            let reason = match attempt().await {
                Ok(done) => return Ok(done),
                Err(OpenError::Lasting(reason)) => return Err(ServiceError::new(reason)),
                Err(OpenError::Passing(reason)) => reason,
            };
            if PATIENCE <= begin.elapsed() {
                let text = format!("no connection for {} s: {reason}", PATIENCE.as_secs());
                return Err(ServiceError::new(text));
            }
            sleep(delay(count, fastrand::f64())).await;
            count += 1;
        }
    }

    /// Ends, with the reason, when a connection gives no sign of life any more.
    pub(super) async fn watch_over(&self, mut connection: MultiplexedConnection) -> String {
        loop {
            sleep(self.keep_alive).await;
            let ping = redis::cmd("PING");
            match timeout(PING_MAX, connection.send_packed_command(&ping)).await {
                Ok(Ok(_pong)) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_elapsed) => return format!("no sign of life for {} s", PING_MAX.as_secs()),
            }
        }
    }
}

impl OpenError {
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Passing(reason) | Self::Lasting(reason) => reason,
        }
    }

    /// A command on a new connection was refused.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Lasting(error.to_string()),
            _ if refuses_us(error) => Self::Lasting(error.to_string()),
            _ => Self::Passing(error.to_string()),
        }
    }
}

/// Whether a server refuses what we show it.
fn refuses_us(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || error.kind() == ErrorKind::InvalidClientConfig
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM" | "NOPROTO"))
}

/// The shared connection as callers see it: open, or why it is not.
pub(super) type Shared = watch::Receiver<Result<MultiplexedConnection, String>>;

/// Keeps the shared connection open; ends when it cannot be opened again.
pub(super) async fn keep(
    opener: Opener,
    first: Opened,
    told: watch::Sender<Result<MultiplexedConnection, String>>,
) -> ServiceError {
    let mut opened = first;
    loop {
        let reason = tokio::select! {
            // The driver ends with its connection; while another branch is taken it is dropped,
            // and the connection with it.
            () = opened.driver => "the connection was closed".to_owned(),
            // Watching changes nothing on the server.
            reason = opener.watch_over(opened.connection.clone()) => reason,
        };
        tracing::warn!(error = %reason, "connection to redis lost");
        drop(told.send_replace(Err(reason)));
        match opener.open_again(|| Box::pin(opener.open(None))).await {
            Ok(again) => opened = again,
            Err(error) => return error,
        }
        drop(told.send_replace(Ok(opened.connection.clone())));
        tracing::info!("connection to redis restored");
    }
}
