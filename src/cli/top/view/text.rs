//! Lines of text on a part of the screen: fitted, cut with `…`, never wrapped into the next part.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::cli::human::one_line;
use crate::cli::top::model::table::Cell;
use crate::cli::top::view::theme::Colors;

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text that takes at most so many columns; `…` stands for what is cut. Control characters become
/// spaces.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let text = one_line(text);
    if width(&text) <= columns {
        return text;
    }
    let mut fitted = String::new();
    let mut taken = 0;
    for letter in text.chars() {
        let wide = width(letter.encode_utf8(&mut [0; 4]));
        // One column is left for the mark.
        if columns.saturating_sub(1) < taken + wide {
            break;
        }
        taken += wide;
        fitted.push(letter);
    }
    if 0 < columns {
        fitted.push('…');
    }
    fitted
}

/// A text that takes exactly so many columns.
pub(crate) fn filled(text: &str, columns: usize) -> String {
    let mut text = fit(text, columns);
    let missing = columns.saturating_sub(width(&text));
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// Writes a text into the line `y` of an area.
pub(crate) fn put(buffer: &mut Buffer, (area, y): (Rect, u16), text: &str, style: Style) {
    if y < area.height {
        let text = fit(text, usize::from(area.width));
        buffer.set_stringn(area.x, area.y + y, text, usize::from(area.width), style);
    }
}

/// Fields one after the other, as far as they fit.
pub(crate) fn cells(all: &[Cell], between: &str, columns: usize, colors: Colors) -> Line<'static> {
    let mut line = Line::default();
    let mut left = columns;
    for (index, cell) in all.iter().enumerate() {
        let gap = if index == 0 { "" } else { between };
        if left <= width(gap) {
            break;
        }
        left -= width(gap);
        let text = fit(&cell.text, left);
        left -= width(&text);
        line.push_span(Span::raw(gap.to_owned()));
        line.push_span(Span::styled(text, colors.of(cell.tint)));
    }
    line
}

/// Writes a line into the line `y` of an area.
pub(crate) fn put_line(buffer: &mut Buffer, (area, y): (Rect, u16), line: &Line<'_>) {
    if y < area.height {
        buffer.set_line(area.x, area.y + y, line, area.width);
    }
}

/// A text broken into lines at spaces, at most so many columns wide; longer words are broken.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in one_line(text).split(' ') {
        let mut word = word.to_owned();
        let between = usize::from(!line.is_empty());
        if columns < width(&line) + between + width(&word) && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        } else if between == 1 {
            line.push(' ');
        }
        while columns < width(&word) {
            let head: String = word.chars().take(columns).collect();
            word = word.chars().skip(columns).collect();
            lines.push(head);
        }
        line.push_str(&word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_with_a_mark_and_moves_no_cursor() {
        for (text, columns, expected) in [
            ("running", 7, "running"),
            ("running", 6, "runni…"),
            ("running", 1, "…"),
            ("running", 0, ""),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("a\u{1b}[2J", 9, "a [2J"),
        ] {
            assert_eq!(fit(text, columns), expected);
            assert_eq!(width(&filled(text, columns)), columns, "{text} {columns}");
        }
    }

    #[test]
    fn a_text_is_broken_at_spaces_and_a_long_word_anywhere() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
