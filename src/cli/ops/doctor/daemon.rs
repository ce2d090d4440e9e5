//! What the daemon says of itself, and the streams behind it.

use async_nats::jetstream::ErrorCode;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::ops::doctor::Finding;
use crate::config::OWN_STREAMS;
use crate::protocol::command::{SystemMode, SystemStatus};
use crate::transport::connect::Connection;
use crate::transport::version;

/// Clocks that differ by more make events seem to come from the future.
const SKEW_WARN_MS: i64 = 1_000;
/// Clocks that differ by more break leases and certificates.
const SKEW_FAIL_MS: i64 = 60_000;

pub(super) fn findings(status: &SystemStatus) -> Vec<Finding> {
    vec![answers(status), nats(status), server(status), outbox(status), config(status)]
}

fn answers(status: &SystemStatus) -> Finding {
    const NAME: &str = "daemon";
    let found = format!("{}, pid {}, provost {}", status.node, status.pid, status.version);
    if status.version != env!("CARGO_PKG_VERSION") {
        let act = "restart the daemon with the program that is installed now";
        return Finding::warn(NAME, format!("{found}; this is {}", env!("CARGO_PKG_VERSION")), act);
    }
    match status.mode {
        SystemMode::Running => Finding::well(NAME, found),
        SystemMode::Paused | SystemMode::Draining | SystemMode::Stopping => {
            let act = "provost system resume";
            Finding::warn(NAME, format!("{found}; it is not taking new work"), act)
        }
    }
}

fn nats(status: &SystemStatus) -> Finding {
    const NAME: &str = "nats";
    let nats = &status.nats;
    let found = format!("{} {}", nats.state, nats.url);
    if nats.state == "connected" {
        return Finding::well(NAME, found);
    }
    let found = match &nats.error {
        Some(error) => format!("{found}: {error}"),
        None => found,
    };
    Finding::fail(NAME, found, "check that the server runs and takes the daemon's credentials")
}

fn server(status: &SystemStatus) -> Finding {
    const NAME: &str = "nats_server";
    let Some(text) = &status.nats.server_version else {
        return Finding::skipped(NAME, "its version is not known while it is not connected");
    };
    let whose = if status.nats.embedded { "embedded" } else { "external" };
    match version::check(text) {
        Ok(_) => Finding::well(NAME, format!("{text}, {whose}")),
        Err(error) => Finding::fail(NAME, error.to_string(), "upgrade the nats-server"),
    }
}

fn outbox(status: &SystemStatus) -> Finding {
    const NAME: &str = "outbox";
    let outbox = &status.outbox;
    let found = format!(
        "{} of at most {} events wait, {} dropped",
        outbox.waiting, outbox.bound_events, outbox.dropped
    );
    if outbox.memory_only {
        let act = "free space in the state folder: waiting events are in memory only";
        return Finding::fail(NAME, found, act);
    }
    if 0 < outbox.dropped || outbox.bound_events / 2 < outbox.waiting {
        let act = "see why events do not get out: `provost status`, the server's log";
        return Finding::warn(NAME, found, act);
    }
    Finding::well(NAME, found)
}

fn config(status: &SystemStatus) -> Finding {
    const NAME: &str = "config";
    let Some(config) = &status.config else {
        return Finding::well(NAME, "no files");
    };
    if let Some(fault) = config.faults.first() {
        let act = "correct it: the next start would fail; `provost config validate` tells all";
        let found = format!("{} faults on disk: {fault}", config.faults.len());
        return Finding::fail(NAME, found, act);
    }
    if 0 < config.changes {
        let found = format!("{} changes on disk do not run", config.changes);
        return Finding::warn(NAME, found, "provost plan");
    }
    Finding::well(NAME, config.files.join(", "))
}

