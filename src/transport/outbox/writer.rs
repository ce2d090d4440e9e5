//! What handle, writer and publisher share, and the thread that writes the spool.
//!
//! The writer is a thread of its own, because writing a file blocks: neither an emitter nor the
//! runtime ever waits for the disk. It lives as long as the outbox, so that events reach the file
//! while the publishing service is being restarted.
//!
//! When the file cannot be written (disk full, folder gone), events stay in memory only, under the
//! same bound, and are published from there. That is said once in the log and in the status; every
//! [`RETRY_EVERY`] the writer tries again with a new file that holds all that waits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics;
use crate::transport::outbox::queue::{Gate, Queue};
use crate::transport::outbox::spool::Spool;

/// Longest time that a settled event is not marked so in the file. After a crash in that time the
/// server is asked about it.
const MARKS_LAG: Duration = Duration::from_millis(20);

/// How often a file that could not be written is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Events written at a time.
const BATCH_EVENTS: usize = 512;

/// The state of an outbox, behind one lock that is never held for longer than a few copies.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something may have to be written.
    to_write: Condvar,
    /// Something may have to be published.
    pub(crate) to_publish: Notify,
    /// Something was settled or written.
    pub(crate) progress: Notify,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: Queue,
    /// Why the spool takes nothing, if so.
    pub(crate) spool_fault: Option<String>,
    /// The outbox is being dropped: write what is left and end.
    pub(crate) closing: bool,
    writer: WriterIs,
}

/// Whether the writer looks again by itself.
#[derive(Debug, Eq, PartialEq)]
enum WriterIs {
    Awake,
    /// It sleeps until it is woken.
    Asleep,
}

impl State {
    /// Nothing is published that the next life could not know of, as long as there is a spool.
    pub(crate) fn gate(&self) -> Gate {
        if self.spool_fault.is_none() { Gate::SpooledOnly } else { Gate::Open }
    }

    /// Whether the file holds all that the queue holds.
    pub(crate) fn is_spooled(&self) -> bool {
        !self.queue.has_unspooled() && !self.queue.has_unspooled_marks()
    }
}

impl Shared {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            state: Mutex::new(State {
                queue,
                spool_fault: None,
                closing: false,
                writer: WriterIs::Awake,
            }),
            to_write: Condvar::new(),
            to_publish: Notify::new(),
            progress: Notify::new(),
        }
    }

    /// The state. A panic while it was held left it whole: every change is a single call.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has a turn.
    pub(crate) fn acknowledge(&self, seq: u64) {
        let mut state = self.lock();
        state.queue.acknowledge(seq);
        // A writer that is awake looks again by itself, and a wake-up for each event costs much.
        if state.writer == WriterIs::Asleep {
            self.wake_writer();
        }
    }

    /// Wakes the writer.
    pub(crate) fn wake_writer(&self) {
        self.to_write.notify_one();
    }
}

/// Writes until the outbox is dropped.
pub(crate) fn write_until_closed(shared: &Shared, spool: &Mutex<Spool>) {
    // Held for the whole life of the thread: a successor waits here until this one is gone.
    let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
    Writer { shared, spool: &mut spool, rewrite: true, retry_at: None, marks_at: None }.run();
}

struct Writer<'a> {
    shared: &'a Shared,
    spool: &'a mut Spool,
    /// The file must be made anew: at the start, and after a failure.
    rewrite: bool,
    /// The file could not be written and is tried again then.
    retry_at: Option<Instant>,
    /// Marks that are not urgent are written then.
    marks_at: Option<Instant>,
}

enum Job {
    Append,
    Rewrite,
}

