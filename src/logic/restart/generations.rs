//! Which generations have been used, so that none is ever used again: not by a child of the same
//! name that is deleted and added again, and not by the next life of the supervisor.
//!
//! Names that are gone are remembered exactly up to `GONE_MAX`; beyond that a single floor stands
//! for the oldest of them, so that short-lived children do not fill the memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::protocol::id::{ChildName, Generation};

/// Names of forgotten children that are remembered one by one.
pub(super) const GONE_MAX: usize = 1024;

/// The last generation of each child, those of forgotten ones included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generations {
    last: BTreeMap<ChildName, Generation>,
    gone: VecDeque<ChildName>,
    floor: Generation,
}

impl Generations {
    /// Makes sure that a child's next generation is above this one.
    pub fn raise(&mut self, child: &ChildName, used: Generation) {
        let last = self.last(child).max(used);
        self.last.insert(child.clone(), last);
    }

    /// The last generation that a child used; the floor if its name is not remembered.
    #[must_use]
    pub fn last(&self, child: &ChildName) -> Generation {
        self.last.get(child).copied().unwrap_or(self.floor)
    }

    /// Notes that a child is forgotten: from now on its name may be given up for the floor.
    pub(super) fn leave(&mut self, child: &ChildName, present: impl Fn(&ChildName) -> bool) {
        if !self.last.contains_key(child) {
            return;
        }
        self.gone.push_back(child.clone());
        while GONE_MAX < self.gone.len() {
            let Some(oldest) = self.gone.pop_front() else { return };
            if present(&oldest) || self.gone.contains(&oldest) {
                continue;
            }
            if let Some(used) = self.last.remove(&oldest) {
                self.floor = self.floor.max(used);
            }
        }
    }

    /// Takes over what a former life of the supervisor left. Names that do not come back count as
    /// gone.
    pub(super) fn inherit(&mut self, former: Self, present: &BTreeSet<&ChildName>) {
        self.floor = self.floor.max(former.floor);
        for (name, used) in former.last {
            self.raise(&name, used);
            if !present.contains(&name) {
                self.leave(&name, |other| present.contains(other));
            }
        }
    }
}

impl From<BTreeMap<ChildName, Generation>> for Generations {
    fn from(last: BTreeMap<ChildName, Generation>) -> Self {
        Self { last, ..Self::default() }
    }
}

impl From<&Generations> for BTreeMap<ChildName, Generation> {
    fn from(generations: &Generations) -> Self {
        generations.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(generations: &mut Generations, child: &ChildName) -> Generation {
        let next = generations.last(child).next();
        generations.raise(child, next);
        next
    }

    #[test]
    fn no_generation_is_used_twice_however_many_names_come_and_go() {
        let mut generations = Generations::default();
        let name = |n: usize| format!("w{n}").parse::<ChildName>().unwrap();
        let mut used = BTreeSet::new();
        for n in 0..5000 {
            let name = name(n % 3000);
            for _ in 0..2 {
                assert!(used.insert((name.clone(), advance(&mut generations, &name))));
            }
            generations.leave(&name, |_| false);
        }
        assert!(generations.last.len() <= GONE_MAX + 1);
    }

    #[test]
    fn the_next_life_goes_on_where_the_former_ended() {
        let name: ChildName = "w1".parse().unwrap();
        let mut former = Generations::default();
        advance(&mut former, &name);
        advance(&mut former, &name);
        let mut next = Generations::default();
        next.inherit(former, &BTreeSet::from([&name]));
        assert_eq!(advance(&mut next, &name), Generation(3));
    }
}
