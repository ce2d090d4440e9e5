//! What an earlier daemon left running: which runs the agents of this one may have, and who reaps
//! what a killed keeper orphaned.
//!
//! The runs themselves are the keeper's (`runtimes::keeper`).

use std::sync::Arc;
use std::time::Duration;

use rustix::process::WaitOptions;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::daemon::error::DaemonError;
use crate::daemon::registry::Registry;
use crate::ports::RunLog;
use crate::protocol::id::{ChildName, Generation};
use crate::runtimes::keeper::{KeeperSlot, Owner, proc};

/// Time from the end of an orphan to its reaping: until then a new keeper reads how it ended, on
/// kernels too that do not tell it afterwards.
const REAP_AFTER: Duration = Duration::from_millis(250);

/// Time that agents of this daemon have to claim their runs; after that what is left is ended.
const CLAIM_WITHIN: Duration = Duration::from_secs(60);

/// The journal of runs, with those in it that live on: their next start gets the number of the run
/// that it adopts.
#[derive(Debug)]
pub(crate) struct AdoptingRuns {
    registry: Arc<Registry>,
    keeper: KeeperSlot,
}

impl AdoptingRuns {
    pub(crate) fn new(registry: Arc<Registry>, keeper: KeeperSlot) -> Self {
        Self { registry, keeper }
    }

    /// The run that the next start of a child adopts.
    fn found(&self, child: &ChildName) -> Option<Owner> {
        let last = self.registry.last(child);
        self.keeper.found(child).filter(|owner| {
            is_of(owner, &self.registry) && last <= owner.generation && 0 < owner.generation.0
        })
    }
}

impl RunLog for AdoptingRuns {
    fn began(&self, child: &ChildName, generation: Generation) {
        self.registry.began(child, generation);
    }

    fn last(&self, child: &ChildName) -> Generation {
        let adopted = self.found(child);
        adopted.map_or_else(
            || self.registry.last(child),
            |owner| Generation(owner.generation.0.saturating_sub(1)),
        )
    }

    fn is_to_be_adopted(&self, child: &ChildName) -> bool {
        self.found(child).is_some()
    }
}

/// Whether the run belongs to the agent that has the name now.
fn is_of(owner: &Owner, registry: &Registry) -> bool {
    owner.agent_id.is_some() && owner.agent_id == registry.known_id(&owner.name)
}

/// Ends runs that no agent of this daemon claims: at once those that nobody here knows, later those
/// that were expected and not claimed. Aborted by the caller when the daemon ends.
pub(crate) fn end_unclaimed(
    outside: &Handle,
    keeper: KeeperSlot,
    is_wanted: impl Fn(&Owner) -> bool + Send + 'static,
) -> JoinHandle<()> {
    outside.spawn(async move {
        let ended = keeper.end_unclaimed(is_wanted).await;
        tokio::time::sleep(CLAIM_WITHIN).await;
        let late = keeper.end_unclaimed(|_| false).await;
        if 0 < ended + late {
            tracing::info!(runs = ended + late, "runs that nobody claimed were ended");
        }
    })
}

/// Makes the daemon inherit what a killed keeper orphans, and reaps that. Aborted by the caller when
/// the daemon ends.
pub(crate) fn reap_orphans(
    outside: &Handle,
    keeper: KeeperSlot,
) -> Result<JoinHandle<()>, DaemonError> {
    let failed = |what| move |source| DaemonError::System { what, source };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(std::io::Error::from)
        .map_err(failed("cannot become the parent of orphans"))?;
    let _context = outside.enter();
    let mut ended = signal(SignalKind::child()).map_err(failed("cannot watch signals"))?;
    Ok(outside.spawn(async move {
        while ended.recv().await.is_some() {
            reap(keeper_of_now(&keeper).await);
        }
    }))
}

/// Process id of the keeper, once there has been one for long enough: without it nobody has read how
/// orphans ended.
async fn keeper_of_now(keeper: &KeeperSlot) -> u32 {
    loop {
        tokio::time::sleep(REAP_AFTER).await;
        if let Some(current) = keeper.current() {
            return current.pid();
        }
    }
}

/// Reaps children that have ended and lead or belong to a session of their own: this daemon's own
/// children are its keeper, which somebody waits for, and whatever an embedding program started in its
/// session.
fn reap(keeper: u32) {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let Some(own) = proc::stat(me) else { return };
    for pid in proc::children(me) {
        let is_orphan = u32::try_from(pid).ok() != Some(keeper)
            && proc::stat(pid).is_some_and(|stat| stat.is_dead() && stat.session != own.session);
        if is_orphan {
            // Fails only if it was reaped meanwhile.
            rustix::process::waitpid(rustix::process::Pid::from_raw(pid), WaitOptions::NOHANG).ok();
        }
    }
}
