//! Checks of agent types and their restart rules, and of the agents made from them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::agent::{AgentEntry, AgentType, EnvValue, Pool};
use crate::config::check::Checker;
use crate::config::check_probes::ProbeDefaults;
use crate::config::fault::Fault;
use crate::config::raw::{RawConfig, RawPool};
use crate::config::raw_agent::{RawAgent, RawAgentType, RawRestart};
use crate::config::tree::join;
use crate::config::units::Span;
use crate::protocol::id::{AgentTypeName, ChildName};
use crate::protocol::spec::{
    BackoffSpec, CircuitSpec, Limit, RestartPolicy, RuntimeKind, StopSpec,
};

/// Variables that every agent gets from provost itself.
pub(crate) const OWN_VARIABLES: [&str; 6] = [
    "PROVOST_AGENT_ID",
    "PROVOST_AGENT_NAME",
    "PROVOST_GENERATION",
    "PROVOST_PROTOCOL",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
];

/// Longest open time where `open_max` is absent and `open_for` is not longer.
const OPEN_MAX: Duration = Duration::from_secs(600);

pub(crate) fn pool(raw: &RawPool) -> Pool {
    Pool {
        max: usize::try_from(raw.max).unwrap_or(usize::MAX),
        allow_undeclared: raw.allow_undeclared,
        command_permission: raw.command_permission,
    }
}

