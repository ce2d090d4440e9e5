//! Begins one run: everything that can be wrong is told apart before or by the `exec`.
//!
//! No other thread of the keeper uses relative paths, so it enters the working directory itself before
//! it forks: the
//! errors of the directory, of the program and of the `exec` cannot be mistaken for each other,
//! and a relative program is looked up where the child would.

use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode};
use rustix::io::Errno;
use rustix::process::Resource;

use crate::protocol::exit::StartError;
use crate::runtimes::keeper::cgroup::{Group, Home};
use crate::runtimes::keeper::control::eprint;
use crate::runtimes::keeper::pipes::ChildEnds;
use crate::runtimes::keeper::proc;
use crate::runtimes::keeper::sys::{self, Birth, Bond, Step, Texts};
use crate::runtimes::keeper::wire::{Confines, Hold, Start};

/// Where programs are searched when the child's environment has no PATH; as the C library does.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A process that executes the program it was started for.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    /// Length of its log before it began.
    pub(super) log_length: u64,
    /// Control group that it was born into, if it has one.
    pub(super) group: Option<Group>,
}

/// What the keeper adds to a start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    /// Where control groups are made, if they can be.
    pub(super) home: Option<&'a Home>,
    /// The lock of the child, which its process inherits.
    pub(super) lease: Option<&'a File>,
}

/// Forks and executes; returns once the `exec` succeeded.
pub(super) fn start(start: &Start, given: Given<'_>, ends: ChildEnds) -> Result<Begun, StartError> {
    let (program, arguments) = start
        .command
        .split_first()
        .filter(|(program, _)| !program.is_empty())
        .ok_or_else(|| system("", "the command is empty; give a program"))?;
    check_environment(program, start)?;
    let log = open_log(&start.log.file).map_err(|error| {
        let file = start.log.file.display();
        system(program, &format!("cannot open log file {file}: {error}"))
    })?;
    if !start.cwd.is_absolute() {
        return Err(bad_directory(&start.cwd, "the path is not absolute"));
    }
    rustix::process::chdir(&start.cwd)
        .map_err(|errno| bad_directory(&start.cwd, &io::Error::from(errno).to_string()))?;
    let begun = start_here(start, given, (program, arguments), (&log, &ends));
    if let Err(errno) = rustix::process::chdir("/") {
        // Harmless but for a file system that cannot be unmounted; the next start enters its own.
        eprint(&format!("cannot go back to the root directory: {errno}"));
    }
    begun
}

fn start_here(
    start: &Start,
    given: Given<'_>,
    (program, arguments): (&str, &[String]),
    (log, ends): (&File, &ChildEnds),
) -> Result<Begun, StartError> {
    let path = find(program, start.env.get("PATH").map_or(PATH_DEFAULT, String::as_str))?;
    let no_file = |error: io::Error| system(program, &format!("no file left: {error}"));
    let log_length = log.metadata().map_or(0, |metadata| metadata.len());
    let null = File::open("/dev/null").map_err(no_file)?;
    let nul = |_| system(program, "an argument or the environment contains a NUL byte");
    let texts = |texts: Vec<Vec<u8>>| -> Result<Texts, StartError> {
        let texts: Result<_, _> = texts.into_iter().map(CString::new).collect();
        Ok(Texts::new(texts.map_err(nul)?))
    };
    let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    let entries = start.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    let confines = &start.confines;
    let birth = Birth {
        program: &CString::new(path.as_os_str().as_bytes()).map_err(nul)?,
        arguments: &texts(words.map(|word| word.as_bytes().to_vec()).collect())?,
        environment: &texts(entries.collect())?,
        files: [
            ends.stdin.as_ref().map_or(null.as_fd(), AsFd::as_fd),
            ends.stdout.as_ref().map_or(log.as_fd(), AsFd::as_fd),
            ends.stderr.as_ref().map_or(log.as_fd(), AsFd::as_fd),
        ],
        group: None,
        limits: &limits(confines),
        identity: confines.identity.as_ref(),
        privileges: confines.privileges,
        umask: start.umask.map(Mode::from_raw_mode),
        bond: if start.outlives_keeper() { Bond::Lives } else { Bond::Dies },
        inherited: given.lease.map(AsFd::as_fd),
    };
    let (pid, group) = match grouped(&birth, given.home, start) {
        Some(born) => born,
        None => sys::give_birth(&birth).map(|pid| (pid, None)),
    }
    .map_err(|(step, error)| failure(step, &error, program, &path, confines))?;
    let pid = pid.as_raw_nonzero().get();
    // The child is not reaped yet, so its entry is there even if it has ended already.
    let start_time = proc::stat(pid).map_or(0, |stat| stat.start_time);
    Ok(Begun { pid, start_time, log_length, group })
}

