//! Which key does what, where: one table for what happens, for the footer and for the help.

use crate::cli::top::actions::Act;
use crate::cli::top::model::ui::Screen;

/// Where a key is pressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// One of the screens.
    On(Screen),
    /// One child.
    Child,
    /// A text: an event, a dead letter, a task's life, the help.
    Text,
    /// The question whether something shall be done.
    Confirm,
    /// What became of a command.
    Result,
    /// The filter.
    Typing,
}

impl Place {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::On(Screen::Tree),
        Self::On(Screen::Circuits),
        Self::On(Screen::Tasks),
        Self::On(Screen::Letters),
        Self::On(Screen::Events),
        Self::Child,
        Self::Text,
        Self::Confirm,
        Self::Result,
        Self::Typing,
    ];
}

/// What a key does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Does {
    Quit,
    Interrupt,
    Suspend,
    Redraw,
    Refresh,
    Help,
    Go(Screen),
    NextScreen,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Open,
    Back,
    Fold,
    Unfold,
    Sort,
    Filter,
    Copy,
    Act(Act),
    Severity,
    Cause,
    Follow,
    Reach,
    Pane,
    Choose,
    Decide,
    Erase,
    EraseAll,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    /// Names of the keys; the first stands in the footer.
    pub(crate) keys: &'static [&'static str],
    /// What it does.
    pub(crate) does: Does,
    /// One word for the footer; none for a key that is in the help only.
    pub(crate) word: &'static str,
    /// A sentence for the help.
    pub(crate) says: &'static str,
}

const fn key(
    keys: &'static [&'static str],
    does: Does,
    word: &'static str,
    says: &'static str,
) -> Binding {
    Binding { keys, does, word, says }
}

const MOVES: &[Binding] = &[
    key(&["Up", "k"], Does::Up, "", "one up"),
    key(&["Down", "j"], Does::Down, "", "one down"),
    key(&["PgUp", "Ctrl-b"], Does::PageUp, "", "one page up"),
    key(&["PgDn", "Ctrl-f"], Does::PageDown, "", "one page down"),
    key(&["Home", "g"], Does::First, "", "to the first"),
    key(&["End", "G"], Does::Last, "", "to the last"),
];

const ALWAYS: &[Binding] = &[
    key(&["Ctrl-c"], Does::Interrupt, "", "quit; exit code 130"),
    key(&["Ctrl-z"], Does::Suspend, "", "to the shell; fg comes back"),
    key(&["Ctrl-l"], Does::Redraw, "", "draw everything again"),
];

const COMMON: &[Binding] = &[
    key(&["y"], Does::Copy, "copy", "copy the command that tells the same (OSC 52)"),
    key(&["?"], Does::Help, "help", "all keys of this screen"),
    key(&["q"], Does::Quit, "quit", "quit"),
    key(&["Ctrl-r", "F5"], Does::Refresh, "", "ask the daemon now"),
];

const SCREENS: &[Binding] = &[
    key(&["/"], Does::Filter, "filter", "show only rows with these words; !word is without it"),
    key(&["1"], Does::Go(Screen::Tree), "", "the tree"),
    key(&["2"], Does::Go(Screen::Circuits), "", "circuits"),
    key(&["3"], Does::Go(Screen::Tasks), "", "tasks"),
    key(&["4"], Does::Go(Screen::Letters), "", "dead letters"),
    key(&["5"], Does::Go(Screen::Events), "", "events"),
    key(&["Tab"], Does::NextScreen, "", "the next screen"),
    key(&["Esc"], Does::Back, "", "clear the filter, then back to the tree"),
];

const CIRCUITS: &[Binding] = &[
    key(&["O"], Does::Act(Act::CircuitOpen), "open", "hold the circuit open"),
    key(&["C"], Does::Act(Act::CircuitClosed), "close", "hold the circuit closed"),
    key(&["A"], Does::Act(Act::CircuitAuto), "auto", "let the rules decide about the circuit"),
];

const AGENTS: &[Binding] = &[
    key(&["R"], Does::Act(Act::Restart), "restart", "stop and start the agent"),
    key(&["S"], Does::Act(Act::Stop), "stop", "stop the agent; it stays listed"),
    key(&["K"], Does::Act(Act::Kill), "kill", "end the agent as a crash would"),
    key(&["D"], Does::Act(Act::Drain), "drain", "give the agent no new work"),
    key(&["U"], Does::Act(Act::Resume), "resume", "take a drain back, or start the agent"),
    key(&["Z"], Does::Act(Act::Reset), "reset", "clear restart count and circuit"),
];

const TREE: &[Binding] = &[
    key(&["Enter"], Does::Open, "more", "why it is so, its events, its log"),
    key(&["Left", "h"], Does::Fold, "", "hide what is under it, or go to its parent"),
    key(&["Right", "l", "Space"], Does::Unfold, "fold", "show what is under it, or hide it"),
    key(&["s"], Does::Sort, "sort", "order by the next column"),
];

