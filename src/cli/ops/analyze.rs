//! `provost analyze`: what stored events tell of starts and of what keeps failing.
//!
//! Only events count, so it tells of the past, too, and needs no daemon that answers.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::client::{Fed, Follow, Stored};
use crate::cli::event_text::name_of;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::span;
use crate::cli::ops::arguments::{Analysis, AnalyzeArguments};
use crate::cli::output::{Item, Page, Table, value_of};
use crate::cli::session::Session;
use crate::protocol::event::Envelope;

/// Failures from which on somebody is told to be flapping.
const FLAPS_MIN: u64 = 3;

/// One start of an agent: when it began and how long it took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Began {
    at: Timestamp,
    took_ms: u64,
}

/// What is known of one child.
#[derive(Clone, Debug, Default)]
struct Story {
    starting: Option<Timestamp>,
    starts: Vec<Began>,
    failures: u64,
    recoveries: u64,
    openings: u64,
    first_failure: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    last_kind: String,
}

/// All that the events tell.
#[derive(Clone, Debug, Default)]
struct Told {
    stories: BTreeMap<String, Story>,
    /// When the daemon that runs last began.
    daemon: Option<Timestamp>,
}

/// Tells what was asked.
///
/// # Errors
///
/// Events are not stored here, or cannot be read.
pub(crate) async fn analyze(
    session: &mut Session<'_>,
    arguments: &AnalyzeArguments,
) -> Result<Exit, Failure> {
    let since = arguments.since.and_then(|span| {
        let span = SignedDuration::try_from(span).ok()?;
        session.now().checked_sub(span).ok()
    });
    let feed = session.client.stored(Stored { since, follow: Follow::No }).await?;
    let Some(mut feed) = feed else {
        let next = "set supervision.enabled and use a NATS server with JetStream";
        return Err(Failure::new(Fault::NotStored, "events are not stored here", next));
    };
    let mut told = Told::default();
    loop {
        match feed.next().await? {
            Fed::Event(seen) if since.is_none_or(|since| since <= seen.envelope.time) => {
                told.take(&seen.envelope);
            }
            Fed::Event(_) | Fed::NoEvent(_) => {}
            Fed::End => break,
        }
    }
    match arguments.what {
        Analysis::Blame => blame(session, &told),
        Analysis::CriticalChain => chain(session, &told),
        Analysis::Flapping => flapping(session, &told),
    }
}

impl Told {
    fn take(&mut self, event: &Envelope) {
        let name = name_of(event).to_owned();
        let kind = event.event_type.trim_start_matches("provost.").trim_end_matches(".v1");
        match kind {
            // The daemon's own parts are up before the first agent starts; the root is up last.
            "supervision.supervisor_started" if name == "system" => self.daemon = Some(event.time),
            "agent.state_changed" => self.story(name).changed(event),
            "supervision.failure" => self.story(name).failed(event),
            "supervision.recovery" => {
                let story = self.story(name);
                story.recoveries = story.recoveries.saturating_add(1);
            }
            "supervision.circuit" if event.data.get("to") == Some(&json!("open")) => {
                let story = self.story(name);
                story.openings = story.openings.saturating_add(1);
            }
            _ => {}
        }
    }

    fn story(&mut self, name: String) -> &mut Story {
        self.stories.entry(name).or_default()
    }
}

impl Story {
    fn changed(&mut self, event: &Envelope) {
        match event.data.get("new_state").and_then(Value::as_str) {
            Some("starting") => self.starting = Some(event.time),
            Some("running") => {
                if let Some(at) = self.starting.take() {
                    self.starts.push(Began { at, took_ms: between(at, event.time) });
                }
            }
            _ => self.starting = None,
        }
    }

    fn failed(&mut self, event: &Envelope) {
        self.failures = self.failures.saturating_add(1);
        self.first_failure.get_or_insert(event.time);
        self.last_failure = Some(event.time);
        let kind = event.data.get("failure_type").and_then(Value::as_str);
        kind.unwrap_or("unknown").clone_into(&mut self.last_kind);
    }

    /// Mean time between two failures.
    fn mean_ms(&self) -> Option<u64> {
        let (first, last) = (self.first_failure?, self.last_failure?);
        let gaps = self.failures.checked_sub(1).filter(|gaps| 0 < *gaps)?;
        Some(between(first, last) / gaps)
    }
}

