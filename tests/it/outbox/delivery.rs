//! Order, duplicates, headers, prefix, modes, and the service's life.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt as _;
use provost::ports::EventSink as _;
use provost::protocol::event::CONTENT_TYPE;
use provost::protocol::event::Envelope;
use provost::transport::outbox::{OutboxHandle, PublishMode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::outbox::{
    Life, assert_once_in_order, connect, declare, health, number_of, numbered, numbers, run,
    settings, stored,
};
use crate::support::eventually;
use crate::support::nats::NatsOptions;
use crate::support::nats::NatsServer;

#[tokio::test]
async fn an_event_is_stored_with_its_headers_on_its_subject_under_the_prefix() {
    for (prefix, supervision, health_stream) in
        [("", "SUPERVISION", "HEALTH"), ("acme.prod", "acme_prod_SUPERVISION", "acme_prod_HEALTH")]
    {
        let server = NatsServer::start();
        let context = server.jetstream().await;
        declare(&context, prefix).await;
        let dir = tempfile::tempdir().unwrap();
        let (_sender, clients) = connect(&server).await;
        let mut settings = settings(dir.path());
        settings.prefix = prefix.parse().unwrap();
        let life = Life::begin(settings, clients);
        let id = life.handle.emit(numbered(1));
        life.handle.emit(health());
        life.flush().await;
        let events = stored(&context, supervision).await;
        let event = &events[0];
        assert!(event.subject.ends_with("supervision.events"), "{}", event.subject);
        assert!(event.subject.starts_with(prefix));
        assert_eq!(event.envelope.id, id);
        assert_eq!(event.envelope.source, "provost://node-1/agent/worker");
        let header = |name: &str| event.headers.get(name).unwrap().as_str().to_owned();
        assert_eq!(header("Nats-Msg-Id"), id.to_string());
        assert_eq!(header("Content-Type"), CONTENT_TYPE);
        assert_eq!(stored(&context, health_stream).await.len(), 1);
        let status = life.handle.status();
        assert_eq!((status.waiting, status.acknowledged, status.dropped), (0, 2, 0));
        assert_eq!(status.bytes, 0);
        life.stop().await;
    }
}

/// Emits numbered events at a steady pace; answers how many.
fn emit_until(handle: &OutboxHandle, enough: &CancellationToken) -> u64 {
    let mut number = 0;
    while !enough.is_cancelled() {
        number += 1;
        handle.emit(numbered(number));
        std::thread::sleep(Duration::from_micros(500));
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_and_nothing_is_doubled_across_kills_of_the_server() {
    let mut server = NatsServer::start();
    declare(&server.jetstream().await, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let mut settings = settings(dir.path());
    settings.bound_events = 100_000;
    let life = Life::begin(settings, clients);
    let emitting = CancellationToken::new();
    let emitter = tokio::task::spawn_blocking({
        let (handle, emitting) = (life.handle.clone(), emitting.clone());
        move || emit_until(&handle, &emitting)
    });
    for (round, away) in [5_000_u64, 0, 300, 10, 1_000].into_iter().enumerate() {
        let seen = life.handle.status().acknowledged;
        eventually("events flow", async || {
            (seen + 500 < life.handle.status().acknowledged).then_some(())
        })
        .await;
        server.kill9();
        tokio::time::sleep(Duration::from_millis(away)).await;
        server.restart();
        println!("round {round}: {:?}", life.handle.status());
    }
    emitting.cancel();
    let emitted = emitter.await.unwrap();
    life.flush().await;
    let numbers = numbers(&server.jetstream().await).await;
    println!("{emitted} events emitted, {} stored", numbers.len());
    assert_once_in_order(&numbers, emitted);
    assert_eq!(life.handle.status().dropped, 0);
    life.stop().await;
}

#[tokio::test]
async fn a_frozen_server_costs_a_timeout_and_no_event() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let mut settings = settings(dir.path());
    settings.publish_timeout = Duration::from_millis(300);
    let life = Life::begin(settings, clients);
    for number in 1..=10 {
        life.handle.emit(numbered(number));
    }
    life.flush().await;
    server.freeze();
    for number in 11..=20 {
        life.handle.emit(numbered(number));
    }
    assert!(life.handle.flush(Duration::from_millis(900)).await.is_err());
    server.thaw();
    life.flush().await;
    assert_once_in_order(&numbers(&context).await, 20);
    life.stop().await;
}

#[tokio::test]
async fn a_restarted_service_goes_on_where_the_last_one_was() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let mut life = Life::begin(settings(dir.path()), clients);
    for number in 1..=2_000 {
        life.handle.emit(numbered(number));
        if number % 200 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            life.task.abort();
            drop(life.task.await);
            life.task = run(&life.service, &life.stop);
        }
    }
    life.flush().await;
    assert_once_in_order(&numbers(&context).await, 2_000);
    life.stop().await;
}

#[tokio::test]
async fn a_replaced_client_is_taken_up() {
    let (first, second) = (NatsServer::start(), NatsServer::start());
    let dir = tempfile::tempdir().unwrap();
    let (sender, clients) = watch::channel(None);
    let life = Life::begin(settings(dir.path()), clients);
    for (number, server) in [(1, &first), (2, &second)] {
        let context = server.jetstream().await;
        declare(&context, "").await;
        sender.send(Some(server.client().await)).unwrap();
        life.handle.emit(numbered(number));
        life.flush().await;
        assert_eq!(numbers(&context).await, [number]);
    }
    life.stop().await;
}

#[tokio::test]
async fn core_mode_delivers_in_order_without_jetstream_and_keeps_events_while_away() {
    let mut server = NatsServer::with(NatsOptions::default().without_jetstream());
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let mut settings = settings(dir.path());
    settings.mode = PublishMode::Core;
    settings.bound_events = 50;
    let life = Life::begin(settings, clients);
    let receive = async |subscriber: &mut async_nats::Subscriber, last: u64| {
        let mut seen = Vec::new();
        while seen.last() != Some(&last) {
            let next = tokio::time::timeout(Duration::from_secs(30), subscriber.next());
            let message = next.await.expect("an event comes").unwrap();
            let envelope: Envelope = serde_json::from_slice(&message.payload).unwrap();
            seen.push(number_of(&envelope).unwrap_or(0));
        }
        seen
    };
    let observer = server.client().await;
    let mut subscriber = observer.subscribe("supervision.>").await.unwrap();
    // A round trip, so that the subscription is live.
    drop(observer.request("nobody", "".into()).await);
    for number in 1..=20 {
        life.handle.emit(numbered(number));
    }
    assert_eq!(receive(&mut subscriber, 20).await, (1..=20).collect::<Vec<_>>());
    life.flush().await;
    server.kill9();
    eventually("the observer notices", async || {
        (observer.connection_state() != async_nats::connection::State::Connected).then_some(())
    })
    .await;
    // Nothing is under way and the outbox has seen that the connection is gone.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for number in 21..=120 {
        life.handle.emit(numbered(number));
    }
    assert_eq!(life.handle.status().waiting, 50);
    server.restart();
    life.flush().await;
    let status = life.handle.status();
    assert_eq!((status.waiting, status.dropped), (0, 50));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_threads_emit_and_each_ones_order_holds() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let life = Life::begin(settings(dir.path()), clients);
    let spent = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let (handle, spent) = (life.handle.clone(), Arc::clone(&spent));
            std::thread::spawn(move || {
                let began = Instant::now();
                let numbers = thread * 10_000..thread * 10_000 + 1_000;
                numbers.map(numbered).for_each(|draft| _ = handle.emit(draft));
                let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap();
                spent.fetch_add(nanos, Ordering::Relaxed);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    life.flush().await;
    let rate = 8_000.0 / began.elapsed().as_secs_f64();
    println!(
        "{} ns an emit, {rate:.0} events acknowledged a second",
        spent.load(Ordering::Relaxed) / 8_000
    );
    let numbers = numbers(&context).await;
    assert_eq!(numbers.len(), 8_000);
    for thread in 0..8 {
        let own = numbers.iter().filter(|number| **number / 10_000 == thread);
        assert!(own.is_sorted(), "thread {thread}");
    }
    life.stop().await;
}
