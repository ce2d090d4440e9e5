//! The tree as rows: folded, ordered, filtered, each supervisor with the worst of what is under it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::agent_view::next as next_words;
use crate::cli::human::{age, span};
use crate::cli::top::model::history::is_open;
use crate::cli::top::model::picture::{Child, Picture};
use crate::cli::top::model::table::{Cell, Column, Row, Table, Tint, row_has_words};
use crate::protocol::fact::Severity;
use crate::protocol::id::ChildName;
use crate::protocol::status::{AgentState, AgentStatus, TreeNode};

const COLUMNS: &[Column] = &[
    Column { title: "NAME", min: 18, max: 36, keep: 9 },
    Column { title: "STATE", min: 15, max: 17, keep: 9 },
    Column { title: "RESTARTS", min: 8, max: 12, keep: 8 },
    Column { title: "NEXT", min: 11, max: 18, keep: 7 },
    Column { title: "SLOTS", min: 5, max: 9, keep: 5 },
    Column { title: "MEM", min: 5, max: 7, keep: 4 },
    Column { title: "CPU", min: 4, max: 5, keep: 4 },
    Column { title: "LOAD", min: 8, max: 8, keep: 1 },
    Column { title: "LAST EVENT", min: 20, max: 200, keep: 2 },
];

/// Cells of the line of load.
const SPARK: usize = 8;

/// What the rows are ordered by, among siblings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Sort {
    /// As they are started.
    #[default]
    Start,
    /// By name.
    Name,
    /// The worst state first.
    State,
    /// The most restarts first.
    Restarts,
    /// The most memory first.
    Memory,
    /// The most processor time first.
    Cpu,
}

impl Sort {
    const ALL: [Self; 6] =
        [Self::Start, Self::Name, Self::State, Self::Restarts, Self::Memory, Self::Cpu];

    /// The next one.
    pub(crate) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL.get(at.saturating_add(1)).copied().unwrap_or_default()
    }

    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Start => "start order",
            Self::Name => "name",
            Self::State => "state, worst first",
            Self::Restarts => "restarts",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }

    fn column(self) -> Option<usize> {
        match self {
            Self::Start => None,
            Self::Name => Some(0),
            Self::State => Some(1),
            Self::Restarts => Some(2),
            Self::Memory => Some(5),
            Self::Cpu => Some(6),
        }
    }
}

/// How the tree is looked at.
#[derive(Clone, Debug)]
pub(crate) struct TreeLook {
    /// Supervisors whose children are not shown.
    pub(crate) folded: BTreeSet<ChildName>,
    /// Order of siblings.
    pub(crate) sort: Sort,
}

/// The tree as a table.
pub(crate) fn table(picture: &Picture, look: &TreeLook, filter: &str, now: Timestamp) -> Table {
    let mut rows = Vec::new();
    let shower = Shower { picture, look, filter, now };
    if let Some((_, known)) = &picture.look {
        shower.add(&known.tree, "", "", &mut rows);
    }
    let empty = match (&picture.look, filter.is_empty()) {
        (None, _) => "waiting for the daemon's first answer",
        (Some(_), true) => "the tree is empty",
        (Some(_), false) => "nothing fits the filter; / changes it, Esc clears it",
    };
    Table {
        columns: COLUMNS,
        sorted: look.sort.column(),
        rows,
        empty: empty.to_owned(),
        above: Vec::new(),
    }
}

struct Shower<'a> {
    picture: &'a Picture,
    look: &'a TreeLook,
    filter: &'a str,
    now: Timestamp,
}

