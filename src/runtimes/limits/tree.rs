//! The processes of one run: how they are found, and what they use together.
//!
//! With a control group they are those in it, and what the kernel counts for the group is taken where
//! it counts. Without one they are the main process, its descendants, and strays: processes that were
//! orphaned and got the main process's parent (the keeper) as theirs, known by session, by group, or
//! by the entries that each run's environment has for itself. Control groups that processes of the
//! run make under their own are not looked into.
//!
//! Not for ending processes: that is the keeper's.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::status::Containment;
use crate::runtimes::keeper::cgroup;
use crate::runtimes::keeper::proc::{self, Stat};

/// Names of the entries that tell runs apart.
pub(crate) const MARKS: [&str; 2] = ["PROVOST_AGENT_ID", "PROVOST_GENERATION"];

/// One run's processes.
#[derive(Clone, Debug)]
pub(crate) struct RunTree {
    main: i32,
    start_time: u64,
    group: Option<PathBuf>,
    /// Entries `NAME=value` in the order of [`MARKS`].
    marks: Vec<String>,
}

/// What all processes of a run use together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Usage {
    pub(crate) processes: usize,
    /// Resident memory; what processes share counts for each.
    pub(crate) resident_bytes: u64,
    /// Processor time, of ended processes as far as somebody counts it.
    pub(crate) cpu: Duration,
}

impl RunTree {
    /// The processes of the run with this main process; `None` when it has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let main = i32::try_from(pid).ok()?;
        let stat = proc::stat(main).filter(|stat| !stat.is_dead())?;
        let (group, marks) = (cgroup::of_run(pid), marks_of(main));
        Some(Self { main, start_time: stat.start_time, group, marks })
    }

    /// What holds them together.
    pub(crate) fn containment(&self) -> Containment {
        if self.group.is_some() { Containment::Cgroup } else { Containment::Subreaper }
    }

    /// How long the main process has been running.
    pub(crate) fn age(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now = Duration::try_from(now).unwrap_or_default();
        now.saturating_sub(ticks(self.start_time))
    }

    /// Value of a limit that the kernel holds for the whole run; `None` when it holds none.
    pub(crate) fn kernel_limit(&self, file: &str) -> Option<u64> {
        self.group_text(file)?.trim().parse().ok()
    }

    /// All its processes; empty when the main process has ended.
    pub(crate) fn members(&self, strays: &mut Strays) -> Vec<(i32, Stat)> {
        let mine = |stat: &Stat| stat.start_time == self.start_time && !stat.is_dead();
        let Some(main) = proc::stat(self.main).filter(mine) else { return Vec::new() };
        let living = |pid: i32| proc::stat(pid).filter(|stat| !stat.is_dead());
        if let Some(text) = self.group_text("cgroup.procs") {
            let pids = text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            let others = pids.filter(|pid| *pid != self.main);
            let others = others.filter_map(|pid| Some((pid, living(pid)?)));
            return std::iter::once((self.main, main)).chain(others).collect();
        }
        let mut found = vec![(self.main, main)];
        for pid in strays.of(self, main.parent) {
            found.extend(living(pid).map(|stat| (pid, stat)));
        }
        let mut next = 0;
        while let Some((pid, stat)) = found.get(next).copied() {
            let children = proc::children_of(pid, &stat).into_iter();
            found.extend(children.filter_map(|pid| Some((pid, living(pid)?))));
            next += 1;
        }
        found
    }

    /// What these members use.
    pub(crate) fn usage(&self, members: &[(i32, Stat)]) -> Usage {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let pages: u64 = members.iter().map(|(_, stat)| stat.resident_pages).sum();
        let cpu = members.iter().map(|(_, stat)| stat.cpu_ticks).sum();
        Usage {
            processes: members.len(),
            resident_bytes: self.counted_memory().unwrap_or(pages.saturating_mul(page)),
            cpu: self.counted_cpu().unwrap_or_else(|| ticks(cpu)),
        }
    }

    /// Memory as the kernel counts it for the group, without file content that it can give back.
    fn counted_memory(&self) -> Option<u64> {
        let all: u64 = self.group_text("memory.current")?.trim().parse().ok()?;
        let stat = self.group_text("memory.stat")?;
        Some(all.saturating_sub(field(&stat, "inactive_file").unwrap_or(0)))
    }

    /// Processor time as the kernel counts it for the group, ended processes included.
    fn counted_cpu(&self) -> Option<Duration> {
        let stat = self.group_text("cpu.stat")?;
        field(&stat, "usage_usec").map(Duration::from_micros)
    }

    fn group_text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.group.as_ref()?.join(file)).ok()
    }
}

