//! The embedded default: a `nats-server` of our own when no other is configured.
//!
//! Everything about it except running the process, which the keeper does: finding the binary,
//! folder, lock, credentials, configuration, port, and the address file by which others on this
//! machine find it. It listens on loopback only, has a user of its own, and keeps credentials and
//! (if free) port across restarts, so that clients find it again.
//!
//! Files under `<state>/nats/`: `nats.conf`, `credentials.json`, `port`, `daemon.lock`, `lock`,
//! `ports/`, `server.pid`, `server.log`, `store/`; and `<state>/nats.json`, the address file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::protocol::id::NodeName;
use crate::transport::address::{remove_address, write_address};
use crate::transport::contexts::{self, ContextError};
use crate::transport::embedded_config::{config_text, find_binary};
use crate::transport::embedded_error::file_error;
use crate::transport::files::{private_folder, write_private};
use crate::transport::orphan::{self, Orphan};
use crate::transport::settings::ServerUrl;
use crate::transport::version;

pub use crate::transport::address::{ADDRESS_FILE, AddressFile, read_address};
pub use crate::transport::embedded_config::{BinarySearch, Durability};
pub use crate::transport::embedded_error::EmbeddedError;

/// User name of the embedded server.
pub const USER: &str = "provost";

/// Name of the NATS context written for the embedded server.
pub const CONTEXT: &str = "provost";

/// How often a starting server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// How the embedded server shall be.
#[derive(Clone, Debug)]
pub struct EmbeddedSettings {
    /// Node, for the server's name.
    pub node: NodeName,
    /// State folder of the daemon.
    pub state_dir: PathBuf,
    /// Where its binary may be.
    pub binary: BinarySearch,
    /// How soon acknowledged messages are on disk.
    pub durability: Durability,
    /// Largest message in bytes.
    pub max_payload: u32,
    /// Room for streams in bytes.
    pub max_file_bytes: u64,
    /// Folder of the NATS contexts, to write one there.
    pub contexts: Option<PathBuf>,
}

impl EmbeddedSettings {
    /// Settings with the default limits: 8 MiB a message, 20 GiB of streams.
    #[must_use]
    pub fn new(node: NodeName, state_dir: PathBuf, binary: BinarySearch) -> Self {
        Self {
            node,
            state_dir,
            binary,
            durability: Durability::Default,
            max_payload: 8 * 1024 * 1024,
            max_file_bytes: 20 * 1024 * 1024 * 1024,
            contexts: None,
        }
    }

    /// The server's own folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.state_dir.join("nats")
    }
}

/// The embedded server of one state folder; one daemon at a time has it.
///
/// Two locks: `daemon.lock` tells that a daemon lives, `lock` that something uses the store. The
/// second one is for the server to inherit, so it stays taken when only the daemon dies.
#[derive(Debug)]
pub struct EmbeddedServer {
    settings: EmbeddedSettings,
    folder: PathBuf,
    _daemon: File,
}

impl EmbeddedServer {
    /// Takes the folder for this daemon; hold the value as long as the daemon lives.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Locked`] when another daemon has it.
    pub fn open(settings: EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let folder = settings.folder();
        let folder = std::path::absolute(&folder).map_err(file_error("find", &folder))?;
        private_folder(&folder).map_err(file_error("make", &folder))?;
        let daemon = lock(&folder, "daemon.lock")?;
        Ok(Self { settings, folder, _daemon: daemon })
    }

    /// Gets everything ready for the process: takes the store's lock, writes the configuration.
    ///
    /// Called before each start, after the last [`Prepared`] was dropped; credentials stay the
    /// same, and the port too if it is free.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError`] says what is missing and what to do.
    pub fn prepare(&self) -> Result<Prepared, EmbeddedError> {
        let binary = find_binary(&self.settings.binary)?;
        let Some(program) = binary.to_str().map(ToOwned::to_owned) else {
            return Err(EmbeddedError::BadBinary { path: binary });
        };
        let folder = self.folder.clone();
        if let Some(orphan) = self.orphan() {
            return Err(EmbeddedError::StillRunning { pid: orphan.pid() });
        }
        let lock = Arc::new(lock(&folder, "lock")?);
        let config = folder.join("nats.conf");
        let ports = folder.join("ports");
        clear_folder(&ports).map_err(file_error("clear", &ports))?;
        remove_address(&self.settings.state_dir)?;
        let credentials = credentials(&folder)?;
        let port = remembered_port(&folder);
        let text = config_text(&self.settings, &folder, &credentials, port)?;
        write_private(&config, text.as_bytes()).map_err(file_error("write", &config))?;
        let argv = vec![program, "-c".to_owned(), config.to_string_lossy().into_owned()];
        Ok(Prepared {
            argv,
            cwd: folder.clone(),
            log_file: folder.join("server.log"),
            lock,
            folder,
            ports,
            credentials,
            settings: self.settings.clone(),
        })
    }

