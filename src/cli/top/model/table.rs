//! Rows under headers, as every screen has them: what stands in them and how it is tinted, but not
//! where it stands.

/// What a text means. The word or glyph says it too: a tint never says anything alone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Tint {
    /// Nothing in particular.
    #[default]
    Plain,
    /// What matters most.
    Strong,
    /// What matters least.
    Faint,
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// Worth a look.
    Warn,
    /// Worth a look now.
    Bad,
}

/// One field.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cell {
    /// Its text.
    pub(crate) text: String,
    /// What it means.
    pub(crate) tint: Tint,
}

impl Cell {
    /// A field with a meaning.
    pub(crate) fn tinted(text: impl Into<String>, tint: Tint) -> Self {
        Self { text: text.into(), tint }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tint: Tint::Plain }
    }
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    /// By what it is known again when the rows have changed.
    pub(crate) key: String,
    /// Its fields, one for each column.
    pub(crate) cells: Vec<Cell>,
    /// More about it, in a line of its own while it is selected.
    pub(crate) more: String,
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Column {
    /// Its header.
    pub(crate) title: &'static str,
    /// Narrower than this it says nothing.
    pub(crate) min: usize,
    /// Wider than this it is not made.
    pub(crate) max: usize,
    /// When there is no room, the column with the lowest goes first.
    pub(crate) keep: u8,
}

/// Rows under headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// Columns.
    pub(crate) columns: &'static [Column],
    /// Index of the column that the rows are ordered by.
    pub(crate) sorted: Option<usize>,
    /// Rows.
    pub(crate) rows: Vec<Row>,
    /// What is said when there are none.
    pub(crate) empty: String,
    /// A line above the headers.
    pub(crate) above: Vec<Cell>,
}

impl Table {
    /// The row with a key; the row at the place where it was if there is none; the last otherwise.
    pub(crate) fn find(&self, cursor: &Cursor) -> Option<usize> {
        let last = self.rows.len().checked_sub(1)?;
        let by_key = self.rows.iter().position(|row| row.key == cursor.key);
        Some(by_key.unwrap_or(cursor.index.min(last)))
    }

    /// The row that a cursor is on.
    pub(crate) fn selected(&self, cursor: &Cursor) -> Option<&Row> {
        self.rows.get(self.find(cursor)?)
    }

    /// Where a cursor goes.
    pub(crate) fn moved(&self, cursor: &Cursor, step: Step) -> Cursor {
        let Some(at) = self.find(cursor) else { return Cursor::default() };
        let last = self.rows.len().saturating_sub(1);
        let index = match step {
            Step::Up(rows) => at.saturating_sub(rows),
            Step::Down(rows) => at.saturating_add(rows).min(last),
            Step::First => 0,
            Step::Last => last,
        };
        let key = self.rows.get(index).map(|row| row.key.clone()).unwrap_or_default();
        Cursor { key, index }
    }
}

/// Which row is selected: known by its key, so that it stays when others come and go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cursor {
    pub(crate) key: String,
    pub(crate) index: usize,
}

/// How a cursor moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Up(usize),
    Down(usize),
    First,
    Last,
}

/// Whether a text has all the words of a filter; a word after `!` must not be there.
pub(crate) fn has_words(text: &str, filter: &str) -> bool {
    let text = text.to_lowercase();
    filter.to_lowercase().split_whitespace().all(|word| match word.strip_prefix('!') {
        Some("") => true,
        Some(without) => !text.contains(without),
        None => text.contains(word),
    })
}

/// Whether a row has all the words of a filter.
pub(crate) fn row_has_words(row: &Row, filter: &str) -> bool {
    let texts: Vec<&str> = row.cells.iter().map(|cell| cell.text.as_str()).collect();
    has_words(&texts.join(" "), filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keys: &[&str]) -> Table {
        let row = |key: &&str| Row { key: (*key).to_owned(), ..Row::default() };
        Table { rows: keys.iter().map(row).collect(), ..Table::default() }
    }

    #[test]
    fn the_selection_stays_on_its_row_when_others_come_and_go() {
        let cursor = table(&["a", "b", "c"]).moved(&Cursor::default(), Step::Down(1));
        assert_eq!(cursor, Cursor { key: "b".to_owned(), index: 1 });
        for (keys, index) in [
            (&["x", "a", "b", "c"][..], Some(2)),
            (&["b"][..], Some(0)),
            (&["a", "c"][..], Some(1)),
            (&["a"][..], Some(0)),
            (&[][..], None),
        ] {
            assert_eq!(table(keys).find(&cursor), index, "{keys:?}");
        }
    }

    #[test]
    fn a_cursor_does_not_leave_the_table() {
        let table = table(&["a", "b", "c"]);
        let b = Cursor { key: "b".to_owned(), index: 1 };
        for (step, index) in [
            (Step::Up(9), 0),
            (Step::Down(9), 2),
            (Step::First, 0),
            (Step::Last, 2),
            (Step::Up(1), 0),
            (Step::Down(1), 2),
        ] {
            assert_eq!(table.moved(&b, step).index, index, "{step:?}");
        }
        assert_eq!(Table::default().moved(&b, Step::Down(1)), Cursor::default());
    }

    #[test]
    fn a_filter_is_words_that_are_there_or_not() {
        for (filter, fits) in [
            ("", true),
            ("work", true),
            ("WORK 2", true),
            ("work 3", false),
            ("!3", true),
            ("!work", false),
            ("!", true),
        ] {
            assert_eq!(has_words("Worker-2 running", filter), fits, "{filter:?}");
        }
    }
}
