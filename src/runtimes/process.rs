//! Agents as long-running OS processes, run by the keeper.
//!
//! This file makes the environment and maps ends to what the tree understands. How processes are
//! started and ended is the keeper's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::time::Instant;

use crate::ports::{AgentRuntime, BoxFuture, RunningAgent};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::Generation;
use crate::protocol::spec::{AgentSpec, SignalName};
use crate::runtimes::keeper::{KeeperSlot, LogSettings, ProcessHandle, ProcessRun, proc};

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

/// Entries of the environment that together are one run's alone.
const MARKS: [&str; 2] = ["PROVOST_AGENT_ID", "PROVOST_GENERATION"];

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
        Self { spec, base_env: BTreeMap::new(), log, nats_url: None }
    }

    /// The whole environment of one run: allow-list, then the agent's own entries, then what the
    /// agent contract says, which nobody overrides but for `PYTHONUNBUFFERED` and `NATS_URL`.
    fn environment(&self, generation: Generation) -> BTreeMap<String, String> {
        let mut env = allowed(&self.base_env);
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
        env
    }

    fn run(&self, generation: Generation) -> ProcessRun {
        ProcessRun {
            command: self.spec.command.clone(),
            env: self.environment(generation),
            cwd: self.spec.cwd.clone(),
            log: self.log.clone(),
            stop: self.spec.stop.clone(),
            umask: None,
            marks: MARKS.map(str::to_owned).to_vec(),
        }
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
        let start = self.keeper.start(self.settings.run(generation));
        let stop_signal = self.settings.spec.stop.signal;
        Box::pin(async move {
            let process = start.await?;
            let running = RunningProcess::new(process, stop_signal);
            Ok(Box::new(running) as Box<dyn RunningAgent>)
        })
    }
}

/// One process under way.
#[derive(Debug)]
struct RunningProcess {
    process: ProcessHandle,
    stop_signal: SignalName,
    request: Request,
    cpu: Option<CpuSample>,
}

/// What was asked of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Request {
    Nothing,
    Stop,
    Kill,
}

#[derive(Clone, Copy, Debug)]
struct CpuSample {
    at: Instant,
    ticks: u64,
}

impl RunningProcess {
    fn new(process: ProcessHandle, stop_signal: SignalName) -> Self {
        let mut running = Self { process, stop_signal, request: Request::Nothing, cpu: None };
        // The first sample, so that the first measurement covers the time from the start.
        running.cpu = running.stat().map(|stat| CpuSample::new(stat.cpu_ticks));
        running
    }

    /// The main process, if it is still the one that was started.
    fn stat(&self) -> Option<proc::Stat> {
        let stat = proc::stat(i32::try_from(self.process.pid()).ok()?)?;
        (stat.start_time == self.process.start_time() && !stat.is_dead()).then_some(stat)
    }
}

impl CpuSample {
    fn new(ticks: u64) -> Self {
        Self { at: Instant::now(), ticks }
    }

    /// Cores in use from an earlier sample to this one; none if no time has passed.
    fn cores_since(&self, earlier: &Self) -> Option<f64> {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let ticks = u32::try_from(self.ticks.saturating_sub(earlier.ticks)).ok()?;
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
        (seconds > 0.0).then(|| f64::from(ticks) / f64::from(per_second) / seconds)
    }
}

impl RunningAgent for RunningProcess {
    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async move {
            // Cancel safe: the handle keeps the exit, and what was asked is in this state.
            let exit = self.process.exited().await;
            as_asked(exit, self.request, self.stop_signal)
        })
    }

    fn ask_to_stop(&mut self) {
        if self.request == Request::Nothing {
            self.request = Request::Stop;
        }
        self.process.ask_to_stop();
    }

    fn kill(&mut self) {
        self.request = Request::Kill;
        self.process.kill();
    }

    fn measure(&mut self) -> HealthMetrics {
        let Some(stat) = self.stat() else { return HealthMetrics::default() };
        let sample = CpuSample::new(stat.cpu_ticks);
        let cpu_usage = self.cpu.and_then(|earlier| sample.cores_since(&earlier));
        self.cpu = Some(sample);
        let page_kib = u64::try_from(rustix::param::page_size() / 1024).unwrap_or(4);
        let resident_kib = u32::try_from(stat.resident_pages.saturating_mul(page_kib)).ok();
        HealthMetrics {
            cpu_usage,
            memory_mb: resident_kib.map(|kib| f64::from(kib) / 1024.0),
            open_files: i32::try_from(self.process.pid()).ok().and_then(proc::open_files),
            ..HealthMetrics::default()
        }
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
