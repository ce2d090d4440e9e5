//! The endpoints of calls against a real server: bounds, prefix, every way of failing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use provost::ports::{BoxFuture, DownstreamCalls, Inbound, InboundSink as _};
use provost::protocol::command::CircuitSet;
use provost::protocol::downstream::{
    CallCounts, CallDone, CallError, CallErrorKind, CallRequest, CallSource, DownstreamStatus,
};
use provost::protocol::id::ChildName;
use provost::protocol::status::{AgentState, CircuitStatus};
use provost::transport::connect::Connection;
use provost::transport::downstreams::{CallLimits, CallService, NatsInbound};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::eventually;
use crate::support::nats::NatsServer;
use crate::support::transport::{RunningService, connect, connect_under, slot_with};

/// One downstream, `d`, that does as a call's method says.
#[derive(Debug)]
struct Scripted {
    /// Calls that hang wait for it.
    gate: Arc<Semaphore>,
    hanging: Arc<AtomicUsize>,
}

#[expect(clippy::panic, reason = "a call's panic is what is tested")]
fn fail_as_asked<T>() -> T {
    panic!("as asked")
}

/// Does as the call's method says.
async fn obey(
    request: &CallRequest,
    gate: &Semaphore,
    hanging: &AtomicUsize,
) -> Result<Value, CallError> {
    match request.method.as_deref() {
        Some("hang") => {
            hanging.fetch_add(1, Ordering::SeqCst);
            Ok(gate.acquire().await.map(|_permit| json!("done")).unwrap())
        }
        Some("panic") => fail_as_asked(),
        Some("huge") => Ok(Value::from("x".repeat(2_000_000))),
        Some("open") => {
            let mut error = CallError::new(CallErrorKind::CircuitOpen, "open");
            error.retry_after_ms = Some(4_200);
            Err(error)
        }
        _ => Ok(serde_json::to_value(request).unwrap()),
    }
}

impl DownstreamCalls for Scripted {
    fn call(
        &self,
        name: &ChildName,
        request: CallRequest,
    ) -> Option<BoxFuture<'static, Result<CallDone, CallError>>> {
        let (gate, hanging) = (Arc::clone(&self.gate), Arc::clone(&self.hanging));
        (name.as_str() == "d").then(|| -> BoxFuture<'static, Result<CallDone, CallError>> {
            Box::pin(async move {
                let result = obey(&request, &gate, &hanging).await?;
                Ok(CallDone { result, source: CallSource::Live, age_ms: 0, attempts: 1 })
            })
        })
    }

    fn status(&self, name: &ChildName) -> Option<DownstreamStatus> {
        (name.as_str() == "d").then(|| DownstreamStatus {
            name: name.clone(),
            kind: "http".to_owned(),
            state: AgentState::Running,
            circuit: CircuitStatus::default(),
            counts: CallCounts { calls: 3, ..CallCounts::default() },
            in_flight: 1,
            health: None,
        })
    }

    fn circuits(&self) -> BTreeMap<ChildName, CircuitStatus> {
        BTreeMap::new()
    }

    fn set_circuit(&self, _: &ChildName, _: CircuitSet) -> Option<()> {
        None
    }
}

async fn serve(connection: Connection, limits: CallLimits) -> (RunningService, Arc<Scripted>) {
    let gate = Arc::new(Semaphore::new(0));
    let calls = Arc::new(Scripted { gate, hanging: Arc::default() });
    let handler: Arc<dyn DownstreamCalls> = Arc::<Scripted>::clone(&calls);
    let service = CallService::new(slot_with(connection), handler).with_limits(limits);
    (RunningService::start(&service).await, calls)
}

