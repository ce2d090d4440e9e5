//! Ends what a run has left whose processes are no children of who ends them: in the daemon when
//! its keeper was killed, for runs that do not outlive it; in a keeper, for those of an earlier one.
//! Their sessions are found by number: it stays taken
//! while a member lives, and a new leader with the same number is known by its start time. What
//! left the session is found by the run's marks in its environment.

use std::time::Duration;

use rustix::event::Timespec;

use crate::runtimes::keeper::proc::{self, Stat, monotonic};

/// Longest time spent until all is gone.
const END_MAX: Duration = Duration::from_secs(2);

/// Looks in a row that must find nothing: a process that executes a new program at this moment has no
/// environment to be known by.
const QUIET_LOOKS: u32 = 3;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One run that a dead keeper had.
#[derive(Debug)]
pub(super) struct Leftover {
    /// Main process; none if the keeper died before it told.
    pub(super) main: Option<i32>,
    pub(super) start_time: u64,
    /// Entries `NAME=value` that only this run's processes have.
    pub(super) marks: Vec<String>,
}

impl Leftover {
    fn owns(&self, pid: i32, stat: &Stat) -> bool {
        if stat.start_time < self.start_time {
            return false;
        }
        self.main.is_some_and(|main| self.is_of_session(main, stat))
            || proc::environment(pid).carries(&self.marks)
    }

    fn is_of_session(&self, main: i32, stat: &Stat) -> bool {
        // Another process under the leader's number means that the session is another one.
        (stat.session == main || stat.group == main)
            && proc::stat(main).is_none_or(|leader| leader.start_time == self.start_time)
    }
}

/// Kills all that is left of these runs and waits until it is gone; gives the number of processes
/// that did not go in time.
pub(super) fn end(runs: &[Leftover]) -> usize {
    if runs.is_empty() {
        return 0;
    }
    let give_up = monotonic() + END_MAX;
    let mut quiet = 0;
    loop {
        let left = kill_round(runs);
        quiet = if left == 0 { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS || monotonic() >= give_up {
            return left;
        }
        let pause = Timespec::try_from(LOOK_EVERY).unwrap_or_default();
        rustix::event::poll(&mut [], Some(&pause)).ok();
    }
}

/// Kills what can be found and gives its number.
pub(super) fn kill_round(runs: &[Leftover]) -> usize {
    let oldest = runs.iter().map(|run| run.start_time).min().unwrap_or(u64::MAX);
    let mut found = 0;
    for pid in proc::all() {
        let young = |stat: &Stat| !stat.is_dead() && stat.start_time >= oldest;
        let Some(stat) = proc::stat(pid).filter(young) else { continue };
        if runs.iter().any(|run| run.owns(pid, &stat)) {
            found += 1;
            proc::kill_if(pid, |again| again.start_time == stat.start_time);
        }
    }
    found
}
