//! JSON to arguments of Redis, its answers to JSON, its errors to what is known of an attempt.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add variants; what is not named is meant as one"
)]

use redis::{Cmd, ErrorKind, RedisError, Value as Reply};
use serde_json::{Map, Value};

use crate::adapters::message::{lost, value_of, wrong};
use crate::ports::{AttemptError, AttemptFate};
use crate::protocol::downstream::{CallError, CallErrorKind};

/// Commands that would change or block the connection that all calls share.
const DISTURBING: [&str; 31] = [
    "ASKING",
    "AUTH",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "RESET",
    "SELECT",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "WATCH",
    "WAIT",
];

/// The command of a request: `method` with its words, then `params` as arguments.
pub(super) fn command(method: Option<&str>, params: &Value) -> Result<Cmd, AttemptError> {
    let mut words = method.unwrap_or_default().split_ascii_whitespace();
    let Some(name) = words.next() else {
        return Err(wrong("request needs a command of Redis as its method".to_owned()));
    };
    let upper = name.to_ascii_uppercase();
    if DISTURBING.contains(&upper.as_str()) {
        return Err(wrong(format!(
            "{upper} would disturb the connection that all calls share; use publish, dequeue, \
             subscriptions or EVAL"
        )));
    }
    let mut command = redis::cmd(name);
    for word in words {
        command.arg(word);
    }
    let arguments = match params {
        Value::Null => &[],
        Value::Array(arguments) => arguments.as_slice(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => std::slice::from_ref(params),
        Value::Object(_) => {
            return Err(wrong("params of a command must be a list of arguments".to_owned()));
        }
    };
    for argument in arguments {
        match argument {
            Value::String(text) => command.arg(text),
            Value::Null => return Err(wrong("an argument of Redis cannot be null".to_owned())),
            // Nested values are stored as JSON.
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                command.arg(argument.to_string())
            }
        };
    }
    let reads = upper == "XREAD" || upper == "XREADGROUP";
    let blocks = arguments.iter().take_while(|argument| !is_word(argument, "STREAMS"));
    if reads && blocks.into_iter().any(|argument| is_word(argument, "BLOCK")) {
        return Err(wrong(format!("{upper} may not BLOCK the shared connection; use dequeue")));
    }
    Ok(command)
}

fn is_word(argument: &Value, word: &str) -> bool {
    argument.as_str().is_some_and(|text| text.eq_ignore_ascii_case(word))
}

/// An answer as JSON. Bytes are text, or base64 where they are none.
pub(super) fn json(reply: Reply) -> Value {
    match reply {
        Reply::Nil => Value::Null,
        Reply::Int(number) => Value::from(number),
        Reply::BulkString(bytes) => text(bytes),
        Reply::SimpleString(text) => Value::String(text),
        Reply::VerbatimString { text, .. } => Value::String(text),
        Reply::Okay => Value::String("OK".to_owned()),
        Reply::Boolean(flag) => Value::Bool(flag),
        Reply::Double(number) => Value::from(number),
        Reply::Array(items) | Reply::Set(items) => items.into_iter().map(json).collect(),
        Reply::Push { data, .. } => data.into_iter().map(json).collect(),
        Reply::Map(entries) => {
            let entry = |(key, value)| (key_text(json(key)), json(value));
            Value::Object(entries.into_iter().map(entry).collect::<Map<_, _>>())
        }
        Reply::Attribute { data, .. } => json(*data),
        Reply::ServerError(error) => Value::String(format!("{error:?}")),
        other => Value::String(format!("{other:?}")),
    }
}

fn key_text(key: Value) -> String {
    match key {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn text(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).map_or_else(
        |error| Value::String(data_encoding::BASE64.encode(error.as_bytes())),
        Value::String,
    )
}

/// The text of an answer that must be one.
pub(super) fn as_text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Reply::SimpleString(text) | Reply::VerbatimString { text, .. } => Some(text.clone()),
        Reply::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The items of an answer that must be a list.
pub(super) fn items(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(items) | Reply::Set(items) => items,
        _ => Vec::new(),
    }
}

/// An entry of a stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    /// The message; `None` for an entry that was deleted while it was pending.
    pub(super) body: Option<Body>,
}

/// What an entry says.
#[derive(Debug)]
pub(super) enum Body {
    /// One field `payload`.
    Payload(Vec<u8>),
    /// Other fields.
    Fields(Map<String, Value>),
}

impl Body {
    pub(super) fn value(&self) -> (Value, Option<&'static str>) {
        match self {
            Self::Payload(bytes) => value_of(bytes),
            Self::Fields(fields) => (Value::Object(fields.clone()), None),
        }
    }
}

