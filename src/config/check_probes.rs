//! Checks of probes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::check::Checker;
use crate::config::fault::Fault;
use crate::config::raw_agent::{RawAgentType, RawProbe};
use crate::config::tree::join;
use crate::protocol::care::{ProbeCheck, ProbeSpec, ProbesSpec};
use crate::protocol::spec::RuntimeKind;

/// The ways of asking, as they are told.
const WAYS: &str = "exactly one of http, tcp, exec, notify, beat, stdout_within";

/// What a probe takes from elsewhere where it does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeDefaults {
    /// Time between two probes.
    pub(crate) interval: Duration,
    /// Failures in a row that count.
    pub(crate) failure_threshold: u32,
}

/// Where a probe stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    role: &'static str,
    agent_type: &'a RawAgentType,
    defaults: ProbeDefaults,
}

impl Checker<'_> {
    pub(crate) fn probes(
        &mut self,
        key: &str,
        agent_type: &RawAgentType,
        defaults: ProbeDefaults,
    ) -> ProbesSpec {
        let key = join(key, "probes");
        let mut probe = |role, raw: &Option<RawProbe>| {
            let place = Place { role, agent_type, defaults };
            raw.as_ref().and_then(|raw| self.probe(&join(&key, role), raw, place))
        };
        let raw = &agent_type.probes;
        ProbesSpec {
            startup: probe("startup", &raw.startup),
            readiness: probe("readiness", &raw.readiness),
            liveness: probe("liveness", &raw.liveness),
        }
    }

    fn probe(&mut self, key: &str, raw: &RawProbe, place: Place<'_>) -> Option<ProbeSpec> {
        let checks = self.checks(key, raw);
        let names: Vec<&str> = checks.iter().map(|(name, _)| *name).collect();
        if names.len() != 1 {
            let given = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let broken = self.any_faulty_under(key);
            if !(names.is_empty() && broken) {
                self.fault(key, format!("a probe asks by {WAYS}; found {given}"));
            }
        }
        if 1 < raw.success_threshold && place.role != "readiness" {
            let text = format!("must be 1 for {}: one success is enough there", place.role);
            let key = join(key, "success_threshold");
            let fault = Fault::new(self.place(&key), key.as_str(), text);
            self.push(fault.value(raw.success_threshold.to_string()));
        }
        for (name, _) in &checks {
            self.fits(key, name, place);
        }
        let interval = raw.interval.map_or(place.defaults.interval, |interval| interval.0);
        let timeout_key = join(key, "timeout");
        if interval < raw.timeout.0 && self.is_written(&timeout_key) {
            self.warn(&timeout_key, "is longer than interval; probes will not overlap");
        }
        let (_, check) = checks.into_iter().next()?;
        Some(ProbeSpec {
            check: check?,
            initial_delay: raw.initial_delay.0,
            interval,
            timeout: raw.timeout.0,
            success_threshold: raw.success_threshold,
            failure_threshold: raw.failure_threshold.unwrap_or(place.defaults.failure_threshold),
        })
    }

    /// The ways of asking that are given, by name; `None` for one whose value is wrong.
    fn checks(&mut self, key: &str, raw: &RawProbe) -> Vec<(&'static str, Option<ProbeCheck>)> {
        let mut checks: Vec<(&'static str, Option<ProbeCheck>)> = Vec::new();
        if let Some(address) = &raw.http {
            checks.push(("http", self.http_probe(&join(key, "http"), address)));
        }
        if let Some(target) = &raw.tcp {
            checks.push(("tcp", self.tcp_probe(&join(key, "tcp"), target)));
        }
        if let Some(command) = &raw.exec {
            checks.push(("exec", self.exec_probe(&join(key, "exec"), command)));
        }
        if raw.notify == Some(true) {
            checks.push(("notify", Some(ProbeCheck::Notify)));
        }
        if raw.beat == Some(true) {
            checks.push(("beat", Some(ProbeCheck::Beat)));
        }
        if let Some(span) = raw.stdout_within {
            checks.push(("stdout_within", Some(ProbeCheck::StdoutWithin(span.0))));
        }
        checks
    }

    /// Refuses what an agent of this runtime cannot answer.
    fn fits(&mut self, key: &str, name: &str, place: Place<'_>) {
        let runtime = place.agent_type.runtime;
        let needs_process = matches!(name, "notify" | "stdout_within");
        match runtime {
            RuntimeKind::Exec | RuntimeKind::Remote | RuntimeKind::InProcess if needs_process => {
                let word = match runtime {
                    RuntimeKind::Exec => "an exec agent runs a process per task",
                    RuntimeKind::Remote => "a remote agent is started elsewhere",
                    RuntimeKind::InProcess | RuntimeKind::Process | RuntimeKind::Stdio => {
                        "an in_process agent is no process of its own"
                    }
                };
                let text = format!("{word}; probe it by http, tcp, exec or beat");
                self.fault(&join(key, name), text);
            }
            RuntimeKind::Process | RuntimeKind::Stdio
                if name == "beat" && !place.agent_type.nats_access =>
            {
                let text = "the agent is not told how to reach NATS; set nats_access = true, or \
                            give it an address and credentials of its own";
                self.warn(&join(key, name), text);
            }
            RuntimeKind::Process
            | RuntimeKind::Stdio
            | RuntimeKind::Exec
            | RuntimeKind::Remote
            | RuntimeKind::InProcess => {}
        }
    }

    fn http_probe(&mut self, key: &str, address: &str) -> Option<ProbeCheck> {
        let host = ["http://", "https://"].iter().find_map(|scheme| address.strip_prefix(scheme));
        let named = host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':', '?']));
        if !named || address.contains(|char: char| char.is_whitespace() || char.is_control()) {
            self.fault_of(
                key,
                address,
                "is no address; write it like http://127.0.0.1:8080/healthz",
            );
            return None;
        }
        let authority = host.and_then(|host| host.split(['/', '?', '#']).next());
        if authority.is_some_and(|authority| authority.contains('@')) {
            let text = "a probe sends no credentials; let the agent answer it without";
            self.fault(key, text);
            return None;
        }
        Some(ProbeCheck::Http(address.to_owned()))
    }

    fn tcp_probe(&mut self, key: &str, target: &str) -> Option<ProbeCheck> {
        let (host, port) = target.rsplit_once(':').unwrap_or((target, ""));
        let named = port.parse().is_ok_and(|port: u16| 0 < port)
            && !host.is_empty()
            && !host.contains([':', ' ', '/']);
        if named || target.parse().is_ok_and(|address: SocketAddr| 0 < address.port()) {
            return Some(ProbeCheck::Tcp(target.to_owned()));
        }
        self.fault_of(key, target, "is no host and port; write it like 127.0.0.1:8080");
        None
    }

    fn exec_probe(&mut self, key: &str, command: &[String]) -> Option<ProbeCheck> {
        self.no_secrets(key, command.len());
        match command.first() {
            Some(program) if program.trim().is_empty() => {
                self.fault_of(key, program, "names no program");
                None
            }
            // An empty list is told by the schema.
            Some(_) | None => Some(ProbeCheck::Exec(command.to_vec())),
        }
    }
}
