//! What can be looked at without the daemon: the state folder, the disk, limits, cgroups, the keeper.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};

use crate::cli::ops::doctor::Finding;
use crate::transport::outbox::{SPOOL_FOLDER, waiting_in};

/// Free space below which the disk is full for us.
const FREE_FAIL: u64 = 100 * 1024 * 1024;
/// Free space below which it is time to act.
const FREE_WARN: u64 = 1024 * 1024 * 1024;
/// Open files that a daemon with some hundred agents and streams needs.
const FILES_WARN: u64 = 4_096;
/// Processes that should still be possible.
const PIDS_WARN: u64 = 512;

pub(super) fn findings(folder: Option<&Path>, daemon: Option<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match folder {
        Some(folder) => {
            findings.push(state_dir(folder));
            if folder.is_dir() {
                findings.push(disk(folder));
                findings.push(keeper(folder, daemon));
                findings.push(spool(folder, daemon));
            }
        }
        None => {
            let found = "the daemon may be on another machine";
            findings.push(Finding::skipped("state_dir", found));
        }
    }
    findings.push(files(daemon));
    findings.push(pids());
    findings.push(cgroup(daemon));
    findings
}

fn state_dir(folder: &Path) -> Finding {
    const NAME: &str = "state_dir";
    let shown = folder.display();
    if !folder.is_dir() {
        let act = "it is made by `provost up`; if it should be there, check --state-dir";
        return Finding::warn(NAME, format!("{shown} does not exist"), act);
    }
    match access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::well(NAME, shown.to_string()),
        Err(error) => {
            let act = "give the user that runs the daemon all rights to it";
            Finding::fail(NAME, format!("{shown} cannot be written: {error}"), act)
        }
    }
}

fn disk(folder: &Path) -> Finding {
    const NAME: &str = "disk";
    const ACT: &str = "free space, or move provost.state_dir; events and tasks need it";
    let stat = match statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => return Finding::skipped(NAME, format!("cannot be looked at: {error}")),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let mib = free / (1024 * 1024);
    let found = format!("{mib} MiB free, {} inodes free", stat.f_favail);
    let no_inodes = stat.f_files != 0 && stat.f_favail < stat.f_files / 100;
    if free < FREE_FAIL {
        Finding::fail(NAME, found, ACT)
    } else if free < FREE_WARN || no_inodes {
        Finding::warn(NAME, found, ACT)
    } else {
        Finding::well(NAME, found)
    }
}

/// The keeper writes its pid into its lock.
fn keeper(folder: &Path, daemon: Option<u32>) -> Finding {
    const NAME: &str = "keeper";
    let read = std::fs::read_to_string(folder.join("keeper.lock")).ok();
    let pid: Option<u32> = read.and_then(|text| text.trim().parse().ok());
    let lives = |pid: u32| Path::new("/proc").join(pid.to_string()).is_dir();
    match (pid, daemon) {
        (Some(pid), _) if lives(pid) => Finding::well(NAME, format!("pid {pid}")),
        (_, Some(_)) => {
            let act = "it is restarted by itself; if not, `provost tree` shows why";
            Finding::fail(NAME, "the daemon runs without its keeper", act)
        }
        (_, None) => Finding::skipped(NAME, "no daemon runs here"),
    }
}

/// Events that wait for a daemon that is not there.
fn spool(folder: &Path, daemon: Option<u32>) -> Finding {
    const NAME: &str = "spool";
    match (waiting_in(&folder.join(SPOOL_FOLDER)), daemon) {
        (_, Some(_)) => Finding::well(NAME, "held by the daemon; see outbox"),
        (None | Some(0), None) => Finding::well(NAME, "no event waits"),
        (Some(events), None) => {
            let act =
                "start the daemon on this state folder: it delivers what was not acknowledged";
            Finding::warn(NAME, format!("{events} events wait and no daemon is here"), act)
        }
    }
}

fn files(daemon: Option<u32>) -> Finding {
    const NAME: &str = "open_files";
    let of_daemon = daemon.and_then(|pid| limit_of(pid, "Max open files"));
    let (soft, whose) = match of_daemon {
        Some(soft) => (soft, "of the daemon"),
        None => (getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), "of this shell"),
    };
    let found = if soft == u64::MAX {
        format!("no limit {whose}")
    } else {
        format!("at most {soft} {whose}")
    };
    if soft < FILES_WARN {
        let act = "raise it: LimitNOFILE= of the systemd unit, or ulimit -n";
        return Finding::warn(NAME, found, act);
    }
    Finding::well(NAME, found)
}

/// A soft limit of a process, by the kernel's name for it.
fn limit_of(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn pids() -> Finding {
    const NAME: &str = "processes";
    let own = own_cgroup();
    let number = |file: &str| -> Option<u64> {
        let path = Path::new("/sys/fs/cgroup").join(own.as_ref()?).join(file);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let by_group = number("pids.max").zip(number("pids.current"));
    let (left, found) = match by_group {
        Some((max, current)) => {
            (max.saturating_sub(current), format!("{current} of at most {max} in this cgroup"))
        }
        None => {
            let max = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
            let shown =
                if max == u64::MAX { "no limit".to_owned() } else { format!("at most {max}") };
            (max, shown)
        }
    };
    if left < PIDS_WARN {
        let act = "raise TasksMax= of the systemd unit, or ulimit -u";
        return Finding::warn(NAME, found, act);
    }
    Finding::well(NAME, found)
}

/// The cgroup of this process under the unified hierarchy, without its slash.
fn own_cgroup() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(line.to_owned())
}

/// Memory limits are the kernel's only in a cgroup that is ours.
fn cgroup(daemon: Option<u32>) -> Finding {
    const NAME: &str = "cgroup";
    const ACT: &str = "run the daemon in a delegated cgroup (Delegate=yes of a systemd unit); until \
                       then memory is sampled, and a limit is noticed late";
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.controllers").is_file() {
        return Finding::warn(NAME, "no unified cgroup hierarchy (v2)", ACT);
    }
    let Some(pid) = daemon else {
        return Finding::skipped(NAME, "no daemon runs here whose cgroup could be looked at");
    };
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Finding::warn(NAME, "the daemon is in no unified cgroup", ACT);
    };
    let folder = root.join(own);
    match access(&folder, Access::WRITE_OK) {
        Ok(()) => Finding::well(NAME, folder.display().to_string()),
        Err(error) => Finding::warn(NAME, format!("{}: {error}", folder.display()), ACT),
    }
}
