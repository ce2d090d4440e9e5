//! The envelope of every event: structured CloudEvents 1.0 JSON.
//!
//! Extension attributes are lower-case scalars; those that are unknown are left out, never empty.
//! Unknown attributes are ignored on reading.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::fact::{Category, Severity};
use crate::protocol::id::{EventId, Generation, SubjectId};

/// Value of the header `Content-Type` of every event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Value of `specversion`.
pub const SPEC_VERSION: &str = "1.0";

/// One event as it stands on the wire.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Envelope {
    /// Always [`SPEC_VERSION`].
    pub specversion: String,
    /// Identity, also the `Nats-Msg-Id`.
    pub id: EventId,
    /// `provost://<node>/<kind>/<name>`.
    pub source: String,
    /// Type with version, for example `provost.supervision.failure.v1`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it is about: an agent's id or a child's name.
    pub subject: SubjectId,
    /// When it happened.
    pub time: Timestamp,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is about.
    pub category: Category,
    /// Kind of coordination, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coordinationtype: Option<String>,
    /// User on whose behalf, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub userid: Option<String>,
    /// Session, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessionid: Option<String>,
    /// Request, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requestid: Option<String>,
    /// Environment, where configured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub environment: Option<String>,
    /// Region, where configured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    /// Id of the first event of the chain this one belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub correlationid: Option<EventId>,
    /// Id of what caused this one: an event, or a task's submission.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub causationid: Option<SubjectId>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
    /// Run of the child that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<Generation>,
    /// The fact, as its type says.
    pub data: serde_json::Value,
}
