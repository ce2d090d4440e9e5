//! The comparison itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::logic::reload::{Aspect, Blueprint, Difference, Group, Member, Order, Step};
use crate::protocol::id::ChildName;
use crate::protocol::reload::{ChangeOf, ChangeOp, ConfigChange, Effect};

/// Settings that are read when they are needed.
const LIVE: &str = "agents.";

/// Aspects of an agent that its supervisor or readers go by, not its run.
const IN_PLACE: [&str; 4] = ["restart.", "labels.", "significance", "type"];

/// Why a setting waits for a restart of the daemon, by the start of its key.
const WHY_HELD: [(&str, &str); 9] = [
    ("provost.", "the daemon's name, folders and addresses are taken when it starts"),
    ("nats", "the server and the connection are set up when the daemon starts"),
    ("supervision", "supervision is set up when the daemon starts"),
    ("coordination", "coordination is set up when the daemon starts"),
    ("routing", "routing is set up when the daemon starts"),
    ("resources", "resources are set up when the daemon starts"),
    ("events", "the way of events is set up when the daemon starts"),
    ("downstreams", "downstreams are connected when the daemon starts"),
    ("", "it is read when the daemon starts"),
];

/// Compares what runs with what is written. Members in `unfinished` are brought up to date whatever
/// the comparison says: an earlier reload did not get through with them.
#[must_use]
pub fn compare(
    running: &Blueprint,
    wanted: &Blueprint,
    unfinished: &BTreeSet<ChildName>,
) -> Difference {
    let mut difference = Difference { changes: settings(running, wanted), steps: Vec::new() };
    let walk = Walk { running, wanted, unfinished, moved: moved(running, wanted) };
    let rebuilt = walk.rebuilt(&mut difference.changes);
    walk.removals(&rebuilt, &mut difference);
    let in_place = walk.in_place(&rebuilt, &mut difference.changes);
    difference.steps.extend(in_place);
    for name in walk.outermost(&rebuilt) {
        let gone = under(running, &name);
        let gone = gone.into_iter().filter(|one| !wanted.members.contains_key(one)).collect();
        difference.steps.push(Step::Rebuild { name, gone });
    }
    walk.additions(&rebuilt, &mut difference);
    difference
}

fn settings(running: &Blueprint, wanted: &Blueprint) -> Vec<ConfigChange> {
    let keys = differing(&running.settings, &wanted.settings);
    let change = |(key, from, to): (&str, Option<&Aspect>, Option<&Aspect>)| {
        let live = key.starts_with(LIVE);
        let why = WHY_HELD.iter().find(|(start, _)| key.starts_with(start)).map(|(_, why)| *why);
        ConfigChange {
            op: ChangeOp::Change,
            what: ChangeOf::Setting,
            name: key.to_owned(),
            key: None,
            from: from.map(|aspect| aspect.shown.clone()),
            to: to.map(|aspect| aspect.shown.clone()),
            effect: if live { Effect::InPlace } else { Effect::RestartsDaemon },
            restarts: Vec::new(),
            why: why.filter(|_| !live).map(str::to_owned),
            origin: to.or(from).and_then(|aspect| aspect.origin.clone()),
        }
    };
    keys.map(change).collect()
}

/// The keys whose values differ, in order.
fn differing<'a>(
    from: &'a BTreeMap<String, Aspect>,
    to: &'a BTreeMap<String, Aspect>,
) -> impl Iterator<Item = (&'a str, Option<&'a Aspect>, Option<&'a Aspect>)> {
    let keys: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    keys.into_iter().filter_map(|key| {
        let (from, to) = (from.get(key), to.get(key));
        let print = |aspect: Option<&Aspect>| aspect.map(|aspect| aspect.print);
        (print(from) != print(to)).then_some((key.as_str(), from, to))
    })
}

/// Members that stand under another supervisor, or are another kind of thing.
fn moved(running: &Blueprint, wanted: &Blueprint) -> BTreeSet<ChildName> {
    let moves = |(name, member): (&ChildName, &Member)| {
        let new = wanted.members.get(name)?;
        let same = new.parent == member.parent && new.group.is_some() == member.group.is_some();
        (!same).then(|| name.clone())
    };
    running.members.iter().filter_map(moves).collect()
}

