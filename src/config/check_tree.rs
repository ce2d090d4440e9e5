//! Checks of names and of the tree that supervisors make.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::agent::SupervisorEntry;
use crate::config::check::Checker;
use crate::config::fault::Fault;
use crate::config::raw::RawConfig;
use crate::config::raw_agent::{RawAgent, RawStrategy, RawSupervisor};
use crate::config::tree::join;
use crate::config::units::Span;
use crate::protocol::id::ChildName;
use crate::protocol::spec::{
    AutoShutdown, Limit, RestartType, Significance, Strategy, SupervisorSpec,
};

/// Names of the tree's own parts.
pub const RESERVED_NAMES: [&str; 18] = [
    "root",
    "system",
    "agents",
    "downstreams",
    "keeper",
    "nats_server",
    "nats",
    "outbox",
    "presence",
    "remotes",
    "newcomers",
    "coordinator",
    "calls",
    "commands",
    "resources",
    "dead_letters",
    "insight",
    "http",
];

/// What a name in the tree stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Named {
    kind: &'static str,
    key: String,
}

/// Names of children with their kinds and keys.
pub(crate) type Names = BTreeMap<String, Named>;

/// What the rules about supervisors need to know of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildFacts {
    restart: RestartType,
    /// Longest time its stop takes; zero where that is not known.
    grace: Duration,
}

/// Facts of agents and supervisors by name.
pub(crate) fn child_facts(raw: &RawConfig) -> BTreeMap<String, ChildFacts> {
    let of_agent = |agent: &RawAgent| {
        let declared = raw.agent_types.get(agent.agent_type.as_ref()?)?;
        let restart = declared.restart.restart_type;
        Some((agent.name.clone()?, ChildFacts { restart, grace: declared.stop.grace.0 }))
    };
    let of_supervisor = |(name, raw): (&String, &RawSupervisor)| {
        (name.clone(), ChildFacts { restart: raw.restart, grace: Duration::ZERO })
    };
    raw.agent.iter().filter_map(of_agent).chain(raw.supervisors.iter().map(of_supervisor)).collect()
}

