//! Finds the keeper that an earlier daemon left, or launches one, and holds on to it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags};
use tokio::sync::{oneshot, watch};

use crate::protocol::exit::StartError;
use crate::runtimes::keeper::SUBCOMMAND;
use crate::runtimes::keeper::desk::Desk;
use crate::runtimes::keeper::dial::{self, Living};
use crate::runtimes::keeper::handle::{self, ProcessHandle, ProcessRun};
use crate::runtimes::keeper::link::{self, END_MAX, Greeting, Link, Process};
use crate::runtimes::keeper::wire::{VERSION, VERSION_MIN};

/// Size from which the keeper's own log is begun anew.
const OWN_LOG_BYTES_MAX: u64 = 1024 * 1024;

/// Time allowed for the keeper's greeting besides the wait for the lock.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// How a keeper is launched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeeperOptions {
    /// The provost binary.
    pub program: PathBuf,
    /// Folder of the keeper's files (`keeper.lock`, `.sock`, `.jsonl`, `.log`); made if missing. One
    /// keeper per folder.
    pub state_dir: PathBuf,
    /// Longest wait for an earlier keeper of the same folder to end its runs.
    pub lock_wait: Duration,
}

impl KeeperOptions {
    /// Waits 15 s for an earlier keeper, which is more than that may take.
    #[must_use]
    pub fn new(program: PathBuf, state_dir: PathBuf) -> Self {
        Self { program, state_dir, lock_wait: Duration::from_secs(15) }
    }
}

/// Why no keeper could be launched.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The state folder or a file in it cannot be used.
    #[error("cannot use {path:?} for the keeper; check `state_dir` and its permissions")]
    StateDir {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("cannot start the keeper from {program:?}; reinstall provost")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The operating system refused a socket, a thread or a process descriptor.
    #[error("no resources for the keeper; check limits of open files and processes")]
    System(#[from] io::Error),
    /// The keeper said why it cannot work, for example because the lock is held, or ended.
    #[error("keeper cannot work: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// A keeper of a version that has nothing in common with this one.
    #[error(
        "keeper {pid} speaks version {theirs}, this program {VERSION_MIN} to {VERSION}: start the provost that \
         began it, or end it and all agents with `kill {pid}`"
    )]
    Version {
        /// Its process.
        pid: u32,
        /// Its newest version.
        theirs: u32,
    },
    /// Somebody else listens where the keeper should.
    #[error(
        "{path:?} belongs to a process of user {user}, not of {own}; check who may write there"
    )]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Whose process listens.
        user: u32,
        /// Who we are.
        own: u32,
    },
    /// The keeper said nothing.
    #[error("keeper did not answer within {waited_ms} ms; see keeper.log in the state directory")]
    Silent {
        /// How long it was waited for.
        waited_ms: u64,
    },
}

/// A running keeper. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Keeper {
    link: Arc<Link>,
}

/// The life of a keeper. Dropping it ends the keeper and all runs: each is sent its stop signal
/// and killed after its grace, at most 5 s; a keeper that does not end is killed after 12 s. That
/// goes on without the dropper; [`KeeperLife::shut_down`] waits for it. A keeper that is lost leaves
/// the runs that can be without it to the next.
#[derive(Debug)]
pub struct KeeperLife {
    link: Arc<Link>,
    end: watch::Receiver<Option<String>>,
}

impl Keeper {
    /// Takes over the keeper that lives in the state folder, or starts one and waits until it holds
    /// the lock. Runs of an earlier daemon are ended unless `adopt` of a [`KeeperSlot`] is used.
    ///
    /// [`KeeperSlot`]: crate::runtimes::keeper::KeeperSlot
    ///
    /// # Errors
    ///
    /// [`KeeperError`]; a keeper that was started ends then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the keeper.
    pub async fn launch(options: KeeperOptions) -> Result<(Self, KeeperLife), KeeperError> {
        Self::launch_for(&Arc::default(), options).await
    }

    /// As [`Self::launch`], for the runs of this desk.
    pub(super) async fn launch_for(
        desk: &Arc<Desk>,
        options: KeeperOptions,
    ) -> Result<(Self, KeeperLife), KeeperError> {
        let folder = absolute(&options.state_dir)?;
        if let Some(living) = dial::dial(&folder)? {
            let (greeting, greeted) = oneshot::channel();
            let link = take_over(living, desk, greeting)?;
            match Self::greet(link, greeted, GREETING_MAX).await {
                // It was about to end; the next one waits for it.
                Err(KeeperError::Refused { .. }) => {}
                other => return other,
            }
        }
        let (greeting, greeted) = oneshot::channel();
        let link = spawn(&options, desk, greeting)?;
        Self::greet(link, greeted, options.lock_wait + GREETING_MAX).await
    }

    async fn greet(
        link: Arc<Link>,
        greeted: oneshot::Receiver<Greeting>,
        limit: Duration,
    ) -> Result<(Self, KeeperLife), KeeperError> {
        // From here on the drop of `life` ends the keeper.
        let life = KeeperLife { end: link.end.subscribe(), link: Arc::clone(&link) };
        let error = match tokio::time::timeout(limit, greeted).await {
            Ok(Ok(Greeting::Ready)) => return Ok((Self { link }, life)),
            Ok(Ok(Greeting::Refused(message))) => KeeperError::Refused { message },
            Ok(Ok(Greeting::OtherVersion(theirs))) => {
                KeeperError::Version { pid: link.pid, theirs }
            }
            Ok(Ok(Greeting::Nobody) | Err(_)) => {
                KeeperError::Refused { message: "it ended without a word".to_owned() }
            }
            Err(_elapsed) => {
                let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                KeeperError::Silent { waited_ms }
            }
        };
        // It may have runs that it is not ours to end.
        life.leave();
        Err(error)
    }

