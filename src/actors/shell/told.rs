//! Tells how children are shown, so that what the board shows now can be rebuilt from events later.
//!
//! A change of state of an agent carries it; whatever changes otherwise (a circuit, a count, a
//! reason, any change of a child that is no agent) has an event of its own. What was told already
//! is not told again; the board remembers it, because two supervisors write the entry of a child
//! supervisor: its own and its parent's.

use std::collections::BTreeMap;

use crate::actors::shell::{Shell, about};
use crate::board::Entry;
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::status::AgentState;

/// A change of state that is still to be told.
pub(in crate::actors::shell) type Step = Option<(AgentState, AgentState)>;

impl Shell {
    /// Tells a change of state, and how the child is shown from now on.
    pub(in crate::actors::shell) fn tell_step(
        &mut self,
        child: &ChildName,
        generation: Generation,
        step: Step,
    ) {
        let untold = self.ports.board.untold(child, self.now());
        let (shown, told) = untold.unzip();
        let agent = self.agent(child);
        let about = about(child, agent.as_deref(), generation);
        let is_told = match (step, shown) {
            (Some((old, new)), shown) if agent.is_some() => {
                self.announcer.state_changed(about, old, new, shown).is_some()
            }
            (_, Some(shown)) => {
                self.announcer.shown(about, shown);
                true
            }
            (_, None) => false,
        };
        // Only now: a supervisor that panics while it tells has not told.
        if let Some(told) = told.filter(|_| is_told) {
            self.ports.board.was_told(child, told);
        }
    }

    /// Tells how the supervisor itself is shown.
    pub(in crate::actors::shell) fn tell_own(&self) {
        if let Some((shown, told)) = self.ports.board.untold(&self.spec.name, self.now()) {
            self.announcer.own_shown(shown);
            self.ports.board.was_told(&self.spec.name, told);
        }
    }

    /// A child begins anew: who was under it before is not any more, until it says so.
    pub(in crate::actors::shell) fn clear_places(&mut self, parent: &ChildName) {
        let children = |entry: &Entry| entry.children.values().cloned().collect::<Vec<_>>();
        for child in self.ports.board.read(parent, children).unwrap_or_default() {
            let cleared = self.ports.board.update(&child, |entry| {
                entry.place = None;
                entry.generation
            });
            if let Some(generation) = cleared {
                self.tell_step(&child, generation, None);
            }
        }
    }

    /// Enters the children into the supervisor's entry. Who was there in a former life of the
    /// supervisor and is not any more has no place among them.
    pub(in crate::actors::shell) fn show_children(&mut self) {
        let children: BTreeMap<u64, ChildName> =
            self.kids.iter().map(|(name, kid)| (kid.order, name.clone())).collect();
        let entered = children.clone();
        let former = self
            .ports
            .board
            .update(&self.spec.name, |entry| std::mem::replace(&mut entry.children, entered));
        let former = former.unwrap_or_default().into_values();
        let gone = former.filter(|name| !self.kids.contains_key(name)).map(|name| (None, name));
        let there = children.into_iter().map(|(order, name)| (Some(order), name));
        for (place, name) in gone.chain(there).collect::<Vec<_>>() {
            self.ports.board.update(&name, |entry| entry.place = place);
            // Of whom a former daemon has told, the next change tells.
            if !self.announcer.is_told_by_earlier(&name) {
                self.tell_step(&name, self.generation(&name), None);
            }
        }
    }
}