impl Checker<'_> {
    /// Collects the names of all children; no two may be equal.
    pub(crate) fn names(&mut self, raw: &RawConfig) -> Names {
        let mut names = Names::new();
        for name in raw.supervisors.keys() {
            self.name(&mut names, name, "supervisor", join("supervisors", name));
        }
        for name in raw.downstreams.keys() {
            self.name(&mut names, name, "downstream", join("downstreams", name));
        }
        for (index, agent) in raw.agent.iter().enumerate() {
            if let Some(name) = &agent.name {
                self.name(&mut names, name, "agent", format!("agent[{index}].name"));
            }
        }
        names
    }

    fn name(&mut self, names: &mut Names, name: &str, kind: &'static str, key: String) {
        if RESERVED_NAMES.contains(&name) {
            let text = "is the name of a part of provost; choose another name";
            self.fault_of(&key, name, text);
        }
        if let Some(other) = names.get(name) {
            let article = if other.kind == "agent" { "an" } else { "a" };
            let text = format!(
                "name is taken by {article} {} ({})",
                other.kind,
                self.place(&other.key).short()
            );
            self.fault_of(&key, name, text);
            return;
        }
        names.insert(name.to_owned(), Named { kind, key });
    }

    pub(crate) fn supervisors(
        &mut self,
        raw: BTreeMap<String, RawSupervisor>,
        names: &Names,
        facts: &BTreeMap<String, ChildFacts>,
    ) -> BTreeMap<ChildName, SupervisorEntry> {
        let mut parents: BTreeMap<String, String> = BTreeMap::new();
        for (name, raw) in &raw {
            self.children(name, raw, names, &mut parents);
        }
        self.circles(&parents);
        let mut entries = BTreeMap::new();
        for (name, raw) in raw {
            let key = join("supervisors", &name);
            self.significant(&key, &raw, facts);
            self.unreachable_limit(&key, &raw, facts);
            if let Some(name) = self.parsed::<ChildName>(&key, &name) {
                let entry = self.supervisor(&key, name.clone(), &raw);
                entries.insert(name, entry);
            }
        }
        entries
    }

    fn supervisor(&self, key: &str, name: ChildName, raw: &RawSupervisor) -> SupervisorEntry {
        let strategy = match raw.strategy {
            RawStrategy::OneForOne => Strategy::OneForOne,
            RawStrategy::OneForAll => Strategy::OneForAll,
            RawStrategy::RestForOne => Strategy::RestForOne,
        };
        let child = |child: &String| {
            let significance = if raw.significant.contains(child) {
                Significance::Significant
            } else {
                Significance::Ordinary
            };
            Some((child.parse().ok()?, significance))
        };
        SupervisorEntry {
            spec: SupervisorSpec {
                name,
                strategy,
                limit: Some(Limit { intensity: raw.intensity, period: raw.period.0 }),
                auto_shutdown: raw.auto_shutdown,
                origin: self.origin(key),
            },
            restart: raw.restart,
            children: raw.children.iter().filter_map(child).collect(),
        }
    }

    /// Every child exists and stands in one place only.
    fn children(
        &mut self,
        name: &str,
        raw: &RawSupervisor,
        names: &Names,
        parents: &mut BTreeMap<String, String>,
    ) {
        let list = format!("{}.children", join("supervisors", name));
        for (index, child) in raw.children.iter().enumerate() {
            let key = format!("{list}[{index}]");
            if !names.contains_key(child) {
                let text = "no agent, supervisor or downstream has this name";
                let fault = Fault::new(self.place(&key), key, text).value(format!("{child:?}"));
                self.push(fault.suggest(child, names.keys().map(String::as_str)));
                continue;
            }
            match parents.get(child) {
                None => {
                    parents.insert(child.clone(), name.to_owned());
                }
                Some(parent) if parent == name => self.fault_of(&key, child, "is listed twice"),
                Some(parent) => {
                    let text = format!("is a child of supervisor {parent} already");
                    self.fault_of(&key, child, text);
                }
            }
        }
    }

    /// No supervisor stands under itself; each circle is told once, at its first name.
    fn circles(&mut self, parents: &BTreeMap<String, String>) {
        for start in parents.keys() {
            let Some(circle) = circle(start, parents) else { continue };
            if circle.iter().min() == Some(&start.as_str()) {
                let text = format!("makes a circle: {start} > {}", circle.join(" > "));
                self.fault(&format!("{}.children", join("supervisors", start)), text);
            }
        }
    }

    /// OTP's rules: significance needs auto-shutdown, and a child that is not always restarted.
    fn significant(
        &mut self,
        key: &str,
        raw: &RawSupervisor,
        facts: &BTreeMap<String, ChildFacts>,
    ) {
        for (index, child) in raw.significant.iter().enumerate() {
            let key = format!("{key}.significant[{index}]");
            if !raw.children.contains(child) {
                let fault = Fault::new(self.place(&key), key, "is no child of this supervisor");
                let children = raw.children.iter().map(String::as_str);
                self.push(fault.value(format!("{child:?}")).suggest(child, children));
            } else if facts.get(child).is_some_and(|facts| facts.restart == RestartType::Permanent)
            {
                let text = "a permanent child is always restarted and so cannot be significant; \
                            make it transient or temporary";
                self.fault_of(&key, child, text);
            }
        }
        let key = format!("{key}.auto_shutdown");
        if raw.auto_shutdown == AutoShutdown::Never && !raw.significant.is_empty() {
            let text = "is never, but significant children are named; set any_significant or \
                        all_significant";
            self.fault(&key, text);
        }
        if raw.auto_shutdown != AutoShutdown::Never && raw.significant.is_empty() {
            self.warn(&key, "has no effect: no child is significant");
        }
    }

    /// A group strategy stops siblings before it restarts; when that takes longer than the window
    /// allows, the limit is never reached.
    fn unreachable_limit(
        &mut self,
        key: &str,
        raw: &RawSupervisor,
        facts: &BTreeMap<String, ChildFacts>,
    ) {
        let group = match raw.strategy {
            RawStrategy::OneForOne => false,
            RawStrategy::OneForAll | RawStrategy::RestForOne => 1 < raw.children.len(),
        };
        let graces =
            raw.children.iter().filter_map(|child| facts.get(child)).map(|facts| facts.grace);
        let longest = graces.max().unwrap_or_default();
        if group && 0 < raw.intensity && raw.period.0 <= longest.saturating_mul(raw.intensity) {
            let text = format!(
                "stopping a sibling takes up to {}, times intensity {} reaches period {}: while \
                 siblings have to be killed the limit can never be exceeded; lengthen the period",
                Span(longest),
                raw.intensity,
                raw.period
            );
            self.warn(&format!("{key}.period"), text);
        }
    }
}

/// The way from a name down to itself, if there is one. Each name has one parent at most, so going
/// up finds it.
fn circle<'p>(start: &'p str, parents: &'p BTreeMap<String, String>) -> Option<Vec<&'p str>> {
    let mut way = vec![start];
    let mut at = parents.get(start)?;
    while at != start {
        if way.contains(&at.as_str()) {
            return None;
        }
        way.push(at);
        at = parents.get(at)?;
    }
    way.reverse();
    Some(way)
}
