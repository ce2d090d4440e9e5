//! Brings declared streams to the server: creates what is absent, updates what may change in
//! place, refuses the rest. Nothing is ever deleted and made again.
//!
//! Works on the server's own JSON, so that fields that this client library does not know survive
//! an update.

use std::fmt;

use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{Context, Error as ApiError, ErrorCode};
use serde_json::{Map, Value, json};

use crate::transport::dial::chain;
use crate::transport::stream_error::StreamError;
use crate::transport::streams::{SCHEMA, SCHEMA_KEY, StreamSettings, overlap};

/// Fields that cannot be changed without losing messages or their meaning.
const FIXED: [&str; 2] = ["retention", "storage"];

/// Fields that are set to what is declared.
const CHANGEABLE: [&str; 9] = [
    "description",
    "discard",
    "max_age",
    "max_bytes",
    "max_msgs",
    "max_msgs_per_subject",
    "max_msg_size",
    "num_replicas",
    "duplicate_window",
];

/// What was done about a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ensured {
    /// It was absent.
    Created,
    /// It was as declared.
    Unchanged,
    /// It was changed in place.
    Updated(Vec<Change>),
}

/// One field that was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Field, as the server calls it.
    pub field: String,
    /// Value before, as JSON.
    pub from: String,
    /// Value after, as JSON.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.field, self.from, self.to)
    }
}

/// Brings all streams to the server, in order; the first refusal ends it.
///
/// # Errors
///
/// As [`ensure`].
pub async fn ensure_all(
    context: &Context,
    streams: &[StreamSettings],
) -> Result<Vec<Ensured>, StreamError> {
    let mut outcomes = Vec::with_capacity(streams.len());
    for stream in streams {
        outcomes.push(ensure(context, stream).await?);
    }
    Ok(outcomes)
}

/// Brings one stream to the server.
///
/// # Errors
///
/// [`StreamError`] names the stream, the field and both values; nothing was changed then.
pub async fn ensure(context: &Context, stream: &StreamSettings) -> Result<Ensured, StreamError> {
    check(stream)?;
    if let Some(found) = read(context, stream).await? {
        return update(context, stream, found).await;
    }
    match call(context, stream, "CREATE", &stream.document()).await? {
        Ok(_) => Ok(Ensured::Created),
        // Somebody else made it between our look and our call.
        Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {
            match read(context, stream).await? {
                Some(found) => update(context, stream, found).await,
                None => Err(server_said(stream, &error)),
            }
        }
        Err(error) => Err(refused(context, stream, &error).await),
    }
}

fn check(stream: &StreamSettings) -> Result<(), StreamError> {
    let bad = |said: String| StreamError::BadSettings { stream: stream.name.clone(), said };
    if stream.subjects.is_empty() {
        return Err(bad("it has no subjects".to_owned()));
    }
    if stream.name.is_empty() || stream.name.contains(|c: char| ".*>/\\ \t\r\n".contains(c)) {
        return Err(bad(format!("{:?} is not a name for a stream", stream.name)));
    }
    for subject in &stream.subjects {
        if let Some(request) = stream.never.iter().find(|request| overlap(subject, request)) {
            return Err(bad(format!("{subject} captures {request}, where requests are sent")));
        }
    }
    if let Some(age) = stream.max_age
        && age < stream.duplicate_window
    {
        return Err(bad(format!(
            "duplicate window {:?} is longer than the longest age {age:?}",
            stream.duplicate_window
        )));
    }
    if !(1..=5).contains(&stream.replicas) {
        return Err(bad(format!("{} copies; must be 1 to 5", stream.replicas)));
    }
    Ok(())
}

/// One call of the stream API. The outer error is "no answer", the inner one the server's.
async fn call(
    context: &Context,
    stream: &StreamSettings,
    verb: &str,
    payload: &Map<String, Value>,
) -> Result<Result<Value, ApiError>, StreamError> {
    let subject = format!("STREAM.{verb}.{}", stream.name);
    let answer: Result<Response<Value>, _> = context.request(subject, payload).await;
    match answer {
        Ok(Response::Ok(answer)) => Ok(Ok(answer)),
        Ok(Response::Err { error }) => Ok(Err(error)),
        Err(error) => {
            let said = match error.kind() {
                RequestErrorKind::NoResponders => "nobody answers its API".to_owned(),
                RequestErrorKind::TimedOut
                | RequestErrorKind::InvalidSubject
                | RequestErrorKind::Other => chain(&error).join(": "),
            };
            Err(StreamError::NoAnswer { stream: stream.name.clone(), said })
        }
    }
}

/// A stream as the server describes it.
struct Found {
    config: Map<String, Value>,
    keeper: Keeper,
}

/// Who keeps a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keeper {
    OneServer,
    Cluster,
}

