//! `provost dlq`: dead letters listed, shown, sent again, dropped.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::{age, one_line};
use crate::cli::output::{Format, Item, Page, Table, value_of};
use crate::cli::work_arguments::{DlqChosen, DlqFilter, DlqVerb};
use crate::transport::connect::Connection;
use crate::transport::dead_letters::{
    Afterwards, DeadLetterError, DeadLetters, Filter, Found, Kept,
};

/// Dead letters that one command acts on at most.
const ACT_MAX: usize = 100_000;

/// Does what the verb says.
///
/// # Errors
///
/// The stream cannot be read, or no dead letter has the id.
pub(crate) async fn dlq(
    console: &mut Console,
    format: Format,
    connection: &Connection,
    verb: &DlqVerb,
) -> Result<Exit, Failure> {
    let letters = DeadLetters::open(connection).await.map_err(|error| failed(&error))?;
    let mut desk = Desk { console, format, letters, now: Timestamp::now() };
    match verb {
        DlqVerb::List(arguments) => desk.list(&arguments.filter, arguments.limit).await,
        DlqVerb::Show(arguments) => desk.show(&arguments.ids).await,
        DlqVerb::Replay(arguments) => {
            let afterwards = if arguments.keep { Afterwards::Keep } else { Afterwards::Drop };
            desk.replay(&arguments.chosen, arguments.to.as_deref(), afterwards).await
        }
        DlqVerb::Drop(chosen) => desk.drop(chosen).await,
    }
}

struct Desk<'a> {
    console: &'a mut Console,
    format: Format,
    letters: DeadLetters,
    now: Timestamp,
}

impl Desk<'_> {
    async fn list(&mut self, filter: &DlqFilter, limit: usize) -> Result<Exit, Failure> {
        let found = self.find(&self.filter(filter, &[]), limit).await?;
        if found.letters.is_empty() {
            self.console.note("no dead letters");
        }
        let more = found.more;
        self.print(&found.letters, json!({ "ok": true, "more": more }), table(&found, self.now))?;
        if more {
            self.console.note(&format!("only the oldest {limit} are shown; --limit shows more"));
        }
        Ok(Exit::Done)
    }

    async fn show(&mut self, ids: &[String]) -> Result<Exit, Failure> {
        let found = self.named(ids).await?;
        let mut text = Vec::new();
        for kept in &found.letters {
            let document = serde_json::to_string_pretty(&value_of(kept)?).unwrap_or_default();
            text.extend(document.lines().map(str::to_owned));
        }
        self.print(&found.letters, json!({ "ok": true }), text)?;
        Ok(Exit::Done)
    }

    async fn replay(
        &mut self,
        chosen: &DlqChosen,
        to: Option<&str>,
        afterwards: Afterwards,
    ) -> Result<Exit, Failure> {
        let found = self.chosen(chosen).await?;
        let mut exits = Vec::new();
        let mut rows = Vec::new();
        for kept in &found.letters {
            let outcome = if chosen.dry_run {
                let again = self.letters.again(kept, to);
                again.map(|again| (again.subject, json!("would be sent")))
            } else {
                let done = self.letters.replay(kept, to, afterwards).await;
                done.map(|stored| (stored.stream, json!(stored.sequence)))
            };
            exits.push(self.noted(&mut rows, kept, outcome));
        }
        let word = if chosen.dry_run { "would be sent again" } else { "sent again" };
        self.told(&found, rows, &exits, word)
    }

    async fn drop(&mut self, chosen: &DlqChosen) -> Result<Exit, Failure> {
        let found = self.chosen(chosen).await?;
        let mut exits = Vec::new();
        let mut rows = Vec::new();
        for kept in &found.letters {
            let outcome = if chosen.dry_run { Ok(()) } else { self.letters.take_out(kept).await };
            let outcome = outcome.map(|()| (kept.kind.clone(), Value::Null));
            exits.push(self.noted(&mut rows, kept, outcome));
        }
        let word = if chosen.dry_run { "would be dropped" } else { "dropped" };
        self.told(&found, rows, &exits, word)
    }

    /// Notes one outcome; a failure is told at once, and the others go on.
    fn noted(
        &mut self,
        rows: &mut Vec<Value>,
        kept: &Kept,
        outcome: Result<(String, Value), DeadLetterError>,
    ) -> Exit {
        match outcome {
            Ok((place, detail)) => {
                rows.push(json!({ "id": kept.id, "ok": true, "to": place, "sequence": detail }));
                Exit::Done
            }
            Err(error) => {
                let said = error.to_string();
                let failure = failed(&error);
                self.console.failure(&failure);
                rows.push(json!({ "id": kept.id, "ok": false, "error": said }));
                failure.exit
            }
        }
    }

    fn told(
        &mut self,
        found: &Found,
        rows: Vec<Value>,
        exits: &[Exit],
        word: &str,
    ) -> Result<Exit, Failure> {
        let done = exits.iter().filter(|exit| **exit == Exit::Done).count();
        let items = found.letters.iter().zip(&rows);
        let items = items.map(|(kept, row)| Item { name: kept.id.clone(), value: row.clone() });
        let page = Page {
            items: items.collect(),
            document: json!({ "ok": done == rows.len(), "results": rows }),
            text: vec![format!("{done} of {} {word}", exits.len())],
        };
        page.print(self.console, self.format)?;
        Ok(Exit::together(exits))
    }

    /// Those that are named, or all that fit the filter where that was said.
    async fn chosen(&self, chosen: &DlqChosen) -> Result<Found, Failure> {
        if chosen.ids.is_empty() && !chosen.all {
            let next = "name dead letters, or say --all with --type, --since or --error";
            return Err(Failure::new(Fault::Usage, "nothing says which dead letters", next));
        }
        let found = self.find(&self.filter(&chosen.filter, &chosen.ids), ACT_MAX).await?;
        missing(&chosen.ids, &found)?;
        Ok(found)
    }

    async fn named(&self, ids: &[String]) -> Result<Found, Failure> {
        let filter = Filter { ids: ids.to_vec(), ..Filter::default() };
        let found = self.find(&filter, ACT_MAX).await?;
        missing(ids, &found)?;
        Ok(found)
    }

    fn filter(&self, asked: &DlqFilter, ids: &[String]) -> Filter {
        let before = |span| Timestamp::checked_sub(self.now, span).ok();
        Filter {
            ids: ids.to_vec(),
            kind: asked.kind.clone(),
            since: asked.since.and_then(before),
            code: asked.error.clone(),
        }
    }

    async fn find(&self, filter: &Filter, most: usize) -> Result<Found, Failure> {
        let found = self.letters.find(filter, most).await.map_err(|error| failed(&error))?;
        Ok(found)
    }

    fn print(
        &mut self,
        letters: &[Kept],
        mut document: Value,
        text: Vec<String>,
    ) -> Result<(), Failure> {
        let mut items = Vec::new();
        for kept in letters {
            items.push(Item { name: kept.id.clone(), value: value_of(kept)? });
        }
        if let Value::Object(fields) = &mut document {
            let letters: Value = items.iter().map(|item| item.value.clone()).collect();
            fields.insert("dead_letters".to_owned(), letters);
        }
        Page { document, items, text }.print(self.console, self.format)
    }
}

