//! What the kinds with messages share: payloads to JSON and back, what a call asks of a queue, and
//! the words of refusals.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::ports::{AttemptError, AttemptFate, Inbound};
use crate::protocol::downstream::{CallError, CallErrorKind, CallOp, CallRequest};

/// How long a message that was taken out of a queue stays hidden, unless a call says otherwise.
const REDELIVER_AFTER: Duration = Duration::from_secs(60);

/// Longest time that a message may stay hidden.
const REDELIVER_AFTER_MS_MAX: u64 = 24 * 3_600_000;

/// The bytes of a message: text as it is, all else as JSON.
pub(crate) fn bytes_of(params: &Value) -> Vec<u8> {
    match params {
        Value::String(text) => text.clone().into_bytes(),
        Value::Null => Vec::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            params.to_string().into_bytes()
        }
    }
}

/// A message as JSON where it is JSON, else as text, else as base64 with the encoding named.
pub(crate) fn value_of(bytes: &[u8]) -> (Value, Option<&'static str>) {
    if bytes.is_empty() {
        return (Value::Null, None);
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        return (value, None);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => (Value::String(text.to_owned()), None),
        Err(_no_text) => (Value::String(data_encoding::BASE64.encode(bytes)), Some("base64")),
    }
}

/// A message that arrived.
pub(crate) fn inbound(topic: String, bytes: &[u8], id: Option<String>) -> Inbound {
    let (payload, encoding) = value_of(bytes);
    Inbound { topic, payload, encoding, id }
}

/// What a call that takes out of a queue or confirms asks for, in its `params`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Take {
    /// Consumer group; "provost" when absent.
    pub(crate) group: Option<String>,
    /// Longest time to wait for a message; 0 when absent.
    pub(crate) wait_ms: u64,
    /// When a message that is not confirmed is handed out again; a minute when absent.
    pub(crate) redeliver_after_ms: Option<u64>,
    /// What is confirmed.
    pub(crate) id: Option<String>,
}

impl Take {
    /// Reads `params`; a text stands for the `id`.
    pub(crate) fn of(call: &CallRequest) -> Result<Self, AttemptError> {
        let take = match &call.params {
            Value::Null => Self::default(),
            Value::String(id) => Self { id: Some(id.clone()), ..Self::default() },
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Self::deserialize(&call.params)
                    .map_err(|error| wrong(format!("params: {error}")))?
            }
        };
        let bad = |text: &str| text.is_empty() || text.contains(|c: char| ".*> \t\r\n".contains(c));
        if let Some(group) = take.group.as_deref().filter(|group| bad(group) || 64 < group.len()) {
            return Err(wrong(format!(
                "params.group {group:?} is no name; 1..=64 characters without blanks and `.*>`"
            )));
        }
        if take.redeliver_after_ms.is_some_and(|ms| !(1..=REDELIVER_AFTER_MS_MAX).contains(&ms)) {
            let most = REDELIVER_AFTER_MS_MAX;
            return Err(wrong(format!("params.redeliver_after_ms must be in 1..={most}")));
        }
        match (call.op, &take.id) {
            (CallOp::Ack, None) => Err(wrong("ack needs params.id, as dequeue gave it".to_owned())),
            (CallOp::Dequeue, Some(_)) => Err(wrong("dequeue takes no params.id".to_owned())),
            (
                CallOp::Request | CallOp::Publish | CallOp::Enqueue | CallOp::Dequeue | CallOp::Ack,
                _,
            ) => Ok(take),
        }
    }

    pub(crate) fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GROUP)
    }

    pub(crate) fn redeliver_after(&self) -> Duration {
        self.redeliver_after_ms.map_or(REDELIVER_AFTER, Duration::from_millis)
    }
}

/// Consumer group where none is named.
pub(crate) const GROUP: &str = "provost";

/// The topic of a call.
pub(crate) fn topic(call: &CallRequest) -> Result<&str, AttemptError> {
    let topic = call.topic.as_deref().unwrap_or_default();
    if topic.is_empty() {
        return Err(wrong(format!("{} needs a topic", call.op.as_str())));
    }
    Ok(topic)
}

/// A call that cannot be sent as it is.
pub(crate) fn wrong(message: String) -> AttemptError {
    failed(CallErrorKind::InvalidRequest, message, AttemptFate::Rejected)
}

/// An operation that a kind does not have.
#[cfg(feature = "mqtt")]
pub(crate) fn unsupported(kind: &str, op: CallOp) -> AttemptError {
    let text = format!("{kind} has no {}", op.as_str());
    failed(CallErrorKind::Unsupported, text, AttemptFate::Rejected)
}

/// An attempt that was never sent, because there is no connection.
pub(crate) fn not_connected(reason: &str) -> AttemptError {
    let text = format!("not connected: {reason}");
    failed(CallErrorKind::Unavailable, text, AttemptFate::NotSent)
}

/// An attempt whose fate is not known, because the connection went away under it.
pub(crate) fn lost(reason: &str) -> AttemptError {
    let text = format!("the connection was lost, whether it was carried out is unknown: {reason}");
    failed(CallErrorKind::Unavailable, text, AttemptFate::Unknown)
}

/// An attempt without an answer in time.
pub(crate) fn late(timeout: Duration) -> AttemptError {
    let text = format!("no answer within {} ms", timeout.as_millis());
    failed(CallErrorKind::Timeout, text, AttemptFate::Unknown)
}

pub(crate) fn failed(kind: CallErrorKind, text: String, fate: AttemptFate) -> AttemptError {
    AttemptError { error: CallError::new(kind, text), fate }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn payloads_are_json_text_or_base64() {
        assert_eq!(value_of(b"{\"a\":1}"), (json!({"a": 1}), None));
        assert_eq!(value_of(b"plain"), (json!("plain"), None));
        assert_eq!(value_of(b""), (Value::Null, None));
        assert_eq!(value_of(&[0xff, 0x00]), (json!("/wA="), Some("base64")));
        assert_eq!(bytes_of(&json!("text")), b"text");
        assert_eq!(bytes_of(&json!([1])), b"[1]");
        assert_eq!(bytes_of(&Value::Null), b"");
    }

    #[test]
    fn what_a_call_asks_of_a_queue_is_checked() {
        let of = |op, params| Take::of(&CallRequest { params, ..CallRequest::new(op) });
        let take = of(CallOp::Dequeue, json!({"group": "g", "wait_ms": 5})).unwrap();
        assert_eq!((take.group(), take.wait_ms), ("g", 5));
        assert_eq!(take.redeliver_after(), REDELIVER_AFTER);
        assert_eq!(of(CallOp::Ack, json!("1-0")).unwrap().id.as_deref(), Some("1-0"));
        for (op, params) in [
            (CallOp::Ack, Value::Null),
            (CallOp::Dequeue, json!("1-0")),
            (CallOp::Dequeue, json!({"gruop": "g"})),
            (CallOp::Dequeue, json!({"group": "a.b"})),
            (CallOp::Dequeue, json!({"redeliver_after_ms": 0})),
            (CallOp::Dequeue, json!([1])),
        ] {
            let error = of(op, params.clone()).unwrap_err();
            assert_eq!(error.error.kind, CallErrorKind::InvalidRequest, "{params}");
        }
    }
}
