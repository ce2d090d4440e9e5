//! What happens when a key is pressed: to what is looked at, and what is wished for besides.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;

use crate::cli::top::actions::{Act, Deed, line};
use crate::cli::top::bindings::{Does, Place, bindings, find};
use crate::cli::top::model::Model;
use crate::cli::top::model::events::next_severity;
use crate::cli::top::model::table::{Cursor, Step};
use crate::cli::top::model::ui::{
    Choice, Dialog, FILTER_MAX, Following, Over, Pane, Screen, Told, Typing,
};
use crate::cli::top::model::{events, letters};
use crate::protocol::fact::Severity;
use crate::protocol::id::ChildName;

/// What somebody else has to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// End.
    Quit,
    /// End as Ctrl-C does.
    Interrupt,
    /// Give the terminal back until `fg`.
    Suspend,
    /// Draw everything again.
    Redraw,
    /// Ask the daemon now.
    Refresh,
    /// Carry a command out.
    Run(Deed),
    /// Put a text into the clipboard.
    Copy(String),
}

/// The name of a key, as the tables have it.
pub(crate) fn name(key: KeyEvent) -> String {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let name = match key.code {
        KeyCode::Char(' ') => "Space",
        KeyCode::Char(letter) if control => return format!("Ctrl-{}", letter.to_ascii_lowercase()),
        KeyCode::Char(letter) => return letter.to_string(),
        KeyCode::F(number) => return format!("F{number}"),
        KeyCode::Enter => "Enter",
        KeyCode::Esc => "Esc",
        KeyCode::Tab => "Tab",
        KeyCode::Backspace => "Backspace",
        KeyCode::Up => "Up",
        KeyCode::Down => "Down",
        KeyCode::Left => "Left",
        KeyCode::Right => "Right",
        KeyCode::PageUp => "PgUp",
        KeyCode::PageDown => "PgDn",
        KeyCode::Home => "Home",
        KeyCode::End => "End",
        KeyCode::BackTab
        | KeyCode::Delete
        | KeyCode::Insert
        | KeyCode::Null
        | KeyCode::CapsLock
        | KeyCode::ScrollLock
        | KeyCode::NumLock
        | KeyCode::PrintScreen
        | KeyCode::Pause
        | KeyCode::Menu
        | KeyCode::KeypadBegin
        | KeyCode::Media(_)
        | KeyCode::Modifier(_) => "",
    };
    name.to_owned()
}

/// Where a key that is pressed now is pressed.
pub(crate) fn place(model: &Model) -> Place {
    match (&model.ui.dialog, model.ui.typing, model.ui.over.last()) {
        (Some(Dialog::Confirm(..)), _, _) => Place::Confirm,
        (Some(Dialog::Result(_)), _, _) => Place::Result,
        (None, Typing::Filter, _) => Place::Typing,
        (None, Typing::No, Some(Over::Child { .. })) => Place::Child,
        (None, Typing::No, Some(Over::Task { .. } | Over::Page { .. } | Over::Help { .. })) => {
            Place::Text
        }
        (None, Typing::No, None) => Place::On(model.ui.screen),
    }
}

/// Presses a key.
pub(crate) fn press(model: &mut Model, key: KeyEvent, now: Timestamp) -> Option<Wish> {
    let place = place(model);
    let Some(does) = find(place, &name(key)) else {
        if place == Place::Typing
            && let KeyCode::Char(letter) = key.code
            && !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
        {
            type_letter(model, letter);
        }
        return None;
    };
    model.ui.told = None;
    match does {
        Does::Quit => Some(Wish::Quit),
        Does::Interrupt => Some(Wish::Interrupt),
        Does::Suspend => Some(Wish::Suspend),
        Does::Redraw => Some(Wish::Redraw),
        Does::Refresh => Some(Wish::Refresh),
        Does::Copy => copied(model, now).map(Wish::Copy),
        Does::Decide => decide(model),
        Does::Up => moved(model, Step::Up(1), now),
        Does::Down => moved(model, Step::Down(1), now),
        Does::PageUp => moved(model, Step::Up(model.ui.page_rows()), now),
        Does::PageDown => moved(model, Step::Down(model.ui.page_rows()), now),
        Does::First => moved(model, Step::First, now),
        Does::Last => moved(model, Step::Last, now),
        Does::Act(act) => asked(model, act, now),
        Does::Help
        | Does::Go(_)
        | Does::NextScreen
        | Does::Open
        | Does::Back
        | Does::Fold
        | Does::Unfold
        | Does::Sort
        | Does::Filter
        | Does::Severity
        | Does::Cause
        | Does::Follow
        | Does::Reach
        | Does::Pane
        | Does::Choose
        | Does::Erase
        | Does::EraseAll => {
            looked(model, does, now);
            None
        }
    }
}

