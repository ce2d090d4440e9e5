//! Streams declared at real servers: made, left alone, updated in place, refused.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, StorageType};
use provost::protocol::subject::SubjectPrefix;
use provost::transport::declare::{Ensured, ensure, ensure_all};
use provost::transport::stream_error::StreamError;
use provost::transport::streams::{
    CoordinationStreams, Retention, Storage, StreamProfile, StreamSettings, daemon_streams,
};

use crate::support::nats::{NatsOptions, NatsServer};
use crate::support::transport::connect;

async fn context(server: &NatsServer) -> Context {
    connect(server).await.jetstream()
}

fn streams(prefix: &str, coordination: CoordinationStreams) -> Vec<StreamSettings> {
    let prefix: SubjectPrefix = prefix.parse().unwrap();
    daemon_streams(&prefix, StreamProfile::Development, coordination)
}

fn supervision() -> StreamSettings {
    streams("", CoordinationStreams::Without).remove(0)
}

async fn fill(context: &Context, count: u64) {
    for _ in 0..count {
        context.publish("supervision.events", "x".into()).await.unwrap().await.unwrap();
    }
}

async fn messages(context: &Context, name: &str) -> u64 {
    context.get_stream(name).await.unwrap().cached_info().state.messages
}

#[tokio::test]
async fn all_streams_are_made_once_and_then_left_alone() {
    let server = NatsServer::start();
    let context = context(&server).await;
    let declared = streams("", CoordinationStreams::With);
    let first = ensure_all(&context, &declared).await.unwrap();
    assert!(first.iter().all(|outcome| *outcome == Ensured::Created), "{first:?}");
    let second = ensure_all(&context, &declared).await.unwrap();
    assert!(second.iter().all(|outcome| *outcome == Ensured::Unchanged), "{second:?}");
    let other = streams("acme.prod", CoordinationStreams::With);
    let other = ensure_all(&context, &other).await.unwrap();
    assert!(other.iter().all(|outcome| *outcome == Ensured::Created), "{other:?}");

    let found = context.get_stream("SUPERVISION").await.unwrap();
    let config = &found.cached_info().config;
    assert_eq!(config.max_age, Duration::from_secs(7 * 86_400));
    assert_eq!(config.duplicate_window, Duration::from_secs(120));
    assert_eq!(config.max_consumers, 1_000);
    assert_eq!(config.storage, StorageType::File);
    assert_eq!(config.metadata["provost.schema"], "1");
}