async fn read(context: &Context, stream: &StreamSettings) -> Result<Option<Found>, StreamError> {
    match call(context, stream, "INFO", &Map::new()).await? {
        Ok(mut info) => {
            // A server on its own tells a leader too, but no name.
            let clustered = info.pointer("/cluster/name").is_some_and(Value::is_string);
            let keeper = if clustered { Keeper::Cluster } else { Keeper::OneServer };
            match info.get_mut("config").map(Value::take) {
                Some(Value::Object(config)) => Ok(Some(Found { config, keeper })),
                _ => Err(StreamError::NoAnswer {
                    stream: stream.name.clone(),
                    said: "its description holds no config".to_owned(),
                }),
            }
        }
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Err(error) => Err(server_said(stream, &error)),
    }
}

async fn update(
    context: &Context,
    stream: &StreamSettings,
    found: Found,
) -> Result<Ensured, StreamError> {
    let (merged, changes) = merge(stream, found.config)?;
    if changes.is_empty() {
        return Ok(Ensured::Unchanged);
    }
    let more_copies = changes.iter().any(|change| change.field == "num_replicas");
    if more_copies && 1 < stream.replicas && found.keeper == Keeper::OneServer {
        // Some servers (2.12) take this on their own and keep one copy all the same.
        return Err(StreamError::Replicas {
            stream: stream.name.clone(),
            replicas: stream.replicas,
            said: "it is not part of a cluster".to_owned(),
        });
    }
    match call(context, stream, "UPDATE", &merged).await? {
        Ok(_) => Ok(Ensured::Updated(changes)),
        Err(error) => Err(refused(context, stream, &error).await),
    }
}

/// The server's stream with what is declared put in, and what that changes.
fn merge(
    stream: &StreamSettings,
    mut found: Map<String, Value>,
) -> Result<(Map<String, Value>, Vec<Change>), StreamError> {
    let wanted = stream.document();
    check_owner(stream, &found)?;
    check_fixed(stream, &found, &wanted)?;
    let mut changes = Vec::new();
    for field in CHANGEABLE {
        let to = wanted.get(field).cloned().unwrap_or_default();
        let from = found.get(field).cloned().unwrap_or_default();
        if normal(&from) != normal(&to) {
            changes.push(Change {
                field: field.into(),
                from: from.to_string(),
                to: to.to_string(),
            });
            found.insert(field.to_owned(), to);
        }
    }
    let before = subjects_of(&found);
    let mut after = before.clone();
    for subject in &stream.subjects {
        if !after.contains(subject) {
            after.push(subject.clone());
        }
    }
    if after != before {
        let (from, to) = (json!(before), json!(after));
        let field = "subjects".to_owned();
        changes.push(Change { field, from: from.to_string(), to: to.to_string() });
        found.insert("subjects".to_owned(), to);
    }
    Ok((found, changes))
}

fn check_owner(stream: &StreamSettings, found: &Map<String, Value>) -> Result<(), StreamError> {
    let schema = found.get("metadata").and_then(|metadata| metadata.get(SCHEMA_KEY));
    let name = || stream.name.clone();
    let Some(schema) = schema.and_then(Value::as_str) else {
        return Err(StreamError::Foreign { stream: name() });
    };
    match (schema.parse::<u32>(), SCHEMA.parse::<u32>()) {
        (Ok(found), Ok(known)) if found <= known => Ok(()),
        _ => Err(StreamError::Newer { stream: name(), found: schema.to_owned() }),
    }
}

