//! From bytes to a command, strictly.
//!
//! Whatever is not exactly a command is refused with the field, what is wrong with it, and what is
//! allowed there. Pure: nothing is asked, nothing is done.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::protocol::command::{
    AgentCommand, AgentRequest, COMMAND_BYTES_MAX, CircuitRequest, CommandError, ControlCommand,
    EmptyRequest, ErrorKind, GRACE_MS_MAX, LOG_LINES_MAX, LogsRequest, SpawnRequest,
};
use crate::protocol::reload::{RELOAD_TEXT_BYTES_MAX, ReloadRequest};
use crate::protocol::route::RouteQuery;
use crate::transport::unique::UniqueMap;

const AGENT_COMMANDS: [&str; 11] = [
    "spawn", "stop", "restart", "kill", "drain", "resume", "reset", "remove", "status", "logs",
    "list",
];

const CONTROL_COMMANDS: [&str; 13] = [
    "status",
    "tree",
    "pause",
    "resume",
    "drain",
    "reload",
    "shutdown",
    "circuit",
    "route",
    "alerts",
    "silence",
    "unsilence",
    "resolve_alert",
];

/// Longest text in one field, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Most arguments, variables or labels in one command.
const ENTRIES_MAX: usize = 1_024;

/// Reads a request on `agent.command`.
///
/// # Errors
///
/// [`CommandError`] of kind `invalid_request`.
pub fn parse_agent_command(bytes: &[u8]) -> Result<AgentCommand, CommandError> {
    let (name, rest) = split(bytes, &AGENT_COMMANDS)?;
    let agent = |rest| read::<AgentRequest>(name, rest).and_then(checked_agent);
    match name {
        "spawn" => read(name, rest).and_then(checked_spawn).map(AgentCommand::Spawn),
        "stop" => agent(rest).map(AgentCommand::Stop),
        "restart" => agent(rest).map(AgentCommand::Restart),
        "kill" => agent(rest).map(AgentCommand::Kill),
        "drain" => agent(rest).map(AgentCommand::Drain),
        "resume" => agent(rest).map(AgentCommand::Resume),
        "reset" => agent(rest).map(AgentCommand::Reset),
        "remove" => agent(rest).map(AgentCommand::Remove),
        "status" => agent(rest).map(AgentCommand::Status),
        "logs" => read(name, rest).and_then(checked_logs).map(AgentCommand::Logs),
        _ => read::<EmptyRequest>(name, rest).map(AgentCommand::List),
    }
}

/// Reads a request on `system.control`.
///
/// # Errors
///
/// [`CommandError`] of kind `invalid_request`.
pub fn parse_control_command(bytes: &[u8]) -> Result<ControlCommand, CommandError> {
    let (name, rest) = split(bytes, &CONTROL_COMMANDS)?;
    match name {
        "status" => read(name, rest).map(ControlCommand::Status),
        "tree" => read(name, rest).map(ControlCommand::Tree),
        "pause" => read(name, rest).map(ControlCommand::Pause),
        "resume" => read(name, rest).map(ControlCommand::Resume),
        "drain" => read(name, rest).map(ControlCommand::Drain),
        "reload" => read(name, rest).and_then(checked_reload).map(ControlCommand::Reload),
        "shutdown" => read(name, rest).map(ControlCommand::Shutdown),
        "route" => read(name, rest).and_then(checked_route).map(ControlCommand::Route),
        "alerts" => read(name, rest).map(ControlCommand::Alerts),
        "silence" => read(name, rest).map(ControlCommand::Silence),
        "unsilence" => read(name, rest).map(ControlCommand::Unsilence),
        "resolve_alert" => read(name, rest).map(ControlCommand::ResolveAlert),
        _ => read::<CircuitRequest>(name, rest)
            .and_then(|request| {
                checked_target("child", &request.child)?;
                Ok(request)
            })
            .map(ControlCommand::Circuit),
    }
}

fn checked_reload(request: ReloadRequest) -> Result<ReloadRequest, CommandError> {
    let fields = [("plan", &request.plan), ("by", &request.by), ("reason", &request.reason)];
    for (field, text) in fields {
        let bytes = text.as_ref().map_or(0, String::len);
        if RELOAD_TEXT_BYTES_MAX < bytes {
            return Err(invalid(
                format!("{field:?} is {bytes} bytes; at most {RELOAD_TEXT_BYTES_MAX} are allowed"),
                "give a shorter one",
            ));
        }
    }
    Ok(request)
}

