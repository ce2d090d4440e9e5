//! The keeper process: its loop, its daemons, its end.
//!
//! One `poll` over sockets, signals and pidfds, everything else is deadlines. A second thread rotates
//! log files (see `logs`); forks come from the first one only, which lives as long as the keeper.
//!
//! A daemon is who said hello last: the state folder's lock lets only one of them come that far. When
//! it is gone without a word, runs that are bound to it are ended and the others go on; when nothing
//! lives any more and nobody has come for a while, the keeper ends.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::protocol::exit::StartError;
use crate::protocol::spec::SignalName;
use crate::runtimes::keeper::book::Book;
use crate::runtimes::keeper::cgroup;
use crate::runtimes::keeper::control::{Control, eprint};
use crate::runtimes::keeper::door::Door;
use crate::runtimes::keeper::foreign::Foreign;
use crate::runtimes::keeper::lease::Leases;
use crate::runtimes::keeper::logs::Logs;
use crate::runtimes::keeper::pipes::{self, Pipes};
use crate::runtimes::keeper::proc::monotonic;
use crate::runtimes::keeper::runs::{Ended, LEAVING_GRACE_MAX, Runs};
use crate::runtimes::keeper::spawn::Given;
use crate::runtimes::keeper::state_dir::StateDir;
use crate::runtimes::keeper::wire::{
    FromKeeper, RUNS_MAX, Record, RunId, Start, ToKeeper, VERSION, VERSION_MIN, negotiate,
};
use crate::runtimes::keeper::{spawn, startup, sys};

/// Longest time spent on processes that nobody owns, and on unsent answers, before the exit.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Time that a keeper without a daemon and without living runs waits for one.
const LINGER: Duration = Duration::from_secs(5);

/// Connections that have not said hello yet; the oldest is closed for one more.
const GUESTS_MAX: usize = 4;

/// Reads from a daemon that another one follows; a socket holds less.
const LAST_READS_MAX: usize = 16;

/// Size of one record read from the signal descriptor, and of the number it begins with.
const SIGNAL_RECORD_BYTES: usize = 128;

