//! What is known and what is looked at: state only, without clock, terminal or connection.
//!
//! News go in by [`Model::take`] with the time they came at; `keys` changes what is looked at;
//! `view` reads.

pub(crate) mod agent;
pub(crate) mod circuits;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod letters;
pub(crate) mod picture;
pub(crate) mod table;
pub(crate) mod tasks;
pub(crate) mod tree;
pub(crate) mod ui;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::top::model::events::Shown;
use crate::cli::top::model::picture::{News, Outcome, Picture};
use crate::cli::top::model::table::{Step, Table};
use crate::cli::top::model::ui::{Dialog, Following, Over, Screen, Told, Ui};

/// What is known and what is looked at.
#[derive(Debug)]
pub(crate) struct Model {
    /// What the daemon has told.
    pub(crate) picture: Picture,
    /// What is looked at.
    pub(crate) ui: Ui,
    /// Where the user is.
    pub(crate) zone: TimeZone,
    /// Flags that lead to the daemon, for commands that are shown and copied.
    pub(crate) way: Vec<String>,
}

/// What the daemon is asked besides how it is, because it is looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Want {
    /// Nothing.
    #[default]
    Nothing,
    /// The downstreams.
    Downstreams,
    /// The tasks.
    Tasks,
    /// The dead letters.
    Letters,
    /// The end of an agent's log.
    Log(String),
    /// The life of a task.
    History(String),
}

impl Model {
    /// Nothing is known yet.
    pub(crate) fn new(zone: TimeZone, way: Vec<String>) -> Self {
        Self { picture: Picture::default(), ui: Ui::default(), zone, way }
    }

    /// Takes news in.
    pub(crate) fn take(&mut self, news: News, now: Timestamp) {
        match news {
            News::Looked(look) => self.picture.looked(look, now),
            News::Away(why) => self.picture.went_away(why, now),
            News::Event(seen) => {
                self.picture.happened(*seen);
                if self.ui.screen == Screen::Events && self.ui.following == Following::Newest {
                    self.select_newest();
                }
            }
            News::Downstreams(all) => self.picture.downstreams = Some((now, all)),
            News::Tasks(tasks) => self.picture.tasks = Some(tasks),
            News::Letters(letters) => self.picture.letters = Some(letters),
            News::Log(agent, lines) => self.picture.log = Some((agent, lines)),
            News::History(task, lines) => self.history(&task, lines),
            News::Done(outcome) => self.done(outcome),
        }
    }

    fn history(&mut self, task: &str, lines: Result<Vec<String>, String>) {
        let lines = lines.unwrap_or_else(|why| vec![why]);
        for over in &mut self.ui.over {
            if let Over::Task { id, lines: shown, .. } = over
                && id == task
            {
                shown.clone_from(&lines);
            }
        }
    }

    fn done(&mut self, outcome: Outcome) {
        self.ui.busy = None;
        match &outcome.result {
            Ok(_) => self.ui.told = Some(Told::Well(format!("{}: done", outcome.line))),
            Err(_) => self.ui.dialog = Some(Dialog::Result(outcome)),
        }
    }

    /// Selects the newest event.
    pub(crate) fn select_newest(&mut self) {
        let newest = self.table(Timestamp::UNIX_EPOCH);
        let cursor = newest.moved(&self.ui.list().cursor, Step::Last);
        self.ui.list_mut().cursor = cursor;
    }

    /// The rows of the present screen.
    pub(crate) fn table(&self, now: Timestamp) -> Table {
        let filter = self.ui.list().filter.as_str();
        let picture = &self.picture;
        match self.ui.screen {
            Screen::Tree => tree::table(picture, &self.ui.tree, filter, now),
            Screen::Circuits => circuits::table(picture, self.ui.reach, filter, now),
            Screen::Tasks => tasks::table(picture, filter, now),
            Screen::Letters => letters::table(picture, filter, now),
            Screen::Events => {
                let shown = Shown { least: self.ui.least, about: None, filter };
                events::table(picture, shown, &self.zone)
            }
        }
    }

    /// The key of the selected row.
    pub(crate) fn selected(&self, now: Timestamp) -> Option<String> {
        let table = self.table(now);
        table.selected(&self.ui.list().cursor).map(|row| row.key.clone())
    }

    /// What the daemon is asked besides.
    pub(crate) fn want(&self) -> Want {
        for over in self.ui.over.iter().rev() {
            match over {
                Over::Child { name, .. } if self.picture.agent(name).is_some() => {
                    return Want::Log(name.clone());
                }
                Over::Task { id, .. } => return Want::History(id.clone()),
                Over::Child { .. } | Over::Page { .. } | Over::Help { .. } => {}
            }
        }
        match self.ui.screen {
            Screen::Tree | Screen::Events => Want::Nothing,
            Screen::Circuits => Want::Downstreams,
            Screen::Tasks => Want::Tasks,
            Screen::Letters => Want::Letters,
        }
    }
}
