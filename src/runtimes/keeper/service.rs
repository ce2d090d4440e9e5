//! The keeper as a child of the tree: launched again when it is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::protocol::exit::StartError;
use crate::protocol::id::ChildName;
use crate::runtimes::keeper::client::{Keeper, KeeperError, KeeperLife, KeeperOptions};
use crate::runtimes::keeper::desk::Desk;
use crate::runtimes::keeper::handle::{ProcessHandle, ProcessRun};
use crate::runtimes::keeper::wire::Owner;

/// Longest time that a start waits for a keeper that is being launched again.
const UP_MAX: Duration = Duration::from_secs(10);

/// Where runtimes find the keeper of the moment, and the runs that earlier daemons left. Clones are
/// the same place.
#[derive(Clone, Debug)]
pub struct KeeperSlot {
    keeper: watch::Sender<Option<Keeper>>,
    desk: Arc<Desk>,
}

impl Default for KeeperSlot {
    fn default() -> Self {
        Self { keeper: watch::Sender::new(None), desk: Arc::default() }
    }
}

impl KeeperSlot {
    /// The keeper of the moment, if one is up.
    #[must_use]
    pub fn current(&self) -> Option<Keeper> {
        self.keeper.borrow().clone()
    }

    /// Begins a run on the keeper of the moment, or adopts the one that its owner has already. Waits a
    /// while for a keeper that is not up.
    ///
    /// # Errors
    ///
    /// As [`Keeper::start`]; `Refused` if no keeper comes up.
    ///
    /// # Cancel safety
    ///
    /// As [`Keeper::start`].
    pub fn start(
        &self,
        run: ProcessRun,
    ) -> impl Future<Output = Result<ProcessHandle, StartError>> + Send + use<> {
        let mut keeper = self.keeper.subscribe();
        async move {
            // One that was lost a moment ago is still in the slot.
            let works = |keeper: &Option<Keeper>| keeper.as_ref().is_some_and(Keeper::is_up);
            let up = keeper.wait_for(works);
            let up = match tokio::time::timeout(UP_MAX, up).await {
                Ok(Ok(keeper)) => keeper.clone(),
                Ok(Err(_)) | Err(_) => None,
            };
            let Some(keeper) = up else {
                let message = "the keeper is not up; it is started again by itself".to_owned();
                return Err(StartError::Refused { message });
            };
            keeper.start(run).await
        }
    }

    /// Puts a keeper in; for programs that launch one without [`KeeperService`].
    pub fn set(&self, keeper: Option<Keeper>) {
        self.keeper.send_replace(keeper);
    }

    /// Takes over the keeper of the state folder with all its runs, or launches one. The runs can be
    /// claimed from now on, and [`KeeperService::with`] takes the keeper.
    ///
    /// # Errors
    ///
    /// As [`Keeper::launch`].
    ///
    /// # Cancel safety
    ///
    /// As [`Keeper::launch`].
    pub async fn adopt(&self, options: KeeperOptions) -> Result<Launched, KeeperError> {
        let launched = Keeper::launch_for(&self.desk, options).await?;
        Ok(Launched(Arc::new(Mutex::new(Some(launched)))))
    }

    /// The run of a child that an earlier daemon left and that a start with this owner would adopt.
    #[must_use]
    pub fn found(&self, name: &ChildName) -> Option<Owner> {
        self.desk.found(name)
    }

    /// Ends all runs of earlier daemons that nobody has claimed, except those that `is_wanted` still
    /// expects to be; each as its stop signal and grace say. Gives their number.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what has not ended.
    pub async fn end_unclaimed(&self, is_wanted: impl Fn(&Owner) -> bool) -> usize {
        let mut ending = JoinSet::new();
        for taken in self.desk.take_unclaimed(is_wanted) {
            let name = taken.record.owner.as_ref().map(|owner| owner.name.to_string());
            let ends_with_daemon = taken.record.ends_with_daemon();
            let pid = taken.record.pid;
            tracing::warn!(pid, name, ends_with_daemon, "a run that nobody claims is ended");
            ending.spawn(ProcessHandle::taken(Arc::clone(&self.desk), taken).make_way());
        }
        ending.join_all().await.len()
    }
}

/// A keeper that waits for its place in the tree. Dropping it unused leaves the keeper and its runs to
/// the next daemon.
#[derive(Clone, Debug)]
pub struct Launched(Arc<Mutex<Option<(Keeper, KeeperLife)>>>);

impl Launched {
    /// Puts the keeper into its slot, for programs that do without [`KeeperService`]; `None` if it has
    /// its place already.
    #[must_use]
    pub fn settle(&self, slot: &KeeperSlot) -> Option<KeeperLife> {
        let (keeper, life) = self.take()?;
        slot.set(Some(keeper));
        Some(life)
    }

    /// Ends the keeper and all its runs, if it has not found its place.
    pub async fn shut_down(&self) {
        let left = self.take();
        if let Some((_, life)) = left {
            life.shut_down().await;
        }
    }

    fn take(&self) -> Option<(Keeper, KeeperLife)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1
            && let Some((_, life)) = self.take()
        {
            life.leave();
        }
    }
}

/// Keeps a keeper in a slot.
#[derive(Clone, Debug)]
pub struct KeeperService {
    options: KeeperOptions,
    slot: KeeperSlot,
    first: Option<Launched>,
}

impl KeeperService {
    /// Launches keepers with these options into this slot.
    #[must_use]
    pub fn new(options: KeeperOptions, slot: KeeperSlot) -> Self {
        Self { options, slot, first: None }
    }

    /// Begins with a keeper that is there already.
    #[must_use]
    pub fn with(self, first: Launched) -> Self {
        Self { first: Some(first), ..self }
    }

    async fn launch(&self) -> Result<(Keeper, KeeperLife), KeeperError> {
        if let Some(first) = self.first.as_ref().and_then(Launched::take) {
            return Ok(first);
        }
        Keeper::launch_for(&self.slot.desk, self.options.clone()).await
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
        let service = self.clone();
        Box::pin(async move {
            let slot = service.slot.clone();
            // Cancelling the launch ends the keeper that it began.
            let launched = stop.run_until_cancelled(service.launch()).await;
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
