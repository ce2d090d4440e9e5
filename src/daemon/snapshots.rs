//! Tells of all children from time to time, so that a moment of the past is rebuilt from the events
//! of some minutes and not from all that are kept, and so that what was told longer ago than events
//! are kept is not lost.
//!
//! It costs about 450 bytes a child. With few children that is every ten minutes; with more than six
//! hundred, one second for each child, so that it never grows beyond some 450 bytes a second (40 MB
//! a day of the stream's 2 GB).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::board::Board;
use crate::ports::{EventDraft, EventSink, EventSource};
use crate::protocol::fact::{Fact, Severity};
use crate::protocol::id::{ChildName, SubjectId};
use crate::protocol::shown::Snapshot;

/// Time between two snapshots, with few children.
const EVERY_MIN: Duration = Duration::from_secs(600);

/// Time between two snapshots for each child, with many.
const EVERY_CHILD: Duration = Duration::from_secs(1);

/// Children in one event: 200 of them stay far below the largest message of a NATS server.
const PART_MAX: usize = 200;

/// Tells of all children when it is time.
#[derive(Debug)]
pub(crate) struct Snapshots {
    board: Arc<Board>,
    sink: Arc<dyn EventSink>,
    root: ChildName,
    due_at: Instant,
}

impl Snapshots {
    /// The first is due after a while: a daemon that starts has told of everything.
    pub(crate) fn new(board: Arc<Board>, sink: Arc<dyn EventSink>, root: ChildName) -> Self {
        Self { board, sink, root, due_at: Instant::now() + EVERY_MIN }
    }

    /// Waits until one is due.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing but time passes.
    pub(crate) async fn due(&self) {
        tokio::time::sleep_until(self.due_at).await;
    }

    /// Tells of all children, in parts; between two of them others have their turn.
    pub(crate) async fn tell(&mut self) {
        let children = self.board.all_shown(Instant::now().into_std());
        let count = u32::try_from(children.len()).unwrap_or(u32::MAX);
        self.due_at = Instant::now() + EVERY_MIN.max(EVERY_CHILD.saturating_mul(count));
        let parts = u32::try_from(children.len().div_ceil(PART_MAX)).unwrap_or(u32::MAX);
        for (part, children) in (1..).zip(children.chunks(PART_MAX)) {
            let snapshot = Snapshot { part, parts, children: children.to_vec() };
            self.sink.emit(EventDraft {
                fact: Fact::Snapshot(Box::new(snapshot)),
                about: SubjectId::from(&self.root),
                source: EventSource { kind: "supervisor", name: self.root.clone() },
                severity: Severity::Info,
                correlation: None,
                causation: None,
                generation: None,
            });
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::board::Entry;
    use crate::protocol::id::EventId;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Fact>>);

    impl EventSink for Kept {
        fn emit(&self, draft: EventDraft) -> EventId {
            self.0.lock().unwrap().push(draft.fact);
            EventId::new(uuid::Uuid::nil())
        }
    }

    fn entry(name: String) -> Entry {
        use crate::protocol::spec::ChildKind;
        use crate::protocol::status::{AgentState, CircuitState, HealthView};

        Entry {
            name: name.parse().unwrap(),
            kind: ChildKind::Worker,
            parent: None,
            agent: None,
            state: AgentState::Running,
            standing: crate::protocol::route::Standing::Down,
            generation: Default::default(),
            pid: None,
            containment: None,
            limits: Default::default(),
            restarts: 0,
            since: jiff::Timestamp::UNIX_EPOCH,
            reason: String::new(),
            circuit: CircuitState::Closed,
            retry_at: None,
            next: None,
            health: HealthView::default(),
            supervisor: None,
            children: Default::default(),
            place: None,
            told: None,
        }
    }

    fn size(fact: &Fact) -> (u32, u32, usize) {
        let Fact::Snapshot(snapshot) = fact else { panic!("{fact:?}") };
        (snapshot.part, snapshot.parts, snapshot.children.len())
    }

    #[tokio::test(start_paused = true)]
    async fn all_children_are_told_in_parts_and_the_more_there_are_the_seldomer() {
        let (board, kept) = (Arc::new(Board::default()), Arc::new(Kept::default()));
        (0..450).for_each(|number| board.put(entry(format!("w{number}"))));
        let sink = Arc::<Kept>::clone(&kept);
        let mut snapshots = Snapshots::new(Arc::clone(&board), sink, "root".parse().unwrap());
        let began = Instant::now();
        snapshots.due().await;
        assert_eq!(began.elapsed(), EVERY_MIN);
        snapshots.tell().await;
        let sizes: Vec<_> = kept.0.lock().unwrap().iter().map(size).collect();
        assert_eq!(sizes, [(1, 3, 200), (2, 3, 200), (3, 3, 50)]);
        assert_eq!(snapshots.due_at, Instant::now() + EVERY_MIN);
        (450..900).for_each(|number| board.put(entry(format!("w{number}"))));
        snapshots.tell().await;
        assert_eq!(snapshots.due_at, Instant::now() + Duration::from_secs(900));
    }
}
