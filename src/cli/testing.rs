//! For tests of this folder: a console that keeps what is written, sample statuses and events, and
//! a client that answers from a script.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::client::{Client, Fed, Feed, Seen, Stored};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::output::Format;
use crate::cli::session::Session;
use crate::ports::BoxFuture;
use crate::protocol::event::Envelope;
use crate::protocol::id::Generation;
use crate::protocol::status::{AgentState, AgentStatus, CircuitStatus, HealthView};
use crate::protocol::subject::Subject;

/// What was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen {
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    /// Standard output, colours taken out.
    pub(crate) fn out(&self) -> String {
        text(&self.out)
    }

    /// Standard error, colours taken out.
    pub(crate) fn err(&self) -> String {
        text(&self.err)
    }
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    let text = String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
    anstream::adapter::strip_str(&text).to_string()
}

struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A console and what is written on it.
pub(crate) fn console() -> (Console, Screen) {
    let screen = Screen::default();
    let paper = |bytes: &Arc<Mutex<Vec<u8>>>| Paper(Arc::clone(bytes));
    (Console::over(paper(&screen.out), paper(&screen.out), paper(&screen.err)), screen)
}

/// The time at which all tests happen.
pub(crate) fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// An agent in a state, since twelve seconds.
pub(crate) fn agent(name: &str, state: AgentState) -> AgentStatus {
    let runs = matches!(state, AgentState::Running | AgentState::Probation | AgentState::Degraded);
    AgentStatus {
        agent_id: format!("id-{name}").parse().unwrap(),
        name: name.parse().unwrap(),
        agent_type: "worker".parse().unwrap(),
        node: "node-1".parse().unwrap(),
        state,
        generation: Generation(3),
        pid: runs.then_some(123),
        restarts: 2,
        since: "2026-11-21T11:59:48Z".parse().unwrap(),
        reason: "started".to_owned(),
        circuit: CircuitStatus::default(),
        health: HealthView::default(),
        next: None,
        labels: BTreeMap::new(),
        containment: None,
        limits: BTreeMap::new(),
    }
}

/// An event of a type (without `provost.` and version) about a child, without data.
pub(crate) fn envelope(kind: &str, about: &str) -> Envelope {
    envelope_with(kind, about, json!({}))
}

/// An event with data.
pub(crate) fn envelope_with(kind: &str, about: &str, data: Value) -> Envelope {
    let category = if kind.starts_with("agent") { "agent" } else { "supervision" };
    serde_json::from_value(json!({
        "specversion": "1.0",
        "id": "01900000-0000-7000-8000-000000000001",
        "source": format!("provost://node-1/agent/{about}"),
        "type": format!("provost.{kind}.v1"),
        "subject": about,
        "time": "2026-11-21T12:00:01Z",
        "datacontenttype": "application/json",
        "severity": "info",
        "category": category,
        "data": data,
    }))
    .unwrap()
}

/// As it comes out of a feed.
pub(crate) fn fed(envelope: Envelope) -> Fed {
    let document = serde_json::to_value(&envelope).unwrap();
    Fed::Event(Box::new(Seen { document, envelope }))
}

/// A client that gives the next answer of its script to every request and keeps the requests.
#[derive(Debug, Default)]
pub(crate) struct Script {
    answers: Mutex<VecDeque<Result<Value, Failure>>>,
    stored: Mutex<Option<VecDeque<Fed>>>,
    live: Mutex<VecDeque<Fed>>,
    asked: Mutex<Vec<(String, Value)>>,
    waits: Mutex<Vec<Duration>>,
}

impl Script {
    /// A script of these answers.
    pub(crate) fn of(answers: impl IntoIterator<Item = Value>) -> Self {
        let answers = answers.into_iter().map(Ok).collect();
        Self { answers: Mutex::new(answers), ..Self::default() }
    }

    /// Fails after the answers so far.
    pub(crate) fn then_fail(self, failure: Failure) -> Self {
        self.answers.lock().unwrap().push_back(Err(failure));
        self
    }

    /// Has these events stored.
    pub(crate) fn storing(self, events: impl IntoIterator<Item = Fed>) -> Self {
        *self.stored.lock().unwrap() = Some(events.into_iter().collect());
        self
    }

    /// Publishes these events.
    pub(crate) fn publishing(self, events: impl IntoIterator<Item = Fed>) -> Self {
        *self.live.lock().unwrap() = events.into_iter().collect();
        self
    }

    /// What was asked: subject and command.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }

    /// How long each answer was waited for.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }
}

impl Client for Script {
    fn request(
        &self,
        subject: Subject,
        payload: Vec<u8>,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, Failure>> {
        let command = serde_json::from_slice(&payload).unwrap();
        self.asked.lock().unwrap().push((subject.to_string(), command));
        self.waits.lock().unwrap().push(wait);
        let answer = self.answers.lock().unwrap().pop_front().expect("an answer in the script");
        Box::pin(async move { answer.map(|answer| answer.to_string().into_bytes()) })
    }

    fn stored(&self, _: Stored) -> BoxFuture<'_, Result<Option<Box<dyn Feed>>, Failure>> {
        let stored = self.stored.lock().unwrap().clone();
        Box::pin(async move {
            Ok(stored.map(|events| -> Box<dyn Feed> { Box::new(ScriptFeed(events)) }))
        })
    }

    #[cfg(feature = "tui")]
    fn recent(&self, _: usize) -> BoxFuture<'_, Result<Option<Box<dyn Feed>>, Failure>> {
        self.stored(Stored { since: None, follow: crate::cli::client::Follow::Yes })
    }

    fn live(&self) -> BoxFuture<'_, Result<Box<dyn Feed>, Failure>> {
        let events = self.live.lock().unwrap().clone();
        Box::pin(async move {
            let feed: Box<dyn Feed> = Box::new(ScriptFeed(events));
            Ok(feed)
        })
    }
}

/// Gives its events, then the end.
#[derive(Debug)]
struct ScriptFeed(VecDeque<Fed>);

impl Feed for ScriptFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<Fed, Failure>> {
        let fed = self.0.pop_front().unwrap_or(Fed::End);
        Box::pin(async move { Ok(fed) })
    }
}

/// A session over a script, at noon, in UTC.
pub(crate) fn session(script: &Script, format: Format) -> (Session<'_>, Screen) {
    let (console, screen) = console();
    let zone = jiff::tz::TimeZone::UTC;
    (Session { client: script, console, format, timeout: None, clock: noon, zone }, screen)
}

/// Runs a verb to its end.
pub(crate) fn block_on<T>(verb: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(verb)
}
