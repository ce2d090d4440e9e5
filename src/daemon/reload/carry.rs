//! Carries the steps of a reload out, after everything that can stand in the way was looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::actors::tree::{Body, Node, TreeError, tree_supervisor};
use crate::board::Entry;
use crate::daemon::reload::{Comparison, Inner, Running};
use crate::logic::reload::{Blueprint, Step};
use crate::logic::restart::{Call, Refusal};
use crate::protocol::command::{CommandError, ErrorKind};
use crate::protocol::id::ChildName;
use crate::protocol::reload::ReloadRequest;
use crate::protocol::spec::RuntimeKind;
use crate::protocol::status::AgentState;

/// What became of the steps.
#[derive(Debug, Default)]
struct Progress {
    failed: BTreeMap<ChildName, TreeError>,
}

impl Inner {
    /// Carries the changes out.
    pub(super) async fn apply(
        &self,
        running: &mut Running,
        comparison: &Comparison,
        request: &ReloadRequest,
    ) -> Result<(), CommandError> {
        let maker = &self.parts.maker;
        self.check_names(comparison)?;
        self.check_pool(comparison)?;
        let before = maker.config();
        let after = running.written.followed_by(&comparison.wanted);
        // Agents are made from it; and who spawns one now gets what is written now.
        maker.reconfigure(after.config.clone());
        let nodes = match self.nodes(comparison) {
            Ok(nodes) => nodes,
            Err(error) => {
                maker.reconfigure(before.as_ref().clone());
                return Err(error);
            }
        };
        let why = match &request.reason {
            Some(reason) => format!("configuration reloaded: {reason}"),
            None => "configuration reloaded".to_owned(),
        };
        let mut progress = Progress::default();
        for step in &comparison.difference.steps {
            self.step(step, &nodes, (comparison, &why), &mut progress).await;
        }
        running.written = after;
        running.unfinished = progress.failed.keys().cloned().collect();
        progress.outcome()
    }

    /// A name that comes must be free.
    fn check_names(&self, comparison: &Comparison) -> Result<(), CommandError> {
        let board = self.parts.tree.board();
        for name in comparison.to.members.keys() {
            if comparison.from.members.contains_key(name) {
                continue;
            }
            let ended = |entry: &Entry| entry.state == AgentState::Terminated;
            if board.read(name, |entry| !ended(entry)) == Some(true) {
                return Err(CommandError::new(
                    ErrorKind::AlreadyExists,
                    format!(
                        "the name {name} is declared now, and something that was not declared has \
                         it; nothing was changed"
                    ),
                    format!("remove that (`provost remove {name}`), or choose another name"),
                ));
            }
        }
        Ok(())
    }

    /// Agents that come must have places.
    fn check_pool(&self, comparison: &Comparison) -> Result<(), CommandError> {
        let Comparison { from, to, wanted, .. } = comparison;
        let board = self.parts.tree.board();
        let takes = |name: &ChildName| {
            board.read(name, |entry| {
                let local =
                    entry.agent.as_ref().is_some_and(|agent| agent.runtime != RuntimeKind::Remote);
                local && entry.state.takes_a_place()
            }) == Some(true)
        };
        let is_local = |blueprint: &Blueprint, name: &ChildName| {
            let member = blueprint.members.get(name).filter(|member| member.group.is_none());
            let runtime = member.and_then(|member| member.aspects.get("runtime"));
            runtime.is_some_and(|runtime| runtime.shown != "remote")
        };
        let go = from.members.keys().filter(|name| !to.members.contains_key(*name) && takes(name));
        let come = to
            .members
            .keys()
            .filter(|name| !from.members.contains_key(*name) && is_local(to, name));
        let come = come.count();
        let taken = board.places_taken().saturating_sub(go.count()).saturating_add(come);
        let max = wanted.config.agents.max;
        if 0 < come && max < taken {
            return Err(CommandError::new(
                ErrorKind::PoolFull,
                format!(
                    "{taken} agents would be there, those spawned at run time included; at most \
                     {max} are allowed; nothing was changed"
                ),
                "stop or remove an agent, or raise `agents.max`",
            ));
        }
        Ok(())
    }

    async fn step(
        &self,
        step: &Step,
        nodes: &BTreeMap<ChildName, Node>,
        (comparison, why): (&Comparison, &str),
        progress: &mut Progress,
    ) {
        let (name, done) = match step {
            Step::Remove { name, under } => {
                (name, self.remove(name, under, (comparison, why)).await)
            }
            Step::Tune(name) => (name, self.tune(nodes.get(name), why).await),
            Step::TuneGroup(name) => (name, self.tune_group(nodes.get(name), why).await),
            Step::Restart(name) => (name, self.restart(nodes.get(name), why).await),
            Step::Rebuild { name, gone } => {
                let done = self.restart(nodes.get(name), why).await;
                if done.is_ok() {
                    self.forget(gone, comparison);
                }
                (name, done)
            }
            Step::Add(name) => (name, self.add(nodes.get(name), (comparison, why)).await),
        };
        if let Err(error) = done {
            tracing::warn!(child = %name, %error, "a step of the reload failed");
            progress.failed.insert(name.clone(), error);
        }
    }

