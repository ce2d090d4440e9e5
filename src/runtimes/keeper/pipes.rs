//! Pipes between the keeper and the runs that have some: read as fast as they fill, written as far
//! as they take, never waited for.
//!
//! One epoll descriptor stands for all of them, so that idle runs cost nothing. Each turn reads one
//! piece of each pipe that has something. What is read goes into the log (by `appender`) or, for a
//! stdio agent, through `lines` to the daemon.
//!
//! Writes to a run's standard input wait here while the run does not read, at most
//! [`STDIN_BYTES_MAX`]; a write beyond is refused whole and told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::runtimes::keeper::appender::{Appender, Sink};
use crate::runtimes::keeper::control::Control;
use crate::runtimes::keeper::lines::{LineQueue, Piece, Splitter};
use crate::runtimes::keeper::wire::{FromKeeper, IoMode, RunId, Start};

/// Bytes that may wait for one run to read its standard input.
pub(super) const STDIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes read from one pipe in one turn.
const READ_BYTES: usize = 64 * 1024;

/// Pipes looked at in one turn; the others come in the next.
const EVENTS_MAX: usize = 64;

/// Pieces read from the pipe of a run that has ended: more than a pipe holds, unless somebody
/// still writes, who is not of this run.
const LAST_READS_MAX: usize = 32;

/// Shortest time between two reports of what was dropped.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The ends of pipes and files that the child gets; none means what it had always got.
#[derive(Debug, Default)]
pub(super) struct ChildEnds {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// The ends that the keeper holds.
#[derive(Debug, Default)]
pub(super) struct OurEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Makes what a run of this mode needs.
pub(super) fn prepare(mode: &IoMode) -> Result<(ChildEnds, OurEnds), String> {
    let pipe =
        || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| format!("no pipe: {errno}"));
    let (mut child, mut ours) = (ChildEnds::default(), OurEnds::default());
    match mode {
        IoMode::File => {}
        IoMode::Pipe => {
            let (read, write) = pipe()?;
            // One pipe for both, so that their order stays.
            child.stderr = Some(write.try_clone().map_err(|error| format!("no file: {error}"))?);
            (ours.stdout, child.stdout) = (Some(read), Some(write));
        }
        IoMode::Lines => {
            let (read, write) = pipe()?;
            (ours.stdout, child.stdout) = (Some(read), Some(write));
            let (read, write) = pipe()?;
            (ours.stderr, child.stderr) = (Some(read), Some(write));
            let (read, write) = pipe()?;
            (child.stdin, ours.stdin) = (Some(read), Some(write));
        }
        IoMode::Files { stdin, stdout } => {
            let cannot = |path: &std::path::Path, error: io::Error| {
                format!("cannot open {}: {error}", path.display())
            };
            if let Some(path) = stdin {
                let file = File::open(path).map_err(|error| cannot(path, error))?;
                child.stdin = Some(file.into());
            }
            let mut options = File::options();
            let file = options.append(true).create(true).open(stdout);
            child.stdout = Some(file.map_err(|error| cannot(stdout, error))?.into());
        }
    }
    for end in [&ours.stdin, &ours.stdout, &ours.stderr].into_iter().flatten() {
        // Our ends only: the child's are files of their own and block as usual.
        rustix::io::ioctl_fionbio(end, true).map_err(|errno| format!("no pipe: {errno}"))?;
    }
    Ok((child, ours))
}

/// Whether the keeper writes the log of a run of this mode itself.
pub(super) fn owns_log(mode: &IoMode) -> bool {
    match mode {
        IoMode::Pipe | IoMode::Lines => true,
        IoMode::File | IoMode::Files { .. } => false,
    }
}

/// Which pipe of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Which {
    Out,
    Err,
    In,
}

impl Which {
    fn key(self, run: RunId) -> u64 {
        run.0 << 2
            | match self {
                Self::Out => 0,
                Self::Err => 1,
                Self::In => 2,
            }
    }

    fn of(key: u64) -> (RunId, Self) {
        let which = match key & 3 {
            0 => Self::Out,
            1 => Self::Err,
            _ => Self::In,
        };
        (RunId(key >> 2), which)
    }
}

