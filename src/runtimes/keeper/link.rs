//! The daemon's end of the control socket: shared state, and the two threads that serve it.
//!
//! Threads, not tasks: they must finish their work (kill what a dead keeper left, reap it, tell
//! all who wait) even while the async runtime shuts down, they sleep in the kernel all the time,
//! and there are two per keeper, not per run. Callers only ever put something into a queue.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use tokio::sync::{oneshot, watch};

use crate::protocol::exit::{ChildExit, StartError};
use crate::runtimes::keeper::inbox::Inbox;
use crate::runtimes::keeper::loss::{self, Leftover};
use crate::runtimes::keeper::wire::{Decoder, FromKeeper, RunId, ToKeeper, VERSION, encode};

/// Starts that wait to be sent, at most; more are refused. Other commands are few: each run is
/// killed once, and signals are left out beyond this number.
const QUEUE_MAX: usize = 1024;

/// Longest time a keeper may take to end its runs and itself: 5 s grace, 2 s until the killed are
/// gone, 2 s for strays, and some more.
pub(super) const END_MAX: Duration = Duration::from_secs(12);

const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

const READ_BYTES: usize = 64 * 1024;

/// How a run began, as the keeper tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) pid: u32,
    pub(super) start_time: u64,
}

/// What became of the greeting.
#[derive(Debug)]
pub(super) enum Greeting {
    Ready,
    Refused(String),
    OtherVersion(u32),
}

/// One run as the daemon knows it.
#[derive(Debug)]
struct Entry {
    begun: Option<Begun>,
    marks: Vec<String>,
    started: Option<oneshot::Sender<Result<Begun, StartError>>>,
    exited: Option<oneshot::Sender<ChildExit>>,
    inbox: Arc<Inbox>,
}

/// What a caller waits on.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) run: RunId,
    pub(super) started: oneshot::Receiver<Result<Begun, StartError>>,
    pub(super) exited: oneshot::Receiver<ChildExit>,
    pub(super) inbox: Arc<Inbox>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Vec<u8>>,
    runs: BTreeMap<RunId, Entry>,
    last_run: u64,
    greeting: Option<oneshot::Sender<Greeting>>,
    life: Life,
}

/// Where the keeper is in its life, as the daemon knows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Life {
    #[default]
    Up,
    /// Told to end, or about to be; no more starts.
    Closing,
    /// Reaped, and what it left is gone.
    Ended,
}

impl State {
    fn begin_to_close(&mut self) {
        if self.life == Life::Up {
            self.life = Life::Closing;
        }
    }
}

/// One keeper process, shared by everybody who uses it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) pid: u32,
    pidfd: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes of output that rotation dropped so far.
    pub(super) dropped_bytes: AtomicU64,
    /// How the keeper ended, once it has.
    pub(super) end: watch::Sender<Option<String>>,
}

