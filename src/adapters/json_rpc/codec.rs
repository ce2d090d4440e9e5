//! JSON-RPC 2.0 documents: what is asked, and what an answer to it says. The rules are those of
//! <https://www.jsonrpc.org/specification>, sections 4 to 6.

use serde_json::{Map, Value, json};

use crate::adapters::http::wrong;
use crate::ports::{AttemptError, AttemptFate};
use crate::protocol::downstream::{CallError, CallErrorKind, CallOp, CallRequest};

/// Calls in one batch, at most.
const BATCH_MAX: usize = 1_000;

/// One document to be sent, and what its answer must look like.
#[derive(Debug)]
pub(crate) struct Ask {
    document: Value,
    expects: Expects,
}

#[derive(Debug)]
enum Expects {
    /// No answer.
    Nothing,
    /// The answer to this number.
    One(u64),
    /// Answers to these numbers, in any order; none for a notification.
    Batch(Vec<Option<u64>>),
}

/// Why a body gives no result.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server told an error in the protocol's words.
    Told(Box<AttemptError>),
    /// The body is no answer in the protocol's words; the status may say more.
    NoAnswer(Box<AttemptError>),
}

impl Ask {
    /// The document of a call. `number` gives numbers that were not used before.
    pub(crate) fn of(
        call: &CallRequest,
        number: &mut impl FnMut() -> u64,
    ) -> Result<Self, AttemptError> {
        match (&call.method, call.op) {
            (Some(method), CallOp::Publish) => {
                let document = document(method, &call.params, None)?;
                Ok(Self { document, expects: Expects::Nothing })
            }
            (Some(method), _) => {
                let id = number();
                let document = document(method, &call.params, Some(id))?;
                Ok(Self { document, expects: Expects::One(id) })
            }
            (None, CallOp::Publish) => Err(wrong("a notification needs a method".to_owned())),
            (None, _) => batch(&call.params, number),
        }
    }

    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// The result in an answer.
    pub(crate) fn read(&self, body: &[u8]) -> Result<Value, Fault> {
        match &self.expects {
            Expects::Nothing => nothing(body),
            Expects::One(id) => {
                let answer = parsed(body)?;
                outcome(&answer, Some(*id))?.map_err(told)
            }
            Expects::Batch(ids) => {
                if ids.iter().all(Option::is_none) {
                    return nothing(body).map(|_null| Value::Array(vec![Value::Null; ids.len()]));
                }
                answers(&parsed(body)?, ids)
            }
        }
    }
}

fn batch(params: &Value, number: &mut impl FnMut() -> u64) -> Result<Ask, AttemptError> {
    let Some(calls) = params.as_array().filter(|calls| !calls.is_empty()) else {
        let text = "method is missing; for a batch, params is a list of calls that is not empty";
        return Err(wrong(text.to_owned()));
    };
    if BATCH_MAX < calls.len() {
        return Err(wrong(format!("{} calls in a batch; at most {BATCH_MAX}", calls.len())));
    }
    let mut documents = Vec::with_capacity(calls.len());
    let mut ids = Vec::with_capacity(calls.len());
    for (index, call) in calls.iter().enumerate() {
        let Some(method) = call.get("method").and_then(Value::as_str) else {
            return Err(wrong(format!("params[{index}] of the batch has no method")));
        };
        let notifies = call.get("notification").and_then(Value::as_bool).unwrap_or_default();
        let id = (!notifies).then(&mut *number);
        documents.push(document(method, call.get("params").unwrap_or(&Value::Null), id)?);
        ids.push(id);
    }
    Ok(Ask { document: Value::Array(documents), expects: Expects::Batch(ids) })
}

fn document(method: &str, params: &Value, id: Option<u64>) -> Result<Value, AttemptError> {
    let mut document = Map::new();
    document.insert("jsonrpc".to_owned(), json!("2.0"));
    document.insert("method".to_owned(), json!(method));
    match params {
        Value::Null => {}
        Value::Array(_) | Value::Object(_) => {
            document.insert("params".to_owned(), params.clone());
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(wrong("params must be a list or an object".to_owned()));
        }
    }
    if let Some(id) = id {
        document.insert("id".to_owned(), json!(id));
    }
    Ok(Value::Object(document))
}

/// A notification has no answer; a server that reports a fault of it all the same is heard.
fn nothing(body: &[u8]) -> Result<Value, Fault> {
    match serde_json::from_slice::<Value>(body) {
        Ok(answer) => match error_in(&answer) {
            Some(error) => Err(told(error)),
            None => Ok(Value::Null),
        },
        Err(_no_json) if body.is_empty() => Ok(Value::Null),
        Err(_no_json) => Err(no_answer("it answers a notification with something else")),
    }
}

