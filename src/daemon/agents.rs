//! Makes agents: from a declared type or a spawn request to a node of the tree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::actors::defaults::{SystemClock, SystemJitter};
use crate::actors::tree::Node;
use crate::config::{AgentEntry, CommandPermission, Config, RESERVED_NAMES};
use crate::daemon::registry::Registry;
use crate::ports::{AgentRuntime, BoxFuture, Ids, RunningAgent};
use crate::protocol::agent::Beat;
use crate::protocol::command::{CommandError, ErrorKind, SpawnRequest};
use crate::protocol::exit::StartError;
use crate::protocol::id::{AgentId, AgentTypeName, ChildName, Generation};
use crate::protocol::spec::{
    AgentSpec, ChildKind, ChildSpec, RestartType, RuntimeKind, Shutdown, SignalName, Significance,
};
use crate::runtimes::channels::AgentChannels;
use crate::runtimes::exec::ExecRuntime;
use crate::runtimes::judged::JudgedRuntime;
use crate::runtimes::keeper::KeeperSlot;
use crate::runtimes::limits::{Limited, Sampler};
use crate::runtimes::probed::{self, Beats, Probed, ProbedSettings};
use crate::runtimes::process::{ProcessRuntime, ProcessSettings};
use crate::runtimes::remote::{RemoteRuntime, Remotes};
use crate::runtimes::stdio::StdioRuntime;

/// Most arguments, variables or labels in one spawn request.
const ADDITIONS_MAX: usize = 1_000;

/// What agents are made with.
#[derive(Clone, Debug)]
pub struct AgentMaker {
    /// What is declared now; replaced as a whole when the configuration is loaded again.
    config: Arc<watch::Sender<Arc<Config>>>,
    registry: Arc<Registry>,
    keeper: KeeperSlot,
    ids: Arc<dyn Ids>,
    /// Environment of every agent, before its own.
    base_env: Arc<BTreeMap<String, String>>,
    /// Address for agents with `nats_access`; known once NATS is.
    nats_url: NatsUrl,
    sampler: Sampler,
    /// Where beats come from, once that is known.
    beats: Option<Arc<dyn Beats>>,
    /// Bounds the commands of probes that run at a time.
    probe_commands: Arc<Semaphore>,
    /// Where the channels of running agents are.
    channels: AgentChannels,
    /// Where remote agents are heard; none where nobody listens.
    remotes: Option<Remotes>,
}

/// Address of NATS for agents that may use it.
#[derive(Clone, Debug, Default)]
pub struct NatsUrl(Arc<std::sync::Mutex<Option<String>>>);

impl NatsUrl {
    /// Sets the address, credentials included.
    pub fn set(&self, url: String) {
        let mut current = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *current = Some(url);
    }

