//! Runtimes of the agent contract with real processes: stdio, exec, remote, and the examples.

mod examples;
mod exec;
mod remote;
mod stdio;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use provost::config::{AgentEntry, AgentType, Config, Environment, Overrides, Sources};
use provost::ports::{AgentChannel, AgentRuntime, RunningAgent};
use provost::protocol::agent::{FromAgent, TaskNews, TaskOrder};
use provost::protocol::id::Generation;
use provost::protocol::spec::{AgentSpec, RuntimeKind};
use provost::runtimes::channels::AgentChannels;
use provost::runtimes::keeper::{Keeper, KeeperLife, KeeperOptions, KeeperSlot};
use provost::runtimes::process::ProcessSettings;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A keeper of one's own, and where channels are found.
struct Bench {
    dir: TempDir,
    slot: KeeperSlot,
    channels: AgentChannels,
    _life: KeeperLife,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_provost"));
        let options = KeeperOptions::new(program, dir.path().join("state"));
        let (keeper, life) = Keeper::launch(options).await.unwrap();
        let slot = KeeperSlot::default();
        slot.set(Some(keeper));
        Self { dir, slot, channels: AgentChannels::default(), _life: life }
    }

    fn settings(&self, spec: AgentSpec) -> ProcessSettings {
        let path = ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
        let log = self.dir.path().join("logs").join(format!("{}.log", spec.name));
        let base_env = BTreeMap::from([path]);
        ProcessSettings { base_env, ..ProcessSettings::new(spec, log) }
    }

    /// The agent's spec, as a configuration with this runtime and command makes it.
    fn spec(&self, runtime: RuntimeKind, command: &[&str]) -> AgentSpec {
        let sources = Sources {
            files: Vec::new(),
            environment: Environment::of([("HOME", "/srv/u")]),
            overrides: Overrides::default(),
        };
        let mut config = Config::load(sources).unwrap().config;
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let mut agent_type = AgentType::process(command, self.dir.path().to_owned());
        agent_type.runtime = runtime;
        agent_type.stop.grace = Duration::from_secs(2);
        config.agent_types.insert("t".parse().unwrap(), agent_type);
        let entry = AgentEntry::new("a1".parse().unwrap(), "t".parse().unwrap());
        config.agent_spec(&entry, "a1".parse().unwrap()).unwrap()
    }

    fn channel(&self) -> std::sync::Arc<dyn AgentChannel> {
        self.channels.get(&"a1".parse().unwrap()).expect("the agent runs")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("logs/a1.log")).unwrap_or_default()
    }
}

async fn started(runtime: &dyn AgentRuntime) -> Box<dyn RunningAgent> {
    runtime.start(Generation(1)).await.unwrap()
}

fn task(id: &str, input: Value) -> TaskOrder {
    TaskOrder {
        id: id.parse().unwrap(),
        attempt: 1,
        task_type: "test".parse().unwrap(),
        input,
        deadline_ms: None,
        lease_ms: 20_000,
        token: 7,
        trace: None,
    }
}

/// Lets the run live until the agent says something; gives the task's id and what was said.
async fn told(running: &mut dyn RunningAgent, channel: &dyn AgentChannel) -> (String, TaskNews) {
    let living = async {
        loop {
            running.next().await;
        }
    };
    let received = async {
        tokio::select! {
            () = living => panic!("it lives on"),
            message = channel.receive() => message,
        }
    };
    match timeout(PATIENCE, received).await.unwrap() {
        Some(FromAgent::Event(event)) => (event.id.to_string(), event.state),
        other => panic!("no event: {other:?}"),
    }
}

fn completed(result: Value) -> TaskNews {
    TaskNews::Completed { result, usage: None }
}

/// An agent of the examples.
fn example(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agents").join(name);
    path.display().to_string()
}

fn text(text: &str) -> Value {
    json!(text)
}
