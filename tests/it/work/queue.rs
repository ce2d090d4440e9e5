//! Publisher and consumers of the library against a real server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use provost::ports::BoxFuture;
use provost::transport::connect::Connection;
use provost::transport::declare::ensure_all;
use provost::transport::queue::{
    Consumer, ConsumerSettings, Delivery, Form, Handler, Outgoing, PublishFault, Publisher, Take,
    Verdict,
};
use provost::transport::streams::{StreamProfile, StreamSettings};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::eventually;
use crate::support::nats::NatsServer;
use crate::support::transport::{RunningService, connect, slot_with};

/// What came, and what is answered.
struct Script {
    seen: Mutex<Vec<(String, u32, Instant)>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    gate: Option<Semaphore>,
    answer: Box<dyn Fn(&Delivery) -> Verdict + Send + Sync>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    fn new(answer: impl Fn(&Delivery) -> Verdict + Send + Sync + 'static) -> Self {
        Self {
            seen: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            gate: None,
            answer: Box::new(answer),
        }
    }

    fn gated(self) -> Self {
        Self { gate: Some(Semaphore::new(0)), ..self }
    }

    /// Ids with their attempts, in the order they came.
    fn seen(&self) -> Vec<(String, u32)> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(id, attempt, _)| (id.clone(), *attempt)).collect()
    }

    async fn saw(&self, count: usize) -> Vec<(String, u32)> {
        eventually(&format!("{count} deliveries"), async || {
            let seen = self.seen();
            (count <= seen.len()).then_some(seen)
        })
        .await
    }
}

impl Handler for Script {
    fn takes(&self, event_type: &str) -> Take {
        if event_type.contains("boring") { Take::Skip } else { Take::Yes }
    }

    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            let entry = (delivery.id.clone(), delivery.attempt, Instant::now());
            self.seen.lock().unwrap().push(entry);
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            (self.answer)(&delivery)
        })
    }
}

/// A server with a stream of domain events and one of dead letters.
struct Bench {
    _server: NatsServer,
    connection: Connection,
    publisher: Publisher,
}

impl Bench {
    async fn new() -> Self {
        let server = NatsServer::start();
        let connection = connect(&server).await;
        let profile = StreamProfile::Development;
        let streams = [
            StreamSettings {
                max_bytes: None,
                ..StreamSettings::domain_events(&"shop".parse().unwrap(), profile)
            },
            StreamSettings::new("DEAD_LETTERS", vec!["dlq.>".to_owned()]),
        ];
        ensure_all(&connection.jetstream(), &streams).await.unwrap();
        let publisher = Publisher::new(connection.clone());
        Self { _server: server, connection, publisher }
    }

