//! The explanation of a key of the configuration: what the schema says of it, its value, and where it
//! was written.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::cli::arguments::Common;
use crate::cli::colors::STRONG;
use crate::cli::config_verbs::load;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::{nearest, one_line};
use crate::cli::output::Page;
use crate::config::{Environment, ShowOrigin, ShownKey, schema_json};

/// Levels of a schema that are followed, so that one that refers to itself ends.
const DEPTH_MAX: usize = 16;

/// Whether a word names a section of the configuration.
pub(crate) fn is_section(word: &str) -> bool {
    schema()
        .pointer("/properties")
        .and_then(Value::as_object)
        .is_some_and(|it| it.contains_key(word))
}

fn schema() -> Value {
    serde_json::from_str(&schema_json()).unwrap_or_default()
}

/// Explains a key.
///
/// # Errors
///
/// There is no such key, or the output cannot be written.
pub(crate) fn explain(
    console: &mut Console,
    common: &Common,
    (key, files): (&str, &[PathBuf]),
    environment: &Environment,
) -> Result<Exit, Failure> {
    let schema = schema();
    let found = find(&schema, key)?;
    let loaded = load(common, files, environment);
    if loaded.is_err() {
        console.warn("the configuration has faults; provost config validate tells them");
    }
    let shown = loaded.map(|loaded| loaded.render(ShowOrigin::Yes)).unwrap_or_default();
    let below = format!("{key}.");
    let values: Vec<&ShownKey> =
        shown.iter().filter(|it| it.key == key || it.key.starts_with(&below)).collect();
    let document = json!({ "key": key, "schema": found, "values": values });
    let page = Page::single(key, document, lines(key, &found, &values));
    page.print(console, common.output)?;
    Ok(Exit::Done)
}

fn lines(key: &str, found: &Map<String, Value>, values: &[&ShownKey]) -> Vec<String> {
    let mut lines = vec![format!("{STRONG}{key}{STRONG:#}")];
    let mut line = |word: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{STRONG}{word:<7}{STRONG:#} {}", one_line(&text)));
        }
    };
    let text = |name: &str| found.get(name).map(plain).unwrap_or_default();
    line("means", text("description"));
    line("type", kind(found));
    line("default", text("default"));
    let bounds: Vec<String> = ["minimum", "maximum", "minLength", "maxLength", "pattern"]
        .into_iter()
        .filter_map(|name| found.get(name).map(|bound| format!("{name} {}", plain(bound))))
        .collect();
    line("bounds", bounds.join(", "));
    for (index, value) in values.iter().take(40).enumerate() {
        let word = if index == 0 { "value" } else { "" };
        let origin = value.origin.clone().unwrap_or_default();
        let written = value.value.as_ref().map(Value::to_string).unwrap_or_else(|| "-".to_owned());
        line(word, format!("{} = {written}  ({origin})", value.key));
    }
    let below: Vec<&str> = found
        .get("properties")
        .and_then(Value::as_object)
        .map(|it| it.keys().map(String::as_str).collect())
        .unwrap_or_default();
    line("keys", below.join(", "));
    lines
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn kind(found: &Map<String, Value>) -> String {
    if let Some(words) = found.get("enum").and_then(Value::as_array) {
        return words.iter().map(plain).collect::<Vec<_>>().join(" | ");
    }
    let choices = ["oneOf", "anyOf"].into_iter().filter_map(|name| found.get(name)?.as_array());
    let words: Vec<String> =
        choices.flatten().filter_map(|choice| choice.get("const")).map(plain).collect();
    if !words.is_empty() {
        return words.join(" | ");
    }
    found.get("type").map(plain).unwrap_or_default()
}

/// The schema of a key; parts of it that stand elsewhere put in.
fn find(schema: &Value, key: &str) -> Result<Map<String, Value>, Failure> {
    let mut at = resolved(schema, schema);
    let mut path = String::new();
    for part in key.split('.') {
        let Some(next) = below(schema, &at, part) else {
            let keys = names(schema, &at);
            let place = if path.is_empty() { "the configuration" } else { path.as_str() };
            let message = format!("{place} has no key {part:?}");
            let listed = keys.join(", ");
            let failure =
                Failure::new(Fault::NoSuchThing, message, format!("its keys are: {listed}"));
            return Err(match nearest(part, keys.iter().map(String::as_str)) {
                Some(near) => failure.suggest(&format!("did you mean {near:?}?")),
                None => failure,
            });
        };
        at = next;
        path = if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
    }
    Ok(at)
}

/// Follows references; what stands beside a reference goes before what it refers to.
fn resolved(schema: &Value, at: &Value) -> Map<String, Value> {
    let mut found = at.as_object().cloned().unwrap_or_default();
    for _ in 0..DEPTH_MAX {
        let Some(Value::String(place)) = found.remove("$ref") else { break };
        let target = schema.pointer(place.trim_start_matches('#'));
        let Some(Value::Object(target)) = target else { break };
        for (name, value) in target {
            found.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    found
}

/// The shapes that a value may have: its own, and those it may choose from.
fn shapes(schema: &Value, at: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let mut shapes = vec![at.clone()];
    let choices =
        ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|name| at.get(name)?.as_array());
    shapes.extend(choices.flatten().map(|choice| resolved(schema, choice)));
    shapes
}

fn below(schema: &Value, at: &Map<String, Value>, part: &str) -> Option<Map<String, Value>> {
    let mut shapes = shapes(schema, at);
    // The keys of a list are those of its items.
    let items: Vec<_> = shapes
        .iter()
        .filter_map(|shape| shape.get("items"))
        .map(|items| resolved(schema, items))
        .collect();
    shapes.extend(items);
    let named = shapes.iter().find_map(|shape| shape.get("properties")?.get(part));
    let any = || {
        shapes
            .iter()
            .find_map(|shape| shape.get("additionalProperties").filter(|it| it.is_object()))
    };
    named.or_else(any).map(|found| resolved(schema, found))
}

fn names(schema: &Value, at: &Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    for shape in shapes(schema, at) {
        if let Some(Value::Object(properties)) = shape.get("properties") {
            names.extend(properties.keys().cloned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_and_nested_keys_are_found() {
        let schema = schema();
        for key in [
            "supervision.enabled",
            "agents.max",
            "agent_types.worker.restart.intensity",
            "agent_types.worker.probes.liveness.interval",
            "downstreams.backend.resilience.circuit_breaker.open_for",
            "agent.name",
        ] {
            let found = find(&schema, key).unwrap();
            assert!(found.contains_key("description"), "{key}: {found:?}");
        }
        let failure = find(&schema, "agents.maxx").unwrap_err();
        let report = failure.report.unwrap();
        assert!(report.next.starts_with("did you mean \"max\"?"), "{}", report.next);
    }
}