    /// The address, once it is known.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl AgentMaker {
    /// What agents of this configuration are made with.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        registry: Arc<Registry>,
        keeper: KeeperSlot,
        ids: Arc<dyn Ids>,
        base_env: Arc<BTreeMap<String, String>>,
    ) -> Self {
        Self {
            config: Arc::new(watch::Sender::new(config)),
            registry,
            keeper,
            ids,
            base_env,
            nats_url: NatsUrl::default(),
            sampler: Sampler::default(),
            beats: None,
            probe_commands: Arc::new(Semaphore::new(probed::EXEC_PROBES_MAX)),
            channels: AgentChannels::default(),
            remotes: None,
        }
    }

    /// The same with a place where beats come from.
    #[must_use]
    pub fn with_beats(self, beats: Arc<dyn Beats>) -> Self {
        Self { beats: Some(beats), ..self }
    }

    /// The same, hearing remote agents here.
    #[must_use]
    pub fn with_remotes(self, remotes: Remotes) -> Self {
        Self { remotes: Some(remotes), ..self }
    }

    /// Where the channels of running agents are.
    #[must_use]
    pub fn channels(&self) -> &AgentChannels {
        &self.channels
    }

    /// Where the address of NATS is put.
    #[must_use]
    pub fn nats_url(&self) -> &NatsUrl {
        &self.nats_url
    }

    /// What is declared now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Goes by another configuration from now on.
    pub fn reconfigure(&self, config: Config) {
        self.config.send_replace(Arc::new(config));
    }

    /// The journal of agents.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Places of the pool.
    #[must_use]
    pub fn places_max(&self) -> usize {
        self.config().agents.max
    }

    /// Whether a name belongs to the configuration or the daemon and cannot be given to an agent.
    #[must_use]
    pub fn is_reserved(&self, name: &ChildName) -> bool {
        self.config().supervisors.contains_key(name)
            || self.config().downstreams.contains_key(name)
            || RESERVED_NAMES.contains(&name.as_str())
    }

    /// File that an agent's output goes to.
    #[must_use]
    pub fn log_file(&self, name: &ChildName) -> PathBuf {
        self.config().provost.state_dir.join("logs").join(format!("{name}.log"))
    }

    /// Refuses changes where requests may only look.
    ///
    /// # Errors
    ///
    /// `not_permitted`.
    pub fn check_change(&self) -> Result<(), CommandError> {
        match self.config().agents.command_permission {
            CommandPermission::All | CommandPermission::NoSpawn => Ok(()),
            CommandPermission::ReadOnly => Err(CommandError::new(
                ErrorKind::NotPermitted,
                "requests may only look here",
                "set `agents.command_permission`",
            )),
        }
    }

    /// Checks everything about a request that does not depend on other agents.
    ///
    /// # Errors
    ///
    /// `not_permitted`, `unknown_agent_type`, `invalid_request`.
    pub fn check(&self, request: &SpawnRequest) -> Result<(), CommandError> {
        let config = self.config();
        if config.agents.command_permission != CommandPermission::All {
            return Err(CommandError::new(
                ErrorKind::NotPermitted,
                "requests may not start new agents here",
                "set `agents.command_permission = \"all\"`",
            ));
        }
        if request.command_line.is_some() && !config.agents.allow_undeclared {
            return Err(CommandError::new(
                ErrorKind::NotPermitted,
                "a command line that no type declares is refused",
                "declare an agent type, or set `agents.allow_undeclared = true`",
            ));
        }
        if request.command_line.is_none() && !config.agent_types.contains_key(&request.agent_type) {
            let known: Vec<&str> = config.agent_types.keys().map(|name| name.as_str()).collect();
            return Err(CommandError::new(
                ErrorKind::UnknownAgentType,
                format!("no agent type {} is declared", request.agent_type),
                format!("declared are: {}", known.join(", ")),
            ));
        }
        let declared = config.agent_types.get(&request.agent_type);
        let permission = declared.map(|declared| declared.spawn.clone()).unwrap_or_default();
        if let Err(refusal) = permission.check(request) {
            let message = format!("{}: {refusal}", request.agent_type);
            return Err(CommandError::new(ErrorKind::NotPermitted, message, refusal.hint()));
        }
        let additions = request.args.len().max(request.env.len()).max(request.labels.len());
        if ADDITIONS_MAX < additions {
            return Err(CommandError::new(
                ErrorKind::InvalidRequest,
                format!("{additions} args, env or labels; at most {ADDITIONS_MAX} are allowed"),
                "give fewer",
            ));
        }
        let texts = request.args.iter().chain(request.env.keys()).chain(request.env.values());
        if texts.chain(request.command_line.iter().flatten()).any(|text| text.contains('\0')) {
            return Err(CommandError::new(
                ErrorKind::InvalidRequest,
                "args and env may not contain a NUL character",
                "take it out",
            ));
        }
        if let Some(name) = request.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Err(CommandError::new(
                ErrorKind::InvalidRequest,
                format!("{name:?} is no name of an environment variable"),
                "give a name that is not empty and has no '='",
            ));
        }
        Ok(())
    }

    /// Makes an agent from a spawn request that was checked.
    ///
    /// # Errors
    ///
    /// `invalid_request` when its type and additions do not fit together.
    pub fn make(&self, name: &ChildName, request: &SpawnRequest) -> Result<Node, CommandError> {
        self.entry(&AgentEntry::from_request(request.clone(), name.clone()))
    }

    /// Makes an agent anew that was declared or spawned before.
    ///
    /// # Errors
    ///
    /// `wrong_state` when nothing is known of it; else as [`AgentMaker::make`].
    pub fn make_again(&self, name: &ChildName) -> Result<Node, CommandError> {
        let config = self.config();
        if let Some(entry) = config.agents_list.iter().find(|entry| entry.name == *name) {
            return self.entry(entry);
        }
        let spawned = self.registry.spawned_before();
        let request = spawned.into_iter().find(|(spawned, _)| spawned == name);
        let (_, request) = request.ok_or_else(|| {
            CommandError::new(
                ErrorKind::WrongState,
                format!("{name} has ended for good"),
                "spawn a new agent",
            )
        })?;
        self.make(name, &request)
    }

    /// Makes a declared agent.
    ///
    /// # Errors
    ///
    /// As [`AgentMaker::make`].
    pub fn entry(&self, entry: &AgentEntry) -> Result<Node, CommandError> {
        let agent_id = match self.runtime_of(entry) {
            // It has named itself.
            Some(RuntimeKind::Remote) => AgentId::from(&entry.name),
            Some(_) | None => self.registry.agent_id(&entry.name, || self.ids.agent_id()),
        };
        let spec = self.config().agent_spec(entry, agent_id).map_err(|error| {
            CommandError::new(
                ErrorKind::InvalidRequest,
                format!("{}: {error}", entry.name),
                "check the agent type and what was added to it",
            )
        })?;
        let spec = Arc::new(spec);
        Ok(Node::agent(self.child_spec(&spec), self.runtime(&spec), spec))
    }

    /// Makes a remote agent that nobody declared, of its first beat.
    ///
    /// # Errors
    ///
    /// `unavailable` where nobody listens.
    pub fn newcomer(&self, name: &ChildName, beat: Beat) -> Result<Node, CommandError> {
        let spec = Arc::new(self.config().newcomer_spec(name, &beat));
        let remotes = self.remotes.as_ref().ok_or_else(|| {
            let message = "remote agents are not heard here";
            CommandError::new(ErrorKind::Unavailable, message, "start the daemon with NATS")
        })?;
        let runtime = RemoteRuntime::new(remotes, Arc::clone(&spec), self.channels.clone());
        let runtime = self.judged(&spec, Arc::new(runtime.having_heard(beat)));
        Ok(Node::agent(self.child_spec(&spec), runtime, spec))
    }

    /// Whether agents of this type take no place of the pool.
    #[must_use]
    pub fn is_remote(&self, agent_type: &AgentTypeName) -> bool {
        let config = self.config();
        let declared = config.agent_types.get(agent_type);
        declared.is_some_and(|declared| declared.runtime == RuntimeKind::Remote)
    }

    fn runtime_of(&self, entry: &AgentEntry) -> Option<RuntimeKind> {
        self.config().agent_types.get(&entry.agent_type).map(|declared| declared.runtime)
    }

    fn child_spec(&self, agent: &AgentSpec) -> ChildSpec {
        let supervised = self.config().supervision.is_enabled();
        ChildSpec {
            name: agent.name.clone(),
            kind: ChildKind::Worker,
            // Without supervision an agent that ends stays down.
            restart: if supervised { agent.restart } else { RestartType::Temporary },
            shutdown: match agent.stop.signal {
                SignalName::Kill => Shutdown::BrutalKill,
                SignalName::Term
                | SignalName::Int
                | SignalName::Quit
                | SignalName::Hup
                | SignalName::Usr1
                | SignalName::Usr2 => Shutdown::Timeout(agent.stop.grace),
            },
            significance: Significance::Ordinary,
            policy: agent.policy,
            origin: agent.origin.clone(),
        }
    }

    /// The runtime of an agent, judging how its runs end.
    fn runtime(&self, agent: &Arc<AgentSpec>) -> Arc<dyn AgentRuntime> {
        self.judged(agent, self.unjudged(agent))
    }

    fn judged(&self, agent: &AgentSpec, runtime: Arc<dyn AgentRuntime>) -> Arc<dyn AgentRuntime> {
        let (rules, log) = (agent.care.exit_rules.clone(), self.log_file(&agent.name));
        Arc::new(JudgedRuntime::new(runtime, rules, log, Arc::new(SystemClock)))
    }

    fn unjudged(&self, agent: &Arc<AgentSpec>) -> Arc<dyn AgentRuntime> {
        let (keeper, channels) = (self.keeper.clone(), self.channels.clone());
        match (agent.runtime, &self.remotes) {
            (RuntimeKind::Process, _) => {
                let process = self.process(agent);
                let runtime = ProcessRuntime::new(keeper, process.clone());
                self.probed(self.limited(agent, Arc::new(runtime)), process)
            }
            (RuntimeKind::Stdio, _) => {
                let process = self.process(agent);
                let stdio = StdioRuntime::new(keeper, process.clone(), channels);
                self.probed(self.limited(agent, Arc::new(stdio)), process)
            }
            (RuntimeKind::Exec, _) => {
                Arc::new(ExecRuntime::new(keeper, self.process(agent), channels))
            }
            (RuntimeKind::Remote, Some(remotes)) => {
                Arc::new(RemoteRuntime::new(remotes, Arc::clone(agent), channels))
            }
            (RuntimeKind::Remote, None) | (RuntimeKind::InProcess, _) => {
                Arc::new(NotYet(agent.runtime))
            }
        }
    }
}

