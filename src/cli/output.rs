//! The one output layer: every verb builds a [`Page`], and it is printed as table, json, jsonl or
//! names.
//!
//! `json` is one document that is exactly the answer of the wire; `jsonl` is one line for each item
//! of it; `name` is one name a line; `table` is for people: no borders, upper-case headers, two
//! spaces between columns, so that `grep` and `awk` work on it.

use clap::ValueEnum;
use clap::builder::styling::Style;
use comfy_table::{ContentArrangement, Table as Grid};
use serde::Serialize;
use serde_json::Value;

use crate::cli::console::Console;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::one_line;

/// Form of the output.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Names only.
    Name,
}

/// What a verb has to show, in all forms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The whole answer.
    pub(crate) document: Value,
    /// Its parts.
    pub(crate) items: Vec<Item>,
    /// Lines for people.
    pub(crate) text: Vec<String>,
}

/// One part of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its name.
    pub(crate) name: String,
    /// The part itself.
    pub(crate) value: Value,
}

impl Page {
    /// A page of one document that is its own only part.
    pub(crate) fn single(name: &str, document: Value, text: Vec<String>) -> Self {
        let item = Item { name: name.to_owned(), value: document.clone() };
        Self { document, items: vec![item], text }
    }

    /// Prints the page.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written.
    pub(crate) fn print(&self, console: &mut Console, format: Format) -> Result<(), Failure> {
        match format {
            Format::Table => self.text.iter().try_for_each(|line| console.line(line)),
            Format::Json => console.line(&pretty(&self.document)),
            Format::Jsonl => {
                self.items.iter().try_for_each(|item| console.line(&item.value.to_string()))
            }
            Format::Name => {
                self.items.iter().try_for_each(|item| console.line(&one_line(&item.name)))
            }
        }
    }
}

/// A wire type as a JSON value.
///
/// # Errors
///
/// The value cannot be written as JSON, which is a fault of provost.
pub(crate) fn value_of(wire: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(wire).map_err(|error| {
        Failure::new(Fault::BadAnswer, "the answer cannot be shown as JSON", "report this")
            .caused_by(&error)
    })
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string())
}

/// Refuses forms that a verb cannot have.
///
/// # Errors
///
/// A usage failure that names the forms there are.
pub(crate) fn refuse_names(verb: &str, format: Format) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Json | Format::Jsonl => Ok(()),
        Format::Name => {
            let message = format!("{verb} has no names to list");
            Err(Failure::new(Fault::Usage, message, "use -o table, -o json or -o jsonl"))
        }
    }
}

/// One field of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// A cell in a colour.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style: Some(style) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: None }
    }
}

/// Rows under headers.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    headers: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headers: &'static [&'static str]) -> Self {
        Self { headers, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.headers.len(), "one cell for each header");
        self.rows.push(cells);
    }

    /// The lines: headers, then rows; nothing at all when there are no rows.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let mut grid = Grid::new();
        grid.load_style(comfy_table::presets::NOTHING);
        grid.set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(self.headers.to_vec());
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| shown(&cell.text)).collect();
            grid.add_row(cells);
        }
        for column in grid.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let widths = grid.column_max_content_widths();
        let plain: Vec<String> = grid.lines().map(|line| line.trim_end().to_owned()).collect();
        let mut lines = plain.into_iter();
        let mut all: Vec<String> = lines.next().into_iter().collect();
        all.extend(lines.zip(&self.rows).map(|(line, row)| styled(line, row, &widths)));
        all
    }
}

/// An empty field would shift what `awk` sees.
fn shown(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { one_line(text) }
}

/// Puts colours into a finished line. Only behind plain ASCII are columns and bytes the same, so a
/// cell behind anything else stays plain.
fn styled(line: String, row: &[Cell], widths: &[u16]) -> String {
    let mut colored = String::with_capacity(line.len());
    let mut done = 0;
    let mut start = 0;
    for (cell, width) in row.iter().zip(widths) {
        let text = shown(&cell.text);
        let end = start + text.len();
        if let Some(style) = cell.style
            && line.get(..end).is_some_and(str::is_ascii)
            && let (Some(before), Some(part)) = (line.get(done..start), line.get(start..end))
        {
            colored.push_str(before);
            colored.push_str(&format!("{style}{part}{style:#}"));
            done = end;
        }
        start += usize::from(*width) + 2;
    }
    colored.push_str(line.get(done..).unwrap_or_default());
    colored
}

#[cfg(test)]
mod tests {
    use clap::builder::styling::AnsiColor;
    use serde_json::json;

    use super::*;
    use crate::cli::testing::console;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "REASON"]);
        let green = AnsiColor::Green.on_default();
        table.row(vec!["w1".into(), Cell::styled("running", green), "".into()]);
        table.row(vec!["long-name".into(), Cell::styled("backoff", green), "exit\n1".into()]);
        table
    }

    #[test]
    fn a_table_has_two_space_gutters_and_no_borders() {
        let plain: Vec<String> = table()
            .lines()
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(
            plain,
            ["NAME       STATE    REASON", "w1         running  -", "long-name  backoff  exit 1"]
        );
        assert!(Table::new(&["NAME"]).lines().is_empty());
    }

    #[test]
    fn a_colour_covers_its_word_only() {
        assert_eq!(table().lines()[1], "w1         \u{1b}[32mrunning\u{1b}[0m  -");
    }

    #[test]
    fn wide_characters_before_a_colour_leave_the_line_plain() {
        let mut table = Table::new(&["NAME", "STATE"]);
        let cell = Cell::styled("running", AnsiColor::Green.on_default());
        table.row(vec!["日本".into(), cell]);
        assert_eq!(table.lines()[1], "日本  running");
    }

    #[test]
    fn a_page_has_four_forms() {
        let item = |name: &str| Item { name: name.to_owned(), value: json!({"name": name}) };
        let page = Page {
            document: json!({"ok": true}),
            items: vec![item("a"), item("b")],
            text: vec!["NAME".to_owned(), "a".to_owned()],
        };
        let print = |format| {
            let (mut console, screen) = console();
            page.print(&mut console, format).unwrap();
            screen.out()
        };
        assert_eq!(print(Format::Table), "NAME\na\n");
        assert_eq!(print(Format::Json), "{\n  \"ok\": true\n}\n");
        assert_eq!(print(Format::Jsonl), "{\"name\":\"a\"}\n{\"name\":\"b\"}\n");
        assert_eq!(print(Format::Name), "a\nb\n");
    }
}
