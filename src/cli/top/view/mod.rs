//! What the screen looks like: reads the model, draws, changes nothing.
//!
//! From the top: the screens, the state of the daemon, what is looked at, a line about the selected
//! row, the keys. A dialog lies over all.

mod dialog;
mod grid;
mod over;
mod text;
pub(crate) mod theme;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::cli::human::{age, clock_time};
use crate::cli::top::bindings::{Binding, Does, bindings};
use crate::cli::top::keys::place;
use crate::cli::top::model::Model;
use crate::cli::top::model::picture::Away;
use crate::cli::top::model::table::{Cell, Tint};
use crate::cli::top::model::tree::{glyph, rank, tint};
use crate::cli::top::model::ui::{Following, Screen, Told, Typing};
use crate::cli::top::view::text::{cells, fit, put, put_line, width};
use crate::cli::top::view::theme::Colors;
use crate::protocol::command::SystemMode;
use crate::protocol::status::AgentState;

/// Narrower than this nothing is drawn but a sentence that says so.
pub(crate) const COLUMNS_MIN: u16 = 60;

/// Lower than this likewise.
pub(crate) const ROWS_MIN: u16 = 15;

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, now: Timestamp, colors: Colors) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        too_small(buffer, area, colors);
        return;
    }
    let line = |y: u16| Rect { y, height: 1, ..area };
    let bottom = area.height;
    let body = Rect { y: 2, height: bottom.saturating_sub(4), ..area };
    tabs(buffer, line(0), model, colors);
    banner(buffer, line(1), (model, now), colors);
    let cut = match model.ui.over.last() {
        Some(over) => over::draw(buffer, body, (model, over, now), colors),
        None => {
            let table = model.table(now);
            let cut = grid::grid(buffer, body, (&table, &model.ui.list().cursor), colors);
            let more = table.selected(&model.ui.list().cursor).map(|row| row.more.clone());
            information(
                buffer,
                line(bottom.saturating_sub(2)),
                (model, more),
                &cut.words(),
                colors,
            );
            String::new()
        }
    };
    if !model.ui.over.is_empty() {
        information(buffer, line(bottom.saturating_sub(2)), (model, None), &cut, colors);
    }
    if model.picture.away.is_some() {
        buffer.set_style(body, colors.stale());
    }
    footer(buffer, line(bottom.saturating_sub(1)), model, colors);
    if let Some(open) = &model.ui.dialog {
        dialog::draw(buffer, area, (model, open), colors);
    }
}

fn too_small(buffer: &mut Buffer, area: Rect, colors: Colors) {
    let (width, height) = (area.width, area.height);
    let lines = [
        format!("this terminal is {width}x{height}"),
        format!("provost top needs {COLUMNS_MIN}x{ROWS_MIN}"),
        "make it larger; q quits".to_owned(),
    ];
    for (y, line) in (0..).zip(lines) {
        put(buffer, (area, y), &line, colors.of(Tint::Warn));
    }
}

/// The screens with their keys, and which daemon this is.
fn tabs(buffer: &mut Buffer, area: Rect, model: &Model, colors: Colors) {
    let mut x = 0;
    for (number, screen) in (1..).zip(Screen::ALL) {
        let is_shown = screen == model.ui.screen;
        let text = if is_shown {
            format!("[{number} {}]", screen.title())
        } else {
            format!(" {number} {} ", screen.title())
        };
        let tint = if is_shown { Tint::Strong } else { Tint::Plain };
        let wide = u16::try_from(width(&text)).unwrap_or(0);
        let part = Rect { x: area.x + x, width: area.width.saturating_sub(x), ..area };
        put(buffer, (part, 0), &text, colors.of(tint));
        x += wide;
    }
    let Some(system) = model.picture.system() else { return };
    let mode = match system.mode {
        SystemMode::Running => "",
        SystemMode::Paused => " PAUSED",
        SystemMode::Draining => " DRAINING",
        SystemMode::Stopping => " STOPPING",
    };
    let name = format!("{}{mode}", system.node);
    let room = usize::from(area.width.saturating_sub(x.saturating_add(1)));
    let name = fit(&name, room);
    let wide = u16::try_from(width(&name)).unwrap_or(0);
    let part = Rect { x: area.width.saturating_sub(wide), width: wide, ..area };
    put(buffer, (part, 0), &name, colors.of(Tint::Strong));
}

/// The state of the daemon in one line: how many of what, or that it is away.
fn banner(buffer: &mut Buffer, area: Rect, (model, now): (&Model, Timestamp), colors: Colors) {
    if let Some(away) = &model.picture.away {
        put(buffer, (area, 0), &unreachable(model, away, now), colors.alarm());
        buffer.set_style(area, colors.alarm());
        return;
    }
    let line = cells(&counts(model), "  ", usize::from(area.width), colors);
    put_line(buffer, (area, 0), &line);
}

fn unreachable(model: &Model, away: &Away, now: Timestamp) -> String {
    let since = clock_time(away.since, &model.zone);
    let passed = age(now, away.since);
    let last = model.picture.look.as_ref().map(|(at, _)| clock_time(*at, &model.zone));
    let of = match last {
        Some(last) => format!("; this is the picture of {last}"),
        None => String::new(),
    };
    format!("✘ daemon unreachable since {since} ({passed}){of}: {}", away.why)
}

