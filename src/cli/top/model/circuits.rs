//! The circuits of downstreams, and of agents whose circuit has moved, as rows.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::human::span;
use crate::cli::top::model::history::{Circuits, is_open};
use crate::cli::top::model::picture::Picture;
use crate::cli::top::model::table::{Cell, Column, Row, Table, Tint, row_has_words};
use crate::protocol::downstream::{DownstreamStatus, ServiceVerdict};
use crate::protocol::status::{CircuitState, CircuitStatus};

const COLUMNS: &[Column] = &[
    Column { title: "NAME", min: 12, max: 28, keep: 9 },
    Column { title: "CIRCUIT", min: 11, max: 15, keep: 9 },
    Column { title: "NEXT", min: 10, max: 14, keep: 8 },
    Column { title: "OPENED", min: 6, max: 6, keep: 7 },
    Column { title: "OVER TIME", min: STRIP, max: STRIP, keep: 6 },
    Column { title: "CALLS", min: 7, max: 10, keep: 3 },
    Column { title: "FAILED", min: 6, max: 9, keep: 4 },
    Column { title: "REJECTED", min: 8, max: 9, keep: 5 },
    Column { title: "KIND", min: 9, max: 14, keep: 1 },
    Column { title: "HEALTH", min: 12, max: 60, keep: 2 },
];

/// Cells of a strip.
const STRIP: usize = 20;

/// How far back a strip goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Reach {
    /// Ten minutes.
    #[default]
    Minutes,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Reach {
    /// The next one.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Minutes => Self::Hour,
            Self::Hour => Self::Day,
            Self::Day => Self::Minutes,
        }
    }

    /// Its words.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Minutes => "10 minutes",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn slice(self, cells: usize) -> Duration {
        let seconds = match self {
            Self::Minutes => 600,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        };
        let cells = u32::try_from(cells).unwrap_or(u32::MAX);
        Duration::from_secs(seconds).checked_div(cells).unwrap_or(Duration::from_secs(1))
    }
}

/// The circuits as a table.
pub(crate) fn table(picture: &Picture, reach: Reach, filter: &str, now: Timestamp) -> Table {
    let mut rows = Vec::new();
    let (told, downstreams) = match &picture.downstreams {
        Some((told, all)) => (*told, all.as_slice()),
        None => (now, &[][..]),
    };
    let passed = u64::try_from(now.duration_since(told).as_millis()).unwrap_or(0);
    // What the daemon's status names but has not been asked about yet is shown as far as known.
    let mut circuits: BTreeMap<&str, (CircuitStatus, Option<&DownstreamStatus>)> = BTreeMap::new();
    if let Some(system) = picture.system() {
        let known = system.downstreams.iter();
        circuits.extend(known.map(|(name, circuit)| (name.as_str(), (*circuit, None))));
    }
    for status in downstreams {
        let mut circuit = status.circuit;
        circuit.retry_after_ms = circuit.retry_after_ms.map(|due| due.saturating_sub(passed));
        circuits.insert(status.name.as_str(), (circuit, Some(status)));
    }
    for (name, (circuit, status)) in &circuits {
        rows.push(row(picture, name, (*circuit, *status), (reach, now)));
    }
    for agent in picture.agents() {
        let name = agent.name.as_str();
        let moved = picture.child(name).is_some_and(|child| 0 < child.circuits.opened());
        if agent.circuit.state != CircuitState::Closed || moved {
            let mut circuit = agent.circuit;
            circuit.retry_after_ms = circuit.retry_after_ms.map(|due| picture.left(due, now));
            rows.push(row(picture, name, (circuit, None), (reach, now)));
        }
    }
    rows.retain(|row| row_has_words(row, filter));
    let empty = if filter.is_empty() {
        "no downstream is configured, and no agent's circuit has opened"
    } else {
        "nothing fits the filter; / changes it, Esc clears it"
    };
    let above = format!("over time: the last {}; ▁ closed  ▄ half open  █ open", reach.word());
    Table {
        columns: COLUMNS,
        sorted: None,
        rows,
        empty: empty.to_owned(),
        above: vec![Cell::tinted(above, Tint::Faint)],
    }
}