async fn ask(client: &Client, subject: &str, payload: impl Into<bytes::Bytes>) -> Value {
    let request =
        async_nats::Request::new().payload(payload.into()).timeout(Some(Duration::from_secs(30)));
    let answer = client.send_request(subject.to_owned(), request).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

fn with(method: &str) -> String {
    json!({"op": "request", "method": method}).to_string()
}

#[tokio::test]
async fn every_call_has_one_answer_however_it_fails() {
    let server = NatsServer::start();
    let (running, _calls) =
        serve(connect_under(&server, "acme").await, CallLimits::default()).await;
    let client = server.client().await;
    let cases = [
        ("fine", None, ""),
        ("panic", Some("unavailable"), "see the daemon's log"),
        ("huge", Some("remote_error"), "NATS takes at most"),
        ("open", Some("circuit_open"), "open"),
        ("fine", None, ""),
    ];
    for (method, kind, said) in cases {
        let answer = ask(&client, "acme.downstream.d.call", with(method)).await;
        assert_eq!(answer["ok"], kind.is_none(), "{method}");
        assert_eq!(answer["error"]["kind"].as_str(), kind, "{method}");
        assert!(answer["error"]["message"].as_str().unwrap_or_default().contains(said), "{answer}");
        assert_eq!(answer.get("result").is_some(), kind.is_none(), "{method}");
    }
    let status = ask(&client, "acme.downstream.d.status", "").await;
    let circuit = json!({"state": "closed", "retry_after_ms": null});
    assert_eq!((&status["ok"], &status["state"]), (&json!(true), &json!("running")));
    assert_eq!((&status["circuit"], &status["counts"]["calls"]), (&circuit, &json!(3)));
    assert_eq!(status["health"], Value::Null);
    let unknown = ask(&client, "acme.downstream.other.status", "").await;
    assert_eq!(unknown["error"]["kind"], "invalid_request");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_is_published_with_its_topic_and_key_from_the_headers() {
    let server = NatsServer::start();
    let (running, _calls) = serve(connect(&server).await, CallLimits::default()).await;
    let client = server.client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Provost-Topic", "a/b");
    headers.insert("Nats-Msg-Id", "k-1");
    let request = async_nats::Request::new().headers(headers).payload("text".into());
    let answer = client.send_request("downstream.d.publish", request).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    let sent = json!({"op": "publish", "topic": "a/b", "params": "text", "idempotency_key": "k-1"});
    assert_eq!(answer["result"], sent);
    // Without anybody who waits for an answer it is sent all the same, and nothing breaks.
    client.publish("downstream.d.publish", "x".into()).await.unwrap();
    client.publish("downstream.nobody.publish", "x".into()).await.unwrap();
    let bytes = ask(&client, "downstream.d.publish", vec![0xff, 0xfe]).await;
    assert_eq!(bytes["error"]["kind"], "invalid_request");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn calls_beyond_the_bounds_are_refused_at_once_and_those_under_way_are_answered() {
    let server = NatsServer::start();
    let limits = CallLimits { running_max: 2, ..CallLimits::default() };
    let (running, calls) = serve(connect(&server).await, limits).await;
    let client = server.client().await;
    let hanging: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ask(&client, "downstream.d.call", with("hang")).await })
        })
        .collect();
    eventually("both are under way", async || {
        (calls.hanging.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    let answer = ask(&client, "downstream.d.call", with("fine")).await;
    assert_eq!(answer["error"]["kind"], "bulkhead_full");
    // At the end those under way are waited for.
    let stopping = tokio::spawn(running.stop());
    calls.gate.add_permits(2);
    for call in hanging {
        assert_eq!(call.await.unwrap()["result"], "done");
    }
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_arrives_is_kept_when_the_server_has_it() {
    let server = NatsServer::start();
    let client = server.client().await;
    let mut events = client.subscribe("acme.downstream.d.events").await.unwrap();
    client.flush().await.unwrap();
    // An answer made after the subscription: it is live.
    client.request("nobody", "".into()).await.unwrap_err();
    let slot = slot_with(connect_under(&server, "acme").await);
    let inbound = NatsInbound::new(slot.clone(), "d".parse().unwrap());
    let message = Inbound {
        topic: "t".to_owned(),
        payload: json!("AAE="),
        encoding: Some("base64"),
        id: Some("7-0".to_owned()),
    };
    inbound.deliver(message.clone()).await.unwrap();
    let event = futures_util::StreamExt::next(&mut events).await.unwrap();
    let event: Value = serde_json::from_slice(&event.payload).unwrap();
    let expected = json!({"topic": "t", "payload": "AAE=", "encoding": "base64", "id": "7-0"});
    assert_eq!(event, expected);
    let connection = slot.current().unwrap();
    slot.take_out(&connection);
    let error = inbound.deliver(message).await.unwrap_err();
    assert!(error.message.contains("not connected"), "{error}");
}