fn counts(model: &Model) -> Vec<Cell> {
    let picture = &model.picture;
    let Some(system) = picture.system() else {
        return vec![Cell::tinted("asking the daemon", Tint::Busy)];
    };
    let all: u64 = system.agents.values().sum();
    let mut cells: Vec<Cell> = vec![Cell::tinted(format!("{all} agents"), Tint::Strong)];
    let mut states = AgentState::ALL;
    // What is wrong is told first: it is the end of a line that is cut.
    states.sort_by_key(|state| std::cmp::Reverse(rank(*state)));
    for state in states {
        if let Some(count) = system.agents.get(state.as_str()).filter(|count| 0 < **count) {
            let text = format!("{} {count} {state}", glyph(state));
            cells.push(Cell::tinted(text, tint(state)));
        }
    }
    match picture.open_circuits() {
        0 => {}
        1 => cells.push(Cell::tinted("1 circuit open", Tint::Bad)),
        open => cells.push(Cell::tinted(format!("{open} circuits open"), Tint::Bad)),
    }
    let tasks = &system.tasks;
    if tasks.state != "off" && !tasks.state.is_empty() {
        let waiting = tasks.ready.saturating_add(tasks.delayed);
        cells.push(format!("tasks {} held {waiting} wait", tasks.held).into());
    }
    if let Some(letters) = picture.look.as_ref().and_then(|(_, look)| look.letters) {
        let tint = if letters == 0 { Tint::Plain } else { Tint::Warn };
        cells.push(Cell::tinted(format!("{letters} dead letters"), tint));
    }
    let nats = system.nats.state.as_str();
    let tint = if nats == "connected" { Tint::Plain } else { Tint::Bad };
    let word = if nats == "connected" { "ok" } else { nats };
    cells.push(Cell::tinted(format!("nats {word}"), tint));
    if 0 < system.outbox.dropped {
        let text = format!("{} events dropped", system.outbox.dropped);
        cells.push(Cell::tinted(text, Tint::Bad));
    }
    cells
}

/// What is typed, what was done last, or more about the selected row; and what is cut.
fn information(
    buffer: &mut Buffer,
    area: Rect,
    (model, more): (&Model, Option<String>),
    cut: &str,
    colors: Colors,
) {
    let ui = &model.ui;
    let filter = &ui.list().filter;
    let (text, tint) = match (ui.typing, &ui.told, &ui.busy) {
        (Typing::Filter, _, _) => (format!("filter: {filter}_"), Tint::Strong),
        (Typing::No, Some(Told::Well(text)), _) => (format!("✔ {text}"), Tint::Good),
        (Typing::No, Some(Told::Badly(text)), _) => (format!("✘ {text}"), Tint::Bad),
        (Typing::No, None, Some(line)) => (format!("◐ {line} …"), Tint::Busy),
        (Typing::No, None, None) => (more.unwrap_or_default(), Tint::Plain),
    };
    let mut notes = Vec::new();
    if ui.typing == Typing::No && !filter.is_empty() && ui.over.is_empty() {
        notes.push(format!("filter {filter:?}"));
    }
    if ui.screen == Screen::Events && ui.over.is_empty() && ui.following == Following::Off {
        notes.push("not following".to_owned());
    }
    if !cut.is_empty() {
        notes.push(cut.to_owned());
    }
    let notes = fit(&notes.join(" · "), usize::from(area.width / 2));
    let wide = u16::try_from(width(&notes)).unwrap_or(0);
    let left = Rect { width: area.width.saturating_sub(wide.saturating_add(1)), ..area };
    put(buffer, (left, 0), &text, colors.of(tint));
    let right = Rect { x: area.x + area.width.saturating_sub(wide), width: wide, ..area };
    put(buffer, (right, 0), &notes, colors.of(Tint::Faint));
}

/// The keys that there is room for; those for help and the way out always.
fn footer(buffer: &mut Buffer, area: Rect, model: &Model, colors: Colors) {
    let shown = |binding: &&Binding| !binding.word.is_empty();
    let pinned = |binding: &&Binding| matches!(binding.does, Does::Help | Does::Quit);
    let part = |binding: &Binding| {
        format!("{} {}", binding.keys.first().copied().unwrap_or_default(), binding.word)
    };
    let all = || bindings(place(model)).filter(shown);
    let last: Vec<String> = all().filter(pinned).map(part).collect();
    let last = last.join("  ");
    let mut text = String::new();
    let room = usize::from(area.width).saturating_sub(width(&last) + 2);
    for part in all().filter(|binding| !pinned(binding)).map(part) {
        let gap = if text.is_empty() { "" } else { "  " };
        let taken = width(&text) + gap.len() + width(&part);
        if room < taken {
            break;
        }
        text.push_str(gap);
        text.push_str(&part);
    }
    if !last.is_empty() {
        text.push_str("  ");
        text.push_str(&last);
    }
    put(buffer, (area, 0), &text, colors.of(Tint::Faint));
    buffer.set_style(area, colors.selected());
}
