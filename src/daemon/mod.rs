//! The daemon: builds everything from the configuration, runs it, stops it.

pub mod error;

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Loaded;
use crate::daemon::error::DaemonError;
use crate::protocol::event::Envelope;

/// Sees every event as it is raised; must return at once.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Envelope) + Send + Sync>);

impl Observer {
    /// Wraps a function.
    pub fn new(see: impl Fn(&Envelope) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    /// Shows an event.
    pub fn see(&self, event: &Envelope) {
        (self.0)(event);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// What the daemon is started with.
#[derive(Debug)]
pub struct Options {
    /// The checked configuration.
    pub config: Loaded,
    /// Sees every event as it is raised.
    pub observer: Option<Observer>,
    /// Cancelled by the caller to stop the daemon as SIGTERM does.
    pub stop: CancellationToken,
    /// Told once the whole tree is up.
    pub ready: Option<oneshot::Sender<()>>,
}

impl Options {
    /// Options with nothing but a configuration.
    #[must_use]
    pub fn new(config: Loaded) -> Self {
        Self { config, observer: None, stop: CancellationToken::new(), ready: None }
    }
}

/// Runs the daemon until it is told to stop or cannot go on. Blocks the calling thread.
///
/// # Errors
///
/// [`DaemonError`] says what is missing and what to do; everything started is stopped again.
pub fn run(options: Options) -> Result<(), DaemonError> {
    drop(options);
    Err(DaemonError::Config { message: "this build has no daemon yet".to_owned() })
}
