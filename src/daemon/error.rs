//! Why the daemon could not start, or did not end as it should.

use crate::actors::tree::TreeError;
use crate::daemon::lock::LockError;
use crate::daemon::registry::RegistryError;
use crate::protocol::command::ErrorKind;
use crate::protocol::exit::ChildExit;
use crate::runtimes::keeper::KeeperError;
use crate::transport::embedded::EmbeddedError;
use crate::transport::failure::ConnectError;
use crate::transport::outbox::OutboxError;
use crate::transport::presence::PresenceError;

/// Why the daemon could not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state folder is taken or cannot be used.
    #[error(transparent)]
    State(#[from] LockError),
    /// The agent journal cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The configured settings cannot be turned into what a part needs.
    #[error("{message}")]
    Config {
        /// What is wrong, and what to do.
        message: String,
    },
    /// NATS cannot be reached or refuses us.
    #[error("{0}; {hint}", hint = .0.hint())]
    Connect(#[source] ConnectError),
    /// The embedded server cannot be had.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The keeper cannot be had.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// Another daemon has the prefix.
    #[error(transparent)]
    Presence(#[from] PresenceError),
    /// The event outbox cannot be opened.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The tree did not start.
    #[error("{0}")]
    Tree(#[source] TreeError),
    /// The root ended although nobody asked for it.
    #[error("the tree ended by itself: {0}")]
    Ended(ChildExit),
    /// Something did not stop in time and was killed.
    #[error("shutdown took longer than {limit_s} s; what was left has been killed")]
    Overdue {
        /// The limit in seconds.
        limit_s: u64,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

impl DaemonError {
    /// What kind of failure it is; the command line's exit code follows from it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::State(LockError::Held { .. })
            | Self::Embedded(EmbeddedError::Locked { .. } | EmbeddedError::StillRunning { .. })
            | Self::Presence(PresenceError::Taken { .. })
            | Self::Outbox(OutboxError::Locked { .. }) => ErrorKind::AlreadyExists,
            Self::Connect(ConnectError::Refused(_) | ConnectError::JetStreamForbidden { .. }) => {
                ErrorKind::NotPermitted
            }
            Self::Config { .. }
            | Self::Connect(ConnectError::Settings(_))
            | Self::Outbox(OutboxError::Setting { .. }) => ErrorKind::InvalidRequest,
            Self::Connect(_)
            | Self::Presence(PresenceError::Call(_) | PresenceError::Closed)
            | Self::Keeper(_)
            | Self::Embedded(_) => ErrorKind::Unavailable,
            Self::State(LockError::Io { .. })
            | Self::Registry(_)
            | Self::Outbox(_)
            | Self::Tree(_)
            | Self::Ended(_)
            | Self::Overdue { .. }
            | Self::System { .. } => ErrorKind::Internal,
        }
    }
}