/// Memory of these processes where what is shared counts once, in parts; `None` where it cannot be
/// read. Costs tens of milliseconds for each GiB.
pub(crate) fn proportional_bytes(members: &[(i32, Stat)]) -> Option<u64> {
    let one = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let all: Vec<u64> = members.iter().filter_map(|(pid, _)| one(*pid)).collect();
    (!all.is_empty()).then(|| all.iter().sum::<u64>().saturating_mul(1024))
}

/// Open files of all these processes; `None` where none can be looked at.
pub(crate) fn open_files(members: &[(i32, Stat)]) -> Option<u64> {
    let all = members.iter().filter_map(|(pid, _)| proc::open_files(*pid));
    all.fold(None, |sum, count| Some(sum.unwrap_or(0) + count))
}

/// Children of keepers, and what they are known by. Kept between looks, so that only new ones cost.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    parents: BTreeMap<i32, Looked>,
}

#[derive(Debug)]
struct Looked {
    at: Duration,
    children: BTreeMap<i32, Trace>,
}

/// What a process is known by.
#[derive(Debug)]
struct Trace {
    session: i32,
    group: i32,
    marks: Vec<String>,
}

/// Age from which the list of a parent's children is read again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Parents kept; keepers are few, and one that is gone is forgotten with the rest.
const PARENTS_MAX: usize = 8;

impl Strays {
    /// Strays of a run among the children of this process.
    fn of(&mut self, tree: &RunTree, parent: i32) -> Vec<i32> {
        let now = proc::monotonic();
        if PARENTS_MAX < self.parents.len() {
            self.parents.clear();
        }
        let fresh = || Looked { at: Duration::ZERO, children: BTreeMap::new() };
        let looked = self.parents.entry(parent).or_insert_with(fresh);
        if looked.at.is_zero() || LOOK_EVERY <= now.saturating_sub(looked.at) {
            looked.look(parent, now);
        }
        let owned = looked.children.iter().filter(|(pid, trace)| {
            **pid != tree.main && (trace.session == tree.main || trace.group == tree.main)
                || **pid != tree.main && !tree.marks.is_empty() && trace.marks == tree.marks
        });
        owned.map(|(pid, _)| *pid).collect()
    }
}

impl Looked {
    fn look(&mut self, parent: i32, now: Duration) {
        self.at = now;
        let pids = proc::children(parent);
        let mut known = std::mem::take(&mut self.children);
        for pid in pids {
            let trace = known.remove(&pid).or_else(|| Trace::of(pid));
            self.children.extend(trace.map(|trace| (pid, trace)));
        }
    }
}

impl Trace {
    /// `None` for one that has ended, or that begins a new program this moment.
    fn of(pid: i32) -> Option<Self> {
        let stat = proc::stat(pid).filter(|stat| !stat.is_dead())?;
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let marks = marks_in(&environment);
        let known = !environment.is_empty() || stat.session != pid;
        known.then_some(Self { session: stat.session, group: stat.group, marks })
    }
}

fn marks_of(pid: i32) -> Vec<String> {
    marks_in(&fs::read(format!("/proc/{pid}/environ")).unwrap_or_default())
}

fn marks_in(environment: &[u8]) -> Vec<String> {
    let entry = |name: &str| {
        let mut entries = environment.split(|byte| *byte == 0);
        let value = entries.find_map(|entry| {
            entry.strip_prefix(name.as_bytes()).filter(|rest| rest.starts_with(b"="))
        });
        value.map(|value| format!("{name}{}", String::from_utf8_lossy(value)))
    };
    let marks: Option<Vec<String>> = MARKS.iter().map(|name| entry(name)).collect();
    marks.unwrap_or_default()
}

fn ticks(count: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(count.saturating_mul(1_000_000) / per_second)
}

/// A value of a text with lines `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_only_when_all_are_there() {
        let both = b"A=1\0PROVOST_GENERATION=7\0PROVOST_AGENT_ID=x\0";
        assert_eq!(marks_in(both), ["PROVOST_AGENT_ID=x", "PROVOST_GENERATION=7"]);
        assert!(marks_in(b"PROVOST_AGENT_ID=x\0PROVOST_GENERATIONS=7\0").is_empty());
        assert!(marks_in(b"").is_empty());
    }

    #[test]
    fn a_process_that_is_gone_has_no_tree() {
        assert!(RunTree::of(u32::MAX).is_none());
        let me = RunTree::of(std::process::id()).unwrap();
        let mut strays = Strays::default();
        let members = me.members(&mut strays);
        let usage = me.usage(&members);
        assert!(usage.processes >= 1 && usage.resident_bytes > 100_000, "{usage:?}");
        assert!(open_files(&members).unwrap() > 2);
        let proportional = proportional_bytes(&members).unwrap();
        assert!(proportional > 100_000, "{proportional}");
        let reused = RunTree { start_time: me.start_time + 1, ..me };
        assert!(reused.members(&mut strays).is_empty());
    }
}
