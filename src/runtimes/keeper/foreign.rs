//! Runs that an earlier keeper had begun: no children of this one, so they are watched and
//! signalled through pidfds.
//!
//! How such a process ended is read from the process itself until its parent reaps it, and from its
//! pidfd after that (Linux 6.15 and newer); else only that it ended is known. What it orphans goes
//! to somebody else, and is found by session, group and marks instead.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use crate::protocol::exit::ChildExit;
use crate::protocol::spec::SignalName;
use crate::runtimes::keeper::book::Unfinished;
use crate::runtimes::keeper::cgroup::Group;
use crate::runtimes::keeper::loss::{self, Leftover};
use crate::runtimes::keeper::runs::{CLEAR_MAX, Ended, number};
use crate::runtimes::keeper::wire::{Record, RunId};
use crate::runtimes::keeper::{proc, sys};

/// Time between two looks for what is left of ending runs: each reads all of `/proc`.
const SWEEP_EVERY: Duration = Duration::from_millis(20);

/// Looks in a row that must find nothing.
const QUIET_LOOKS: u32 = 2;

/// In place of a process that turned out to be a stranger.
const NOBODY: i32 = 0;

#[derive(Debug)]
struct Run {
    main: i32,
    start_time: u64,
    marks: Vec<String>,
    stop_signal: SignalName,
    grace: Duration,
    log_file: PathBuf,
    group: Option<Group>,
    /// None once it has ended.
    pidfd: Option<OwnedFd>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Running,
    Stopping {
        kill_at: Duration,
    },
    Killed,
    /// It has ended, and how cannot be read yet.
    Unread {
        since: Duration,
    },
    /// The main process has ended; what is left of the run is killed.
    Clearing {
        exit: ChildExit,
        since: Duration,
        quiet: u32,
    },
}

/// All such runs.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    runs: BTreeMap<RunId, Run>,
    next_sweep: Duration,
}

impl Foreign {
    /// Takes a run over. If its process is not there any more, the run is told as lost; if
    /// somebody else has its number, that one is left alone.
    pub(super) fn take(&mut self, record: &Record, now: Duration) {
        let mut main = i32::try_from(record.pid).unwrap_or_default();
        let mut pidfd = proc::open(main, record.start_time);
        if pidfd.is_some() && !is_ours(main, &record.marks) {
            (main, pidfd) = (NOBODY, None);
        }
        let phase = match &pidfd {
            Some(_) => Phase::Running,
            None => clearing(lost("it ended while no keeper watched"), now),
        };
        let run = Run {
            main,
            start_time: record.start_time,
            marks: record.marks.clone(),
            stop_signal: record.stop_signal,
            grace: Duration::from_millis(record.grace_ms),
            log_file: record.log.file.clone(),
            // Of a stranger's process the record says nothing.
            group: record.group.as_deref().filter(|_| main != NOBODY).and_then(Group::at),
            pidfd,
            phase,
        };
        self.runs.insert(record.run, run);
    }

    /// Kills what a start has left that an earlier keeper did not live to finish. Nobody was told
    /// that it began.
    pub(super) fn take_unfinished(&mut self, unfinished: &Unfinished, now: Duration) {
        let run = Run {
            main: NOBODY,
            start_time: 0,
            marks: unfinished.marks.clone(),
            stop_signal: SignalName::Kill,
            grace: Duration::ZERO,
            log_file: PathBuf::new(),
            group: None,
            pidfd: None,
            phase: clearing(lost("its keeper was killed while it began"), now),
        };
        self.runs.insert(unfinished.run, run);
    }

