//! Who lives, who ended, and what is still left of it.
//!
//! A run ends in two steps. When its main process has ended, and before that is reaped (so that
//! the number of its group cannot belong to anybody else), the group is killed. Then strays are
//! looked for and killed until none is left; only then the end is told.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::protocol::exit::ChildExit;
use crate::protocol::spec::SignalName;
use crate::runtimes::keeper::cgroup::Group;
use crate::runtimes::keeper::spawn::Begun;
use crate::runtimes::keeper::wire::{RunId, Start};
use crate::runtimes::keeper::{proc, sys};

/// Longest time from the end of a main process to the report of it.
pub(super) const CLEAR_MAX: Duration = Duration::from_secs(2);

/// Longest time between the stop signal and the kill when the keeper ends.
pub(super) const LEAVING_GRACE_MAX: Duration = Duration::from_secs(5);

/// Time between two looks for strays while something is being ended.
const SWEEP_EVERY: Duration = Duration::from_millis(5);

/// Longest time that a stray without a readable environment is waited for: it is empty for a moment
/// while a process executes a new program.
const RECOGNISE_MAX: Duration = Duration::from_millis(100);

/// Time between two records of the descendants of runs that have no marks.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// A run that ended and of which nothing is left, or as little as could be achieved.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) run: RunId,
    pub(super) log_file: std::path::PathBuf,
    pub(super) exit: ChildExit,
    pub(super) note: Option<String>,
}

#[derive(Debug)]
struct Run {
    main: i32,
    stop_signal: SignalName,
    grace: Duration,
    marks: Vec<String>,
    log_file: std::path::PathBuf,
    group: Option<Group>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Running,
    /// Asked to stop because the keeper ends or its daemon died; killed at this time.
    Stopping {
        kill_at: Duration,
    },
    /// Killed; the main process has not been seen to end yet.
    Killed,
    /// The main process is reaped.
    Clearing {
        exit: ChildExit,
        since: Duration,
    },
}

/// Which run a stray belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    Run(RunId),
    /// It cannot be told yet; none of the ending runs is over before it can.
    Unknown {
        since: Duration,
    },
    /// None that is known.
    Nobody,
}

/// All runs and all other children of the keeper.
#[derive(Debug)]
pub(super) struct Runs {
    me: i32,
    runs: BTreeMap<RunId, Run>,
    by_main: BTreeMap<i32, RunId>,
    /// Processes that were re-parented to the keeper, with the run they belong to. Only the keeper
    /// reaps them, so a pid in here is never a stranger's.
    strays: BTreeMap<i32, Owner>,
    /// Descendants that were seen under a run: pid to start time and run.
    seen: BTreeMap<i32, (u64, RunId)>,
    next_record: Duration,
}

impl Runs {
    /// No runs yet.
    pub(super) fn new() -> Self {
        Self {
            me: rustix::process::getpid().as_raw_nonzero().get(),
            runs: BTreeMap::new(),
            by_main: BTreeMap::new(),
            strays: BTreeMap::new(),
            seen: BTreeMap::new(),
            next_record: Duration::ZERO,
        }
    }

    /// Takes a run that has just begun.
    pub(super) fn add(&mut self, start: &Start, begun: Begun) {
        let run = Run {
            main: begun.pid,
            stop_signal: start.stop_signal,
            grace: Duration::from_millis(start.grace_ms),
            marks: start.mark_entries(),
            log_file: start.log.file.clone(),
            group: begun.group,
            phase: Phase::Running,
        };
        self.by_main.insert(begun.pid, start.run);
        self.runs.insert(start.run, run);
    }

    /// Sends a signal to the group of a run whose main process is not reaped.
    pub(super) fn signal(&mut self, id: RunId, signal: SignalName, now: Duration) {
        if signal == SignalName::Kill {
            return self.kill(id, now);
        }
        self.record(id);
        let Some(run) = self.runs.get(&id) else { return };
        match run.phase {
            Phase::Running | Phase::Stopping { .. } | Phase::Killed => {
                signal_group(run.main, number(signal));
                // A stopped process takes its signal only when it goes on.
                signal_group(run.main, Signal::CONT);
            }
            Phase::Clearing { .. } => {}
        }
    }

