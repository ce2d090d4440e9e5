//! The daemon's end of the control socket to one keeper: a queue, and the two threads that serve it.
//!
//! Threads, not tasks: they must finish their work (kill what a dead keeper left, reap it, tell
//! all who wait) even while the async runtime shuts down, they sleep in the kernel all the time,
//! and there are two per keeper, not per run. Callers only ever put something into a queue.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use tokio::sync::{oneshot, watch};

use crate::runtimes::keeper::desk::{Begun, Desk, OrderError, Survivors};
use crate::runtimes::keeper::inbox::Inbox;
use crate::runtimes::keeper::wire::{
    Decoder, FromKeeper, Record, RunEnd, RunId, ToKeeper, encode, negotiate,
};

/// Starts that wait to be sent, at most; more are refused. Other commands are few: each run is
/// killed once, and signals are left out beyond this number.
const QUEUE_MAX: usize = 1024;

/// Longest time a keeper may take to end its runs and itself: 5 s grace, 2 s until the killed are
/// gone, 2 s for strays, and some more.
pub(super) const END_MAX: Duration = Duration::from_secs(12);

/// Longest wait for the end of a keeper whose connection broke.
const LOSS_MAX: Duration = Duration::from_secs(1);

const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

const READ_BYTES: usize = 64 * 1024;

/// What became of the greeting.
#[derive(Debug)]
pub(super) enum Greeting {
    Ready,
    Refused(String),
    OtherVersion(u32),
    /// The connection ended without a word.
    Nobody,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Vec<u8>>,
    greeting: Option<oneshot::Sender<Greeting>>,
    /// Parts of the inventory that have come.
    inventory: Vec<Record>,
    life: Life,
}

/// Where the keeper is in its life, as the daemon knows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Life {
    #[default]
    Up,
    /// Told to end, or about to be; no more starts.
    Closing,
    /// Left alone: it goes on without this daemon.
    Left,
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
    desk: Arc<Desk>,
    state: Mutex<State>,
    changed: Condvar,
    /// How the keeper ended, once it has.
    pub(super) end: watch::Sender<Option<String>>,
}

