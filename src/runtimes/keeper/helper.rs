//! The keeper process: how it starts, its loop, how it ends.
//!
//! One `poll` over control socket and signals, everything else is deadlines. A second thread rotates
//! log files (see `logs`); forks come from the first one only, which lives as long as the keeper.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, FlockOperation};

use crate::protocol::exit::StartError;
use crate::runtimes::keeper::cgroup::Home;
use crate::runtimes::keeper::control::{Control, eprint};
use crate::runtimes::keeper::logs::Logs;
use crate::runtimes::keeper::proc::monotonic;
use crate::runtimes::keeper::runs::Runs;
use crate::runtimes::keeper::wire::{FromKeeper, RUNS_MAX, Start, ToKeeper, VERSION};
use crate::runtimes::keeper::{spawn, sys};

/// Time between two attempts to get the lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Longest time spent on processes that nobody owns, and on unsent answers, before the exit.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Size of one record read from the signal descriptor, and of the number it begins with.
const SIGNAL_RECORD_BYTES: usize = 128;

/// Runs the keeper until the daemon is gone or says so.
pub(super) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    sys::close_inherited_files();
    match set_up(arguments) {
        Ok(Some(mut keeper)) => {
            keeper.serve();
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::FAILURE,
        Err(message) => {
            eprint(&message);
            ExitCode::from(2)
        }
    }
}

/// Prepares everything; `None` when the daemon was told why not, or is gone.
fn set_up(arguments: impl Iterator<Item = OsString>) -> Result<Option<Keeper>, String> {
    let arguments: Vec<OsString> = arguments.collect();
    let (lock_file, lock_wait) = match arguments.as_slice() {
        [lock_file, lock_wait] => (PathBuf::from(lock_file), parse_milliseconds(lock_wait)),
        _ => (PathBuf::new(), None),
    };
    let lock_wait = lock_wait.ok_or("it is started by `provost up`, not by hand")?;
    let socket = control_socket()?;
    let mut control = Control::new(socket);
    match take_over(&lock_file, lock_wait, &mut control) {
        Ok(None) => Ok(None),
        Ok(Some((lock, signals))) => {
            // After the signals were blocked, so that its thread has them blocked, too.
            let logs = Logs::new().map_err(|error| format!("no thread: {error}"))?;
            let home = find_home(&lock_file);
            control.send(&FromKeeper::Hello { version: VERSION, pid: std::process::id() });
            let runs = Runs::new();
            Ok(Some(Keeper { control, signals, runs, logs, home, leaving: None, _lock: lock }))
        }
        Err(message) => {
            eprint(&message);
            control.send(&FromKeeper::Refused { message });
            Ok(None)
        }
    }
}

