//! Requests to cancel a task: `coordination.cancel.<task_id>`.

use async_nats::Message;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::protocol::command::{CommandError, ErrorKind, GRACE_MS_MAX};
use crate::protocol::id::TaskId;
use crate::protocol::subject::Subject;
use crate::protocol::task::CancelRequest;
use crate::transport::slot::ConnectionSlot;

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// Pause before a broken subscription is made anew.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// One request, understood.
#[derive(Debug)]
pub struct Asked {
    /// The task.
    pub id: TaskId,
    /// What is asked.
    pub request: CancelRequest,
    /// Where the answer goes.
    pub reply: Option<String>,
}

/// Hands requests on for ever; what is no request is answered here.
pub async fn listen(slot: ConnectionSlot, to: mpsc::Sender<Asked>) {
    loop {
        let connection = slot.connection().await;
        let pattern = connection.prefix().apply("coordination.cancel.*");
        let mut requests = match connection.subscribe_confirmed(&pattern).await {
            Ok(requests) => requests,
            Err(error) => {
                tracing::warn!(%error, "cancellations cannot be heard; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let mut open = true;
        while open {
            let message = tokio::select! {
                // A request that is not taken stays in the subscription.
                message = requests.next() => message,
                () = slot.replaced(&connection) => None,
            };
            let Some(message) = message else { break };
            let reply = message.reply.as_ref().map(ToString::to_string);
            let subject = connection.prefix().strip(message.subject.as_str()).unwrap_or_default();
            match read(subject, &message) {
                Ok((id, request)) => {
                    // Who does not receive any more has ended, and ends this.
                    open = to.send(Asked { id, request, reply }).await.is_ok();
                }
                Err(error) => answer(&slot, reply.as_deref(), &refused(&error)).await,
            }
        }
    }
}

fn read(subject: &str, message: &Message) -> Result<(TaskId, CancelRequest), CommandError> {
    let invalid =
        |said: String, hint: &str| CommandError::new(ErrorKind::InvalidRequest, said, hint);
    let id = match Subject::parse(subject) {
        Some(Subject::TaskCancel(id)) => id.as_str().parse().ok(),
        _ => None,
    };
    let Some(id) = id else {
        let said = format!("{subject:?} ends in no id of a task");
        return Err(invalid(said, "ask on coordination.cancel.<task_id>"));
    };
    if message.payload.is_empty() {
        return Ok((id, CancelRequest::default()));
    }
    let request: CancelRequest = serde_json::from_slice(&message.payload).map_err(|error| {
        let hint = r#"send nothing, or {"grace_ms":10000,"reason":"…"}"#;
        invalid(format!("request cannot be read: {error}"), hint)
    })?;
    if let Some(grace_ms) = request.grace_ms.filter(|grace_ms| GRACE_MS_MAX < *grace_ms) {
        let said = format!("grace_ms is {grace_ms}; at most {GRACE_MS_MAX} are allowed");
        return Err(invalid(said, "give a shorter grace"));
    }
    let reason = request.reason.as_deref().unwrap_or_default();
    if REASON_BYTES_MAX < reason.len() {
        let said = format!("reason is {} bytes long; at most {REASON_BYTES_MAX}", reason.len());
        return Err(invalid(said, "give a shorter reason"));
    }
    Ok((id, request))
}

/// A refusal as it is sent.
#[must_use]
pub fn refused(error: &CommandError) -> Value {
    json!({ "ok": false, "error": error })
}

/// Sends an answer to whoever waits for one.
pub async fn answer(slot: &ConnectionSlot, reply: Option<&str>, answer: &Value) {
    let (Some(reply), Some(connection)) = (reply, slot.current()) else { return };
    if let Err(error) = connection.publish(reply, None, answer.to_string().into()).await {
        tracing::warn!(%error, "an answer was not sent");
    }
}
