//! Shared resources over NATS: answers requests on `coordination.resources.<type>`.
//!
//! Every request with a reply subject gets exactly one typed answer, whatever it holds. What a
//! resource has given is in a KV bucket before it is told, with compare-and-set on the entry, so that
//! leases and tokens outlive the daemon; who waits is in memory, and asks again after a restart. A
//! write whose outcome is unknown is answered with `unavailable`, and the entry is read back before
//! the resource is used again: a lease that was stored after all ends with its time, or is found by
//! its name when the caller gave it one.
//!
//! - `holders`: which runs of agents have ended.
//! - `desk`: requests, time and runs, one after the other.
//! - `store`: the bucket.
//!
//! One request at a time: a write takes a fraction of a millisecond, and the order of requests is the
//! order of service.

mod desk;
mod holders;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::logic::resources::ResourceSpec;
use crate::ports::{BoxFuture, Ready, Service, ServiceError, WallClock};
use crate::protocol::id::SubjectId;
use crate::transport::resources::desk::Desk;
use crate::transport::resources::holders::Holders;
use crate::transport::slot::ConnectionSlot;

pub use crate::transport::resources::store::BUCKET;

/// What there is to share.
#[derive(Clone, Debug)]
pub struct ResourceSettings {
    /// Declared resources.
    pub declared: BTreeMap<SubjectId, ResourceSpec>,
    /// What any other is; `None` refuses others.
    pub undeclared: Option<ResourceSpec>,
    /// Copies of the bucket.
    pub replicas: usize,
}

impl ResourceSettings {
    fn spec(&self, name: &SubjectId) -> Option<ResourceSpec> {
        self.declared.get(name).copied().or(self.undeclared)
    }
}

/// Answers requests about resources on the slot's connection.
#[derive(Clone, Debug)]
pub struct ResourceService {
    slot: ConnectionSlot,
    settings: Arc<ResourceSettings>,
    board: Arc<Board>,
    clock: Arc<dyn WallClock>,
}

impl ResourceService {
    /// A service; holders are looked up on the board.
    #[must_use]
    pub fn new(
        slot: ConnectionSlot,
        settings: ResourceSettings,
        board: Arc<Board>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        Self { slot, settings: Arc::new(settings), board, clock }
    }

    async fn serve_until_stopped(
        self,
        stop: CancellationToken,
        ready: Ready,
    ) -> Result<(), ServiceError> {
        let mut ready = Some(ready);
        let mut holders = Holders::new(Arc::clone(&self.board));
        loop {
            let connection = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                connection = self.slot.connection() => connection,
            };
            let opening = Desk::open(&connection, &self.settings, &self.clock, &mut holders);
            let mut desk = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Nothing was taken yet.
                () = self.slot.replaced(&connection) => continue,
                desk = opening => desk?,
            };
            ready.take().map(Ready::tell).unwrap_or_default();
            tokio::select! {
                // Cancelled in the middle of a write, the asker gets no answer and asks again: what
                // was stored is read back by the next desk.
                () = stop.cancelled() => return Ok(()),
                // Who asked through the old connection cannot be answered any more.
                () = self.slot.replaced(&connection) => {}
                () = desk.serve() => {
                    return Err(ServiceError::new("the subscription to resources ended"));
                }
            }
        }
    }
}

impl Service for ResourceService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().serve_until_stopped(stop, ready))
    }
}
