//! What is looked at: the screen, what lies over it, which row is selected, what is typed.

use std::collections::BTreeSet;

use crate::cli::top::actions::Deed;
use crate::cli::top::model::circuits::Reach;
use crate::cli::top::model::picture::Outcome;
use crate::cli::top::model::table::Cursor;
use crate::cli::top::model::tree::{Sort, TreeLook};
use crate::protocol::fact::Severity;

/// Letters of a filter.
pub(crate) const FILTER_MAX: usize = 120;

/// The part of the tree that is folded at first: the daemon's own parts.
const OWN_PARTS: &str = "system";

/// A screen with a key of its own.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Screen {
    /// The tree; home.
    #[default]
    Tree,
    /// Circuits.
    Circuits,
    /// Tasks.
    Tasks,
    /// Dead letters.
    Letters,
    /// Events.
    Events,
}

impl Screen {
    /// All of them, in the order of their keys.
    pub(crate) const ALL: [Self; 5] =
        [Self::Tree, Self::Circuits, Self::Tasks, Self::Letters, Self::Events];

    /// Its title.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Tree => "Tree",
            Self::Circuits => "Circuits",
            Self::Tasks => "Tasks",
            Self::Letters => "Dead letters",
            Self::Events => "Events",
        }
    }
}

/// What of a child is shown under its overview.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Pane {
    /// Events and log, half each.
    #[default]
    Both,
    /// Events alone.
    Events,
    /// The log alone.
    Log,
}

impl Pane {
    /// The next one.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Both => Self::Events,
            Self::Events => Self::Log,
            Self::Log => Self::Both,
        }
    }
}

/// What lies over a screen; Esc takes it away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    /// One child of the tree. `back` lines from the end of events and log.
    Child { name: String, pane: Pane, back: usize },
    /// The life of a task.
    Task { id: String, lines: Vec<String>, top: usize },
    /// A text.
    Page { title: String, lines: Vec<String>, top: usize },
    /// All keys.
    Help { top: usize },
}

/// What has to be answered before anything else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Dialog {
    /// Whether a deed shall be done.
    Confirm(Deed, Choice),
    /// What became of a command.
    Result(Outcome),
}

/// A button.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Choice {
    /// Leave it. This is what Enter does until somebody chooses otherwise.
    #[default]
    Cancel,
    /// Do it.
    Run,
}

impl Choice {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Cancel => Self::Run,
            Self::Run => Self::Cancel,
        }
    }
}

/// A line that tells what was done, or why not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    /// It was done.
    Well(String),
    /// It was not.
    Badly(String),
}

/// How events are followed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Following {
    /// The newest is always selected.
    #[default]
    Newest,
    /// The selection stays where it is.
    Off,
}

/// Whether a filter is being typed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Typing {
    /// Keys are commands.
    #[default]
    No,
    /// Keys are letters of the filter.
    Filter,
}

/// Which row of a screen is selected, and which rows it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    /// The selected row.
    pub(crate) cursor: Cursor,
    /// Words that rows must have.
    pub(crate) filter: String,
}

/// What is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    /// The screen.
    pub(crate) screen: Screen,
    /// One for each screen.
    lists: [List; Screen::ALL.len()],
    /// What lies over it; the last one is on top.
    pub(crate) over: Vec<Over>,
    /// What has to be answered.
    pub(crate) dialog: Option<Dialog>,
    /// Whether a filter is being typed.
    pub(crate) typing: Typing,
    /// The tree.
    pub(crate) tree: TreeLook,
    /// How far back the strips of circuits go.
    pub(crate) reach: Reach,
    /// Only events at least that bad.
    pub(crate) least: Severity,
    /// Whether the newest event is followed.
    pub(crate) following: Following,
    /// What was done last.
    pub(crate) told: Option<Told>,
    /// A command that is under way.
    pub(crate) busy: Option<String>,
    /// Columns and rows of the terminal.
    pub(crate) size: (u16, u16),
}

impl Default for Ui {
    fn default() -> Self {
        let folded = OWN_PARTS.parse().into_iter().collect::<BTreeSet<_>>();
        Self {
            screen: Screen::default(),
            lists: Default::default(),
            over: Vec::new(),
            dialog: None,
            typing: Typing::default(),
            tree: TreeLook { folded, sort: Sort::default() },
            reach: Reach::default(),
            least: Severity::default(),
            following: Following::default(),
            told: None,
            busy: None,
            size: (80, 24),
        }
    }
}

impl Ui {
    /// The list of the present screen.
    pub(crate) fn list(&self) -> &List {
        let [tree, circuits, tasks, letters, events] = &self.lists;
        match self.screen {
            Screen::Tree => tree,
            Screen::Circuits => circuits,
            Screen::Tasks => tasks,
            Screen::Letters => letters,
            Screen::Events => events,
        }
    }

    /// The list of the present screen.
    pub(crate) fn list_mut(&mut self) -> &mut List {
        let [tree, circuits, tasks, letters, events] = &mut self.lists;
        match self.screen {
            Screen::Tree => tree,
            Screen::Circuits => circuits,
            Screen::Tasks => tasks,
            Screen::Letters => letters,
            Screen::Events => events,
        }
    }

    /// Rows that fit on a page.
    pub(crate) fn page_rows(&self) -> usize {
        usize::from(self.size.1.saturating_sub(8)).max(1)
    }
}
