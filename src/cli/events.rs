//! `provost events`: what was stored, and with `--watch` what comes.

use std::collections::{BTreeSet, VecDeque};

use crate::cli::client::{Fed, Feed, Follow, Seen, Stored};
use crate::cli::event_text::{is_about, is_bookkeeping, kind, list_line};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::look_arguments::EventsArguments;
use crate::cli::output::Format;
use crate::cli::session::Session;
use crate::protocol::id::EventId;

/// Ids remembered, so that an event delivered twice is shown once.
const IDS_MAX: usize = 10_000;

/// Shows events, oldest first.
///
/// # Errors
///
/// They cannot be read, or the output cannot be written.
pub(crate) async fn events(
    session: &mut Session<'_>,
    arguments: &EventsArguments,
) -> Result<Exit, Failure> {
    let filter = Filter::new(session, arguments);
    let mut feed = open(session, arguments, &filter).await?;
    let mut known = Known::default();
    let mut strange = 0_u64;
    let mut documents = Vec::new();
    loop {
        let seen = match feed.next().await? {
            Fed::Event(seen) => seen,
            Fed::NoEvent(reason) => {
                strange = strange.saturating_add(1);
                tracing::debug!(reason, "message is no event");
                continue;
            }
            Fed::End => break,
        };
        if !known.is_new(seen.envelope.id) || !filter.passes(&seen) {
            continue;
        }
        if session.format == Format::Json && !arguments.watch {
            documents.push(seen.document);
        } else {
            show(session, &seen)?;
        }
    }
    if session.format == Format::Json && !arguments.watch {
        let document = serde_json::Value::Array(documents);
        let text = serde_json::to_string_pretty(&document).unwrap_or_default();
        session.console.line(&text)?;
    }
    if 0 < strange {
        let text = format!("{strange} messages among the events are no events; they were left out");
        session.console.warn(&text);
    }
    Ok(Exit::Done)
}

async fn open(
    session: &mut Session<'_>,
    arguments: &EventsArguments,
    filter: &Filter<'_>,
) -> Result<Box<dyn Feed>, Failure> {
    let follow = if arguments.watch { Follow::Yes } else { Follow::No };
    let wanted = Stored { since: filter.since, follow };
    if let Some(feed) = session.client.stored(wanted).await? {
        return Ok(feed);
    }
    if arguments.watch {
        session.console.warn("events are not stored here; showing new ones only");
        return session.client.live().await;
    }
    let message = "events are not stored here";
    let next = "provost events --watch shows new ones; to store them, set supervision.enabled and \
                use a NATS server with JetStream";
    Err(Failure::new(Fault::NotStored, message, next))
}

fn show(session: &mut Session<'_>, seen: &Seen) -> Result<(), Failure> {
    let line = match session.format {
        Format::Table => list_line(&seen.envelope, &session.zone),
        Format::Json | Format::Jsonl => seen.document.to_string(),
        Format::Name => seen.envelope.id.to_string(),
    };
    session.console.line(&line)?;
    session.console.flush()
}

/// Which events are wanted.
struct Filter<'a> {
    arguments: &'a EventsArguments,
    since: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
    /// Whether those that only tell again how children are shown are left out: people have no use
    /// for them.
    bookkeeping: Bookkeeping,
}

/// What becomes of events that only tell again how children are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bookkeeping {
    Shown,
    LeftOut,
}

impl<'a> Filter<'a> {
    fn new(session: &Session<'_>, arguments: &'a EventsArguments) -> Self {
        let now = session.now();
        let time = |moment: crate::cli::values::Moment| moment.before(now);
        let for_people = session.format == Format::Table && arguments.kind.is_empty();
        Self {
            arguments,
            since: arguments.since.map(time),
            until: arguments.until.map(time),
            bookkeeping: if for_people { Bookkeeping::LeftOut } else { Bookkeeping::Shown },
        }
    }

    fn passes(&self, seen: &Seen) -> bool {
        let event = &seen.envelope;
        let child = self.arguments.child.as_deref();
        child.is_none_or(|child| is_about(event, child))
            && self.arguments.severity.is_none_or(|least| least <= event.severity)
            && self.since.is_none_or(|since| since <= event.time)
            && self.until.is_none_or(|until| event.time <= until)
            && self.is_of_kind(kind(event))
            && (self.bookkeeping == Bookkeeping::Shown || !is_bookkeeping(event))
    }

    /// Types are given whole, or by their last word.
    fn is_of_kind(&self, kind: &str) -> bool {
        let kinds = &self.arguments.kind;
        let last = kind.rsplit('.').next();
        kinds.is_empty()
            || kinds.iter().any(|wanted| wanted == kind || Some(wanted.as_str()) == last)
    }
}

