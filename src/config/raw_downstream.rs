//! Raw structs of downstreams.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::raw_policies::{RawFallback, RawHealthCheck, RawRateLimit};
use crate::config::units::{Secret, Span};

/// How a downstream is spoken to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DownstreamKind {
    /// HTTP.
    Http,
    /// JSON-RPC 2.0 over HTTP.
    JsonRpc,
    /// MQTT.
    Mqtt,
    /// Redis.
    Redis,
    /// NATS.
    Nats,
    /// WebSocket.
    Websocket,
}

/// A service that agents call.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Downstream")]
pub(crate) struct RawDownstream {
    /// How it is spoken to.
    #[serde(rename = "type")]
    #[schemars(extend("x-required" = true))]
    pub(crate) kind: Option<DownstreamKind>,
    /// Where it is.
    pub(crate) endpoint: RawEndpoint,
    /// How to show who we are.
    pub(crate) auth: RawAuth,
    /// What is done about its faults.
    pub(crate) resilience: RawResilience,
    /// How it is looked after.
    pub(crate) health: RawHealthCheck,
    /// Settings of some kinds.
    pub(crate) config: RawAdapter,
}

/// Where a downstream is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Endpoint")]
pub(crate) struct RawEndpoint {
    /// URL or host.
    #[schemars(length(min = 1, max = 2048), extend("x-required" = true))]
    pub(crate) address: Option<String>,
    /// Port, if the address names none.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) port: Option<u16>,
    /// Path of calls; it begins with a slash.
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) path: Option<String>,
    /// Whether to use TLS where the address does not say.
    pub(crate) tls: Option<bool>,
    /// Authorities that are trusted instead of the system's, as a PEM file.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) ca: Option<String>,
    /// Path of the health check, for HTTP; "/health" when absent.
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) health_path: Option<String>,
}

/// Kinds of credentials of a downstream.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawAuthKind {
    /// None.
    #[default]
    None,
    /// User name and password.
    Basic,
    /// A token.
    Bearer,
    /// A certificate and its key.
    ClientCertificate,
    /// A NATS credentials file.
    Nats,
}

/// Credentials of a downstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Auth")]
pub(crate) struct RawAuth {
    /// Kind of credentials.
    #[serde(rename = "type")]
    pub(crate) kind: RawAuthKind,
    /// User name, for basic.
    #[schemars(length(min = 1, max = 255))]
    pub(crate) username: Option<String>,
    /// Password, for basic.
    pub(crate) password: Option<Secret>,
    /// Token, for bearer.
    pub(crate) token: Option<Secret>,
    /// Certificate, for `client_certificate`, as a PEM file.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) cert: Option<String>,
    /// Key of the certificate, as a PEM file.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) key: Option<String>,
    /// Credentials file, for nats.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) creds: Option<String>,
}

/// What is done about a downstream's faults.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Resilience")]
pub(crate) struct RawResilience {
    /// Longest time for one attempt.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub(crate) timeout: Span,
    /// Calls under way at a time.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_concurrent: u32,
    /// Calls that may wait for their turn while so many are under way.
    #[schemars(range(min = 0, max = 100_000))]
    pub(crate) max_waiting: u32,
    /// Longest time that they wait; with 0s none waits.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub(crate) max_wait: Span,
    /// A second attempt of a harmless call begins when the first has taken as long; never when
    /// absent.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub(crate) hedge_after: Option<Span>,
    /// Repetition of failed calls.
    pub(crate) retry: RawRetry,
    /// Circuit breaker.
    pub(crate) circuit_breaker: RawBreaker,
    /// Calls that may pass within a time.
    pub(crate) rate_limit: RawRateLimit,
    /// What answers when the downstream does not.
    pub(crate) fallback: RawFallback,
}

