//! How a meaning looks. Without colour, words and glyphs are enough: only weight and the reversal
//! of the selected row are left.

use ratatui::style::{Color, Modifier, Style};

use crate::cli::top::model::table::Tint;

/// Whether there are colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Colors {
    /// As the terminal has them.
    On,
    /// None at all.
    Off,
}

impl Colors {
    /// How a meaning looks.
    pub(crate) fn of(self, tint: Tint) -> Style {
        let color = |color| match self {
            Self::On => Style::new().fg(color),
            Self::Off => Style::new(),
        };
        match tint {
            Tint::Plain => Style::new(),
            Tint::Strong => Style::new().add_modifier(Modifier::BOLD),
            Tint::Faint => Style::new().add_modifier(Modifier::DIM),
            Tint::Good => color(Color::Green),
            Tint::Busy => color(Color::Cyan),
            Tint::Warn => color(Color::Yellow),
            Tint::Bad => color(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// What is selected.
    pub(crate) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What is out of date: no colour at all, faint.
    pub(crate) fn stale(self) -> Style {
        match self {
            Self::On => Style::new().fg(Color::Reset).add_modifier(Modifier::DIM),
            Self::Off => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// What must not be missed.
    pub(crate) fn alarm(self) -> Style {
        match self {
            Self::On => Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD),
            Self::Off => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
        }
    }
}