    async fn publish(&self, ids: &[&str]) {
        let message = |id: &&str| Outgoing::new("shop.domain.order.placed", *id, r#"{"n":1}"#);
        self.publisher.publish_all(ids.iter().map(message).collect()).await.unwrap();
    }

    fn consumer(&self, settings: ConsumerSettings, script: &Arc<Script>) -> Consumer {
        let handler: Arc<dyn Handler> = Arc::<Script>::clone(script);
        Consumer::new(slot_with(self.connection.clone()), settings, handler)
    }

    /// All dead letters, by the id of what they were.
    async fn dead(&self, count: usize) -> BTreeMap<String, Value> {
        let jetstream = self.connection.jetstream();
        let mut stream = jetstream.get_stream("DEAD_LETTERS").await.unwrap();
        eventually(&format!("{count} dead letters"), async || {
            let messages = stream.info().await.unwrap().state.messages;
            (messages == count as u64).then_some(())
        })
        .await;
        let mut dead = BTreeMap::new();
        for sequence in 1..=count as u64 {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let event: Value = serde_json::from_slice(&message.payload).unwrap();
            dead.insert(event["causationid"].as_str().unwrap().to_owned(), event);
        }
        dead
    }

    /// Waits until the server has nothing left for a consumer.
    async fn settled(&self, consumer: &Consumer) {
        eventually("all is acknowledged", async || {
            let backlog = consumer.backlog().await.unwrap();
            (backlog.pending == 0 && backlog.unacknowledged == 0).then_some(())
        })
        .await;
    }
}

fn settings() -> ConsumerSettings {
    ConsumerSettings {
        nak_delay: Duration::from_millis(50),
        max_deliver: 3,
        ..ConsumerSettings::new("shop_DOMAIN", "billing".parse().unwrap())
    }
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_the_failed_ones_are_named() {
    let bench = Bench::new().await;
    let message = |id: &str| Outgoing::new("shop.domain.order.placed", id, "{}");
    let stored = bench.publisher.publish_all(vec![message("a"), message("b")]).await.unwrap();
    assert_eq!(stored.iter().map(|one| one.sequence).collect::<Vec<_>>(), [1, 2]);
    let again = bench.publisher.publish(message("a")).await.unwrap();
    assert!(again.again, "the same id is stored once");
    let huge = Outgoing::new("shop.domain.x", "huge", vec![b'x'; 2 * 1024 * 1024]);
    let nowhere = Outgoing::new("elsewhere.x", "lost", "{}");
    let fault = bench.publisher.publish_all(vec![huge, message("c"), nowhere]).await.unwrap_err();
    assert_eq!(fault.stored.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1]);
    assert!(matches!(fault.failed[0], (0, PublishFault::TooLarge { bytes: 2_097_152, .. })));
    assert!(
        matches!(&fault.failed[1], (2, PublishFault::NoStream { subject }) if subject == "elsewhere.x")
    );
    assert!(
        fault.to_string().starts_with("2 of 3 messages were not stored; the first: message huge")
    );
}

#[tokio::test]
async fn what_is_done_is_acknowledged_and_never_comes_again() {
    let bench = Bench::new().await;
    bench.publish(&["a", "b", "c"]).await;
    let script = Arc::new(Script::new(|_| Verdict::Done));
    let consumer = bench.consumer(settings(), &script);
    let running = RunningService::start(&consumer).await;
    script.saw(3).await;
    bench.settled(&consumer).await;
    running.stop().await.unwrap();
    let running = RunningService::start(&consumer).await;
    bench.publish(&["d"]).await;
    let seen = script.saw(4).await;
    let expected = ["a", "b", "c", "d"].map(|id| (id.to_owned(), 1));
    assert_eq!(seen, expected);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_failure_is_tried_again_after_the_delay_and_given_up_after_max_deliver() {
    let bench = Bench::new().await;
    bench.publish(&["bad", "good"]).await;
    let script = Arc::new(Script::new(|delivery| match delivery.id.as_str() {
        "bad" => Verdict::failed("nope", "not today"),
        _ => Verdict::Done,
    }));
    let consumer = bench.consumer(settings(), &script);
    let running = RunningService::start(&consumer).await;
    let dead = bench.dead(1).await;
    bench.settled(&consumer).await;
    let attempts: Vec<u32> =
        script.seen().iter().filter(|(id, _)| id == "bad").map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let times: Vec<Instant> = {
        let seen = script.seen.lock().unwrap();
        seen.iter().filter(|(id, ..)| id == "bad").map(|(_, _, at)| *at).collect()
    };
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(45)));
    let letter = &dead["bad"];
    assert_eq!(letter["type"], "provost.dead_letter.v1");
    assert_eq!(letter["data"]["retry_count"], 3);
    assert_eq!(letter["data"]["error"], json!({"code": "nope", "message": "not today"}));
    assert_eq!(letter["data"]["original"]["subject"], "shop.domain.order.placed");
    assert_eq!(letter["data"]["original"]["body"], json!({"n": 1}));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_malformed_is_given_up_at_once_and_the_unwanted_is_skipped() {
    let bench = Bench::new().await;
    let event = |id: &str, kind: &str| {
        let event = json!({"specversion": "1.0", "id": id, "source": "x", "type": kind});
        Outgoing::new("shop.domain.order.placed", id, event.to_string())
    };
    let batch = vec![
        Outgoing::new("shop.domain.order.placed", "noise", "no json"),
        event("e1", "shop.boring.v1"),
        event("e2", "shop.order.v1"),
        event("e3", "shop.order.v1"),
    ];
    bench.publisher.publish_all(batch).await.unwrap();
    let script = Arc::new(Script::new(|delivery| match delivery.id.as_str() {
        "e3" => Verdict::malformed("no customer"),
        _ => Verdict::Done,
    }));
    let settings = ConsumerSettings { form: Form::Event, ..settings() };
    let consumer = bench.consumer(settings, &script);
    let running = RunningService::start(&consumer).await;
    let dead = bench.dead(2).await;
    bench.settled(&consumer).await;
    assert_eq!(script.seen(), [("e2".to_owned(), 1), ("e3".to_owned(), 1)]);
    assert_eq!(dead["noise"]["data"]["error"]["code"], "malformed");
    assert_eq!(dead["noise"]["data"]["original"]["text"], "no json");
    assert_eq!(dead["e3"]["data"]["error"]["message"], "no customer");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_being_handled_stays_with_its_handler_beyond_the_ack_wait() {
    let bench = Bench::new().await;
    bench.publish(&["slow"]).await;
    let script = Arc::new(Script::new(|_| Verdict::Done).gated());
    let ack_wait = Duration::from_millis(400);
    let consumer = bench.consumer(ConsumerSettings { ack_wait, ..settings() }, &script);
    let running = RunningService::start(&consumer).await;
    script.saw(1).await;
    // Another of the group would get it if it came again.
    let other = Arc::new(Script::new(|_| Verdict::Done));
    let second = bench.consumer(ConsumerSettings { ack_wait, ..settings() }, &other);
    let second_running = RunningService::start(&second).await;
    tokio::time::sleep(ack_wait * 5).await;
    assert_eq!((script.seen().len(), other.seen().len()), (1, 0));
    script.gate.as_ref().unwrap().add_permits(1);
    bench.settled(&consumer).await;
    running.stop().await.unwrap();
    second_running.stop().await.unwrap();
}

#[tokio::test]
async fn no_more_are_out_than_max_ack_pending_and_concurrency_allow() {
    let bench = Bench::new().await;
    bench.publish(&["a", "b", "c", "d", "e", "f"]).await;
    let script = Arc::new(Script::new(|_| Verdict::Done).gated());
    let limits = ConsumerSettings { max_ack_pending: 2, concurrency: 5, ..settings() };
    let consumer = bench.consumer(limits, &script);
    let running = RunningService::start(&consumer).await;
    script.saw(2).await;
    let backlog = consumer.backlog().await.unwrap();
    assert_eq!((backlog.unacknowledged, backlog.pending), (2, 4));
    script.gate.as_ref().unwrap().add_permits(6);
    script.saw(6).await;
    bench.settled(&consumer).await;
    assert!(script.most_at_once.load(Ordering::SeqCst) <= 2);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_whose_last_attempt_died_with_its_consumer_is_a_dead_letter() {
    let bench = Bench::new().await;
    bench.publish(&["killer"]).await;
    let ack_wait = Duration::from_millis(300);
    let limits = || ConsumerSettings { ack_wait, max_deliver: 2, ..settings() };
    for attempt in 1..=2 {
        let script = Arc::new(Script::new(|_| Verdict::Done).gated());
        let running = RunningService::start(&bench.consumer(limits(), &script)).await;
        assert_eq!(script.saw(1).await, [("killer".to_owned(), attempt)]);
        drop(running);
    }
    let script = Arc::new(Script::new(|_| Verdict::Done));
    let consumer = bench.consumer(limits(), &script);
    let running = RunningService::start(&consumer).await;
    let dead = bench.dead(1).await;
    assert_eq!(dead["killer"]["data"]["error"]["code"], "no_answer");
    bench.settled(&consumer).await;
    assert_eq!(script.seen(), []);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_is_a_failure_and_nothing_is_given_up_without_its_dead_letter() {
    let bench = Bench::new().await;
    let jetstream = bench.connection.jetstream();
    jetstream.delete_stream("DEAD_LETTERS").await.unwrap();
    bench.publish(&["bomb"]).await;
    let script = Arc::new(Script::new(|_| panic!("boom")));
    let consumer = bench.consumer(ConsumerSettings { max_deliver: 1, ..settings() }, &script);
    let running = RunningService::start(&consumer).await;
    script.saw(1).await;
    eventually("it comes again although it was tried enough", async || {
        (0 < consumer.backlog().await.unwrap().redelivered).then_some(())
    })
    .await;
    let dead = StreamSettings::new("DEAD_LETTERS", vec!["dlq.>".to_owned()]);
    ensure_all(&jetstream, &[dead]).await.unwrap();
    let dead = bench.dead(1).await;
    assert!(
        ["panic", "no_answer"].contains(&dead["bomb"]["data"]["error"]["code"].as_str().unwrap())
    );
    bench.settled(&consumer).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn consumers_of_one_name_share_the_messages_and_others_get_all() {
    let bench = Bench::new().await;
    let scripts: Vec<Arc<Script>> =
        (0..3).map(|_| Arc::new(Script::new(|_| Verdict::Done))).collect();
    let mut running = Vec::new();
    for (script, name) in scripts.iter().zip(["billing", "billing", "audit"]) {
        let named = ConsumerSettings { name: name.parse().unwrap(), ..settings() };
        running.push(RunningService::start(&bench.consumer(named, script)).await);
    }
    let ids: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    bench.publish(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(scripts[2].saw(40).await.len(), 40);
    let shared = eventually("the group saw all", async || {
        let mut shared = [scripts[0].seen(), scripts[1].seen()].concat();
        shared.sort();
        (40 <= shared.len()).then_some(shared)
    })
    .await;
    let mut expected: Vec<(String, u32)> = ids.into_iter().map(|id| (id, 1)).collect();
    expected.sort();
    assert_eq!(shared, expected);
    for one in running {
        one.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_consumer_that_the_server_has_with_other_settings_is_refused_by_name() {
    let bench = Bench::new().await;
    let script = Arc::new(Script::new(|_| Verdict::Done));
    let running = RunningService::start(&bench.consumer(settings(), &script)).await;
    running.stop().await.unwrap();
    let other = ConsumerSettings { start: provost::transport::queue::Start::New, ..settings() };
    let running = RunningService::start(&bench.consumer(other, &script)).await;
    let error = running.outcome().await.unwrap_err().to_string();
    assert!(error.contains("consumer billing of stream shop_DOMAIN"), "{error}");
    let nowhere = ConsumerSettings { stream: "NONE".to_owned(), ..settings() };
    let running = RunningService::start(&bench.consumer(nowhere, &script)).await;
    let error = running.outcome().await.unwrap_err().to_string();
    assert!(error.contains("no such stream"), "{error}");
    drop(bench.connection.client().subscribe("x").await.unwrap().take(0));
}