/// Runs the keeper until it is told to end, or has nobody and nothing left.
pub(super) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    sys::close_inherited_files();
    match startup::set_up(arguments) {
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

/// What a keeper is made of.
pub(super) struct Parts {
    pub(super) signals: OwnedFd,
    pub(super) book: Book,
    pub(super) foreign: Foreign,
    pub(super) leases: Leases,
    /// Where control groups are made, if they can be.
    pub(super) groups: Option<cgroup::Home>,
    pub(super) door: Door,
    pub(super) logs: Logs,
    pub(super) pipes: Pipes,
    /// The lock and the folder, open as long as the keeper lives.
    pub(super) held: (OwnedFd, StateDir),
}

/// Makes the pipes that a run needs, and begins it.
fn spawn_with_pipes(
    start: &Start,
    given: Given<'_>,
) -> Result<(spawn::Begun, pipes::OurEnds), StartError> {
    let (child, ours) = pipes::prepare(&start.io).map_err(|message| {
        let program = start.command.first().cloned().unwrap_or_default();
        StartError::System { program, message }
    })?;
    Ok((spawn::start(start, given, child)?, ours))
}

/// A keeper at work.
pub(super) struct Keeper {
    signals: OwnedFd,
    book: Book,
    runs: Runs,
    foreign: Foreign,
    leases: Leases,
    groups: Option<cgroup::Home>,
    logs: Logs,
    pipes: Pipes,
    /// Closed when the keeper is on its way out.
    door: Option<Door>,
    /// The daemon, or nobody.
    control: Control,
    /// Connections that have not said hello.
    guests: Vec<Control>,
    /// Since when there is no daemon.
    alone_since: Option<Duration>,
    /// Since when it is on its way out.
    leaving: Option<Duration>,
    _held: (OwnedFd, StateDir),
}

impl Keeper {
    /// A keeper with its first connection.
    pub(super) fn new(parts: Parts, first: Control) -> Self {
        let Parts { signals, book, foreign, leases, groups, door, logs, pipes, held } = parts;
        let mut keeper = Self {
            signals,
            book,
            runs: Runs::new(),
            foreign,
            leases,
            groups,
            logs,
            pipes,
            door: Some(door),
            control: Control::nobody(),
            guests: Vec::new(),
            alone_since: Some(monotonic()),
            leaving: None,
            _held: held,
        };
        keeper.welcome(first);
        keeper
    }

    fn serve(&mut self) {
        loop {
            self.wait();
            if self.told_to_end() {
                self.leave();
            }
            self.answer_door();
            for command in self.read_commands() {
                self.obey(command);
            }
            let now = monotonic();
            self.pipes.turn(&mut self.control, now);
            self.runs.reap(now);
            let over = self.runs.advance(now).into_iter().chain(self.foreign.advance(now));
            for over in over.collect::<Vec<Ended>>() {
                self.tell_end(over);
            }
            self.rotate_logs(now);
            self.look_after_daemon(now);
            if self.is_done(now) {
                return self.clear();
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        let now = monotonic();
        let linger = self.alone_since.map(|since| since + LINGER);
        let deadlines = [
            self.runs.deadline(now),
            self.foreign.deadline(),
            self.logs.deadline(),
            self.pipes.deadline(),
        ];
        let linger = linger.filter(|_| !self.has_living());
        let deadline = deadlines.into_iter().flatten().chain(linger).min();
        let timeout = deadline.map(|at| at.saturating_sub(now));
        let timeout = timeout.map(|wait| Timespec::try_from(wait).unwrap_or_default());
        let events = self.pipes.events();
        let mut polled =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&events, PollFlags::IN)];
        if let Some(door) = &self.door {
            polled.push(PollFd::new(door.listener(), PollFlags::IN));
        }
        for control in std::iter::once(&self.control).chain(&self.guests) {
            let Some(socket) = control.socket() else { continue };
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, control.takes_commands());
            flags.set(PollFlags::OUT, control.has_output());
            polled.push(PollFd::new(socket, flags));
        }
        polled.extend(self.foreign.pidfds().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
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

    /// Greets who has come, and takes the first that says hello as the daemon.
    fn answer_door(&mut self) {
        let come = self.door.as_ref().map(Door::answer).unwrap_or_default();
        for stream in come {
            self.welcome(Control::new(stream));
        }
        for guest in std::mem::take(&mut self.guests) {
            self.listen_to(guest);
        }
    }

    fn listen_to(&mut self, mut guest: Control) {
        let mut commands = guest.read().into_iter();
        match commands.next() {
            Some(ToKeeper::Hello { version }) => {
                self.serve_daemon(guest, version);
                for command in commands {
                    self.obey(command);
                }
            }
            Some(_) => eprint("a connection began without hello and was closed"),
            None if guest.socket().is_some() => self.guests.push(guest),
            None => {}
        }
    }

    fn welcome(&mut self, mut guest: Control) {
        guest.send(&FromKeeper::Hello {
            version: VERSION,
            version_min: Some(VERSION_MIN),
            pid: std::process::id(),
        });
        self.guests.push(guest);
        if GUESTS_MAX < self.guests.len() {
            self.guests.remove(0);
        }
    }

    /// A daemon has said hello: from here on it commands.
    fn serve_daemon(&mut self, mut daemon: Control, version: u32) {
        if negotiate(version, version).is_none() {
            let message = format!("version {version} is not spoken here, {VERSION} is");
            daemon.send(&FromKeeper::Refused { message });
            return;
        }
        self.hear_out();
        let message = "another daemon has taken this keeper over".to_owned();
        self.control.send(&FromKeeper::Refused { message });
        // Before the inventory, which tells how runs have ended.
        self.pipes.resend(&mut daemon);
        for (runs, more) in self.book.inventory() {
            daemon.send(&FromKeeper::Inventory { runs, more });
        }
        self.control = daemon;
        self.alone_since = None;
    }

    /// Does what the last daemon had sent when it was killed.
    fn hear_out(&mut self) {
        for _ in 0..LAST_READS_MAX {
            let commands = self.control.read();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                self.obey(command);
            }
        }
    }

    fn read_commands(&mut self) -> Vec<ToKeeper> {
        if self.control.takes_commands() { self.control.read() } else { Vec::new() }
    }

    fn obey(&mut self, command: ToKeeper) {
        match command {
            // It has been answered.
            ToKeeper::Hello { .. } => {}
            ToKeeper::Start(start) => self.start(&start),
            ToKeeper::Signal { run, signal } => self.signal(run, signal),
            ToKeeper::Kill { run } => self.signal(run, SignalName::Kill),
            ToKeeper::Ack { run } => {
                self.book.forget(run);
                // Its messages were sent before its end.
                self.pipes.took(run, u64::MAX);
            }
            ToKeeper::Write { run, text } => self.pipes.write(run, &text, &mut self.control),
            ToKeeper::CloseStdin { run } => self.pipes.close_stdin(run, &mut self.control),
            ToKeeper::Took { run, up_to } => self.pipes.took(run, up_to),
            ToKeeper::Shutdown => self.leave(),
        }
    }

    fn signal(&mut self, run: RunId, signal: SignalName) {
        self.runs.signal(run, signal, monotonic());
        self.foreign.signal(run, signal);
    }

    fn start(&mut self, start: &Start) {
        match self.try_start(start) {
            Ok((begun, ends)) => self.began(start, begun, ends),
            Err(error) => {
                self.book.forget(start.run);
                self.control.send(&FromKeeper::StartFailed { run: start.run, error });
            }
        }
    }

    /// The program executes.
    fn began(&mut self, start: &Start, begun: spawn::Begun, ends: pipes::OurEnds) {
        if !pipes::owns_log(&start.io) {
            self.logs.add(&start.log, (start.generation, begun.log_length), monotonic());
        }
        self.pipes.add(start, ends);
        let pid = u32::try_from(begun.pid).unwrap_or_default();
        let (run, start_time) = (start.run, begun.start_time);
        let group = begun.group.as_ref().map(|group| group.path().to_owned());
        self.book.began(Record { group, ..Record::of(start, pid, start_time) });
        self.runs.add(start, begun);
        self.control.send(&FromKeeper::Started { run, pid, start_time });
    }

    fn try_start(&mut self, start: &Start) -> Result<(spawn::Begun, pipes::OurEnds), StartError> {
        let refused = |message| Err(StartError::Refused { message });
        if self.leaving.is_some() {
            return refused("the keeper is ending".to_owned());
        }
        if self.book.len() >= RUNS_MAX {
            return refused(format!("{RUNS_MAX} processes run already, which is the limit"));
        }
        let lease = match &start.owner {
            None => None,
            Some(owner) => match self.leases.take(&owner.name) {
                Ok(lease) => Some(lease),
                Err(message) => return refused(message),
            },
        };
        self.book.begins(start);
        let given = Given { home: self.groups.as_ref(), lease: lease.as_ref() };
        spawn_with_pipes(start, given)
    }

    fn tell_end(&mut self, over: Ended) {
        self.pipes.finish(over.run, &mut self.control);
        self.logs.remove(&over.log_file);
        let Ended { run, exit, note, .. } = over;
        self.book.ended(run, exit.clone(), note.clone());
        self.control.send(&FromKeeper::Exited { run, exit, note });
    }

    fn rotate_logs(&mut self, now: Duration) {
        for told in self.logs.check(now) {
            let message = match told {
                Ok(rotated) => FromKeeper::LogRotated(rotated),
                Err(message) => FromKeeper::Warned { message },
            };
            self.control.send_if_room(&message);
        }
    }

    /// Sends what is unsent, and sees whether the daemon is gone.
    fn look_after_daemon(&mut self, now: Duration) {
        for control in std::iter::once(&mut self.control).chain(&mut self.guests) {
            control.flush();
        }
        if self.alone_since.is_none() && self.control.socket().is_none() {
            self.alone_since = Some(now);
            for run in self.book.to_stop() {
                self.stop(run, Duration::MAX, now);
            }
        }
    }

    fn stop(&mut self, run: RunId, grace_max: Duration, now: Duration) {
        self.book.stopped(run);
        self.runs.stop(run, grace_max, now);
        self.foreign.stop(run, grace_max, now);
    }

    /// Begins to end: all runs are asked to stop, and killed a little later.
    fn leave(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        let now = monotonic();
        self.leaving = Some(now);
        // Who comes now finds nobody, begins another keeper, and that one waits for the lock.
        self.door = None;
        self.guests.clear();
        let living: Vec<RunId> = self.book.living().map(|record| record.run).collect();
        for run in living {
            self.stop(run, LEAVING_GRACE_MAX, now);
        }
    }

    fn has_living(&self) -> bool {
        !self.runs.is_empty() || !self.foreign.is_empty()
    }

    fn is_done(&self, now: Duration) -> bool {
        if self.has_living() {
            return false;
        }
        let is_over = |since: Duration| since + LINGER <= now;
        self.leaving.is_some() || self.alone_since.is_some_and(is_over)
    }

    /// Kills what nobody owns and sends what is unsent, for a short time.
    fn clear(&mut self) {
        self.door = None;
        if self.leaving.is_some() && self.control.socket().is_some() {
            // A daemon that ends its keeper knows of every end.
            self.book.close();
        }
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