/// Everything under a member, whatever the depth; not the member itself.
fn under(blueprint: &Blueprint, name: &ChildName) -> Vec<ChildName> {
    let mut found = Vec::new();
    let mut next = vec![name];
    let mut seen = BTreeSet::new();
    while let Some(name) = next.pop() {
        let group = blueprint.members.get(name).and_then(|member| member.group.as_ref());
        for child in group.iter().flat_map(|group| &group.children) {
            if blueprint.members.contains_key(child) && seen.insert(child) {
                found.push(child.clone());
                next.push(child);
            }
        }
    }
    found.sort();
    found
}

/// The agents among a member and all under it.
fn agents_of(blueprint: &Blueprint, name: &ChildName) -> Vec<ChildName> {
    let is_agent =
        |name: &ChildName| blueprint.members.get(name).is_some_and(|member| member.group.is_none());
    let mut all = under(blueprint, name);
    all.push(name.clone());
    all.retain(is_agent);
    all.sort();
    all
}

struct Walk<'a> {
    running: &'a Blueprint,
    wanted: &'a Blueprint,
    unfinished: &'a BTreeSet<ChildName>,
    moved: BTreeSet<ChildName>,
}

impl Walk<'_> {
    /// Members that are there before and after, at the same place.
    fn kept(&self) -> impl Iterator<Item = (&ChildName, &Member, &Member)> {
        self.wanted.order.iter().filter_map(|name| {
            let (old, new) = (self.running.members.get(name)?, self.wanted.members.get(name)?);
            (!self.moved.contains(name)).then_some((name, old, new))
        })
    }

    /// Groups that are made anew.
    fn rebuilt(&self, changes: &mut Vec<ConfigChange>) -> BTreeSet<ChildName> {
        let mut rebuilt = BTreeSet::new();
        for (name, old, new) in self.kept() {
            let (Some(from), Some(to)) = (&old.group, &new.group) else { continue };
            let held = self.strangers(from) != self.strangers(to);
            let anew = self.unfinished.contains(name) || self.needs_rebuild(from, to);
            if !held && !anew {
                continue;
            }
            let why = if held {
                "downstreams are connected when the daemon starts"
            } else {
                "the order of the children counts under its strategy"
            };
            changes.push(ConfigChange {
                key: Some("children".to_owned()),
                from: Some(listed(&from.children)),
                to: Some(listed(&to.children)),
                effect: if held { Effect::RestartsDaemon } else { Effect::RestartsChildren },
                restarts: if held { Vec::new() } else { agents_of(self.wanted, name) },
                why: Some(why.to_owned()),
                ..change(ChangeOp::Change, name, new)
            });
            if !held {
                rebuilt.insert(name.clone());
            }
        }
        rebuilt
    }

    /// Children that are no members: downstreams.
    fn strangers(&self, group: &Group) -> BTreeSet<ChildName> {
        let member = |name: &ChildName| {
            self.running.members.contains_key(name) || self.wanted.members.contains_key(name)
        };
        group.children.iter().filter(|name| !member(name)).cloned().collect()
    }

    fn needs_rebuild(&self, from: &Group, to: &Group) -> bool {
        if to.order == Order::IsFree {
            return false;
        }
        let stays =
            |name: &&ChildName| from.children.contains(*name) && to.children.contains(*name);
        let before: Vec<&ChildName> = from.children.iter().filter(stays).collect();
        let after: Vec<&ChildName> = to.children.iter().filter(stays).collect();
        let at_end = to.children.iter().skip_while(|name| stays(name)).all(|name| !stays(&name));
        before != after || !at_end
    }

    /// Those of the set that nothing else in it contains, in the order of their declaration.
    fn outermost(&self, set: &BTreeSet<ChildName>) -> Vec<ChildName> {
        let order = self.wanted.order.iter().filter(|name| set.contains(*name));
        order.filter(|name| !is_within(self.wanted, name, set)).cloned().collect()
    }

    fn removals(&self, rebuilt: &BTreeSet<ChildName>, difference: &mut Difference) {
        for name in &self.moved {
            let (Some(old), Some(new)) =
                (self.running.members.get(name), self.wanted.members.get(name))
            else {
                continue;
            };
            difference.changes.push(ConfigChange {
                key: Some("supervisor".to_owned()),
                from: Some(old.parent.to_string()),
                to: Some(new.parent.to_string()),
                effect: Effect::RestartsChildren,
                restarts: agents_of(self.wanted, name),
                why: Some("it ends at its old place and begins at its new one".to_owned()),
                ..change(ChangeOp::Change, name, new)
            });
            let under = under(self.running, name);
            difference.steps.push(Step::Remove { name: name.clone(), under });
        }
        let gone: BTreeSet<ChildName> = {
            let names = self.running.members.keys();
            names.filter(|name| !self.wanted.members.contains_key(*name)).cloned().collect()
        };
        let taken: BTreeSet<ChildName> = gone.iter().chain(rebuilt).cloned().collect();
        for name in &gone {
            let Some(old) = self.running.members.get(name) else { continue };
            difference.changes.push(change(ChangeOp::Remove, name, old));
            // What is under a group that goes or is made anew goes with it.
            if !is_within(self.running, name, &taken) {
                let under = under(self.running, name);
                let under = under.into_iter().filter(|one| gone.contains(one)).collect();
                difference.steps.push(Step::Remove { name: name.clone(), under });
            }
        }
    }

    fn in_place(
        &self,
        rebuilt: &BTreeSet<ChildName>,
        changes: &mut Vec<ConfigChange>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for (name, old, new) in self.kept() {
            let covered = rebuilt.contains(name) || is_within(self.wanted, name, rebuilt);
            let before = changes.len();
            changes.extend(aspects(name, old, new));
            let new_ones = changes.get(before..).unwrap_or_default();
            let restarts = self.unfinished.contains(name)
                || new_ones.iter().any(|change| change.effect == Effect::RestartsChildren);
            let differs = old.origin != new.origin || !new_ones.is_empty();
            match (covered, new.group.is_some()) {
                (true, _) => {}
                (false, true) if differs => steps.push(Step::TuneGroup(name.clone())),
                (false, false) if restarts => steps.push(Step::Restart(name.clone())),
                (false, false) if differs => steps.push(Step::Tune(name.clone())),
                (false, _) => {}
            }
        }
        steps
    }

    fn additions(&self, rebuilt: &BTreeSet<ChildName>, difference: &mut Difference) {
        let comes = |name: &&ChildName| {
            !self.running.members.contains_key(*name) || self.moved.contains(*name)
        };
        let coming: BTreeSet<ChildName> = self.wanted.order.iter().filter(comes).cloned().collect();
        let brought: BTreeSet<ChildName> = coming.iter().chain(rebuilt).cloned().collect();
        for name in self.wanted.order.iter().filter(|name| coming.contains(*name)) {
            let Some(new) = self.wanted.members.get(name) else { continue };
            if !self.moved.contains(name) {
                difference.changes.push(change(ChangeOp::Add, name, new));
            }
            // A group that comes or is made anew brings what is under it.
            if !is_within(self.wanted, name, &brought) {
                difference.steps.push(Step::Add(name.clone()));
            }
        }
    }
}