impl Checker<'_> {
    /// Refuses more `[[agent]]` than the pool holds; remote ones do not count.
    pub(crate) fn pool_size(&mut self, raw: &RawConfig, runtimes: &BTreeMap<String, RuntimeKind>) {
        let local = |agent: &RawAgent| {
            let runtime = agent.agent_type.as_ref().and_then(|name| runtimes.get(name));
            runtime.is_none_or(|runtime| *runtime != RuntimeKind::Remote)
        };
        let max = usize::try_from(raw.agents.max).unwrap_or(usize::MAX);
        let mut indices = raw.agent.iter().enumerate().filter(|(_, agent)| local(agent));
        let count = indices.clone().count();
        let Some((surplus, _)) = indices.nth(max) else { return };
        let place = if self.is_written("agents.max") {
            self.place("agents.max")
        } else {
            self.place(&format!("agent[{surplus}]"))
        };
        let text = format!("{count} local agents are declared, more than the pool holds; raise it");
        self.push(Fault::new(place, "agents.max", text).value(max.to_string()));
    }

    pub(crate) fn agent_types(
        &mut self,
        raw: BTreeMap<String, RawAgentType>,
        probes: ProbeDefaults,
    ) -> BTreeMap<AgentTypeName, AgentType> {
        let mut types = BTreeMap::new();
        for (name, raw) in raw {
            let key = join("agent_types", &name);
            let agent_type = self.agent_type(&key, raw, probes);
            if let Some(name) = self.parsed(&key, &name) {
                types.insert(name, agent_type);
            }
        }
        types
    }

    fn agent_type(&mut self, key: &str, raw: RawAgentType, probes: ProbeDefaults) -> AgentType {
        let command = self.command(key, &raw);
        self.no_secrets(&join(key, "command"), command.len());
        self.no_secrets(&join(key, "args"), raw.args.len());
        let cwd_key = join(key, "cwd");
        let cwd = match &raw.cwd {
            Some(cwd) => self.path(&cwd_key, cwd),
            None => self.folder(key),
        };
        let grace = raw.stop.grace.0;
        let probes = self.probes(key, &raw, probes);
        let policy = self.policy(&join(key, "restart"), &raw.restart, grace);
        AgentType {
            runtime: raw.runtime,
            command,
            env: self.env(&join(key, "env"), raw.env),
            capabilities: self.capabilities(&join(key, "capabilities"), raw.capabilities),
            slots: raw.slots,
            max_memory_mb: (raw.max_memory_mb != 0).then_some(raw.max_memory_mb),
            timeout: raw.timeout.0,
            cwd,
            stop: StopSpec { signal: raw.stop.signal, grace },
            nats_access: raw.nats_access,
            on_daemon_exit: raw.on_daemon_exit,
            restart: raw.restart.restart_type,
            policy,
            probes,
            exit_rules: self.exit_rules(
                &join(key, "exit_rules"),
                &raw.exit_rules,
                raw.restart.restart_type,
            ),
            spawn: self.spawn_permission(&join(key, "spawn"), &raw.spawn),
            limits: self.limits(&join(key, "limits"), &raw.limits, raw.runtime),
            exec: self.exec(key, raw.runtime, raw.exec),
            labels: raw.labels,
            origin: self.origin(key),
        }
    }

    fn command(&mut self, key: &str, raw: &RawAgentType) -> Vec<String> {
        let key = join(key, "command");
        let mut command = raw.command.clone().unwrap_or_default();
        match raw.runtime {
            RuntimeKind::Process | RuntimeKind::Stdio | RuntimeKind::Exec => {
                match command.first() {
                    None => self.fault(&key, "missing; a process, stdio or exec agent needs one"),
                    Some(program) if program.trim().is_empty() => {
                        self.fault_of(&key, program, "names no program");
                    }
                    Some(_) => {}
                }
                if raw.runtime == RuntimeKind::Exec {
                    self.templates(&key, &command);
                    self.templates(&key.replace("command", "args"), &raw.args);
                }
            }
            RuntimeKind::Remote if !command.is_empty() => {
                self.fault(&key, "a remote agent is started elsewhere; remove the command");
            }
            RuntimeKind::InProcess if !command.is_empty() => {
                self.fault(&key, "an in_process agent is Rust code; remove the command");
            }
            RuntimeKind::Remote | RuntimeKind::InProcess => {}
        }
        command.extend(raw.args.iter().cloned());
        command
    }

    /// Refuses what came from a secret's file as part of a command line.
    pub(crate) fn no_secrets(&mut self, key: &str, count: usize) {
        for key in (0..count).map(|index| format!("{key}[{index}]")) {
            if self.is_secret(&key) {
                let text = "a secret in a command line can be seen by every user of the machine; \
                            give it in env";
                self.fault(&key, text);
            }
        }
    }

    pub(crate) fn env(
        &mut self,
        key: &str,
        raw: BTreeMap<String, String>,
    ) -> BTreeMap<String, EnvValue> {
        let mut env = BTreeMap::new();
        for (name, value) in raw {
            let key = join(key, &name);
            if name.is_empty() || name.contains(['=', '\0']) {
                let text = "is no name of an environment variable";
                self.push(Fault::new(self.key_place(&key), key.as_str(), text));
            } else if OWN_VARIABLES.contains(&name.as_str()) {
                let text = "is set by provost itself; choose another name";
                self.push(Fault::new(self.key_place(&key), key.as_str(), text));
            }
            let secret = self.is_secret(&key);
            env.insert(name, EnvValue { value, secret });
        }
        env
    }

    fn capabilities(&mut self, key: &str, raw: Vec<String>) -> Vec<String> {
        for (index, capability) in raw.iter().enumerate() {
            let key = format!("{key}[{index}]");
            if capability.is_empty() || 64 < capability.len() {
                self.fault_of(&key, capability, "a capability has 1..=64 bytes");
            } else if raw.iter().take(index).any(|earlier| earlier == capability) {
                self.fault_of(&key, capability, "is listed twice");
            }
        }
        raw
    }

    fn policy(&mut self, key: &str, raw: &RawRestart, grace: Duration) -> RestartPolicy {
        if raw.backoff.max < raw.backoff.initial {
            self.smaller(&format!("{key}.backoff.max"), &format!("{key}.backoff.initial"));
        }
        let open_max = raw.open_max.map_or(OPEN_MAX.max(raw.open_for.0), |max| max.0);
        if open_max < raw.open_for.0 {
            self.smaller(&format!("{key}.open_max"), &format!("{key}.open_for"));
        }
        let period = raw.period.0;
        if 0 < raw.intensity && period <= grace.saturating_mul(raw.intensity) {
            let text = format!(
                "stop.grace {} times intensity {} reaches period {}: an agent that has to be \
                 killed can never exceed the limit; lengthen the period",
                Span(grace),
                raw.intensity,
                raw.period
            );
            self.warn(&format!("{key}.period"), text);
        }
        RestartPolicy {
            backoff: BackoffSpec {
                initial: raw.backoff.initial.0,
                factor: raw.backoff.factor,
                max: raw.backoff.max.0,
                jitter: raw.backoff.jitter,
            },
            circuit: Some(CircuitSpec {
                limit: Limit { intensity: raw.intensity, period },
                on_exceeded: raw.on_exceeded,
                open_for: raw.open_for.0,
                open_factor: raw.open_factor,
                open_max,
                stable_after: raw.stable_after.0,
            }),
        }
    }

    pub(crate) fn agents(
        &mut self,
        raw: Vec<RawAgent>,
        runtimes: &BTreeMap<String, RuntimeKind>,
    ) -> Vec<AgentEntry> {
        let mut entries = Vec::new();
        for (index, raw) in raw.into_iter().enumerate() {
            let key = format!("agent[{index}]");
            entries.extend(self.agent(&key, raw, runtimes));
        }
        entries
    }

    fn agent(
        &mut self,
        key: &str,
        raw: RawAgent,
        runtimes: &BTreeMap<String, RuntimeKind>,
    ) -> Option<AgentEntry> {
        let name =
            raw.name.and_then(|name| self.parsed::<ChildName>(&format!("{key}.name"), &name));
        let agent_type = raw.agent_type.and_then(|name| {
            let key = format!("{key}.type");
            if !runtimes.contains_key(&name) {
                let fault = Fault::new(self.place(&key), key, "no such agent type is declared");
                let known = runtimes.keys().map(String::as_str);
                self.push(fault.value(format!("{name:?}")).suggest(&name, known));
                return None;
            }
            name.parse::<AgentTypeName>().ok()
        });
        let env = self.env(&format!("{key}.env"), raw.env);
        self.no_secrets(&format!("{key}.args"), raw.args.len());
        Some(AgentEntry {
            name: name?,
            agent_type: agent_type?,
            args: raw.args,
            env,
            labels: raw.labels,
            command_line: None,
            origin: self.origin(key),
        })
    }
}
