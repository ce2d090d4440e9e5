//! Real `redis-server` and `mosquitto` for one test each: free loopback port, own folder, killed and
//! started again on the same port and store.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::eventually_blocking;
use super::nats::{free_port, spawn_server};
use super::transport::Certificates;

/// Which server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Redis,
    Mosquitto,
}

/// How a server is set up.
#[derive(Debug, Default)]
pub(crate) struct BrokerOptions {
    /// User and password that it asks for.
    pub(crate) user: Option<(&'static str, &'static str)>,
    /// Whether it speaks TLS, and asks for a certificate.
    pub(crate) tls: Option<ClientCertificate>,
}

/// Whether a server asks for a certificate of its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ClientCertificate {
    Needed,
    NotAsked,
}

/// A running server.
pub(crate) struct Broker {
    kind: Kind,
    binary: PathBuf,
    options: BrokerOptions,
    dir: tempfile::TempDir,
    certificates: Option<Certificates>,
    port: u16,
    child: Option<Child>,
    starts: u32,
}

impl Broker {
    pub(crate) fn redis() -> Self {
        Self::with(Kind::Redis, BrokerOptions::default())
    }

    pub(crate) fn mosquitto() -> Self {
        Self::with(Kind::Mosquitto, BrokerOptions::default())
    }

    pub(crate) fn with(kind: Kind, options: BrokerOptions) -> Self {
        let binary = binary(match kind {
            Kind::Redis => "redis-server",
            Kind::Mosquitto => "mosquitto",
        });
        let dir = tempfile::Builder::new().prefix("provost-broker-").tempdir().unwrap();
        let certificates = options.tls.map(|_| Certificates::new());
        let port = free_port();
        let mut broker =
            Self { kind, binary, options, dir, certificates, port, child: None, starts: 0 };
        broker.start();
        broker
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().unwrap()
    }

    /// Freezes the server (SIGSTOP): its connections stay open and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("the server does not run");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills the server with SIGKILL and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts a killed server again, with what it had stored.
    pub(crate) fn start(&mut self) {
        let first = self.starts == 0;
        loop {
            self.starts += 1;
            let log = self.dir.path().join(format!("server-{}.log", self.starts));
            fs::write(&log, "").unwrap();
            let config = self.dir.path().join("server.conf");
            let text = match self.kind {
                Kind::Redis => self.redis_config(&log),
                Kind::Mosquitto => self.mosquitto_config(&log),
            };
            fs::write(&config, text).unwrap();
            let mut command = Command::new(&self.binary);
            if self.kind == Kind::Mosquitto {
                command.arg("-c");
            }
            command.arg(&config);
            self.child = Some(spawn_server(command));
            if self.becomes_ready(&log) {
                return;
            }
            let text = fs::read_to_string(&log).unwrap();
            let taken = text.to_lowercase().contains("address already in use");
            assert!(taken && self.starts < 20, "{:?} did not start:\n{text}", self.kind);
            // Only a first start may move; a restart must keep its port and tries again.
            if first {
                self.port = free_port();
            }
        }
    }

    fn becomes_ready(&mut self, log: &Path) -> bool {
        let word = match self.kind {
            Kind::Redis => "Ready to accept connections",
            Kind::Mosquitto => " running",
        };
        let child = self.child.as_mut().unwrap();
        eventually_blocking("the server says that it is ready", || {
            if fs::read_to_string(log).unwrap_or_default().contains(word) {
                return Some(true);
            }
            child.try_wait().unwrap().map(|_| false)
        })
    }

    fn redis_config(&self, log: &Path) -> String {
        let dir = self.dir.path().display();
        let mut text = format!(
            "bind 127.0.0.1\ndir {dir}\nlogfile {}\ndaemonize no\nsave \"\"\nappendonly yes\n\
             appendfsync everysec\n",
            log.display()
        );
        match self.options.tls {
            None => writeln!(text, "port {}", self.port).unwrap(),
            Some(asked) => {
                let certificates = self.certificates();
                let server = certificates.issue("127.0.0.1");
                let clients = if asked == ClientCertificate::Needed { "yes" } else { "no" };
                writeln!(
                    text,
                    "port 0\ntls-port {}\ntls-cert-file {}\ntls-key-file {}\n\
                     tls-ca-cert-file {}\ntls-auth-clients {clients}",
                    self.port,
                    server.cert.display(),
                    server.key.display(),
                    certificates.ca().display()
                )
                .unwrap();
            }
        }
        if let Some((user, password)) = self.options.user {
            writeln!(text, "user default off\nuser {user} on >{password} ~* &* +@all").unwrap();
        }
        text
    }

    fn mosquitto_config(&self, log: &Path) -> String {
        let dir = self.dir.path();
        let mut text = format!(
            "user root\nlistener {} 127.0.0.1\npersistence true\npersistence_location {}/\n\
             autosave_on_changes true\nautosave_interval 1\nmax_inflight_messages 0\n\
             max_queued_messages 0\nlog_dest file {}\nlog_type all\n",
            self.port,
            dir.display(),
            log.display()
        );
        if let Some(asked) = self.options.tls {
            let certificates = self.certificates();
            let server = certificates.issue("127.0.0.1");
            writeln!(
                text,
                "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {}",
                certificates.ca().display(),
                server.cert.display(),
                server.key.display(),
                asked == ClientCertificate::Needed
            )
            .unwrap();
        }
        match self.options.user {
            None => text.push_str("allow_anonymous true\n"),
            Some((user, password)) => {
                let file = dir.join("passwords");
                let made = Command::new(binary("mosquitto_passwd"))
                    .args(["-b", "-c"])
                    .arg(&file)
                    .args([user, password])
                    .output()
                    .unwrap();
                assert!(made.status.success(), "{made:?}");
                writeln!(text, "allow_anonymous false\npassword_file {}", file.display()).unwrap();
            }
        }
        text
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A program on PATH or where Debian puts servers; panics with what to do when there is none.
fn binary(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("no {name}: run `make setup` as root, or install redis-server and mosquitto")
        })
}