impl Shower<'_> {
    /// Adds a node and what is under it. What the filter leaves out is shown all the same where
    /// something under it fits.
    fn add(&self, node: &TreeNode, branch: &str, indent: &str, rows: &mut Vec<Row>) {
        let row = self.row(node, branch);
        let fits = row_has_words(&row, self.filter);
        let at = rows.len();
        rows.push(row);
        if !self.look.folded.contains(&node.name) || !self.filter.is_empty() {
            let children = self.ordered(&node.children);
            let last = children.len().saturating_sub(1);
            for (index, child) in children.into_iter().enumerate() {
                let (branch, below) = lines_to(index, last);
                let branch = format!("{indent}{branch}");
                self.add(child, &branch, &format!("{indent}{below}"), rows);
            }
        }
        if !fits && rows.len() == at.saturating_add(1) {
            rows.truncate(at);
        }
    }

    fn ordered<'t>(&self, children: &'t [TreeNode]) -> Vec<&'t TreeNode> {
        let mut children: Vec<&TreeNode> = children.iter().collect();
        let metrics = |node: &TreeNode| {
            let agent = self.picture.agent(node.name.as_str());
            agent.map(|agent| agent.health.metrics).unwrap_or_default()
        };
        match self.look.sort {
            Sort::Start => {}
            Sort::Name => children.sort_by(|one, other| one.name.cmp(&other.name)),
            Sort::State => children.sort_by_key(|node| std::cmp::Reverse(worst(node).0)),
            Sort::Restarts => children.sort_by_key(|node| std::cmp::Reverse(node.restarts)),
            Sort::Memory => children.sort_by(|one, other| {
                let size = |node| metrics(node).memory_mb.unwrap_or(-1.0);
                size(other).total_cmp(&size(one))
            }),
            Sort::Cpu => children.sort_by(|one, other| {
                let cores = |node| metrics(node).cpu_usage.unwrap_or(-1.0);
                cores(other).total_cmp(&cores(one))
            }),
        }
        children
    }

    fn row(&self, node: &TreeNode, branch: &str) -> Row {
        let name = node.name.as_str();
        let agent = self.picture.agent(name);
        let child = self.picture.child(name);
        let fold = match (node.children.is_empty(), self.look.folded.contains(&node.name)) {
            (true, _) => "",
            (false, true) => "▸ ",
            (false, false) => "▾ ",
        };
        let last = child.and_then(|child| child.event.as_ref());
        let last = last.map(|event| {
            let text = format!("{} ago {}", age(self.now, event.at), event.text);
            Cell::tinted(text, of_severity(event.severity))
        });
        let metrics = agent.map(|agent| agent.health.metrics).unwrap_or_default();
        let spark = self.picture.loads(name).map(|loads| loads.spark(SPARK)).unwrap_or_default();
        Row {
            key: name.to_owned(),
            cells: vec![
                format!("{branch}{fold}{name}").into(),
                state_cell(node),
                self.restarts(node, child).into(),
                self.next(node, agent).into(),
                self.slots(name).into(),
                metrics.memory_mb.map(memory).unwrap_or_default().into(),
                metrics.cpu_usage.map(|cores| format!("{cores:.2}")).unwrap_or_default().into(),
                Cell::tinted(spark, Tint::Faint),
                last.clone().unwrap_or_default(),
            ],
            more: match last {
                Some(cell) => cell.text,
                None => node.reason.clone(),
            },
        }
    }

    /// All restarts, and in brackets those in the window against the limit.
    fn restarts(&self, node: &TreeNode, child: Option<&Child>) -> String {
        let own = node.limit.map(|limit| (limit.intensity, limit.period));
        let limit = own.or_else(|| child.and_then(Child::limit));
        let total = node.restarts;
        match limit {
            Some((most, window)) => {
                let within =
                    |window: Duration| child.map_or(0, |child| child.restarts_in(window, self.now));
                format!("{total} ({}/{most})", within(window))
            }
            None => total.to_string(),
        }
    }

    fn next(&self, node: &TreeNode, agent: Option<&AgentStatus>) -> String {
        let next = agent.and_then(|agent| self.picture.next_of(agent, self.now));
        if let Some(next) = next {
            return next_words(next).replace(" in ", " ");
        }
        let due = node.circuit.retry_after_ms.filter(|_| is_open(node.circuit.state));
        due.map(|due| format!("trial {}", span(self.picture.left(due, self.now))))
            .unwrap_or_default()
    }

    fn slots(&self, name: &str) -> String {
        let slots = self.picture.look.as_ref().and_then(|(_, look)| look.slots.get(name));
        slots.map(|(taken, all)| format!("{taken}/{all}")).unwrap_or_default()
    }
}

/// What stands before a child, and before what is under it.
fn lines_to(index: usize, last: usize) -> (&'static str, &'static str) {
    if index == last { ("└ ", "  ") } else { ("├ ", "│ ") }
}

/// The worst state of a node and all under it, and how many are in it.
fn worst(node: &TreeNode) -> (u8, AgentState, usize) {
    let own = (rank(node.state), node.state, 1);
    node.children.iter().map(worst).fold(own, |one, other| {
        if one.1 == other.1 {
            (one.0, one.1, one.2.saturating_add(other.2))
        } else if one.0 < other.0 {
            other
        } else {
            one
        }
    })
}

/// From this rank on a child's state is shown by its parents.
const TELLING: u8 = 4;

/// How bad a state is, in comparison.
pub(crate) fn rank(state: AgentState) -> u8 {
    match state {
        AgentState::Running => 0,
        AgentState::Created => 1,
        AgentState::Stopped | AgentState::Terminated => 2,
        AgentState::Starting | AgentState::Stopping => 3,
        AgentState::Parked => 4,
        AgentState::Degraded => 5,
        AgentState::Probation => 6,
        AgentState::Backoff => 7,
        AgentState::Quarantined => 8,
    }
}

fn state_cell(node: &TreeNode) -> Cell {
    let (rank_of_worst, state, count) = worst(node);
    if node.children.is_empty() || state == node.state || rank_of_worst < TELLING {
        return state_of(node.state);
    }
    Cell::tinted(format!("{} {count} {state}", glyph(state)), tint(state))
}

/// A state as glyph and word.
pub(crate) fn state_of(state: AgentState) -> Cell {
    Cell::tinted(format!("{} {state}", glyph(state)), tint(state))
}

/// Each state has its shape, so that it is seen without colour.
pub(crate) fn glyph(state: AgentState) -> char {
    match state {
        AgentState::Running => '●',
        AgentState::Created => '○',
        AgentState::Starting => '◐',
        AgentState::Stopping => '◑',
        AgentState::Degraded => '▲',
        AgentState::Backoff => '↻',
        AgentState::Quarantined => '✘',
        AgentState::Probation => '◔',
        AgentState::Parked => '‖',
        AgentState::Stopped => '■',
        AgentState::Terminated => '□',
    }
}

/// What a state means.
pub(crate) fn tint(state: AgentState) -> Tint {
    match state {
        AgentState::Running => Tint::Good,
        AgentState::Created | AgentState::Starting | AgentState::Stopping => Tint::Busy,
        AgentState::Degraded | AgentState::Backoff | AgentState::Probation | AgentState::Parked => {
            Tint::Warn
        }
        AgentState::Quarantined => Tint::Bad,
        AgentState::Stopped | AgentState::Terminated => Tint::Faint,
    }
}

/// What a severity means.
pub(crate) fn of_severity(severity: Severity) -> Tint {
    match severity {
        Severity::Info | Severity::Low => Tint::Plain,
        Severity::Medium => Tint::Warn,
        Severity::High | Severity::Critical => Tint::Bad,
    }
}

/// A size in MiB, short: `512M`, `1.5G`.
pub(crate) fn memory(mebibytes: f64) -> String {
    if mebibytes < 1024.0 {
        format!("{mebibytes:.0}M")
    } else {
        format!("{:.1}G", mebibytes / 1024.0)
    }
}
