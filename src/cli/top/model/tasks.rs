//! Tasks as rows, with counts of each state and a filter in words: `state:failed agent:coder
//! type:review age:>5m timeout`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::human::{age, parse_span};
use crate::cli::top::model::picture::{Picture, Task};
use crate::cli::top::model::table::{Cell, Column, Row, Table, Tint, has_words};
use crate::protocol::task::TaskState;

const COLUMNS: &[Column] = &[
    Column { title: "TASK", min: 12, max: 36, keep: 9 },
    Column { title: "TYPE", min: 8, max: 20, keep: 6 },
    Column { title: "STATE", min: 16, max: 16, keep: 9 },
    Column { title: "TRY", min: 3, max: 5, keep: 4 },
    Column { title: "AGENT", min: 8, max: 24, keep: 5 },
    Column { title: "AGE", min: 4, max: 4, keep: 7 },
    Column { title: "ERROR OR PROGRESS", min: 14, max: 200, keep: 3 },
];

/// Which tasks are shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Filter {
    state: Option<String>,
    agent: Option<String>,
    kind: Option<String>,
    older: Option<Duration>,
    younger: Option<Duration>,
    words: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// Says which word is wrong, and what may stand there.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for word in text.split_whitespace() {
            match word.split_once(':') {
                Some(("state", state)) => filter.state = Some(state_word(state)?),
                Some(("agent", agent)) => filter.agent = Some(agent.to_lowercase()),
                Some(("type", kind)) => filter.kind = Some(kind.to_lowercase()),
                Some(("age", bound)) => match bound.split_at_checked(1) {
                    Some((">", span)) => filter.older = Some(parse_span(span)?),
                    Some(("<", span)) => filter.younger = Some(parse_span(span)?),
                    Some(_) | None => return Err("write age:>5m or age:<1h".to_owned()),
                },
                Some(_) | None => {
                    filter.words.push_str(word);
                    filter.words.push(' ');
                }
            }
        }
        Ok(filter)
    }

    /// Whether it leaves out nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn fits(&self, task: &Task, picture: &Picture, now: Timestamp) -> bool {
        let agent = agent_of(task, picture).to_lowercase();
        let has = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| text.contains(wanted.as_str()))
        };
        let passed = task.record.as_ref().map(|record| now.duration_since(record.accepted_at));
        let passed = passed.and_then(|passed| Duration::try_from(passed).ok()).unwrap_or_default();
        has(&self.state, &task.state)
            && has(&self.agent, &agent)
            && has(&self.kind, &task.kind.to_lowercase())
            && self.older.is_none_or(|bound| bound <= passed)
            && self.younger.is_none_or(|bound| passed < bound)
            && has_words(&format!("{} {} {}", task.id, task.kind, error_of(task)), &self.words)
    }
}

fn state_word(text: &str) -> Result<String, String> {
    let mut known = TaskState::ALL.into_iter().map(TaskState::as_str);
    let text = text.to_lowercase();
    if known.any(|word| word.starts_with(&text)) {
        return Ok(text);
    }
    let words: Vec<&str> = TaskState::ALL.into_iter().map(TaskState::as_str).collect();
    Err(format!("state: is one of {}", words.join(", ")))
}

/// The tasks as a table, newest first.
pub(crate) fn table(picture: &Picture, text: &str, now: Timestamp) -> Table {
    let (filter, wrong) = match Filter::read(text) {
        Ok(filter) => (filter, None),
        Err(wrong) => (Filter::default(), Some(wrong)),
    };
    let mut table = Table { columns: COLUMNS, ..Table::default() };
    let tasks = match &picture.tasks {
        None => {
            table.empty = "asking for the tasks".to_owned();
            return table;
        }
        Some(Err(why)) => {
            table.empty = format!("no tasks can be shown: {why}");
            return table;
        }
        Some(Ok(tasks)) => tasks,
    };
    let mut fitting: Vec<&Task> =
        tasks.iter().filter(|task| filter.fits(task, picture, now)).collect();
    fitting.sort_by_key(|task| std::cmp::Reverse(task.submission));
    table.rows = fitting.into_iter().map(|task| row(task, picture, now)).collect();
    table.empty = if filter.is_empty() {
        "no tasks; submit one with: provost task submit TYPE INPUT".to_owned()
    } else {
        "nothing fits the filter; / changes it, Esc clears it".to_owned()
    };
    table.above = match wrong {
        Some(wrong) => vec![Cell::tinted(format!("filter: {wrong}"), Tint::Bad)],
        None => facets(tasks),
    };
    table
}

