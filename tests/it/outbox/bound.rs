//! The bound, gap events, and refusals of the server.

use std::time::Duration;

use async_nats::jetstream::stream;
use provost::ports::EventSink as _;
use provost::protocol::subject::pattern;
use tokio::sync::watch;

use crate::outbox::{
    Life, assert_once_in_order, connect, declare, gaps, health, numbered, numbers, padded,
    settings, stored,
};
use crate::support::eventually;
use crate::support::nats::NatsOptions;
use crate::support::nats::NatsServer;

#[tokio::test]
async fn what_is_dropped_is_told_once_with_exact_counts_and_health_goes_first() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (sender, clients) = watch::channel(None);
    let mut settings = settings(dir.path());
    settings.bound_events = 100;
    let life = Life::begin(settings.clone(), clients.clone());
    for number in 1..=150 {
        life.handle.emit(numbered(number));
        if number % 3 == 0 {
            life.handle.emit(health());
        }
    }
    let status = life.handle.status();
    assert_eq!((status.waiting, status.dropped), (100, 100));
    // The counts are the same after another start.
    life.crash().await;
    let life = Life::begin(settings, clients);
    sender.send(Some(server.client().await)).unwrap();
    life.flush().await;
    assert_eq!(gaps(&context).await, [(100, 50, 0, 100)]);
    assert_eq!(numbers(&context).await, (51..=150).collect::<Vec<_>>());
    assert_eq!(stored(&context, "HEALTH").await.len(), 0);
    life.stop().await;
}

#[tokio::test]
async fn a_gap_stands_where_the_events_are_missing() {
    let mut server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let mut settings = settings(dir.path());
    settings.bound_events = 50;
    let life = Life::begin(settings, clients);
    for number in 1..=20 {
        life.handle.emit(numbered(number));
    }
    life.flush().await;
    server.kill9();
    eventually("the outbox notices", async || {
        life.handle.emit(numbered(21));
        life.handle.flush(Duration::from_millis(200)).await.is_err().then_some(())
    })
    .await;
    for number in 22..=121 {
        life.handle.emit(numbered(number));
    }
    let dropped = life.handle.status().dropped;
    server.restart();
    life.flush().await;
    let context = server.jetstream().await;
    let gaps = gaps(&context).await;
    // 21 is under way when the server dies and is kept; the gap comes after it.
    assert_eq!(gaps, [(dropped, 0, 21, 49)]);
    let numbers = numbers(&context).await;
    assert_eq!(numbers[..21], (1..=21).collect::<Vec<_>>());
    assert_eq!(numbers[21..], (73..=121).collect::<Vec<_>>());
    life.stop().await;
}

#[tokio::test]
async fn without_a_stream_events_wait_for_it() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let life = Life::begin(settings(dir.path()), clients);
    for number in 1..=10 {
        life.handle.emit(numbered(number));
    }
    assert!(life.handle.flush(Duration::from_millis(300)).await.is_err());
    declare(&context, "").await;
    life.flush().await;
    assert_once_in_order(&numbers(&context).await, 10);
    life.stop().await;
}

#[tokio::test]
async fn an_event_too_large_for_the_server_is_dropped_and_told_and_the_rest_goes_on() {
    let server = NatsServer::with(NatsOptions::default().max_payload(8_192));
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let life = Life::begin(settings(dir.path()), clients);
    life.handle.emit(numbered(1));
    life.handle.emit(padded(2, 10_000));
    life.handle.emit(numbered(3));
    life.flush().await;
    assert_eq!(gaps(&context).await, [(1, 0, 1, 1)]);
    assert_eq!(numbers(&context).await, [1, 3]);
    life.stop().await;
}

#[tokio::test]
async fn an_event_too_large_for_the_stream_is_dropped_and_told_and_the_rest_goes_on() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    let config = stream::Config {
        name: "SUPERVISION".to_owned(),
        subjects: pattern::STREAM_SUPERVISION.map(str::to_owned).to_vec(),
        max_message_size: 2_000,
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let life = Life::begin(settings(dir.path()), clients);
    life.handle.emit(padded(1, 5_000));
    life.handle.emit(numbered(2));
    life.flush().await;
    assert_eq!(gaps(&context).await, [(1, 0, 0, 1)]);
    assert_eq!(numbers(&context).await, [2]);
    life.stop().await;
}

#[tokio::test]
async fn a_full_stream_makes_events_wait_until_there_is_room() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    let mut config = stream::Config {
        name: "SUPERVISION".to_owned(),
        subjects: pattern::STREAM_SUPERVISION.map(str::to_owned).to_vec(),
        max_messages: 5,
        discard: stream::DiscardPolicy::New,
        ..Default::default()
    };
    context.create_stream(config.clone()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let life = Life::begin(settings(dir.path()), clients);
    for number in 1..=10 {
        life.handle.emit(numbered(number));
    }
    assert!(life.handle.flush(Duration::from_millis(500)).await.is_err());
    assert_eq!(life.handle.status().waiting, 5);
    config.max_messages = 100;
    context.update_stream(config).await.unwrap();
    life.flush().await;
    assert_once_in_order(&numbers(&context).await, 10);
    life.stop().await;
}

#[tokio::test]
async fn a_refused_health_event_gives_way_to_what_matters_more() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    context.delete_stream("HEALTH").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let mut settings = settings(dir.path());
    settings.publish_timeout = Duration::from_millis(500);
    let life = Life::begin(settings, clients);
    life.handle.emit(health());
    life.handle.emit(numbered(1));
    life.flush().await;
    assert_eq!(gaps(&context).await, [(1, 1, 0, 1)]);
    life.stop().await;
}