impl AgentMaker {
    /// Holds the processes of an agent to their limits; the innermost of all that is wrapped around
    /// a runtime.
    fn limited(
        &self,
        agent: &Arc<AgentSpec>,
        inner: Arc<dyn AgentRuntime>,
    ) -> Arc<dyn AgentRuntime> {
        let log_file = self.log_file(&agent.name);
        Arc::new(Limited::new(inner, self.sampler.clone(), Arc::clone(agent), log_file))
    }

    fn process(&self, agent: &Arc<AgentSpec>) -> ProcessSettings {
        let contract_env = probed::notify_variables(agent, &self.config().provost.state_dir);
        ProcessSettings {
            base_env: self.base_env.as_ref().clone(),
            nats_url: agent.nats_access.then(|| self.nats_url.get()).flatten(),
            contract_env: contract_env.into_iter().collect(),
            ..ProcessSettings::new(agent.as_ref().clone(), self.log_file(&agent.name))
        }
    }

    /// The runtime with the agent's probes, if it has any.
    fn probed(
        &self,
        inner: Arc<dyn AgentRuntime>,
        process: ProcessSettings,
    ) -> Arc<dyn AgentRuntime> {
        if !Probed::is_needed(&process.spec.care.probes) {
            return inner;
        }
        let settings = ProbedSettings {
            process,
            keeper: self.keeper.clone(),
            state_dir: self.config().provost.state_dir.clone(),
            beats: self.beats.clone(),
            jitter: Arc::new(SystemJitter),
            commands: Arc::clone(&self.probe_commands),
        };
        Arc::new(Probed::new(inner, settings))
    }
}

/// A runtime that this version does not have.
#[derive(Debug)]
struct NotYet(RuntimeKind);

impl AgentRuntime for NotYet {
    fn start(
        &self,
        _generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let message = format!("runtime {:?} is not in this version; use \"process\"", self.0);
        Box::pin(async move { Err(StartError::Failed { message }) })
    }
}
