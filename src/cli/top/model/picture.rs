//! What the daemon has told: the last answers, and what the events since say besides.
//!
//! Answers replace what was there; events are added. When the daemon is away the last picture
//! stays, with the time it is of. Not here: what of it is shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cli::client::Seen;
use crate::cli::event_text::{is_bookkeeping, name_of, what};
use crate::cli::top::model::history::{Circuits, Loads, is_open};
use crate::protocol::command::SystemStatus;
use crate::protocol::decision::{NextAction, NextKind};
use crate::protocol::downstream::DownstreamStatus;
use crate::protocol::fact::{Decided, Fact, Severity};
use crate::protocol::id::EventId;
use crate::protocol::status::{AgentState, AgentStatus, CircuitStatus, TreeNode};
use crate::protocol::task::TaskRecord;
use crate::transport::dead_letters::Kept;

/// Events kept; the oldest go first.
pub(crate) const EVENTS_MAX: usize = 2_000;

/// Restarts remembered of one child.
const RESTARTS_MAX: usize = 128;

/// Children that events are remembered for; what the tree does not have goes first.
const CHILDREN_MAX: usize = 10_000;

/// What one look at the daemon brought.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// The daemon.
    pub(crate) system: SystemStatus,
    /// The tree.
    pub(crate) tree: TreeNode,
    /// The agents.
    pub(crate) agents: Vec<AgentStatus>,
    /// Tasks under way and slots, by name of the agent, where tasks are given out.
    pub(crate) slots: BTreeMap<String, (u32, u32)>,
    /// Dead letters that are kept, if anything keeps them.
    pub(crate) letters: Option<u64>,
}

/// Something new.
#[derive(Debug)]
pub(crate) enum News {
    /// The daemon answered.
    Looked(Box<Look>),
    /// The daemon does not answer, and why.
    Away(String),
    /// An event.
    Event(Box<Seen>),
    /// How the downstreams are.
    Downstreams(Vec<DownstreamStatus>),
    /// The tasks, or why they are not known.
    Tasks(Result<Vec<Task>, String>),
    /// The dead letters, or why they are not known.
    Letters(Result<Vec<Kept>, String>),
    /// The end of an agent's log, or why it is not known.
    Log(String, Result<Vec<String>, String>),
    /// The life of a task in lines, or why it is not known.
    History(String, Result<Vec<String>, String>),
    /// What became of a command.
    Done(Outcome),
}

/// What became of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// The command as typed.
    pub(crate) line: String,
    /// What it printed, when it was done.
    pub(crate) result: Result<Vec<String>, Vec<String>>,
}

/// A task: its last record, or its submission.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    /// Id.
    pub(crate) id: String,
    /// Type.
    pub(crate) kind: String,
    /// State.
    pub(crate) state: String,
    /// Sequence of its submission: the order of arrival.
    pub(crate) submission: u64,
    /// Its last record; none while it waits for an agent.
    pub(crate) record: Option<Box<TaskRecord>>,
}

/// The daemon does not answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Away {
    /// Since when.
    pub(crate) since: Timestamp,
    /// Why.
    pub(crate) why: String,
}

/// What the last event about a child was.
#[derive(Clone, Debug)]
pub(crate) struct LastEvent {
    pub(crate) at: Timestamp,
    pub(crate) severity: Severity,
    pub(crate) text: String,
}

/// The last decision about a child, and the event that told it.
#[derive(Clone, Debug)]
pub(crate) struct LastDecision {
    pub(crate) at: Timestamp,
    pub(crate) decided: Decided,
}

/// What the events say about one child.
#[derive(Clone, Debug, Default)]
pub(crate) struct Child {
    /// The last event that is more than a decision's record.
    pub(crate) event: Option<LastEvent>,
    /// The last decision.
    pub(crate) decision: Option<LastDecision>,
    /// Changes of its circuit.
    pub(crate) circuits: Circuits,
    /// When it was restarted.
    restarts: VecDeque<Timestamp>,
}