/// Does what changes only what is looked at.
fn looked(model: &mut Model, does: Does, now: Timestamp) {
    let ui = &mut model.ui;
    match does {
        Does::Help => ui.over.push(Over::Help { top: 0 }),
        Does::Go(screen) => go(model, screen),
        Does::NextScreen => {
            let next = Screen::ALL.into_iter().find(|screen| ui.screen < *screen);
            go(model, next.unwrap_or_default());
        }
        Does::Open => open(model, now),
        Does::Back => back(model),
        Does::Fold => fold(model, now),
        Does::Unfold => unfold(model, now),
        Does::Sort => {
            ui.tree.sort = ui.tree.sort.next();
            ui.told = Some(Told::Well(format!("ordered by {}", ui.tree.sort.word())));
        }
        Does::Filter => ui.typing = Typing::Filter,
        Does::Severity => ui.least = next_severity(ui.least),
        Does::Cause => cause(model, now),
        Does::Follow => follow(model),
        Does::Reach => ui.reach = ui.reach.next(),
        Does::Pane => {
            if let Some(Over::Child { pane, back, .. }) = ui.over.last_mut() {
                (*pane, *back) = (pane.next(), 0);
            }
        }
        Does::Choose => {
            if let Some(Dialog::Confirm(_, choice)) = &mut ui.dialog {
                *choice = choice.other();
            }
        }
        Does::Erase => {
            ui.list_mut().filter.pop();
        }
        Does::EraseAll => ui.list_mut().filter.clear(),
        Does::Quit
        | Does::Interrupt
        | Does::Suspend
        | Does::Redraw
        | Does::Refresh
        | Does::Copy
        | Does::Decide
        | Does::Up
        | Does::Down
        | Does::PageUp
        | Does::PageDown
        | Does::First
        | Does::Last
        | Does::Act(_) => {}
    }
}

fn type_letter(model: &mut Model, letter: char) {
    let filter = &mut model.ui.list_mut().filter;
    if filter.len() < FILTER_MAX {
        filter.push(letter);
    }
}

fn go(model: &mut Model, screen: Screen) {
    model.ui.over.clear();
    model.ui.screen = screen;
    if screen == Screen::Events && model.ui.following == Following::Newest {
        model.select_newest();
    }
}

fn back(model: &mut Model) {
    let ui = &mut model.ui;
    if ui.dialog.take().is_some() {
    } else if ui.typing == Typing::Filter {
        ui.typing = Typing::No;
        ui.list_mut().filter.clear();
    } else if ui.over.pop().is_some() {
    } else if ui.list().filter.is_empty() {
        ui.screen = Screen::Tree;
    } else {
        ui.list_mut().filter.clear();
    }
}

/// Does what the marked button says, or keeps the filter.
fn decide(model: &mut Model) -> Option<Wish> {
    model.ui.typing = Typing::No;
    match model.ui.dialog.take()? {
        Dialog::Confirm(deed, Choice::Run) => {
            model.ui.busy = Some(line(&deed.words, &[]));
            Some(Wish::Run(deed))
        }
        Dialog::Confirm(_, Choice::Cancel) | Dialog::Result(_) => None,
    }
}