fn parsed(body: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(body).map_err(|_no_json| no_answer("its answer is no JSON"))
}

/// What one answer says: its result, or its error. `Fault` when it is no answer to this number.
fn outcome(answer: &Value, id: Option<u64>) -> Result<Result<Value, AttemptError>, Fault> {
    let Some(fields) = answer.as_object() else {
        return Err(no_answer("its answer is no object"));
    };
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(no_answer("its answer is not JSON-RPC 2.0"));
    }
    let given = fields.get("id").unwrap_or(&Value::Null);
    match (fields.get("result"), error_in(answer)) {
        (Some(_), Some(_)) => Err(no_answer("its answer has both a result and an error")),
        (None, None) => Err(no_answer("its answer has neither a result nor an error")),
        // Null where the server could not make out the number (section 5).
        (None, Some(error)) if given.is_null() || is_number(given, id) => Ok(Err(error)),
        (Some(result), None) if is_number(given, id) => Ok(Ok(result.clone())),
        (_, _) => Err(no_answer("its answer is to another request")),
    }
}

/// Whether an id is this number, as a number: "1" is not 1.
fn is_number(given: &Value, id: Option<u64>) -> bool {
    id.is_some() && given.as_u64() == id
}

fn answers(answer: &Value, ids: &[Option<u64>]) -> Result<Value, Fault> {
    let Some(list) = answer.as_array() else {
        // A server that cannot read the batch at all gives one error.
        return Err(error_in(answer).map_or_else(|| no_answer("its answer is no list"), told));
    };
    let mut results = vec![Value::Null; ids.len()];
    let mut open: Vec<usize> =
        ids.iter().enumerate().filter_map(|(at, id)| id.map(|_| at)).collect();
    for entry in list {
        let given = entry.get("id").and_then(Value::as_u64);
        let place = open.iter().position(|at| given.is_some() && ids.get(*at) == Some(&given));
        let Some(at) = place.map(|place| open.swap_remove(place)) else {
            return Err(no_answer("an answer of the batch is to no call, or the second to one"));
        };
        let shown = match outcome(entry, given)? {
            Ok(result) => json!({"result": result}),
            Err(error) => json!({"error": {
                "code": error.error.code, "message": error.error.message, "data": error.error.data,
            }}),
        };
        if let Some(result) = results.get_mut(at) {
            *result = shown;
        }
    }
    if !open.is_empty() {
        return Err(no_answer("answers of the batch are missing"));
    }
    Ok(Value::Array(results))
}

/// The error of an answer, if it has one.
fn error_in(answer: &Value) -> Option<AttemptError> {
    let error = answer.get("error").filter(|error| !error.is_null())?;
    let code = error.get("code").and_then(Value::as_i64);
    let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without text");
    let fate = match code {
        Some(-32_603 | -32_099..=-32_000) | None => AttemptFate::Failed,
        Some(_) => AttemptFate::Rejected,
    };
    let error = CallError {
        code,
        data: error.get("data").cloned().map(Box::new),
        ..CallError::new(CallErrorKind::RemoteError, message)
    };
    Some(AttemptError { error, fate })
}

fn told(error: AttemptError) -> Fault {
    Fault::Told(Box::new(error))
}