fn check_fixed(
    stream: &StreamSettings,
    found: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> Result<(), StreamError> {
    let incompatible = |field: &str, found: &Value, wanted: &Value| StreamError::Incompatible {
        stream: stream.name.clone(),
        field: field.to_owned(),
        found: found.to_string(),
        wanted: wanted.to_string(),
    };
    for field in FIXED {
        let (there, here) = (found.get(field).unwrap_or(&Value::Null), wanted.get(field));
        if Some(there) != here {
            return Err(incompatible(field, there, here.unwrap_or(&Value::Null)));
        }
    }
    // A sealed stream takes nothing, one without acknowledgements promises nothing, and a mirror
    // is somebody else's copy.
    for field in ["sealed", "no_ack"] {
        if found.get(field).is_some_and(|value| *value == Value::Bool(true)) {
            return Err(incompatible(field, &Value::Bool(true), &Value::Bool(false)));
        }
    }
    if let Some(mirror) = found.get("mirror").filter(|mirror| !mirror.is_null()) {
        return Err(incompatible("mirror", mirror, &Value::Null));
    }
    // Subjects that were added by hand or by a newer version stay, unless they break requests.
    for subject in subjects_of(found) {
        if stream.never.iter().any(|request| overlap(&subject, request)) {
            return Err(incompatible("subjects", &json!(subject), &json!(stream.subjects)));
        }
    }
    Ok(())
}

fn subjects_of(config: &Map<String, Value>) -> Vec<String> {
    let subjects = config.get("subjects").and_then(Value::as_array);
    let texts = subjects.into_iter().flatten().filter_map(Value::as_str);
    texts.map(ToOwned::to_owned).collect()
}

/// Absent, empty, 0 and -1 all mean "no bound" or "nothing", and servers differ in which they
/// write.
fn normal(value: &Value) -> Value {
    let nothing = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64().is_some_and(|number| number <= 0),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    if nothing { Value::Null } else { value.clone() }
}

fn server_said(stream: &StreamSettings, error: &ApiError) -> StreamError {
    StreamError::Server { stream: stream.name.clone(), said: error.to_string() }
}

async fn refused(context: &Context, stream: &StreamSettings, error: &ApiError) -> StreamError {
    let name = stream.name.clone();
    let said = error.to_string();
    match error.error_code() {
        ErrorCode::STREAM_SUBJECT_OVERLAP => {
            StreamError::Overlap { stream: name, others: in_the_way(context, stream).await }
        }
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
        | ErrorCode::STREAM_REPLICAS_NOT_UPDATABLE
        | ErrorCode::CLUSTER_NO_PEERS => {
            StreamError::Replicas { stream: name, replicas: stream.replicas, said }
        }
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED => StreamError::NoRoom { stream: name, said },
        _ => StreamError::Server { stream: name, said },
    }
}

/// Names of the other streams that capture some of the subjects.
async fn in_the_way(context: &Context, stream: &StreamSettings) -> Vec<String> {
    let mut others = Vec::new();
    for subject in &stream.subjects {
        let query = json!({ "subject": subject });
        let answer: Result<Response<Value>, _> = context.request("STREAM.NAMES", &query).await;
        let Ok(Response::Ok(answer)) = answer else { continue };
        let names = answer.get("streams").and_then(Value::as_array).into_iter().flatten();
        for name in names.filter_map(Value::as_str) {
            if name != stream.name && !others.iter().any(|known| known == name) {
                others.push(name.to_owned());
            }
        }
    }
    if others.is_empty() {
        others.push("a stream that we may not see".to_owned());
    }
    others
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stream() -> StreamSettings {
        StreamSettings {
            never: vec!["acme.agent.command".to_owned()],
            ..StreamSettings::new("acme_DEAD_LETTERS", vec!["acme.dlq.>".to_owned()])
        }
    }

    fn error_of(change: impl FnOnce(&mut Map<String, Value>)) -> StreamError {
        let mut found = stream().document();
        change(&mut found);
        merge(&stream(), found).unwrap_err()
    }

    fn changes_of(change: impl FnOnce(&mut Map<String, Value>)) -> Vec<String> {
        let mut found = stream().document();
        change(&mut found);
        let (_, changes) = merge(&stream(), found).unwrap();
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_that_write_nothing_differently_make_no_change() {
        let changes = changes_of(|found| {
            found.remove("description");
            found.insert("max_msgs".to_owned(), json!(0));
            found.insert("max_msg_size".to_owned(), json!(null));
            found.insert("invented_later".to_owned(), json!(true));
        });
        assert_eq!(changes, [""; 0]);
    }

    #[test]
    fn limits_change_in_place_and_unknown_fields_survive() {
        let mut found = stream().document();
        found.insert("max_bytes".to_owned(), json!(5));
        found.insert("invented_later".to_owned(), json!(true));
        found.insert("subjects".to_owned(), json!(["acme.extra.>"]));
        let (merged, changes) = merge(&stream(), found).unwrap();
        let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let subjects = r#"subjects ["acme.extra.>"] -> ["acme.extra.>","acme.dlq.>"]"#;
        assert_eq!(texts, ["max_bytes 5 -> -1", subjects]);
        assert_eq!(merged["invented_later"], json!(true));
    }

    #[test]
    fn what_cannot_change_is_refused_with_both_values() {
        let error = error_of(|found| {
            found.insert("storage".to_owned(), json!("memory"));
        });
        let text = error.to_string();
        let expected = r#"stream acme_DEAD_LETTERS has storage "memory" and must have "file""#;
        assert!(text.starts_with(expected), "{text}");
        let fields = [
            ("retention", json!("interest")),
            ("sealed", json!(true)),
            ("no_ack", json!(true)),
            ("mirror", json!({"name": "OTHER"})),
            ("subjects", json!(["acme.dlq.>", "acme.agent.*"])),
        ];
        for (field, value) in fields {
            let error = error_of(|found| {
                found.insert(field.to_owned(), value);
            });
            assert!(matches!(&error, StreamError::Incompatible { field: at, .. } if at == field));
        }
    }

    #[test]
    fn a_stream_of_somebody_else_is_left_alone() {
        let foreign = error_of(|found| {
            found.insert("metadata".to_owned(), json!({"team": "x"}));
        });
        assert!(matches!(foreign, StreamError::Foreign { .. }));
        let newer = error_of(|found| {
            found.insert("metadata".to_owned(), json!({ SCHEMA_KEY: "2" }));
        });
        assert!(matches!(newer, StreamError::Newer { .. }));
    }

    #[test]
    fn settings_that_contradict_themselves_never_reach_the_server() {
        let wrong: [fn(&mut StreamSettings); 5] = [
            |stream| stream.subjects.push("acme.agent.>".to_owned()),
            |stream| stream.subjects.clear(),
            |stream| stream.name = "a.b".to_owned(),
            |stream| stream.max_age = Some(Duration::from_secs(1)),
            |stream| stream.replicas = 0,
        ];
        for change in wrong {
            let mut stream = stream();
            change(&mut stream);
            assert!(matches!(check(&stream), Err(StreamError::BadSettings { .. })));
        }
    }
}
