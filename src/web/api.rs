//! The documents of the command endpoints, for reading.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::protocol::command::{
    AgentCommand, AgentRequest, Answer, CommandError, ControlCommand, EmptyRequest, ErrorKind,
};
use crate::web::server::Shared;

pub(crate) async fn status(State(shared): State<Shared>) -> Response {
    document(shared.sources.handler.control(ControlCommand::Status(EmptyRequest {})).await)
}

pub(crate) async fn tree(State(shared): State<Shared>) -> Response {
    document(shared.sources.handler.control(ControlCommand::Tree(EmptyRequest {})).await)
}

pub(crate) async fn alerts(State(shared): State<Shared>) -> Response {
    document(shared.sources.handler.control(ControlCommand::Alerts(EmptyRequest {})).await)
}

pub(crate) async fn agents(State(shared): State<Shared>) -> Response {
    document(shared.sources.handler.agent_command(AgentCommand::List(EmptyRequest {})).await)
}

pub(crate) async fn agent(State(shared): State<Shared>, Path(agent): Path<String>) -> Response {
    let request = AgentRequest { agent, grace_ms: None, reason: None };
    document(shared.sources.handler.agent_command(AgentCommand::Status(request)).await)
}

pub(crate) async fn nothing_here() -> Response {
    let error = CommandError::new(
        ErrorKind::InvalidRequest,
        "there is nothing at this path",
        "see /api/v1/status, /api/v1/tree, /api/v1/agents, /api/v1/alerts, /health, /health/all, /metrics",
    );
    (StatusCode::NOT_FOUND, Json(Answer::from(error))).into_response()
}

/// An answer with the status that HTTP has for it.
fn document(answer: Answer) -> Response {
    let code = match answer.error.as_ref().map(|error| error.kind) {
        None => StatusCode::OK,
        Some(ErrorKind::InvalidRequest) => StatusCode::BAD_REQUEST,
        Some(ErrorKind::UnknownAgent | ErrorKind::UnknownAgentType) => StatusCode::NOT_FOUND,
        Some(ErrorKind::NotPermitted) => StatusCode::FORBIDDEN,
        Some(ErrorKind::AlreadyExists | ErrorKind::WrongState) => StatusCode::CONFLICT,
        Some(ErrorKind::PoolFull) => StatusCode::TOO_MANY_REQUESTS,
        Some(ErrorKind::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        Some(ErrorKind::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, Json(answer)).into_response()
}
