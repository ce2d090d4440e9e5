//! WebSocket against a server made here.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use provost::adapters::websocket::{SCHEMES, WebSocketConnector};
use provost::ports::AttemptFate;
use provost::protocol::downstream::{CallErrorKind, CallOp, CallRequest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::adapters::{Session, target};
use crate::support::eventually;

/// Answers requests, greets, echoes what has no id, and closes when told to.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
        socket.send(Message::text("{\"hello\":1}")).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let asked: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let answer = match (asked["method"].as_str(), asked.get("id")) {
                (Some("close"), _) => break,
                (Some("never"), _) => continue,
                (Some("fail"), Some(id)) => {
                    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": "no"}})
                }
                (Some(_), Some(id)) => {
                    json!({"jsonrpc": "2.0", "id": id, "result": asked["params"]})
                }
                (None, Some(id)) => json!({"id": id, "you": asked["what"]}),
                (_, None) => json!({"echo": text.as_str()}),
            };
            socket.send(Message::text(answer.to_string())).await.unwrap();
        }
    }
}

async fn session() -> Session {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener));
    let settings = format!("endpoint = {{ address = \"ws://{address}\", path = \"/live\" }}");
    Session::open(&WebSocketConnector::new(target("websocket", &settings, SCHEMES)).unwrap()).await
}

fn ask(method: &str, params: Value) -> CallRequest {
    CallRequest { method: Some(method.into()), params, ..CallRequest::new(CallOp::Request) }
}

#[tokio::test]
async fn answers_find_their_calls_and_the_rest_is_delivered() {
    let session = session().await;
    let calls = (0..50).map(|number| session.call(ask("echo", json!([number]))));
    let answers = futures_util::future::join_all(calls).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), json!([number]));
    }
    let plain = CallRequest { params: json!({"what": 7}), ..CallRequest::new(CallOp::Request) };
    assert_eq!(session.call(plain).await.unwrap()["you"], 7);
    let told = CallRequest { params: json!("hi"), ..CallRequest::new(CallOp::Publish) };
    assert_eq!(session.call(told).await.unwrap(), Value::Null);
    eventually("greeting and echo are delivered", || async {
        let seen = session.inbox.seen();
        (seen.len() == 2).then_some(())
    })
    .await;
    let seen = session.inbox.seen();
    assert_eq!((seen[0].topic.as_str(), &seen[0].payload), ("/live", &json!({"hello": 1})));
    assert_eq!(seen[1].payload, json!({"echo": "hi"}));
    assert_eq!(session.client.check(Duration::from_secs(3)).await, Ok(None));
}

#[tokio::test]
async fn errors_silence_and_a_closed_connection_are_told() {
    let mut session = session().await;
    let failed = session.call(ask("fail", Value::Null)).await.unwrap_err();
    assert_eq!((failed.error.code, failed.fate), (Some(-32000), AttemptFate::Failed));
    let never = ask("never", Value::Null);
    let never = session.client.call(never.into(), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((never.error.kind, never.fate), (CallErrorKind::Timeout, AttemptFate::Unknown));
    let enqueue = session.call(CallRequest::new(CallOp::Enqueue)).await.unwrap_err();
    assert_eq!(enqueue.error.kind, CallErrorKind::Unsupported);
    let closed = session.call(ask("close", Value::Null)).await.unwrap_err();
    assert_eq!(
        (closed.error.kind, closed.fate),
        (CallErrorKind::Unavailable, AttemptFate::Unknown)
    );
    let ended = (&mut session.ended).await.unwrap();
    assert!(!ended.message.is_empty());
    let after = session.call(ask("echo", Value::Null)).await.unwrap_err();
    assert_eq!(after.fate, AttemptFate::NotSent);
}
