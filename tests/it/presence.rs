//! One daemon per prefix, against a real server.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use provost::transport::connect::Connection;
use provost::transport::presence::{Identity, Presence, PresenceError, PresenceService};
use uuid::Uuid;

use crate::support::nats::NatsServer;
use crate::support::transport::{RunningService, connect, connect_under, settings, slot_with};

fn identity(name: &str, age: u128) -> Identity {
    Identity {
        node: name.parse().unwrap(),
        instance: Uuid::from_u128(age),
        pid: 7,
        host: "host".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    }
}

async fn daemon(server: &NatsServer, name: &str, age: u128) -> RunningService {
    let slot = slot_with(connect(server).await);
    RunningService::start(&PresenceService::new(slot, identity(name, age))).await
}

async fn claim(connection: &Connection, name: &str, age: u128) -> Result<Presence, PresenceError> {
    Presence::claim(connection, identity(name, age)).await
}

#[tokio::test]
async fn a_second_daemon_is_refused_with_the_firsts_name_within_a_second() {
    let server = NatsServer::start();
    let first = daemon(&server, "first", 2).await;
    let connection = connect(&server).await;
    for age in [1, 3] {
        let started = Instant::now();
        let error = claim(&connection, "second", age).await.unwrap_err();
        assert!(matches!(&error, PresenceError::Taken { by } if by.node.as_str() == "first"));
        assert!(error.to_string().contains("node first (pid 7 on host"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    first.stop().await.unwrap();
    claim(&connection, "second", 3).await.unwrap();
}

#[tokio::test]
async fn daemons_of_two_prefixes_live_side_by_side() {
    let server = NatsServer::start();
    let mut held = Vec::new();
    for prefix in ["", "acme", "acme.prod"] {
        let slot = slot_with(connect_under(&server, prefix).await);
        let service = PresenceService::new(slot, identity("n", 1));
        held.push(RunningService::start(&service).await);
    }
    for running in held {
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn of_many_that_start_at_once_exactly_the_oldest_stays() {
    let server = NatsServer::start();
    let mut claims = tokio::task::JoinSet::new();
    for age in 1..=8 {
        let settings = settings(&server);
        claims.spawn(async move {
            let connection = Connection::open(&settings).await.unwrap();
            let mut presence = claim(&connection, "n", age).await.ok()?;
            // Held a while, so that late questions are answered too.
            let held = tokio::time::timeout(Duration::from_secs(8), presence.hold()).await;
            held.is_err().then_some(age)
        });
    }
    let stayed: Vec<u128> = claims.join_all().await.into_iter().flatten().collect();
    assert_eq!(stayed, [1]);
}

#[tokio::test]
async fn a_daemon_that_died_does_not_count() {
    let server = NatsServer::start();
    let dead = connect(&server).await;
    let presence = claim(&dead, "dead", 1).await.unwrap();
    // Its subscription is still there and nobody answers on it.
    let connection = connect(&server).await;
    let started = Instant::now();
    claim(&connection, "living", 2).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(presence);
}

#[tokio::test]
async fn a_claim_is_held_across_a_restart_of_the_server() {
    let mut server = NatsServer::start();
    let connection = connect(&server).await;
    let service = PresenceService::new(slot_with(connection.clone()), identity("first", 1));
    let running = RunningService::start(&service).await;
    server.restart();
    crate::support::eventually("reconnected", async || {
        (connection.link().borrow().reconnects == 1).then_some(())
    })
    .await;
    connection.round_trip().await.unwrap();
    let other = connect(&server).await;
    let error = claim(&other, "second", 2).await.unwrap_err();
    assert!(matches!(error, PresenceError::Taken { .. }), "{error:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn garbage_on_the_presence_subject_harms_nobody() {
    let server = NatsServer::start();
    let running = daemon(&server, "first", 1).await;
    let connection = connect(&server).await;
    for payload in [&b""[..], b"x", b"{}", b"[1]", &[b'{'; 100_000]] {
        let payload = bytes::Bytes::copy_from_slice(payload);
        connection.publish("system.presence", None, payload).await.unwrap();
    }
    let error = claim(&connection, "second", 2).await.unwrap_err();
    assert!(matches!(error, PresenceError::Taken { .. }), "{error:?}");
    running.stop().await.unwrap();
}
