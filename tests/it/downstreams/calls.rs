//! Calls over NATS and by the command line, and what arrives on subscriptions.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::{QUICK, SOON, Service, call, status, wait_status, web};
use crate::daemon::embedded_client;
use crate::support::daemon::{Daemon, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_downstream_is_called_over_nats_and_by_the_command_line() {
    let service = Service::start();
    let daemon = Daemon::start(&format!("{QUICK}{}", service.section("backend", SOON)));
    let client = embedded_client(&daemon).await;
    wait_status(&client, "backend", "runs", |status| status["state"] == "running").await;

    let request = json!({"op": "request", "method": "POST", "path": "/pay", "params": {"a": 1},
        "idempotency_key": "k-1", "deadline_ms": 2000});
    let answer = call(&client, "backend", request).await;
    let expected = json!({"ok": true, "source": "live", "age_ms": 0, "attempts": 1, "result":
        {"method": "POST", "uri": "/pay", "body": "{\"a\":1}", "key": "k-1"}});
    assert_eq!(answer, expected);

    let typed = daemon.json(&["downstream", "call", "backend", "-p", "/x"]);
    assert_eq!(typed["result"]["uri"], "/x");
    let list = daemon.json(&["downstream", "list"]);
    assert_eq!(list["downstreams"][0]["name"], "backend");
    assert_eq!(list["downstreams"][0]["counts"]["succeeded"], 2);
    let shown = daemon.cli(&["downstream", "show", "backend"]);
    assert!(shown.status.success(), "{}", text(&shown.stdout));
    assert!(text(&shown.stdout).contains("UP in"), "{}", text(&shown.stdout));
    let unknown = daemon.cli(&["downstream", "call", "bakend"]);
    assert_eq!(unknown.status.code(), Some(4));

    service.answers(404);
    let wrong = daemon.cli(&["downstream", "call", "backend", "-o", "json"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stderr));
    let document: Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "remote_error");
    assert_eq!(document["error"]["code"], 404);

    let (code, all) = web(&daemon, "/health/all").await;
    assert_eq!((code, &all["services"][0]["name"]), (200, &json!("backend")));
    assert_eq!(all["services"][0]["status"], "UP");
    assert!(all["services"][0]["latency_ms"].is_number() && all["timestamp"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_refused_and_harms_nothing() {
    let service = Service::start();
    let daemon = Daemon::start(&format!("{QUICK}{}", service.section("backend", SOON)));
    let client = embedded_client(&daemon).await;
    wait_status(&client, "backend", "runs", |status| status["state"] == "running").await;
    let refused = [
        ("backend", "", "invalid_request", "not a JSON object"),
        ("backend", "{\"op\":\"ask\"}", "invalid_request", "op"),
        ("backend", "{\"op\":\"request\",\"more\":1}", "invalid_request", "more"),
        ("backend", "{\"op\":\"request\",\"deadline_ms\":99999999}", "invalid_request", "3600000"),
        ("backend", "{\"op\":\"request\",\"path\":\"/../x\"}", "invalid_request", ".."),
        ("backend", "{\"op\":\"enqueue\"}", "unsupported", "it has request"),
        (
            "backend",
            "{\"op\":\"request\",\"deadline_ms\":0}",
            "timeout",
            "before anything was sent",
        ),
        ("nobody", "{\"op\":\"request\"}", "invalid_request", "no downstream \"nobody\""),
    ];
    for (name, payload, kind, said) in refused {
        let subject = format!("downstream.{name}.call");
        let answer = client.request(subject, payload.to_owned().into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!((&answer["ok"], &answer["error"]["kind"]), (&json!(false), &json!(kind)));
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{payload}: {message}");
    }
    assert_eq!(service.calls(), 0);
    let status = status(&client, "backend").await;
    assert_eq!(status["circuit"]["state"], "closed");
    let answer = client.request("downstream.backend.publish", "any".into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["error"]["kind"], "unsupported");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_on_a_subscription_comes_on_the_events_of_its_downstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(parrot(listener));
    let section = format!(
        "[downstreams.feed]\ntype = \"websocket\"\nendpoint = {{ address = \"ws://{address}\", path = \"/live\" }}\n"
    );
    let daemon = Daemon::start(&format!("{QUICK}{section}"));
    let client = embedded_client(&daemon).await;
    wait_status(&client, "feed", "runs", |status| status["state"] == "running").await;
    let mut events = client.subscribe("downstream.feed.events").await.unwrap();
    client.flush().await.unwrap();
    // The subscription is live when the server has answered a request made after it.
    let answer = client.request("downstream.feed.publish", "{\"tick\":7}".into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["ok"], true, "{answer}");
    let event = events.next().await.unwrap();
    let event: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(event, json!({"topic": "/live", "payload": {"tick": 7}}));
}

/// Says back what it hears.
async fn parrot(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
            let (out, heard) = socket.split();
            let texts =
                heard.filter(|message| std::future::ready(matches!(message, Ok(Message::Text(_)))));
            texts.forward(out).await.ok();
        }
    }
}