fn checked_route(query: RouteQuery) -> Result<RouteQuery, CommandError> {
    match query.check() {
        Ok(()) => Ok(query),
        Err(fault) => {
            let hint = "the fields are required_capabilities, where, strategy, participants, \
                        sticky_key and avoid";
            Err(invalid(fault.to_string(), hint))
        }
    }
}

fn invalid(message: impl Into<String>, hint: impl Into<String>) -> CommandError {
    CommandError::new(ErrorKind::InvalidRequest, message, hint)
}

const EXAMPLE: &str = r#"send one JSON object such as {"command":"list"}"#;

/// The refusal of a request that is too large to be looked at.
#[must_use]
pub fn too_large(bytes: usize) -> CommandError {
    invalid(
        format!("request is {bytes} bytes; at most {COMMAND_BYTES_MAX} are allowed"),
        "put large values into the agent type's configuration or a file",
    )
}

/// The command's name, and its other fields.
fn split<'a>(
    bytes: &[u8],
    known: &[&'a str],
) -> Result<(&'a str, Map<String, Value>), CommandError> {
    if COMMAND_BYTES_MAX < bytes.len() {
        return Err(too_large(bytes.len()));
    }
    if bytes.is_empty() {
        return Err(invalid("request is empty", EXAMPLE));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        invalid(format!("request is not UTF-8: the byte at position {at} is wrong"), EXAMPLE)
    })?;
    let UniqueMap(mut fields) = serde_json::from_str(text)
        .map_err(|error| invalid(format!("request is not a JSON object: {error}"), EXAMPLE))?;
    let listed = || format!("known commands: {}", known.join(", "));
    let Some(command) = fields.shift_remove("command") else {
        return Err(invalid("field \"command\" is missing", listed()));
    };
    let Value::String(command) = command else {
        return Err(invalid(
            format!("field \"command\" is {}; it must be a string", kind_of(&command)),
            listed(),
        ));
    };
    match known.iter().find(|name| **name == command) {
        Some(name) => Ok((name, fields)),
        None => Err(invalid(
            format!("unknown command {:?}", shortened(&command)),
            with_suggestion(&command, known, listed()),
        )),
    }
}

fn with_suggestion(command: &str, known: &[&str], listed: String) -> String {
    let best = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&shortened(command), name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2);
    best.map_or_else(|| listed.clone(), |(_, name)| format!("did you mean {name:?}? {listed}"))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The other fields as the command's own type.
fn read<T: DeserializeOwned>(name: &str, rest: Map<String, Value>) -> Result<T, CommandError> {
    serde_path_to_error::deserialize(Value::Object(rest)).map_err(|error| {
        let path = error.path().to_string();
        let said: String = error.inner().to_string().chars().take(300).collect();
        let place = if path == "." { String::new() } else { format!(" in field {path:?}") };
        invalid(format!("command {name:?} is wrong{place}: {said}"), fields_of(name))
    })
}

/// What a command takes.
fn fields_of(name: &str) -> String {
    let fields = match name {
        "spawn" => {
            "agent_type (required), name, args (array of strings), env and labels (objects of \
             strings), node, command_line (array of strings)"
        }
        "logs" => "agent (required), lines, after",
        "circuit" => "child (required), set (required: open, closed or auto)",
        "stop" | "restart" | "kill" | "drain" | "resume" | "reset" | "remove" => {
            "agent (required), grace_ms, reason"
        }
        "status" => "agent (on agent.command: required), grace_ms, reason",
        _ => "none",
    };
    format!("fields of {name:?} besides \"command\": {fields}")
}

fn checked_target(field: &str, target: &str) -> Result<(), CommandError> {
    if target.is_empty() || TEXT_BYTES_MAX < target.len() {
        return Err(invalid(
            format!("field {field:?} is {} bytes long", target.len()),
            "give an agent's id or name",
        ));
    }
    Ok(())
}

