//! The event outbox against a real server: order, no duplicates, the spool, the bound, gap events.

mod bound;
mod delivery;
mod spool;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use provost::ports::{EventDraft, EventSource, Ids, Ready, Service, WallClock};
use provost::protocol::decision::Inputs;
use provost::protocol::event::Envelope;
use provost::protocol::fact::{
    Fact, HealthMetrics, HealthReported, Recovered, RecoveryHow, Severity, SystemReported,
};
use provost::protocol::status::HealthStatus;
use provost::protocol::subject::pattern;
use provost::transport::outbox::{
    Outbox, OutboxError, OutboxHandle, OutboxService, OutboxSettings,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::eventually_blocking;
use crate::support::nats::NatsServer;

#[derive(Debug)]
struct RealIds;

impl Ids for RealIds {
    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::now_v7()
    }
}

#[derive(Debug)]
struct RealClock;

impl WallClock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

type Clients = watch::Receiver<Option<async_nats::Client>>;

/// One life of an outbox with its service running.
struct Life {
    handle: OutboxHandle,
    service: Arc<OutboxService>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Life {
    fn begin(settings: OutboxSettings, clients: Clients) -> Self {
        // A process that another test is just starting has the lock of a former life for a moment,
        // until it executes its program.
        let (handle, service) = eventually_blocking("the folder's lock is free", || {
            match open(settings.clone(), clients.clone()) {
                Err(OutboxError::Locked { .. }) => None,
                opened => Some(opened.unwrap()),
            }
        });
        let service = Arc::new(service);
        let stop = CancellationToken::new();
        let task = run(&service, &stop);
        Self { handle, service, stop, task }
    }

    /// Ends without draining, as a crash does as far as the spool is concerned.
    async fn crash(self) {
        self.task.abort();
        drop(self.task.await);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    async fn flush(&self) {
        self.handle.flush(Duration::from_secs(60)).await.unwrap();
    }
}

fn open(
    settings: OutboxSettings,
    clients: Clients,
) -> Result<(OutboxHandle, OutboxService), OutboxError> {
    Outbox::open(settings, clients, Arc::new(RealIds), Arc::new(RealClock))
}

fn run(service: &OutboxService, stop: &CancellationToken) -> JoinHandle<()> {
    let running = service.run(stop.clone(), Ready::new(|| {}));
    tokio::spawn(async move { running.await.unwrap() })
}

fn settings(dir: &Path) -> OutboxSettings {
    let mut settings =
        OutboxSettings::new(dir, "node-1".parse().unwrap(), "outbox".parse().unwrap());
    settings.retry_max = Duration::from_secs(1);
    settings
}

fn draft(fact: Fact, about: &str) -> EventDraft {
    EventDraft {
        fact,
        about: about.parse().unwrap(),
        source: EventSource { kind: "agent", name: "worker".parse().unwrap() },
        severity: Severity::Info,
        correlation: None,
        causation: None,
        generation: None,
    }
}

/// An event with a number in it, on one of several subjects.
fn numbered(number: u64) -> EventDraft {
    padded(number, 0)
}

fn padded(number: u64, bytes: usize) -> EventDraft {
    if number.is_multiple_of(3) {
        let fact = Fact::Recovery(Recovered {
            name: "worker".parse().unwrap(),
            after_ms: number,
            attempts: 1,
            how: RecoveryHow::Restart,
        });
        return draft(fact, &format!("w{}", number % 5));
    }
    let details = Inputs::default().with("number", number).with("padding", "x".repeat(bytes));
    draft(Fact::System(SystemReported { what: "test".to_owned(), details }), "w1")
}

fn health() -> EventDraft {
    let report =
        HealthReported { status: HealthStatus::Healthy, metrics: HealthMetrics::default() };
    draft(Fact::Health(report), "w1")
}

/// The number of an event that [`numbered`] made.
fn number_of(envelope: &Envelope) -> Option<u64> {
    let data = &envelope.data;
    let whole = |pointer: &str| data.pointer(pointer).and_then(serde_json::Value::as_u64);
    whole("/after_ms").or_else(|| whole("/details/number"))
}

/// A connection that comes back soon, as the daemon's does.
async fn connect(server: &NatsServer) -> (watch::Sender<Option<async_nats::Client>>, Clients) {
    let options = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| Duration::from_millis(50));
    let client = options.connect(server.url()).await.unwrap();
    watch::channel(Some(client))
}

/// Streams as the daemon declares them; a short duplicate window, so that it cannot hide a fault.
async fn declare(context: &jetstream::Context, prefix: &str) {
    let under = |subject: &&str| match prefix {
        "" => (*subject).to_owned(),
        prefix => format!("{prefix}.{subject}"),
    };
    let named = |name: &str| match prefix {
        "" => name.to_owned(),
        prefix => format!("{}_{name}", prefix.replace('.', "_")),
    };
    for (name, subjects) in [
        (named("SUPERVISION"), pattern::STREAM_SUPERVISION.iter().map(under).collect()),
        (named("HEALTH"), pattern::STREAM_HEALTH.iter().map(under).collect::<Vec<_>>()),
    ] {
        let config = stream::Config {
            name,
            subjects,
            duplicate_window: Duration::from_millis(100),
            ..Default::default()
        };
        context.create_stream(config).await.unwrap();
    }
}

struct StoredEvent {
    subject: String,
    headers: async_nats::HeaderMap,
    envelope: Envelope,
}

/// All events of a stream in its order.
async fn stored(context: &jetstream::Context, name: &str) -> Vec<StoredEvent> {
    let stream = context.get_stream(name).await.unwrap();
    let wanted = stream.cached_info().state.messages;
    let mut events = Vec::new();
    if wanted == 0 {
        return events;
    }
    let config = jetstream::consumer::pull::OrderedConfig::default();
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    while (events.len() as u64) < wanted {
        let message = messages.next().await.unwrap().unwrap();
        events.push(StoredEvent {
            subject: message.subject.to_string(),
            headers: message.headers.clone().unwrap(),
            envelope: serde_json::from_slice(&message.payload).unwrap(),
        });
    }
    events
}

async fn numbers(context: &jetstream::Context) -> Vec<u64> {
    stored(context, "SUPERVISION")
        .await
        .iter()
        .filter_map(|event| number_of(&event.envelope))
        .collect()
}

fn assert_once_in_order(numbers: &[u64], expected: u64) {
    let unique: BTreeSet<_> = numbers.iter().collect();
    assert_eq!(numbers.len(), unique.len(), "some events are stored twice");
    let wrong = numbers.iter().zip(numbers.iter().skip(1)).find(|(left, right)| right <= left);
    assert_eq!(wrong, None, "out of order");
    assert_eq!(numbers.len() as u64, expected, "some events are missing");
}

/// Gap events as (dropped, of those health, numbers before it, numbers after it).
async fn gaps(context: &jetstream::Context) -> Vec<(u64, u64, usize, usize)> {
    let events = stored(context, "SUPERVISION").await;
    let all = events.len();
    let gap = |(place, event): (usize, &StoredEvent)| {
        (event.envelope.event_type == "provost.supervision.gap.v1").then(|| {
            let data = &event.envelope.data;
            let count = |key: &str| data[key].as_u64().unwrap();
            (count("dropped"), count("dropped_health"), place, all - place - 1)
        })
    };
    events.iter().enumerate().filter_map(gap).collect()
}
