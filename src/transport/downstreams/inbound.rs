//! What arrives on a downstream's subscriptions goes to `downstream.<name>.events`, one message for
//! each, as JSON: `topic`, `payload`, and `encoding` and `id` where there are any.

use serde::Serialize;
use serde_json::Value;

use crate::ports::{BoxFuture, Inbound, InboundSink, ServiceError};
use crate::protocol::id::{ChildName, SubjectId};
use crate::protocol::subject::Subject;
use crate::transport::slot::ConnectionSlot;

/// A message as it goes out.
#[derive(Serialize)]
struct Arrived {
    topic: String,
    payload: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Publishes what arrives for one downstream.
#[derive(Clone, Debug)]
pub struct NatsInbound {
    slot: ConnectionSlot,
    name: ChildName,
}

impl NatsInbound {
    /// A sink of one downstream.
    #[must_use]
    pub fn new(slot: ConnectionSlot, name: ChildName) -> Self {
        Self { slot, name }
    }
}

impl InboundSink for NatsInbound {
    /// The message is kept when the server has it: whoever subscribes there gets it, and a stream
    /// that captures the subject keeps it.
    fn deliver(&self, message: Inbound) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            let connection = self.slot.current();
            let connection = connection
                .ok_or_else(|| ServiceError::new("NATS is not connected; it is tried again"))?;
            let Inbound { topic, payload, encoding, id } = message;
            let body = Arrived { topic, payload, encoding, id };
            let subject = Subject::DownstreamEvents(SubjectId::from(&self.name));
            let subject = subject.under(connection.prefix());
            let failed =
                |error: crate::transport::failure::CallError| ServiceError::new(error.to_string());
            let bytes = serde_json::to_vec(&body).unwrap_or_default();
            connection.publish(&subject, None, bytes.into()).await.map_err(failed)?;
            connection.round_trip().await.map_err(failed)?;
            Ok(())
        })
    }
}