/// One run with pipes.
#[derive(Debug)]
struct Io {
    ends: OurEnds,
    log: Option<Sink>,
    lines: Option<Lines>,
    stdin: VecDeque<u8>,
    stdin_watched: Watched,
    stdin_wanted: Wanted,
}

/// Whether epoll tells when standard input takes more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watched {
    Yes,
    No,
}

/// Whether the daemon still wants standard input open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    Open,
    Closed,
}

#[derive(Debug, Default)]
struct Lines {
    splitter: Splitter,
    queue: LineQueue,
    /// The last beat that was not sent.
    beat: Option<String>,
    told_too_long: u64,
    told_no_room: u64,
}

/// All runs with pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    epoll: OwnedFd,
    appender: Appender,
    runs: BTreeMap<RunId, Io>,
    /// Runs with messages that can be sent.
    ready: BTreeSet<RunId>,
    queued: usize,
    next_tell: Option<Duration>,
    chunk: Vec<u8>,
}

impl Pipes {
    /// No runs yet. Starts the thread that writes to the disk.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            appender: Appender::new()?,
            runs: BTreeMap::new(),
            ready: BTreeSet::new(),
            queued: 0,
            next_tell: None,
            chunk: vec![0; READ_BYTES],
        })
    }

    /// Readable when [`Self::turn`] has something to do.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Takes a run that has begun.
    pub(super) fn add(&mut self, start: &Start, ends: OurEnds) {
        if !owns_log(&start.io) {
            return;
        }
        for (which, end) in [(Which::Out, &ends.stdout), (Which::Err, &ends.stderr)] {
            if let Some(end) = end {
                let data = epoll::EventData::new_u64(which.key(start.run));
                // Fails only for want of memory; then the run's output waits until its end.
                epoll::add(&self.epoll, end, data, epoll::EventFlags::IN).ok();
            }
        }
        let io = Io {
            ends,
            log: Some(self.appender.begin(&start.log, start.generation)),
            lines: (start.io == IoMode::Lines).then(Lines::default),
            stdin: VecDeque::new(),
            stdin_watched: Watched::No,
            stdin_wanted: Wanted::Open,
        };
        self.runs.insert(start.run, io);
    }

    /// Reads and writes what can be, once each.
    pub(super) fn turn(&mut self, control: &mut Control, now: Duration) {
        if self.runs.is_empty() {
            return;
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        let timeout = rustix::event::Timespec::default();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, buffer, Some(&timeout)).is_err() {
            return;
        }
        for event in events {
            let (run, which) = Which::of(event.data.u64());
            match which {
                Which::In => self.flush_stdin(run, control),
                Which::Out | Which::Err => {
                    self.read(run, which);
                }
            }
        }
        self.send_lines(control);
        self.tell(control, now);
    }

    /// When [`Self::tell`] is to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.next_tell
    }

    /// Queues bytes for a run's standard input.
    pub(super) fn write(&mut self, run: RunId, text: &str, control: &mut Control) {
        let lost = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let io = self.runs.get_mut(&run).filter(|io| {
            io.ends.stdin.is_some()
                && io.stdin_wanted == Wanted::Open
                && io.stdin.len().saturating_add(text.len()) <= STDIN_BYTES_MAX
        });
        let Some(io) = io else {
            return control.send(&FromKeeper::WriteLost { run, bytes: lost });
        };
        io.stdin.extend(text.as_bytes());
        self.flush_stdin(run, control);
    }

    /// Closes a run's standard input once everything queued is written.
    pub(super) fn close_stdin(&mut self, run: RunId, control: &mut Control) {
        if let Some(io) = self.runs.get_mut(&run) {
            io.stdin_wanted = Wanted::Closed;
            self.flush_stdin(run, control);
        }
    }

    /// The daemon has taken the messages of a run up to this one.
    pub(super) fn took(&mut self, run: RunId, up_to: u64) {
        let Some(io) = self.runs.get_mut(&run) else { return };
        let over = io.log.is_none();
        if let Some(lines) = &mut io.lines {
            self.queued = self.queued.saturating_sub(lines.queue.took(up_to));
            self.ready.insert(run);
            if over && lines.queue.is_empty() {
                self.runs.remove(&run);
            }
        }
    }

    /// Another daemon is there: whatever the last one did not take is sent again, at once that of runs
    /// that have ended, so that it comes before their ends.
    pub(super) fn resend(&mut self, control: &mut Control) {
        for (run, io) in &mut self.runs {
            let Some(lines) = &mut io.lines else { continue };
            lines.queue.resend();
            if io.log.is_none() {
                let run = *run;
                lines
                    .queue
                    .send_all(|seq, line| control.send(&FromKeeper::Line { run, seq, line }));
            } else {
                self.ready.insert(*run);
            }
        }
    }

    /// A run has ended: what its pipes hold is read, its messages are sent before its end is told.
    pub(super) fn finish(&mut self, run: RunId, control: &mut Control) {
        for which in [Which::Out, Which::Err] {
            let mut reads = 0..LAST_READS_MAX;
            while reads.next().is_some() && self.read(run, which) {}
        }
        let Some(io) = self.runs.get_mut(&run) else { return };
        let Io { lines, log, .. } = io;
        if let (Some(Lines { splitter, queue, beat, .. }), Some(log)) = (lines, log) {
            let (queued, mut rest) = (&mut self.queued, Vec::new());
            splitter.finish(|piece| sort(piece, (queue, beat), queued, &mut rest));
            log.append(&rest);
        }
        self.tell_of(run, control);
        let Some(io) = self.runs.get_mut(&run) else { return };
        io.ends = OurEnds::default();
        io.stdin = VecDeque::new();
        io.log = None;
        self.ready.remove(&run);
        match &mut io.lines {
            Some(lines) if !lines.queue.is_empty() => {
                lines
                    .queue
                    .send_all(|seq, line| control.send(&FromKeeper::Line { run, seq, line }));
            }
            Some(_) | None => {
                self.runs.remove(&run);
            }
        }
    }

    /// Reads one piece; whether there may be more.
    fn read(&mut self, run: RunId, which: Which) -> bool {
        let Some(io) = self.runs.get_mut(&run) else { return false };
        let end = match which {
            Which::Out => &mut io.ends.stdout,
            Which::Err => &mut io.ends.stderr,
            Which::In => return false,
        };
        let Some(fd) = end.as_ref() else { return false };
        let count = match rustix::io::read(fd, &mut self.chunk) {
            Err(Errno::AGAIN) => return false,
            Err(Errno::INTR) => return true,
            Ok(0) | Err(_) => {
                // Closed, which also takes it out of epoll.
                *end = None;
                return false;
            }
            Ok(count) => count,
        };
        let bytes = self.chunk.get(..count).unwrap_or_default();
        let Some(log) = &io.log else { return true };
        match (&mut io.lines, which) {
            (Some(Lines { splitter, queue, beat, .. }), Which::Out) => {
                let (queued, mut rest) = (&mut self.queued, Vec::new());
                splitter.push(bytes, |piece| sort(piece, (queue, beat), queued, &mut rest));
                log.append(&rest);
                self.ready.insert(run);
            }
            (Some(_) | None, _) => log.append(bytes),
        }
        self.next_tell.get_or_insert(crate::runtimes::keeper::proc::monotonic() + TELL_EVERY);
        true
    }

    /// Writes as much as the run takes.
    fn flush_stdin(&mut self, run: RunId, control: &mut Control) {
        let Some(io) = self.runs.get_mut(&run) else { return };
        let mut wrote = 0_u64;
        while let (Some(fd), (head, _)) = (&io.ends.stdin, io.stdin.as_slices()) {
            if head.is_empty() {
                break;
            }
            match rustix::io::write(fd, head) {
                Ok(count) => {
                    io.stdin.drain(..count);
                    wrote = wrote.saturating_add(u64::try_from(count).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    // Nobody reads any more.
                    io.ends.stdin = None;
                    let lost = u64::try_from(io.stdin.len()).unwrap_or(u64::MAX);
                    io.stdin.clear();
                    control.send(&FromKeeper::WriteLost { run, bytes: lost });
                }
            }
        }
        if wrote > 0 {
            control.send(&FromKeeper::Wrote { run, bytes: wrote });
        }
        if io.stdin.is_empty() && io.stdin_wanted == Wanted::Closed {
            io.ends.stdin = None;
        }
        let Some(fd) = &io.ends.stdin else { return };
        let data = epoll::EventData::new_u64(Which::In.key(run));
        match (io.stdin.is_empty(), io.stdin_watched) {
            (false, Watched::No) => {
                if epoll::add(&self.epoll, fd, data, epoll::EventFlags::OUT).is_ok() {
                    io.stdin_watched = Watched::Yes;
                }
            }
            (true, Watched::Yes) => {
                epoll::delete(&self.epoll, fd).ok();
                io.stdin_watched = Watched::No;
            }
            (true, Watched::No) | (false, Watched::Yes) => {}
        }
    }

    /// Sends messages while the daemon takes them, one of each run in turn.
    pub(super) fn send_lines(&mut self, control: &mut Control) {
        if control.socket().is_none() {
            return;
        }
        let mut ready = std::mem::take(&mut self.ready);
        while !ready.is_empty() && control.takes_commands() {
            ready.retain(|run| self.send_next(*run, control));
        }
        self.ready = ready;
    }

    /// Sends the next messages of a run; whether there may be more to send.
    fn send_next(&mut self, run: RunId, control: &mut Control) -> bool {
        if !control.takes_commands() {
            return true;
        }
        let lines = self.runs.get_mut(&run).and_then(|io| io.lines.as_mut());
        let Some(lines) = lines else { return false };
        if let Some(line) = lines.beat.take() {
            control.send(&FromKeeper::Beat { run, line });
        }
        let Some((seq, line)) = lines.queue.next() else { return false };
        control.send(&FromKeeper::Line { run, seq, line });
        true
    }

    /// Tells what was dropped or put aside, if it is time.
    fn tell(&mut self, control: &mut Control, now: Duration) {
        if self.next_tell.is_none_or(|at| now < at) {
            return;
        }
        self.next_tell = None;
        let runs: Vec<RunId> = self.runs.keys().copied().collect();
        for run in runs {
            self.tell_of(run, control);
        }
    }

    fn tell_of(&mut self, run: RunId, control: &mut Control) {
        let Some(io) = self.runs.get_mut(&run) else { return };
        if let Some(log) = &io.log {
            let bytes = log.take_dropped();
            if bytes > 0 {
                let path = log.file().clone();
                control.send_if_room(&FromKeeper::OutputDropped { run, path, bytes });
            }
        }
        let Some(lines) = &mut io.lines else { return };
        let too_long = lines.splitter.too_long.saturating_sub(lines.told_too_long);
        let no_room = lines.queue.no_room.saturating_sub(lines.told_no_room);
        if too_long > 0 || no_room > 0 {
            lines.told_too_long = lines.splitter.too_long;
            lines.told_no_room = lines.queue.no_room;
            control.send_if_room(&FromKeeper::LinesLogged { run, too_long, no_room });
        }
    }
}

/// Where messages go: those about tasks, the last beat.
type Messages<'a> = (&'a mut LineQueue, &'a mut Option<String>);

/// Puts a piece of output where it belongs. A message that finds no room is log.
fn sort(piece: Piece<'_>, (queue, beat): Messages<'_>, queued: &mut usize, log: &mut Vec<u8>) {
    match piece {
        Piece::Log(bytes) => log.extend_from_slice(bytes),
        Piece::Beat(line) => *beat = Some(line.to_owned()),
        Piece::Event(line) if queue.admit(line.len(), *queued) => {
            *queued = queued.saturating_add(line.len());
            queue.push(line);
        }
        Piece::Event(line) => {
            log.extend_from_slice(line.as_bytes());
            log.push(b'\n');
        }
    }
}
