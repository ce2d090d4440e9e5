//! The keeper as a child of the tree: launched again when it is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::protocol::exit::StartError;
use crate::runtimes::keeper::client::{Keeper, KeeperOptions};
use crate::runtimes::keeper::handle::{ProcessHandle, ProcessRun};

/// Where runtimes find the keeper of the moment. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct KeeperSlot {
    keeper: Arc<Mutex<Option<Keeper>>>,
}

impl KeeperSlot {
    /// The keeper of the moment, if one is up.
    #[must_use]
    pub fn current(&self) -> Option<Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a run on the keeper of the moment.
    ///
    /// # Errors
    ///
    /// As [`Keeper::start`]; `Refused` while no keeper is up.
    ///
    /// # Cancel safety
    ///
    /// As [`Keeper::start`].
    pub fn start(
        &self,
        run: ProcessRun,
    ) -> impl Future<Output = Result<ProcessHandle, StartError>> + Send + use<> {
        let keeper = self.current();
        async move {
            let Some(keeper) = keeper else {
                let message = "the keeper is not up; it is started again by itself".to_owned();
                return Err(StartError::Refused { message });
            };
            keeper.start(run).await
        }
    }

    /// Puts a keeper in; for programs that launch one without [`KeeperService`].
    pub fn set(&self, keeper: Option<Keeper>) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = keeper;
    }
}

/// Keeps a keeper in a slot.
#[derive(Clone, Debug)]
pub struct KeeperService {
    options: KeeperOptions,
    slot: KeeperSlot,
}

impl KeeperService {
    /// Launches keepers with these options into this slot.
    #[must_use]
    pub fn new(options: KeeperOptions, slot: KeeperSlot) -> Self {
        Self { options, slot }
    }
}

/// Empties the slot, however the service ends.
struct Vacate(KeeperSlot);

impl Drop for Vacate {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

impl Service for KeeperService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        let Self { options, slot } = self.clone();
        Box::pin(async move {
            // Cancelling the launch ends the keeper that it began.
            let launched = stop.run_until_cancelled(Keeper::launch(options)).await;
            let (keeper, mut life) = match launched {
                None => return Ok(()),
                Some(Ok(launched)) => launched,
                Some(Err(error)) => return Err(ServiceError::new(in_full(&error))),
            };
            let vacate = Vacate(slot.clone());
            slot.set(Some(keeper));
            ready.tell();
            // Cancelling the wait for the end loses nothing: the end is kept.
            match stop.run_until_cancelled(life.ended()).await {
                Some(message) => Err(ServiceError::new(message)),
                None => {
                    drop(vacate);
                    life.shut_down().await;
                    Ok(())
                }
            }
        })
    }

    fn start_timeout(&self) -> Duration {
        self.options.lock_wait + Duration::from_secs(15)
    }
}

/// The error and its causes in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
