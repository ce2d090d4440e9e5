//! The past: what is rebuilt from the events so far is what the board shows now, child by child,
//! and the tree as a whole.
//!
//! Left out are children of which an event was lost when their supervisor panicked, until they are
//! told of again. An outbox that is away is none of that: what it lost, a gap event would tell.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use provost::board::Board;
use provost::logic::history::{Heard, History};
use provost::protocol::fact::Fact;
use provost::protocol::id::{ChildName, SubjectId};
use provost::protocol::shown::ChildShown;
use provost::protocol::status::TreeNode;

use crate::simulation::check::Faults;
use crate::simulation::shape::Family;
use crate::simulation::world::{Moment, What};

/// Countdowns may differ by so much: they are whole milliseconds on both sides.
const APART_MAX_MS: u64 = 10;

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Past {
    history: History,
    lost: BTreeSet<ChildName>,
    /// How often the past was compared with the present.
    pub(super) compared: usize,
}

impl Past {
    pub(super) fn see(&mut self, family: &Family, moment: &Moment) {
        match &moment.what {
            What::Panicked(team) => {
                let children = family.kin.iter().filter(|(_, kin)| kin.parent == *team);
                self.lost.extend(children.map(|(name, _)| name.clone()));
                self.lost.insert(team.clone());
            }
            What::Event(id, draft) => {
                let causation = draft.causation.map(SubjectId::from);
                let source = format!("provost://node/{}/{}", draft.source.kind, draft.source.name);
                self.history.on_event(&Heard {
                    id: *id,
                    time: time_of(moment),
                    source: &source,
                    correlation: draft.correlation,
                    causation: causation.as_ref(),
                    fact: &draft.fact,
                });
                let told = match &draft.fact {
                    Fact::ChildChanged(shown) => Some(&shown.name),
                    Fact::AgentSpawned(spawned) => Some(&spawned.change.name),
                    Fact::AgentStateChanged(change) | Fact::AgentTerminated(change) => {
                        Some(&change.name)
                    }
                    Fact::ChildRemoved(removed) => Some(&removed.name),
                    _ => None,
                };
                if let Some(name) = told {
                    self.lost.remove(name);
                }
            }
            _ => {}
        }
    }

    pub(super) fn compare(
        &mut self,
        (family, now): (&Family, std::time::Duration),
        board: &Board,
        faults: &mut Faults,
    ) {
        self.compared += 1;
        let at = time_at(now);
        let instant = tokio::time::Instant::now().into_std();
        let root = &family.root.name;
        for name in family.kin.keys().chain([root]) {
            if self.lost.contains(name) {
                continue;
            }
            let shown = board.get(name).map(|entry| entry.shown(instant));
            let rebuilt = self.history.find(name.as_str()).map(|child| {
                let mut shown = child.shown.clone();
                (shown.circuit, shown.next) = (child.circuit(at), child.next(at));
                shown
            });
            if !alike(shown.clone(), rebuilt.clone()) {
                faults.push(format!("past: {name} at {now:?}: {shown:?}, rebuilt {rebuilt:?}"));
            }
        }
        if self.lost.is_empty() {
            let shown = board.tree(root, instant).map(|tree| drawn(&tree));
            let rebuilt = self.history.tree(at).map(|tree| drawn(&tree));
            if shown != rebuilt {
                faults.push(format!("past: the tree at {now:?}: {shown:?}, rebuilt {rebuilt:?}"));
            }
        }
    }
}

fn time_at(at: std::time::Duration) -> Timestamp {
    let since = SignedDuration::try_from(at).unwrap();
    Timestamp::from_second(1_700_000_000).unwrap().checked_add(since).unwrap()
}

fn time_of(moment: &Moment) -> Timestamp {
    time_at(moment.at)
}

fn alike(one: Option<ChildShown>, other: Option<ChildShown>) -> bool {
    let (Some(mut one), Some(mut other)) = (one.clone(), other.clone()) else {
        return one == other;
    };
    let near = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) <= APART_MAX_MS,
        (one, other) => one == other,
    };
    let countdowns = near(one.circuit.retry_after_ms, other.circuit.retry_after_ms)
        && near(one.next.map(|next| next.in_ms), other.next.map(|next| next.in_ms));
    for shown in [&mut one, &mut other] {
        shown.circuit.retry_after_ms = None;
        if let Some(next) = &mut shown.next {
            next.in_ms = 0;
        }
    }
    countdowns && one == other
}

/// Names and states in their order.
fn drawn(node: &TreeNode) -> String {
    let children: Vec<String> = node.children.iter().map(drawn).collect();
    format!("{} {} [{}]", node.name, node.state, children.join(", "))
}
