//! Probes of real processes, with real servers and sockets, through the real keeper.
//!
//! The rules themselves are tested in virtual time, in `src/logic/health`; `cases.md` says
//! which cases of kubelet and systemd hold. This file holds what its parts share.

#![expect(clippy::excessive_nesting, reason = "loops of test servers are plainer in one piece")]

mod asked;
mod daemon;
mod heard;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use provost::ports::{AgentRuntime, RunHealth, RunNews, RunningAgent};
use provost::protocol::care::{CareSpec, ProbeCheck, ProbeSpec, ProbesSpec};
use provost::protocol::exit::ChildExit;
use provost::protocol::id::Generation;
use provost::protocol::spec::{
    AgentSpec, OnDaemonExit, RestartPolicy, RestartType, RuntimeKind, StopSpec,
};
use provost::protocol::status::{HealthStatus, Readiness};
use provost::runtimes::keeper::{Keeper, KeeperLife, KeeperOptions, KeeperSlot};
use provost::runtimes::probed::{Beats, Probed, ProbedSettings, notify_variables};
use provost::runtimes::process::{ProcessRuntime, ProcessSettings};
use tempfile::TempDir;

use crate::support::scripted::Whole;

/// Longest wait for anything; far beyond what is needed, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(30);

/// A keeper, and a folder for all state.
struct Bench {
    dir: TempDir,
    slot: KeeperSlot,
    state_dir: PathBuf,
    beats: Option<Arc<dyn Beats>>,
    _life: KeeperLife,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_provost"));
        let options = KeeperOptions::new(program, state_dir.clone());
        let (keeper, life) = Keeper::launch(options).await.unwrap();
        let slot = KeeperSlot::default();
        slot.set(Some(keeper));
        Self { dir, slot, state_dir, beats: None, _life: life }
    }

    fn spec(&self, command: &[&str], probes: ProbesSpec) -> AgentSpec {
        AgentSpec {
            agent_id: "0190d3a0-0000-7000-8000-000000000001".parse().unwrap(),
            name: "w1".parse().unwrap(),
            agent_type: "worker".parse().unwrap(),
            runtime: RuntimeKind::Process,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            env: [("OWN".to_owned(), "yes".to_owned())].into(),
            secret_env: Vec::new(),
            cwd: self.dir.path().to_owned(),
            capabilities: Vec::new(),
            slots: 1,
            max_memory_mb: None,
            timeout: Duration::from_secs(300),
            stop: StopSpec { grace: Duration::from_millis(300), ..StopSpec::default() },
            nats_access: false,
            on_daemon_exit: OnDaemonExit::Stop,
            exec: provost::protocol::spec::ExecSpec::default(),
            care: CareSpec { probes, ..CareSpec::default() },
            restart: RestartType::Permanent,
            policy: RestartPolicy::default(),
            labels: Default::default(),
            origin: None,
        }
    }

    fn runtime(&self, spec: AgentSpec) -> Probed {
        let runtime = ProcessRuntime::new(self.slot.clone(), self.process(spec.clone()));
        self.runtime_around(spec, Arc::new(runtime))
    }

    fn process(&self, spec: AgentSpec) -> ProcessSettings {
        let log = self.state_dir.join("logs/w1.log");
        let path = std::env::var("PATH").unwrap();
        ProcessSettings {
            base_env: [("PATH".to_owned(), path)].into(),
            contract_env: notify_variables(&spec, &self.state_dir).into_iter().collect(),
            ..ProcessSettings::new(spec, log)
        }
    }

    fn runtime_around(&self, spec: AgentSpec, inner: Arc<dyn AgentRuntime>) -> Probed {
        let settings = ProbedSettings {
            process: self.process(spec),
            keeper: self.slot.clone(),
            state_dir: self.state_dir.clone(),
            beats: self.beats.clone(),
            jitter: Arc::new(Whole),
            commands: Arc::new(tokio::sync::Semaphore::new(4)),
        };
        Probed::new(inner, settings)
    }

    async fn start(&self, command: &[&str], probes: ProbesSpec) -> Run {
        let runtime = self.runtime(self.spec(command, probes));
        Run(runtime.start(Generation(1)).await.unwrap())
    }
}

/// A run, and what it tells.
struct Run(Box<dyn RunningAgent>);

impl Run {
    /// Waits for news of its health that are as wanted.
    async fn health(&mut self, what: &str, wanted: impl Fn(&RunHealth) -> bool) -> RunHealth {
        let waiting = async {
            loop {
                match self.0.next().await {
                    RunNews::Health(health) if wanted(&health) => return health,
                    RunNews::Health(_) => {}
                    RunNews::Exited(exit) => panic!("it ended before it {what}: {exit}"),
                }
            }
        };
        let told = tokio::time::timeout(PATIENCE, waiting).await;
        told.unwrap_or_else(|_| panic!("waited too long until it {what}"))
    }

    async fn ready(&mut self) {
        self.health("is ready", |health| health.readiness == Readiness::Ready).await;
    }

    async fn starting(&mut self) {
        self.health("is starting", |health| health.readiness == Readiness::Starting).await;
    }

    async fn not_ready(&mut self) -> RunHealth {
        self.health("is not ready", |health| {
            health.readiness == Readiness::NotReady && health.status == HealthStatus::Degraded
        })
        .await
    }

    async fn end(&mut self) -> ChildExit {
        let exit = tokio::time::timeout(PATIENCE, self.0.exited()).await;
        exit.expect("it did not end")
    }

    /// Nothing is told for a moment.
    async fn is_quiet(&mut self) {
        let news = tokio::time::timeout(Duration::from_millis(300), self.0.next()).await;
        assert!(news.is_err(), "{news:?}");
    }
}

/// A probe that is quick: every 100 ms, two failures.
fn quick(check: ProbeCheck) -> ProbeSpec {
    ProbeSpec {
        check,
        initial_delay: Duration::ZERO,
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        success_threshold: 1,
        failure_threshold: 2,
    }
}

fn liveness(spec: ProbeSpec) -> ProbesSpec {
    ProbesSpec { liveness: Some(spec), ..ProbesSpec::default() }
}

fn readiness(spec: ProbeSpec) -> ProbesSpec {
    ProbesSpec { readiness: Some(spec), ..ProbesSpec::default() }
}

fn startup(spec: ProbeSpec) -> ProbesSpec {
    ProbesSpec { startup: Some(spec), ..ProbesSpec::default() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