/// Name of the field that holds a message.
pub(super) const FIELD: &str = "payload";

/// The entries in `[[id, [field, value, …]], …]`.
pub(super) fn entries(reply: Reply) -> Vec<Entry> {
    let entry = |reply: Reply| {
        let mut parts = items(reply).into_iter();
        let id = as_text(&parts.next()?)?;
        Some(Entry { id, body: parts.next().and_then(body) })
    };
    items(reply).into_iter().filter_map(entry).collect()
}

fn body(reply: Reply) -> Option<Body> {
    if reply == Reply::Nil {
        return None;
    }
    let mut fields = Vec::new();
    let mut parts = items(reply).into_iter();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        fields.push((key_text(json(name)), value));
    }
    if let [(name, Reply::BulkString(bytes))] = fields.as_slice()
        && name == FIELD
    {
        return Some(Body::Payload(bytes.clone()));
    }
    let fields = fields.into_iter().map(|(name, value)| (name, json(value)));
    Some(Body::Fields(fields.collect()))
}

/// The entries of the one stream in an answer of XREADGROUP: a map in RESP3, a list in RESP2.
pub(super) fn read_entries(reply: Reply) -> Vec<Entry> {
    match reply {
        Reply::Map(streams) => {
            streams.into_iter().next().map(|(_, found)| entries(found)).unwrap_or_default()
        }
        other => {
            let stream = items(other).into_iter().next().map(items).unwrap_or_default();
            stream.into_iter().nth(1).map(entries).unwrap_or_default()
        }
    }
}

/// What is known of a command that failed.
pub(super) fn attempt(error: &RedisError) -> AttemptError {
    let text = error.to_string();
    let told = |kind, fate| AttemptError { error: CallError::new(kind, text.clone()), fate };
    match error.kind() {
        ErrorKind::Io => lost(&text),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let fate = match error.code() {
                // The server took the command and did not carry it out, for reasons of its own.
                Some(
                    "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY"
                    | "OOM" | "MISCONF" | "NOREPLICAS" | "UNKILLABLE",
                ) => AttemptFate::Failed,
                Some(_) | None => AttemptFate::Rejected,
            };
            told(CallErrorKind::RemoteError, fate)
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            told(CallErrorKind::RemoteError, AttemptFate::Failed)
        }
        _ => told(CallErrorKind::InvalidRequest, AttemptFate::Rejected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn commands_that_disturb_others_are_refused() {
        let refused = |method: &str, params: Value| command(Some(method), &params).is_err();
        for method in ["subscribe", "BLPOP", "multi", "CLIENT REPLY OFF", "Select", "", "  "] {
            assert!(refused(method, Value::Null), "{method}");
        }
        assert!(command(None, &Value::Null).is_err());
        assert!(refused("xread", json!(["block", 0, "STREAMS", "s", "$"])));
        assert!(!refused("xread", json!(["COUNT", 1, "STREAMS", "block", "0"])));
        assert!(refused("SET", json!({"a": 1})));
        assert!(refused("SET", json!(["a", null])));
    }

    #[test]
    fn words_and_arguments_become_one_command() {
        let built = command(Some("config get"), &json!(["a b", 1, true, {"x": 1}])).unwrap();
        let text = String::from_utf8(built.get_packed_command()).unwrap();
        assert!(text.starts_with("*6\r\n$6\r\nconfig\r\n$3\r\nget\r\n$3\r\na b\r\n$1\r\n1"));
        assert!(text.ends_with("$4\r\ntrue\r\n$7\r\n{\"x\":1}\r\n"), "{text}");
    }

    #[test]
    fn entries_are_read_in_both_protocols() {
        let bulk = |text: &str| Reply::BulkString(text.as_bytes().to_vec());
        let one =
            Reply::Array(vec![bulk("1-0"), Reply::Array(vec![bulk(FIELD), bulk("{\"a\":1}")])]);
        let gone = Reply::Array(vec![bulk("2-0"), Reply::Nil]);
        let list = Reply::Array(vec![one, gone]);
        let resp3 = Reply::Map(vec![(bulk("s"), list.clone())]);
        let resp2 = Reply::Array(vec![Reply::Array(vec![bulk("s"), list])]);
        for reply in [resp2, resp3] {
            let found = read_entries(reply);
            assert_eq!(found.len(), 2);
            assert_eq!(found[0].body.as_ref().unwrap().value().0, json!({"a": 1}));
            assert!(found[1].id == "2-0" && found[1].body.is_none());
        }
        assert!(read_entries(Reply::Nil).is_empty());
    }
}
