//! HTTP against a server made here.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use provost::adapters::http::{HttpConnector, SCHEMES};
use provost::ports::AttemptFate;
use provost::protocol::downstream::{CallErrorKind, CallOp, CallRequest};
use serde_json::{Value, json};

use crate::adapters::{Session, target};

/// A server that tells what it was asked; some paths misbehave.
async fn server() -> String {
    async fn handle(State(()): State<()>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let path = parts.uri.path().to_owned();
        match path.as_str() {
            "/v1/slow" => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                ().into_response()
            }
            "/v1/busy" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3")]).into_response(),
            "/v1/broken" => (StatusCode::INTERNAL_SERVER_ERROR, "oh no").into_response(),
            "/v1/missing" => (StatusCode::NOT_FOUND, "{\"why\":\"gone\"}").into_response(),
            "/v1/huge" => Bytes::from(vec![b'x'; 17 * 1024 * 1024]).into_response(),
            "/v1/away" => (StatusCode::FOUND, [("location", "/v1/there")]).into_response(),
            "/health" => StatusCode::OK.into_response(),
            _ => axum::Json(echo(
                &parts.headers,
                parts.method.as_ref(),
                &parts.uri.to_string(),
                &body,
            ))
            .into_response(),
        }
    }
    fn echo(headers: &HeaderMap, method: &str, uri: &str, body: &[u8]) -> Value {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        json!({
            "method": method, "uri": uri, "body": String::from_utf8_lossy(body),
            "auth": text("authorization"), "key": text("idempotency-key"), "x": text("x-a"),
        })
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(handle).with_state(());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

async fn session(url: &str, more: &str) -> Session {
    let settings = format!("endpoint = {{ address = \"{url}\", path = \"/v1\" }}\n{more}");
    Session::open(&HttpConnector::new(target("http", &settings, SCHEMES)).unwrap()).await
}

fn get(path: &str) -> CallRequest {
    CallRequest { path: Some(path.to_owned()), ..CallRequest::new(CallOp::Request) }
}

#[tokio::test]
async fn a_call_becomes_a_request_and_its_body_the_result() {
    let url = server().await;
    let session = session(&url, "auth = { type = \"bearer\", token = \"t0k\" }").await;
    let seen = session.call(get("/a?b=1")).await.unwrap();
    assert_eq!((&seen["method"], &seen["uri"]), (&json!("GET"), &json!("/v1/a?b=1")));
    assert_eq!(seen["auth"], "Bearer t0k");
    let call =
        CallRequest {
            params: json!({"q": "ä b", "n": 3}), method: Some("GET".into()), ..get("a")
        };
    assert_eq!(session.call(call).await.unwrap()["uri"], "/v1/a?q=%C3%A4+b&n=3");
    let call = CallRequest {
        params: json!({"a": [1]}),
        idempotency_key: Some("k-1".into()),
        headers: [("x-a".to_owned(), "y".to_owned())].into(),
        ..get("/b")
    };
    let seen = session.call(call).await.unwrap();
    assert_eq!((&seen["method"], &seen["body"]), (&json!("POST"), &json!("{\"a\":[1]}")));
    assert_eq!((&seen["key"], &seen["x"]), (&json!("k-1"), &json!("y")));
    assert_eq!(session.call(get("/away")).await.unwrap()["uri"], "/v1/there");
    assert_eq!(session.client.check(Duration::from_secs(3)).await, Ok(None));
}

#[tokio::test]
async fn a_failed_attempt_says_what_is_known_of_it() {
    let url = server().await;
    let session = session(&url, "").await;
    let cases = [
        ("/busy", CallErrorKind::RateLimited, AttemptFate::Throttled),
        ("/broken", CallErrorKind::RemoteError, AttemptFate::Failed),
        ("/missing", CallErrorKind::RemoteError, AttemptFate::Rejected),
        ("/huge", CallErrorKind::RemoteError, AttemptFate::Failed),
        ("/../x", CallErrorKind::InvalidRequest, AttemptFate::Rejected),
    ];
    for (path, kind, fate) in cases {
        let error = session.call(get(path)).await.unwrap_err();
        assert_eq!((error.error.kind, error.fate), (kind, fate), "{path}: {error}");
    }
    let busy = session.call(get("/busy")).await.unwrap_err();
    assert_eq!(busy.error.retry_after_ms, Some(3_000));
    let slow = session.client.call(Arc::new(get("/slow")), Duration::from_millis(50)).await;
    let slow = slow.unwrap_err();
    assert_eq!((slow.error.kind, slow.fate), (CallErrorKind::Timeout, AttemptFate::Unknown));
    for (name, value) in
        [("Host", "evil"), ("Authorization", "x"), ("bad name", "x"), ("x", "a\nb")]
    {
        let call =
            CallRequest { headers: [(name.to_owned(), value.to_owned())].into(), ..get("/a") };
        let error = session.call(call).await.unwrap_err();
        assert_eq!(error.error.kind, CallErrorKind::InvalidRequest, "{name}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_never_sent_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let session = session(&url, "").await;
    let error = session.call(get("/a")).await.unwrap_err();
    assert_eq!((error.error.kind, error.fate), (CallErrorKind::Unavailable, AttemptFate::NotSent));
    assert!(error.error.message.contains("refused"), "{error}");
    assert!(session.client.check(Duration::from_secs(1)).await.is_err());
}
