//! Agents as people see them: a row of a table, or a block of lines.

use jiff::Timestamp;

use crate::cli::colors::{STRONG, of_circuit, of_state};
use crate::cli::human::{age, one_line, span};
use crate::cli::output::{Cell, Table};
use crate::protocol::decision::{NextAction, NextKind};
use crate::protocol::status::{
    AgentStatus, CircuitStatus, Containment, HealthStatus, HealthView, LimitHold,
};

/// Headers of the table of agents.
const HEADERS: [&str; 10] =
    ["NAME", "TYPE", "STATE", "PID", "RUN", "RESTARTS", "AGE", "CIRCUIT", "NEXT", "REASON"];

/// Agents as a table.
pub(crate) fn table(agents: Vec<&AgentStatus>, now: Timestamp) -> Vec<String> {
    let mut table = Table::new(&HEADERS);
    for agent in agents {
        table.row(row(agent, now));
    }
    table.lines()
}

fn row(agent: &AgentStatus, now: Timestamp) -> Vec<Cell> {
    vec![
        agent.name.as_str().into(),
        agent.agent_type.as_str().into(),
        Cell::styled(agent.state.as_str(), of_state(agent.state)),
        agent.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
        agent.generation.to_string().into(),
        agent.restarts.to_string().into(),
        age(now, agent.since).into(),
        Cell::styled(agent.circuit.state.as_str(), of_circuit(agent.circuit.state)),
        agent.next.map(next).unwrap_or_default().into(),
        agent.reason.as_str().into(),
    ]
}

/// One agent as a block: a headline, then what is known, one thing a line.
pub(crate) fn detail(agent: &AgentStatus, now: Timestamp) -> Vec<String> {
    let color = of_state(agent.state);
    let pid = agent.pid.map(|pid| format!("pid {pid}, ")).unwrap_or_default();
    let mut lines = vec![format!(
        "{STRONG}{}{STRONG:#}  {color}{}{color:#} for {} ({pid}run {})",
        agent.name,
        agent.state,
        age(now, agent.since),
        agent.generation,
    )];
    let mut line = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {label:<9} {}", one_line(&text)));
        }
    };
    line("reason", agent.reason.clone());
    line("next", agent.next.map(next).unwrap_or_default());
    line("restarts", agent.restarts.to_string());
    line("circuit", circuit(agent.circuit));
    line("health", health(&agent.health));
    line("held by", agent.containment.map(held_by).unwrap_or_default().to_owned());
    line("limits", limits(agent));
    line("type", agent.agent_type.to_string());
    line("id", agent.agent_id.to_string());
    line("node", agent.node.to_string());
    let labels: Vec<String> =
        agent.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    line("labels", labels.join(" "));
    lines
}

/// What happens next, and when: `restart in 3s`.
pub(crate) fn next(next: NextAction) -> String {
    let what = match next.action {
        NextKind::Restart => "restart",
        NextKind::RestartGroup => "group restart",
        NextKind::Trial => "trial",
        NextKind::Stable => "stable",
        NextKind::Escalate => "escalation",
        NextKind::StopTree => "stop of the tree",
        NextKind::Stop => "stop",
        NextKind::Assign => "assignment",
        NextKind::Wait => "wait",
        NextKind::None => return String::new(),
    };
    if next.in_ms == 0 { format!("{what} now") } else { format!("{what} in {}", span(next.in_ms)) }
}

/// The limits that are set, and who holds them.
pub(crate) fn limits(agent: &AgentStatus) -> String {
    let limits: Vec<String> =
        agent.limits.iter().map(|(name, hold)| format!("{name} {}", by(*hold))).collect();
    limits.join(", ")
}

/// What holds an agent's processes together.
pub(crate) fn held_by(containment: Containment) -> &'static str {
    match containment {
        Containment::Cgroup => "a cgroup of its own",
        Containment::Subreaper => "the keeper as subreaper",
        Containment::Group => "its process group",
    }
}

fn by(hold: LimitHold) -> &'static str {
    match hold {
        LimitHold::Kernel => "by the kernel",
        LimitHold::Sampled => "sampled",
        LimitHold::Timer => "by a timer",
        LimitHold::Nobody => "NOT HELD: no delegated cgroup with its controller",
    }
}

fn circuit(circuit: CircuitStatus) -> String {
    match circuit.retry_after_ms {
        Some(after) => format!("{}, next trial in {}", circuit.state, span(after)),
        None => circuit.state.to_string(),
    }
}

/// The verdict, and what was measured.
pub(crate) fn health(health: &HealthView) -> String {
    let word = health_word(health.status);
    let metrics = &health.metrics;
    let known = [
        metrics.cpu_usage.map(|cores| format!("cpu {cores:.2} cores")),
        metrics.memory_mb.map(|size| format!("memory {size:.0} MiB")),
        metrics.open_files.map(|count| format!("{count} open files")),
        metrics.response_time_ms.map(|time| format!("answers in {time:.0} ms")),
        metrics.error_rate.map(|rate| format!("{:.1} % errors", rate * 100.0)),
        metrics.throughput.map(|rate| format!("{rate:.1} per second")),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    if known.is_empty() { word.to_owned() } else { format!("{word}, {}", known.join(", ")) }
}

/// The word for a verdict.
pub(crate) fn health_word(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Healthy => "healthy",
        HealthStatus::Degraded => "degraded",
        HealthStatus::Unhealthy => "unhealthy",
        HealthStatus::Unknown => "unknown",
    }
}
