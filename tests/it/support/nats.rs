//! A real `nats-server` for one test: free loopback port, own temporary folder, own store.
//!
//! The binary is the one named by `PROVOST_NATS_SERVER`, else `.tools/bin/nats-server` in the
//! project, else `nats-server` on PATH. The server ends with the value (Drop), and with the test
//! process however that ends: the kernel kills it when the thread that started it is gone, and
//! that thread lives as long as the process.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};

use super::{eventually, eventually_blocking};

/// First port tried; the range ends below the kernel's own ephemeral ports, so that nobody takes
/// a server's port between its death and its restart.
const PORT_FIRST: u16 = 15_000;

/// Number of ports in the range.
const PORTS: u16 = 17_000;

/// How a test's server is set up.
#[derive(Clone, Debug)]
pub(crate) struct NatsOptions {
    /// The server binary; found as the page above says when `None`.
    pub(crate) binary: Option<PathBuf>,
    /// Whether JetStream is on.
    pub(crate) jetstream: bool,
    /// Lines added inside the `jetstream {}` block, for example `sync_interval: always`.
    pub(crate) jetstream_lines: String,
    /// Largest payload in bytes; the server's default when `None`.
    pub(crate) max_payload: Option<u64>,
    /// Lines added to the server's configuration, for example an `authorization {}` block.
    pub(crate) lines: String,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            binary: None,
            jetstream: true,
            jetstream_lines: String::new(),
            max_payload: None,
            lines: String::new(),
        }
    }
}

impl NatsOptions {
    /// Asks for a user with a password.
    pub(crate) fn user(mut self, user: &str, password: &str) -> Self {
        let block = format!("authorization {{ user: \"{user}\", password: \"{password}\" }}");
        self.lines.push_str(&block);
        self.lines.push('\n');
        self
    }

    /// Asks for a token.
    pub(crate) fn token(mut self, token: &str) -> Self {
        writeln!(self.lines, "authorization {{ token: \"{token}\" }}").unwrap();
        self
    }

    /// Serves TLS; with `client_ca` clients must show a certificate of that authority.
    pub(crate) fn tls(mut self, cert: &Path, key: &Path, client_ca: Option<&Path>) -> Self {
        let verify = client_ca
            .map_or_else(String::new, |ca| format!("ca_file: \"{}\", verify: true,", ca.display()));
        writeln!(
            self.lines,
            "tls {{ {verify} cert_file: \"{}\", key_file: \"{}\", timeout: 10 }}",
            cert.display(),
            key.display()
        )
        .unwrap();
        self
    }

    /// Adds lines to the configuration.
    pub(crate) fn lines(mut self, lines: &str) -> Self {
        writeln!(self.lines, "{lines}").unwrap();
        self
    }

    /// Sets the largest payload.
    pub(crate) fn max_payload(mut self, bytes: u64) -> Self {
        self.max_payload = Some(bytes);
        self
    }

    /// Leaves JetStream off.
    pub(crate) fn without_jetstream(mut self) -> Self {
        self.jetstream = false;
        self
    }

    /// Takes another binary.
    pub(crate) fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }
}

/// A running server, and how to stop, kill and start it again on the same port and store.
#[derive(Debug)]
pub(crate) struct NatsServer {
    options: NatsOptions,
    binary: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    starts: u32,
}

impl NatsServer {
    /// Starts a server with JetStream and without authentication.
    pub(crate) fn start() -> Self {
        Self::with(NatsOptions::default())
    }

    /// Starts a server as the options say.
    pub(crate) fn with(options: NatsOptions) -> Self {
        let binary = options.binary.clone().unwrap_or_else(server_binary);
        let dir = tempfile::Builder::new().prefix("provost-nats-").tempdir().unwrap();
        let mut server = Self { options, binary, dir, port: free_port(), child: None, starts: 0 };
        server.start_again();
        server
    }