    /// Sends a signal to the group of a run.
    pub(super) fn signal(&mut self, id: RunId, signal: SignalName) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if signal == SignalName::Kill {
            run.kill();
        } else {
            run.signal(number(signal));
            run.signal(Signal::CONT);
        }
    }

    /// Kills a run.
    pub(super) fn kill(&mut self, id: RunId) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.kill();
        }
    }

    /// Asks a run to stop, and kills it after its grace, at most `grace_max`.
    pub(super) fn stop(&mut self, id: RunId, grace_max: Duration, now: Duration) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if matches!(run.phase, Phase::Running) {
            run.phase = Phase::Stopping { kill_at: now.saturating_add(run.grace.min(grace_max)) };
            let signal = run.stop_signal;
            self.signal(id, signal);
        }
    }

    /// Sees which processes have ended and does what is due; gives the runs that are over.
    pub(super) fn advance(&mut self, now: Duration) -> Vec<Ended> {
        if self.runs.is_empty() {
            return Vec::new();
        }
        self.read_ends(now);
        for run in self.runs.values_mut() {
            if matches!(run.phase, Phase::Stopping { kill_at } if kill_at <= now) {
                run.kill();
            }
        }
        if self.is_ending() && self.next_sweep <= now {
            self.next_sweep = now + SWEEP_EVERY;
            self.sweep();
        }
        self.take_ended(now)
    }

    fn read_ends(&mut self, now: Duration) {
        let watched: Vec<(RunId, &OwnedFd)> =
            self.runs.iter().filter_map(|(id, run)| Some((*id, run.pidfd.as_ref()?))).collect();
        let mut polled: Vec<PollFd<'_>> =
            watched.iter().map(|(_, pidfd)| PollFd::new(*pidfd, PollFlags::IN)).collect();
        if rustix::event::poll(&mut polled, Some(&Timespec::default())).is_err() {
            return;
        }
        let ended: Vec<RunId> = watched
            .iter()
            .zip(&polled)
            .filter(|(_, polled)| !polled.revents().is_empty())
            .map(|((id, _), _)| *id)
            .collect();
        for id in ended {
            if let Some(run) = self.runs.get_mut(&id) {
                run.read_end(now);
            }
        }
    }

    fn sweep(&mut self) {
        let ending = self.runs.values_mut().filter(|run| run.is_ending());
        let ending: Vec<&mut Run> = ending.collect();
        let leftovers: Vec<Leftover> = ending.iter().map(|run| run.leftover()).collect();
        let mut found = loss::kill_round(&leftovers);
        for group in ending.iter().filter_map(|run| run.group.as_ref()) {
            if group.is_populated() {
                group.kill();
                found += 1;
            }
        }
        for run in ending {
            run.looked_at(found);
        }
    }

    fn take_ended(&mut self, now: Duration) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.runs.retain(|id, run| {
            let Phase::Clearing { exit, since, quiet } = &run.phase else { return true };
            let quiet = *quiet >= QUIET_LOOKS;
            if !quiet && now < *since + CLEAR_MAX {
                return true;
            }
            let note = (!quiet).then(|| "not all of it has ended within 2 s".to_owned());
            let log_file = run.log_file.clone();
            ended.push(Ended { run: *id, log_file, exit: exit.clone(), note });
            false
        });
        ended
    }

    /// When [`Self::advance`] is to be called at the latest, if no pidfd tells before.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let kills = self.runs.values().filter_map(|run| match run.phase {
            Phase::Stopping { kill_at } => Some(kill_at),
            Phase::Running | Phase::Killed | Phase::Unread { .. } | Phase::Clearing { .. } => None,
        });
        kills.chain(self.is_ending().then_some(self.next_sweep)).min()
    }

    /// What is polled for the end of a process. One whose end cannot be read yet is left to the
    /// deadline: it would be ready all the time.
    pub(super) fn pidfds(&self) -> impl Iterator<Item = &OwnedFd> {
        let quiet = |run: &&Run| !matches!(run.phase, Phase::Unread { .. });
        self.runs.values().filter(quiet).filter_map(|run| run.pidfd.as_ref())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn is_ending(&self) -> bool {
        self.runs.values().any(Run::is_ending)
    }
}

impl Run {
    fn signal(&self, signal: Signal) {
        let Some(pidfd) = &self.pidfd else { return };
        if sys::signal_group_of(pidfd, signal).is_ok() {
            return;
        }
        // An older kernel, or nobody is left in the group.
        rustix::process::pidfd_send_signal(pidfd, signal).ok();
        for pid in proc::all() {
            proc::signal_if(pid, signal, |stat| stat.group == self.main && pid != self.main);
        }
    }