fn missing(ids: &[String], found: &Found) -> Result<(), Failure> {
    let is = |id: &&String, kept: &Kept| **id == kept.id || **id == kept.letter.original.id;
    let Some(id) = ids.iter().find(|id| !found.letters.iter().any(|kept| is(id, kept))) else {
        return Ok(());
    };
    let message = format!("no dead letter has the id {:?}", one_line(id));
    let next = "provost dlq list shows all";
    Err(Failure { exit: Exit::NoSuchId, ..Failure::new(Fault::NotStored, message, next) })
}

fn table(found: &Found, now: Timestamp) -> Vec<String> {
    let mut table = Table::new(&["ID", "TYPE", "AGE", "TRIES", "ERROR", "ORIGINAL"]);
    for kept in &found.letters {
        let letter = &kept.letter;
        let error = format!("{}: {}", letter.error.code, letter.error.message);
        let original = format!("{} {}", letter.original.subject, letter.original.id);
        table.row(vec![
            kept.id.as_str().into(),
            kept.kind.as_str().into(),
            age(now, kept.time).into(),
            letter.retry_count.to_string().into(),
            one_line(&error).into(),
            one_line(&original).into(),
        ]);
    }
    table.lines()
}

fn failed(error: &DeadLetterError) -> Failure {
    let (fault, exit, next) = match error {
        DeadLetterError::NoStream { .. } => {
            (Fault::NotStored, Exit::Bad, "start a daemon with supervision or coordination on")
        }
        DeadLetterError::Server { .. } => (
            Fault::NatsUnreachable,
            Exit::Unreachable,
            "check the server and our permissions there",
        ),
        DeadLetterError::NotWhole { .. } => {
            (Fault::NotStored, Exit::Refused, "provost dlq show ID shows what was kept")
        }
        DeadLetterError::Publish { .. } => {
            (Fault::NotStored, Exit::Refused, "it is still there; try again")
        }
    };
    Failure { exit, ..Failure::new(fault, error.to_string(), next).caused_by(error) }
}