/// The home of control groups; without one runs are held by group, session and subreaper.
fn find_home(lock_file: &Path) -> Option<Home> {
    match Home::find(lock_file.parent().unwrap_or(Path::new("/"))) {
        Ok(home) => Some(home),
        Err(message) => {
            eprint(&format!("no control groups: {message}"));
            None
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

/// Becomes what the keeper has to be: alone in its session, subreaper, deaf to the terminal, and
/// the only one with the lock.
fn take_over(
    lock_file: &Path,
    lock_wait: Duration,
    control: &mut Control,
) -> Result<Option<(File, OwnedFd)>, String> {
    // Fails only when it leads a session already, which is as good.
    rustix::process::setsid().ok();
    let signals = sys::block_signals().map_err(|error| format!("no signals: {error}"))?;
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))
        .map_err(|errno| format!("cannot become subreaper: {errno}"))?;
    let Some(lock) = wait_for_lock(lock_file, lock_wait, control)? else { return Ok(None) };
    rustix::process::chdir("/").map_err(|errno| format!("cannot enter /: {errno}"))?;
    Ok(Some((lock, signals)))
}

/// Waits until no other keeper holds the lock: then none of its runs lives any more.
fn wait_for_lock(
    path: &Path,
    wait: Duration,
    control: &mut Control,
) -> Result<Option<File>, String> {
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

struct Keeper {
    control: Control,
    signals: OwnedFd,
    runs: Runs,
    logs: Logs,
    home: Option<Home>,
    /// Since when it is on its way out.
    leaving: Option<Duration>,
    _lock: File,
}

impl Keeper {
    fn serve(&mut self) {
        loop {
            self.wait();
            if self.told_to_end() {
                self.leave();
            }
            for command in self.read_commands() {
                self.obey(command);
            }
            let now = monotonic();
            self.runs.reap(now);
            for over in self.runs.advance(now) {
                self.logs.remove(&over.log_file);
                let (run, exit, note) = (over.run, over.exit, over.note);
                self.control.send(&FromKeeper::Exited { run, exit, note });
            }
            for told in self.logs.check(now) {
                self.control.send_if_room(&match told {
                    Ok(rotated) => FromKeeper::LogRotated(rotated),
                    Err(message) => FromKeeper::Warned { message },
                });
            }
            self.control.flush();
            if self.control.socket().is_none() {
                self.leave();
            }
            if self.leaving.is_some() && self.runs.is_empty() {
                return self.clear();
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        let now = monotonic();
        let deadline = self.runs.deadline(now).into_iter().chain(self.logs.deadline()).min();
        let timeout = deadline.map(|at| at.saturating_sub(now));
        let timeout = timeout.map(|wait| Timespec::try_from(wait).unwrap_or_default());
        let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(socket) = self.control.socket() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.control.takes_commands());
            flags.set(PollFlags::OUT, self.control.has_output());
            polled.push(PollFd::new(socket, flags));
        }
        // An error is an interruption: the loop looks at everything again.
        rustix::event::poll(&mut polled, timeout.as_ref()).ok();
    }

    /// Takes all signals that came; true if SIGTERM was among them.
    fn told_to_end(&self) -> bool {
        let mut records = [0_u8; SIGNAL_RECORD_BYTES * 8];
        let mut told = false;
        while let Ok(count) = rustix::io::read(&self.signals, &mut records) {
            let records = records.get(..count).unwrap_or_default();
            if records.is_empty() {
                break;
            }
            told |= records.chunks(SIGNAL_RECORD_BYTES).any(|record| {
                record.first_chunk().map(|number| u32::from_ne_bytes(*number))
                    == u32::try_from(libc::SIGTERM).ok()
            });
        }
        told
    }

    fn read_commands(&mut self) -> Vec<ToKeeper> {
        if self.control.takes_commands() { self.control.read() } else { Vec::new() }
    }

    fn obey(&mut self, command: ToKeeper) {
        match command {
            ToKeeper::Start(start) => self.start(&start),
            ToKeeper::Signal { run, signal } => self.runs.signal(run, signal, monotonic()),
            ToKeeper::Kill { run } => self.runs.kill(run, monotonic()),
            ToKeeper::Shutdown => self.leave(),
        }
    }

    fn start(&mut self, start: &Start) {
        let run = start.run;
        let refusal = if self.leaving.is_some() || self.control.socket().is_none() {
            Some("the keeper is ending".to_owned())
        } else if self.runs.len() >= RUNS_MAX {
            Some(format!("{RUNS_MAX} processes run already, which is the limit"))
        } else {
            None
        };
        let begun = match refusal {
            Some(message) => Err(StartError::Refused { message }),
            None => spawn::start(start, self.home.as_ref()),
        };
        match begun {
            Ok(begun) => {
                let pid = u32::try_from(begun.pid).unwrap_or_default();
                let start_time = begun.start_time;
                self.runs.add(start, begun);
                self.logs.add(&start.log, monotonic());
                self.control.send(&FromKeeper::Started { run, pid, start_time });
            }
            Err(error) => self.control.send(&FromKeeper::StartFailed { run, error }),
        }
    }

    /// Begins to end: all runs are asked to stop, and killed a little later.
    fn leave(&mut self) {
        if self.leaving.is_none() {
            let now = monotonic();
            self.leaving = Some(now);
            self.runs.stop_all(now);
        }
    }

    /// Kills what nobody owns and sends what is unsent, for a short time.
    fn clear(&mut self) {
        let give_up = monotonic() + LEAVE_MAX;
        loop {
            self.runs.reap(monotonic());
            self.control.flush();
            let done = self.runs.clear_all() && !self.control.has_output();
            if done || monotonic() >= give_up {
                return;
            }
            let pause = Timespec::try_from(Duration::from_millis(5)).unwrap_or_default();
            let mut polled = [PollFd::new(&self.signals, PollFlags::IN)];
            rustix::event::poll(&mut polled, Some(&pause)).ok();
            self.told_to_end();
        }
    }
}
