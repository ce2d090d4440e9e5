//! Verbs about the daemon as a whole: its status, the tree, `provost system`.

use std::time::Duration;

use crate::cli::agents::refused;
use crate::cli::colors::{STRONG, of_circuit, of_state};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::{age, one_line};
use crate::cli::ops;
use crate::cli::output::{Item, Page, value_of};
use crate::cli::session::{Session, WAIT};
use crate::protocol::command::{Answer, ControlCommand, EmptyRequest, SystemMode, SystemStatus};
use crate::protocol::id::ChildName;
use crate::protocol::reload::ConfigStatus;
use crate::protocol::spec::Strategy;
use crate::protocol::status::{CircuitState, CircuitStatus, TreeNode};

/// Wait for an answer to what may take the daemon a while.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// Shows the daemon. The exit code is about the daemon itself: agents have their own
/// (`provost status AGENT`), and a deliberately stopped one is no fault of the daemon.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn status(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let answer = session.ask_system(&ControlCommand::Status(EmptyRequest {}), WAIT).await?;
    let Some(system) = &answer.system else { return without(session, &answer, "status") };
    let text = system_lines(session, system);
    let page = Page::single(system.node.as_str(), value_of(&answer)?, text);
    page.print(&mut session.console, session.format)?;
    Ok(match system.mode {
        SystemMode::Running | SystemMode::Paused | SystemMode::Draining => Exit::Done,
        SystemMode::Stopping => Exit::Bad,
    })
}

fn system_lines(session: &Session<'_>, system: &SystemStatus) -> Vec<String> {
    let now = session.now();
    let mut lines = vec![format!(
        "{STRONG}{}{STRONG:#}  {} for {} (pid {}, provost {})",
        system.node,
        mode(system.mode),
        age(now, system.since),
        system.pid,
        one_line(&system.version),
    )];
    let mut line = |label: &str, text: String| {
        lines.push(format!("  {label:<7} {}", one_line(&text)));
    };
    let nats = &system.nats;
    let mut notes = Vec::new();
    notes.extend(nats.server_version.clone());
    if nats.embedded {
        notes.push("embedded".to_owned());
    }
    if !nats.durability.is_empty() {
        notes.push(format!("durability {}", nats.durability));
    }
    line("nats", format!("{} {} ({})", nats.state, nats.url, notes.join(", ")));
    if let Some(error) = &nats.error {
        line("", error.clone());
    }
    let count: u64 = system.agents.values().sum();
    let states: Vec<String> =
        system.agents.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    line("agents", format!("{count} of at most {}{states}", system.agents_max));
    if !system.downstreams.is_empty() {
        let named =
            |(name, circuit): (&ChildName, &CircuitStatus)| format!("{name} {}", circuit.state);
        let circuits: Vec<String> = system.downstreams.iter().map(named).collect();
        line("calls", circuits.join(", "));
    }
    let outbox = &system.outbox;
    line(
        "outbox",
        format!(
            "{} waiting of at most {}, {} acknowledged, {} dropped",
            outbox.waiting, outbox.bound_events, outbox.acknowledged, outbox.dropped
        ),
    );
    line("http", system.http.clone().unwrap_or_else(|| "off".to_owned()));
    let switch =
        |(name, on): (&String, &bool)| format!("{name} {}", if *on { "on" } else { "off" });
    let flags: Vec<String> = system.flags.iter().map(switch).collect();
    line("flags", flags.join(", "));
    line("state", system.state_dir.clone());
    if !system.subject_prefix.is_empty() {
        line("prefix", system.subject_prefix.clone());
    }
    if let Some(config) = &system.config {
        line("config", config_line(config));
        for fault in &config.faults {
            line("", fault.clone());
        }
    }
    lines
}

/// How the files on disk stand to what runs.
fn config_line(config: &ConfigStatus) -> String {
    let files = config.files.join(", ");
    let refused = config.refused.as_ref();
    match (config.faults.len(), config.changes) {
        (0, 0) if refused.is_some() => format!("{files}; the last reload was refused"),
        (0, 0) => files,
        (0, changes) => {
            let held = match config.held {
                0 => String::new(),
                held => format!(", {held} of them for a restart of the daemon"),
            };
            format!("configuration on disk differs ({changes} changes{held}): provost plan")
        }
        (faults, _) => format!("configuration on disk has {faults} faults; what runs stays:"),
    }
}

