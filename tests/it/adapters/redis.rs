//! Redis against a real `redis-server`.

#![expect(clippy::excessive_nesting, reason = "what goes on beside a test stands inside it")]

use std::time::Duration;

use provost::adapters::redis::{RedisConnector, SCHEMES};
use provost::ports::AttemptFate;
use provost::protocol::downstream::{CallErrorKind, CallOp, CallRequest};
use serde_json::{Value, json};

use crate::adapters::{Session, target, with};
use crate::support::brokers::{Broker, BrokerOptions, ClientCertificate, Kind};
use crate::support::eventually;

fn connector(broker: &Broker, scheme: &str, more: &str) -> RedisConnector {
    let address = format!("address = \"{scheme}://{}\"", broker.address());
    let endpoint = if more.contains("endpoint") {
        more.replace("{address}", &address)
    } else {
        format!("endpoint = {{ {address} }}\n{more}")
    };
    RedisConnector::new(target("redis", &endpoint, SCHEMES)).unwrap()
}

async fn session(broker: &Broker, more: &str) -> Session {
    Session::open(&connector(broker, "redis", more)).await
}

fn run(command: &str, arguments: Value) -> CallRequest {
    CallRequest {
        method: Some(command.into()),
        params: arguments,
        ..CallRequest::new(CallOp::Request)
    }
}

fn list(call: CallRequest) -> CallRequest {
    CallRequest { method: Some("list".into()), ..call }
}

#[tokio::test]
async fn commands_are_run_and_those_that_disturb_are_refused() {
    let broker = Broker::redis();
    let session = session(&broker, "").await;
    assert_eq!(session.call(run("SET", json!(["k", {"a": 1}]))).await.unwrap(), "OK");
    assert_eq!(session.call(run("GET", json!(["k"]))).await.unwrap(), "{\"a\":1}");
    assert_eq!(session.call(run("GET", json!("none"))).await.unwrap(), Value::Null);
    assert_eq!(session.call(run("INCRBY", json!(["n", 3]))).await.unwrap(), 3);
    session.call(run("HSET", json!(["h", "a", 1, "b", 2]))).await.unwrap();
    assert_eq!(
        session.call(run("HGETALL", json!(["h"]))).await.unwrap(),
        json!({"a": "1", "b": "2"})
    );
    let wrong = session.call(run("INCR", json!(["h"]))).await.unwrap_err();
    assert_eq!((wrong.error.kind, wrong.fate), (CallErrorKind::RemoteError, AttemptFate::Rejected));
    assert!(wrong.error.message.contains("WRONGTYPE"), "{wrong}");
    let blocking = session.call(run("blpop", json!(["l", 0]))).await.unwrap_err();
    assert_eq!(blocking.error.kind, CallErrorKind::InvalidRequest);
    assert_eq!(session.client.check(Duration::from_secs(3)).await, Ok(None));
}

#[tokio::test]
async fn streams_hand_out_each_message_once_until_it_is_due_again() {
    let broker = Broker::redis();
    let session = session(&broker, "").await;
    let take = |params| session.call(with(CallOp::Dequeue, "s", params));
    assert_eq!(take(json!({"group": "g"})).await.unwrap(), Value::Null);
    for number in 0..3 {
        session.call(with(CallOp::Enqueue, "s", json!({"n": number}))).await.unwrap();
    }
    let first = take(json!({"group": "g"})).await.unwrap();
    assert_eq!((&first["payload"], &first["redelivered"]), (&json!({"n": 0}), &json!(false)));
    assert_eq!(take(json!({"group": "g"})).await.unwrap()["payload"], json!({"n": 1}));
    // Another group has its own place.
    assert_eq!(take(json!({"group": "h"})).await.unwrap()["payload"], json!({"n": 0}));
    let ack = with(CallOp::Ack, "s", json!({"id": first["id"], "group": "g"}));
    assert_eq!(session.call(ack.clone()).await.unwrap(), json!({"acked": true}));
    assert_eq!(session.call(ack).await.unwrap(), json!({"acked": false}));
    // What was not confirmed comes again when it is due, before what is new.
    let again = eventually("the second message is due", async || {
        let taken = take(json!({"group": "g", "redeliver_after_ms": 20})).await.unwrap();
        (taken["redelivered"] == true).then_some(taken)
    })
    .await;
    assert!(again["payload"]["n"].as_i64().unwrap() >= 1);
}