fn between(from: Timestamp, to: Timestamp) -> u64 {
    let ms = to.as_millisecond().saturating_sub(from.as_millisecond());
    u64::try_from(ms).unwrap_or_default()
}

#[derive(Debug, Serialize)]
struct Blamed<'a> {
    name: &'a str,
    starts: usize,
    last_ms: u64,
    longest_ms: u64,
}

fn blame(session: &mut Session<'_>, told: &Told) -> Result<Exit, Failure> {
    let mut rows: Vec<Blamed<'_>> = told
        .stories
        .iter()
        .filter_map(|(name, story)| {
            Some(Blamed {
                name,
                starts: story.starts.len(),
                last_ms: story.starts.last()?.took_ms,
                longest_ms: story.starts.iter().map(|start| start.took_ms).max()?,
            })
        })
        .collect();
    rows.sort_by(|one, other| {
        other.longest_ms.cmp(&one.longest_ms).then_with(|| one.name.cmp(other.name))
    });
    let mut table = Table::new(&["LONGEST", "LAST", "STARTS", "NAME"]);
    let mut items = Vec::new();
    for row in &rows {
        let starts = row.starts.to_string();
        table.row(vec![
            span(row.longest_ms).into(),
            span(row.last_ms).into(),
            starts.into(),
            row.name.into(),
        ]);
        items.push(Item { name: row.name.to_owned(), value: value_of(row)? });
    }
    print(session, ("blame", "no start was stored"), items, table.lines())
}

#[derive(Debug, Serialize)]
struct Link<'a> {
    name: &'a str,
    /// Since the daemon began.
    at_ms: u64,
    took_ms: u64,
}

/// From the agent that was up last back through those that had just come up when it, and each
/// before it, began.
fn chain(session: &mut Session<'_>, told: &Told) -> Result<Exit, Failure> {
    let origin = told.daemon.or_else(|| {
        let starts = told.stories.values().flat_map(|story| &story.starts);
        starts.map(|start| start.at).min()
    });
    let origin = origin.unwrap_or(Timestamp::UNIX_EPOCH);
    // The first start of each in the life of this daemon.
    let starts: Vec<Link<'_>> = told
        .stories
        .iter()
        .filter_map(|(name, story)| {
            let start = story.starts.iter().find(|start| origin <= start.at)?;
            Some(Link { name, at_ms: between(origin, start.at), took_ms: start.took_ms })
        })
        .collect();
    let up = |link: &Link<'_>| link.at_ms.saturating_add(link.took_ms);
    let mut links = Vec::new();
    let mut next = starts.iter().max_by_key(|link| (up(link), link.at_ms));
    while let Some(link) = next {
        links.push(link);
        let earlier = starts.iter().filter(|one| up(one) <= link.at_ms && one.at_ms < link.at_ms);
        next = earlier.max_by_key(|one| (up(one), one.at_ms));
    }
    let mut items = Vec::new();
    let mut text = Vec::new();
    for (depth, link) in links.iter().enumerate() {
        let indent = "  ".repeat(depth);
        let (at, took) = (span(up(link)), span(link.took_ms));
        text.push(format!("{indent}{} @{at} +{took}", link.name));
        items.push(Item { name: link.name.to_owned(), value: value_of(link)? });
    }
    if !text.is_empty() {
        text.insert(0, "up at @ after the daemon began; + is the time its start took".to_owned());
    }
    print(session, ("chain", "no start was stored"), items, text)
}

#[derive(Debug, Serialize)]
struct Flap<'a> {
    name: &'a str,
    failures: u64,
    recoveries: u64,
    openings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_between_ms: Option<u64>,
    last_failure: Option<Timestamp>,
    last_type: &'a str,
}