impl Default for RawResilience {
    fn default() -> Self {
        Self {
            timeout: Span::secs(5),
            max_concurrent: 100,
            max_waiting: 100,
            max_wait: Span(Duration::ZERO),
            hedge_after: None,
            retry: RawRetry::default(),
            circuit_breaker: RawBreaker::default(),
            rate_limit: RawRateLimit::default(),
            fallback: RawFallback::default(),
        }
    }
}

/// Repetition of failed calls.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(crate) struct RawRetry {
    /// Attempts in all; 1 for no repetition.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) max_attempts: u32,
    /// First delay.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub(crate) initial: Span,
    /// Growth from one delay to the next.
    #[schemars(range(min = 1.0, max = 10.0))]
    pub(crate) multiplier: f64,
    /// Longest delay.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub(crate) max: Span,
    /// Methods that do the same twice as once, and so may be repeated when nobody knows whether
    /// they were done; for `json_rpc` and `websocket`. HTTP's own methods say it themselves.
    #[schemars(inner(length(min = 1, max = 255)), length(max = 1000))]
    pub(crate) idempotent_methods: Vec<String>,
}

impl Default for RawRetry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial: Span::millis(100),
            multiplier: 2.0,
            max: Span::secs(30),
            idempotent_methods: Vec::new(),
        }
    }
}

/// What a circuit breaker does with its judgement.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawBreakerMode {
    /// It opens.
    #[default]
    Armed,
    /// It only counts how often it would have opened.
    MetricsOnly,
    /// It does nothing.
    Disabled,
}

/// Circuit breaker of a downstream.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CircuitBreaker")]
pub(crate) struct RawBreaker {
    /// What is done with its judgement: open, count only, nothing.
    pub(crate) mode: RawBreakerMode,
    /// Failures in a row that open it; 0 for never.
    #[schemars(range(min = 0, max = 100_000))]
    pub(crate) failure_threshold: u32,
    /// Share of failures that opens it, in percent; 0 for never.
    #[schemars(range(min = 0, max = 100))]
    pub(crate) error_percent: u8,
    /// Share of slow calls that opens it, in percent; never when absent.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) slow_percent: Option<u8>,
    /// A call that takes as long is slow; needed with `slow_percent`.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub(crate) slow_call_duration: Option<Span>,
    /// Calls within the window below which a share does not count.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) request_volume: u32,
    /// Length of the window that a share is taken over.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "24h"))]
    pub(crate) window: Span,
    /// The last so many calls as the window, in the place of `window`.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) window_calls: Option<u32>,
    /// How long it stays open before it lets a probe through.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) open_for: Span,
    /// Longest open time; 1m, or `open_for` if that is longer, when absent.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) open_max: Option<Span>,
    /// Growth of the open time with each failed trial.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub(crate) open_factor: f64,
    /// Share of the open time that chance may take off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) jitter: f64,
    /// Probes under way at a time.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) half_open_probes: u32,
    /// Successful probes that close it.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) success_threshold: u32,
    /// Probes under way for longer have failed; twice the `timeout`, at least 5s, when absent.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub(crate) half_open_timeout: Option<Span>,
}

impl Default for RawBreaker {
    fn default() -> Self {
        Self {
            mode: RawBreakerMode::Armed,
            failure_threshold: 5,
            error_percent: 50,
            slow_percent: None,
            slow_call_duration: None,
            request_volume: 20,
            window: Span::secs(10),
            window_calls: None,
            open_for: Span::secs(5),
            open_max: None,
            open_factor: 2.0,
            jitter: 0.1,
            half_open_probes: 3,
            success_threshold: 2,
            half_open_timeout: None,
        }
    }
}

/// Settings of some kinds.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "AdapterConfig")]
pub(crate) struct RawAdapter {
    /// Client id, for mqtt; made from node and name when absent.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) client_id: Option<String>,
    /// Time between signs of life, for mqtt and websocket.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "18h"))]
    pub(crate) keep_alive: Span,
}

impl Default for RawAdapter {
    fn default() -> Self {
        Self { client_id: None, keep_alive: Span::secs(30) }
    }
}
