//! Who a child is to the detectors: what it has in common with others, and what it leans on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::board::{Board, Entry};
use crate::config::Config;
use crate::logic::detect::{CHILDREN_MAX, TAGS_MAX, Who, WhoKind};
use crate::protocol::id::{AgentId, ChildName, NodeName};
use crate::protocol::spec::RuntimeKind;

/// Label by which an agent says what it leans on: names joined by commas.
const DEPENDS_ON: &str = "depends_on";

/// Knows children by name.
#[derive(Debug)]
pub(super) struct Directory {
    board: Arc<Board>,
    node: NodeName,
    labels: Vec<String>,
    downstreams: BTreeSet<ChildName>,
    leans: BTreeMap<ChildName, Vec<ChildName>>,
    known: BTreeMap<ChildName, Who>,
    /// Names of agents that have worked.
    names: BTreeMap<AgentId, ChildName>,
}

impl Directory {
    pub(super) fn new(
        board: Arc<Board>,
        config: &Config,
        node: NodeName,
        labels: Vec<String>,
    ) -> Self {
        let downstreams: BTreeSet<ChildName> = config.downstreams.keys().cloned().collect();
        let leans = leans(config, &downstreams);
        Self {
            board,
            node,
            labels,
            downstreams,
            leans,
            known: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// A child as it is now; what was known of it is kept.
    pub(super) fn who(&mut self, name: &ChildName) -> Who {
        if let Some(who) = self.known.get(name) {
            return who.clone();
        }
        let who = self
            .board
            .read(name, |entry| self.of(name, Some(entry)))
            .unwrap_or_else(|| self.of(name, None));
        if self.known.len() < CHILDREN_MAX {
            self.known.insert(name.clone(), who.clone());
        }
        who
    }

    /// Name of an agent, if it is there.
    pub(super) fn name_of(&mut self, agent: &AgentId) -> Option<ChildName> {
        if let Some(name) = self.names.get(agent) {
            return Some(name.clone());
        }
        let name = self.board.find(agent.as_str())?.name;
        if self.names.len() < CHILDREN_MAX {
            self.names.insert(agent.clone(), name.clone());
        }
        Some(name)
    }

    /// Forgets what is known of a child: it starts anew, perhaps with other labels.
    pub(super) fn forget(&mut self, name: &ChildName) {
        self.known.remove(name);
    }

    /// Forgets a child for good.
    pub(super) fn gone(&mut self, name: &ChildName) {
        self.known.remove(name);
        self.names.retain(|_, known| known != name);
    }

    /// Whether a child is there.
    pub(super) fn has(&self, name: &ChildName) -> bool {
        self.board.read(name, |_| ()).is_some()
    }

    fn of(&self, name: &ChildName, entry: Option<&Entry>) -> Who {
        let is_downstream = self.downstreams.contains(name);
        let kind = if is_downstream { WhoKind::Downstream } else { WhoKind::Worker };
        let agent = entry.and_then(|entry| entry.agent.as_ref());
        let mut leans_on = self.leans.get(name).cloned().unwrap_or_default();
        let named = agent.and_then(|agent| agent.labels.get(DEPENDS_ON));
        let named = named.into_iter().flat_map(|names| names.split(','));
        leans_on.extend(named.filter_map(|name| name.trim().parse().ok()));
        let mut tags: BTreeSet<String> =
            leans_on.iter().map(|root| format!("downstream={root}")).collect();
        let is_remote = agent.is_some_and(|agent| agent.runtime == RuntimeKind::Remote);
        if !is_remote {
            tags.insert(format!("node={}", self.node));
        }
        if let Some(agent) = agent {
            tags.insert(format!("agent_type={}", agent.agent_type));
            for label in &self.labels {
                let value = agent.labels.get(label);
                tags.extend(value.map(|value| format!("{label}={value}")));
            }
        }
        Who {
            name: name.clone(),
            kind,
            tags: tags.into_iter().take(TAGS_MAX).map(Arc::from).collect(),
            leans_on: leans_on.into(),
        }
    }
}

/// Children lean on the downstreams that stand before them under their supervisor, or before that
/// under its own.
fn leans(
    config: &Config,
    downstreams: &BTreeSet<ChildName>,
) -> BTreeMap<ChildName, Vec<ChildName>> {
    let nested: BTreeSet<&ChildName> = config
        .supervisors
        .values()
        .flat_map(|entry| entry.children.iter().map(|(name, _)| name))
        .collect();
    let mut leans = BTreeMap::new();
    let tops = config.supervisors.keys().filter(|name| !nested.contains(name));
    let mut open: Vec<(ChildName, Vec<ChildName>)> =
        tops.map(|name| (name.clone(), Vec::new())).collect();
    // Each supervisor stands once in the tree, and there are no circles: the check has seen to it.
    while let Some((name, mut before)) = open.pop() {
        let Some(entry) = config.supervisors.get(&name) else { continue };
        for (child, _) in &entry.children {
            if downstreams.contains(child) {
                before.push(child.clone());
            } else if config.supervisors.contains_key(child) {
                open.push((child.clone(), before.clone()));
            } else {
                leans.insert(child.clone(), before.clone());
            }
        }
    }
    leans
}
