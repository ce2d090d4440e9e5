//! One lock file for each child, inherited by its process: while anything of a run has it open, no
//! second run begins, even if every record of the first is lost.
//!
//! The keeper opens and locks the file, the process inherits the lock, the keeper lets go. So the
//! kernel itself knows whether something of the run lives. Whoever holds a lock has inherited it:
//! it is of an earlier run of the same child, never a stranger, and is ended.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::protocol::id::ChildName;
use crate::runtimes::keeper::control::eprint;
use crate::runtimes::keeper::proc::{self, monotonic};
use crate::runtimes::keeper::state_dir::StateDir;

/// Folder of the lock files in the state folder.
const FOLDER: &str = "runs";

/// Longest time that the killed holders of a lock are waited for; the keeper does nothing else then.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Time between two attempts.
const RETRY: Duration = Duration::from_millis(5);

/// The lock files.
#[derive(Debug)]
pub(super) struct Leases {
    folder: PathBuf,
}

impl Leases {
    /// Makes the folder; locks that nobody holds are taken away.
    pub(super) fn open(state: &StateDir) -> io::Result<Self> {
        let folder = state.path(FOLDER);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let leases = Self { folder };
        for entry in fs::read_dir(&leases.folder)?.flatten() {
            let free = File::open(entry.path()).is_ok_and(|file| lock(&file).is_ok());
            if free {
                fs::remove_file(entry.path()).ok();
            }
        }
        Ok(leases)
    }

    /// Takes the lock of a child. What holds it is killed; if that does not help in time, the
    /// message says who it is.
    pub(super) fn take(&self, child: &ChildName) -> Result<File, String> {
        let path = self.folder.join(format!("{child}.lock"));
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options
            .open(&path)
            .map_err(|error| format!("cannot open the run lock of {child}: {error}"))?;
        let give_up = monotonic() + WAIT_MAX;
        let mut last_try = false;
        loop {
            match lock(&file) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(format!("cannot lock the run lock of {child}: {errno}")),
            }
            let holders = holders(&file);
            for (pid, start_time) in &holders {
                eprint(&format!("process {pid} of an earlier run of {child} is killed"));
                proc::kill_if(*pid, |stat| stat.start_time == *start_time);
            }
            // The look itself takes time, in which the last of them may have ended.
            let is_late = give_up <= monotonic();
            if is_late && last_try {
                let pids: Vec<i32> = holders.iter().map(|(pid, _)| *pid).collect();
                return Err(format!("an earlier run of {child} has not ended: processes {pids:?}"));
            }
            last_try = is_late;
            let pause = Timespec::try_from(RETRY).unwrap_or_default();
            rustix::event::poll(&mut [], Some(&pause)).ok();
        }
    }
}

fn lock(file: &File) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Other living processes that have this file open, with their start times.
fn holders(file: &File) -> Vec<(i32, u64)> {
    let Ok(wanted) = file.metadata() else { return Vec::new() };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let has_it = |pid: &i32| {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        entries.flatten().any(|entry| {
            fs::metadata(entry.path())
                .is_ok_and(|seen| seen.dev() == wanted.dev() && seen.ino() == wanted.ino())
        })
    };
    let others = proc::all().into_iter().filter(|pid| *pid != own).filter(has_it);
    others.filter_map(|pid| Some((pid, proc::stat(pid)?.start_time))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_when_nothing_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let leases = Leases::open(&state).unwrap();
        let child: ChildName = "w1".parse().unwrap();
        let held = leases.take(&child).unwrap();
        assert!(leases.take(&child).unwrap_err().contains("has not ended"), "held by this process");
        drop(Leases::open(&state).unwrap());
        assert!(dir.path().join("runs/w1.lock").exists(), "a held lock stays");
        drop(held);
        drop(leases.take(&child).unwrap());
        drop(Leases::open(&state).unwrap());
        assert!(!dir.path().join("runs/w1.lock").exists());
    }
}