fn mode(mode: SystemMode) -> &'static str {
    match mode {
        SystemMode::Running => "running",
        SystemMode::Paused => "paused",
        SystemMode::Draining => "draining",
        SystemMode::Stopping => "stopping",
    }
}

/// An answer that lacks what was asked for: a refusal, or nonsense.
pub(crate) fn without(
    session: &mut Session<'_>,
    answer: &Answer,
    what: &str,
) -> Result<Exit, Failure> {
    match &answer.error {
        Some(error) => refused(session, answer, error.into()),
        None => {
            let message = format!("the daemon's answer holds no {what}");
            let next = "check that daemon and command line have the same version";
            Err(Failure::new(Fault::BadAnswer, message, next))
        }
    }
}

/// Acts on the daemon as a whole.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn control(
    session: &mut Session<'_>,
    command: &ControlCommand,
) -> Result<Exit, Failure> {
    let answer = session.ask_system(command, LONG_WAIT).await?;
    if answer.error.is_some() {
        return without(session, &answer, "result");
    }
    if let Some(plan) = &answer.plan {
        return ops::reloaded(session, &answer, plan);
    }
    let text = match &answer.system {
        Some(system) => system_lines(session, system),
        None => vec!["done".to_owned()],
    };
    let page = Page::single("done", value_of(&answer)?, text);
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

/// Shows the tree.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn tree(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let answer = session.ask_system(&ControlCommand::Tree(EmptyRequest {}), WAIT).await?;
    if answer.tree.is_none() {
        return without(session, &answer, "tree");
    }
    tree_page(&answer)?.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}

/// The tree of an answer.
///
/// # Errors
///
/// It cannot be shown as JSON.
pub(crate) fn tree_page(answer: &Answer) -> Result<Page, Failure> {
    let mut page = Page { document: value_of(answer)?, ..Page::default() };
    if let Some(root) = &answer.tree {
        page.text.push(node_line(root));
        add_item(root, &mut page.items)?;
        add_children(root, "", &mut page.text);
    }
    Ok(page)
}

/// Each node becomes an item of its own, without its children.
fn add_item(node: &TreeNode, items: &mut Vec<Item>) -> Result<(), Failure> {
    let alone = TreeNode { children: Vec::new(), ..node.clone() };
    items.push(Item { name: node.name.to_string(), value: value_of(&alone)? });
    node.children.iter().try_for_each(|child| add_item(child, items))
}

fn add_children(node: &TreeNode, indent: &str, lines: &mut Vec<String>) {
    let last = node.children.len().saturating_sub(1);
    for (index, child) in node.children.iter().enumerate() {
        let (branch, below) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{indent}{branch}{}", node_line(child)));
        add_children(child, &format!("{indent}{below}"), lines);
    }
}

fn node_line(node: &TreeNode) -> String {
    let color = of_state(node.state);
    let mut line = format!("{}  {color}{}{color:#}", node.name, node.state);
    let mut note = |text: String| {
        line.push_str("  ");
        line.push_str(&text);
    };
    if let Some(strategy) = node.strategy {
        note(strategy_word(strategy).to_owned());
    }
    if let Some(limit) = node.limit {
        note(format!("at most {} restarts in {:?}", limit.intensity, limit.period));
    }
    if let Some(pid) = node.pid {
        note(format!("pid {pid}"));
    }
    if 0 < node.restarts {
        note(match node.restarts {
            1 => "1 restart".to_owned(),
            restarts => format!("{restarts} restarts"),
        });
    }
    if node.circuit.state != CircuitState::Closed {
        let color = of_circuit(node.circuit.state);
        note(format!("{color}circuit {}{color:#}", node.circuit.state));
    }
    if !node.reason.is_empty() {
        note(one_line(&node.reason));
    }
    line
}

fn strategy_word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
        Strategy::SimpleOneForOne => "simple_one_for_one",
    }
}
