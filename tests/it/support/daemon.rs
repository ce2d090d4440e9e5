//! A real daemon of one's own: the binary, a configuration, a state folder; and its command line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::eventually_blocking;
use crate::support::nats::server_binary;

/// Name of the variable that marks every process a daemon of a test has started.
const MARK: &str = "PROVOST_TEST_MARK";

/// A running daemon; dropping it kills it, and its agents with it.
pub(crate) struct Daemon {
    pub(crate) dir: tempfile::TempDir,
    config: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    mark: String,
}

impl Daemon {
    /// Starts a daemon with this configuration on its own embedded server and waits until it
    /// answers. `{mark}` in the text stands for a value that marks the agents' processes.
    pub(crate) fn start(config: &str) -> Self {
        let mut daemon = Self::prepare(config);
        daemon.up();
        daemon
    }

    /// As [`Self::start`], on this server.
    pub(crate) fn start_on(config: &str, url: &str) -> Self {
        let mut daemon = Self::prepare(config).flag("--nats-url", url);
        daemon.up();
        daemon
    }

    /// Everything but the start.
    pub(crate) fn prepare(config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("provost-it-").tempdir().unwrap();
        let mark = uuid::Uuid::from_u128(fastrand::u128(..)).simple().to_string();
        let file = dir.path().join("provost.toml");
        fs::write(&file, config.replace("{mark}", &mark)).unwrap();
        Self {
            dir,
            config: file,
            arguments: Vec::new(),
            environment: Vec::new(),
            child: None,
            mark,
        }
    }

    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn up(&mut self) {
        self.spawn();
        self.answers();
    }

    /// As [`Self::up`], naming no configuration file.
    pub(crate) fn up_without_file(&mut self) {
        self.spawn_with(&["up"]);
        self.answers();
    }

    fn answers(&mut self) {
        let mut last = String::new();
        let answered = eventually_blocking("the daemon answers", || {
            let output = self.cli(&["status", "-o", "json"]);
            last = text(&output.stderr);
            if output.status.success() {
                return Some(true);
            }
            self.ended().map(|_| false)
        });
        assert!(answered, "the daemon ended: {}\n{last}", self.log());
    }

    /// Starts the daemon and does not wait.
    pub(crate) fn spawn(&mut self) {
        let config = self.config.clone();
        self.spawn_with(&["up", "-f", config.to_str().unwrap()]);
    }

    fn spawn_with(&mut self, words: &[&str]) {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.command(words);
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Runs the command line against this daemon.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).args(&self.arguments).output().unwrap()
    }

    /// As [`Self::cli`], parsed; panics unless it succeeded.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["-o", "json"]].concat());
        let shown = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {} {shown:?}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The status of one agent; it may be in any state.
    pub(crate) fn agent(&self, name: &str) -> Option<Value> {
        let list = self.json(&["list"]);
        list["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == name).cloned()
    }

    /// Waits until an agent is as wanted.
    pub(crate) fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually_blocking(&format!("{name} {what}"), || self.agent(name).filter(&wanted))
    }

    /// Waits until an agent is in a state.
    pub(crate) fn wait_state(&self, name: &str, state: &str) -> Value {
        self.wait(name, &format!("is {state}"), |agent| agent["state"] == state)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon does not run").id()
    }

    /// How the daemon ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// What the daemon has printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        let status = eventually_blocking("the daemon ends after SIGTERM", || self.ended());
        self.child = None;
        status
    }

    /// Kills the daemon as a crash of the machine's memory would.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Process id of the keeper that has the state folder's lock.
    pub(crate) fn keeper(&self) -> Option<u32> {
        let pid: u32 =
            fs::read_to_string(self.state_dir().join("keeper.lock")).ok()?.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let folder = self.state_dir();
        let ours = |word: &[u8]| word == folder.as_os_str().as_encoded_bytes();
        command.split(|byte| *byte == 0).any(ours).then_some(pid)
    }

    /// Rewrites the configuration; the next start reads it.
    pub(crate) fn configure(&self, config: &str) {
        fs::write(&self.config, config.replace("{mark}", &self.mark)).unwrap();
    }

    /// Processes of agents that live, by their mark. Zombies have no environment.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let wanted = format!("{MARK}={}", self.mark);
        let marked = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        };
        pids().into_iter().filter(marked).collect()
    }

    /// Waits until no process of an agent is left.
    pub(crate) fn nothing_left(&self) {
        let mut left = Vec::new();
        eventually_blocking("no process of an agent is left", || {
            left = self.processes();
            left.is_empty().then_some(())
        });
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provost"));
        command.args(arguments).arg("--state-dir").arg(self.state_dir());
        command.current_dir(self.dir.path());
        command.env_clear();
        for name in ["PATH", "HOME", "LANG"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("PROVOST_NATS_SERVER", server_binary());
        command.envs(self.environment.iter().cloned());
        command
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            if std::thread::panicking() {
                std::io::stderr().write_all(self.log().as_bytes()).unwrap();
            }
            signal(self.pid(), Signal::TERM);
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(15);
            while self.ended().is_none() && std::time::Instant::now() < patience {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            self.kill9();
        }
        // What a killed daemon has left under its keeper, and what a killed keeper has left.
        if let Some(keeper) = self.keeper() {
            signal(keeper, Signal::TERM);
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(15);
            while self.keeper().is_some() && std::time::Instant::now() < patience {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

/// Sends a signal to a process that a test has started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // A process that has just ended by itself is as good.
    let _gone = kill_process(pid, signal);
}

/// Whether a process lives and is no zombie.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// Children of a process that are zombies.
pub(crate) fn zombies_of(parent: u32) -> Vec<u32> {
    let zombie = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
    };
    pids().into_iter().filter(zombie).collect()
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir(Path::new("/proc")).unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
