//! Raw structs of what stands around the calls of a downstream: rate, waiting, fallback, health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// Calls that may pass within a time.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RateLimit")]
pub(crate) struct RawRateLimit {
    /// Calls allowed within the period; no limit when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) calls: Option<u32>,
    /// Time within which they are allowed, spread evenly.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) period: Span,
    /// Calls that may come at once; as many as `calls` when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) burst: Option<u32>,
}

impl Default for RawRateLimit {
    fn default() -> Self {
        Self { calls: None, period: Span::secs(1), burst: None }
    }
}

/// What answers when the downstream does not.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Fallback")]
pub(crate) struct RawFallback {
    /// How old the last good answer to the same request may be; none is kept when absent.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) cache: Option<Span>,
    /// Another downstream that takes the same calls.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) downstream: Option<String>,
    /// An answer to every request, as JSON.
    #[schemars(length(min = 1, max = 65536))]
    pub(crate) answer: Option<String>,
}

/// How a downstream is looked after.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "HealthCheck")]
pub(crate) struct RawHealthCheck {
    /// Time between two checks; that of supervision when absent.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "24h"))]
    pub(crate) interval: Option<Span>,
    /// Longest time for one check.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub(crate) timeout: Span,
    /// Failed checks in a row that end the session; that of supervision when absent.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) failure_threshold: Option<u32>,
}

impl Default for RawHealthCheck {
    fn default() -> Self {
        Self { interval: None, timeout: Span::secs(3), failure_threshold: None }
    }
}
