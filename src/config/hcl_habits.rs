//! What people who write HCL are used to, put into the words of the format: block names in the
//! singular, `integration` blocks, dashes in types, `backoff = "exponential"`, a breaker's
//! `timeout`.

use crate::config::fault::Fault;
use crate::config::tree::{Entry, Node, Table, Value};

/// Blocks that are entries of a map, by their names.
const MAPS: [(&str, &str); 5] = [
    ("integration", "downstreams"),
    ("downstream", "downstreams"),
    ("agent_type", "agent_types"),
    ("supervisor", "supervisors"),
    ("stream", "streams"),
];

/// Blocks that are elements of a list, and the key that takes their label.
const LISTS: [(&str, &str, Option<&str>); 3] = [
    ("agent", "agent", Some("name")),
    ("exit_rule", "exit_rules", None),
    ("subscription", "subscriptions", Some("topic")),
];

/// The map that a block is an entry of.
pub(crate) fn map_of(block: &str) -> Option<&'static str> {
    MAPS.iter().find(|(name, _)| *name == block).map(|(_, map)| *map)
}

/// The list that a block is an element of, and the key that takes its label.
pub(crate) fn list_of(block: &str) -> Option<(&'static str, Option<&'static str>)> {
    LISTS.iter().find(|(name, _, _)| *name == block).map(|(_, list, key)| (*list, *key))
}

/// Puts habits into the words of the format.
pub(crate) fn adapt(root: &mut Node, faults: &mut Vec<Fault>) {
    let Some(Value::Table(downstreams)) = inner(root, &["downstreams"]).map(|node| &mut node.value)
    else {
        return;
    };
    for (name, entry) in downstreams {
        downstream(&format!("downstreams.{name}"), &mut entry.node, faults);
    }
}

fn downstream(key: &str, node: &mut Node, faults: &mut Vec<Fault>) {
    undash(inner(node, &["type"]), &[]);
    let kinds = [("client_cert", "client_certificate"), ("certificate", "client_certificate")];
    undash(inner(node, &["auth", "type"]), &kinds);
    if let Some(Value::Table(retry)) =
        inner(node, &["resilience", "retry"]).map(|node| &mut node.value)
    {
        backoff(&format!("{key}.resilience.retry"), retry, faults);
    }
    if let Some(Value::Table(breaker)) =
        inner(node, &["resilience", "circuit_breaker"]).map(|node| &mut node.value)
        && let Some(timeout) = breaker.remove("timeout")
    {
        let key = format!("{key}.resilience.circuit_breaker.timeout");
        rename(breaker, timeout, "open_for", &key, faults);
    }
    // MQTT counts its keep-alive in whole seconds.
    if let Some(alive) = inner(node, &["config", "keep_alive"])
        && let Value::Integer(seconds) = alive.value
    {
        alive.value = Value::Text(format!("{seconds}s"));
    }
}

/// `backoff` names the growth that `multiplier` gives.
fn backoff(key: &str, retry: &mut Table, faults: &mut Vec<Fault>) {
    let Some(mut entry) = retry.remove("backoff") else { return };
    match entry.node.text() {
        Some("exponential") => {}
        Some("constant" | "fixed") => {
            entry.node.value = Value::Integer(1);
            rename(retry, entry, "multiplier", &format!("{key}.backoff"), faults);
        }
        Some(_) | None => {
            let fault = Fault::new(entry.node.place.clone(), format!("{key}.backoff"), "unknown");
            let fault = fault.value(entry.node.shown());
            faults.push(fault.allowed("\"exponential\", \"constant\""));
        }
    }
}

fn rename(table: &mut Table, entry: Entry, to: &str, key: &str, faults: &mut Vec<Fault>) {
    if table.contains_key(to) {
        let fault = format!("says the same as {to}; leave one of them out");
        faults.push(Fault::new(entry.key_place, key, fault));
        return;
    }
    table.insert(to.to_owned(), entry);
}

/// Dashes become underscores; other words for the same are replaced.
fn undash(node: Option<&mut Node>, words: &[(&str, &str)]) {
    if let Some(Node { value: Value::Text(text), .. }) = node {
        let plain = text.replace('-', "_");
        let known = words.iter().find(|(word, _)| *word == plain).map(|(_, known)| *known);
        *text = known.map_or(plain, str::to_owned);
    }
}

fn inner<'n>(node: &'n mut Node, path: &[&str]) -> Option<&'n mut Node> {
    path.iter().try_fold(node, |node, key| match &mut node.value {
        Value::Table(table) => table.get_mut(*key).map(|entry| &mut entry.node),
        Value::Boolean(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Date(_)
        | Value::Huge(_)
        | Value::Array(_) => None,
    })
}
