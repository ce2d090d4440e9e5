//! Raw structs of shared resources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// A shared resource.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Resource")]
pub(crate) struct RawResource {
    /// What it is: one holder at a time, so much at a time, or so much in any period.
    pub(crate) kind: RawResourceKind,
    /// How much there is; always 1 of a lock.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) capacity: u32,
    /// Period of a quota.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "30d"))]
    pub(crate) period: Span,
}

impl Default for RawResource {
    fn default() -> Self {
        Self { kind: RawResourceKind::Lock, capacity: 1, period: Span::secs(60) }
    }
}

/// Kind of a resource.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ResourceKind")]
pub(crate) enum RawResourceKind {
    /// One holder at a time.
    Lock,
    /// So much at a time.
    Pool,
    /// So much in any period.
    Quota,
}

/// What a resource is that nobody declared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Undeclared")]
pub(crate) enum RawUndeclared {
    /// A lock of that name.
    Lock,
    /// Unknown: requests are refused.
    Refuse,
}