    /// Everything about the server that an earlier daemon left running, if its configuration is the
    /// one that it would get now; its files stay as they are.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError`] when the store is taken or a path cannot be used.
    pub fn resume(&self) -> Result<Option<Prepared>, EmbeddedError> {
        if self.orphan().is_none() {
            return Ok(None);
        }
        let folder = self.folder.clone();
        let Some(credentials) = kept_credentials(&folder) else { return Ok(None) };
        let config = folder.join("nats.conf");
        let text = config_text(&self.settings, &folder, &credentials, None)?;
        let running = fs::read_to_string(&config).unwrap_or_default();
        // The port that it listens on stands in its own file.
        let port = |line: &&str| !line.starts_with("port: ");
        if !text.lines().filter(port).eq(running.lines().filter(port)) {
            return Ok(None);
        }
        let program = find_binary(&self.settings.binary)?;
        let program = program.to_string_lossy().into_owned();
        let argv = vec![program, "-c".to_owned(), config.to_string_lossy().into_owned()];
        let lock = Arc::new(lock(&folder, "lock")?);
        Ok(Some(Prepared {
            argv,
            cwd: folder.clone(),
            log_file: folder.join("server.log"),
            lock,
            ports: folder.join("ports"),
            folder,
            credentials,
            settings: self.settings.clone(),
        }))
    }

    /// Takes the address file away: the server does not run any more.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::File`] when it cannot be removed.
    pub fn forget_address(&self) -> Result<(), EmbeddedError> {
        remove_address(&self.settings.state_dir)
    }

    /// The server that an earlier daemon left running on this store, if there is one; the daemon's
    /// lock is ours, so it is nobody else's.
    #[must_use]
    pub fn orphan(&self) -> Option<Orphan> {
        orphan::find(&self.folder)
    }
}

/// User and password of the embedded server.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