/// What the daemon has told.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    /// The last look, and when it was.
    pub(crate) look: Option<(Timestamp, Box<Look>)>,
    /// Whether and since when the daemon is away.
    pub(crate) away: Option<Away>,
    /// The downstreams, and when that was told.
    pub(crate) downstreams: Option<(Timestamp, Vec<DownstreamStatus>)>,
    /// The tasks.
    pub(crate) tasks: Option<Result<Vec<Task>, String>>,
    /// The dead letters.
    pub(crate) letters: Option<Result<Vec<Kept>, String>>,
    /// The end of a log: whose, and its lines.
    pub(crate) log: Option<(String, Result<Vec<String>, String>)>,
    /// Events, oldest first.
    pub(crate) events: VecDeque<Seen>,
    ids: BTreeSet<EventId>,
    /// Where an agent stands in the last look, by its name and by its id.
    places: BTreeMap<String, usize>,
    children: BTreeMap<String, Child>,
    loads: BTreeMap<String, Loads>,
}

impl Picture {
    /// Takes a look at the daemon in.
    pub(crate) fn looked(&mut self, look: Box<Look>, now: Timestamp) {
        for agent in &look.agents {
            let loads = self.loads.entry(agent.name.to_string()).or_default();
            loads.push(agent.health.metrics.cpu_usage);
        }
        self.places.clear();
        for (place, agent) in look.agents.iter().enumerate() {
            self.places.insert(agent.agent_id.to_string(), place);
        }
        // A name goes before an id that is written like it.
        for (place, agent) in look.agents.iter().enumerate() {
            self.places.insert(agent.name.to_string(), place);
        }
        let known: BTreeSet<&str> = look.agents.iter().map(|agent| agent.name.as_str()).collect();
        self.loads.retain(|name, _| known.contains(name.as_str()));
        self.look = Some((now, look));
        self.away = None;
    }

    /// The daemon does not answer.
    pub(crate) fn went_away(&mut self, why: String, now: Timestamp) {
        match &mut self.away {
            Some(away) => away.why = why,
            None => self.away = Some(Away { since: now, why }),
        }
    }

    /// Takes an event in; one that is known already changes nothing, nor does one that only tells
    /// again how a child is shown: the next look has that.
    pub(crate) fn happened(&mut self, seen: Seen) {
        if is_bookkeeping(&seen.envelope) || !self.ids.insert(seen.envelope.id) {
            return;
        }
        self.note(&seen);
        self.events.push_back(seen);
        if EVENTS_MAX < self.events.len()
            && let Some(oldest) = self.events.pop_front()
        {
            self.ids.remove(&oldest.envelope.id);
        }
    }

    fn note(&mut self, seen: &Seen) {
        let event = &seen.envelope;
        let fact = Fact::read(&event.event_type, &event.data).ok().flatten();
        let name = name_of(event).to_owned();
        if CHILDREN_MAX <= self.children.len() && !self.children.contains_key(&name) {
            self.forget();
        }
        if let Some(Fact::Decision(decided)) = &fact
            && restarts(decided.record.next.action)
        {
            self.restarted(decided.supervisor.as_str(), event.time);
        }
        let child = self.children.entry(name).or_default();
        match fact {
            Some(Fact::Decision(decided)) => {
                if restarts(decided.record.next.action) {
                    child.restarted(event.time);
                }
                child.decision = Some(LastDecision { at: event.time, decided: *decided });
                // The failure or change beside it says the same in words.
                return;
            }
            Some(Fact::Circuit(change)) => {
                child.circuits.changed(event.time, change.from, change.to);
            }
            Some(_) | None => {}
        }
        let text = what(event);
        child.event = Some(LastEvent { at: event.time, severity: event.severity, text });
    }

    fn restarted(&mut self, supervisor: &str, at: Timestamp) {
        let child = self.children.entry(supervisor.to_owned()).or_default();
        child.restarted(at);
    }