impl Link {
    /// A keeper that was just spawned or found.
    pub(super) fn new(
        (pid, pidfd): (u32, OwnedFd),
        desk: Arc<Desk>,
        greeting: oneshot::Sender<Greeting>,
    ) -> Arc<Self> {
        let state = State { greeting: Some(greeting), ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let end = watch::Sender::new(None);
        Arc::new(Self { pid, pidfd, desk, state, changed, end })
    }

    /// The runs that this keeper has, and those of its predecessors.
    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Queues a command that may be refused.
    pub(super) fn order(&self, command: &ToKeeper) -> Result<(), OrderError> {
        let mut state = self.lock();
        if state.life != Life::Up {
            return Err(OrderError::Refused("the keeper is ending".to_owned()));
        }
        if state.queue.len() >= QUEUE_MAX {
            let message = format!("{QUEUE_MAX} commands wait for the keeper already");
            return Err(OrderError::Refused(message));
        }
        let framed = encode(command).map_err(OrderError::Wire)?;
        state.queue.push_back(framed);
        self.changed.notify_all();
        Ok(())
    }

    /// Queues a command about a run. What must not be left out is bounded by whoever sends it: kills
    /// and acknowledgements come once for each run.
    pub(super) fn tell(&self, command: &ToKeeper) {
        let mut state = self.lock();
        let may_wait = matches!(command, ToKeeper::Signal { .. });
        let is_over = matches!(state.life, Life::Ended | Life::Left);
        if is_over || (may_wait && state.queue.len() >= QUEUE_MAX) {
            return;
        }
        if let Ok(framed) = encode(command) {
            state.queue.push_back(framed);
            self.changed.notify_all();
        }
    }

    /// Whether commands are taken.
    pub(super) fn is_up(&self) -> bool {
        self.lock().life == Life::Up && !self.ends_within(Duration::ZERO)
    }

    /// Begins to end the keeper: it is told so once everything queued is sent.
    pub(super) fn close(&self) {
        self.lock().begin_to_close();
        self.changed.notify_all();
    }

    /// Leaves the keeper and its runs to the next daemon.
    pub(super) fn leave(&self) {
        self.desk.release(self);
        let mut state = self.lock();
        if state.life == Life::Up {
            state.life = Life::Left;
        }
        self.changed.notify_all();
    }

    /// Kills the keeper.
    pub(super) fn kill(&self) {
        // Fails only when it has ended.
        rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
    }

    fn ends_within(&self, patience: Duration) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let timeout = Timespec::try_from(patience).unwrap_or_default();
        rustix::event::poll(&mut polled, Some(&timeout)).is_ok_and(|count| count > 0)
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
    let life = link.lock().life;
    if life != Life::Closing {
        // It is left alone, or the connection broke, and the reader sees to that.
        socket.shutdown(Shutdown::Both).ok();
        return;
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
        if matches!(state.life, Life::Closing | Life::Left) {
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

/// The process behind a link.
#[derive(Debug)]
pub(super) enum Process {
    /// A child of this one, to be reaped by it.
    Child(Child),
    /// Begun by an earlier daemon.
    Found,
}

/// Takes what the keeper tells until it is gone, then sees to what it left.
pub(super) fn read_loop(link: &Arc<Link>, mut socket: UnixStream, process: Process) {
    let fault = read_messages(link, &mut socket);
    let life = link.lock().life;
    let reason = fault.as_ref().map_or(String::new(), |fault| format!("; {fault}"));
    if life == Life::Left {
        link.end.send_replace(Some(format!("keeper {} was left alone", link.pid)));
        return;
    }
    let patience = if life == Life::Up { LOSS_MAX } else { END_MAX };
    // One that was found is who it seems to be only if it has answered; it is never killed for what
    // it says.
    let is_broken = fault.is_some() && matches!(process, Process::Child(_));
    if is_broken || (!link.ends_within(patience) && life == Life::Closing) {
        link.kill();
    }
    let ended = link.ends_within(patience);
    let status = match (ended, process) {
        (false, Process::Child(_) | Process::Found) => {
            "it lives, but closed the connection".to_owned()
        }
        (true, Process::Found) => "it was no child of this daemon".to_owned(),
        (true, Process::Child(mut keeper)) => match keeper.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("status unknown: {error}"),
        },
    };
    finish(link, format!("keeper {} ended ({status}{reason})", link.pid));
}

/// Reads until the end of the stream; gives what was wrong with it, if anything was.
fn read_messages(link: &Arc<Link>, socket: &mut UnixStream) -> Option<String> {
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

fn take(link: &Arc<Link>, message: FromKeeper) {
    match message {
        FromKeeper::Hello { version, version_min, .. } => {
            match negotiate(version_min.unwrap_or(version), version) {
                Some(version) => link.tell(&ToKeeper::Hello { version }),
                None => greet(link, Greeting::OtherVersion(version)),
            }
        }
        FromKeeper::Inventory { runs, more } => {
            let all = {
                let mut state = link.lock();
                state.inventory.extend(runs);
                if more { None } else { Some(std::mem::take(&mut state.inventory)) }
            };
            if let Some(all) = all {
                link.desk.attach(link, all);
                greet(link, Greeting::Ready);
            }
        }
        FromKeeper::Refused { message } => greet(link, Greeting::Refused(message)),
        FromKeeper::Started { run, pid, start_time } => {
            link.desk.started(run, Begun { pid, start_time });
        }
        FromKeeper::StartFailed { run, error } => link.desk.start_failed(run, error),
        FromKeeper::Exited { run, exit, note } => {
            if let Some(note) = &note {
                tracing::warn!(pid = link.desk.pid_of(run), note, "a run left something behind");
            }
            link.desk.ended(run, RunEnd { exit, note, at_ms: 0 });
        }
        FromKeeper::LogRotated(told) => {
            let (file, dropped) = (told.path.display(), told.dropped_bytes);
            let (kept, exact) = (told.kept_bytes, told.exact);
            link.desk.dropped_bytes.fetch_add(dropped, Ordering::Relaxed);
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
            link.desk.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
            tracing::warn!(file = %path.display(), bytes, "output was dropped: the disk is slow");
        }
        FromKeeper::LinesLogged { run, too_long, no_room } => {
            with_inbox(link, run, |inbox| inbox.logged(too_long, no_room));
        }
        FromKeeper::Warned { message } => tracing::warn!(message, "keeper warns"),
    }
}

fn with_inbox(link: &Link, run: RunId, act: impl FnOnce(&Inbox)) {
    if let Some(inbox) = link.desk.inbox(run) {
        act(&inbox);
    }
}

fn greet(link: &Link, greeting: Greeting) {
    // Nobody listens any more if the launch was given up.
    link.lock().greeting.take().map(|sender| sender.send(greeting));
}

/// The keeper is gone: its runs are ended or wait for the next one, and all who wait are told.
fn finish(link: &Link, message: String) {
    let survivors = {
        let mut state = link.lock();
        // Left alone while its end was waited for: the runs are the next daemon's all the same.
        let go_on = matches!(state.life, Life::Up | Life::Left);
        state.begin_to_close();
        if go_on { Survivors::GoOn } else { Survivors::End }
    };
    link.desk.lost(link, survivors, &message);
    link.lock().life = Life::Ended;
    link.changed.notify_all();
    greet(link, Greeting::Nobody);
    link.end.send_replace(Some(message));
}
