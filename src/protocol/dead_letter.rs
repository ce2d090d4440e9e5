//! A dead letter: what could not be done, why, and after how many attempts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Type of the event that a dead letter is.
pub const EVENT_TYPE: &str = "provost.dead_letter.v1";

/// `data` of `dead_letter`. Unknown fields are ignored, absent ones are as far as possible made up
/// for: dead letters of all kinds can be read.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DeadLetter {
    /// What it was.
    pub original: Original,
    /// Why it is here.
    #[serde(default)]
    pub error: DeadCause,
    /// Attempts that failed.
    #[serde(default)]
    pub retry_count: u32,
}

/// What a dead letter was.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Original {
    /// Subject that it was sent to, without prefix.
    pub subject: String,
    /// Its identity.
    pub id: String,
    /// Its body, if that is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Its body as text, maybe cut, if it is no JSON or too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Length of the body in bytes.
    pub bytes: u64,
    /// Headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Why something is a dead letter.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct DeadCause {
    /// A word for programs.
    pub code: String,
    /// The error for people.
    pub message: String,
}

impl Original {
    /// The body as it was sent; `None` when it was cut.
    #[must_use]
    pub fn payload(&self) -> Option<Vec<u8>> {
        if let Some(body) = &self.body {
            return serde_json::to_vec(body).ok();
        }
        let text = self.text.as_deref()?;
        let whole = u64::try_from(text.len()).is_ok_and(|bytes| bytes == self.bytes);
        whole.then(|| text.as_bytes().to_vec())
    }
}
