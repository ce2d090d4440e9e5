//! Begins one run: everything that can be wrong is told apart before or by the `exec`.
//!
//! No other thread of the keeper uses relative paths, so it enters the working directory itself before
//! it forks: the
//! errors of the directory, of the program and of the `exec` cannot be mistaken for each other,
//! and a relative program is looked up where the child would.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, Mode};
use rustix::io::Errno;

use crate::protocol::exit::StartError;
use crate::runtimes::keeper::control::eprint;
use crate::runtimes::keeper::wire::Start;
use crate::runtimes::keeper::{proc, sys};

/// Where programs are searched when the child's environment has no PATH; as the C library does.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A process that executes the program it was started for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) pid: i32,
    pub(super) start_time: u64,
}

/// Forks and executes; returns once the `exec` succeeded.
pub(super) fn start(start: &Start) -> Result<Begun, StartError> {
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
    let begun = start_here(start, program, arguments, log);
    if let Err(errno) = rustix::process::chdir("/") {
        // Harmless but for a file system that cannot be unmounted; the next start enters its own.
        eprint(&format!("cannot go back to the root directory: {errno}"));
    }
    begun
}

fn start_here(
    start: &Start,
    program: &str,
    arguments: &[String],
    log: File,
) -> Result<Begun, StartError> {
    let path = find(program, start.env.get("PATH").map_or(PATH_DEFAULT, String::as_str))?;
    let log_again =
        log.try_clone().map_err(|error| system(program, &format!("no file left: {error}")))?;
    #[expect(clippy::disallowed_methods, reason = "this is the place where children are started")]
    let mut command = Command::new(&path);
    command
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs(&start.env)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(log_again));
    sys::prepare_child(&mut command, start.umask.map(Mode::from_raw_mode));
    let child = command.spawn().map_err(|error| exec_error(program, &path, &error))?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    // The child is not reaped yet, so its entry is there even if it has ended already.
    let start_time = proc::stat(pid).map_or(0, |stat| stat.start_time);
    Ok(Begun { pid, start_time })
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

/// Says what a failed fork or `exec` means, for a program that was just seen to be there.
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
