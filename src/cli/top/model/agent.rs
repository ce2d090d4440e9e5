//! One child as lines: what it is, why it is in its state, under which rule, what comes next.
//!
//! Made from the last answer and the last decision record; an event's text is never the source.

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::agent_view::{health, held_by, limits, next as next_words};
use crate::cli::human::{age, span};
use crate::cli::top::model::circuits::{Reach, circuit_cell, strip};
use crate::cli::top::model::picture::{LastDecision, Picture};
use crate::cli::top::model::table::{Cell, Tint};
use crate::cli::top::model::tree::state_of;
use crate::protocol::decision::{DecisionRecord, Input, NextKind, Rule};
use crate::protocol::status::{AgentStatus, CircuitState, TreeNode};

/// Cells of the strip.
const STRIP: usize = 20;

/// Cells of the line of load.
const SPARK: usize = 30;

/// A line: fields one after the other.
pub(crate) type Line = Vec<Cell>;

/// What is known of a child, as lines; one line that says so when the tree does not have it.
pub(crate) fn lines(picture: &Picture, name: &str, now: Timestamp) -> Vec<Line> {
    let node = picture.look.as_ref().and_then(|(_, look)| find(&look.tree, name));
    let Some(node) = node else {
        let text = format!("{name} is not in the tree any more; Esc goes back");
        return vec![vec![Cell::tinted(text, Tint::Warn)]];
    };
    let agent = picture.agent(name);
    let decision = picture.child(name).and_then(|child| child.decision.as_ref());
    let mut lines = vec![headline(node, agent, now)];
    let mut add = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(vec![Cell::tinted(format!("{label:<9}"), Tint::Faint), text.into()]);
        }
    };
    add("why", why(picture, node, decision, now));
    add("numbers", decision.map(|last| numbers(&last.decided.record)).unwrap_or_default());
    add("rule", decision.map(|last| rule(&last.decided.record.rule)).unwrap_or_default());
    add("next", next(picture, agent, decision, now));
    let circuit = circuit_cell(node.circuit.state).text;
    let over = strip(picture, (name, node.circuit.state), STRIP, (Reach::default(), now));
    let opened = picture.child(name).map_or(0, |child| child.circuits.opened());
    if node.circuit.state != CircuitState::Closed || 0 < opened {
        let due = node.circuit.retry_after_ms.map(|due| span(picture.left(due, now)));
        let due = due.map(|due| format!(", trial in {due}")).unwrap_or_default();
        let words = Reach::default().word();
        add("circuit", format!("{circuit}{due}, opened {opened}×; {words}: {}", over.text));
    }
    add("restarts", restarts(picture, node, now));
    if let Some(agent) = agent {
        let slots = picture.look.as_ref().and_then(|(_, look)| look.slots.get(name));
        let slots = slots.map(|(taken, all)| format!(", {taken} of {all} slots taken"));
        add("health", format!("{}{}", health(&agent.health), slots.unwrap_or_default()));
        let load = picture.loads(name).map(|loads| loads.spark(SPARK)).unwrap_or_default();
        add("load", load.trim().to_owned());
        add("held by", agent.containment.map(held_by).unwrap_or_default().to_owned());
        add("limits", limits(agent));
        let labels: Vec<String> =
            agent.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        add("labels", labels.join(" "));
        add("id", format!("{}  type {}  node {}", agent.agent_id, agent.agent_type, agent.node));
    }
    lines
}

fn find<'t>(node: &'t TreeNode, name: &str) -> Option<&'t TreeNode> {
    if node.name.as_str() == name {
        return Some(node);
    }
    node.children.iter().find_map(|child| find(child, name))
}

fn headline(node: &TreeNode, agent: Option<&AgentStatus>, now: Timestamp) -> Line {
    let since = agent.map(|agent| format!("for {}", age(now, agent.since)));
    let pid = node.pid.map(|pid| format!("pid {pid}"));
    let run = Some(format!("run {}", node.generation));
    let strategy = node.strategy.map(|strategy| word_of(&strategy));
    let children = node.children.len();
    let children = (0 < children).then(|| format!("{children} children"));
    let more: Vec<String> = [since, pid, run, strategy, children].into_iter().flatten().collect();
    vec![
        Cell::tinted(node.name.as_str(), Tint::Strong),
        state_of(node.state),
        Cell::tinted(more.join("  "), Tint::Faint),
    ]
}

/// The reason of its state, and the code of the decision that led to it.
fn why(
    picture: &Picture,
    node: &TreeNode,
    decision: Option<&LastDecision>,
    now: Timestamp,
) -> String {
    let mut text = node.reason.clone();
    if let Some(last) = decision {
        let reason = word_of(&last.decided.record.reason).replace('_', " ");
        let ago = age(now, last.at);
        let by = &last.decided.supervisor;
        text.push_str(&format!("  ({by} decided {ago} ago: {reason})"));
    } else if let Some(event) = picture.child(node.name.as_str()).and_then(|c| c.event.as_ref()) {
        text.push_str(&format!("  (last event {} ago: {})", age(now, event.at), event.text));
    }
    text.trim().to_owned()
}

/// What the decision was made on.
fn numbers(record: &DecisionRecord) -> String {
    let shown = |input: &Input| match input {
        Input::Count(count) => count.to_string(),
        Input::Number(number) => short(*number),
        Input::Flag(flag) => flag.to_string(),
        Input::Word(word) => word.clone(),
    };
    let inputs = record.inputs.0.iter();
    let parts: Vec<String> =
        inputs.map(|(name, input)| format!("{name}={}", shown(input))).collect();
    parts.join("  ")
}

/// A number with at most three places after the point.
fn short(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn rule(rule: &Rule) -> String {
    let limit = rule.intensity.map(|most| match rule.period_ms {
        Some(period) => format!("at most {most} restarts in {}", span(period)),
        None => format!("at most {most} restarts"),
    });
    let parts = [
        rule.strategy.map(|strategy| word_of(&strategy)),
        rule.restart.map(|restart| word_of(&restart)),
        limit,
        rule.on_exceeded.map(|then| format!("then {}", word_of(&then).replace('_', " "))),
        rule.open_for_ms.map(|open| format!("open for {}", span(open))),
        rule.stable_after_ms.map(|stable| format!("stable after {}", span(stable))),
        rule.exit_rule.as_ref().map(|place| format!("exit rule {place}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let origin = rule.origin.as_ref().map(|place| format!("  [{place}]")).unwrap_or_default();
    format!("{}{origin}", parts.join(", "))
}

fn next(
    picture: &Picture,
    agent: Option<&AgentStatus>,
    decision: Option<&LastDecision>,
    now: Timestamp,
) -> String {
    if let Some(next) = agent.and_then(|agent| picture.next_of(agent, now)) {
        return next_words(next);
    }
    match decision.map(|last| last.decided.record.next.action) {
        Some(NextKind::None) => "nothing: it stays as it is until somebody acts".to_owned(),
        Some(_) | None => String::new(),
    }
}

fn restarts(picture: &Picture, node: &TreeNode, now: Timestamp) -> String {
    let child = picture.child(node.name.as_str());
    let limit = child.and_then(|child| child.limit());
    let (Some(child), Some((most, window))) = (child, limit) else {
        return format!("{} so far", node.restarts);
    };
    let within = child.restarts_in(window, now);
    let length = span(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    format!("{} so far, {within} of {most} in the last {length}", node.restarts)
}

/// The word of a wire type.
fn word_of(word: &impl serde::Serialize) -> String {
    match serde_json::to_value(word) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
