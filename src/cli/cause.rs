//! `provost events --cause ID`: the chain of causes of an event up to its root, and from there all that
//! came of it, as a tree.
//!
//! Ids of events are ordered by time, so that each says where reading has to begin.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::colors::{FAINT, STRONG, of_severity};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::{date_time, one_line};
use crate::cli::output::{Item, Page, value_of};
use crate::cli::past::{Past, Tale, read_from};
use crate::cli::session::Session;

/// An event is stored a little after it was made.
const BEFORE: SignedDuration = SignedDuration::from_secs(10);

/// Readings before the search for the root is given up: each goes one cause farther back.
const READINGS_MAX: usize = 32;

/// Events of one tree that are shown.
const SHOWN_MAX: usize = 500;

/// Shows the tree that an event stands in.
///
/// # Errors
///
/// The event is not kept, or the output cannot be written.
pub(crate) async fn cause(session: &mut Session<'_>, id: Uuid) -> Result<Exit, Failure> {
    let id_text = id.to_string();
    let (past, root) = find_root(session, id).await?;
    let Some(first) = past.tale(&root) else { return Err(not_kept(&id_text)) };
    let mut children: BTreeMap<&str, Vec<&Tale>> = BTreeMap::new();
    for tale in past.tales() {
        if let Some(cause) = &tale.causation {
            children.entry(cause.as_str()).or_default().push(tale);
        }
    }
    let mut page = Page::default();
    let mut tree =
        Tree { children: &children, asked: &id_text, session, page: &mut page, left: SHOWN_MAX };
    page.document = {
        let document = tree.add(first, "", "")?;
        json!({ "asked": id, "tree": document })
    };
    if let Some(lost) = &first.causation {
        let text = format!("its cause {lost} is not kept any more, or was no event");
        session.console.warn(&text);
    }
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

struct Tree<'a, 'b> {
    children: &'a BTreeMap<&'a str, Vec<&'a Tale>>,
    asked: &'a str,
    session: &'a Session<'b>,
    page: &'a mut Page,
    left: usize,
}

impl Tree<'_, '_> {
    /// Adds an event and what came of it; gives it back as a document.
    fn add(&mut self, tale: &Tale, branch: &str, indent: &str) -> Result<Value, Failure> {
        self.left = self.left.saturating_sub(1);
        let link = &tale.link;
        let color = of_severity(link.severity);
        let time = date_time(link.time, &self.session.zone);
        let mark =
            if link.id == self.asked { format!("  {STRONG}◀{STRONG:#}") } else { String::new() };
        self.page.text.push(format!(
            "{indent}{branch}{FAINT}{time}{FAINT:#} {} {color}{}{color:#}{mark}",
            one_line(&link.name),
            one_line(&link.text)
        ));
        let mut value = value_of(link)?;
        self.page.items.push(Item { name: link.id.clone(), value: value.clone() });
        let below = match branch {
            "" => String::new(),
            "└─ " => format!("{indent}   "),
            _ => format!("{indent}│  "),
        };
        let kin = self.children.get(link.id.as_str()).cloned().unwrap_or_default();
        let last = kin.len().saturating_sub(1);
        let mut caused = Vec::new();
        for (index, child) in kin.into_iter().enumerate() {
            if self.left == 0 {
                break;
            }
            let branch = if index == last { "└─ " } else { "├─ " };
            caused.push(self.add(child, branch, &below)?);
        }
        if let Value::Object(fields) = &mut value {
            fields.insert("caused".to_owned(), Value::Array(caused));
        }
        Ok(value)
    }
}

/// Reads until the chain has its root, or a cause that is no event that is kept.
async fn find_root(session: &Session<'_>, id: Uuid) -> Result<(Past, String), Failure> {
    let now = session.now();
    let oldest = session.client.oldest().await?;
    let mut from = time_of(id);
    let mut found: Option<(Past, String)> = None;
    for _ in 0..READINGS_MAX {
        let past = read_from(session, from, (now, oldest)).await?;
        let chain = past.chain(&id.to_string());
        let Some(root) = chain.first() else { break };
        let (root_id, before) = (root.link.id.clone(), root.causation.clone());
        let known = found.as_ref().is_some_and(|(_, known)| *known == root_id);
        found = Some((past, root_id));
        let farther = before.and_then(|cause| cause.parse().ok()).and_then(time_of);
        match farther.filter(|_| !known) {
            Some(farther) => from = Some(farther),
            None => break,
        }
    }
    found.ok_or_else(|| not_kept(&id.to_string()))
}

fn time_of(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let time = Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()?;
    time.checked_sub(BEFORE).ok()
}

fn not_kept(id: &str) -> Failure {
    let message = format!("no event {id} is kept");
    let next = "provost events -o name lists the ids of those that are";
    Failure::new(Fault::NoSuchThing, message, next)
}