/// The ids seen last.
#[derive(Default)]
struct Known {
    ids: BTreeSet<EventId>,
    order: VecDeque<EventId>,
}

impl Known {
    /// Remembers an id; the oldest is forgotten when there are too many.
    fn is_new(&mut self, id: EventId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if IDS_MAX < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Script, block_on, envelope_with, fed, session};
    use crate::cli::values::Moment;
    use crate::protocol::fact::Severity;

    fn arguments() -> EventsArguments {
        EventsArguments::default()
    }

    /// An event with the number in its id and name.
    fn event(number: u8, severity: &str, time: &str) -> Fed {
        let data = json!({"name": format!("w{number}"), "dropped": number});
        let mut event = envelope_with("supervision.gap", "x", data);
        event.id = format!("01900000-0000-7000-8000-00000000000{number}").parse().unwrap();
        event.severity = serde_json::from_value(json!(severity)).unwrap();
        event.time = time.parse().unwrap();
        fed(event)
    }

    fn stored() -> [Fed; 5] {
        [
            event(1, "info", "2026-11-21T10:00:00Z"),
            event(2, "high", "2026-11-21T11:30:00Z"),
            event(2, "high", "2026-11-21T11:30:00Z"),
            Fed::NoEvent("garbage".to_owned()),
            event(3, "critical", "2026-11-21T11:59:00Z"),
        ]
    }

    fn names(arguments: &EventsArguments) -> String {
        let script = Script::default().storing(stored());
        let (mut session, screen) = session(&script, Format::Jsonl);
        assert_eq!(block_on(events(&mut session, arguments)), Ok(Exit::Done));
        let name = |line: &str| {
            let document: serde_json::Value = serde_json::from_str(line).unwrap();
            document["data"]["name"].as_str().unwrap().to_owned()
        };
        screen.out().lines().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_event_delivered_twice_is_shown_once() {
        assert_eq!(names(&arguments()), "w1 w2 w3");
    }

    #[test]
    fn events_are_chosen_by_child_age_and_severity() {
        let since = Some(Moment::Ago(Duration::from_secs(3_600)));
        assert_eq!(names(&EventsArguments { since, ..arguments() }), "w2 w3");
        let severity = Some(Severity::Critical);
        assert_eq!(names(&EventsArguments { severity, ..arguments() }), "w3");
        let child = Some("w1".to_owned());
        assert_eq!(names(&EventsArguments { child, ..arguments() }), "w1");
        let until = Some(Moment::At("2026-11-21T11:30:00Z".parse().unwrap()));
        assert_eq!(names(&EventsArguments { until, ..arguments() }), "w1 w2");
        let of =
            |kind: &str| names(&EventsArguments { kind: vec![kind.to_owned()], ..arguments() });
        assert_eq!(of("gap"), "w1 w2 w3");
        assert_eq!(of("supervision.gap"), "w1 w2 w3");
        assert_eq!(of("failure"), "");
    }

    #[test]
    fn what_is_no_event_is_counted_on_standard_error() {
        let script = Script::default().storing(stored());
        let (mut session, screen) = session(&script, Format::Table);
        block_on(events(&mut session, &arguments())).unwrap();
        assert_eq!(screen.out().lines().count(), 3);
        assert!(screen.err().starts_with("warning: 1 messages"), "{}", screen.err());
    }

    #[test]
    fn one_json_document_is_an_array() {
        let script = Script::default().storing(stored());
        let (mut session, screen) = session(&script, Format::Json);
        block_on(events(&mut session, &arguments())).unwrap();
        let document: serde_json::Value = serde_json::from_str(&screen.out()).unwrap();
        assert_eq!(document.as_array().unwrap().len(), 3);
    }

    #[test]
    fn without_a_store_there_are_new_events_only() {
        let script = Script::default().publishing([event(1, "info", "2026-11-21T12:00:00Z")]);
        let (mut session, screen) = session(&script, Format::Name);
        let failure = block_on(events(&mut session, &arguments())).unwrap_err();
        assert!(failure.is(Fault::NotStored) && failure.exit == Exit::Bad);
        block_on(events(&mut session, &EventsArguments { watch: true, ..arguments() })).unwrap();
        assert_eq!(screen.out(), "01900000-0000-7000-8000-000000000001\n");
    }

    #[test]
    fn the_ids_remembered_are_bounded() {
        let mut known = Known::default();
        let id = |number: usize| -> EventId {
            format!("01900000-0000-7000-8000-{number:012}").parse().unwrap()
        };
        assert!((0..=IDS_MAX).all(|number| known.is_new(id(number))));
        assert_eq!(known.ids.len(), IDS_MAX);
        assert!(known.is_new(id(0)) && !known.is_new(id(IDS_MAX)));
    }
}