    fn kill(&mut self) {
        match self.phase {
            Phase::Running | Phase::Stopping { .. } => self.phase = Phase::Killed,
            Phase::Killed | Phase::Unread { .. } | Phase::Clearing { .. } => return,
        }
        if let Some(group) = &self.group {
            group.kill();
        }
        self.signal(Signal::KILL);
    }

    /// The process has ended: reads how.
    fn read_end(&mut self, now: Duration) {
        let Some(pidfd) = &self.pidfd else { return };
        let exit = exit_of(pidfd, self.main, self.start_time);
        let since = match self.phase {
            Phase::Unread { since } => since,
            Phase::Running | Phase::Stopping { .. } | Phase::Killed | Phase::Clearing { .. } => now,
        };
        self.phase = match exit {
            Seen::Exit(exit) => match &self.group {
                Some(group) => clearing(group.exit(exit), now),
                None => clearing(exit, now),
            },
            Seen::Later if now < since + CLEAR_MAX => Phase::Unread { since },
            Seen::Later | Seen::Never => clearing(
                lost("only Linux 6.15 and newer tell how it ended after its keeper was killed"),
                now,
            ),
        };
        if !matches!(self.phase, Phase::Unread { .. }) {
            self.pidfd = None;
        }
    }

    /// A look for what is left of ending runs found this many processes.
    fn looked_at(&mut self, found: usize) {
        if let Phase::Clearing { quiet, .. } = &mut self.phase {
            *quiet = if found == 0 { *quiet + 1 } else { 0 };
        }
    }

    fn is_ending(&self) -> bool {
        match self.phase {
            Phase::Running | Phase::Stopping { .. } => false,
            Phase::Killed | Phase::Unread { .. } | Phase::Clearing { .. } => true,
        }
    }

    fn leftover(&self) -> Leftover {
        let main = Some(self.main).filter(|main| *main != NOBODY);
        Leftover { main, start_time: self.start_time, marks: self.marks.clone() }
    }
}

/// What can be read of an end at this moment.
enum Seen {
    Exit(ChildExit),
    /// Its parent has not reaped it, and it may not be read before.
    Later,
    Never,
}

/// Reads how a process ended that is no child.
fn exit_of(pidfd: &OwnedFd, pid: i32, start_time: u64) -> Seen {
    // Both once more in the other order: it may be reaped between the two.
    for _ in 0..2 {
        if let Some(status) = sys::reaped_status(pidfd) {
            return Seen::Exit(as_exit(status));
        }
        let Some(stat) = proc::stat(pid).filter(|stat| stat.start_time == start_time) else {
            continue;
        };
        let own = rustix::process::geteuid();
        let may_read = own.is_root() || proc::user(pid) == Some(own.as_raw());
        return if stat.is_dead() && may_read {
            Seen::Exit(as_exit(stat.wait_status))
        } else {
            Seen::Later
        };
    }
    Seen::Never
}

fn as_exit(status: i32) -> ChildExit {
    match sys::exit_of(status) {
        Some(Ok(code)) => ChildExit::Exited { code },
        Some(Err(signal)) => ChildExit::Signaled { signal },
        None => lost("its status makes no sense"),
    }
}

/// Whether the process is the leader of its own session, as every run begins, and carries the run's
/// marks. A program may have overwritten its environment; another run's marks tell a stranger.
fn is_ours(pid: i32, marks: &[String]) -> bool {
    let Some(stat) = proc::stat(pid) else { return false };
    let environment = proc::environment(pid);
    stat.session == pid
        && (environment.carries(marks) || !environment.names_any(marks) || stat.is_dead())
}

fn clearing(exit: ChildExit, since: Duration) -> Phase {
    Phase::Clearing { exit, since, quiet: 0 }
}

fn lost(message: &str) -> ChildExit {
    ChildExit::Lost { message: message.to_owned() }
}
