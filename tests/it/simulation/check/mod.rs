//! The checkers. Each is written from what was asked for and what was seen, never from what the
//! supervisors keep for themselves.
//!
//! A fault begins with the name of its rule: `two lives`, `generation`, `order`, `start`, `limit`,
//! `record`, `cause`, `state`, `past`, `answer`, `health`, `calm`, `end`, `spin`.

mod calls;
mod health;
mod limits;
mod lives;
mod past;
mod records;
mod story;

use std::sync::Arc;

use provost::board::Board;

use crate::simulation::check::calls::Calls;
use crate::simulation::check::health::Healths;
use crate::simulation::check::limits::Limits;
use crate::simulation::check::lives::Lives;
use crate::simulation::check::past::Past;
use crate::simulation::check::records::Records;
use crate::simulation::check::story::Story;
use crate::simulation::world::{Moment, World};

/// Faults of one seed that are kept; the first tells most.
const FAULTS_MAX: usize = 20;

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, rule: &str, moment: &Moment, text: &str) {
        self.push(format!("{rule}: {text}; at {moment}"));
    }

    fn push(&mut self, fault: String) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(fault);
        }
    }
}

/// All checkers of one seed.
#[derive(Debug)]
pub(crate) struct Checkers {
    world: Arc<World>,
    seen: usize,
    calls: Calls,
    lives: Lives,
    healths: Healths,
    limits: Limits,
    records: Records,
    story: Story,
    past: Past,
    faults: Faults,
}

impl Checkers {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            seen: 0,
            calls: Calls::default(),
            lives: Lives::default(),
            healths: Healths::default(),
            limits: Limits::default(),
            records: Records,
            story: Story::default(),
            past: Past::default(),
            faults: Faults::default(),
        }
    }

    /// Looks at everything that happened since the last look, and at the board.
    pub(crate) fn look(&mut self, board: &Board) {
        self.read_on();
        self.lives.compare(&self.world.family, board, &mut self.faults);
        self.healths.compare(board, &mut self.faults);
        self.story.compare(&self.world.family, board, &mut self.faults);
        let now = self.world.now();
        self.past.compare((&self.world.family, now), board, &mut self.faults);
    }

    /// After calm, everything that has to run runs.
    pub(crate) fn in_calm(&mut self, board: &Board) {
        self.read_on();
        self.lives.in_calm((&self.world.family, &self.calls), board, &mut self.faults);
    }

    /// After the end, nothing is left.
    pub(crate) fn at_the_end(&mut self) {
        self.read_on();
        self.lives.at_the_end(&mut self.faults);
        self.calls.at_the_end(&mut self.faults);
    }

    pub(crate) fn expect(&mut self, rule: &str, holds: bool, text: &str) {
        if !holds {
            self.faults.push(format!("{rule}: {text}"));
        }
    }

    /// The faults, and how often the past was compared with the present.
    pub(crate) fn into_faults(self) -> (Vec<String>, usize) {
        (self.faults.0, self.past.compared)
    }

    pub(crate) fn read_on(&mut self) {
        let family = &self.world.family;
        for moment in self.world.since(self.seen) {
            self.seen += 1;
            self.calls.see(&moment);
            self.lives.see((family, &self.calls), &moment, &mut self.faults);
            self.healths.see(family, &moment, &mut self.faults);
            self.limits.see(family, &moment, &mut self.faults);
            self.records.see(family, &moment, &mut self.faults);
            self.story.see(family, &moment, &mut self.faults);
            self.past.see(family, &moment);
        }
    }
}
