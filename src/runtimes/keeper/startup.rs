//! How a keeper begins: alone in its session, with the lock, the book of the last one, and a door.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, FlockOperation};

use crate::runtimes::keeper::book::Book;
use crate::runtimes::keeper::cgroup;
use crate::runtimes::keeper::control::{Control, eprint};
use crate::runtimes::keeper::door::Door;
use crate::runtimes::keeper::foreign::Foreign;
use crate::runtimes::keeper::helper::{Keeper, Parts};
use crate::runtimes::keeper::lease::Leases;
use crate::runtimes::keeper::logs::Logs;
use crate::runtimes::keeper::pipes::Pipes;
use crate::runtimes::keeper::proc::monotonic;
use crate::runtimes::keeper::state_dir::{LOCK, StateDir};
use crate::runtimes::keeper::sys;
use crate::runtimes::keeper::wire::{FromKeeper, RunId};

/// Time between two attempts to get the lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Prepares everything; `None` when the daemon was told why not, or is gone.
pub(super) fn set_up(arguments: impl Iterator<Item = OsString>) -> Result<Option<Keeper>, String> {
    let arguments: Vec<OsString> = arguments.collect();
    let (state_dir, lock_wait) = match arguments.as_slice() {
        [state_dir, lock_wait] => (PathBuf::from(state_dir), parse_milliseconds(lock_wait)),
        _ => (PathBuf::new(), None),
    };
    let lock_wait = lock_wait.ok_or("it is started by `provost up`, not by hand")?;
    let socket = control_socket()?;
    let mut control = Control::new(socket);
    match take_over(&state_dir, lock_wait, &control) {
        Ok(None) => Ok(None),
        Ok(Some(parts)) => Ok(Some(Keeper::new(parts, control))),
        Err(message) => {
            eprint(&message);
            control.send(&FromKeeper::Refused { message });
            Ok(None)
        }
    }
}

fn parse_milliseconds(text: &OsString) -> Option<Duration> {
    Some(Duration::from_millis(text.to_str()?.parse().ok()?))
}

fn control_socket() -> Result<UnixStream, String> {
    let stdin = std::io::stdin();
    let file_type = rustix::fs::fstat(&stdin)
        .map(|stat| FileType::from_raw_mode(stat.st_mode))
        .map_err(|errno| format!("standard input cannot be used: {errno}"))?;
    if file_type != FileType::Socket {
        return Err("standard input is no socket; it is started by `provost up`".to_owned());
    }
    let fd = stdin.as_fd().try_clone_to_owned();
    let socket = fd.map(UnixStream::from).map_err(|error| format!("no control socket: {error}"))?;
    socket.set_nonblocking(true).map_err(|error| format!("control socket blocks: {error}"))?;
    Ok(socket)
}

/// Becomes what the keeper has to be: alone in its session, subreaper, deaf to the terminal, the
/// only one with the lock; then takes over what the last keeper left.
fn take_over(
    state_dir: &Path,
    lock_wait: Duration,
    control: &Control,
) -> Result<Option<Parts>, String> {
    // Fails only when it leads a session already, which is as good.
    rustix::process::setsid().ok();
    let signals = sys::block_signals().map_err(|error| format!("no signals: {error}"))?;
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))
        .map_err(|errno| format!("cannot become subreaper: {errno}"))?;
    let lock_file = state_dir.join(LOCK);
    let Some(lock) = wait_for_lock(&lock_file, lock_wait, control)? else { return Ok(None) };
    let cannot = |error: std::io::Error| {
        format!("cannot use the state folder {}: {error}", state_dir.display())
    };
    let state = StateDir::open(state_dir).map_err(cannot)?;
    rustix::process::chdir("/").map_err(|errno| format!("cannot enter /: {errno}"))?;
    let (book, foreign) = inherit(&state);
    let groups = find_groups(state_dir);
    let leases = Leases::open(&state).map_err(cannot)?;
    let door = Door::open(&state).map_err(cannot)?;
    // After the signals were blocked, so that its thread has them blocked, too.
    let mut logs = Logs::new().map_err(|error| format!("no thread: {error}"))?;
    // The others are killed, and their next run may write its log itself.
    for record in book.living().filter(|record| record.outlives_keeper) {
        logs.watch(&record.log, monotonic());
    }
    let pipes = Pipes::new().map_err(|error| format!("no pipes: {error}"))?;
    let held = (OwnedFd::from(lock), state);
    Ok(Some(Parts { signals, book, foreign, leases, groups, door, logs, pipes, held }))
}

/// Where control groups are made; without that, runs are held by group, session and subreaper.
fn find_groups(state_dir: &Path) -> Option<cgroup::Home> {
    match cgroup::Home::find(state_dir) {
        Ok(home) => Some(home),
        Err(message) => {
            eprint(&format!("no control groups: {message}"));
            None
        }
    }
}

/// Takes over the runs of the last keeper, and kills those that were not to outlive it.
fn inherit(state: &StateDir) -> (Book, Foreign) {
    let (mut book, unfinished) = Book::open(state);
    let mut foreign = Foreign::default();
    let now = monotonic();
    if book.len() > 0 {
        sys::raise_open_files();
    }
    for record in book.living() {
        foreign.take(record, now);
    }
    let bound = book.living().filter(|record| !record.outlives_keeper);
    for run in bound.map(|record| record.run).collect::<Vec<RunId>>() {
        book.stopped(run);
        foreign.kill(run);
    }
    for unfinished in &unfinished {
        foreign.take_unfinished(unfinished, now);
    }
    (book, foreign)
}

/// Waits until no other keeper holds the lock: then none of its runs lives any more.
fn wait_for_lock(path: &Path, wait: Duration, control: &Control) -> Result<Option<File>, String> {
    let cannot = |error: std::io::Error| format!("cannot open lock {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    }
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(cannot)?;
    let give_up = monotonic() + wait;
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if monotonic() >= give_up {
            let holder = std::fs::read_to_string(path).unwrap_or_default();
            return Err(format!(
                "keeper.lock is still held after {} ms by the keeper with pid {}: either another \
                 daemon runs with this state directory, or the keeper of an ended one still stops \
                 its processes; stop that daemon or wait ({})",
                wait.as_millis(),
                holder.trim(),
                path.display(),
            ));
        }
        if daemon_left(control, LOCK_RETRY) {
            return Ok(None);
        }
    }
    // Only for people: the lock is the lock, not the number.
    let pid = format!("{}\n", std::process::id());
    let written = file.set_len(0).and_then(|()| file.rewind());
    written.and_then(|()| file.write_all(pid.as_bytes())).ok();
    Ok(Some(file))
}

/// Waits a while; true at once when the daemon closed the socket.
fn daemon_left(control: &Control, wait: Duration) -> bool {
    let Some(socket) = control.socket() else { return true };
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    let timeout = Timespec::try_from(wait).unwrap_or_default();
    rustix::event::poll(&mut polled, Some(&timeout)).is_ok_and(|count| count > 0)
}
