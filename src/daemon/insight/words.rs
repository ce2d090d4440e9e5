//! Patterns in words, for the summaries of alerts.

use crate::protocol::insight::{PatternKind, PatternSeen};

/// One sentence: what, where, by which numbers.
pub(super) fn summary(seen: &PatternSeen) -> String {
    let scope = &seen.scope;
    let what = match seen.kind {
        PatternKind::CrashLoop => format!("{scope} fails again and again soon after its start"),
        PatternKind::Flapping => format!("{scope} changes between good and bad"),
        PatternKind::CorrelatedFailure => format!("children with {scope} fail together"),
        PatternKind::Cascade => format!("{scope} failed and takes with it what leans on it"),
        PatternKind::GrayFailure => format!("{scope} is slower or fails more than its peers"),
        PatternKind::PoisonTask => format!("a task fails wherever it is tried: {scope}"),
        PatternKind::SickAgent => format!("{scope} fails tasks that others can do"),
    };
    let numbers: Vec<String> = seen
        .evidence
        .0
        .iter()
        .filter(|(name, _)| *name != "limit")
        .take(4)
        .map(|(name, value)| format!("{name} {}", plain(value)))
        .collect();
    if numbers.is_empty() { what } else { format!("{what} ({})", numbers.join(", ")) }
}

fn plain(value: &crate::protocol::decision::Input) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