    /// Forgets what events said about children that are not in the tree.
    fn forget(&mut self) {
        let mut known = BTreeSet::new();
        if let Some((_, look)) = &self.look {
            names(&look.tree, &mut known);
        }
        self.children.retain(|name, _| known.contains(name.as_str()));
    }

    /// What the events say about a child.
    pub(crate) fn child(&self, name: &str) -> Option<&Child> {
        self.children.get(name)
    }

    /// The loads of an agent.
    pub(crate) fn loads(&self, name: &str) -> Option<&Loads> {
        self.loads.get(name)
    }

    /// The agents.
    pub(crate) fn agents(&self) -> &[AgentStatus] {
        self.look.as_ref().map_or(&[], |(_, look)| look.agents.as_slice())
    }

    /// An agent by its name.
    pub(crate) fn agent(&self, name: &str) -> Option<&AgentStatus> {
        let agent = self.agents().get(*self.places.get(name)?);
        agent.filter(|agent| agent.name.as_str() == name)
    }

    /// The daemon.
    pub(crate) fn system(&self) -> Option<&SystemStatus> {
        self.look.as_ref().map(|(_, look)| &look.system)
    }

    /// The name of an agent, for its id.
    pub(crate) fn name_for<'p>(&'p self, id: &'p str) -> &'p str {
        let place = self.places.get(id).copied();
        let agent = place.and_then(|place| self.agents().get(place));
        agent.map_or(id, |agent| agent.name.as_str())
    }

    /// Circuits that let nothing pass, of agents and downstreams.
    pub(crate) fn open_circuits(&self) -> usize {
        let agents = self.agents().iter().filter(|agent| is_open(agent.circuit.state)).count();
        let downstreams = self.system().map(|system| &system.downstreams);
        let open = |circuit: &&CircuitStatus| is_open(circuit.state);
        agents + downstreams.map_or(0, |known| known.values().filter(open).count())
    }

    /// The moment before which nothing is known of circuits.
    pub(crate) fn known_since(&self) -> Option<Timestamp> {
        let first = self.events.front().map(|seen| seen.envelope.time);
        first.or(self.look.as_ref().map(|(at, _)| *at))
    }

    /// What happens next to an agent, counted down to now.
    pub(crate) fn next_of(&self, agent: &AgentStatus, now: Timestamp) -> Option<NextAction> {
        let next = agent.next.filter(|next| next.action != NextKind::None)?;
        Some(NextAction { action: next.action, in_ms: self.left(next.in_ms, now) })
    }

    /// What is left of a time that the last look told. Since the daemon is away nobody knows: it
    /// stands still.
    pub(crate) fn left(&self, milliseconds: u64, now: Timestamp) -> u64 {
        let now = self.away.as_ref().map_or(now, |away| away.since);
        let told = self.look.as_ref().map_or(now, |(at, _)| *at);
        since(told, now).map_or(milliseconds, |passed| milliseconds.saturating_sub(passed))
    }

    /// Whether anything shown runs with the clock.
    pub(crate) fn ticks(&self) -> bool {
        self.away.is_some()
            || self.agents().iter().any(|agent| {
                agent.next.is_some()
                    || agent.circuit.retry_after_ms.is_some()
                    || agent.state != AgentState::Running
            })
            || self.downstreams.iter().any(|(_, all)| {
                all.iter().any(|downstream| downstream.circuit.retry_after_ms.is_some())
            })
    }
}

impl Child {
    fn restarted(&mut self, at: Timestamp) {
        self.restarts.push_back(at);
        if RESTARTS_MAX < self.restarts.len() {
            self.restarts.pop_front();
        }
    }

    /// Restarts in a window that ends now.
    pub(crate) fn restarts_in(&self, window: Duration, now: Timestamp) -> usize {
        let window = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX);
        let start = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        self.restarts.iter().filter(|at| start < **at).count()
    }

    /// The limit of its last decision: restarts, and the window they count in.
    pub(crate) fn limit(&self) -> Option<(u32, Duration)> {
        let rule = &self.decision.as_ref()?.decided.record.rule;
        Some((rule.intensity?, Duration::from_millis(rule.period_ms?)))
    }
}