fn flapping(session: &mut Session<'_>, told: &Told) -> Result<Exit, Failure> {
    let mut rows: Vec<Flap<'_>> = told
        .stories
        .iter()
        .filter(|(_, story)| FLAPS_MIN <= story.failures)
        .map(|(name, story)| Flap {
            name,
            failures: story.failures,
            recoveries: story.recoveries,
            openings: story.openings,
            mean_between_ms: story.mean_ms(),
            last_failure: story.last_failure,
            last_type: &story.last_kind,
        })
        .collect();
    rows.sort_by(|one, other| {
        other.failures.cmp(&one.failures).then_with(|| one.name.cmp(other.name))
    });
    let mut table =
        Table::new(&["NAME", "FAILURES", "RECOVERIES", "OPENINGS", "EVERY", "LAST", "TYPE"]);
    let mut items = Vec::new();
    let now = session.now();
    for row in &rows {
        let every = row.mean_between_ms.map_or_else(|| "-".to_owned(), span);
        let last = row.last_failure.map(|at| format!("{} ago", span(between(at, now))));
        table.row(vec![
            row.name.into(),
            row.failures.to_string().into(),
            row.recoveries.to_string().into(),
            row.openings.to_string().into(),
            every.into(),
            last.unwrap_or_default().into(),
            row.last_type.into(),
        ]);
        items.push(Item { name: row.name.to_owned(), value: value_of(row)? });
    }
    let none = "nothing failed three times or more";
    print(session, ("flapping", none), items, table.lines())
}

fn print(
    session: &mut Session<'_>,
    (what, none): (&str, &str),
    items: Vec<Item>,
    text: Vec<String>,
) -> Result<Exit, Failure> {
    if items.is_empty() {
        session.console.note(none);
    }
    let values: Vec<Value> = items.iter().map(|item| item.value.clone()).collect();
    let page = Page { document: json!({what: values}), items, text };
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use crate::cli::testing::{Script, block_on, envelope_with, fed, noon, session};

    fn event(kind: &str, name: &str, at_ms: i64, data: Value) -> Fed {
        let mut data = data;
        data["name"] = json!(name);
        let mut event = envelope_with(kind, name, data);
        event.time = noon() + SignedDuration::from_millis(at_ms - 60_000);
        fed(event)
    }

    fn state(name: &str, at_ms: i64, state: &str) -> Fed {
        event("provost.agent.state_changed.v1", name, at_ms, json!({"new_state": state}))
    }

    fn told(what: Analysis, events: Vec<Fed>) -> String {
        let script = Script::of([]).storing(events);
        let (mut session, screen) = session(&script, Format::Table);
        let arguments = AnalyzeArguments { at: Default::default(), what, since: None };
        assert_eq!(block_on(analyze(&mut session, &arguments)), Ok(Exit::Done));
        screen.out() + &screen.err()
    }

    fn starts() -> Vec<Fed> {
        vec![
            event("provost.supervision.supervisor_started.v1", "system", 0, json!({})),
            state("db", 10, "starting"),
            state("cache", 10, "starting"),
            state("cache", 15, "running"),
            state("db", 510, "running"),
            state("web", 520, "starting"),
            state("web", 720, "running"),
        ]
    }

    #[test]
    fn the_slowest_start_is_blamed_first() {
        insta::assert_snapshot!(told(Analysis::Blame, starts()), @"
        LONGEST  LAST   STARTS  NAME
        500ms    500ms  1       db
        200ms    200ms  1       web
        5ms      5ms    1       cache
        ");
    }

    #[test]
    fn the_chain_goes_back_from_who_was_up_last() {
        insta::assert_snapshot!(told(Analysis::CriticalChain, starts()), @"
        up at @ after the daemon began; + is the time its start took
        web @720ms +200ms
          db @510ms +500ms
        ");
    }

    #[test]
    fn who_fails_three_times_flaps() {
        let failure = |name, at| {
            let data = json!({"failure_type": "process_crash"});
            event("provost.supervision.failure.v1", name, at, data)
        };
        let recovery = event("provost.supervision.recovery.v1", "w1", 1_500, json!({}));
        let events = vec![
            failure("w1", 0),
            failure("w2", 0),
            failure("w1", 1_000),
            recovery,
            failure("w1", 3_000),
        ];
        insta::assert_snapshot!(told(Analysis::Flapping, events), @"
        NAME  FAILURES  RECOVERIES  OPENINGS  EVERY  LAST     TYPE
        w1    3         1           0         1s     57s ago  process_crash
        ");
        let nothing = told(Analysis::Flapping, Vec::new());
        assert_eq!(nothing, "nothing failed three times or more\n");
    }
}