type Born = Result<(rustix::process::Pid, Option<Group>), (Step, io::Error)>;

/// Begins the process in a control group of its own; `None` when that cannot be.
fn grouped(birth: &Birth<'_>, home: Option<&Home>, start: &Start) -> Option<Born> {
    let confines = &start.confines;
    let home = home.filter(|_| confines.hold == Hold::Strongest)?;
    let made = home.group(confines, start.run).and_then(|group| Ok((group.folder()?, group)));
    let (folder, group) = match made {
        Ok(made) => made,
        Err(error) => {
            eprint(&format!("no control group for {}: {error}", confines.name));
            return None;
        }
    };
    let birth = Birth { group: Some(folder.as_fd()), ..*birth };
    match sys::give_birth(&birth) {
        Ok(pid) => Some(Ok((pid, Some(group)))),
        Err((Step::Group, error)) => {
            eprint(&format!("no process can begin in the group of {}: {error}", confines.name));
            None
        }
        Err(failed) => Some(Err(failed)),
    }
}

/// Limits that each process has for itself. The number of processes is none of them: the kernel
/// counts that one over all processes of the user, other agents' and the daemon's among them.
fn limits(confines: &Confines) -> Vec<(Resource, u64)> {
    let limits = [(Resource::Nofile, confines.open_files), (Resource::Core, confines.core_bytes)];
    limits.into_iter().filter_map(|(resource, bound)| Some((resource, bound?))).collect()
}

fn check_environment(program: &str, start: &Start) -> Result<(), StartError> {
    let nul = |text: &String| text.contains('\0');
    if start.command.iter().any(nul) {
        return Err(system(program, "an argument contains a NUL byte; remove it"));
    }
    for (name, value) in &start.env {
        if name.is_empty() || name.contains('=') || nul(name) || nul(value) {
            // The value is not shown: it may be a secret.
            let message = format!(
                "environment entry {name:?} is not possible; names are not empty and without '=', \
                 and neither name nor value contains a NUL byte"
            );
            return Err(system(program, &message));
        }
    }
    Ok(())
}

fn open_log(file: &Path) -> io::Result<File> {
    if !file.is_absolute() {
        return Err(io::Error::other("the path is not absolute"));
    }
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = file.parent().unwrap_or(Path::new("/"));
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            open()
        }
        opened => opened,
    }
}

/// Looks a program up as the child would. The result has a slash in it, so that `exec` does not
/// search again.
fn find(program: &str, search: &str) -> Result<PathBuf, StartError> {
    let not_found = || StartError::NotFound { program: program.to_owned() };
    let not_executable = || StartError::NotExecutable { program: program.to_owned() };
    if program.contains('/') {
        let path = PathBuf::from(program);
        return match probe(&path) {
            Probe::Program => Ok(path),
            Probe::Missing => Err(not_found()),
            Probe::NotExecutable => Err(not_executable()),
        };
    }
    let mut forbidden = false;
    for folder in search.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let path = Path::new(folder).join(program);
        match probe(&path) {
            Probe::Program => return Ok(path),
            Probe::Missing => {}
            Probe::NotExecutable => forbidden = true,
        }
    }
    Err(if forbidden { not_executable() } else { not_found() })
}

