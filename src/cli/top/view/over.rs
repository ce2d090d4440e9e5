//! What lies over a screen: one child, the life of a task, a text, the help.

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::cli::top::bindings::{Place, bindings};
use crate::cli::top::model::Model;
use crate::cli::top::model::agent;
use crate::cli::top::model::events::{self, Shown};
use crate::cli::top::model::table::{Cell, Tint};
use crate::cli::top::model::ui::{Over, Pane};
use crate::cli::top::view::text::{cells, filled, put, put_line, wrapped};
use crate::cli::top::view::theme::Colors;
use crate::protocol::fact::Severity;

/// Draws it; returns in words what there was no room for.
pub(crate) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    (model, over, now): (&Model, &Over, Timestamp),
    colors: Colors,
) -> String {
    match over {
        Over::Child { name, pane, back } => {
            child(buffer, area, (model, name, now), (*pane, *back), colors)
        }
        Over::Task { id, lines, top } => {
            text(buffer, area, (&format!("Task {id}"), lines), *top, colors)
        }
        Over::Page { title, lines, top } => text(buffer, area, (title, lines), *top, colors),
        Over::Help { top } => help(buffer, area, (model, *top), colors),
    }
}

/// A title, then lines from one on.
fn text(
    buffer: &mut Buffer,
    area: Rect,
    (title, lines): (&str, &[String]),
    top: usize,
    colors: Colors,
) -> String {
    put(buffer, (area, 0), title, colors.of(Tint::Strong));
    let room = usize::from(area.height.saturating_sub(1));
    let columns = usize::from(area.width);
    let lines: Vec<String> = lines.iter().flat_map(|line| broken(line, columns)).collect();
    let top = top.min(lines.len().saturating_sub(room));
    for (y, line) in (1..).zip(lines.iter().skip(top).take(room)) {
        put(buffer, (area, y), line, colors.of(Tint::Plain));
    }
    range(lines.len(), top, room)
}

/// A line in as many as it needs; the indentation of its first is kept.
fn broken(line: &str, columns: usize) -> Vec<String> {
    let indent: String = line.chars().take_while(|found| *found == ' ').collect();
    let rest = line.trim_start();
    let room = columns.saturating_sub(indent.len()).max(1);
    wrapped(rest, room).into_iter().map(|part| format!("{indent}{part}")).collect()
}

fn range(all: usize, top: usize, room: usize) -> String {
    if all <= room {
        return String::new();
    }
    format!("lines {}-{} of {all}", top.saturating_add(1), top.saturating_add(room).min(all))
}

fn help(buffer: &mut Buffer, area: Rect, (model, top): (&Model, usize), colors: Colors) -> String {
    let below = model.ui.over.iter().rev().find(|over| !matches!(over, Over::Help { .. }));
    let (place, title) = match below {
        Some(Over::Child { .. }) => (Place::Child, "an agent"),
        Some(_) => (Place::Text, "a text"),
        None => (Place::On(model.ui.screen), model.ui.screen.title()),
    };
    let mut lines = Vec::new();
    for binding in bindings(place) {
        lines.push(format!("{} {}", filled(&binding.keys.join(", "), 18), binding.says));
    }
    lines.push(String::new());
    lines.push("What is done asks first, and shows the command that does the same.".to_owned());
    text(buffer, area, (&format!("Keys of: {title}"), &lines), top, colors)
}