    /// Begins a run; ready once the program executes.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is wrong; nothing of the run is left then. `Refused` while the
    /// keeper ends or is overloaded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what it had begun.
    pub fn start(
        &self,
        run: ProcessRun,
    ) -> impl Future<Output = Result<ProcessHandle, StartError>> + Send + use<> {
        handle::start(Arc::clone(self.link.desk()), run)
    }

    /// Bytes of output that this keeper's log rotation has dropped: written beyond the bound
    /// faster than it is looked at, or not to be copied because the disk was full.
    #[must_use]
    pub fn log_bytes_dropped(&self) -> u64 {
        self.link.desk().dropped_bytes.load(Ordering::Relaxed)
    }

    /// Whether it takes commands, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Process id of the keeper.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.link.pid
    }
}

impl KeeperLife {
    /// Waits for the end of the keeper and tells how it ended. What its runs left is gone then,
    /// and their handles have been told.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; every later call returns the same.
    pub async fn ended(&mut self) -> String {
        match self.end.wait_for(Option::is_some).await {
            Ok(message) => message.clone().unwrap_or_default(),
            Err(_closed) => "the keeper's link was closed".to_owned(),
        }
    }

    /// Leaves the keeper and its runs to the next daemon. Without one, runs that are to end with the
    /// daemon are ended, and the keeper ends when none lives any more.
    pub fn leave(self) {
        self.link.leave();
    }

    /// Ends the keeper and all its runs, and waits until they are gone.
    pub async fn shut_down(mut self) {
        self.link.close();
        // Twice the time, because only at its end the keeper is killed; then what is left is.
        tokio::time::timeout(END_MAX * 2, self.ended()).await.ok();
    }
}

impl Drop for KeeperLife {
    fn drop(&mut self) {
        self.link.close();
    }
}

fn absolute(state_dir: &Path) -> Result<PathBuf, KeeperError> {
    std::path::absolute(state_dir)
        .map_err(|source| KeeperError::StateDir { path: state_dir.to_owned(), source })
}

/// Serves a keeper that an earlier daemon began.
fn take_over(
    living: Living,
    desk: &Arc<Desk>,
    greeting: oneshot::Sender<Greeting>,
) -> Result<Arc<Link>, KeeperError> {
    let Living { socket, pid, pidfd } = living;
    let link = Link::new((pid, pidfd), Arc::clone(desk), greeting);
    serve(&link, socket, Process::Found)?;
    Ok(link)
}

/// Spawns the process and the two threads that serve it.
fn spawn(
    options: &KeeperOptions,
    desk: &Arc<Desk>,
    greeting: oneshot::Sender<Greeting>,
) -> Result<Arc<Link>, KeeperError> {
    let log = open_own_log(&options.state_dir)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut keeper = spawn_process(options, theirs, log)?;
    // From here on the drop of our socket ends the keeper.
    let pid = Pid::from_child(&keeper);
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => {
            let link = Link::new((keeper.id(), pidfd), Arc::clone(desk), greeting);
            serve(&link, ours, Process::Child(keeper))?;
            Ok(link)
        }
        Err(errno) => {
            // It has no runs yet, and is reaped here.
            keeper.kill().and_then(|()| keeper.wait()).ok();
            Err(io::Error::from(errno).into())
        }
    }
}

/// Begins the two threads.
fn serve(link: &Arc<Link>, socket: UnixStream, process: Process) -> Result<(), KeeperError> {
    let socket_again = socket.try_clone()?;
    let (reader, writer) = (Arc::clone(link), Arc::clone(link));
    thread::Builder::new()
        .name("keeper-read".to_owned())
        .spawn(move || link::read_loop(&reader, socket, process))?;
    let writing = thread::Builder::new()
        .name("keeper-write".to_owned())
        .spawn(move || link::write_loop(&writer, socket_again));
    if let Err(error) = writing {
        link.leave();
        return Err(error.into());
    }
    Ok(())
}

/// Starts the program with the socket as its standard input: nothing runs between fork and exec,
/// so this is fast from a large daemon, too. The environment stays empty.
fn spawn_process(
    options: &KeeperOptions,
    socket: UnixStream,
    log: File,
) -> Result<Child, KeeperError> {
    let state_dir = absolute(&options.state_dir)?;
    #[expect(clippy::disallowed_methods, reason = "the keeper is what starts every other child")]
    let mut command = Command::new(&options.program);
    command
        .arg(SUBCOMMAND)
        .arg(state_dir)
        .arg(options.lock_wait.as_millis().to_string())
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log));
    command
        .spawn()
        .map_err(|source| KeeperError::Spawn { program: options.program.clone(), source })
}

fn open_own_log(state_dir: &Path) -> Result<File, KeeperError> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |source| KeeperError::StateDir { path, source }
    };
    std::fs::create_dir_all(state_dir).map_err(fault(state_dir))?;
    let path = state_dir.join("keeper.log");
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(&path).map_err(fault(&path))?;
    if file.metadata().is_ok_and(|metadata| metadata.len() > OWN_LOG_BYTES_MAX) {
        file.set_len(0).map_err(fault(&path))?;
    }
    Ok(file)
}
