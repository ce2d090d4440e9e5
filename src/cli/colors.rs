//! Which colour says what. A colour never says anything alone: the word stands there too.

use clap::builder::styling::{AnsiColor, Style};

use crate::protocol::fact::Severity;
use crate::protocol::status::{AgentState, CircuitState};

/// What matters most in a line.
pub(crate) const STRONG: Style = Style::new().bold();

/// What matters least.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Colour of a state.
pub(crate) fn of_state(state: AgentState) -> Style {
    match state {
        AgentState::Running => AnsiColor::Green.on_default(),
        AgentState::Created | AgentState::Starting | AgentState::Stopping => {
            AnsiColor::Cyan.on_default()
        }
        AgentState::Degraded | AgentState::Backoff | AgentState::Probation | AgentState::Parked => {
            AnsiColor::Yellow.on_default()
        }
        AgentState::Quarantined => AnsiColor::Red.on_default(),
        AgentState::Stopped | AgentState::Terminated => FAINT,
    }
}

/// Colour of a circuit.
pub(crate) fn of_circuit(state: CircuitState) -> Style {
    match state {
        CircuitState::Closed => Style::new(),
        CircuitState::HalfOpen | CircuitState::ForcedClosed => AnsiColor::Yellow.on_default(),
        CircuitState::Open | CircuitState::ForcedOpen => AnsiColor::Red.on_default(),
    }
}

/// Colour of a severity.
pub(crate) fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Info | Severity::Low => Style::new(),
        Severity::Medium => AnsiColor::Yellow.on_default(),
        Severity::High => AnsiColor::Red.on_default(),
        Severity::Critical => AnsiColor::Red.on_default().bold(),
    }
}
