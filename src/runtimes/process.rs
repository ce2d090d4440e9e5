//! Agents as long-running OS processes, run by the keeper.
//!
//! This file makes the environment and maps ends to what the tree understands. How processes are
//! started and ended is the keeper's, what they use and may use is `limits`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::Account;
use crate::ports::{AgentRuntime, BoxFuture, RunFace, RunSpec, RunningAgent};
use crate::protocol::exit::{ChildExit, ExitCodes, StartError};
use crate::protocol::id::Generation;
use crate::protocol::spec::{AgentSpec, SignalName};
use crate::protocol::trace::{TRACEPARENT_VARIABLE, TraceContext};
use crate::runtimes::keeper::{
    Confines, Hold, IoMode, KeeperSlot, LogSettings, Owner, ProcessHandle, ProcessRun,
};
use crate::runtimes::limits::{MARKS, account_of, confines, login};

/// Version of the agent contract, as `PROVOST_PROTOCOL` tells it.
const PROTOCOL: &str = "1";

/// What an agent may see of the daemon's own environment. Everything else stays away from it:
/// credentials above all.
const INHERITED: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HOSTNAME",
];

/// Beginnings of further names that are inherited.
const INHERITED_PREFIXES: [&str; 2] = ["LC_", "XDG_"];

/// What one agent's processes are made from.
#[derive(Clone, PartialEq)]
pub struct ProcessSettings {
    /// The agent.
    pub spec: AgentSpec,
    /// The daemon's environment, as config read it; only what is on the allow-list is passed on.
    pub base_env: BTreeMap<String, String>,
    /// Output file and its rotation.
    pub log: LogSettings,
    /// Value of `NATS_URL` for agents with `nats_access`.
    pub nats_url: Option<String>,
    /// What is to hold its processes together.
    pub hold: Hold,
    /// What the agent contract says besides; nobody overrides it.
    pub contract_env: BTreeMap<String, String>,
    /// What standard input, output and error are.
    pub io: IoMode,
}