#[tokio::test]
async fn limits_and_subjects_change_in_place_and_nothing_is_lost() {
    let server = NatsServer::start();
    let context = context(&server).await;
    let mut stream = supervision();
    stream.subjects.retain(|subject| !subject.starts_with("agent"));
    assert_eq!(ensure(&context, &stream).await, Ok(Ensured::Created));
    fill(&context, 5).await;
    let mut changed = supervision();
    changed.max_age = Some(Duration::from_secs(3_600));
    changed.max_bytes = Some(1_000_000);
    changed.max_messages_per_subject = Some(1_000);
    changed.duplicate_window = Duration::from_secs(60);
    changed.description = "Other words.".to_owned();
    let Ok(Ensured::Updated(changes)) = ensure(&context, &changed).await else { panic!() };
    let mut fields: Vec<&str> = changes.iter().map(|change| &*change.field).collect();
    fields.sort_unstable();
    let expected = [
        "description",
        "duplicate_window",
        "max_age",
        "max_bytes",
        "max_msgs_per_subject",
        "subjects",
    ];
    assert_eq!(fields, expected);
    assert_eq!(messages(&context, "SUPERVISION").await, 5);
    assert_eq!(ensure(&context, &changed).await, Ok(Ensured::Unchanged));
    context.publish("agent.events.w1", "x".into()).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn incompatible_streams_are_refused_and_stay_as_they_are() {
    let server = NatsServer::start();
    let context = context(&server).await;
    ensure(&context, &supervision()).await.unwrap();
    fill(&context, 3).await;
    let other = |change: fn(&mut StreamSettings)| {
        let mut stream = supervision();
        change(&mut stream);
        stream
    };
    let memory = ensure(&context, &other(|stream| stream.storage = Storage::Memory)).await;
    let text = memory.unwrap_err().to_string();
    assert!(text.contains(r#"has storage "file" and must have "memory""#), "{text}");
    let queue = ensure(&context, &other(|stream| stream.retention = Retention::WorkQueue)).await;
    assert!(matches!(queue, Err(StreamError::Incompatible { field, .. }) if field == "retention"));
    let copies = ensure(&context, &other(|stream| stream.replicas = 3)).await;
    assert!(matches!(copies, Err(StreamError::Replicas { replicas: 3, .. })), "{copies:?}");
    assert_eq!(messages(&context, "SUPERVISION").await, 3);
    assert_eq!(ensure(&context, &supervision()).await, Ok(Ensured::Unchanged));
}

#[tokio::test]
async fn copies_that_one_server_cannot_keep_are_refused_at_once() {
    let server = NatsServer::start();
    let context = context(&server).await;
    let prefix = SubjectPrefix::default();
    let declared = daemon_streams(&prefix, StreamProfile::Production, CoordinationStreams::Without);
    let error = ensure(&context, &declared[0]).await.unwrap_err();
    assert!(matches!(error, StreamError::Replicas { replicas: 3, .. }), "{error:?}");
    assert!(error.to_string().contains("development profile"));
}

#[tokio::test]
async fn streams_in_the_way_are_named() {
    let server = NatsServer::start();
    let context = context(&server).await;
    for (name, subject) in [("THEIRS", "supervision.>"), ("AGENTS", "agent.events.*")] {
        let subjects = vec![subject.to_owned()];
        let config = Config { name: name.to_owned(), subjects, ..Config::default() };
        context.create_stream(config).await.unwrap();
    }
    let error = ensure(&context, &supervision()).await.unwrap_err();
    let StreamError::Overlap { others, .. } = &error else { panic!("{error:?}") };
    let mut others = others.clone();
    others.sort();
    assert_eq!(others, ["AGENTS", "THEIRS"]);
}

#[tokio::test]
async fn a_stream_of_somebody_else_with_our_name_is_left_alone() {
    let server = NatsServer::start();
    let context = context(&server).await;
    let subjects = vec!["theirs.>".to_owned()];
    let config = Config { name: "SUPERVISION".to_owned(), subjects, ..Config::default() };
    context.create_stream(config.clone()).await.unwrap();
    let error = ensure(&context, &supervision()).await.unwrap_err();
    assert!(matches!(error, StreamError::Foreign { .. }), "{error:?}");
    let found = context.get_stream("SUPERVISION").await.unwrap();
    assert_eq!(found.cached_info().config.subjects, config.subjects);
}

#[tokio::test]
async fn a_server_without_room_says_so() {
    let options =
        NatsOptions { jetstream_lines: "max_file: 100MB".to_owned(), ..NatsOptions::default() };
    let server = NatsServer::with(options);
    let context = context(&server).await;
    let error = ensure(&context, &supervision()).await.unwrap_err();
    assert!(matches!(error, StreamError::NoRoom { .. }), "{error:?}");
}

#[tokio::test]
async fn jetstream_that_is_off_is_told_apart_from_a_refusal() {
    let server = NatsServer::with(NatsOptions::default().without_jetstream());
    let error = ensure(&context(&server).await, &supervision()).await.unwrap_err();
    assert!(matches!(error, StreamError::NoAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn daemons_that_start_together_agree_on_the_streams() {
    let server = NatsServer::start();
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let context = context(&server).await;
        let declared = streams("", CoordinationStreams::With);
        starts.spawn(async move { ensure_all(&context, &declared).await.map(|_| ()) });
    }
    for outcome in starts.join_all().await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn library_streams_take_domain_and_integration_events() {
    let server = NatsServer::start();
    let context = context(&server).await;
    let app: SubjectPrefix = "shop".parse().unwrap();
    let profile = StreamProfile::Development;
    let declared = [
        StreamSettings::domain_events(&app, profile),
        StreamSettings::integration_events(&app, profile),
    ];
    ensure_all(&context, &declared).await.unwrap();
    for subject in ["shop.domain.order.placed", "shop.integration.webhook.in"] {
        context.publish(subject, "x".into()).await.unwrap().await.unwrap();
    }
}
