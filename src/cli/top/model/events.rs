//! Events as rows, oldest first, and the way from an event to what caused it.

use jiff::tz::TimeZone;

use crate::cli::client::Seen;
use crate::cli::event_text::{is_about, name_of, what};
use crate::cli::human::clock_time;
use crate::cli::top::model::picture::Picture;
use crate::cli::top::model::table::{Cell, Column, Row, Table, Tint, row_has_words};
use crate::cli::top::model::tree::of_severity;
use crate::protocol::fact::Severity;

const COLUMNS: &[Column] = &[
    Column { title: "TIME", min: 8, max: 8, keep: 9 },
    Column { title: "SEVERITY", min: 10, max: 10, keep: 8 },
    Column { title: "NAME", min: 10, max: 24, keep: 9 },
    Column { title: "WHAT", min: 20, max: 300, keep: 9 },
];

/// Which events are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    /// Only what is at least that bad.
    pub(crate) least: Severity,
    /// Only what is about this child.
    pub(crate) about: Option<&'a str>,
    /// Only what has these words.
    pub(crate) filter: &'a str,
}

/// The events as a table.
pub(crate) fn table(picture: &Picture, shown: Shown<'_>, zone: &TimeZone) -> Table {
    let fits = |seen: &&Seen| {
        shown.least <= seen.envelope.severity
            && shown.about.is_none_or(|name| is_about(&seen.envelope, name))
    };
    let rows = picture.events.iter().filter(fits).map(|seen| row(seen, zone));
    let rows: Vec<Row> = rows.filter(|row| row_has_words(row, shown.filter)).collect();
    let empty = if shown.filter.is_empty() && shown.least == Severity::Info {
        "no events yet"
    } else {
        "nothing fits the filter and the severity; / and s change them, Esc clears the filter"
    };
    let above = if shown.least == Severity::Info {
        Vec::new()
    } else {
        vec![Cell::tinted(format!("{} and worse", shown.least.as_str()), Tint::Faint)]
    };
    Table { columns: COLUMNS, sorted: None, rows, empty: empty.to_owned(), above }
}

fn row(seen: &Seen, zone: &TimeZone) -> Row {
    let event = &seen.envelope;
    let tint = of_severity(event.severity);
    let text = what(event);
    Row {
        key: event.id.to_string(),
        cells: vec![
            Cell::tinted(clock_time(event.time, zone), Tint::Faint),
            Cell::tinted(format!("{} {}", glyph(event.severity), event.severity.as_str()), tint),
            name_of(event).into(),
            Cell::tinted(text.as_str(), tint),
        ],
        more: text,
    }
}

/// The severity after this one, the mildest after the worst.
pub(crate) fn next_severity(severity: Severity) -> Severity {
    let mut worse = Severity::ALL.into_iter().filter(|known| severity < *known);
    worse.next().unwrap_or_default()
}

fn glyph(severity: Severity) -> char {
    match severity {
        Severity::Info => '·',
        Severity::Low => '-',
        Severity::Medium => '▲',
        Severity::High => '✘',
        Severity::Critical => '█',
    }
}

/// The key of the event that caused this one, if it is among those that are kept.
///
/// # Errors
///
/// Says why there is no way to it.
pub(crate) fn cause(picture: &Picture, key: &str) -> Result<String, String> {
    let find = |id: &str| picture.events.iter().find(|seen| seen.envelope.id.to_string() == id);
    let event = find(key).ok_or("this event is not kept any more")?;
    let Some(cause) = &event.envelope.causationid else {
        return Err("no event caused this one: it is the first of its chain".to_owned());
    };
    match find(cause.as_str()) {
        Some(_) => Ok(cause.to_string()),
        None => Err(format!("its cause {cause} is older than what is kept here")),
    }
}

/// One event as a whole, in lines.
pub(crate) fn page(picture: &Picture, key: &str) -> Option<Vec<String>> {
    let seen = picture.events.iter().find(|seen| seen.envelope.id.to_string() == key)?;
    let text = serde_json::to_string_pretty(&seen.document).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}
