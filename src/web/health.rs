//! Liveness, readiness and health.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::logic::overall::{Grounds, Overall, Part, overall};
use crate::protocol::command::{Answer, ControlCommand, EmptyRequest, SystemMode, SystemStatus};
use crate::protocol::downstream::ServiceHealth;
use crate::protocol::status::AgentState;
use crate::web::server::Shared;

/// Longest wait for the supervision thread.
const ANSWER_MAX: Duration = Duration::from_secs(2);

pub(crate) async fn livez(State(shared): State<Shared>) -> Response {
    match status(&shared).await {
        Some(_) => Json(json!({"status": "alive"})).into_response(),
        None => not(StatusCode::SERVICE_UNAVAILABLE, "the supervision thread does not answer"),
    }
}

pub(crate) async fn readyz(State(shared): State<Shared>) -> Response {
    let Some(system) = status(&shared).await else {
        return not(StatusCode::SERVICE_UNAVAILABLE, "the supervision thread does not answer");
    };
    if system.nats.state != "connected" {
        let reason = format!("NATS is {}", system.nats.state);
        return not(StatusCode::SERVICE_UNAVAILABLE, &reason);
    }
    match system.mode {
        SystemMode::Running | SystemMode::Paused => {
            Json(json!({"status": "ready"})).into_response()
        }
        SystemMode::Draining => not(StatusCode::SERVICE_UNAVAILABLE, "the daemon drains"),
        SystemMode::Stopping => not(StatusCode::SERVICE_UNAVAILABLE, "the daemon stops"),
    }
}

pub(crate) async fn health(State(shared): State<Shared>) -> Response {
    let Some(system) = status(&shared).await else {
        return not(StatusCode::SERVICE_UNAVAILABLE, "the supervision thread does not answer");
    };
    let services = checked(&shared).await;
    let agents = states(&system);
    let works = |works: bool| if works { Part::Works } else { Part::Fails };
    let grounds = Grounds {
        nats: works(system.nats.state == "connected"),
        spool: works(!system.outbox.memory_only),
        agents: &agents,
        services: &services,
    };
    let (status, reasons) = overall(&grounds);
    let code = match status {
        Overall::Healthy | Overall::Degraded => StatusCode::OK,
        Overall::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({
        "status": status, "reasons": reasons, "agents": system.agents,
        "timestamp": shared.sources.clock.now(),
    });
    (code, Json(body)).into_response()
}

pub(crate) async fn health_all(State(shared): State<Shared>) -> Response {
    let services = checked(&shared).await;
    Json(json!({"services": services, "timestamp": shared.sources.clock.now()})).into_response()
}

async fn checked(shared: &Shared) -> Vec<ServiceHealth> {
    match &shared.sources.checks {
        Some(checks) => checks.check_all().await,
        None => Vec::new(),
    }
}

/// The daemon's own status; `None` when the supervision thread does not answer in time.
async fn status(shared: &Shared) -> Option<SystemStatus> {
    let asked = shared.sources.handler.control(ControlCommand::Status(EmptyRequest {}));
    let Answer { system, .. } = tokio::time::timeout(ANSWER_MAX, asked).await.ok()?;
    system.map(|system| *system)
}

/// Sets the gauges of what is looked at only when somebody asks: agents by state, tasks, NATS.
pub(crate) async fn count_agents(shared: &Shared) {
    let Some(system) = status(shared).await else { return };
    crate::metrics::looked(&system.nats, &system.tasks);
    for state in AgentState::ALL {
        let count = system.agents.get(state.as_str()).copied().unwrap_or(0);
        crate::metrics::agents(state.as_str(), u32::try_from(count).unwrap_or(u32::MAX));
    }
}

fn states(system: &SystemStatus) -> Vec<AgentState> {
    let named = |name: &str| AgentState::ALL.into_iter().find(|state| state.as_str() == name);
    let counted = system.agents.iter().filter_map(|(name, count)| {
        Some((named(name)?, usize::try_from(*count).unwrap_or(usize::MAX)))
    });
    counted.flat_map(|(state, count)| std::iter::repeat_n(state, count)).collect()
}

fn not(code: StatusCode, reason: &str) -> Response {
    (code, Json(json!({"status": "unavailable", "reason": reason}))).into_response()
}