    /// Port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:<port>`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `nats://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Process id; panics when the server does not run.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server does not run").id()
    }

    /// The server's temporary folder (configuration, logs, store).
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the present or last run has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Connects a plain client; for servers without authentication and TLS.
    pub(crate) async fn client(&self) -> async_nats::Client {
        eventually("the server takes a client", async || async_nats::connect(self.url()).await.ok())
            .await
    }

    /// A plain JetStream context; for servers without authentication and TLS.
    pub(crate) async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.client().await)
    }

    /// Changes the options; they hold from the next [`Self::restart`] on.
    pub(crate) fn set_options(&mut self, change: impl FnOnce(NatsOptions) -> NatsOptions) {
        self.options = change(self.options.clone());
    }

    /// Kills the server with SIGKILL and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the server to stop (SIGTERM) and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Freezes the server (SIGSTOP): its connections stay open and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Ends the server if it runs, and starts it on the same port and store.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.start_again();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(child) = &self.child {
            let pid = rustix::process::Pid::from_child(child);
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join(format!("server-{}.log", self.starts))
    }

    fn start_again(&mut self) {
        let first = self.starts == 0;
        loop {
            self.starts += 1;
            self.write_config();
            self.child = Some(spawn(&self.binary, &self.dir.path().join("nats.conf")));
            let Err(log) = self.wait_ready() else { return };
            let taken = log.contains("address already in use");
            assert!(taken && self.starts < 20, "{} did not start:\n{log}", self.binary.display());
            // Only a first start may move; a restart must keep its port and tries again.
            if first {
                self.port = free_port();
            }
        }
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let log_file = self.log_file();
        let child = self.child.as_mut().unwrap();
        let read = || fs::read_to_string(&log_file).unwrap_or_default();
        let outcome = eventually_blocking("the server says that it is ready", || {
            if read().contains("Server is ready") {
                return Some(None);
            }
            child.try_wait().unwrap().map(Some)
        });
        match outcome {
            None => Ok(()),
            Some(status) => Err(format!("{}\n{}", how(status), read())),
        }
    }

    fn write_config(&self) {
        let dir = self.dir.path();
        let mut config = String::new();
        writeln!(config, "server_name: test").unwrap();
        writeln!(config, "listen: \"127.0.0.1:{}\"", self.port).unwrap();
        writeln!(config, "log_file: \"{}\"", self.log_file().display()).unwrap();
        if let Some(bytes) = self.options.max_payload {
            writeln!(config, "max_payload: {bytes}").unwrap();
        }
        if self.options.jetstream {
            writeln!(
                config,
                "jetstream {{\n  store_dir: \"{}\"\n  max_mem: 256MB\n  max_file: 32GB\n  {}\n}}",
                dir.join("store").display(),
                self.options.jetstream_lines
            )
            .unwrap();
        }
        config.push_str(&self.options.lines);
        fs::write(dir.join("nats.conf"), config).unwrap();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The server binary that tests use; panics with what to do when there is none.
pub(crate) fn server_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PROVOST_NATS_SERVER") {
        return PathBuf::from(path);
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/nats-server");
    if own.is_file() {
        return own;
    }
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|folder| folder.join("nats-server"))
        .find(|path| path.is_file())
        .expect("no nats-server: run `make setup`, or set PROVOST_NATS_SERVER to its path")
}

/// A loopback port that nobody listens on and that no other test of this process was given.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(fastrand::u16(0..PORTS)));
    loop {
        let port = PORT_FIRST + next.fetch_add(1, Ordering::Relaxed) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn how(status: ExitStatus) -> String {
    status.signal().map_or_else(
        || format!("exit code {:?}", status.code()),
        |signal| format!("signal {signal}"),
    )
}

type SpawnRequest = (Command, mpsc::Sender<io::Result<Child>>);

fn spawn(binary: &Path, config: &Path) -> Child {
    let mut command = Command::new(binary);
    command.arg("-c").arg(config);
    spawn_server(command)
}

/// Starts a server from the one thread that lives as long as the process, because the kernel
/// sends the parent-death signal when the starting *thread* ends.
pub(crate) fn spawn_server(mut command: Command) -> Child {
    static STARTER: OnceLock<Mutex<mpsc::Sender<SpawnRequest>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<SpawnRequest>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                drop(answer.send(command.spawn()));
            }
        });
        Mutex::new(sender)
    });
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    die_with_us(&mut command);
    let (sender, receiver) = mpsc::channel();
    starter.lock().unwrap().send((command, sender)).unwrap();
    receiver.recv().unwrap().expect("the server binary can be started")
}

/// Asks the kernel to kill the process when the thread that starts it ends.
#[expect(unsafe_code, reason = "the only way to ask for the parent-death signal")]
pub(crate) fn die_with_us(command: &mut Command) {
    // SAFETY: the closure makes one system call and neither allocates nor locks.
    unsafe {
        command.pre_exec(|| {
            let signal = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(signal).map_err(io::Error::from)
        });
    }
}

#[tokio::test]
async fn a_server_keeps_its_port_and_store_across_kill_and_restart() {
    let mut server = NatsServer::start();
    let port = server.port();
    let context = server.jetstream().await;
    let config = async_nats::jetstream::stream::Config {
        name: "S".to_owned(),
        subjects: vec!["s".to_owned()],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    context.publish("s", "1".into()).await.unwrap().await.unwrap();
    server.kill9();
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    server.restart();
    assert_eq!(server.port(), port);
    let context = server.jetstream().await;
    assert_eq!(context.get_stream("S").await.unwrap().cached_info().state.messages, 1);
}

/// An older server that `make test` has installed.
pub(crate) fn older_server(version: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/servers");
    let path = tools.join(format!("nats-server-{version}"));
    assert!(path.exists(), "{} is missing; `make setup` installs it", path.display());
    path
}