/// What differs of a member that stays where it is.
fn aspects<'a>(
    name: &'a ChildName,
    old: &'a Member,
    new: &'a Member,
) -> impl Iterator<Item = ConfigChange> + 'a {
    let is_of_the_run =
        |key: &str| new.group.is_none() && !IN_PLACE.iter().any(|one| key.starts_with(one));
    differing(&old.aspects, &new.aspects).map(move |(key, from, to)| {
        let (effect, restarts, why) = if is_of_the_run(key) {
            (Effect::RestartsChildren, vec![name.clone()], Some("it is part of the agent's run"))
        } else {
            (Effect::InPlace, Vec::new(), None)
        };
        ConfigChange {
            key: Some(key.to_owned()),
            from: from.map(|aspect| aspect.shown.clone()),
            to: to.map(|aspect| aspect.shown.clone()),
            effect,
            restarts,
            why: why.map(str::to_owned),
            ..change(ChangeOp::Change, name, new)
        }
    })
}

/// Whether something above the member is in the set.
fn is_within(blueprint: &Blueprint, name: &ChildName, set: &BTreeSet<ChildName>) -> bool {
    let parent = |name: &ChildName| blueprint.members.get(name).map(|member| &member.parent);
    let mut above = parent(name);
    // Checked configurations have no circle; the bound is for whoever calls this with another.
    for _ in 0..blueprint.members.len() {
        let Some(name) = above else { return false };
        if set.contains(name) {
            return true;
        }
        above = parent(name);
    }
    false
}

fn change(op: ChangeOp, name: &ChildName, member: &Member) -> ConfigChange {
    ConfigChange {
        op,
        what: if member.group.is_some() { ChangeOf::Group } else { ChangeOf::Agent },
        name: name.to_string(),
        key: None,
        from: None,
        to: None,
        effect: Effect::InPlace,
        restarts: Vec::new(),
        why: None,
        origin: member.origin.clone(),
    }
}

fn listed(names: &[ChildName]) -> String {
    let names: Vec<&str> = names.iter().map(ChildName::as_str).collect();
    names.join(", ")
}
