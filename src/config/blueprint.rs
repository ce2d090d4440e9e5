//! From the configuration to what a reload compares.
//!
//! Values are flattened under the names that people write. A value that must not be shown is told
//! from another by its print alone, which never leaves the process.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use crate::config::agent::{AgentEntry, SupervisorEntry};
use crate::config::checked::Config;
use crate::config::load::{Loaded, ShownKey};
use crate::config::units::MASK;
use crate::logic::reload::{Aspect, Blueprint, Group, Member, Order};
use crate::protocol::id::{AgentId, ChildName};
use crate::protocol::spec::{AgentSpec, Significance, Strategy};

/// Longest value shown in a change, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// Keys that are compared as members of the tree, not as settings.
const MEMBERS: [&str; 4] = ["agent_types", "agent", "supervisors", "downstreams"];

/// Names of an agent's spec on the wire, and as they are written.
const WRITTEN: [(&str, &str); 6] = [
    ("policy.backoff.", "restart.backoff."),
    ("policy.circuit.limit.", "restart."),
    ("policy.circuit.", "restart."),
    ("care.", ""),
    ("restart", "restart.type"),
    ("agent_type", "type"),
];

/// One configuration, as far as a comparison needs it.
#[derive(Clone, Debug)]
pub struct Written {
    /// The settings.
    pub config: Config,
    /// Every key with its value and place, secrets masked.
    pub shown: Vec<ShownKey>,
}

impl Written {
    /// What a loaded configuration says.
    #[must_use]
    pub fn of(loaded: &Loaded) -> Self {
        let shown = loaded.render(crate::config::load::ShowOrigin::Yes);
        Self { config: loaded.config.clone(), shown }
    }

    /// What runs once everything of `new` is carried out that needs no restart of the daemon.
    #[must_use]
    pub fn followed_by(&self, new: &Self) -> Self {
        let config = Config {
            agents: new.config.agents,
            agent_types: new.config.agent_types.clone(),
            agents_list: new.config.agents_list.clone(),
            supervisors: new.config.supervisors.clone(),
            ..self.config.clone()
        };
        let live = |key: &&ShownKey| key.key.starts_with("agents.");
        let held = self.shown.iter().filter(|key| !live(key));
        let shown = held.chain(new.shown.iter().filter(live)).cloned().collect();
        Self { config, shown }
    }
}

/// What runs and what is written, ready to be compared. Agents that were spawned at run time are
/// compared too, because their types are declared.
#[must_use]
pub fn blueprints(
    running: &Written,
    wanted: &Written,
    (top, spawned): (&ChildName, &[AgentEntry]),
) -> (Blueprint, Blueprint) {
    let mut from = blueprint(running, top, spawned);
    let mut to = blueprint(wanted, top, spawned);
    // A spawned agent whose type is no longer declared goes on as it is.
    for entry in spawned {
        if let (Some(member), false) =
            (from.members.get(&entry.name), to.members.contains_key(&entry.name))
        {
            to.members.insert(entry.name.clone(), member.clone());
            to.order.push(entry.name.clone());
        }
    }
    mark_hidden(&running.config, &wanted.config, (&mut from, &mut to));
    downstreams(&running.config, &wanted.config, (&mut from, &mut to));
    (from, to)
}

fn blueprint(written: &Written, top: &ChildName, spawned: &[AgentEntry]) -> Blueprint {
    let Written { config, shown } = written;
    let mut blueprint = Blueprint::default();
    for key in shown {
        let section = key.key.split(['.', '[']).next().unwrap_or_default();
        if MEMBERS.contains(&section) {
            continue;
        }
        let Some(value) = &key.value else { continue };
        let aspect = Aspect { origin: key.origin.clone(), ..aspect(value) };
        blueprint.settings.insert(key.key.clone(), aspect);
    }
    let mut parents: BTreeMap<&ChildName, (&ChildName, Significance)> = BTreeMap::new();
    for (name, entry) in &config.supervisors {
        for (child, significance) in &entry.children {
            parents.insert(child, (name, *significance));
        }
    }
    let place = |name: &ChildName| {
        let found = parents.get(name).copied();
        found.unwrap_or((top, Significance::Ordinary))
    };
    for (name, entry) in &config.supervisors {
        let (parent, significance) = place(name);
        let mut aspects = aspects_of_group(entry);
        note_significance(&mut aspects, significance);
        let origin = entry.spec.origin.clone();
        let group = Group {
            children: entry.children.iter().map(|(child, _)| child.clone()).collect(),
            order: match entry.spec.strategy {
                Strategy::OneForOne | Strategy::SimpleOneForOne => Order::IsFree,
                Strategy::OneForAll | Strategy::RestForOne => Order::Counts,
            },
        };
        let member = Member { parent: parent.clone(), aspects, origin, group: Some(group) };
        blueprint.members.insert(name.clone(), member);
        blueprint.order.push(name.clone());
    }
    for entry in config.agents_list.iter().chain(spawned) {
        if blueprint.members.contains_key(&entry.name) {
            continue;
        }
        let id = AgentId::from(&entry.name);
        let Ok(spec) = config.agent_spec(entry, id) else { continue };
        let (parent, significance) = place(&entry.name);
        let mut aspects = aspects_of_agent(&spec);
        note_significance(&mut aspects, significance);
        let origin = entry.origin.clone().or_else(|| spec.origin.clone());
        let member = Member { parent: parent.clone(), aspects, origin, group: None };
        blueprint.members.insert(entry.name.clone(), member);
        blueprint.order.push(entry.name.clone());
    }
    blueprint
}