/// The streams, their fill and replicas, and the server's clock, which comes with them.
pub(super) async fn streams(connection: &Connection, status: &SystemStatus) -> Vec<Finding> {
    const NAME: &str = "streams";
    let on = |flag: &str| status.flags.get(flag).copied().unwrap_or_default();
    let wanted = |name: &&&str| match **name {
        "SUPERVISION" | "HEALTH" => on("ENABLE_SUPERVISION"),
        _ => on("ENABLE_COORDINATION"),
    };
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    let mut skew = None;
    for name in OWN_STREAMS.iter().filter(wanted) {
        let name = connection.prefix().stream_name(name);
        let asked: Result<Value, _> =
            connection.jetstream().request(format!("STREAM.INFO.{name}"), &()).await.map(
                |answer| match answer {
                    async_nats::jetstream::response::Response::Ok(info) => info,
                    async_nats::jetstream::response::Response::Err { error } => {
                        let code = error.error_code();
                        let gone = code == ErrorCode::STREAM_NOT_FOUND;
                        serde_json::json!({"fault": if gone { "is not there".to_owned() } else { error.to_string() }})
                    }
                },
            );
        match asked {
            Ok(info) => {
                skew = skew.or_else(|| skew_of(&info));
                findings.extend(stream(&name, &info));
                let messages = number(&info, "/state/messages").unwrap_or_default();
                seen.push(format!("{name} {messages}"));
            }
            Err(error) => findings.push(Finding::fail(
                NAME,
                format!("{name}: {error}"),
                "check that JetStream is on and that the credentials allow its API",
            )),
        }
    }
    if findings.is_empty() && !seen.is_empty() {
        findings.push(Finding::well(NAME, format!("messages: {}", seen.join(", "))));
    } else if findings.is_empty() {
        findings.push(Finding::skipped(
            NAME,
            "nothing is stored: supervision and coordination are off",
        ));
    }
    findings.push(clock(skew));
    findings
}

/// What is wrong with one stream.
fn stream(name: &str, info: &Value) -> Option<Finding> {
    const NAME: &str = "streams";
    if let Some(fault) = info.get("fault").and_then(Value::as_str) {
        let act = "restart the daemon: it declares its streams when it starts";
        return Some(Finding::fail(NAME, format!("{name}: {fault}"), act));
    }
    let replicas = info.pointer("/cluster/replicas").and_then(Value::as_array);
    let behind = replicas
        .into_iter()
        .flatten()
        .filter(|one| one.get("current") == Some(&Value::Bool(false)))
        .count();
    if 0 < behind {
        let act = "look after the servers of the cluster: `nats server report jetstream`";
        let found = format!("{name}: {behind} replicas are behind");
        return Some(Finding::warn(NAME, found, act));
    }
    let bytes = number(info, "/state/bytes")?;
    let max = number(info, "/config/max_bytes").filter(|max| 0 < *max)?;
    // Work that is full refuses; records that are full forget the oldest, as they should.
    let refuses = info.pointer("/config/discard").and_then(Value::as_str) == Some("new");
    (refuses && max / 10 * 9 < bytes).then(|| {
        let act = "raise its max_bytes, or work off what waits";
        Finding::warn(NAME, format!("{name}: {bytes} of at most {max} bytes"), act)
    })
}

fn number(info: &Value, place: &str) -> Option<u64> {
    info.pointer(place)?.as_u64()
}

/// How far the server's clock is before ours, in milliseconds.
fn skew_of(info: &Value) -> Option<i64> {
    let theirs: Timestamp = info.get("ts")?.as_str()?.parse().ok()?;
    Some(theirs.as_millisecond().saturating_sub(Timestamp::now().as_millisecond()))
}

fn clock(skew: Option<i64>) -> Finding {
    const NAME: &str = "clock";
    const ACT: &str = "let chrony or another time service set the clocks of both machines";
    let Some(skew) = skew else {
        return Finding::skipped(NAME, "the server did not tell its time");
    };
    let found = format!("the server's clock differs by {} ms", skew.abs());
    match skew.abs() {
        apart if SKEW_FAIL_MS < apart => Finding::fail(NAME, found, ACT),
        apart if SKEW_WARN_MS < apart => Finding::warn(NAME, found, ACT),
        _ => Finding::well(NAME, found),
    }
}
