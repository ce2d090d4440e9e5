//! The daemon of a demonstration: its folder, its process, its end.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

use crate::cli::demo::watch::WatchError;
use crate::cli::demo::{DemoError, LOOK_EVERY, system};

/// Longest time that the daemon may take to stop; then it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Lines of the daemon's log shown with an error.
const LOG_LINES: usize = 20;

/// Names tried for the folder before giving up.
const FOLDERS_TRIED: u32 = 100;

/// Environment that would change what the demonstration shows.
const NOT_FOR_THE_DAEMON: [&str; 4] =
    ["NATS_URL", "ENABLE_SUPERVISION", "ENABLE_COORDINATION", "ENABLE_ADVANCED_ROUTING"];

/// A running daemon in a folder of its own. Dropping it kills the daemon.
#[derive(Debug)]
pub struct Scene {
    folder: PathBuf,
    program: PathBuf,
    daemon: Child,
    status: Option<ExitStatus>,
}

impl Scene {
    /// Makes the folder and starts the daemon in it.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or the program not be started.
    #[expect(
        clippy::disallowed_methods,
        reason = "the daemon itself is started here, no agent: there is no keeper yet"
    )]
    pub fn open(config: &Path) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(system("find the own program"))?;
        let folder = make_folder().map_err(system("make a temporary folder"))?;
        let log = File::create(folder.join("daemon.log")).map_err(system("make a log file"))?;
        let errors = log.try_clone().map_err(system("make a log file"))?;
        let mut command = Command::new(&program);
        command
            .arg("up")
            .arg("-f")
            .arg(config)
            .arg("--state-dir")
            .arg(folder.join("state"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A group of its own: Ctrl-C in the terminal reaches the demonstration alone, which
            // then stops the daemon once and in order.
            .process_group(0);
        for name in NOT_FOR_THE_DAEMON {
            command.env_remove(name);
        }
        let daemon = command.spawn().map_err(system("start the daemon"))?;
        Ok(Self { folder, program, daemon, status: None })
    }

    /// The daemon's state folder.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Returns when the daemon has ended, which it should not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the status is kept.
    pub async fn ended(&mut self) -> DemoError {
        loop {
            match self.look() {
                Ok(Some(status)) => return DemoError::DaemonEnded { status, log: self.log() },
                Ok(None) => sleep(LOOK_EVERY).await,
                Err(error) => return error,
            }
        }
    }

    /// Stops the daemon with SIGTERM, and with SIGKILL when it takes too long.
    ///
    /// # Errors
    ///
    /// The daemon ended otherwise than with code 0.
    pub async fn stop(&mut self) -> Result<(), DemoError> {
        if self.look()?.is_none() {
            let pid = Pid::from_child(&self.daemon);
            kill_process(pid, Signal::TERM).map_err(io::Error::from).map_err(system("stop"))?;
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while self.look()?.is_none() && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
        let status = match self.look()? {
            Some(status) => status,
            None => self.kill().map_err(system("kill the daemon"))?,
        };
        if !status.success() {
            return Err(DemoError::BadEnd { status, log: self.log() });
        }
        Ok(())
    }

    /// Removes the folder.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn clear(&self) -> Result<(), DemoError> {
        fs::remove_dir_all(&self.folder).map_err(system("remove the temporary folder"))
    }

    /// An error of reading events, with the daemon's side of the matter.
    #[must_use]
    pub fn unreadable(&self, error: WatchError) -> DemoError {
        DemoError::Events { error, log: self.log() }
    }

    /// What is said at the beginning.
    #[must_use]
    pub fn opening(&self) -> String {
        "Four agents run under supervision. `steady` works, `flaky` crashes now and then, `doomed`\n\
         crashes until its circuit opens, `stubborn` ignores SIGTERM. Ctrl-C ends everything.\n"
            .to_owned()
    }

    /// Three lines to try in another terminal.
    #[must_use]
    pub fn what_to_try(&self, pid: u32) -> String {
        let program = self.short_program();
        let state = self.state_dir();
        let (program, state) = (program.display(), state.display());
        format!(
            "\nTry in another terminal:\n  \
             {program} list --state-dir {state}\n  \
             kill -9 {pid}\n  \
             {program} events -w --state-dir {state}\n"
        )
    }

    /// The program's path as one would type it from here.
    fn short_program(&self) -> PathBuf {
        let here = std::env::current_dir().ok();
        let short = here.and_then(|here| self.program.strip_prefix(here).ok());
        short.unwrap_or(&self.program).to_path_buf()
    }

    fn look(&mut self) -> Result<Option<ExitStatus>, DemoError> {
        if self.status.is_none() {
            self.status = self.daemon.try_wait().map_err(system("look at the daemon"))?;
        }
        Ok(self.status)
    }

    /// Ends the daemon and whatever else is in its process group.
    fn kill(&mut self) -> io::Result<ExitStatus> {
        kill_process_group(Pid::from_child(&self.daemon), Signal::KILL)?;
        let status = self.daemon.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    /// The last lines of the daemon's log, indented.
    fn log(&self) -> String {
        let path = self.folder.join("daemon.log");
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
        format!("  {}\n  (all of it: {})", last.join("\n  "), path.display())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Nobody is left to tell when this fails too.
            drop(self.kill());
        }
    }
}

/// A new folder that only its owner may enter: the server's password will stand in it.
fn make_folder() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..FOLDERS_TRIED {
        let folder = base.join(format!("provost-demo-{:08x}", fastrand::u32(..)));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
