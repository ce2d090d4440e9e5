//! A table on a part of the screen: as many columns as there is room for, the rows around the
//! selected one. What is cut is told.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use crate::cli::top::model::table::{Column, Cursor, Row, Table, Tint};
use crate::cli::top::view::text::{cells, filled, put, put_line, width};
use crate::cli::top::view::theme::Colors;

/// Columns between two fields.
const GUTTER: usize = 2;

/// The mark before the selected row: it is seen without reversal and colour.
const MARK: &str = "> ";

/// What there was no room for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cut {
    /// Titles of columns.
    pub(crate) columns: Vec<&'static str>,
    /// First and last row that is shown, counted from 1, and how many there are.
    pub(crate) rows: Option<(usize, usize, usize)>,
}

impl Cut {
    /// In words, for a line under the table.
    pub(crate) fn words(&self) -> String {
        let rows = self.rows.map(|(first, last, all)| format!("rows {first}-{last} of {all}"));
        let columns = &self.columns;
        let columns = (!columns.is_empty()).then(|| format!("no room for {}", columns.join(", ")));
        [rows, columns].into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}

/// Draws a table.
pub(crate) fn grid(
    buffer: &mut Buffer,
    area: Rect,
    (table, cursor): (&Table, &Cursor),
    colors: Colors,
) -> Cut {
    let mut y = 0;
    if !table.above.is_empty() {
        let line = cells(&table.above, "  ", usize::from(area.width), colors);
        put_line(buffer, (area, y), &line);
        y += 1;
    }
    if table.rows.is_empty() {
        put(buffer, (area, y + 1), &format!("  {}", table.empty), colors.of(Tint::Faint));
        return Cut::default();
    }
    let (widths, columns) = layout(table, usize::from(area.width).saturating_sub(width(MARK)));
    headers(buffer, (area, y), table, (&widths, colors));
    y += 1;
    let room = usize::from(area.height.saturating_sub(y));
    let selected = table.find(cursor).unwrap_or(0);
    let first = first_row(table.rows.len(), selected, room);
    for (index, row) in table.rows.iter().enumerate().skip(first).take(room) {
        let is_selected = index == selected;
        draw_row(buffer, (area, y), (row, &widths), colors);
        if is_selected {
            let line = Rect { y: area.y + y, height: 1, ..area };
            put(buffer, (line, 0), MARK, colors.of(Tint::Strong));
            buffer.set_style(line, colors.selected());
        }
        y += 1;
    }
    let all = table.rows.len();
    let rows = (room < all).then(|| (first + 1, (first + room).min(all), all));
    Cut { columns, rows }
}

/// The first row shown: the selected one stays in the middle where that is possible.
fn first_row(all: usize, selected: usize, room: usize) -> usize {
    let middle = room.checked_div(2).unwrap_or(0);
    selected.saturating_sub(middle).min(all.saturating_sub(room))
}

fn headers(
    buffer: &mut Buffer,
    (area, y): (Rect, u16),
    table: &Table,
    (widths, colors): (&[Option<usize>], Colors),
) {
    let mut text = " ".repeat(width(MARK));
    for (index, (column, width)) in table.columns.iter().zip(widths).enumerate() {
        let Some(width) = width else { continue };
        let mark = if table.sorted == Some(index) { "▾" } else { "" };
        text.push_str(&filled(&format!("{}{mark}", column.title), *width));
        text.push_str(&" ".repeat(GUTTER));
    }
    put(buffer, (area, y), text.trim_end(), colors.of(Tint::Strong));
    let line = Rect { y: area.y + y, height: 1, ..area };
    buffer.set_style(line, Modifier::UNDERLINED);
}

fn draw_row(
    buffer: &mut Buffer,
    (area, y): (Rect, u16),
    (row, widths): (&Row, &[Option<usize>]),
    colors: Colors,
) {
    let mut x = u16::try_from(width(MARK)).unwrap_or(0);
    for (cell, columns) in row.cells.iter().zip(widths) {
        let Some(columns) = columns else { continue };
        let wide = u16::try_from(*columns).unwrap_or(u16::MAX);
        let field = Rect {
            x: area.x.saturating_add(x),
            width: wide.min(area.width.saturating_sub(x)),
            ..area
        };
        put(buffer, (field, y), &cell.text, colors.of(cell.tint));
        x = x.saturating_add(wide).saturating_add(u16::try_from(GUTTER).unwrap_or(0));
    }
}

/// The width of each column, `None` for those that there is no room for, and the titles of these.
fn layout(table: &Table, room: usize) -> (Vec<Option<usize>>, Vec<&'static str>) {
    let mut kept: Vec<bool> = vec![true; table.columns.len()];
    let wanted = |kept: &[bool]| {
        let shown = table.columns.iter().zip(kept).filter(|(_, kept)| **kept);
        let widths: Vec<usize> = shown.map(|(column, _)| column.min).collect();
        widths.iter().sum::<usize>() + GUTTER * widths.len().saturating_sub(1)
    };
    let mut cut = Vec::new();
    while room < wanted(&kept) {
        let shown = table.columns.iter().enumerate().zip(&kept).filter(|(_, kept)| **kept);
        let least = shown.map(|(column, _)| column).min_by_key(|(_, column)| column.keep);
        let Some((index, column)) = least else { break };
        if let Some(kept) = kept.get_mut(index) {
            *kept = false;
        }
        cut.push(column.title);
    }
    let mut left = room.saturating_sub(wanted(&kept));
    let mut widths = Vec::with_capacity(kept.len());
    for (index, (column, kept)) in table.columns.iter().zip(&kept).enumerate() {
        if !kept {
            widths.push(None);
            continue;
        }
        let more = natural(table, index, column).saturating_sub(column.min).min(left);
        left -= more;
        widths.push(Some(column.min + more));
    }
    cut.reverse();
    (widths, cut)
}

/// The width that a column would like to have.
fn natural(table: &Table, index: usize, column: &Column) -> usize {
    let cells = table.rows.iter().filter_map(|row| row.cells.get(index));
    let widest = cells.map(|cell| width(&cell.text)).max().unwrap_or(0);
    widest.clamp(column.min, column.max.max(column.min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_always_shown() {
        for (all, selected, room, first) in [
            (3, 2, 5, 0),
            (10, 0, 4, 0),
            (10, 2, 4, 0),
            (10, 5, 4, 3),
            (10, 9, 4, 6),
            (10, 9, 0, 9),
        ] {
            assert_eq!(first_row(all, selected, room), first, "{all} {selected} {room}");
        }
    }

    #[test]
    fn the_least_needed_columns_go_first_and_are_named() {
        const COLUMNS: &[Column] = &[
            Column { title: "A", min: 4, max: 10, keep: 9 },
            Column { title: "B", min: 4, max: 4, keep: 1 },
            Column { title: "C", min: 4, max: 20, keep: 5 },
        ];
        let cells = ["aaaaaa", "b", "cccccccc"].map(Into::into);
        let row = Row { cells: cells.to_vec(), ..Row::default() };
        let table = Table { columns: COLUMNS, rows: vec![row], ..Table::default() };
        for (room, widths, cut) in [
            (40, [Some(6), Some(4), Some(8)], &[][..]),
            (17, [Some(5), Some(4), Some(4)], &[]),
            (15, [Some(6), None, Some(7)], &["B"]),
            (9, [Some(6), None, None], &["C", "B"]),
            (2, [None, None, None], &["A", "C", "B"]),
        ] {
            let (shown, gone) = layout(&table, room);
            assert_eq!((shown.as_slice(), gone.as_slice()), (&widths[..], cut), "{room}");
        }
    }
}
