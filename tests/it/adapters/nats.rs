//! NATS as a downstream, against a real `nats-server`.

#![expect(clippy::excessive_nesting, reason = "what goes on beside a test stands inside it")]

use std::time::Duration;

use futures_util::StreamExt as _;
use provost::adapters::nats::{NatsConnector, SCHEMES};
use provost::ports::AttemptFate;
use provost::protocol::downstream::{CallErrorKind, CallOp, CallRequest};
use serde_json::{Value, json};

use crate::adapters::{Session, target, with};
use crate::support::eventually;
use crate::support::nats::{NatsOptions, NatsServer};
use crate::support::transport::Certificates;

fn connector(server: &NatsServer, scheme: &str, more: &str) -> NatsConnector {
    let address = format!("address = \"{scheme}://{}\"", server.address());
    let settings = if more.contains("endpoint") {
        more.replace("{address}", &address)
    } else {
        format!("endpoint = {{ {address} }}\n{more}")
    };
    NatsConnector::new(target("nats", &settings, SCHEMES)).unwrap()
}

async fn session(server: &NatsServer, more: &str) -> Session {
    Session::open(&connector(server, "nats", more)).await
}

async fn stream(server: &NatsServer) {
    let config = async_nats::jetstream::stream::Config {
        name: "WORK".to_owned(),
        subjects: vec!["work.>".to_owned()],
        ..Default::default()
    };
    server.jetstream().await.create_stream(config).await.unwrap();
}

#[tokio::test]
async fn requests_are_answered_and_refused_as_a_service_does() {
    let server = NatsServer::start();
    let client = server.client().await;
    let mut asked = client.subscribe("echo").await.unwrap();
    client.flush().await.unwrap();
    let serving = tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            let mut headers = async_nats::HeaderMap::new();
            if message.payload.as_ref() == b"fail" {
                headers.insert("Nats-Service-Error", "no such thing");
                headers.insert("Nats-Service-Error-Code", "404");
            }
            let (reply, payload) = (message.reply.unwrap(), message.payload);
            client.publish_with_headers(reply, headers, payload).await.unwrap();
        }
    });
    let session = session(&server, "").await;
    eventually("the service listens", async || {
        session.call(with(CallOp::Request, "echo", json!(1))).await.ok()
    })
    .await;
    let answers = (0..100).map(|n| session.call(with(CallOp::Request, "echo", json!({"n": n}))));
    for (n, answer) in futures_util::future::join_all(answers).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), json!({"n": n}));
    }
    let failed = session.call(with(CallOp::Request, "echo", json!("fail"))).await.unwrap_err();
    assert_eq!((failed.error.code, failed.fate), (Some(404), AttemptFate::Rejected));
    assert_eq!(failed.error.message, "no such thing");
    let nobody = session.call(with(CallOp::Request, "nobody", json!(1))).await.unwrap_err();
    assert_eq!(
        (nobody.error.kind, nobody.fate),
        (CallErrorKind::Unavailable, AttemptFate::NotSent)
    );
    for subject in ["a.*", "a b", "", "a..b", ">"] {
        let wrong = session.call(with(CallOp::Publish, subject, json!(1))).await.unwrap_err();
        assert_eq!(wrong.error.kind, CallErrorKind::InvalidRequest, "{subject:?}");
    }
    assert_eq!(session.client.check(Duration::from_secs(3)).await, Ok(None));
    serving.abort();
}

#[tokio::test]
async fn a_queue_in_jetstream_hands_out_and_confirms() {
    let server = NatsServer::start();
    stream(&server).await;
    let session = session(&server, "").await;
    let put = |n: u64| CallRequest {
        idempotency_key: Some(format!("k-{n}")),
        ..with(CallOp::Enqueue, "work.a", json!({"n": n}))
    };
    let take = |params| session.call(with(CallOp::Dequeue, "work.a", params));
    let soon = || json!({"group": "g", "redeliver_after_ms": 300});
    assert_eq!(take(soon()).await.unwrap(), Value::Null);
    assert_eq!(session.call(put(1)).await.unwrap()["duplicate"], false);
    assert_eq!(session.call(put(1)).await.unwrap()["duplicate"], true);
    session.call(put(2)).await.unwrap();
    let first = take(soon()).await.unwrap();
    assert_eq!((&first["payload"], &first["redelivered"]), (&json!({"n": 1}), &json!(false)));
    let ack = with(CallOp::Ack, "work.a", json!({"id": first["id"]}));
    assert_eq!(session.call(ack).await.unwrap(), json!({"acked": true}));
    let second = take(soon()).await.unwrap();
    assert_eq!(second["payload"], json!({"n": 2}));
    let again = take(json!({"group": "g", "wait_ms": 4000})).await.unwrap();
    assert_eq!((&again["payload"], &again["redelivered"]), (&json!({"n": 2}), &json!(true)));
    let strange = with(CallOp::Ack, "work.a", json!("some.subject"));
    let wrong = session.call(strange).await.unwrap_err();
    assert_eq!(wrong.error.kind, CallErrorKind::InvalidRequest);
    let gone = with(CallOp::Ack, "work.a", json!("$JS.ACK.NO.no.1.1.1.1.0"));
    assert_eq!(session.call(gone).await.unwrap(), json!({"acked": false}));
    let none = session.call(with(CallOp::Enqueue, "elsewhere", json!(1))).await.unwrap_err();
    assert_eq!(none.fate, AttemptFate::NotSent);
    let none = session.call(with(CallOp::Dequeue, "elsewhere", Value::Null)).await.unwrap_err();
    assert!(none.error.message.contains("no stream holds elsewhere"), "{none}");
}