const ON_CIRCUITS: &[Binding] = &[
    key(&["Enter"], Does::Open, "more", "why it is so, its events"),
    key(&["t"], Does::Reach, "time", "let the strips go back farther"),
    key(&["Z"], Does::Act(Act::Reset), "reset", "clear restart count and circuit of an agent"),
];

const ON_TASKS: &[Binding] = &[
    key(&["Enter"], Does::Open, "history", "each step of the task's life"),
    key(&["C"], Does::Act(Act::TaskCancel), "cancel", "give the task up"),
    key(&["R"], Does::Act(Act::TaskRetry), "retry", "submit a failed task again"),
];

const ON_LETTERS: &[Binding] = &[
    key(&["Enter"], Does::Open, "show", "the dead letter as a whole"),
    key(&["R"], Does::Act(Act::LetterReplay), "replay", "send the original again"),
    key(&["D"], Does::Act(Act::LetterDrop), "drop", "take it out for good"),
];

const ON_EVENTS: &[Binding] = &[
    key(&["Enter"], Does::Open, "show", "the event as a whole"),
    key(&["c"], Does::Cause, "cause", "to the event that caused this one"),
    key(&["f"], Does::Follow, "follow", "always select the newest, or stay"),
    key(&["s"], Does::Severity, "severity", "only what is at least that bad"),
];

const CHILD: &[Binding] = &[
    key(&["Esc"], Does::Back, "back", "back"),
    key(&["Tab"], Does::Pane, "events/log", "events, log, or half each"),
];

const TEXT: &[Binding] = &[key(&["Esc", "Enter"], Does::Back, "back", "back")];

const CONFIRM: &[Binding] = &[
    key(&["Enter"], Does::Decide, "choose", "do what the marked button says"),
    key(&["Tab", "Left", "Right", "h", "l"], Does::Choose, "other button", "mark the other button"),
    key(&["Esc", "n"], Does::Back, "cancel", "leave it"),
    key(&["y"], Does::Copy, "copy", "copy the command (OSC 52)"),
];

const RESULT: &[Binding] = &[
    key(&["Esc", "Enter", "q"], Does::Back, "close", "close"),
    key(&["y"], Does::Copy, "copy", "copy the command (OSC 52)"),
];

const TYPING: &[Binding] = &[
    key(&["Enter"], Does::Decide, "keep", "keep the filter"),
    key(&["Esc"], Does::Back, "clear", "clear the filter"),
    key(&["Backspace", "Ctrl-h"], Does::Erase, "", "take the last letter back"),
    key(&["Ctrl-u"], Does::EraseAll, "", "take all letters back"),
];

/// The keys of a place, in the order of the footer.
pub(crate) fn bindings(place: Place) -> impl Iterator<Item = &'static Binding> {
    let none: &[Binding] = &[];
    let [first, second, third, fourth, fifth] = match place {
        Place::On(Screen::Tree) => [TREE, AGENTS, SCREENS, COMMON, CIRCUITS],
        Place::On(Screen::Circuits) => [ON_CIRCUITS, CIRCUITS, SCREENS, COMMON, none],
        Place::On(Screen::Tasks) => [ON_TASKS, SCREENS, COMMON, none, none],
        Place::On(Screen::Letters) => [ON_LETTERS, SCREENS, COMMON, none, none],
        Place::On(Screen::Events) => [ON_EVENTS, SCREENS, COMMON, none, none],
        Place::Child => [CHILD, AGENTS, COMMON, CIRCUITS, none],
        Place::Text => [TEXT, COMMON, none, none, none],
        Place::Confirm => [CONFIRM, none, none, none, none],
        Place::Result => [RESULT, none, none, none, none],
        Place::Typing => [TYPING, none, none, none, none],
    };
    let moves = match place {
        Place::On(_) | Place::Child | Place::Text => MOVES,
        Place::Confirm | Place::Result | Place::Typing => none,
    };
    let parts = [first, second, third, fourth, fifth, moves, ALWAYS];
    parts.into_iter().flatten()
}

/// What a key does at a place.
pub(crate) fn find(place: Place, key: &str) -> Option<Does> {
    let bound = bindings(place).find(|binding| binding.keys.contains(&key));
    bound.map(|binding| binding.does)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_key_does_two_things_at_one_place() {
        for place in Place::ALL {
            let mut seen = BTreeSet::new();
            for key in bindings(place).flat_map(|binding| binding.keys) {
                assert!(seen.insert(key), "{place:?} {key}");
            }
        }
    }

    #[test]
    fn every_place_has_a_way_out_and_each_key_says_what_it_does() {
        for place in Place::ALL {
            let out = |does| bindings(place).any(|binding| binding.does == does);
            assert!(out(Does::Interrupt) && (out(Does::Back) || out(Does::Quit)), "{place:?}");
            assert!(bindings(place).all(|binding| !binding.says.is_empty()), "{place:?}");
        }
    }
}
