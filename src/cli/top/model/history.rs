//! What was over time: the states of a circuit, and the load of an agent.
//!
//! Both are bounded; the oldest goes first.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::protocol::status::CircuitState;

/// Changes kept of one circuit.
const CHANGES_MAX: usize = 256;

/// Measured loads kept of one agent.
const LOADS_MAX: usize = 60;

/// The changes of one circuit, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circuits {
    changes: VecDeque<Change>,
    opened: u64,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    at: Timestamp,
    from: CircuitState,
    to: CircuitState,
}

impl Circuits {
    /// Takes a change in.
    pub(crate) fn changed(&mut self, at: Timestamp, from: CircuitState, to: CircuitState) {
        if is_open(to) && !is_open(from) {
            self.opened = self.opened.saturating_add(1);
        }
        self.changes.push_back(Change { at, from, to });
        if CHANGES_MAX < self.changes.len() {
            self.changes.pop_front();
        }
    }

    /// How often it opened, as far as events tell.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// The worst state in each of so many slices of time that end now; `None` before `known`.
    pub(crate) fn strip(
        &self,
        (now, known): (Timestamp, Option<Timestamp>),
        (cells, slice): (usize, Duration),
        present: CircuitState,
    ) -> Vec<Option<CircuitState>> {
        let before = |steps: usize| {
            let back = slice.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
            let back = SignedDuration::try_from(back).unwrap_or(SignedDuration::MAX);
            now.checked_sub(back).unwrap_or(Timestamp::MIN)
        };
        let cell = |index: usize| {
            let left = cells.saturating_sub(index);
            let (start, end) = (before(left), before(left.saturating_sub(1)));
            known.is_some_and(|known| known < end).then(|| self.worst(start, end, present))
        };
        (0..cells).map(cell).collect()
    }

    /// The worst state between two moments.
    fn worst(&self, start: Timestamp, end: Timestamp, present: CircuitState) -> CircuitState {
        let first = self.changes.iter().find(|change| start < change.at);
        let at_start = first.map_or(present, |change| change.from);
        let within = self.changes.iter().filter(|change| start < change.at && change.at <= end);
        within.map(|change| change.to).fold(at_start, worse)
    }
}

/// Whether a circuit in this state lets nothing pass.
pub(crate) fn is_open(state: CircuitState) -> bool {
    match state {
        CircuitState::Open | CircuitState::ForcedOpen => true,
        CircuitState::Closed | CircuitState::HalfOpen | CircuitState::ForcedClosed => false,
    }
}

fn worse(one: CircuitState, other: CircuitState) -> CircuitState {
    let rank = |state| match state {
        CircuitState::Closed => 0,
        CircuitState::ForcedClosed => 1,
        CircuitState::HalfOpen => 2,
        CircuitState::Open => 3,
        CircuitState::ForcedOpen => 4,
    };
    if rank(one) < rank(other) { other } else { one }
}

/// The load of one agent at each look, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads(VecDeque<Option<f64>>);

impl Loads {
    /// Takes a measured load in; `None` where it cannot be known.
    pub(crate) fn push(&mut self, cores: Option<f64>) {
        self.0.push_back(cores);
        if LOADS_MAX < self.0.len() {
            self.0.pop_front();
        }
    }

    /// The newest loads as bars, each as high as its share of the highest, or of a tenth of a core
    /// where that is more: an idle agent has a flat line.
    pub(crate) fn spark(&self, cells: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let from = self.0.len().saturating_sub(cells);
        let shown = || self.0.iter().skip(from).copied();
        let top = shown().flatten().fold(0.1, f64::max);
        let bar = |cores: f64| {
            let height = |step: &usize| {
                let step = u32::try_from(*step).unwrap_or(0);
                f64::from(step) / 8.0 < cores / top
            };
            let index = (1..BARS.len()).take_while(height).count();
            BARS.get(index).copied().unwrap_or('▁')
        };
        shown().map(|cores| cores.map_or(' ', bar)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn strip(circuits: &Circuits, present: CircuitState) -> String {
        let letter = |state: Option<CircuitState>| match state {
            None => '.',
            Some(CircuitState::Closed) => 'c',
            Some(CircuitState::HalfOpen) => 'h',
            Some(CircuitState::Open) => 'o',
            Some(CircuitState::ForcedOpen) => 'O',
            Some(CircuitState::ForcedClosed) => 'C',
        };
        let window = (at(100), Some(at(25)));
        let cells = circuits.strip(window, (10, Duration::from_secs(10)), present);
        cells.into_iter().map(letter).collect()
    }

    #[test]
    fn a_strip_shows_the_worst_state_of_each_slice_and_nothing_from_before() {
        let mut circuits = Circuits::default();
        assert_eq!(strip(&circuits, CircuitState::Closed), "..cccccccc");
        circuits.changed(at(45), CircuitState::Closed, CircuitState::Open);
        circuits.changed(at(65), CircuitState::Open, CircuitState::HalfOpen);
        circuits.changed(at(68), CircuitState::HalfOpen, CircuitState::Open);
        circuits.changed(at(81), CircuitState::Open, CircuitState::HalfOpen);
        circuits.changed(at(85), CircuitState::HalfOpen, CircuitState::Closed);
        assert_eq!(strip(&circuits, CircuitState::Closed), "..ccoooooc");
        assert_eq!(circuits.opened(), 2);
        circuits.changed(at(95), CircuitState::Closed, CircuitState::ForcedOpen);
        assert_eq!(strip(&circuits, CircuitState::ForcedOpen), "..ccoooooO");
    }

    #[test]
    fn the_changes_and_loads_kept_are_bounded() {
        let mut circuits = Circuits::default();
        for second in 0..2_000 {
            circuits.changed(at(second), CircuitState::Closed, CircuitState::Open);
        }
        assert_eq!((circuits.changes.len(), circuits.opened()), (CHANGES_MAX, 2_000));
        let mut loads = Loads::default();
        for _ in 0..1_000 {
            loads.push(Some(1.0));
        }
        assert_eq!(loads.0.len(), LOADS_MAX);
    }

    #[test]
    fn a_load_is_a_bar_and_an_unknown_one_a_gap() {
        let mut loads = Loads::default();
        for cores in [Some(0.0), Some(0.5), None, Some(1.0)] {
            loads.push(cores);
        }
        assert_eq!(loads.spark(8), "▁▄ █");
        assert_eq!(loads.spark(2), " █");
        let mut idle = Loads::default();
        idle.push(Some(0.001));
        assert_eq!(idle.spark(8), "▁");
    }
}