fn moved(model: &mut Model, step: Step, now: Timestamp) -> Option<Wish> {
    let lines = match model.ui.over.last() {
        Some(Over::Child { name, .. }) => longest(model, name, now),
        Some(Over::Task { lines, .. } | Over::Page { lines, .. }) => lines.len(),
        Some(Over::Help { .. }) => bindings(Place::On(model.ui.screen)).count(),
        None => {
            let cursor = model.table(now).moved(&model.ui.list().cursor, step);
            model.ui.list_mut().cursor = cursor;
            if model.ui.screen == Screen::Events {
                let newest = step == Step::Last;
                model.ui.following = if newest { Following::Newest } else { Following::Off };
            }
            return None;
        }
    };
    let most = lines.saturating_sub(1);
    match model.ui.over.last_mut() {
        // Events and logs are read from their end.
        Some(Over::Child { back, .. }) => *back = after(*back, reverse(step), most),
        Some(Over::Task { top, .. } | Over::Page { top, .. } | Over::Help { top }) => {
            *top = after(*top, step, most);
        }
        None => {}
    }
    None
}

/// Lines of the longer one of a child's events and its log.
fn longest(model: &Model, name: &str, now: Timestamp) -> usize {
    let shown = events::Shown { least: Severity::Info, about: Some(name), filter: "" };
    let events = events::table(&model.picture, shown, &model.zone).rows.len();
    let log = match &model.picture.log {
        Some((_, Ok(lines))) => lines.len(),
        Some((_, Err(_))) | None => 0,
    };
    let about = crate::cli::top::model::agent::lines(&model.picture, name, now).len();
    events.max(log).max(about)
}

fn reverse(step: Step) -> Step {
    match step {
        Step::Up(lines) => Step::Down(lines),
        Step::Down(lines) => Step::Up(lines),
        Step::First => Step::Last,
        Step::Last => Step::First,
    }
}

fn after(at: usize, step: Step, most: usize) -> usize {
    match step {
        Step::Up(lines) => at.saturating_sub(lines),
        Step::Down(lines) => at.saturating_add(lines).min(most),
        Step::First => 0,
        Step::Last => most,
    }
}

fn open(model: &mut Model, now: Timestamp) {
    let Some(key) = model.selected(now) else { return };
    let page = |title: String, lines: Option<Vec<String>>| {
        lines.map(|lines| Over::Page { title, lines, top: 0 })
    };
    let over = match model.ui.screen {
        Screen::Tree | Screen::Circuits => {
            Some(Over::Child { name: key, pane: Pane::default(), back: 0 })
        }
        Screen::Tasks => {
            let lines = vec!["asking for its log".to_owned()];
            Some(Over::Task { id: key, lines, top: 0 })
        }
        Screen::Letters => page(format!("Dead letter {key}"), letters::page(&model.picture, &key)),
        Screen::Events => page(format!("Event {key}"), events::page(&model.picture, &key)),
    };
    model.ui.over.extend(over);
}

/// Folds what is selected; where nothing is to be folded, goes to its parent.
fn fold(model: &mut Model, now: Timestamp) {
    let table = model.table(now);
    let Some(at) = table.find(&model.ui.list().cursor) else { return };
    let Some(row) = table.rows.get(at) else { return };
    let depth = |index: usize| table.rows.get(index).map_or(0, indent);
    let has_children = depth(at) < depth(at.saturating_add(1));
    if has_children && let Ok(name) = row.key.parse::<ChildName>() {
        model.ui.tree.folded.insert(name);
        return;
    }
    let parent = (0..at).rev().find(|index| depth(*index) < depth(at));
    if let Some(row) = parent.and_then(|index| table.rows.get(index)) {
        let cursor = Cursor { key: row.key.clone(), index: parent.unwrap_or(0) };
        model.ui.list_mut().cursor = cursor;
    }
}

/// How deep a row of the tree stands: letters before its name.
fn indent(row: &crate::cli::top::model::table::Row) -> usize {
    let name = row.cells.first().map(|cell| cell.text.as_str()).unwrap_or_default();
    name.chars().take_while(|found| " │├└".contains(*found)).count()
}

