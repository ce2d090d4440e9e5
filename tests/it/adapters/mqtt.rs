//! MQTT against a real `mosquitto`.

#![expect(clippy::excessive_nesting, reason = "what goes on beside a test stands inside it")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use provost::adapters::mqtt::{MqttConnector, SCHEMES};
use provost::ports::AttemptFate;
use provost::protocol::downstream::{CallErrorKind, CallOp, CallRequest};
use serde_json::{Value, json};

use crate::adapters::{Session, target, with};
use crate::support::brokers::{Broker, BrokerOptions, ClientCertificate, Kind};
use crate::support::eventually;

fn connector(broker: &Broker, scheme: &str, more: &str) -> MqttConnector {
    let address = format!("address = \"{scheme}://{}\"", broker.address());
    let settings = if more.contains("endpoint") {
        more.replace("{address}", &address)
    } else {
        format!("endpoint = {{ {address} }}\n{more}")
    };
    MqttConnector::new(target("mqtt", &settings, SCHEMES)).unwrap()
}

async fn session(broker: &Broker, more: &str) -> Session {
    Session::open(&connector(broker, "mqtt", more)).await
}

fn publish(topic: &str, params: Value, headers: &[(&str, &str)]) -> CallRequest {
    let headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    CallRequest { headers, ..with(CallOp::Publish, topic, params) }
}

/// How many different messages have arrived.
fn different(session: &Session) -> usize {
    let seen = session.inbox.seen();
    seen.iter().map(|message| message.payload.to_string()).collect::<BTreeSet<_>>().len()
}

fn listener(id: &str, topic: &str, qos: u8) -> String {
    format!(
        "config = {{ client_id = \"{id}\" }}\n\
         [[downstreams.d.subscriptions]]\ntopic = \"{topic}\"\nqos = {qos}\n"
    )
}

#[tokio::test]
async fn each_quality_of_service_arrives() {
    let broker = Broker::mosquitto();
    let calling = session(&broker, "config = { client_id = \"caller\" }").await;
    let listening = session(&broker, &listener("listener", "a/#", 2)).await;
    for qos in ["0", "1", "2"] {
        let call = publish("a/b", json!({"qos": qos}), &[("mqtt-qos", qos), ("x", "y")]);
        assert_eq!(calling.call(call).await.unwrap(), Value::Null);
    }
    let arrived = listening.arrived(3).await;
    let expected = ["0", "1", "2"].map(|qos| json!({"qos": qos}).to_string());
    assert_eq!(arrived, expected.into());
    assert_eq!(listening.inbox.seen()[0].topic, "a/b");
    assert_eq!(calling.client.check(Duration::from_secs(3)).await, Ok(None));
    // Retained for who comes later.
    calling.call(publish("a/kept", json!("kept"), &[("mqtt-retain", "true")])).await.unwrap();
    let later = session(&broker, &listener("later", "a/kept", 1)).await;
    later.arrived(1).await;
}