#[tokio::test]
async fn lists_hand_out_again_what_was_not_confirmed_and_an_old_receipt_confirms_nothing() {
    let broker = Broker::redis();
    let session = session(&broker, "").await;
    for word in ["a", "b"] {
        session.call(list(with(CallOp::Enqueue, "l", json!(word)))).await.unwrap();
    }
    let take = async |ms: u64| {
        let params = json!({"redeliver_after_ms": ms});
        session.call(list(with(CallOp::Dequeue, "l", params))).await.unwrap()
    };
    let ack = async |id: &Value| {
        let call = list(with(CallOp::Ack, "l", json!({"id": id})));
        session.call(call).await.unwrap()["acked"].clone()
    };
    let first = take(1).await;
    assert_eq!(first["payload"], "a");
    let again = eventually("the first is due", async || {
        let taken = take(60_000).await;
        (taken["redelivered"] == true).then_some(taken)
    })
    .await;
    assert_eq!(again["payload"], "a");
    assert_eq!(ack(&first["id"]).await, false);
    assert_eq!(ack(&again["id"]).await, true);
    assert_eq!(ack(&again["id"]).await, false);
}

#[tokio::test]
async fn a_repeated_enqueue_with_one_key_adds_nothing() {
    let broker = Broker::redis();
    let session = session(&broker, "").await;
    let once = |call| CallRequest { idempotency_key: Some("k-1".into()), ..call };
    let call = once(with(CallOp::Enqueue, "s", json!(1)));
    let first = session.call(call.clone()).await.unwrap();
    assert_eq!(session.call(call).await.unwrap(), first);
    assert_eq!(session.call(run("XLEN", json!(["s"]))).await.unwrap(), 1);
    let call = once(list(with(CallOp::Enqueue, "l", json!(1))));
    session.call(call.clone()).await.unwrap();
    session.call(call).await.unwrap();
    assert_eq!(session.call(run("LLEN", json!(["l"]))).await.unwrap(), 1);
}

#[tokio::test]
async fn a_dequeue_waits_without_keeping_others_waiting() {
    let broker = Broker::redis();
    let session = session(&broker, "").await;
    let waiting = session.call(with(CallOp::Dequeue, "s", json!({"wait_ms": 4000})));
    let feeding = async {
        assert_eq!(session.call(run("PING", Value::Null)).await.unwrap(), "PONG");
        session.call(with(CallOp::Enqueue, "s", json!("x"))).await.unwrap();
    };
    let (taken, ()) = tokio::join!(waiting, feeding);
    assert_eq!(taken.unwrap()["payload"], "x");
}

const SUBSCRIPTIONS: &str = r#"
[[downstreams.d.subscriptions]]
topic = "news"
[[downstreams.d.subscriptions]]
topic = "log.*"
source = "pattern"
[[downstreams.d.subscriptions]]
topic = "work"
source = "stream"
group = "g"
"#;

