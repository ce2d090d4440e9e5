//! Why the daemon could not start, or did not end as it should.

use crate::protocol::command::ErrorKind;

/// Why the daemon could not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configured settings cannot be turned into what a part needs.
    #[error("{message}")]
    Config {
        /// What is wrong, and what to do.
        message: String,
    },
}

impl DaemonError {
    /// What kind of failure it is; the command line's exit code follows from it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } => ErrorKind::InvalidRequest,
        }
    }
}