fn checked_agent(request: AgentRequest) -> Result<AgentRequest, CommandError> {
    checked_target("agent", &request.agent)?;
    if let Some(grace_ms) = request.grace_ms.filter(|grace_ms| GRACE_MS_MAX < *grace_ms) {
        return Err(invalid(
            format!("field \"grace_ms\" is {grace_ms}; at most {GRACE_MS_MAX} is allowed"),
            "use kill to end an agent at once, or a shorter grace",
        ));
    }
    Ok(request)
}

fn checked_logs(request: LogsRequest) -> Result<LogsRequest, CommandError> {
    checked_target("agent", &request.agent)?;
    if let Some(lines) = request.lines.filter(|lines| !(1..=LOG_LINES_MAX).contains(lines)) {
        return Err(invalid(
            format!("field \"lines\" is {lines}; 1 to {LOG_LINES_MAX} are allowed"),
            "read on with \"after\" from the last answer's \"next\"",
        ));
    }
    Ok(request)
}

fn checked_spawn(request: SpawnRequest) -> Result<SpawnRequest, CommandError> {
    let command_line = request.command_line.as_deref();
    if command_line.is_some_and(<[String]>::is_empty) {
        return Err(invalid("field \"command_line\" is empty", "give the program first"));
    }
    let counts = [
        ("args", request.args.len()),
        ("env", request.env.len()),
        ("labels", request.labels.len()),
        ("command_line", command_line.map_or(0, <[String]>::len)),
    ];
    if let Some((field, count)) = counts.into_iter().find(|(_, count)| ENTRIES_MAX < *count) {
        return Err(invalid(
            format!("field {field:?} has {count} entries; at most {ENTRIES_MAX} are allowed"),
            "put them into the agent type's configuration",
        ));
    }
    let arguments = request.args.iter().map(|text| ("args", text));
    let words = command_line.unwrap_or_default().iter().map(|text| ("command_line", text));
    let values = request.env.values().map(|text| ("env", text));
    for (field, text) in arguments.chain(words).chain(values) {
        if text.contains('\0') {
            return Err(invalid(
                format!("field {field:?} has an entry with a zero byte"),
                "no program can be given one",
            ));
        }
    }
    let bad_name = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
    if let Some(name) = request.env.keys().find(bad_name) {
        return Err(invalid(
            format!("field \"env\" has the variable name {:?}", shortened(name)),
            "a name is not empty and holds neither = nor a zero byte",
        ));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::CircuitSet;

    fn agent(text: &str) -> Result<AgentCommand, String> {
        parse_agent_command(text.as_bytes()).map_err(said)
    }

    fn control(text: &str) -> Result<ControlCommand, String> {
        parse_control_command(text.as_bytes()).map_err(said)
    }

    fn said(error: CommandError) -> String {
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::InvalidRequest, "PV0101"));
        assert!(!error.hint.is_empty());
        error.message
    }

    #[test]
    fn every_command_is_read() {
        for name in AGENT_COMMANDS {
            let fields = match name {
                "spawn" => r#","agent_type":"worker""#,
                "list" => "",
                _ => r#","agent":"w1""#,
            };
            let text = format!(r#"{{"command":"{name}"{fields}}}"#);
            let command = agent(&text).unwrap();
            let again = serde_json::to_value(&command).unwrap();
            assert_eq!(again["command"], name);
            assert_eq!(serde_json::from_value::<AgentCommand>(again).unwrap(), command);
        }
        for name in CONTROL_COMMANDS {
            let fields = match name {
                "circuit" => r#","child":"w1","set":"auto""#,
                "silence" => r#","match":{"scope":"w1"},"for_ms":1,"reason":"r""#,
                "unsilence" | "resolve_alert" => r#","id":"x""#,
                _ => "",
            };
            let command = control(&format!(r#"{{"command":"{name}"{fields}}}"#)).unwrap();
            assert_eq!(serde_json::to_value(&command).unwrap()["command"], name);
        }
    }

    #[test]
    fn the_documented_spawn_is_read_whole() {
        let command = agent(
            r#"{"command":"spawn","agent_type":"worker","name":"w1","args":["a"],
                "env":{"K":"V"},"labels":{},"node":null}"#,
        );
        let Ok(AgentCommand::Spawn(spawn)) = command else { panic!("{command:?}") };
        assert_eq!((spawn.args, spawn.node), (vec!["a".to_owned()], None));
        let set = control(r#"{"command":"circuit","child":"w1","set":"open"}"#);
        let Ok(ControlCommand::Circuit(request)) = set else { panic!("{set:?}") };
        assert_eq!(request.set, CircuitSet::Open);
    }

    #[test]
    fn garbage_is_refused_with_field_and_reason() {
        let cases = [
            ("", "request is empty"),
            ("no json", "request is not a JSON object: expected ident"),
            ("[]", "request is not a JSON object: invalid type: sequence"),
            ("null", "request is not a JSON object: invalid type: null"),
            ("{}", "field \"command\" is missing"),
            (r#"{"command":7}"#, "field \"command\" is a number; it must be a string"),
            (r#"{"command":"spwan"}"#, "unknown command \"spwan\""),
            (r#"{"command":"list"} x"#, "request is not a JSON object: trailing characters"),
            (
                r#"{"command":"list","x":1}"#,
                "command \"list\" is wrong in field \"x\": unknown field `x`",
            ),
            (r#"{"command":"stop"}"#, "command \"stop\" is wrong: missing field `agent`"),
            (
                r#"{"command":"stop","agent":7}"#,
                "command \"stop\" is wrong in field \"agent\": invalid type",
            ),
            (r#"{"command":"stop","agent":""}"#, "field \"agent\" is 0 bytes long"),
            (
                r#"{"command":"stop","agent":"a","agent":"b"}"#,
                "request is not a JSON object: field \"agent\" stands there twice",
            ),
            (
                r#"{"command":"list","command":"kill"}"#,
                "request is not a JSON object: field \"command\" stands there twice",
            ),
            (
                r#"{"command":"stop","agent":"a","grace_ms":-1}"#,
                "command \"stop\" is wrong in field \"grace_ms\"",
            ),
            (
                r#"{"command":"stop","agent":"a","grace_ms":3600001}"#,
                "field \"grace_ms\" is 3600001; at most 3600000",
            ),
            (r#"{"command":"logs","agent":"a","lines":0}"#, "field \"lines\" is 0; 1 to 10000"),
            (
                r#"{"command":"spawn","agent_type":"a.b"}"#,
                "command \"spawn\" is wrong in field \"agent_type\": identifier \"a.b\"",
            ),
            (
                r#"{"command":"spawn","agent_type":"a","args":["x",7]}"#,
                "command \"spawn\" is wrong in field \"args[1]\"",
            ),
            (
                r#"{"command":"spawn","agent_type":"a","args":["\u0000"]}"#,
                "field \"args\" has an entry with a zero byte",
            ),
            (
                r#"{"command":"spawn","agent_type":"a","env":{"A=B":"x"}}"#,
                "field \"env\" has the variable name \"A=B\"",
            ),
            (
                r#"{"command":"spawn","agent_type":"a","command_line":[]}"#,
                "field \"command_line\" is empty",
            ),
        ];
        for (text, expected) in cases {
            let error = agent(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n  {error}\n  {expected}");
        }
        let error = control(r#"{"command":"circuit","child":"a","set":"shut"}"#).unwrap_err();
        assert!(error.contains("in field \"set\""), "{error}");
    }

    #[test]
    fn a_misspelt_command_gets_a_suggestion() {
        let error = parse_agent_command(br#"{"command":"spwan"}"#).unwrap_err();
        assert!(error.hint.starts_with("did you mean \"spawn\"? known commands: spawn, stop"));
        let error = parse_control_command(br#"{"command":"spawn"}"#).unwrap_err();
        assert!(error.hint.starts_with("known commands: status, tree"), "{}", error.hint);
    }

    #[test]
    fn bad_bytes_deep_nesting_and_great_size_are_refused() {
        let error = parse_agent_command(b"{\"command\":\"\xff\"}").unwrap_err();
        assert!(error.message.contains("byte at position 12"), "{}", error.message);
        let deep = format!(r#"{{"command":{}"#, "[".repeat(100_000));
        assert!(agent(&deep).unwrap_err().contains("recursion limit"));
        let large = vec![b' '; COMMAND_BYTES_MAX + 1];
        let error = parse_agent_command(&large).unwrap_err();
        assert!(error.message.starts_with("request is 262145 bytes; at most 262144"));
    }
}