    async fn remove(
        &self,
        name: &ChildName,
        under: &[ChildName],
        (comparison, why): (&Comparison, &str),
    ) -> Result<(), TreeError> {
        let tree = &self.parts.tree;
        missing_is_fine(tree.call(name, Call::TerminateChild(name.clone()), why).await)?;
        missing_is_fine(tree.call(name, Call::DeleteChild(name.clone()), why).await)?;
        tree.board().remove(name);
        self.forget(&[std::slice::from_ref(name), under].concat(), comparison);
        Ok(())
    }

    /// What is declared nowhere any more leaves the board and the journal.
    fn forget(&self, names: &[ChildName], comparison: &Comparison) {
        for name in names {
            let member = comparison.from.members.get(name);
            if comparison.to.members.contains_key(name) {
                continue;
            }
            self.parts.tree.board().remove(name);
            if member.is_some_and(|member| member.group.is_none()) {
                self.parts.maker.registry().removed(name);
            }
        }
    }

    async fn tune(&self, node: Option<&Node>, why: &str) -> Result<(), TreeError> {
        let Some(node) = node else { return Ok(()) };
        // Who was removed by hand stays away.
        missing_is_fine(self.parts.tree.reconfigure_child(node.clone(), why).await)
    }

    async fn tune_group(&self, node: Option<&Node>, why: &str) -> Result<(), TreeError> {
        let Some(node) = node else { return Ok(()) };
        let (tree, name) = (&self.parts.tree, &node.spec.name);
        let spec = node.spec.as_ref().clone();
        tree.call(name, Call::ReconfigureChild(spec), why).await?;
        match &node.body {
            Body::Supervisor(body) => {
                let rules = Call::Reconfigure(tree_supervisor(body));
                tree.call_at(name, rules, why).await
            }
            Body::Worker(_) => Ok(()),
        }
    }

    async fn restart(&self, node: Option<&Node>, why: &str) -> Result<(), TreeError> {
        let Some(node) = node else { return Ok(()) };
        let (tree, name) = (&self.parts.tree, node.spec.name.clone());
        match tree.reconfigure_child(node.clone(), why).await {
            Err(TreeError::NotFound(_) | TreeError::Refused(Refusal::NotFound)) => return Ok(()),
            other => other?,
        }
        // What was stopped by hand or has done its work stays down.
        let down = |entry: &Entry| {
            matches!(
                entry.state,
                AgentState::Created | AgentState::Stopped | AgentState::Terminated
            )
        };
        if tree.board().read(&name, down) != Some(false) {
            return Ok(());
        }
        match tree.call(&name, Call::BounceChild(name.clone()), why).await {
            // Its own rules say what follows; it is up to date all the same.
            Err(TreeError::Refused(Refusal::StartFailed(error))) => {
                tracing::warn!(child = %name, %error, "not started after the reload");
                Ok(())
            }
            other => missing_is_fine(other),
        }
    }

    async fn add(
        &self,
        node: Option<&Node>,
        (comparison, why): (&Comparison, &str),
    ) -> Result<(), TreeError> {
        let Some(node) = node else { return Ok(()) };
        let member = comparison.to.members.get(&node.spec.name);
        let parent = member.map_or(&self.parts.top, |member| &member.parent);
        match self.parts.tree.introduce_child(parent, node.clone(), why).await {
            Err(TreeError::Refused(Refusal::AlreadyPresent | Refusal::AlreadyStarted)) => {
                Box::pin(self.restart(Some(node), why)).await
            }
            other => other,
        }
    }
}

impl Progress {
    fn outcome(self) -> Result<(), CommandError> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let told: Vec<String> =
            self.failed.iter().map(|(name, error)| format!("{name}: {error}")).collect();
        let names: BTreeSet<&ChildName> = self.failed.keys().collect();
        Err(CommandError::new(
            ErrorKind::Unavailable,
            format!(
                "{} of the changes failed, the others are done: {}",
                names.len(),
                told.join("; ")
            ),
            "reload once more: it takes up what is left",
        ))
    }
}

fn missing_is_fine(done: Result<(), TreeError>) -> Result<(), TreeError> {
    match done {
        Err(TreeError::NotFound(_) | TreeError::Refused(Refusal::NotFound)) => Ok(()),
        other => other,
    }
}