fn child(
    buffer: &mut Buffer,
    area: Rect,
    (model, name, now): (&Model, &str, Timestamp),
    (pane, back): (Pane, usize),
    colors: Colors,
) -> String {
    let columns = usize::from(area.width);
    let about = about(model, name, now, (columns, colors));
    let events = event_lines(model, name, (columns, colors));
    let log = log_lines(model, name);
    let part = |top: u16, height: u16| Rect { y: area.y + top, height, ..area };
    match pane {
        Pane::Both => {
            // The overview has what it needs, at most all but eight lines; the others share.
            let needed = u16::try_from(about.len()).unwrap_or(u16::MAX);
            let upper = needed.min(area.height.saturating_sub(8));
            let rest = area.height.saturating_sub(upper);
            let middle = rest / 2;
            for (y, line) in (0..upper).zip(&about) {
                put_line(buffer, (area, y), line);
            }
            if model.picture.agent(name).is_none() {
                // Only agents have a log.
                section(buffer, part(upper, rest), ("events", &events), back, colors);
                return String::new();
            }
            section(buffer, part(upper, middle), ("events", &events), back, colors);
            let lower = part(upper + middle, rest.saturating_sub(middle));
            section(buffer, lower, ("log", &log), back, colors);
            let cut = about.len().saturating_sub(usize::from(upper));
            if cut == 0 { String::new() } else { format!("overview cut by {cut}") }
        }
        Pane::Events => section(buffer, area, ("events", &events), back, colors),
        Pane::Log => section(buffer, area, ("log", &log), back, colors),
    }
}

/// The overview, its long lines broken under their text.
fn about(
    model: &Model,
    name: &str,
    now: Timestamp,
    (columns, colors): (usize, Colors),
) -> Vec<Line<'static>> {
    /// Columns of the labels.
    const LABELS: usize = 11;
    let mut lines = Vec::new();
    for (index, fields) in agent::lines(&model.picture, name, now).into_iter().enumerate() {
        let [label, value] = fields.as_slice() else {
            lines.push(cells(&fields, "  ", columns, colors));
            continue;
        };
        if index == 0 {
            lines.push(cells(&fields, "  ", columns, colors));
            continue;
        }
        let room = columns.saturating_sub(LABELS);
        for (index, part) in wrapped(&value.text, room).into_iter().enumerate() {
            let first = if index == 0 { label.text.as_str() } else { "" };
            let label = Cell::tinted(filled(first, LABELS - 2), label.tint);
            let value = Cell::tinted(part, value.tint);
            lines.push(cells(&[label, value], "  ", columns, colors));
        }
    }
    lines
}

fn event_lines(
    model: &Model,
    name: &str,
    (columns, colors): (usize, Colors),
) -> Vec<Line<'static>> {
    let shown = Shown { least: Severity::Info, about: Some(name), filter: "" };
    let table = events::table(&model.picture, shown, &model.zone);
    if table.rows.is_empty() {
        return vec![Line::from("no events yet")];
    }
    let line = |row: &crate::cli::top::model::table::Row| {
        let mut fields = row.cells.clone();
        // The name stands above already.
        if 2 < fields.len() {
            fields.remove(2);
        }
        cells(&fields, "  ", columns, colors)
    };
    table.rows.iter().map(line).collect()
}

fn log_lines(model: &Model, name: &str) -> Vec<Line<'static>> {
    if model.picture.agent(name).is_none() {
        return vec![Line::from("this is no agent: it has no log of its own")];
    }
    match &model.picture.log {
        Some((agent, Ok(lines))) if agent == name && lines.is_empty() => {
            vec![Line::from("nothing was written yet")]
        }
        Some((agent, Ok(lines))) if agent == name => {
            lines.iter().map(|line| Line::from(crate::cli::human::one_line(&plain(line)))).collect()
        }
        Some((agent, Err(why))) if agent == name => vec![Line::from(why.clone())],
        Some(_) | None => vec![Line::from("asking for the log")],
    }
}

/// A line of a log without its colours.
fn plain(line: &str) -> String {
    anstream::adapter::strip_str(line).to_string()
}

/// A heading and the end of some lines, `back` lines before the last.
fn section(
    buffer: &mut Buffer,
    area: Rect,
    (title, lines): (&str, &[Line<'static>]),
    back: usize,
    colors: Colors,
) -> String {
    let rest = usize::from(area.width).saturating_sub(title.len() + 3);
    put(buffer, (area, 0), &format!("─ {title} {}", "─".repeat(rest)), colors.of(Tint::Faint));
    let room = usize::from(area.height.saturating_sub(1));
    let end = lines.len().saturating_sub(back).max(room.min(lines.len()));
    let first = end.saturating_sub(room);
    for (y, line) in (1..).zip(lines.iter().take(end).skip(first)) {
        put_line(buffer, (area, y), line);
    }
    range(lines.len(), first, room)
}