/// How many tasks are in each state.
fn facets(tasks: &[Task]) -> Vec<Cell> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for task in tasks {
        let count = counts.entry(task.state.as_str()).or_default();
        *count = count.saturating_add(1);
    }
    let mut cells = vec![Cell::tinted(format!("all {}", tasks.len()), Tint::Strong)];
    for state in TaskState::ALL {
        if let Some(count) = counts.get(state.as_str()) {
            cells.push(Cell::tinted(format!("{} {count}", state.as_str()), tint(state)));
        }
    }
    cells
}

fn row(task: &Task, picture: &Picture, now: Timestamp) -> Row {
    let record = task.record.as_deref();
    let state = TaskState::ALL.into_iter().find(|state| state.as_str() == task.state);
    let tint = state.map(tint).unwrap_or_default();
    let told = error_of(task);
    Row {
        key: task.id.clone(),
        cells: vec![
            task.id.as_str().into(),
            task.kind.as_str().into(),
            Cell::tinted(format!("{} {}", state.map_or(' ', glyph), task.state), tint),
            record.map(|record| record.attempt.to_string()).unwrap_or_default().into(),
            agent_of(task, picture).into(),
            record.map(|record| age(now, record.accepted_at)).unwrap_or_default().into(),
            told.as_str().into(),
        ],
        more: told,
    }
}

fn agent_of<'p>(task: &'p Task, picture: &'p Picture) -> &'p str {
    let id = task.record.as_ref().and_then(|record| record.agent_id.as_ref());
    id.map_or("", |id| picture.name_for(id.as_str()))
}

/// What went wrong, or how far it is.
fn error_of(task: &Task) -> String {
    let Some(record) = &task.record else { return "waits for an agent".to_owned() };
    if record.state == TaskState::Completed {
        return String::new();
    }
    let progress = record.progress.as_ref().map(|done| format!("{}/{}", done.0, done.1));
    let parts = [
        progress,
        record.message.clone(),
        record.error.as_ref().map(|error| format!("{}: {}", error.code, error.message)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn glyph(state: TaskState) -> char {
    match state {
        TaskState::Accepted => '○',
        TaskState::Assigned => '◐',
        TaskState::Working => '●',
        TaskState::InputRequired => '?',
        TaskState::Completed => '✔',
        TaskState::Failed => '✘',
        TaskState::Cancelled => '■',
        TaskState::Expired => '▲',
        TaskState::Rejected => '✘',
    }
}

fn tint(state: TaskState) -> Tint {
    match state {
        TaskState::Accepted | TaskState::Assigned => Tint::Busy,
        TaskState::Working | TaskState::Completed => Tint::Good,
        TaskState::InputRequired | TaskState::Expired => Tint::Warn,
        TaskState::Failed | TaskState::Rejected => Tint::Bad,
        TaskState::Cancelled => Tint::Faint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_or_says_what_is_wrong() {
        for text in ["", "state:failed", "state:fail", "agent:A type:b x y", "age:>5m age:<1h"] {
            assert!(Filter::read(text).is_ok(), "{text}");
        }
        assert!(Filter::read("").unwrap().is_empty());
        for (text, said) in [
            ("state:borken", "accepted, assigned"),
            ("age:5m", "age:>5m"),
            ("age:", "age:>5m"),
            ("age:>5", "5m"),
        ] {
            assert!(Filter::read(text).unwrap_err().contains(said), "{text}");
        }
    }
}