/// Milliseconds between two moments; `None` where the second is not the later one.
fn since(then: Timestamp, now: Timestamp) -> Option<u64> {
    u64::try_from(now.duration_since(then).as_millis()).ok()
}

fn restarts(action: NextKind) -> bool {
    match action {
        NextKind::Restart | NextKind::RestartGroup => true,
        NextKind::Trial
        | NextKind::Stable
        | NextKind::Escalate
        | NextKind::StopTree
        | NextKind::Stop
        | NextKind::Assign
        | NextKind::Wait
        | NextKind::None => false,
    }
}

fn names<'t>(node: &'t TreeNode, known: &mut BTreeSet<&'t str>) {
    known.insert(node.name.as_str());
    for child in &node.children {
        names(child, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::noon;
    use crate::cli::top::sample::{ago, decision, event, look, model};

    #[test]
    fn an_event_that_comes_twice_counts_once() {
        let mut picture = Picture::default();
        for _ in 0..3 {
            picture.happened(decision(6, "w", 20, "restart"));
        }
        assert_eq!(picture.events.len(), 1);
        let child = picture.child("w").unwrap();
        assert_eq!(child.restarts_in(Duration::from_secs(60), noon()), 1);
    }

    #[test]
    fn restarts_are_counted_in_their_window() {
        let mut picture = Picture::default();
        for (number, seconds) in [(2, 90), (4, 59), (6, 30), (8, 1)] {
            picture.happened(decision(number, "w", seconds, "restart"));
        }
        picture.happened(decision(10, "w", 1, "trial"));
        let child = picture.child("w").unwrap();
        for (window, count) in [(120, 4), (60, 3), (30, 1), (0, 0)] {
            let window = Duration::from_secs(window);
            assert_eq!(child.restarts_in(window, noon()), count, "{window:?}");
        }
        assert_eq!(child.limit(), Some((5, Duration::from_secs(60))));
        let supervisor = picture.child("agents").unwrap();
        assert_eq!(supervisor.restarts_in(Duration::from_secs(60), noon()), 3);
    }

    #[test]
    fn the_events_kept_are_bounded_and_one_that_is_gone_may_come_again() {
        let mut picture = Picture::default();
        let gap = || serde_json::json!({"dropped": 1});
        let all = u32::try_from(EVENTS_MAX).unwrap() + 10;
        for number in 0..all {
            picture.happened(event(number, ("supervision.gap", "w"), 1, gap()));
        }
        assert_eq!((picture.events.len(), picture.ids.len()), (EVENTS_MAX, EVENTS_MAX));
        picture.happened(event(0, ("supervision.gap", "w"), 1, gap()));
        assert_eq!(picture.events.len(), EVENTS_MAX);
    }

    #[test]
    fn what_is_told_as_a_span_is_counted_down() {
        let model = model();
        let agent = model.picture.agent("cruncher").unwrap();
        for (later, left) in [(0, 21_000), (20, 1_000), (21, 0), (99, 0), (-5, 21_000)] {
            let next = model.picture.next_of(agent, ago(-later)).unwrap();
            assert_eq!(next.in_ms, left, "{later}");
        }
    }

    #[test]
    fn the_time_of_an_outage_is_that_of_its_first_sign() {
        let mut picture = Picture::default();
        picture.went_away("one".to_owned(), ago(9));
        picture.went_away("two".to_owned(), ago(3));
        assert_eq!(picture.away, Some(Away { since: ago(9), why: "two".to_owned() }));
        picture.looked(Box::new(look()), noon());
        assert_eq!(picture.away, None);
    }

    #[test]
    fn circuits_that_are_open_are_counted_for_agents_and_downstreams() {
        assert_eq!(model().picture.open_circuits(), 2);
        assert_eq!(Picture::default().open_circuits(), 0);
    }
}