    /// Kills a run: group, descendants, strays.
    pub(super) fn kill(&mut self, id: RunId, now: Duration) {
        self.record(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        match run.phase {
            Phase::Running | Phase::Stopping { .. } => run.phase = Phase::Killed,
            Phase::Killed | Phase::Clearing { .. } => return,
        }
        let main = run.main;
        if let Some(group) = &run.group {
            group.kill();
        }
        // Those first that can be found only while their parents live.
        let descendants = proc::descendants(main);
        signal_group(main, Signal::KILL);
        kill_all(&descendants);
        self.sweep(now);
    }

    /// Asks a run to stop and sets the time at which it is killed: after its grace, at most
    /// `grace_max`.
    pub(super) fn stop(&mut self, id: RunId, grace_max: Duration, now: Duration) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let signal = run.stop_signal;
        match run.phase {
            Phase::Running => {
                let kill_at = now.saturating_add(run.grace.min(grace_max));
                run.phase = Phase::Stopping { kill_at };
            }
            Phase::Stopping { kill_at } => {
                let kill_at = kill_at.min(now.saturating_add(grace_max));
                run.phase = Phase::Stopping { kill_at };
                return;
            }
            Phase::Killed | Phase::Clearing { .. } => return,
        }
        self.signal(id, signal, now);
    }

    /// Reaps everything that has ended.
    pub(super) fn reap(&mut self, now: Duration) {
        while let Some(pid) = sys::peek_ended() {
            let raw = pid.as_raw_nonzero().get();
            let id = self.by_main.remove(&raw);
            if id.is_some() {
                // Still unreaped: the group's number is ours.
                signal_group(raw, Signal::KILL);
            }
            let status = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            self.strays.remove(&raw);
            self.seen.remove(&raw);
            let Some(run) = id.and_then(|id| self.runs.get_mut(&id)) else { continue };
            let group = run.group.as_ref();
            if let Some(group) = group.filter(|group| group.is_populated()) {
                group.kill();
            }
            let exit = match status {
                Ok(Some((_, status))) => match group {
                    Some(group) => group.exit(exit(status)),
                    None => exit(status),
                },
                Ok(None) | Err(_) => {
                    ChildExit::Lost { message: "its status could not be read".to_owned() }
                }
            };
            run.phase = Phase::Clearing { exit, since: now };
        }
    }