fn lock(folder: &Path, name: &str) -> Result<File, EmbeddedError> {
    let path = folder.join(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(file_error("open", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(EmbeddedError::Locked { folder: folder.to_owned() })
        }
        Err(error) => Err(file_error("lock", &path)(error.into())),
    }
}

fn clear_folder(folder: &Path) -> io::Result<()> {
    private_folder(folder)?;
    for entry in fs::read_dir(folder)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// The credentials of the last time, unless they are damaged.
fn kept_credentials(folder: &Path) -> Option<Credentials> {
    let plain = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let text = fs::read(folder.join("credentials.json")).ok()?;
    let kept: Credentials = serde_json::from_slice(&text).ok()?;
    (kept.user == USER && plain(&kept.password)).then_some(kept)
}

/// The credentials of the last time, or new ones; damaged ones are replaced, because the server
/// is configured from them at every start.
fn credentials(folder: &Path) -> Result<Credentials, EmbeddedError> {
    if let Some(kept) = kept_credentials(folder) {
        return Ok(kept);
    }
    let path = folder.join("credentials.json");
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| EmbeddedError::NoRandom { said: error.to_string() })?;
    let password = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let made = Credentials { user: USER.to_owned(), password };
    let text = serde_json::to_vec(&made)
        .map_err(|error| file_error("write", &path)(io::Error::other(error)))?;
    write_private(&path, &text).map_err(file_error("write", &path))?;
    Ok(made)
}

/// The port of the last time, if nobody has taken it since.
fn remembered_port(folder: &Path) -> Option<u16> {
    let text = fs::read_to_string(folder.join("port")).ok()?;
    let port = text.trim().parse::<u16>().ok().filter(|port| 1024 <= *port)?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
}

/// Everything that the keeper needs to run the server, and how to wait for it.
#[derive(Debug)]
pub struct Prepared {
    /// Program and arguments; no environment is needed.
    pub argv: Vec<String>,
    /// Folder to run it in.
    pub cwd: PathBuf,
    /// Its log, which it writes and rotates itself.
    pub log_file: PathBuf,
    lock: Arc<File>,
    folder: PathBuf,
    ports: PathBuf,
    credentials: Credentials,
    settings: EmbeddedSettings,
}

impl Prepared {
    /// The lock on the store. It must live as long as the server: keep it, and let the server
    /// inherit it, so that no second server is ever started on the store.
    #[must_use]
    pub fn lock(&self) -> Arc<File> {
        Arc::clone(&self.lock)
    }

    /// Waits until the server answers, checks its version, and writes the address file.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::NotReady`] with the end of the server's log.
    pub async fn wait_ready(&self, after: Duration) -> Result<Running, EmbeddedError> {
        let deadline = Instant::now() + after;
        let (pid, port) = self.wait_until(deadline, after, || ports_file(&self.ports)).await?;
        let version = loop {
            if let Some(version) = server_version(port).await {
                break version;
            }
            self.pause(deadline, after).await?;
        };
        version::check(&version)?;
        let url = self.url(port)?;
        let running = Running { url, pid, server_version: version };
        self.publish(&running, port)?;
        Ok(running)
    }

    async fn wait_until<T>(
        &self,
        deadline: Instant,
        after: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, EmbeddedError> {
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            self.pause(deadline, after).await?;
        }
    }

    async fn pause(&self, deadline: Instant, after: Duration) -> Result<(), EmbeddedError> {
        if deadline <= Instant::now() {
            return Err(EmbeddedError::NotReady { after, log: end_of(&self.log_file) });
        }
        sleep(LOOK_EVERY).await;
        Ok(())
    }

    fn url(&self, port: u16) -> Result<ServerUrl, EmbeddedError> {
        let Credentials { user, password } = &self.credentials;
        Ok(format!("nats://{user}:{password}@127.0.0.1:{port}").parse()?)
    }

    fn publish(&self, running: &Running, port: u16) -> Result<(), EmbeddedError> {
        let remembered = self.folder.join("port");
        write_private(&remembered, port.to_string().as_bytes())
            .map_err(file_error("write", &remembered))?;
        let Credentials { user, password } = &self.credentials;
        let address = AddressFile {
            url: format!("nats://{user}:{password}@127.0.0.1:{port}"),
            pid: running.pid,
            server_version: running.server_version.clone(),
            embedded: true,
            durability: self.settings.durability.as_str().to_owned(),
        };
        write_address(&self.settings.state_dir, &address)?;
        self.write_context(&running.url);
        Ok(())
    }

    /// A context is a convenience: that it cannot be written is no reason to fail.
    fn write_context(&self, url: &ServerUrl) {
        let Some(folder) = &self.settings.contexts else { return };
        match contexts::write_own(folder, CONTEXT, url) {
            Ok(_) => {}
            Err(error @ ContextError::NotOurs { .. }) => {
                tracing::info!(error = %error, "no context written");
            }
            Err(error) => tracing::warn!(error = %error, "no context written"),
        }
    }
}

/// The running server.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its address, with its credentials inside (they are not shown).
    pub url: ServerUrl,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub server_version: String,
}

/// Process id and port from the file that the server writes when it listens.
fn ports_file(folder: &Path) -> Option<(u32, u16)> {
    #[derive(Deserialize)]
    struct Ports {
        nats: Vec<String>,
    }
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let pid = name.strip_suffix(".ports")?.rsplit_once('_')?.1.parse().ok()?;
        let ports: Ports = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
        let port = ports.nats.first()?.rsplit_once(':')?.1.parse().ok()?;
        Some((pid, port))
    })
}

/// Version from the first line that a server says to everybody who connects.
async fn server_version(port: u16) -> Option<String> {
    #[derive(Deserialize)]
    struct Info {
        version: String,
    }
    let reading = async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.ok()?;
        let info: Info = serde_json::from_str(line.strip_prefix("INFO ")?).ok()?;
        Some(info.version)
    };
    timeout(Duration::from_secs(2), reading).await.ok().flatten()
}

/// The last lines of a log, for an error.
fn end_of(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    if lines.is_empty() {
        return format!("nothing ({} is empty or absent)", path.display());
    }
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
