//! From an agent type and an entry to the spec that the tree takes.

use std::collections::BTreeMap;

use crate::config::agent::{AgentEntry, AgentType, EnvValue};
use crate::config::checked::Config;
use crate::config::units::names_a_secret;
use crate::protocol::agent::Beat;
use crate::protocol::care::CareSpec;
use crate::protocol::command::SpawnRequest;
use crate::protocol::id::{AgentId, AgentTypeName, ChildName};
use crate::protocol::spec::{AgentSpec, ExecSpec, RuntimeKind};

/// Why no spec can be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// No such type is declared.
    #[error("agent type {agent_type} is not declared; declared are {declared}")]
    UnknownType {
        /// The type asked for.
        agent_type: AgentTypeName,
        /// The types there are, joined by commas, or `none`.
        declared: String,
    },
    /// A command line that no type declares is not allowed.
    #[error(
        "a command line of its own is not permitted; set agents.allow_undeclared = true, or declare an agent type"
    )]
    NotPermitted,
    /// The command line names no program.
    #[error("the command line is empty; give a program and its arguments")]
    EmptyCommand,
}

impl AgentEntry {
    /// The entry that a spawn request asks for, under the given name.
    #[must_use]
    pub fn from_request(request: SpawnRequest, name: ChildName) -> Self {
        let secret = |name: &str| names_a_secret(name);
        let env = request.env.into_iter().map(|(name, value)| {
            let secret = secret(&name);
            (name, EnvValue { value, secret })
        });
        Self {
            name,
            agent_type: request.agent_type,
            args: request.args,
            env: env.collect(),
            labels: request.labels,
            command_line: request.command_line,
            origin: None,
        }
    }
}

impl Config {
    /// The spec of an agent: its type, and over it what its entry adds.
    ///
    /// An entry with a command line of its own needs `agents.allow_undeclared`; it takes all else
    /// from its type, or, if that is not declared, from the defaults with the state folder as
    /// working folder.
    ///
    /// # Errors
    ///
    /// [`SpecError`] says what is not declared or not permitted.
    pub fn agent_spec(
        &self,
        entry: &AgentEntry,
        agent_id: AgentId,
    ) -> Result<AgentSpec, SpecError> {
        let declared = self.agent_types.get(&entry.agent_type);
        let undeclared;
        let (agent_type, command) = match (declared, &entry.command_line) {
            (_, Some(_)) if !self.agents.allow_undeclared => return Err(SpecError::NotPermitted),
            (_, Some(line)) if line.first().is_none_or(|program| program.trim().is_empty()) => {
                return Err(SpecError::EmptyCommand);
            }
            (Some(agent_type), Some(line)) => (agent_type, line),
            (Some(agent_type), None) => (agent_type, &agent_type.command),
            (None, Some(line)) => {
                undeclared = AgentType::process(line.clone(), self.provost.state_dir.clone());
                (&undeclared, line)
            }
            (None, None) => return Err(self.unknown_type(&entry.agent_type)),
        };
        let mut env = agent_type.env.clone();
        env.extend(entry.env.clone());
        let secret_env = env.iter().filter(|(_, value)| value.secret).map(|(name, _)| name.clone());
        let mut labels = agent_type.labels.clone();
        labels.extend(entry.labels.clone());
        Ok(AgentSpec {
            agent_id,
            name: entry.name.clone(),
            agent_type: entry.agent_type.clone(),
            runtime: agent_type.runtime,
            command: command.iter().chain(&entry.args).cloned().collect(),
            secret_env: secret_env.collect(),
            env: env.into_iter().map(|(name, value)| (name, value.value)).collect(),
            cwd: agent_type.cwd.clone(),
            capabilities: agent_type.capabilities.clone(),
            slots: agent_type.slots,
            max_memory_mb: agent_type.max_memory_mb,
            timeout: agent_type.timeout,
            stop: agent_type.stop.clone(),
            nats_access: agent_type.nats_access,
            on_daemon_exit: agent_type.on_daemon_exit,
            care: CareSpec {
                limits: agent_type.limits.clone(),
                probes: agent_type.probes.clone(),
                exit_rules: agent_type.exit_rules.clone(),
            },
            exec: agent_type.exec.clone(),
            restart: agent_type.restart,
            policy: agent_type.policy,
            labels,
            origin: agent_type.origin.clone(),
        })
    }

    /// The spec of a remote agent that nobody declared and that has beaten: of the type that its
    /// beat names, if that is declared as remote; else of the type `remote` with the defaults.
    #[must_use]
    pub fn newcomer_spec(&self, name: &ChildName, beat: &Beat) -> AgentSpec {
        let is_remote = |name: &&AgentTypeName| {
            let declared = self.agent_types.get(*name);
            declared.is_some_and(|declared| declared.runtime == RuntimeKind::Remote)
        };
        let declared = beat.agent_type.as_ref().filter(is_remote);
        let spec = declared.and_then(|agent_type| {
            let entry = AgentEntry::new(name.clone(), agent_type.clone());
            self.agent_spec(&entry, beat.id.clone()).ok()
        });
        let defaults = AgentType::process(Vec::new(), self.provost.state_dir.clone());
        let mut spec = spec.unwrap_or_else(|| AgentSpec {
            agent_id: beat.id.clone(),
            name: name.clone(),
            agent_type: AgentTypeName::remote(),
            runtime: RuntimeKind::Remote,
            command: Vec::new(),
            env: BTreeMap::new(),
            secret_env: Vec::new(),
            cwd: defaults.cwd,
            capabilities: Vec::new(),
            slots: beat.slots,
            max_memory_mb: None,
            timeout: defaults.timeout,
            stop: defaults.stop,
            nats_access: false,
            on_daemon_exit: defaults.on_daemon_exit,
            care: CareSpec::default(),
            exec: ExecSpec::default(),
            restart: defaults.restart,
            policy: defaults.policy,
            labels: BTreeMap::new(),
            origin: None,
        });
        spec.slots = beat.slots;
        spec.capabilities.clone_from(&beat.capabilities);
        spec.labels.insert("undeclared".to_owned(), "true".to_owned());
        spec.labels.insert("slots".to_owned(), beat.slots.to_string());
        spec.labels.insert("capabilities".to_owned(), beat.capabilities.join(","));
        spec
    }

    fn unknown_type(&self, agent_type: &AgentTypeName) -> SpecError {
        let names: Vec<&str> = self.agent_types.keys().map(AgentTypeName::as_str).collect();
        let declared = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        SpecError::UnknownType { agent_type: agent_type.clone(), declared }
    }
}