fn note_significance(aspects: &mut BTreeMap<String, Aspect>, significance: Significance) {
    if significance == Significance::Significant {
        aspects.insert("significance".to_owned(), aspect(&"significant".into()));
    }
}

fn aspects_of_group(entry: &SupervisorEntry) -> BTreeMap<String, Aspect> {
    let mut flat = BTreeMap::new();
    let spec = serde_json::to_value(&entry.spec).unwrap_or_default();
    let restart = serde_json::to_value(entry.restart).unwrap_or_default();
    flatten("", &spec, &mut flat);
    flat.insert("restart".to_owned(), restart);
    let kept = flat.into_iter().filter(|(key, _)| !matches!(key.as_str(), "name" | "origin"));
    let named = kept.map(|(key, value)| {
        let key = key.strip_prefix("limit.").unwrap_or(&key).to_owned();
        (key, aspect(&value))
    });
    named.collect()
}

fn aspects_of_agent(spec: &AgentSpec) -> BTreeMap<String, Aspect> {
    let mut flat = BTreeMap::new();
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        for name in ["agent_id", "name", "origin", "secret_env", "env"] {
            fields.shift_remove(name);
        }
    }
    flatten("", &value, &mut flat);
    let mut aspects: BTreeMap<String, Aspect> =
        flat.into_iter().map(|(key, value)| (written(&key), aspect(&value))).collect();
    for (name, value) in &spec.env {
        let mut aspect = aspect(&value.as_str().into());
        if spec.secret_env.contains(name) {
            MASK.clone_into(&mut aspect.shown);
        }
        aspects.insert(format!("env.{name}"), aspect);
    }
    aspects
}

fn written(key: &str) -> String {
    for (wire, written) in WRITTEN {
        if key == wire {
            return written.to_owned();
        }
        if wire.ends_with('.')
            && let Some(rest) = key.strip_prefix(wire)
        {
            return format!("{written}{rest}");
        }
    }
    key.to_owned()
}

/// Tables become dotted keys; all else is a value.
fn flatten(path: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&key, value, flat);
            }
        }
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            flat.insert(path.to_owned(), value.clone());
        }
    }
}

fn aspect(value: &Value) -> Aspect {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    };
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    Aspect { shown, print: print_of(&value.to_string()), origin: None }
}

/// Equal for equal texts.
pub(crate) fn print_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A section that differs although no shown value does differs in a secret.
fn mark_hidden(running: &Config, wanted: &Config, (from, to): (&mut Blueprint, &mut Blueprint)) {
    let sections = [
        ("provost", running.provost != wanted.provost),
        ("nats", running.nats != wanted.nats),
        ("supervision", running.supervision != wanted.supervision),
        ("coordination", running.coordination != wanted.coordination),
        ("routing", running.routing != wanted.routing),
        ("resources", running.resources != wanted.resources),
        ("events", running.events != wanted.events),
    ];
    for (section, differs) in sections {
        let of_it = |key: &str| key == section || key.starts_with(&format!("{section}."));
        let prints = |blueprint: &Blueprint| -> Vec<(String, u64)> {
            let settings = blueprint.settings.iter().filter(|(key, _)| of_it(key));
            settings.map(|(key, aspect)| (key.clone(), aspect.print)).collect()
        };
        if differs && prints(from) == prints(to) {
            differ(section, (MASK, MASK), (from, to));
        }
    }
}

/// Downstreams are connected when the daemon starts; they count as settings.
fn downstreams(running: &Config, wanted: &Config, (from, to): (&mut Blueprint, &mut Blueprint)) {
    let names = running.downstreams.keys().chain(wanted.downstreams.keys());
    for name in names {
        // Where it stands in the file is no part of it.
        let alone = |config: &Config| {
            config.downstreams.get(name).map(|one| {
                let mut one = one.clone();
                one.origin = None;
                one
            })
        };
        let (old, new) = (alone(running), alone(wanted));
        let words = match (&old, &new) {
            (None, _) => ("none", "declared"),
            (_, None) => ("declared", "none"),
            (Some(_), Some(_)) => ("declared", "declared otherwise"),
        };
        if old != new {
            differ(&format!("downstreams.{name}"), words, (from, to));
            let origin = wanted.downstreams.get(name).and_then(|one| one.origin.clone());
            if let Some(aspect) = to.settings.get_mut(&format!("downstreams.{name}")) {
                aspect.origin = origin;
            }
        }
    }
}

fn differ(key: &str, (old, new): (&str, &str), (from, to): (&mut Blueprint, &mut Blueprint)) {
    let aspect = |shown: &str, print| Aspect { shown: shown.to_owned(), print, origin: None };
    from.settings.insert(key.to_owned(), aspect(old, 0));
    to.settings.insert(key.to_owned(), aspect(new, 1));
}
