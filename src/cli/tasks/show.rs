//! `provost task list` and `show`: tasks for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::human::{age, clock_time, one_line};
use crate::cli::output::{Format, Item, Page, Table, value_of};
use crate::cli::tasks::Bench;
use crate::cli::tasks::arguments::{ListArguments, OneArguments};
use crate::cli::tasks::client::unknown;
use crate::protocol::task::{TaskRecord, TaskState};

impl Bench<'_> {
    pub(super) async fn list(&mut self, arguments: &ListArguments) -> Result<Exit, Failure> {
        let mut last = self.client.last_records().await?;
        let waiting = self.client.waiting().await?;
        let mut rows: Vec<(u64, Value)> = Vec::new();
        for waiting in waiting {
            if last.contains_key(&waiting.id) {
                continue;
            }
            let row = json!({
                "task_id": waiting.id,
                "type": waiting.task_type,
                "state": TaskState::Accepted,
                "submission": waiting.sequence,
                "attempt": 0,
            });
            rows.push((waiting.sequence, row));
        }
        while let Some((_, mut record)) = last.pop_first() {
            record.result = None;
            rows.push((record.submission, value_of(&record)?));
        }
        let fits = |row: &Value| {
            arguments.state.is_none_or(|state| row["state"] == state.as_str())
                && arguments.task_type.as_ref().is_none_or(|kind| row["type"] == kind.as_str())
        };
        rows.retain(|(_, row)| fits(row));
        rows.sort_by_key(|(submission, _)| std::cmp::Reverse(*submission));
        rows.truncate(arguments.limit);
        let mut table = Table::new(&["TASK", "TYPE", "STATE", "ATTEMPT", "AGENT", "AGE", "ERROR"]);
        let mut page = Page::default();
        for (_, row) in &rows {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let since: Option<Timestamp> = text(&row["time"]).parse().ok();
            table.row(vec![
                text(&row["task_id"]).into(),
                text(&row["type"]).into(),
                text(&row["state"]).into(),
                row["attempt"].to_string().into(),
                text(&row["agent_id"]).into(),
                since.map_or_else(String::new, |since| age(Timestamp::now(), since)).into(),
                row.pointer("/error/message").map_or_else(String::new, text).into(),
            ]);
            page.items.push(Item { name: text(&row["task_id"]), value: row.clone() });
        }
        page.text = table.lines();
        page.document =
            json!({ "tasks": rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>() });
        page.print(self.console, self.common.output)?;
        Ok(Exit::Done)
    }

    pub(super) async fn show(&mut self, arguments: &OneArguments) -> Result<Exit, Failure> {
        let id = &arguments.task;
        let records = self.client.records(id).await?;
        if records.is_empty() {
            let waiting = self.client.waiting().await?;
            let found = waiting.into_iter().find(|waiting| waiting.id == *id);
            let Some(waiting) = found else { return Err(unknown(id)) };
            let document = json!({
                "task_id": id, "type": waiting.task_type, "state": TaskState::Accepted,
                "submission": waiting.sequence, "records": [],
            });
            let text = vec![format!("{id} {} accepted: waits for an agent", waiting.task_type)];
            Page::single(id.as_str(), document, text).print(self.console, self.common.output)?;
            return Ok(Exit::Done);
        }
        let zone = TimeZone::system();
        let lines = records.iter().map(|(sequence, record)| line(record, *sequence, &zone));
        let text = lines.collect();
        let mut values = Vec::new();
        for (sequence, record) in &records {
            let mut value = value_of(record)?;
            let fields = value.as_object_mut();
            fields.map(|fields| fields.insert("sequence".to_owned(), json!(sequence)));
            values.push(value);
        }
        let last = records.last().map(|(_, record)| record);
        let document = json!({
            "task_id": id,
            "type": last.map(|last| &last.task_type),
            "state": last.map(|last| last.state),
            "agent_id": last.and_then(|last| last.agent_id.as_ref()),
            "attempt": last.map(|last| last.attempt),
            "records": values,
        });
        Page::single(id.as_str(), document, text).print(self.console, self.common.output)?;
        Ok(Exit::Done)
    }
}

/// Prints one step of a task's life.
pub(super) fn print_step(bench: &mut Bench<'_>, record: &TaskRecord) -> Result<(), Failure> {
    let console: &mut Console = bench.console;
    match bench.common.output {
        Format::Table | Format::Name => {
            console.line(&line(record, 0, &TimeZone::system()))?;
        }
        Format::Json | Format::Jsonl => console.line(&value_of(record)?.to_string())?,
    }
    console.flush()
}

/// One step as a line: time, state, attempt, agent, and what is to be said about it.
pub(crate) fn line(record: &TaskRecord, sequence: u64, zone: &TimeZone) -> String {
    let mut text = format!("{} {:<14}", clock_time(record.time, zone), record.state.as_str());
    if 0 < record.attempt {
        text.push_str(&format!(" attempt {}", record.attempt));
    }
    if let Some(agent) = &record.agent_id {
        text.push_str(&format!(" agent {agent}"));
    }
    if record.state == TaskState::Assigned && 0 < sequence {
        text.push_str(&format!(" token {sequence}"));
    }
    if let Some(progress) = &record.progress {
        text.push_str(&format!(" {}/{}", progress.0, progress.1));
    }
    if let Some(message) = &record.message {
        text.push_str(&format!(" {}", one_line(message)));
    }
    if let Some(error) = &record.error {
        text.push_str(&format!(" {}", one_line(&error.to_string())));
    }
    if let Some(result) = &record.result {
        let shown: String = result.to_string().chars().take(200).collect();
        text.push_str(&format!(" {shown}"));
    }
    text
}
