//! Commands about the daemon and lists: `system.control` and `list`.

use std::collections::BTreeMap;

use crate::actors::tree::Drain;
use crate::adapters::care::state_with;
use crate::board::Entry;
use crate::daemon::handler::{Outcome, TreeHandler, lock, now};
use crate::daemon::reload::Via;
use crate::logic::restart::Call;
use crate::protocol::command::{Answer, CommandError, ErrorKind, SystemMode, SystemStatus};
use crate::protocol::id::ChildName;
use crate::protocol::reload::ReloadRequest;
use crate::protocol::status::{CircuitStatus, TreeNode};

impl TreeHandler {
    pub(in crate::daemon::handler) fn list(&self) -> Answer {
        let now = now();
        let status = |entry: &Entry| entry.agent_status(&self.facts.node, now);
        let agents = self.tree.board().agents().iter().filter_map(status).collect();
        Answer { agents: Some(agents), ..Answer::done() }
    }

    pub(in crate::daemon::handler) fn whole_tree(&self) -> Answer {
        let mut tree = self.tree.board().tree(self.tree.root(), now());
        if let Some(root) = &mut tree {
            show_circuits(root, &self.circuits());
        }
        Answer { tree: tree.map(Box::new), ..Answer::done() }
    }

    fn circuits(&self) -> BTreeMap<ChildName, CircuitStatus> {
        self.downstreams.as_ref().map(|all| all.circuits()).unwrap_or_default()
    }

    pub(in crate::daemon::handler) fn system(&self) -> Answer {
        let mut agents: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.tree.board().agents() {
            let count = agents.entry(entry.state.as_str().to_owned()).or_default();
            *count = count.saturating_add(1);
        }
        let system = SystemStatus {
            node: self.facts.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.facts.since,
            mode: *lock(&self.mode),
            agents,
            agents_max: u64::try_from(self.maker.places_max()).unwrap_or(u64::MAX),
            nats: (self.facts.nats.0)(),
            outbox: self.tree.ports().sink.status(),
            tasks: self.facts.tasks.borrow().clone(),
            http: self.facts.http.address().map(|address| address.to_string()),
            flags: self.facts.flags.clone(),
            state_dir: self.facts.state_dir.display().to_string(),
            subject_prefix: self.facts.subject_prefix.clone(),
            downstreams: self.circuits(),
            config: None,
        };
        Answer { system: Some(Box::new(system)), ..Answer::done() }
    }

    /// The same, with how the files on disk stand to what runs.
    pub(in crate::daemon::handler) async fn system_and_files(&self) -> Answer {
        let mut answer = self.system();
        let config = match &self.reloader {
            Some(reloader) => reloader.status().await,
            None => None,
        };
        if let Some(system) = &mut answer.system {
            system.config = config.map(Box::new);
        }
        answer
    }

    pub(in crate::daemon::handler) async fn reload(&self, request: ReloadRequest) -> Outcome {
        if !request.dry_run {
            self.check_mode()?;
        }
        match &self.reloader {
            Some(reloader) => reloader.reload(request, Via::Request).await,
            None => Err(CommandError::new(
                ErrorKind::WrongState,
                "this daemon has no configuration to read again",
                "start it with `provost up -f FILE`",
            )),
        }
    }

    /// Reloads because of a signal, which needs no permission; returns at once.
    pub fn reload_on_signal(&self) {
        match (self.check_mode(), &self.reloader) {
            (Ok(()), Some(reloader)) => reloader.on_signal(),
            (Ok(()), None) => tracing::error!("SIGHUP: there is no configuration to read again"),
            (Err(error), _) => {
                tracing::error!(error = error.message, hint = error.hint, "SIGHUP: not reloaded");
            }
        }
    }

    pub(in crate::daemon::handler) async fn pause(&self) -> Outcome {
        self.enter(SystemMode::Paused)?;
        self.tree.call_all(Call::Pause, "paused").await;
        Ok(self.system())
    }

    pub(in crate::daemon::handler) async fn resume_all(&self) -> Outcome {
        self.enter(SystemMode::Running)?;
        self.tree.call_all(Call::Resume, "resumed").await;
        for entry in self.tree.board().agents() {
            if let Err(error) = self.tree.set_draining(&entry.name, Drain::Off, "resumed") {
                tracing::debug!(child = %entry.name, %error, "not resumed");
            }
        }
        Ok(self.system())
    }

    pub(in crate::daemon::handler) fn drain_all(&self) -> Outcome {
        self.enter(SystemMode::Draining)?;
        for entry in self.tree.board().agents() {
            if let Err(error) = self.tree.set_draining(&entry.name, Drain::On, "daemon drains") {
                tracing::debug!(child = %entry.name, %error, "not drained");
            } else {
                self.tell_to_drain(&entry);
            }
        }
        Ok(self.system())
    }

    pub(in crate::daemon::handler) fn begin_shutdown(&self) -> Answer {
        *lock(&self.mode) = SystemMode::Stopping;
        self.shutdown.cancel();
        self.system()
    }
}

/// Puts the circuits of downstreams, and the states that they make, into the tree.
fn show_circuits(node: &mut TreeNode, circuits: &BTreeMap<ChildName, CircuitStatus>) {
    if let Some(circuit) = circuits.get(&node.name) {
        node.circuit = *circuit;
        node.state = state_with(node.state, circuit.state);
    }
    node.children.iter_mut().for_each(|child| show_circuits(child, circuits));
}
