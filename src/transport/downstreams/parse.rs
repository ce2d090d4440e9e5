//! From a message to a call, strictly.

use async_nats::HeaderMap;
use serde_json::Value;

use crate::protocol::downstream::{CALL_BYTES_MAX, CallError, CallErrorKind, CallOp, CallRequest};
use crate::protocol::trace::{TRACEPARENT, TraceContext};
use crate::transport::unique::UniqueMap;

/// Header that names the topic of a message on `.publish`.
pub const TOPIC_HEADER: &str = "Provost-Topic";

/// Header that names the method of a message on `.publish`.
pub const METHOD_HEADER: &str = "Provost-Method";

/// Header whose value makes a repetition harmless.
pub const KEY_HEADER: &str = "Nats-Msg-Id";

/// Reads a request on `.call`.
pub(crate) fn call(payload: &[u8]) -> Result<CallRequest, CallError> {
    let text = text(payload)?;
    let UniqueMap(fields) = serde_json::from_str(text)
        .map_err(|error| invalid(format!("the call is not a JSON object: {error}")))?;
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let said: String = error.inner().to_string().chars().take(300).collect();
        let place = if path == "." { String::new() } else { format!(" in field {path:?}") };
        invalid(format!("the call is wrong{place}: {said}"))
    })
}

/// Passes the trace of a message on to the downstream, unless the call names one itself.
pub(crate) fn traced(mut request: CallRequest, headers: Option<&HeaderMap>) -> CallRequest {
    let trace = headers.and_then(|headers| headers.get(TRACEPARENT));
    let trace =
        trace.map(|value| value.as_str()).filter(|text| text.parse::<TraceContext>().is_ok());
    let named = request.headers.keys().any(|name| name.eq_ignore_ascii_case(TRACEPARENT));
    if let Some(trace) = trace.filter(|_| !named) {
        request.headers.insert(TRACEPARENT.to_owned(), trace.to_owned());
    }
    request
}

/// Reads a message on `.publish`: any text, as JSON where it is JSON.
pub(crate) fn publish(
    payload: &[u8],
    headers: Option<&HeaderMap>,
) -> Result<CallRequest, CallError> {
    let text = text(payload)?;
    let header = |name: &str| {
        let value = headers.and_then(|headers| headers.get(name));
        value.map(|value| value.as_str().to_owned())
    };
    Ok(CallRequest {
        topic: header(TOPIC_HEADER),
        method: header(METHOD_HEADER),
        idempotency_key: header(KEY_HEADER),
        params: serde_json::from_str(text).unwrap_or_else(|_no_json| Value::from(text)),
        ..CallRequest::new(CallOp::Publish)
    })
}

fn text(payload: &[u8]) -> Result<&str, CallError> {
    if CALL_BYTES_MAX < payload.len() {
        let bytes = payload.len();
        let text = format!("the call is {bytes} bytes; at most {CALL_BYTES_MAX} are allowed");
        return Err(invalid(text));
    }
    std::str::from_utf8(payload).map_err(|error| {
        let at = error.valid_up_to();
        invalid(format!("the call is not UTF-8: the byte at position {at} is wrong"))
    })
}

fn invalid(message: String) -> CallError {
    CallError::new(CallErrorKind::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_trace_of_a_message_is_passed_on_unless_the_call_names_one() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, trace);
        let request = || CallRequest::new(CallOp::Request);
        assert_eq!(traced(request(), Some(&headers)).headers[TRACEPARENT], trace);
        assert!(traced(request(), None).headers.is_empty());
        let own = [("Traceparent".to_owned(), "mine".to_owned())].into();
        let own = CallRequest { headers: own, ..request() };
        assert_eq!(traced(own.clone(), Some(&headers)), own);
        headers.insert(TRACEPARENT, "nonsense");
        assert!(traced(request(), Some(&headers)).headers.is_empty());
    }

    #[test]
    fn what_is_no_call_is_refused_with_its_fault() {
        let table = [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{}", "missing field `op`"),
            (r#"{"op":"ask"}"#, r#"in field "op""#),
            (r#"{"op":"request","op":"request"}"#, "stands there twice"),
            (r#"{"op":"request","deadline":5}"#, r#"in field "deadline""#),
            (r#"{"op":"request","deadline_ms":-5}"#, r#"in field "deadline_ms""#),
            (r#"{"op":"request","headers":{"a":1}}"#, r#"in field "headers.a""#),
        ];
        for (payload, said) in table {
            let error = call(payload.as_bytes()).unwrap_err();
            assert_eq!(error.kind, CallErrorKind::InvalidRequest);
            assert!(error.message.contains(said), "{payload}: {error}");
        }
        let error = call(b"{\"op\":\"request\",\"path\":\"\xff\"}").unwrap_err();
        assert!(error.message.contains("position 24"), "{error}");
        let error = call(&vec![b' '; CALL_BYTES_MAX + 1]).unwrap_err();
        assert!(error.message.contains("1048577 bytes"), "{error}");
    }

    #[test]
    fn a_call_and_a_message_are_read() {
        let read = call(br#"{"op":"request","method":"add","params":[1,2],"deadline_ms":50}"#);
        let read = read.unwrap();
        assert_eq!((read.op, read.params), (CallOp::Request, json!([1, 2])));
        let mut headers = HeaderMap::new();
        headers.insert(TOPIC_HEADER, "a/b");
        headers.insert(KEY_HEADER, "k1");
        let read = publish(b"{\"a\":1}", Some(&headers)).unwrap();
        assert_eq!((read.topic.as_deref(), read.params), (Some("a/b"), json!({"a": 1})));
        assert_eq!(read.idempotency_key.as_deref(), Some("k1"));
        assert_eq!(publish(b"plain", None).unwrap().params, json!("plain"));
        assert_eq!(publish(b"", None).unwrap().params, json!(""));
    }
}
