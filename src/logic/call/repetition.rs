//! Which calls do the same twice as once, and when two calls are the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::logic::retry::Repetition;
use crate::protocol::downstream::{CallOp, CallRequest};
use crate::protocol::trace::TRACEPARENT;

/// Methods of HTTP that do the same twice as once (RFC 9110 §9.2.2).
const HTTP_IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// Whether a call may be made twice when nobody knows whether it was done: it carries a key by
/// which the downstream recognises it, it is HTTP and its method says so, or the configuration says
/// so of its method.
#[must_use]
pub fn repetition(kind: &str, call: &CallRequest, idempotent: &BTreeSet<String>) -> Repetition {
    if call.idempotency_key.is_some() {
        return Repetition::Idempotent;
    }
    let harmless = match (call.op, kind) {
        (CallOp::Request, "http") => {
            let default = if call.params.is_null() { "GET" } else { "POST" };
            let method = call.method.as_deref().unwrap_or(default);
            HTTP_IDEMPOTENT.contains(&method) || idempotent.contains(method)
        }
        (CallOp::Request, _) => {
            call.method.as_ref().is_some_and(|method| idempotent.contains(method))
        }
        // What was confirmed is confirmed.
        (CallOp::Ack, _) => true,
        (CallOp::Publish | CallOp::Enqueue | CallOp::Dequeue, _) => false,
    };
    if harmless { Repetition::Idempotent } else { Repetition::Once }
}

/// A text that two requests share when they ask for the same.
#[must_use]
pub fn key_of(call: &CallRequest) -> String {
    // The trace says who asks, not what.
    let headers = call.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(TRACEPARENT));
    let headers: BTreeMap<_, _> = headers.collect();
    json!([call.op, call.method, call.path, call.topic, call.params, headers]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, op: CallOp, method: Option<&str>, params: u8, expected: Repetition) {
        let call = CallRequest {
            method: method.map(str::to_owned),
            params: if params == 0 { json!(null) } else { json!({"a": 1}) },
            ..CallRequest::new(op)
        };
        let known = BTreeSet::from(["get_rate".to_owned()]);
        assert_eq!(repetition(kind, &call, &known), expected, "{kind} {op:?} {method:?} {params}");
        let keyed = CallRequest { idempotency_key: Some("k".to_owned()), ..call };
        assert_eq!(repetition(kind, &keyed, &known), Repetition::Idempotent);
    }

    #[test]
    fn a_call_is_harmless_by_its_method_its_key_or_the_configuration() {
        use CallOp::{Ack, Dequeue, Enqueue, Publish, Request};
        use Repetition::{Idempotent, Once};
        check("http", Request, None, 0, Idempotent);
        check("http", Request, None, 1, Once);
        check("http", Request, Some("PUT"), 1, Idempotent);
        check("http", Request, Some("POST"), 0, Once);
        check("http", Request, Some("get"), 0, Once);
        check("json_rpc", Request, Some("transfer"), 1, Once);
        check("json_rpc", Request, Some("get_rate"), 1, Idempotent);
        check("json_rpc", Request, None, 1, Once);
        check("json_rpc", Publish, Some("get_rate"), 1, Once);
        check("redis", Enqueue, None, 1, Once);
        check("redis", Dequeue, None, 0, Once);
        check("redis", Ack, None, 1, Idempotent);
    }

    #[test]
    fn deadline_and_key_do_not_make_another_request() {
        let call = CallRequest::new(CallOp::Request);
        let later = CallRequest { deadline_ms: Some(5), ..call.clone() };
        let other = CallRequest { path: Some("/x".to_owned()), ..call.clone() };
        assert_eq!(key_of(&call), key_of(&later));
        assert_ne!(key_of(&call), key_of(&other));
    }
}