impl std::fmt::Debug for ProcessSettings {
    /// Shows no values of environment entries: they may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessSettings")
            .field("name", &self.spec.name)
            .field("command", &self.spec.command)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl ProcessSettings {
    /// Settings with the default rotation, an empty inherited environment and no NATS.
    #[must_use]
    pub fn new(spec: AgentSpec, log_file: PathBuf) -> Self {
        let log = LogSettings::new(log_file);
        Self {
            spec,
            base_env: BTreeMap::new(),
            log,
            nats_url: None,
            hold: Hold::default(),
            contract_env: BTreeMap::new(),
            io: IoMode::default(),
        }
    }

    /// The whole environment of one run: allow-list, then what its user's login would have, then the
    /// agent's own entries, then what the agent contract says, which nobody overrides but for
    /// `PYTHONUNBUFFERED` and `NATS_URL`.
    pub(crate) fn environment(
        &self,
        generation: Generation,
        account: Option<&Account>,
    ) -> BTreeMap<String, String> {
        let mut env = allowed(&self.base_env);
        env.extend(login(account));
        env.insert("PYTHONUNBUFFERED".to_owned(), "1".to_owned());
        if let Some(url) = self.nats_url.as_ref().filter(|_| self.spec.nats_access) {
            env.insert("NATS_URL".to_owned(), url.clone());
        }
        env.extend(self.spec.env.clone());
        let fixed = [
            ("PROVOST_AGENT_ID", self.spec.agent_id.to_string()),
            ("PROVOST_AGENT_NAME", self.spec.name.to_string()),
            ("PROVOST_GENERATION", generation.to_string()),
            ("PROVOST_PROTOCOL", PROTOCOL.to_owned()),
        ];
        env.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
        // Who sets a trace for the agent knows why.
        env.entry(TRACEPARENT_VARIABLE.to_owned())
            .or_insert_with(|| TraceContext::of_run(&self.spec.agent_id, generation).to_string());
        env.extend(self.contract_env.clone());
        env
    }

    /// All that one run is begun with.
    ///
    /// # Errors
    ///
    /// The user or group that it is to have is not there any more.
    pub(crate) async fn prepared(&self, generation: Generation) -> Result<ProcessRun, StartError> {
        let account = account_of(&self.spec).await?;
        Ok(self.run(generation, account.as_ref()))
    }

    fn run(&self, generation: Generation, account: Option<&Account>) -> ProcessRun {
        ProcessRun {
            command: self.spec.command.clone(),
            env: self.environment(generation, account),
            cwd: self.spec.cwd.clone(),
            log: self.log.clone(),
            stop: self.spec.stop.clone(),
            umask: None,
            marks: MARKS.map(str::to_owned).to_vec(),
            confines: Confines { hold: self.hold, ..confines(&self.spec, generation, account) },
            owner: Some(Owner {
                name: self.spec.name.clone(),
                agent_id: Some(self.spec.agent_id.clone()),
                generation,
                settings: self.fingerprint(),
            }),
            on_daemon_exit: self.spec.on_daemon_exit,
            io: self.io.clone(),
            generation: generation.0,
        }
    }

    /// Stands for what the program is begun with, as far as the configuration says it: equal ones
    /// mean that a run need not be begun anew to have the present settings.
    fn fingerprint(&self) -> u64 {
        // FNV-1a: must be the same in every build, which the standard hasher does not promise.
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        let AgentSpec { command, env, cwd, .. } = &self.spec;
        let words = command.iter().chain(env.iter().flat_map(|(name, value)| [name, value]));
        let io = match self.io {
            IoMode::File => "",
            IoMode::Pipe => "pipe",
            IoMode::Lines => "lines",
            IoMode::Files { .. } => "files",
        };
        let bytes = words.flat_map(|word| word.bytes().chain([0])).chain(io.bytes());
        let bytes = bytes.chain(cwd.as_os_str().as_encoded_bytes().iter().copied());
        bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
    }
}

/// Keeps of an environment what agents may inherit.
#[must_use]
pub fn allowed(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_allowed = |name: &str| {
        INHERITED.contains(&name) || INHERITED_PREFIXES.iter().any(|start| name.starts_with(start))
    };
    let entries = env.iter().filter(|(name, _)| is_allowed(name));
    entries.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Runs one agent as a process.
#[derive(Clone, Debug)]
pub struct ProcessRuntime {
    keeper: KeeperSlot,
    settings: ProcessSettings,
}

impl ProcessRuntime {
    /// A runtime that starts on the keeper of the moment.
    #[must_use]
    pub fn new(keeper: KeeperSlot, settings: ProcessSettings) -> Self {
        Self { keeper, settings }
    }
}

impl AgentRuntime for ProcessRuntime {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let Self { keeper, settings } = self.clone();
        Box::pin(async move {
            let process = keeper.start(settings.prepared(generation).await?).await?;
            let running = RunningProcess::new(process, &settings);
            Ok(Box::new(running) as Box<dyn RunningAgent>)
        })
    }
}

/// One process under way.
#[derive(Debug)]
pub(crate) struct RunningProcess {
    process: ProcessHandle,
    stop_signal: SignalName,
    spec: RunSpec,
    request: Request,
    codes: ExitCodes,
}

/// What was asked of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Request {
    Nothing,
    Stop,
    Kill,
}

impl RunningProcess {
    pub(crate) fn new(process: ProcessHandle, settings: &ProcessSettings) -> Self {
        let is_current = process.settings() == Some(settings.fingerprint());
        let spec = if is_current { RunSpec::Current } else { RunSpec::Outdated };
        let stop_signal = settings.spec.stop.signal;
        let (request, codes) = (Request::Nothing, ExitCodes::default());
        Self { process, stop_signal, spec, request, codes }
    }

