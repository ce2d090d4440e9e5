//! What people asked for: which calls are under way, and which are never answered.

use std::collections::BTreeMap;
use std::time::Duration;

use provost::protocol::command::CircuitSet;
use provost::protocol::id::ChildName;

use crate::simulation::check::Faults;
use crate::simulation::shape::Command;
use crate::simulation::world::{Moment, What};

/// All calls so far.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: BTreeMap<usize, Asked>,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    answered: Option<Duration>,
}

impl Asked {
    fn concerns(&self, now: Duration) -> bool {
        self.answered.is_none_or(|answered| now <= answered)
    }

    /// Whether it deletes the child now, or adds it in vain.
    pub(super) fn forgets(&self, now: Duration) -> bool {
        matches!(self.command, Command::Add(_) | Command::Delete(_)) && self.concerns(now)
    }

    /// Whether it takes the child down.
    pub(super) fn stops(&self) -> bool {
        matches!(
            self.command,
            Command::Terminate(_)
                | Command::TerminateWithin(..)
                | Command::Delete(_)
                | Command::Circuit(_, CircuitSet::Open)
        )
    }
}

impl Calls {
    pub(super) fn see(&mut self, moment: &Moment) {
        match &moment.what {
            What::Command(number, command) => {
                let asked = Asked { command: command.clone(), answered: None };
                self.all.insert(*number, asked);
            }
            What::Answer(number, _) => {
                if let Some(asked) = self.all.get_mut(number) {
                    asked.answered = Some(moment.at);
                }
            }
            _ => {}
        }
    }

    /// Calls about a child, in order.
    pub(super) fn about<'a>(&'a self, child: &'a ChildName) -> impl Iterator<Item = &'a Asked> {
        self.all.values().filter(move |asked| asked.command.about() == Some(child))
    }

    /// Whether a call about the child is under way, or was answered in this very moment.
    pub(super) fn concern(&self, child: &ChildName, now: Duration) -> bool {
        self.about(child).any(|asked| asked.concerns(now))
    }

    /// Whether a call that is under way takes the child down for good.
    pub(super) fn stop(&self, child: &ChildName) -> bool {
        // Deleting stops nothing: a child that runs is not deleted.
        let deletes = |asked: &Asked| matches!(asked.command, Command::Delete(_));
        self.about(child).any(|asked| asked.answered.is_none() && asked.stops() && !deletes(asked))
    }

    pub(super) fn at_the_end(&self, faults: &mut Faults) {
        for (number, asked) in &self.all {
            if asked.answered.is_none() {
                faults.push(format!("answer: #{number} was never answered: {:?}", asked.command));
            }
        }
    }
}
