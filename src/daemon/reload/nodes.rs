//! Nodes of the tree for what a reload adds or makes anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::actors::tree::{Node, TreeSpec};
use crate::adapters::care::Start;
use crate::config::{Config, SupervisorEntry};
use crate::daemon::downstreams;
use crate::daemon::nodes::supervisor_spec;
use crate::daemon::reload::{Comparison, Inner};
use crate::logic::reload::Step;
use crate::protocol::command::{CommandError, ErrorKind};
use crate::protocol::id::ChildName;
use crate::protocol::spec::{ChildSpec, RestartPolicy, Significance};

/// Depth of groups beyond which a configuration is not followed; the checks allow no circle.
const DEPTH_MAX: usize = 64;

impl Inner {
    /// Makes every node that the steps need, before any of them is done.
    pub(super) fn nodes(
        &self,
        comparison: &Comparison,
    ) -> Result<BTreeMap<ChildName, Node>, CommandError> {
        let config = self.parts.maker.config();
        let mut nodes = BTreeMap::new();
        for step in &comparison.difference.steps {
            match step {
                Step::Remove { .. } => {}
                Step::Tune(name)
                | Step::TuneGroup(name)
                | Step::Restart(name)
                | Step::Rebuild { name, .. }
                | Step::Add(name) => {
                    nodes.insert(name.clone(), self.node(&config, name, 0)?);
                }
            }
        }
        Ok(nodes)
    }

    fn node(&self, config: &Config, name: &ChildName, depth: usize) -> Result<Node, CommandError> {
        let mut node = match config.supervisors.get(name) {
            Some(entry) if depth < DEPTH_MAX => self.group(config, entry, depth)?,
            Some(_) => return Err(cannot(name, "groups are nested too deeply")),
            None => match self.parts.desk.get(name) {
                Some(one) => {
                    let origin = config.downstreams.get(name).and_then(|one| one.origin.clone());
                    let start = (Start::Connected, origin);
                    downstreams::node(name, one, &self.parts.outside, start)
                }
                None if config.downstreams.contains_key(name) => {
                    return Err(cannot(name, "downstreams are connected when the daemon starts"));
                }
                None => self.parts.maker.make_again(name)?,
            },
        };
        let entries = config.supervisors.values().flat_map(|entry| &entry.children);
        let found = entries.into_iter().find(|(child, _)| child == name);
        let significance = found.map_or(Significance::Ordinary, |(_, significance)| *significance);
        Arc::make_mut(&mut node.spec).significance = significance;
        Ok(node)
    }

    fn group(
        &self,
        config: &Config,
        entry: &SupervisorEntry,
        depth: usize,
    ) -> Result<Node, CommandError> {
        let names = entry.children.iter();
        let children: Result<Vec<Node>, CommandError> =
            names.map(|(name, _)| self.node(config, name, depth.saturating_add(1))).collect();
        let spec = ChildSpec {
            restart: entry.restart,
            origin: entry.spec.origin.clone(),
            ..supervisor_spec(entry.spec.name.clone(), RestartPolicy::default())
        };
        Ok(Node::supervisor(spec, TreeSpec::new(entry.spec.clone(), children?)))
    }
}

fn cannot(name: &ChildName, why: &str) -> CommandError {
    CommandError::new(
        ErrorKind::WrongState,
        format!("{name} cannot be made now: {why}; nothing was changed"),
        "restart the daemon to have it",
    )
}