    /// From now on an end counts as what was asked for, though no signal is sent.
    pub(crate) fn expect_stop(&mut self) {
        if self.request == Request::Nothing {
            self.request = Request::Stop;
        }
    }
}

impl RunningAgent for RunningProcess {
    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }

    fn face(&self) -> RunFace {
        RunFace {
            pid: self.pid(),
            origin: self.process.origin(),
            containment: self.process.containment(),
            spec: self.spec,
            ..RunFace::default()
        }
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async move {
            // Cancel safe: the handle keeps the exit, and what was asked is in this state.
            let exit = self.process.exited().await;
            self.codes = exit.code_and_signal();
            as_asked(exit, self.request, self.stop_signal)
        })
    }

    fn codes(&self) -> ExitCodes {
        self.codes
    }

    fn ask_to_stop(&mut self) {
        self.expect_stop();
        self.process.ask_to_stop();
    }

    fn kill(&mut self) {
        self.request = Request::Kill;
        self.process.kill();
    }
}

/// Reads an end in the light of what was asked: success, or death by the signal that was sent, is
/// what a request leads to. Any other end happened by itself and is told as it was.
fn as_asked(exit: ChildExit, request: Request, stop_signal: SignalName) -> ChildExit {
    const SIGKILL: i32 = 9;
    const SHELL_SIGNAL_BASE: i32 = 128;
    let stop = number(stop_signal);
    match (request, &exit) {
        (Request::Kill, ChildExit::Signaled { signal: SIGKILL }) => ChildExit::Killed,
        (Request::Stop | Request::Kill, ChildExit::Signaled { signal }) if *signal == stop => {
            ChildExit::Stopped
        }
        (Request::Stop | Request::Kill, ChildExit::Exited { code })
            if *code == 0 || *code == SHELL_SIGNAL_BASE + stop =>
        {
            ChildExit::Stopped
        }
        (Request::Nothing | Request::Stop | Request::Kill, _) => exit,
    }
}

fn number(signal: SignalName) -> i32 {
    match signal {
        SignalName::Hup => 1,
        SignalName::Int => 2,
        SignalName::Quit => 3,
        SignalName::Kill => 9,
        SignalName::Usr1 => 10,
        SignalName::Usr2 => 12,
        SignalName::Term => 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit: ChildExit, request: Request, expected: &ChildExit) {
        assert_eq!(&as_asked(exit, request, SignalName::Term), expected);
    }

    #[test]
    fn an_end_is_a_stop_only_if_it_was_asked_for() {
        let term = ChildExit::Signaled { signal: 15 };
        let kill = ChildExit::Signaled { signal: 9 };
        let zero = ChildExit::Exited { code: 0 };
        let three = ChildExit::Exited { code: 3 };
        check(term.clone(), Request::Nothing, &term);
        check(term.clone(), Request::Stop, &ChildExit::Stopped);
        check(zero.clone(), Request::Nothing, &zero);
        check(zero, Request::Stop, &ChildExit::Stopped);
        check(ChildExit::Exited { code: 143 }, Request::Stop, &ChildExit::Stopped);
        check(three.clone(), Request::Stop, &three);
        check(kill.clone(), Request::Stop, &kill);
        check(kill, Request::Kill, &ChildExit::Killed);
        check(three.clone(), Request::Kill, &three);
        check(term, Request::Kill, &ChildExit::Stopped);
    }

    #[test]
    fn only_the_allow_list_is_inherited() {
        let names = ["PATH", "LC_ALL", "XDG_DATA_HOME", "AWS_SECRET_ACCESS_KEY", "NATS_URL", "LCX"];
        let env = names.map(|name| (name.to_owned(), "x".to_owned())).into();
        let kept: Vec<String> = allowed(&env).into_keys().collect();
        assert_eq!(kept, ["LC_ALL", "PATH", "XDG_DATA_HOME"]);
    }
}