impl Writer<'_> {
    fn run(&mut self) {
        while let Some(job) = self.next_job() {
            let outcome = match job {
                Job::Append => self.append(),
                Job::Rewrite => self.rewrite(),
            };
            match outcome {
                Ok(()) => self.succeeded(),
                Err(error) => self.failed(&error),
            }
            self.shared.to_publish.notify_one();
            self.shared.progress.notify_waiters();
            if self.retry_at.is_some() && self.shared.lock().closing {
                return;
            }
        }
    }

    /// Waits for something to do; `None` when the outbox is closed and everything is written.
    fn next_job(&mut self) -> Option<Job> {
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            if !state.queue.has_unspooled_marks() {
                self.marks_at = None;
            } else if self.marks_at.is_none() {
                self.marks_at = now.checked_add(MARKS_LAG);
            }
            let may_write = state.closing || self.retry_at.is_none_or(|at| at <= now);
            if may_write && let Some(job) = self.job(&state, now) {
                return Some(job);
            }
            if state.closing {
                return None;
            }
            let until = self.retry_at.or(self.marks_at);
            state.writer = if until.is_none() { WriterIs::Asleep } else { WriterIs::Awake };
            state = match until {
                Some(at) => {
                    let pause = at.saturating_duration_since(now);
                    let waited = self.shared.to_write.wait_timeout(state, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.to_write.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.writer = WriterIs::Awake;
        }
    }

    fn job(&self, state: &State, now: Instant) -> Option<Job> {
        let queue = &state.queue;
        if self.rewrite || self.spool.wants_rewrite(queue.bytes()) {
            return Some(Job::Rewrite);
        }
        let due = state.closing || self.marks_at.is_some_and(|at| at <= now);
        let marks = queue.has_unspooled_marks() && due;
        let wanted = queue.has_unspooled() || queue.has_urgent_marks() || marks;
        wanted.then_some(Job::Append)
    }

    fn append(&mut self) -> std::io::Result<()> {
        let (events, (marks, version)) = {
            let state = self.shared.lock();
            (state.queue.unspooled(BATCH_EVENTS), state.queue.marks())
        };
        self.spool.append(&events, &marks)?;
        let last = events.last().map_or(0, |event| event.seq);
        self.shared.lock().queue.set_spooled(last, version);
        Ok(())
    }

    /// All events at once: pointers are copied under the lock, bytes are not.
    fn rewrite(&mut self) -> std::io::Result<()> {
        let (events, (marks, version)) = {
            let state = self.shared.lock();
            (state.queue.live_after(0, usize::MAX), state.queue.marks())
        };
        self.spool.rewrite(&events, &marks)?;
        let last = events.last().map_or(0, |event| event.seq);
        self.shared.lock().queue.set_spooled(last, version);
        Ok(())
    }

    fn succeeded(&mut self) {
        self.rewrite = false;
        self.retry_at = None;
        let fault = self.shared.lock().spool_fault.take();
        if let Some(fault) = fault {
            tracing::info!(fault, "the event spool can be written again");
        }
        metrics::spool_written(self.spool.length());
    }

    fn failed(&mut self, error: &std::io::Error) {
        self.rewrite = true;
        self.retry_at = Instant::now().checked_add(RETRY_EVERY);
        let cursor = self.shared.lock().queue.marks().0.cursor;
        if self.spool.last_seq() <= cursor {
            self.spool.forget();
        }
        let told = self.shared.lock().spool_fault.replace(error.to_string()).is_some();
        if !told {
            metrics::spool_failed();
            tracing::error!(
                %error,
                "the event spool cannot be written; unacknowledged events are kept in memory only \
                 until it can"
            );
        }
    }
}

/// The thread, ended and joined when the last user of the outbox is gone.
#[derive(Debug)]
pub(crate) struct WriterThread {
    shared: Arc<Shared>,
    spool: Arc<Mutex<Spool>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl WriterThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub(crate) fn start(shared: &Arc<Shared>, spool: Spool) -> std::io::Result<Self> {
        let started = Self {
            shared: Arc::clone(shared),
            spool: Arc::new(Mutex::new(spool)),
            thread: Mutex::new(None),
        };
        started.ensure()?;
        Ok(started)
    }

    /// Starts the thread again if it is gone, which only a fault of ours can cause.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub(crate) fn ensure(&self) -> std::io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        let (shared, spool) = (Arc::clone(&self.shared), Arc::clone(&self.spool));
        let builder = std::thread::Builder::new().name("provost-outbox".to_owned());
        *thread = Some(builder.spawn(move || write_until_closed(&shared, &spool))?);
        Ok(())
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake_writer();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // An error is a panic of the thread, which the panic hook has told already.
            drop(thread.join());
        }
    }
}
