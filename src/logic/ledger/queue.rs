//! What is ready, in the order in which it comes next.
//!
//! A lane for each kind of needs; in a lane a level for each priority, in a level the tasks of each
//! submitter by the time from which on they were ready. Shares are kept for each level and
//! submitter over all lanes: whoever is served pays one, and comes again when the others have paid
//! as much. A submitter that comes back after a pause has saved nothing up.
//!
//! The cost of [`Queue::best`] is one look at each lane that may run and at each submitter of its
//! best level.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::logic::ledger::types::{Needs, TaskKey};
use crate::protocol::task::Priority;

/// Submitters whose shares are remembered for each level, at most; those that have no advantage are
/// forgotten first.
const SHARES_MAX: usize = 10_000;

/// When a task became ready, and which one it is.
pub(super) type Place = (Instant, TaskKey);

/// Where a task stands.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) needs: Arc<Needs>,
    pub(super) priority: Priority,
    pub(super) submitter: Arc<str>,
    pub(super) place: Place,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    ages: BTreeSet<Place>,
    levels: BTreeMap<Priority, BTreeMap<Arc<str>, BTreeSet<Place>>>,
}

#[derive(Clone, Debug, Default)]
struct Shares {
    /// What the submitter that was served last had paid before.
    served: u64,
    paid: BTreeMap<Arc<str>, u64>,
}

impl Shares {
    fn of(&self, submitter: &str) -> u64 {
        self.paid.get(submitter).copied().unwrap_or_default().max(self.served)
    }

    fn pay(&mut self, submitter: &Arc<str>) {
        let before = self.of(submitter);
        self.served = before;
        self.paid.insert(Arc::clone(submitter), before.saturating_add(1));
        if SHARES_MAX < self.paid.len() {
            let served = self.served;
            self.paid.retain(|_, paid| served < *paid);
        }
    }
}

/// All that is ready.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lanes: BTreeMap<Arc<Needs>, Lane>,
    shares: BTreeMap<Priority, Shares>,
    starve_after: Duration,
    length: usize,
}

fn leave(level: &mut BTreeMap<Arc<str>, BTreeSet<Place>>, ticket: &Ticket) {
    let Some(places) = level.get_mut(&ticket.submitter) else { return };
    places.remove(&ticket.place);
    if places.is_empty() {
        level.remove(&ticket.submitter);
    }
}

/// How two lanes' first tasks compare; the least comes first.
type Rank = (u8, u8, u64, Place);

impl Queue {
    pub(super) fn new(starve_after: Duration) -> Self {
        Self { lanes: BTreeMap::new(), shares: BTreeMap::new(), starve_after, length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, ticket: &Ticket) {
        let lane = self.lanes.entry(Arc::clone(&ticket.needs)).or_default();
        if lane.ages.insert(ticket.place) {
            self.length = self.length.saturating_add(1);
        }
        let level = lane.levels.entry(ticket.priority).or_default();
        level.entry(Arc::clone(&ticket.submitter)).or_default().insert(ticket.place);
    }

    pub(super) fn remove(&mut self, ticket: &Ticket) {
        let Some(lane) = self.lanes.get_mut(&ticket.needs) else { return };
        if lane.ages.remove(&ticket.place) {
            self.length = self.length.saturating_sub(1);
        }
        if let Some(level) = lane.levels.get_mut(&ticket.priority) {
            leave(level, ticket);
            if level.is_empty() {
                lane.levels.remove(&ticket.priority);
            }
        }
        if lane.ages.is_empty() {
            self.lanes.remove(&ticket.needs);
        }
    }

    /// Takes the task out and lets its submitter pay for it.
    pub(super) fn serve(&mut self, ticket: &Ticket) {
        self.remove(ticket);
        self.shares.entry(ticket.priority).or_default().pay(&ticket.submitter);
    }

    /// The first task of the lanes that may run.
    pub(super) fn best(
        &self,
        now: Instant,
        may_run: impl Fn(&Needs) -> bool,
    ) -> Option<(TaskKey, Arc<Needs>)> {
        let lanes = self.lanes.iter().filter(|(needs, _)| may_run(needs));
        let ranked = lanes.filter_map(|(needs, lane)| Some((self.rank(now, lane)?, needs)));
        let (rank, needs) = ranked.min_by(|one, other| one.0.cmp(&other.0))?;
        let (_, _, _, (_, key)) = rank;
        Some((key, Arc::clone(needs)))
    }

    fn rank(&self, now: Instant, lane: &Lane) -> Option<Rank> {
        let oldest = *lane.ages.first()?;
        if self.starve_after <= now.saturating_duration_since(oldest.0) {
            return Some((0, 0, 0, oldest));
        }
        let (priority, level) = lane.levels.last_key_value()?;
        let shares = self.shares.get(priority);
        let paid = |submitter: &str| shares.map_or(0, |shares| shares.of(submitter));
        let firsts = level
            .iter()
            .filter_map(|(submitter, places)| Some((paid(submitter), *places.first()?)));
        let (paid, place) = firsts.min()?;
        let urgency = match priority {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        };
        Some((1, urgency, paid, place))
    }
}
