//! How others ask the coordinator that is at work who would get a task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio::time::timeout;

use crate::protocol::route::{RouteAnswer, RouteQuery};

/// Questions that may wait; who asks one more is answered without the coordinator.
const WAITING_MAX: usize = 16;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One question, and where its answer goes.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) query: RouteQuery,
    pub(super) answer: oneshot::Sender<RouteAnswer>,
}

/// Where questions are put, and where a coordinator finds them. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Questions {
    put: mpsc::Sender<Question>,
    found: Arc<Mutex<mpsc::Receiver<Question>>>,
}

impl Default for Questions {
    fn default() -> Self {
        let (put, found) = mpsc::channel(WAITING_MAX);
        Self { put, found: Arc::new(Mutex::new(found)) }
    }
}

impl Questions {
    /// Asks who would get a task; `None` when no coordinator answers within 2 s. Dropping the wait
    /// leaves an answer that nobody reads.
    pub async fn ask(&self, query: RouteQuery) -> Option<RouteAnswer> {
        let (answer, come) = oneshot::channel();
        self.put.try_send(Question { query, answer }).ok()?;
        timeout(PATIENCE, come).await.ok()?.ok()
    }

    /// The questions, for the one coordinator that answers them.
    pub(super) async fn listen(&self) -> OwnedMutexGuard<mpsc::Receiver<Question>> {
        let mut found = Arc::clone(&self.found).lock_owned().await;
        // Those that were put while nobody answered have been given up.
        while found.try_recv().is_ok() {}
        found
    }
}