impl Link {
    /// Takes a keeper that was just spawned.
    pub(super) fn new(pid: u32, pidfd: OwnedFd, greeting: oneshot::Sender<Greeting>) -> Arc<Self> {
        let state = State { greeting: Some(greeting), ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let dropped_bytes = AtomicU64::new(0);
        let end = watch::Sender::new(None);
        Arc::new(Self { pid, pidfd, state, changed, dropped_bytes, end })
    }

    /// Queues a start. `build` makes the message for the number that the run gets.
    pub(super) fn begin(
        &self,
        program: &str,
        marks: Vec<String>,
        build: impl FnOnce(RunId) -> ToKeeper,
    ) -> Result<Waits, StartError> {
        let mut state = self.lock();
        if state.life != Life::Up {
            let message = "the keeper is ending".to_owned();
            return Err(StartError::Refused { message });
        }
        if state.queue.len() >= QUEUE_MAX {
            let message = format!("{QUEUE_MAX} commands wait for the keeper already");
            return Err(StartError::Refused { message });
        }
        state.last_run += 1;
        let run = RunId(state.last_run);
        let framed = encode(&build(run)).map_err(|error| StartError::System {
            program: program.to_owned(),
            message: error.to_string(),
        })?;
        let (started, started_receiver) = oneshot::channel();
        let (exited, exited_receiver) = oneshot::channel();
        let (started, exited) = (Some(started), Some(exited));
        let inbox = Arc::new(Inbox::default());
        let entry = Entry { begun: None, marks, started, exited, inbox: Arc::clone(&inbox) };
        state.runs.insert(run, entry);
        state.queue.push_back(framed);
        self.changed.notify_all();
        Ok(Waits { run, started: started_receiver, exited: exited_receiver, inbox })
    }

    /// Queues a command about a run. What must not be left out is bounded by whoever sends it.
    pub(super) fn command(&self, command: &ToKeeper) {
        let mut state = self.lock();
        let may_be_left_out = matches!(command, ToKeeper::Signal { .. });
        if state.life == Life::Ended || (may_be_left_out && state.queue.len() >= QUEUE_MAX) {
            return;
        }
        if let Ok(framed) = encode(command) {
            state.queue.push_back(framed);
            self.changed.notify_all();
        }
    }

    /// Begins to end the keeper: it is told so once everything queued is sent.
    pub(super) fn close(&self) {
        self.lock().begin_to_close();
        self.changed.notify_all();
    }

    /// Kills the keeper.
    pub(super) fn kill(&self) {
        // Fails only when it has ended.
        rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends what is queued until the keeper ends; kills a keeper that does not end in time.
pub(super) fn write_loop(link: &Link, mut socket: UnixStream) {
    socket.set_write_timeout(Some(WRITE_TIMEOUT)).ok();
    let mut works = true;
    while let (true, Some(message)) = (works, next_message(link)) {
        works = send(link, &mut socket, &message);
    }
    // A message, not the end of the stream: the keeper goes on telling how its runs end.
    let told =
        works && encode(&ToKeeper::Shutdown).is_ok_and(|last| send(link, &mut socket, &last));
    if !told {
        // The keeper is gone already, or does not read; if it ever does, it finds the end.
        socket.shutdown(Shutdown::Write).ok();
    }
    let state = link.lock();
    let waited = link.changed.wait_timeout_while(state, END_MAX, |state| state.life != Life::Ended);
    if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
        tracing::warn!(keeper.pid = link.pid, "keeper did not end in time and is killed");
        link.kill();
    }
}

fn next_message(link: &Link) -> Option<Vec<u8>> {
    let mut state = link.lock();
    loop {
        if state.life == Life::Ended {
            return None;
        }
        if let Some(message) = state.queue.pop_front() {
            return Some(message);
        }
        if state.life == Life::Closing {
            return None;
        }
        state = link.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Sends one message; false when there is no use in sending more.
fn send(link: &Link, socket: &mut UnixStream, message: &[u8]) -> bool {
    let mut rest = message;
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The keeper does not read. That is waited for, unless it is to end.
                if link.lock().life != Life::Up {
                    return false;
                }
            }
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// Takes what the keeper tells until it is gone, then sees to what it left.
pub(super) fn read_loop(link: &Link, mut socket: UnixStream, mut keeper: Child) {
    let fault = read_messages(link, &mut socket);
    if fault.is_some() || !ends_in_time(link) {
        link.kill();
    }
    let status = match keeper.wait() {
        Ok(status) => status.to_string(),
        Err(error) => format!("status unknown: {error}"),
    };
    let reason = fault.map_or(String::new(), |fault| format!("; {fault}"));
    finish(link, format!("keeper {} ended ({status}{reason})", link.pid));
}

/// Reads until the end of the stream; gives what was wrong with it, if anything was.
fn read_messages(link: &Link, socket: &mut UnixStream) -> Option<String> {
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return None,
            Ok(count) => decoder.push(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        loop {
            match decoder.pop() {
                Ok(Some(message)) => take(link, message),
                Ok(None) => break,
                Err(error) => return Some(format!("it sent what cannot be read: {error}")),
            }
        }
    }
}

fn take(link: &Link, message: FromKeeper) {
    match message {
        FromKeeper::Hello { version: VERSION, .. } => greet(link, Greeting::Ready),
        FromKeeper::Hello { version, .. } => greet(link, Greeting::OtherVersion(version)),
        FromKeeper::Refused { message } => greet(link, Greeting::Refused(message)),
        FromKeeper::Started { run, pid, start_time } => {
            let begun = Begun { pid, start_time };
            let mut state = link.lock();
            if let Some(entry) = state.runs.get_mut(&run) {
                entry.begun = Some(begun);
                // Whoever waited may have left; then the run was killed by that.
                entry.started.take().map(|started| started.send(Ok(begun)));
            }
        }
        FromKeeper::StartFailed { run, error } => {
            let entry = link.lock().runs.remove(&run);
            entry.and_then(|entry| entry.started).map(|started| started.send(Err(error)));
        }
        FromKeeper::Exited { run, exit, note } => {
            let entry = link.lock().runs.remove(&run);
            if let Some(note) = note {
                let pid = entry.as_ref().and_then(|entry| entry.begun).map(|begun| begun.pid);
                tracing::warn!(pid, note, "a run left something behind");
            }
            let Some(entry) = entry else { return };
            entry.inbox.close();
            entry.exited.map(|exited| exited.send(exit));
        }
        FromKeeper::LogRotated(told) => {
            let (file, dropped) = (told.path.display(), told.dropped_bytes);
            let (kept, exact) = (told.kept_bytes, told.exact);
            link.dropped_bytes.fetch_add(dropped, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(%file, kept, dropped, exact, "log rotated, bytes were dropped");
            } else {
                tracing::debug!(%file, kept, exact, "log rotated");
            }
        }
        FromKeeper::Line { run, seq, line } => with_inbox(link, run, |inbox| inbox.line(seq, line)),
        FromKeeper::Beat { run, line } => with_inbox(link, run, |inbox| inbox.beat(line)),
        FromKeeper::Wrote { run, bytes } => with_inbox(link, run, |inbox| inbox.wrote(bytes)),
        FromKeeper::WriteLost { run, bytes } => with_inbox(link, run, |inbox| inbox.lost(bytes)),
        FromKeeper::OutputDropped { path, bytes, .. } => {
            link.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
            tracing::warn!(file = %path.display(), bytes, "output was dropped: the disk is slow");
        }
        FromKeeper::LinesLogged { run, too_long, no_room } => {
            with_inbox(link, run, |inbox| inbox.logged(too_long, no_room));
        }
        FromKeeper::Warned { message } => tracing::warn!(message, "keeper warns"),
    }
}

fn with_inbox(link: &Link, run: RunId, act: impl FnOnce(&Inbox)) {
    let inbox = link.lock().runs.get(&run).map(|entry| Arc::clone(&entry.inbox));
    if let Some(inbox) = inbox {
        act(&inbox);
    }
}

fn greet(link: &Link, greeting: Greeting) {
    // Nobody listens any more if the launch was given up.
    link.lock().greeting.take().map(|sender| sender.send(greeting));
}

fn ends_in_time(link: &Link) -> bool {
    let mut polled = [PollFd::new(&link.pidfd, PollFlags::IN)];
    let timeout = Timespec::try_from(END_MAX).unwrap_or_default();
    rustix::event::poll(&mut polled, Some(&timeout)).is_ok_and(|count| count > 0)
}

/// The keeper is gone: ends what it left behind, then tells all who wait.
fn finish(link: &Link, message: String) {
    let runs = {
        let mut state = link.lock();
        state.begin_to_close();
        std::mem::take(&mut state.runs)
    };
    let leftovers: Vec<Leftover> = runs
        .values()
        .map(|entry| Leftover {
            main: entry.begun.and_then(|begun| i32::try_from(begun.pid).ok()),
            start_time: entry.begun.map_or(0, |begun| begun.start_time),
            marks: entry.marks.clone(),
        })
        .collect();
    let left = loss::end(&leftovers);
    if left > 0 {
        tracing::error!(left, "processes of a lost keeper could not be ended");
    }
    link.lock().life = Life::Ended;
    link.changed.notify_all();
    for entry in runs.into_values() {
        let lost = ChildExit::Lost { message: message.clone() };
        let refused = StartError::Refused { message: message.clone() };
        entry.started.map(|started| started.send(Err(refused)));
        entry.inbox.close();
        entry.exited.map(|exited| exited.send(lost));
    }
    greet(link, Greeting::Refused(message.clone()));
    link.end.send_replace(Some(message));
}
