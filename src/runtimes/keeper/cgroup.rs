//! Control groups (version 2) of runs: one group for each, under a group of this keeper's.
//!
//! A group holds a run together for certain: whatever its processes do, their descendants are born
//! into it, and one write kills all of them. Where the kernel's controllers are delegated it limits
//! memory, processes and processor share, too. Version 1 is not used: it can do none of the first.
//!
//! Words: the *home* is the group that the state folder's keepers have, named after that folder, so
//! that two daemons on one machine never meet; it stands under the *base*, which is the keeper's own
//! group, or the one above where systemd delegates that (`Delegate=yes` with `DelegateSubgroup=`).
//! The kernel lets a group that has processes pass no controllers on (the root is exempt), so
//! without the subgroup there is containment and no limit. The keeper never moves processes to get
//! around that: systemd could not start the next daemon in a group that passes controllers on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::protocol::exit::{ChildExit, ExitCodes};
use crate::runtimes::keeper::wire::{Confines, RunId};

/// Beginning of a home's name.
pub(crate) const HOME_PREFIX: &str = "provost-";

/// Controllers that are used where they are there.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Names tried for one run, should one be taken: by what a run left whose number is forgotten.
const NAMES_MAX: u32 = 16;

/// Longest name of a run's group; the file system takes 255 bytes.
const NAME_BYTES_MAX: usize = 128;

const SIGKILL: i32 = 9;

/// The group under which runs get theirs. Dropping it removes it if it is empty.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// Controllers that a run's group has.
    controllers: Vec<String>,
}