#[tokio::test]
async fn channels_patterns_and_streams_arrive() {
    let broker = Broker::redis();
    let plain = session(&broker, "").await;
    let early = with(CallOp::Enqueue, "work", json!("early"));
    plain.call(early).await.unwrap();
    let session = session(&broker, SUBSCRIPTIONS).await;
    let told = plain.call(with(CallOp::Publish, "news", json!({"a": 1}))).await.unwrap();
    assert_eq!(told, json!({"receivers": 1}));
    plain.call(with(CallOp::Publish, "log.x", json!("text"))).await.unwrap();
    plain.call(run("XADD", json!(["work", "*", "field", "v"]))).await.unwrap();
    session.arrived(4).await;
    let mut seen: Vec<(String, Value)> =
        session.inbox.seen().into_iter().map(|one| (one.topic, one.payload)).collect();
    seen.sort_by_key(|(topic, payload)| (topic.clone(), payload.to_string()));
    let expected = [
        ("log.x", json!("text")),
        ("news", json!({"a": 1})),
        ("work", json!("early")),
        ("work", json!({"field": "v"})),
    ];
    assert_eq!(seen, expected.map(|(topic, payload)| (topic.to_owned(), payload)));
    eventually("all entries are confirmed", async || {
        let pending = plain.call(run("XPENDING", json!(["work", "g"]))).await.unwrap();
        (pending[0] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn credentials_and_certificates_are_checked() {
    let options = BrokerOptions { user: Some(("alice", "right")), tls: None };
    let broker = Broker::with(Kind::Redis, options);
    let auth = |password: &str| {
        format!("auth = {{ type = \"basic\", username = \"alice\", password = \"{password}\" }}")
    };
    let right = session(&broker, &auth("right")).await;
    assert_eq!(right.call(run("PING", Value::Null)).await.unwrap(), "PONG");
    let reason = Session::refused(&connector(&broker, "redis", &auth("wr0ng"))).await;
    assert!(reason.contains(&broker.address()) && !reason.contains("wr0ng"), "{reason}");
    assert!(reason.to_lowercase().contains("auth") || reason.contains("WRONGPASS"), "{reason}");

    let options = BrokerOptions { user: None, tls: Some(ClientCertificate::Needed) };
    let broker = Broker::with(Kind::Redis, options);
    let own = broker.certificates().issue("client");
    let endpoint =
        |ca: &std::path::Path| format!("endpoint = {{ {{address}}, ca = \"{}\" }}\n", ca.display());
    let auth = format!(
        "auth = {{ type = \"client_certificate\", cert = \"{}\", key = \"{}\" }}",
        own.cert.display(),
        own.key.display()
    );
    let ca = broker.certificates().ca();
    let settings = format!("{}{auth}", endpoint(&ca));
    let right = Session::open(&connector(&broker, "rediss", &settings)).await;
    assert_eq!(right.client.check(Duration::from_secs(3)).await, Ok(None));
    let without = Session::refused(&connector(&broker, "rediss", &endpoint(&ca))).await;
    assert!(!without.is_empty());
    let other = crate::support::transport::Certificates::new();
    let settings = format!("{}{auth}", endpoint(&other.ca()));
    let reason = Session::refused(&connector(&broker, "rediss", &settings)).await;
    assert!(reason.contains("TLS") && reason.contains("certificate"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_acknowledged_arrives_though_the_server_is_killed_under_load() {
    let mut broker = Broker::redis();
    let calling = session(&broker, "").await;
    let listening = session(&broker, SUBSCRIPTIONS).await;
    let mut count = 0;
    for round in 0..3 {
        let until = count + 150;
        let load = async {
            for number in count..until {
                let call = with(CallOp::Enqueue, "work", json!(number));
                let key = format!("key-{number}");
                calling.insist(&CallRequest { idempotency_key: Some(key), ..call }).await;
            }
        };
        let before = listening.inbox.seen().len();
        let killing = async {
            let what = format!("round {round}: the load is under way");
            eventually(&what, async || (before + 20 <= listening.inbox.seen().len()).then_some(()))
                .await;
            tokio::task::block_in_place(|| {
                broker.kill9();
                broker.start();
            });
        };
        tokio::join!(load, killing);
        count = until;
    }
    let arrived = listening.arrived(count).await;
    assert_eq!(arrived, (0..count).map(|number| number.to_string()).collect());
    // With keys nothing was added twice. The last kill may have come behind the last call.
    assert_eq!(calling.insist(&run("XLEN", json!(["work"]))).await.0, count);
    // Channels are listened to again.
    eventually("the channel has its listener back", async || {
        let told = calling.call(with(CallOp::Publish, "news", json!("back"))).await.ok()?;
        (told["receivers"] == 1).then_some(())
    })
    .await;
    assert!(!listening.ended.is_finished() && !calling.ended.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_server_were_not_sent() {
    let mut broker = Broker::redis();
    let session = session(&broker, "").await;
    broker.kill9();
    let call = run("PING", Value::Null);
    let error = eventually("the loss is noticed", async || {
        let error = session.call(call.clone()).await.unwrap_err();
        (error.fate == AttemptFate::NotSent).then_some(error)
    })
    .await;
    assert_eq!(error.error.kind, CallErrorKind::Unavailable);
    assert!(session.client.check(Duration::from_secs(1)).await.is_err());
    tokio::task::block_in_place(|| broker.start());
    assert_eq!(session.insist(&call).await.0, "PONG");
}