fn unfold(model: &mut Model, now: Timestamp) {
    let Some(Ok(name)) = model.selected(now).map(|key| key.parse::<ChildName>()) else { return };
    if !model.ui.tree.folded.remove(&name) {
        fold(model, now);
    }
}

fn cause(model: &mut Model, now: Timestamp) {
    let Some(key) = model.selected(now) else { return };
    match events::cause(&model.picture, &key) {
        Err(why) => model.ui.told = Some(Told::Badly(why)),
        Ok(cause) => {
            let shown = |model: &Model| model.table(now).rows.iter().any(|row| row.key == cause);
            if !shown(model) {
                model.ui.least = Severity::Info;
                model.ui.list_mut().filter.clear();
            }
            model.ui.following = Following::Off;
            model.ui.list_mut().cursor = Cursor { key: cause, index: 0 };
        }
    }
}

fn follow(model: &mut Model) {
    model.ui.following = match model.ui.following {
        Following::Newest => Following::Off,
        Following::Off => Following::Newest,
    };
    if model.ui.following == Following::Newest {
        model.select_newest();
    }
}

/// Asks whether something shall be done to what is selected.
fn asked(model: &mut Model, act: Act, now: Timestamp) -> Option<Wish> {
    let key = match model.ui.over.last() {
        Some(Over::Child { name, .. }) => Some(name.clone()),
        Some(Over::Task { .. } | Over::Page { .. } | Over::Help { .. }) | None => {
            model.selected(now)
        }
    };
    let key = key?;
    match refused(model, act, &key) {
        Some(why) => model.ui.told = Some(Told::Badly(why)),
        None => model.ui.dialog = Some(Dialog::Confirm(act.on(&key), Choice::default())),
    }
    None
}

/// Why something cannot be done now, before the daemon is asked.
fn refused(model: &Model, act: Act, key: &str) -> Option<String> {
    if model.picture.away.is_some() {
        return Some("the daemon is away: nothing can be done now".to_owned());
    }
    if let Some(busy) = &model.ui.busy {
        return Some(format!("{busy} is still under way"));
    }
    match act {
        Act::Restart | Act::Stop | Act::Drain | Act::Resume | Act::Kill | Act::Reset => {
            let no_agent = model.picture.agent(key).is_none();
            no_agent.then(|| format!("{key} is no agent; this can be done to agents only"))
        }
        Act::CircuitOpen
        | Act::CircuitClosed
        | Act::CircuitAuto
        | Act::TaskCancel
        | Act::TaskRetry
        | Act::LetterReplay
        | Act::LetterDrop => None,
    }
}

/// The command that tells, or does, what is on the screen.
fn copied(model: &Model, now: Timestamp) -> Option<String> {
    let words: Vec<String> = match (&model.ui.dialog, model.ui.over.last()) {
        (Some(Dialog::Confirm(deed, _)), _) => deed.words.clone(),
        (Some(Dialog::Result(outcome)), _) => return Some(outcome.line.clone()),
        (None, Some(Over::Child { name, .. })) => about(model, name),
        (None, _) => {
            let key = model.selected(now)?;
            match model.ui.screen {
                Screen::Tree | Screen::Circuits => about(model, &key),
                Screen::Tasks => vec!["task".to_owned(), "show".to_owned(), key],
                Screen::Letters => vec!["dlq".to_owned(), "show".to_owned(), key],
                Screen::Events => vec!["events".to_owned()],
            }
        }
    };
    Some(line(&words, &model.way))
}

/// The command that tells about a child.
fn about(model: &Model, name: &str) -> Vec<String> {
    let system = model.picture.system();
    let is_downstream =
        system.is_some_and(|system| system.downstreams.keys().any(|known| known.as_str() == name));
    let words: &[&str] = if model.picture.agent(name).is_some() {
        &["status", name]
    } else if is_downstream {
        &["downstream", "show", name]
    } else {
        &["events", "--for", name]
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