#[tokio::test]
async fn what_cannot_be_published_is_refused() {
    let broker = Broker::mosquitto();
    let session = session(&broker, "").await;
    for (topic, headers) in [
        ("a/#", [("x", "y")]),
        ("", [("x", "y")]),
        ("a", [("mqtt-qos", "3")]),
        ("a", [("mqtt-retain", "maybe")]),
        ("a", [("mqtt-expiry", "soon")]),
    ] {
        let error = session.call(publish(topic, json!(1), &headers)).await.unwrap_err();
        assert_eq!(error.error.kind, CallErrorKind::InvalidRequest, "{topic} {headers:?}");
    }
    for op in [CallOp::Request, CallOp::Enqueue, CallOp::Dequeue, CallOp::Ack] {
        let error = session.call(with(op, "a", Value::Null)).await.unwrap_err();
        assert_eq!(error.error.kind, CallErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn the_will_is_told_when_a_session_is_lost() {
    let broker = Broker::mosquitto();
    let listening = session(&broker, &listener("listener", "gone/#", 1)).await;
    let will = "config = { client_id = \"w\", will = { topic = \"gone/w\", message = \"lost\", \
                qos = 1 } }";
    drop(session(&broker, will).await);
    assert!(listening.arrived(1).await.contains("\"lost\""));
}

#[tokio::test]
async fn credentials_and_certificates_are_checked() {
    let options = BrokerOptions { user: Some(("alice", "right")), tls: None };
    let broker = Broker::with(Kind::Mosquitto, options);
    let auth = |password: &str| {
        format!("auth = {{ type = \"basic\", username = \"alice\", password = \"{password}\" }}")
    };
    session(&broker, &auth("right")).await;
    let reason = Session::refused(&connector(&broker, "mqtt", &auth("wr0ng"))).await;
    assert!(reason.contains(&broker.address()) && reason.contains("refused"), "{reason}");
    assert!(!reason.contains("wr0ng"), "{reason}");

    let options = BrokerOptions { user: None, tls: Some(ClientCertificate::Needed) };
    let broker = Broker::with(Kind::Mosquitto, options);
    let own = broker.certificates().issue("client");
    let settings = |ca: &std::path::Path| {
        format!(
            "endpoint = {{ {{address}}, ca = \"{}\" }}\nauth = {{ type = \"client_certificate\", \
             cert = \"{}\", key = \"{}\" }}",
            ca.display(),
            own.cert.display(),
            own.key.display()
        )
    };
    // A server that asks for TLS 1.3 or 1.2 with a certificate, and one that is not ours.
    let ca = broker.certificates().ca();
    let right = Session::open(&connector(&broker, "mqtts", &settings(&ca))).await;
    assert_eq!(right.client.check(Duration::from_secs(3)).await, Ok(None));
    let other = crate::support::transport::Certificates::new();
    let reason = Session::refused(&connector(&broker, "mqtts", &settings(&other.ca()))).await;
    assert!(reason.contains("TLS") && reason.contains("certificate"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_acknowledged_arrives_though_the_broker_is_killed_under_load() {
    let mut broker = Broker::mosquitto();
    let calling = session(&broker, "config = { client_id = \"caller\" }").await;
    let listening = session(&broker, &listener("listener", "load", 1)).await;
    let acknowledged = AtomicUsize::new(0);
    let mut count = 0;
    for round in 0..3 {
        let until = count + 150;
        let load = async {
            for number in count..until {
                calling.insist(&publish("load", json!(number), &[])).await;
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        };
        let killing = async {
            let what = format!("round {round}: the load is under way");
            eventually(&what, async || {
                (count + 20 <= acknowledged.load(Ordering::SeqCst)).then_some(())
            })
            .await;
            // Mosquitto acknowledges before it stores. It is killed at a moment when what it has
            // acknowledged is with the listener, so that only what adapters lose would be missing.
            eventually(&what, async || {
                broker.freeze();
                tokio::time::sleep(Duration::from_millis(200)).await;
                let done = acknowledged.load(Ordering::SeqCst);
                if done <= different(&listening) {
                    return Some(());
                }
                broker.thaw();
                None
            })
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
    assert!(!listening.ended.is_finished() && !calling.ended.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_broker_were_not_sent() {
    let mut broker = Broker::mosquitto();
    let session = session(&broker, "").await;
    tokio::task::block_in_place(|| broker.kill9());
    let error = eventually("the loss is noticed", async || {
        let error = session.call(publish("a", json!(1), &[])).await.unwrap_err();
        (error.fate == AttemptFate::NotSent).then_some(error)
    })
    .await;
    assert_eq!(error.error.kind, CallErrorKind::Unavailable);
    assert!(session.client.check(Duration::from_secs(1)).await.is_err());
    tokio::task::block_in_place(|| broker.start());
    session.insist(&publish("a", json!(1), &[])).await;
}