#[tokio::test]
async fn subjects_and_streams_arrive() {
    let server = NatsServer::start();
    stream(&server).await;
    let plain = session(&server, "").await;
    plain.call(with(CallOp::Enqueue, "work.b", json!("early"))).await.unwrap();
    let settings = "[[downstreams.d.subscriptions]]\ntopic = \"news.*\"\n\
                    [[downstreams.d.subscriptions]]\ntopic = \"work.b\"\nsource = \"stream\"\n";
    let session = session(&server, settings).await;
    plain.call(with(CallOp::Publish, "news.x", json!({"a": 1}))).await.unwrap();
    plain.call(with(CallOp::Enqueue, "work.b", json!("late"))).await.unwrap();
    session.arrived(3).await;
    let seen = session.inbox.seen();
    let early = seen.iter().find(|one| one.payload == "early").unwrap();
    assert_eq!((early.topic.as_str(), early.id.as_deref()), ("work.b", Some("1")));
    assert!(seen.iter().any(|one| one.topic == "news.x" && one.payload == json!({"a": 1})));
}

#[tokio::test]
async fn credentials_and_certificates_are_checked() {
    let server = NatsServer::with(NatsOptions::default().user("alice", "right"));
    let auth = |password: &str| {
        format!("auth = {{ type = \"basic\", username = \"alice\", password = \"{password}\" }}")
    };
    session(&server, &auth("right")).await;
    let reason = Session::refused(&connector(&server, "nats", &auth("wr0ng"))).await;
    assert!(reason.contains("authorization") && !reason.contains("wr0ng"), "{reason}");
    let server = NatsServer::with(NatsOptions::default().token("t0ken"));
    session(&server, "auth = { type = \"bearer\", token = \"t0ken\" }").await;

    let certificates = Certificates::new();
    let ours = certificates.issue("127.0.0.1");
    let server = NatsServer::with(NatsOptions::default().tls(
        &ours.cert,
        &ours.key,
        Some(&certificates.ca()),
    ));
    let own = certificates.issue("client");
    let settings = |ca: std::path::PathBuf| {
        format!(
            "endpoint = {{ {{address}}, ca = \"{}\" }}\nauth = {{ type = \"client_certificate\", \
             cert = \"{}\", key = \"{}\" }}",
            ca.display(),
            own.cert.display(),
            own.key.display()
        )
    };
    let right = Session::open(&connector(&server, "tls", &settings(certificates.ca()))).await;
    assert_eq!(right.client.check(Duration::from_secs(3)).await, Ok(None));
    let other = Certificates::new();
    let reason = Session::refused(&connector(&server, "tls", &settings(other.ca()))).await;
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_acknowledged_arrives_though_the_server_is_killed_under_load() {
    let mut server = NatsServer::start();
    stream(&server).await;
    let calling = session(&server, "").await;
    let settings = "[[downstreams.d.subscriptions]]\ntopic = \"work.c\"\nsource = \"stream\"\n\
                    [[downstreams.d.subscriptions]]\ntopic = \"news\"\n";
    let listening = session(&server, settings).await;
    let mut count = 0;
    for round in 0..3 {
        let until = count + 150;
        let load = async {
            for number in count..until {
                let key = Some(format!("key-{number}"));
                let call = with(CallOp::Enqueue, "work.c", json!(number));
                calling.insist(&CallRequest { idempotency_key: key, ..call }).await;
            }
        };
        let before = listening.inbox.seen().len();
        let killing = async {
            let what = format!("round {round}: the load is under way");
            eventually(&what, async || (before + 20 <= listening.inbox.seen().len()).then_some(()))
                .await;
            tokio::task::block_in_place(|| server.restart());
        };
        tokio::join!(load, killing);
        count = until;
    }
    let arrived = listening.arrived(count).await;
    assert_eq!(arrived, (0..count).map(|number| number.to_string()).collect());
    eventually("the subject is listened to again", async || {
        calling.call(with(CallOp::Publish, "news", json!("back"))).await.ok()?;
        let seen = listening.inbox.seen();
        seen.iter().any(|one| one.topic == "news").then_some(())
    })
    .await;
    assert!(!listening.ended.is_finished() && !calling.ended.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_when_the_server_dies_is_ambiguous_and_later_ones_are_not_sent() {
    let mut server = NatsServer::start();
    let client = server.client().await;
    let mut asked = client.subscribe("slow").await.unwrap();
    client.flush().await.unwrap();
    let session = session(&server, "").await;
    let calling = session.call(with(CallOp::Request, "slow", json!(1)));
    let killing = async {
        asked.next().await.unwrap();
        tokio::task::block_in_place(|| server.kill9());
    };
    let (lost, ()) = tokio::join!(calling, killing);
    let lost = lost.unwrap_err();
    assert_eq!((lost.error.kind, lost.fate), (CallErrorKind::Unavailable, AttemptFate::Unknown));
    let later = session.call(with(CallOp::Publish, "slow", json!(1))).await.unwrap_err();
    assert_eq!(later.fate, AttemptFate::NotSent);
    tokio::task::block_in_place(|| server.restart());
    session.insist(&with(CallOp::Publish, "slow", json!(1))).await;
}