fn no_answer(text: &str) -> Fault {
    let error = CallError::new(CallErrorKind::RemoteError, text);
    Fault::NoAnswer(Box::new(AttemptError { error, fate: AttemptFate::Failed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Option<&str>, params: Value, op: CallOp) -> CallRequest {
        CallRequest { method: method.map(str::to_owned), params, ..CallRequest::new(op) }
    }

    fn ask(method: Option<&str>, params: Value, op: CallOp) -> Ask {
        let mut next = 0;
        let mut number = || {
            next += 1;
            next
        };
        Ask::of(&call(method, params, op), &mut number).unwrap()
    }

    fn read(ask: &Ask, answer: &str) -> String {
        match ask.read(answer.as_bytes()) {
            Ok(result) => result.to_string(),
            Err(Fault::Told(error)) => {
                format!("{:?} {} {:?}", error.error.code, error.error.message, error.fate)
            }
            Err(Fault::NoAnswer(error)) => error.error.message,
        }
    }

    #[test]
    fn a_call_has_a_number_and_a_notification_has_none() {
        let one = ask(Some("subtract"), json!([42, 23]), CallOp::Request);
        assert_eq!(
            one.document().to_string(),
            r#"{"jsonrpc":"2.0","method":"subtract","params":[42,23],"id":1}"#
        );
        let told = ask(Some("update"), json!([1, 2]), CallOp::Publish);
        assert_eq!(
            told.document().to_string(),
            r#"{"jsonrpc":"2.0","method":"update","params":[1,2]}"#
        );
        let bare = ask(Some("foobar"), Value::Null, CallOp::Publish);
        assert_eq!(bare.document().to_string(), r#"{"jsonrpc":"2.0","method":"foobar"}"#);
        assert_eq!(read(&bare, ""), "null");
    }

    #[test]
    fn answers_of_the_specification_are_understood() {
        let one = ask(Some("subtract"), json!([42, 23]), CallOp::Request);
        assert_eq!(read(&one, r#"{"jsonrpc": "2.0", "result": 19, "id": 1}"#), "19");
        assert_eq!(read(&one, r#"{"jsonrpc": "2.0", "result": -19, "id": 1}"#), "-19");
        let unknown = r#"{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": 1}"#;
        assert_eq!(read(&one, unknown), "Some(-32601) Method not found Rejected");
        for (code, fate) in [(-32_700, "Rejected"), (-32_600, "Rejected"), (-32_602, "Rejected")] {
            let error =
                format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"m"}},"id":null}}"#);
            assert_eq!(read(&one, &error), format!("Some({code}) m {fate}"));
        }
        for code in [-32_603, -32_000, -32_099] {
            let error =
                format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"m"}},"id":1}}"#);
            assert_eq!(read(&one, &error), format!("Some({code}) m Failed"));
        }
    }

    #[test]
    fn answers_that_break_the_specification_are_refused() {
        let one = ask(Some("x"), Value::Null, CallOp::Request);
        let cases = [
            (r#"{"jsonrpc":"2.0","result":1,"id":"1"}"#, "its answer is to another request"),
            (r#"{"jsonrpc":"2.0","result":1,"id":2}"#, "its answer is to another request"),
            (r#"{"jsonrpc":"2.0","result":1}"#, "its answer is to another request"),
            (
                r#"{"jsonrpc":"2.0","result":1,"error":{"code":1,"message":"m"},"id":1}"#,
                "its answer has both a result and an error",
            ),
            (r#"{"jsonrpc":"2.0","id":1}"#, "its answer has neither a result nor an error"),
            (r#"{"result":1,"id":1}"#, "its answer is not JSON-RPC 2.0"),
            (r"[]", "its answer is no object"),
            ("<html>bad gateway</html>", "its answer is no JSON"),
            ("", "its answer is no JSON"),
        ];
        for (answer, expected) in cases {
            assert_eq!(read(&one, answer), expected, "{answer}");
        }
        let null = r#"{"jsonrpc":"2.0","result":null,"id":1}"#;
        assert_eq!(read(&one, null), "null");
    }

    #[test]
    fn a_batch_is_answered_in_its_own_order() {
        let calls = json!([
            {"method": "sum", "params": [1, 2, 4]},
            {"method": "notify_hello", "params": [7], "notification": true},
            {"method": "subtract", "params": [42, 23]},
            {"method": "foo.get", "params": {"name": "myself"}},
        ]);
        let batch = ask(None, calls, CallOp::Request);
        let answer = r#"[
            {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": 3},
            {"jsonrpc": "2.0", "result": 7, "id": 1},
            {"jsonrpc": "2.0", "result": 19, "id": 2}]"#;
        assert_eq!(
            read(&batch, answer),
            r#"[{"result":7},null,{"result":19},{"error":{"code":-32601,"message":"Method not found","data":null}}]"#
        );
        let missing = r#"[{"jsonrpc": "2.0", "result": 7, "id": 1}]"#;
        assert_eq!(read(&batch, missing), "answers of the batch are missing");
        let twice = r#"[{"jsonrpc":"2.0","result":7,"id":1},{"jsonrpc":"2.0","result":7,"id":1}]"#;
        assert!(read(&batch, twice).contains("the second to one"));
        let whole =
            r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}"#;
        assert_eq!(read(&batch, whole), "Some(-32700) Parse error Rejected");
        let quiet = ask(None, json!([{"method": "a", "notification": true}]), CallOp::Request);
        assert_eq!(read(&quiet, ""), "[null]");
    }

    #[test]
    fn calls_that_are_wrong_are_not_sent() {
        let fault = |method: Option<&str>, params: Value, op| {
            let error = Ask::of(&call(method, params, op), &mut || 1).unwrap_err();
            assert_eq!(error.error.kind, CallErrorKind::InvalidRequest);
            error.error.message
        };
        assert_eq!(
            fault(Some("m"), json!(1), CallOp::Request),
            "params must be a list or an object"
        );
        assert!(fault(None, json!([]), CallOp::Request).contains("method is missing"));
        assert!(fault(None, json!([{}]), CallOp::Request).contains("params[0]"));
        assert_eq!(fault(None, Value::Null, CallOp::Publish), "a notification needs a method");
    }
}
