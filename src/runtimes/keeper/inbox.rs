//! What a stdio agent says, on the daemon's side, and the way to its standard input.
//!
//! Bounds: the keeper sends no more messages of a run than fit its window until some were taken
//! here, and [`Stdio::write`] refuses what would make more than [`STDIN_BYTES_MAX`] wait. A
//! message counts as taken when [`Stdio::receive`] gives it out; until then the keeper has it, too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ports::ChannelError;
use crate::runtimes::keeper::desk::Desk;
use crate::runtimes::keeper::pipes::STDIN_BYTES_MAX;
use crate::runtimes::keeper::wire::{RunId, ToKeeper};

/// Messages of one run that have arrived.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
    beaten: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last beat that nobody has seen.
    beat: Option<String>,
    lines: VecDeque<(u64, String)>,
    /// The last one that arrived; an older one is a copy.
    last: u64,
    /// Bytes on their way to standard input.
    writing: usize,
    life: Life,
    logged: LinesLogged,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Life {
    #[default]
    Open,
    /// Nobody reads standard input.
    Deaf,
    /// The run is over.
    Closed,
}

/// Messages that went into the log instead of arriving.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinesLogged {
    /// Too long to be messages.
    pub too_long: u64,
    /// No room was left for them while nobody took any.
    pub no_room: u64,
}

impl Inbox {
    pub(super) fn line(&self, number: u64, line: String) {
        let mut state = self.lock();
        if number > state.last {
            state.last = number;
            state.lines.push_back((number, line));
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn beat(&self, line: String) {
        self.lock().beat = Some(line);
        self.beaten.notify_one();
    }

    pub(super) fn wrote(&self, bytes: u64) {
        let mut state = self.lock();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        state.writing = state.writing.saturating_sub(bytes);
    }

    pub(super) fn lost(&self, bytes: u64) {
        self.wrote(bytes);
        let mut state = self.lock();
        if state.life == Life::Open {
            state.life = Life::Deaf;
            drop(state);
            tracing::debug!(bytes, "an agent reads its standard input no more");
        }
    }

    pub(super) fn logged(&self, too_long: u64, no_room: u64) {
        let mut state = self.lock();
        let logged = &mut state.logged;
        logged.too_long = logged.too_long.saturating_add(too_long);
        logged.no_room = logged.no_room.saturating_add(no_room);
        drop(state);
        tracing::warn!(too_long, no_room, "messages of an agent went into its log instead");
    }

    /// The run is over.
    pub(super) fn close(&self) {
        self.lock().life = Life::Closed;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages from a run and writes to its standard input. Clones are the same run; one of them
/// receives.
#[derive(Clone, Debug)]
pub struct Stdio {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    desk: Arc<Desk>,
    run: RunId,
    inbox: Arc<Inbox>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is left who could take them.
        self.desk.tell(&ToKeeper::Took { run: self.run, up_to: u64::MAX });
    }
}

/// What there is to be received.
#[derive(Debug)]
enum Taken {
    Line(String),
    Nothing,
    /// Nothing, for ever.
    Over,
}

impl Stdio {
    pub(super) fn new(desk: Arc<Desk>, run: RunId, inbox: Arc<Inbox>) -> Self {
        Self { shared: Arc::new(Shared { desk, run, inbox }) }
    }

    /// Writes text to standard input; returns at once.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Full`] while the run does not read; [`ChannelError::Closed`] when it is over
    /// or has closed its standard input.
    pub fn write(&self, text: String) -> Result<(), ChannelError> {
        let Shared { desk, run, inbox } = self.shared.as_ref();
        let mut state = inbox.lock();
        if state.life != Life::Open {
            return Err(ChannelError::Closed);
        }
        let waiting = state.writing;
        let after = waiting.saturating_add(text.len());
        if after > STDIN_BYTES_MAX {
            return Err(ChannelError::Full { waiting, bound: STDIN_BYTES_MAX, unit: "bytes" });
        }
        state.writing = after;
        // With the lock held, so that texts arrive in the order in which they were admitted.
        desk.tell(&ToKeeper::Write { run: *run, text });
        drop(state);
        Ok(())
    }

    /// Closes standard input once everything written before has left; returns at once.
    pub fn close(&self) {
        let Shared { desk, run, inbox } = self.shared.as_ref();
        let mut state = inbox.lock();
        if state.life == Life::Open {
            state.life = Life::Deaf;
            desk.tell(&ToKeeper::CloseStdin { run: *run });
        }
    }

    /// Waits for the next message; `None` when the run is over and all were given out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn receive(&self) -> Option<String> {
        loop {
            match self.take() {
                Taken::Line(line) => return Some(line),
                Taken::Over => return None,
                // Cancel safe: a notification that is lost with this future stands for a state
                // that the next call sees.
                Taken::Nothing => self.shared.inbox.changed.notified().await,
            }
        }
    }

    fn take(&self) -> Taken {
        let Shared { desk, run, inbox } = self.shared.as_ref();
        let mut state = inbox.lock();
        if let Some((number, line)) = state.lines.pop_front() {
            drop(state);
            desk.tell(&ToKeeper::Took { run: *run, up_to: number });
            return Taken::Line(line);
        }
        let life = state.life;
        drop(state);
        if life != Life::Closed {
            return Taken::Nothing;
        }
        // For whoever else waits.
        inbox.changed.notify_one();
        Taken::Over
    }

    /// Waits for a beat that was not given out yet; beats in between are left out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn beat(&self) -> String {
        loop {
            let beat = self.shared.inbox.lock().beat.take();
            if let Some(beat) = beat {
                return beat;
            }
            // Cancel safe, as in `receive`.
            self.shared.inbox.beaten.notified().await;
        }
    }

    /// Messages that went into the log instead of arriving.
    #[must_use]
    pub fn logged(&self) -> LinesLogged {
        self.shared.inbox.lock().logged
    }
}