impl Home {
    /// Finds or makes the home of a state folder and removes empty groups of earlier runs.
    ///
    /// # Errors
    ///
    /// Why there is none, in words.
    pub(super) fn find(state_dir: &Path) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own_group(&mounts, &own).ok_or("no cgroup of version 2 is mounted here")?;
        Self::under(&base_of(&own), state_dir)
    }

    fn under(base: &Path, state_dir: &Path) -> Result<Self, String> {
        let path = base.join(home_name(state_dir));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make the cgroup {}: {error}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let kill = OpenOptions::new().write(true).open(path.join("cgroup.kill"));
        let procs = OpenOptions::new().write(true).open(path.join("cgroup.procs"));
        if let Err(error) = kill.and(procs) {
            fs::remove_dir(&path).ok();
            return Err(format!("cannot use the cgroup {}: {error}", path.display()));
        }
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                // Fails for one that has processes: they belong to whoever adopts or ends them.
                fs::remove_dir(entry.path()).ok();
            }
        }
        for name in CONTROLLERS {
            if words(base, "cgroup.controllers").iter().any(|there| there == name) {
                // What is refused is not there afterwards, and read so below.
                write(base, "cgroup.subtree_control", &format!("+{name}")).ok();
                write(&path, "cgroup.subtree_control", &format!("+{name}")).ok();
            }
        }
        let controllers = words(&path, "cgroup.subtree_control");
        Ok(Self { path, controllers })
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|there| there == controller)
    }

    /// Makes the group of a run and sets its limits. No two runs have the same: the end of the one
    /// would kill the other.
    pub(super) fn group(&self, confines: &Confines, run: RunId) -> io::Result<Group> {
        let name = format!("{}-{}", file_name(&confines.name), run.0);
        let mut made = Err(io::Error::from(io::ErrorKind::AlreadyExists));
        for number in 0..NAMES_MAX {
            let tail = if number == 0 { String::new() } else { format!("-{number}") };
            let path = self.path.join(format!("{name}{tail}"));
            made = fs::create_dir(&path).map(|()| path);
            if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        let group = Group { path: made? };
        self.limit(&group.path, confines)?;
        Ok(group)
    }

    fn limit(&self, group: &Path, confines: &Confines) -> io::Result<()> {
        if self.has("memory")
            && let Some(bytes) = confines.memory_bytes
        {
            write(group, "memory.max", &bytes.to_string())?;
            write(group, "memory.oom.group", "1")?;
            // Not there where the kernel has no swap.
            write(group, "memory.swap.max", "0").ok();
        }
        if self.has("pids")
            && let Some(pids) = confines.pids
        {
            write(group, "pids.max", &pids.to_string())?;
        }
        if self.has("cpu")
            && let Some(weight) = confines.cpu_weight
        {
            write(group, "cpu.weight", &weight.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Stays while runs are in it.
        fs::remove_dir(&self.path).ok();
    }
}

/// The group of one run. Dropping it removes it, which fails while a process is in it.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
}

impl Group {
    /// The group that an earlier keeper made for a run, if it is still there.
    pub(super) fn at(path: &Path) -> Option<Self> {
        path.is_dir().then(|| Self { path: path.to_owned() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, for a process that is to be born into it.
    pub(super) fn folder(&self) -> io::Result<Folder> {
        File::open(&self.path).map(Folder)
    }

    /// Kills all processes in it at once; none can get away by forking.
    pub(super) fn kill(&self) {
        // Fails only when the group is gone.
        write(&self.path, "cgroup.kill", "1").ok();
    }

    /// Whether a process lives in it, or in a group that its processes made under it.
    pub(super) fn is_populated(&self) -> bool {
        number(&self.path, "cgroup.events", "populated").is_some_and(|populated| populated != 0)
    }

    /// How the run ended, given how its main process did: out of memory when the kernel says that
    /// it has killed in this group for that.
    pub(super) fn exit(&self, exit: ChildExit) -> ChildExit {
        let ChildExit::Signaled { signal: SIGKILL } = exit else { return exit };
        match number(&self.path, "memory.events", "oom_kill") {
            None | Some(0) => exit,
            Some(_) => ChildExit::OutOfMemory {
                message: self.oom_message(),
                codes: ExitCodes { code: None, signal: Some(SIGKILL) },
            },
        }
    }

    fn oom_message(&self) -> String {
        let mib = |file: &str| {
            let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
            text.trim().parse::<u64>().ok().map(|bytes| bytes.div_ceil(1 << 20))
        };
        let used = mib("memory.peak").map_or(String::new(), |peak| format!("; {peak} MiB used"));
        match (number(&self.path, "memory.events", "oom"), mib("memory.max")) {
            (Some(1..), Some(limit)) => {
                format!("killed by the kernel at its limit of {limit} MiB{used}")
            }
            _ => format!("killed by the kernel because the machine's memory was full{used}"),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir(entry.path()).ok();
            }
        }
        // What is populated stays, and is removed when a keeper starts.
        fs::remove_dir(&self.path).ok();
    }
}

/// An open group.
#[derive(Debug)]
pub(super) struct Folder(File);

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a process's group is, if it is one that a keeper made for a run.
pub(crate) fn of_run(pid: u32) -> Option<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    if !path.contains(&format!("/{HOME_PREFIX}")) {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let path = own_group(&mounts, &own)?;
    let home = path.parent()?.file_name()?.as_bytes();
    (home.starts_with(HOME_PREFIX.as_bytes()) && path.is_dir()).then_some(path)
}

/// Folder of the group that `own`, the text of `/proc/<pid>/cgroup`, names.
fn own_group(mounts: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        after.starts_with("cgroup2 ").then_some((fields.next()?, fields.next()?))
    })?;
    // Seen from inside a container, a group beyond its own root begins with `/..`.
    let below = Path::new(path).strip_prefix(root).ok()?;
    let escapes = below.components().any(|part| part.as_os_str() == "..");
    (!escapes).then(|| Path::new(point).join(below))
}

/// The group under which a home is made.
fn base_of(own: &Path) -> PathBuf {
    let above = own.parent().filter(|above| is_delegated(above));
    let above = above.filter(|above| words(above, "cgroup.procs").is_empty());
    above.unwrap_or(own).to_owned()
}

/// Whether systemd marks a group as delegated.
fn is_delegated(group: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0_u8; 8];
        let length = rustix::fs::getxattr(group, *name, &mut value[..]);
        length.is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// FNV-1a over the folder's path: the same for every keeper of the folder, and short.
fn home_name(state_dir: &Path) -> String {
    let full = fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let hash = full.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{HOME_PREFIX}{hash:016x}")
}

/// A name that no file of the kernel's in a group can have: those begin with a controller's name
/// and a dot.
fn file_name(name: &str) -> String {
    let fit = |found: char| if found.is_ascii_alphanumeric() || found == '-' { found } else { '_' };
    let name: String = name.chars().map(fit).take(NAME_BYTES_MAX).collect();
    if name.is_empty() { "run".to_owned() } else { format!("run-{name}") }
}

fn write(group: &Path, file: &str, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(group.join(file))?.write_all(text.as_bytes())
}

fn words(group: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(group.join(file)).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// A value of a file with lines `name value`.
fn number(group: &Path, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(group.join(file)).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_group_is_found_where_version_2_is_mounted() {
        let found = |mounts: &str, own: &str| own_group(mounts, own);
        let unified = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(found(MOUNTS, "8:pids:/x\n0::/\n").unwrap(), unified);
        assert_eq!(found(MOUNTS, "0::/a/b.service\n").unwrap(), unified.join("a/b.service"));
        assert_eq!(found(MOUNTS, "0::/../other\n"), None);
        assert_eq!(found(MOUNTS, "8:pids:/x\n"), None);
        assert_eq!(found("", "0::/\n"), None);
        let bound = "41 31 0:38 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found(bound, "0::/docker/c1/w\n").unwrap(), Path::new("/sys/fs/cgroup/w"));
        assert_eq!(found(bound, "0::/elsewhere\n"), None);
    }

    #[test]
    fn limits_are_written_where_their_controllers_are() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path();
        let files = ["memory.max", "memory.oom.group", "pids.max", "cpu.weight"];
        for file in files {
            fs::write(group.join(file), "").unwrap();
        }
        let controllers = vec!["pids".to_owned(), "memory".to_owned()];
        let home = Home { path: group.to_owned(), controllers };
        let confines = Confines {
            memory_bytes: Some(1 << 20),
            cpu_weight: Some(5),
            pids: Some(7),
            ..Confines::default()
        };
        home.limit(group, &confines).unwrap();
        let written = files.map(|file| fs::read_to_string(group.join(file)).unwrap());
        assert_eq!(written, ["1048576", "1", "7", ""]);
    }

    #[test]
    fn no_two_runs_share_a_group_even_when_all_of_the_first_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home { path: dir.path().join("home"), controllers: Vec::new() };
        fs::create_dir(&home.path).unwrap();
        let group = |run: u64| home.group(&Confines::default(), RunId(run)).unwrap();
        let (first, second, again) = (group(1), group(2), group(1));
        let paths = [first.path(), second.path(), again.path()];
        assert_eq!(paths.map(|path| path.file_name().unwrap()), ["run-1", "run-2", "run-1-1"]);
    }

    #[test]
    fn a_kill_counts_as_out_of_memory_only_when_the_kernel_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group { path: dir.path().to_owned() };
        let killed = ChildExit::Signaled { signal: 9 };
        let put = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        assert_eq!(group.exit(killed.clone()), killed, "without the controller");
        put("memory.events", "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\noom_group_kill 0\n");
        assert_eq!(group.exit(killed.clone()), killed, "limit reached, nobody killed");

        put("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 1\n");
        put("memory.max", "52428800\n");
        put("memory.peak", "52428800\n");
        let told = group.exit(killed.clone()).to_string();
        let limit = "out of memory: killed by the kernel at its limit of 50 MiB; 50 MiB used";
        assert_eq!(told, limit);
        let failed = ChildExit::Exited { code: 1 };
        assert_eq!(group.exit(failed.clone()), failed, "its main process was not killed");

        put("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n");
        put("memory.max", "max\n");
        let told = group.exit(killed).to_string();
        assert!(told.contains("the machine's memory was full"), "{told}");
    }

    #[test]
    fn a_group_is_named_after_its_run_and_never_like_a_file_of_the_kernel() {
        assert_eq!(file_name("w1.7"), "run-w1_7");
        assert_eq!(file_name("../../x"), "run-______x");
        assert_eq!(file_name(""), "run");
        assert!(file_name(&"x".repeat(1000)).len() < 200);
        let (first, second) = (home_name(Path::new("/no/a")), home_name(Path::new("/no/b")));
        assert!(first.starts_with(HOME_PREFIX) && first != second);
    }
}
