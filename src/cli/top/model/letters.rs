//! Dead letters as rows.

use jiff::Timestamp;

use crate::cli::human::age;
use crate::cli::top::model::picture::Picture;
use crate::cli::top::model::table::{Cell, Column, Row, Table, Tint, row_has_words};
use crate::transport::dead_letters::Kept;

const COLUMNS: &[Column] = &[
    Column { title: "ID", min: 12, max: 36, keep: 5 },
    Column { title: "TYPE", min: 8, max: 20, keep: 8 },
    Column { title: "AGE", min: 4, max: 4, keep: 9 },
    Column { title: "TRIES", min: 5, max: 5, keep: 6 },
    Column { title: "ERROR", min: 20, max: 80, keep: 7 },
    Column { title: "ORIGINAL", min: 16, max: 120, keep: 4 },
];

/// The dead letters as a table, newest first.
pub(crate) fn table(picture: &Picture, filter: &str, now: Timestamp) -> Table {
    let mut table = Table { columns: COLUMNS, ..Table::default() };
    let letters = match &picture.letters {
        None => {
            table.empty = "asking for the dead letters".to_owned();
            return table;
        }
        Some(Err(why)) => {
            table.empty = format!("no dead letters can be shown: {why}");
            return table;
        }
        Some(Ok(letters)) => letters,
    };
    let rows = letters.iter().rev().map(|kept| row(kept, now));
    table.rows = rows.filter(|row| row_has_words(row, filter)).collect();
    table.empty = if filter.is_empty() {
        "no dead letters".to_owned()
    } else {
        "nothing fits the filter; / changes it, Esc clears it".to_owned()
    };
    table
}

fn row(kept: &Kept, now: Timestamp) -> Row {
    let letter = &kept.letter;
    let error = format!("{}: {}", letter.error.code, letter.error.message);
    Row {
        key: kept.id.clone(),
        cells: vec![
            kept.id.as_str().into(),
            kept.kind.as_str().into(),
            age(now, kept.time).into(),
            letter.retry_count.to_string().into(),
            Cell::tinted(error.as_str(), Tint::Bad),
            format!("{} {}", letter.original.subject, letter.original.id).into(),
        ],
        more: error,
    }
}

/// One dead letter as a whole, in lines.
pub(crate) fn page(picture: &Picture, id: &str) -> Option<Vec<String>> {
    let Some(Ok(letters)) = &picture.letters else { return None };
    let kept = letters.iter().find(|kept| kept.id == id)?;
    let text = serde_json::to_string_pretty(kept).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}
