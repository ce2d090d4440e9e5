//! JSON-RPC against a server made here that keeps the specification's examples.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use provost::adapters::http::SCHEMES;
use provost::adapters::json_rpc::JsonRpcConnector;
use provost::ports::AttemptFate;
use provost::protocol::downstream::{CallErrorKind, CallOp, CallRequest};
use serde_json::{Value, json};

use crate::adapters::{Session, target};

fn answer(request: &Value) -> Option<Value> {
    let id = request.get("id")?;
    let params = &request["params"];
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let told = match request["method"].as_str() {
        Some("subtract") if params.is_array() => {
            json!({"result": number(&params[0]) - number(&params[1])})
        }
        Some("subtract") => {
            json!({"result": number(&params["minuend"]) - number(&params["subtrahend"])})
        }
        Some("sum") => {
            json!({"result": params.as_array().unwrap().iter().map(number).sum::<i64>()})
        }
        Some("get_data") => json!({"result": ["hello", 5]}),
        Some("fail") => {
            json!({"error": {"code": -32000, "message": "it broke", "data": {"at": 1}}})
        }
        _ => json!({"error": {"code": -32601, "message": "Method not found"}}),
    };
    let mut answer = told;
    answer["jsonrpc"] = json!("2.0");
    answer["id"] = id.clone();
    Some(answer)
}

async fn session() -> Session {
    async fn handle(body: Bytes) -> Response {
        let request: Value = serde_json::from_slice(&body).unwrap();
        if request["method"] == "gateway" {
            return (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response();
        }
        let answered = match request.as_array() {
            Some(batch) => {
                let answers: Vec<Value> = batch.iter().rev().filter_map(answer).collect();
                (!answers.is_empty()).then_some(Value::Array(answers))
            }
            None => answer(&request),
        };
        answered.map_or_else(
            || StatusCode::NO_CONTENT.into_response(),
            |answered| axum::Json(answered).into_response(),
        )
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(handle);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let settings = format!("endpoint = {{ address = \"http://{address}\", path = \"/rpc\" }}");
    Session::open(&JsonRpcConnector::new(target("json_rpc", &settings, SCHEMES)).unwrap()).await
}

fn call(method: &str, params: Value) -> CallRequest {
    CallRequest { method: Some(method.into()), params, ..CallRequest::new(CallOp::Request) }
}

#[tokio::test]
async fn the_examples_of_the_specification_hold() {
    let session = session().await;
    assert_eq!(session.call(call("subtract", json!([42, 23]))).await.unwrap(), 19);
    assert_eq!(session.call(call("subtract", json!([23, 42]))).await.unwrap(), -19);
    let named = json!({"subtrahend": 23, "minuend": 42});
    assert_eq!(session.call(call("subtract", named)).await.unwrap(), 19);
    let told = CallRequest { op: CallOp::Publish, ..call("update", json!([1, 2, 3, 4, 5])) };
    assert_eq!(session.call(told).await.unwrap(), Value::Null);
    let unknown = session.call(call("foobar", Value::Null)).await.unwrap_err();
    assert_eq!((unknown.error.code, unknown.fate), (Some(-32601), AttemptFate::Rejected));
    let failed = session.call(call("fail", Value::Null)).await.unwrap_err();
    assert_eq!((failed.error.code, failed.fate), (Some(-32000), AttemptFate::Failed));
    assert_eq!(failed.error.data.as_deref(), Some(&json!({"at": 1})));
    let batch = json!([
        {"method": "sum", "params": [1, 2, 4]},
        {"method": "notify_hello", "params": [7], "notification": true},
        {"method": "subtract", "params": [42, 23]},
        {"method": "foo.get", "params": {"name": "myself"}},
        {"method": "get_data"},
    ]);
    let call = CallRequest { params: batch, ..CallRequest::new(CallOp::Request) };
    let seen = session.call(call).await.unwrap();
    assert_eq!(seen[0]["result"], 7);
    assert_eq!(seen[1], Value::Null);
    assert_eq!(seen[2]["result"], 19);
    assert_eq!(seen[3]["error"]["code"], -32601);
    assert_eq!(seen[4]["result"], json!(["hello", 5]));
}

#[tokio::test]
async fn a_page_of_a_gateway_is_a_failure_of_the_downstream() {
    let session = session().await;
    let error = session.call(call("gateway", Value::Null)).await.unwrap_err();
    assert_eq!((error.error.code, error.fate), (Some(502), AttemptFate::Failed));
    assert_eq!(error.error.kind, CallErrorKind::RemoteError);
    assert_eq!(session.client.check(Duration::from_secs(3)).await, Ok(None));
}