    /// Does what is due, and gives the runs that are over.
    pub(super) fn advance(&mut self, now: Duration) -> Vec<Ended> {
        let due: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, run)| matches!(run.phase, Phase::Stopping { kill_at } if kill_at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.kill(id, now);
        }
        if now >= self.next_record {
            self.next_record = now + RECORD_EVERY;
            self.record_unmarked();
        }
        if self.is_ending() {
            self.sweep(now);
        }
        self.take_ended(now)
    }

    fn take_ended(&mut self, now: Duration) -> Vec<Ended> {
        let mut ended = Vec::new();
        let strays = &self.strays;
        self.runs.retain(|id, run| {
            let Phase::Clearing { exit, since } = &run.phase else { return true };
            let of_it = |owner: &&Owner| match **owner {
                Owner::Run(owner) => owner == *id,
                Owner::Unknown { .. } => true,
                Owner::Nobody => false,
            };
            let strays = strays.values().filter(of_it).count();
            let left =
                strays.max(run.group.as_ref().map_or(0, |group| group.is_populated().into()));
            if left > 0 && now < *since + CLEAR_MAX {
                return true;
            }
            let note = (left > 0).then(|| {
                format!("{left} of its processes were killed but have not ended within 2 s")
            });
            let (exit, log_file) = (exit.clone(), run.log_file.clone());
            ended.push(Ended { run: *id, log_file, exit, note });
            false
        });
        for over in &ended {
            self.seen.retain(|_, (_, owner)| *owner != over.run);
        }
        ended
    }

    /// Kills every child that is left, whoever it belonged to; true when none is.
    pub(super) fn clear_all(&mut self) -> bool {
        let descendants = proc::descendants(self.me);
        kill_all(&descendants);
        descendants.is_empty()
    }

    /// When [`Self::advance`] is to be called at the latest.
    pub(super) fn deadline(&self, now: Duration) -> Option<Duration> {
        if self.is_ending() {
            return Some(now + SWEEP_EVERY);
        }
        let kills = self.runs.values().filter_map(|run| match run.phase {
            Phase::Stopping { kill_at } => Some(kill_at),
            Phase::Running | Phase::Killed | Phase::Clearing { .. } => None,
        });
        let unmarked = self.runs.values().any(|run| run.marks.is_empty());
        kills.chain(unmarked.then_some(self.next_record)).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn is_ending(&self) -> bool {
        self.runs.values().any(|run| match run.phase {
            Phase::Killed | Phase::Clearing { .. } => true,
            Phase::Running | Phase::Stopping { .. } => false,
        })
    }

    /// Finds the strays of all runs and kills those of runs that end.
    fn sweep(&mut self, now: Duration) {
        for pid in proc::children(self.me) {
            if self.by_main.contains_key(&pid) {
                continue;
            }
            let since = match self.strays.get(&pid) {
                None => now,
                Some(Owner::Unknown { since }) => *since,
                Some(Owner::Run(_) | Owner::Nobody) => continue,
            };
            let owner = self.owner(pid, since, now);
            self.strays.insert(pid, owner);
        }
        for (pid, owner) in &self.strays {
            let Owner::Run(id) = owner else { continue };
            let Some(run) = self.runs.get(id) else { continue };
            match run.phase {
                Phase::Running | Phase::Stopping { .. } => continue,
                Phase::Killed | Phase::Clearing { .. } => {}
            }
            let descendants = proc::descendants(*pid);
            kill_all(&[(*pid, self.me)]);
            kill_all(&descendants);
        }
    }

    /// Tells which run a stray came from. It was first seen at `since`.
    fn owner(&self, pid: i32, since: Duration, now: Duration) -> Owner {
        // A child that nobody has reaped yet has its entry.
        let Some(stat) = proc::stat(pid).filter(|stat| !stat.is_dead()) else {
            return Owner::Nobody;
        };
        let seen = self.seen.get(&pid).filter(|(start, _)| *start == stat.start_time);
        if let Some((_, run)) = seen {
            return Owner::Run(*run);
        }
        // A session's number stays taken while a member lives, so equal numbers are one session.
        let by_number =
            |(_, run): &(&RunId, &Run)| stat.session == run.main || stat.group == run.main;
        if let Some((id, _)) = self.runs.iter().find(by_number) {
            return Owner::Run(*id);
        }
        let environment = proc::environment(pid);
        if let Some((id, _)) = self.runs.iter().find(|(_, run)| environment.carries(&run.marks)) {
            return Owner::Run(*id);
        }
        if let Some((_, run)) = self.seen.get(&stat.session) {
            return Owner::Run(*run);
        }
        if environment.is_empty() && now < since + RECOGNISE_MAX {
            return Owner::Unknown { since };
        }
        Owner::Nobody
    }

    /// Remembers the descendants of a run, to know them when their parents are gone.
    fn record(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        for (pid, _) in proc::descendants(run.main) {
            if let Some(stat) = proc::stat(pid) {
                self.seen.insert(pid, (stat.start_time, id));
            }
        }
    }

    fn record_unmarked(&mut self) {
        let unmarked = self.runs.iter().filter(|(_, run)| run.marks.is_empty());
        let unmarked: Vec<RunId> = unmarked.map(|(id, _)| *id).collect();
        if !unmarked.is_empty() {
            self.seen.retain(|pid, (start, owner)| {
                !unmarked.contains(owner)
                    || proc::stat(*pid).is_some_and(|stat| stat.start_time == *start)
            });
        }
        for id in unmarked {
            self.record(id);
        }
    }
}

fn exit(status: WaitStatus) -> ChildExit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ChildExit::Exited { code },
        (None, Some(signal)) => ChildExit::Signaled { signal },
        (None, None) => ChildExit::Lost { message: "its status makes no sense".to_owned() },
    }
}

/// Signals a process group whose leader is not reaped. Fails only when nobody is left in it.
fn signal_group(leader: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(leader) {
        rustix::process::kill_process_group(group, signal).ok();
    }
}

/// Kills processes, given with their parents; one that has another parent by now is either ended
/// or has become the keeper's child, which the next sweep finds.
fn kill_all(processes: &[(i32, i32)]) {
    for (pid, parent) in processes {
        proc::kill_if(*pid, |stat| stat.parent == *parent);
    }
}

pub(super) fn number(signal: SignalName) -> Signal {
    match signal {
        SignalName::Term => Signal::TERM,
        SignalName::Int => Signal::INT,
        SignalName::Quit => Signal::QUIT,
        SignalName::Hup => Signal::HUP,
        SignalName::Usr1 => Signal::USR1,
        SignalName::Usr2 => Signal::USR2,
        SignalName::Kill => Signal::KILL,
    }
}
