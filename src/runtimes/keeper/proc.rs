//! Reads `/proc` and signals processes without ever hitting a stranger.
//!
//! A process is identified by its pid and its start time (in clock ticks since boot): pids are
//! used again, pairs of the two are not.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

/// What is read from `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// User and system time in clock ticks, that of children it has waited for included.
    pub(crate) cpu_ticks: u64,
    pub(crate) threads: u64,
    /// Clock ticks from boot to the process's start.
    pub(crate) start_time: u64,
    /// Resident memory in pages.
    pub(crate) resident_pages: u64,
    /// Wait status of a process that has ended; 0 also where it may not be known.
    pub(crate) wait_status: i32,
}

impl Stat {
    /// Whether the process has ended and waits to be reaped.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Monotonic time since boot. The keeper's only clock.
pub(crate) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// Reads one process; `None` when it is gone.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, and may hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let id = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: id(1)?,
        group: id(2)?,
        session: id(3)?,
        cpu_ticks: (11..=14).filter_map(number).fold(0, u64::saturating_add),
        threads: number(17)?,
        start_time: number(19)?,
        resident_pages: fields.get(21)?.parse::<i64>().ok()?.try_into().unwrap_or_default(),
        wait_status: fields.get(49).and_then(|field| field.parse().ok()).unwrap_or_default(),
    })
}

/// Children of a process, of all its threads.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| parse_pids(&text))
        .collect()
}

/// Children of a process that was just looked at; cheaper than [`children`] for one without threads.
pub(crate) fn children_of(pid: i32, stat: &Stat) -> Vec<i32> {
    if stat.threads > 1 {
        return children(pid);
    }
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    text.map_or_else(|_| Vec::new(), |text| parse_pids(&text))
}

fn parse_pids(text: &str) -> Vec<i32> {
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// All descendants of a process as (pid, parent), parents before their children.
pub(crate) fn descendants(pid: i32) -> Vec<(i32, i32)> {
    let mut found: Vec<(i32, i32)> = children(pid).into_iter().map(|child| (child, pid)).collect();
    let mut next = 0;
    while let Some((parent, _)) = found.get(next).copied() {
        found.extend(children(parent).into_iter().map(|child| (child, parent)));
        next += 1;
    }
    found
}

/// All processes.
pub(crate) fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Entries `NAME=value` of the environment a process began with.
#[derive(Debug, Default)]
pub(crate) struct Environment(BTreeSet<Vec<u8>>);

/// Reads the environment a process began with; empty when it cannot be read, and for a moment while
/// the process executes a new program.
pub(crate) fn environment(pid: i32) -> Environment {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let entries = bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    Environment(entries.map(<[u8]>::to_vec).collect())
}

impl Environment {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all these entries are in it; false for none.
    pub(crate) fn carries(&self, marks: &[String]) -> bool {
        !marks.is_empty() && marks.iter().all(|mark| self.0.contains(mark.as_bytes()))
    }

    /// Whether an entry has the name of one of these, whatever its value.
    pub(crate) fn names_any(&self, marks: &[String]) -> bool {
        let names = marks.iter().filter_map(|mark| mark.split_once('='));
        let names: Vec<&[u8]> = names.map(|(name, _)| name.as_bytes()).collect();
        let name = |entry: &Vec<u8>| entry.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
        self.0.iter().filter_map(name).any(|name| names.contains(&name.as_slice()))
    }
}

/// Number of open files of a process.
pub(crate) fn open_files(pid: i32) -> Option<u64> {
    let count = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    u64::try_from(count).ok()
}

/// Effective user of a process.
pub(crate) fn user(pid: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Opens the process that was started at this time, alive or not yet reaped; `None` when it is
/// gone, whoever has its number now.
pub(crate) fn open(pid: i32, start_time: u64) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after the pidfd is open: it means the process that was looked at, or one that was
    // reaped between the two, and takes no signal then.
    (stat(pid)?.start_time == start_time).then_some(pidfd)
}

/// What tells one life of this machine from the next.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Kills one process if it still is who `is_meant` knows.
pub(crate) fn kill_if(pid: i32, is_meant: impl FnOnce(&Stat) -> bool) {
    signal_if(pid, Signal::KILL, is_meant);
}

/// Signals one process if it still is who `is_meant` knows: looked at after its pidfd is open, so
/// that a stranger that got the same pid is never hit.
pub(crate) fn signal_if(pid: i32, signal: Signal, is_meant: impl FnOnce(&Stat) -> bool) {
    let Some(id) = Pid::from_raw(pid) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(id, PidfdFlags::empty()) else { return };
    if stat(pid).is_some_and(|stat| !stat.is_dead() && is_meant(&stat)) {
        // The only failure that can come is that it is gone.
        rustix::process::pidfd_send_signal(&pidfd, signal).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_fields() {
        let line = "12 (a) b) R) S 3 4 5 0 -1 0 0 0 0 0 70 30 3 4 20 0 1 0 999 4096 25 18446744073709551615";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                state: 'S',
                parent: 3,
                group: 4,
                session: 5,
                cpu_ticks: 107,
                threads: 1,
                start_time: 999,
                resident_pages: 25,
                wait_status: 0,
            })
        );
        assert_eq!(parse_stat("12 (x) S 3"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_is_found_with_its_own_numbers() {
        let me = i32::try_from(std::process::id()).unwrap();
        let stat = stat(me).unwrap();
        assert!(!stat.is_dead());
        assert!(stat.resident_pages > 0);
        assert!(all().contains(&me));
        assert!(open_files(me).unwrap() > 2);
        assert!(!environment(me).carries(&[]));
        assert!(!environment(me).carries(&["PROVOST_NOT_THERE=1".to_owned()]));
    }
}