fn row(
    picture: &Picture,
    name: &str,
    (circuit, status): (CircuitStatus, Option<&DownstreamStatus>),
    (reach, now): (Reach, Timestamp),
) -> Row {
    let history = picture.child(name).map(|child| &child.circuits);
    let opened = history.map_or(0, Circuits::opened);
    let counts = status.map(|status| status.counts);
    let count = |pick: fn(crate::protocol::downstream::CallCounts) -> u64| {
        counts.map(|counts| pick(counts).to_string()).unwrap_or_default()
    };
    let next = match (circuit.retry_after_ms, is_open(circuit.state)) {
        (Some(due), true) => format!("trial {}", span(due)),
        (_, _) => String::new(),
    };
    let agent = picture.agent(name).map(|agent| agent.agent_type.as_str());
    let more = picture.child(name).and_then(|child| child.event.as_ref());
    Row {
        key: name.to_owned(),
        cells: vec![
            name.into(),
            circuit_cell(circuit.state),
            next.into(),
            opened.to_string().into(),
            strip(picture, (name, circuit.state), STRIP, (reach, now)),
            count(|counts| counts.calls).into(),
            count(|counts| counts.failed).into(),
            count(|counts| counts.refused).into(),
            status.map(|status| status.kind.as_str()).or(agent).unwrap_or_default().into(),
            status.map(health).unwrap_or_default(),
        ],
        more: more.map(|event| event.text.clone()).unwrap_or_default(),
    }
}

/// The states of a circuit over time, as a strip.
pub(crate) fn strip(
    picture: &Picture,
    (name, present): (&str, CircuitState),
    cells: usize,
    (reach, now): (Reach, Timestamp),
) -> Cell {
    let none = Circuits::default();
    let history = picture.child(name).map_or(&none, |child| &child.circuits);
    let known = picture.known_since();
    let states = history.strip((now, known), (cells, reach.slice(cells)), present);
    let shape = |state: Option<CircuitState>| match state {
        None => '·',
        Some(CircuitState::Closed | CircuitState::ForcedClosed) => '▁',
        Some(CircuitState::HalfOpen) => '▄',
        Some(CircuitState::Open | CircuitState::ForcedOpen) => '█',
    };
    Cell::tinted(states.into_iter().map(shape).collect::<String>(), tint(present))
}

/// A circuit's state as glyph and word.
pub(crate) fn circuit_cell(state: CircuitState) -> Cell {
    let glyph = match state {
        CircuitState::Closed | CircuitState::ForcedClosed => '●',
        CircuitState::HalfOpen => '◔',
        CircuitState::Open | CircuitState::ForcedOpen => '✘',
    };
    Cell::tinted(format!("{glyph} {}", state.as_str().replace('_', " ")), tint(state))
}

fn tint(state: CircuitState) -> Tint {
    match state {
        CircuitState::Closed => Tint::Good,
        CircuitState::HalfOpen | CircuitState::ForcedClosed => Tint::Warn,
        CircuitState::Open | CircuitState::ForcedOpen => Tint::Bad,
    }
}

fn health(status: &DownstreamStatus) -> Cell {
    let Some(health) = &status.health else { return "not checked yet".into() };
    let (word, tint) = match health.status {
        ServiceVerdict::Up => ("UP", Tint::Good),
        ServiceVerdict::Down => ("DOWN", Tint::Bad),
        ServiceVerdict::Error => ("ERROR", Tint::Warn),
    };
    let took = health.latency_ms.map(|took| format!(" {took:.1}ms")).unwrap_or_default();
    let details = health.details.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    Cell::tinted(format!("{word}{took}{details}"), tint)
}