enum Probe {
    Program,
    Missing,
    NotExecutable,
}

fn probe(path: &Path) -> Probe {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {
            let executable = rustix::fs::access(path, Access::EXEC_OK).is_ok();
            if executable { Probe::Program } else { Probe::NotExecutable }
        }
        Ok(_) => Probe::NotExecutable,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Probe::NotExecutable,
        Err(_) => Probe::Missing,
    }
}

/// Says what a failed birth means.
fn failure(
    step: Step,
    error: &io::Error,
    program: &str,
    path: &Path,
    confines: &Confines,
) -> StartError {
    match step {
        Step::Exec => exec_error(program, path, error),
        Step::Fork => system(program, &format!("no process could be made: {error}")),
        Step::Group => system(program, &format!("no process in its control group: {error}")),
        Step::Prepare => system(program, &format!("its process could not be prepared: {error}")),
        Step::Privileges => system(program, &format!("no_new_privs cannot be set: {error}")),
        Step::Limit(place) => {
            let limits = limits(confines);
            let (name, bound) = match limits.get(usize::from(place)) {
                Some((Resource::Nofile, bound)) => ("open_files", *bound),
                Some((_, bound)) => ("core_size", *bound),
                None => ("a limit", 0),
            };
            let message = format!(
                "{name} cannot be set to {bound}: {error}; only root goes beyond the limit that the \
                 daemon has itself (`ulimit -H`), and nobody beyond the kernel's (fs.nr_open)"
            );
            system(program, &message)
        }
        Step::Identity => {
            let ids = confines.identity.as_ref().map_or(String::new(), |identity| {
                format!(" (user {}, group {})", identity.uid, identity.gid)
            });
            let message = format!("its user or groups{ids} cannot be taken: {error}; needs root");
            system(program, &message)
        }
    }
}

/// Says what a failed `exec` means, for a program that was just seen to be there.
fn exec_error(program: &str, path: &Path, error: &io::Error) -> StartError {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => StartError::NotExecutable { program: program.to_owned() },
        Some(Errno::NOENT) if path.exists() => system(
            program,
            "its interpreter does not exist; check its first line (#!) or its dynamic loader",
        ),
        Some(Errno::NOENT) => StartError::NotFound { program: program.to_owned() },
        Some(Errno::NOEXEC) => system(
            program,
            "it is no program this machine can execute; check its format and architecture",
        ),
        Some(Errno::TOOBIG) => {
            system(program, "arguments and environment are too long for the operating system")
        }
        Some(_) | None => system(program, &error.to_string()),
    }
}

fn system(program: &str, message: &str) -> StartError {
    StartError::System { program: program.to_owned(), message: message.to_owned() }
}

fn bad_directory(cwd: &Path, message: &str) -> StartError {
    StartError::BadDirectory { cwd: cwd.display().to_string(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_are_found_on_the_given_path_only() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        for (folder, mode) in [(&first, 0o600), (&second, 0o700)] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("tool"), "").unwrap();
            fs::set_permissions(folder.join("tool"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let (first, second) = (first.display(), second.display());

        let both = format!("{first}:{second}");
        assert_eq!(find("tool", &both).unwrap(), PathBuf::from(format!("{second}/tool")));
        let not_executable = StartError::NotExecutable { program: "tool".to_owned() };
        assert_eq!(find("tool", &first.to_string()), Err(not_executable));
        let not_found = StartError::NotFound { program: "tool".to_owned() };
        assert_eq!(find("tool", "/nowhere"), Err(not_found));
        assert!(matches!(find("/", ""), Err(StartError::NotExecutable { .. })));
        assert!(matches!(find("/nowhere/tool", ""), Err(StartError::NotFound { .. })));
    }
}
