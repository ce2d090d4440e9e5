//! A question, or an answer, in a box over the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Block, BorderType, Clear, Widget as _};

use crate::cli::top::actions::line;
use crate::cli::top::model::Model;
use crate::cli::top::model::table::Tint;
use crate::cli::top::model::ui::{Choice, Dialog};
use crate::cli::top::view::text::{put, width, wrapped};
use crate::cli::top::view::theme::Colors;

/// Columns of the box, at most.
const COLUMNS_MAX: u16 = 76;

/// Lines of an answer that are shown, at most.
const ANSWER_LINES: usize = 14;

/// Draws a dialog.
pub(crate) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    (model, dialog): (&Model, &Dialog),
    colors: Colors,
) {
    let columns = area.width.saturating_sub(4).min(COLUMNS_MAX);
    let inner = usize::from(columns.saturating_sub(4));
    let lines = match dialog {
        Dialog::Confirm(deed, choice) => {
            let mut lines = styled(&deed.says, inner, Tint::Strong);
            lines.push((String::new(), Tint::Plain));
            lines.extend(styled(
                &format!("$ {}", line(&deed.words, &model.way)),
                inner,
                Tint::Busy,
            ));
            lines.push((String::new(), Tint::Plain));
            let (cancel, run) = match choice {
                Choice::Cancel => ("[>Cancel<]", "[ Run ]"),
                Choice::Run => ("[ Cancel ]", "[>Run<]"),
            };
            lines.push((format!("{cancel}  {run}"), Tint::Strong));
            lines
        }
        Dialog::Result(outcome) => {
            let mut lines = styled(&format!("$ {}", outcome.line), inner, Tint::Busy);
            lines.push((String::new(), Tint::Plain));
            let (said, tint) = match &outcome.result {
                Ok(said) => (said, Tint::Plain),
                Err(said) => (said, Tint::Bad),
            };
            for (index, text) in said.iter().enumerate() {
                let tint = if index == 0 { tint } else { Tint::Plain };
                lines.extend(styled(text, inner, tint));
            }
            lines.truncate(ANSWER_LINES);
            lines
        }
    };
    let title = match dialog {
        Dialog::Confirm(..) => " Do this? ",
        Dialog::Result(_) => " It was not done ",
    };
    boxed(buffer, (area, columns), (title, &lines), colors);
}

fn styled(text: &str, columns: usize, tint: Tint) -> Vec<(String, Tint)> {
    wrapped(text, columns).into_iter().map(|line| (line, tint)).collect()
}

fn boxed(
    buffer: &mut Buffer,
    (area, columns): (Rect, u16),
    (title, lines): (&str, &[(String, Tint)]),
    colors: Colors,
) {
    let rows = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2);
    let rows = rows.min(area.height.saturating_sub(2));
    let frame = Rect {
        x: area.width.saturating_sub(columns) / 2,
        y: area.height.saturating_sub(rows) / 2,
        width: columns,
        height: rows,
    };
    Clear.render(frame, buffer);
    buffer.set_style(frame, Style::reset());
    Block::bordered().border_type(BorderType::Double).title(title).render(frame, buffer);
    let inside = Rect {
        x: frame.x.saturating_add(2),
        y: frame.y.saturating_add(1),
        width: frame.width.saturating_sub(4),
        height: frame.height.saturating_sub(2),
    };
    debug_assert!(lines.iter().all(|(text, _)| width(text) <= usize::from(inside.width)));
    for (y, (text, tint)) in (0..).zip(lines) {
        put(buffer, (inside, y), text, colors.of(*tint));
    }
}
