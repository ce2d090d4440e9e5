//! Checked types of downstreams.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

pub use crate::config::raw_downstream::DownstreamKind;

use crate::config::nats::ServerUrl;
use crate::config::units::Secret;
use crate::logic::breaker::BreakerConfig;
use crate::protocol::id::ChildName;

/// A service that agents call.
#[derive(Clone, Debug, PartialEq)]
pub struct Downstream {
    /// How it is spoken to.
    pub kind: DownstreamKind,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How to show who we are.
    pub auth: DownstreamAuth,
    /// What is done about its faults.
    pub resilience: Resilience,
    /// How it is looked after.
    pub health: HealthCheck,
    /// Client id, for MQTT.
    pub client_id: Option<String>,
    /// Time between signs of life.
    pub keep_alive: Duration,
    /// Where it is declared, as `file:line`.
    pub origin: Option<String>,
}

/// Where a downstream is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// URL or host; shown without credentials.
    pub address: ServerUrl,
    /// Port, if the address names none.
    pub port: Option<u16>,
    /// Path of calls; begins with a slash.
    pub path: Option<String>,
    /// Whether to use TLS where the address does not say.
    pub tls: Option<bool>,
    /// PEM file of authorities that are trusted instead of the system's, absolute.
    pub ca: Option<PathBuf>,
    /// Path of the health check; begins with a slash. `/health` for HTTP when absent.
    pub health_path: Option<String>,
}

/// How to show a downstream who we are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DownstreamAuth {
    /// Not at all.
    None,
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
    /// A certificate and its key, as absolute paths of PEM files.
    ClientCertificate {
        /// Certificate.
        cert: PathBuf,
        /// Key.
        key: PathBuf,
    },
    /// A NATS credentials file, absolute.
    Nats(PathBuf),
}

/// What is done about a downstream's faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Resilience {
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// Calls under way at a time; at least 1.
    pub max_concurrent: usize,
    /// Calls that may wait for their turn.
    pub max_waiting: usize,
    /// Longest time that they wait; zero for none that waits.
    pub max_wait: Duration,
    /// When a second attempt of a harmless call begins.
    pub hedge_after: Option<Duration>,
    /// Repetition.
    pub retry: Retry,
    /// Circuit breaker.
    pub breaker: BreakerConfig,
    /// Calls that may pass within a time.
    pub rate_limit: Option<RateLimit>,
    /// What answers when the downstream does not.
    pub fallback: Fallback,
}

/// Repetition of failed calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts in all; at least 1.
    pub max_attempts: u32,
    /// First delay.
    pub initial: Duration,
    /// Growth; at least 1.
    pub multiplier: f64,
    /// Longest delay; at least `initial`.
    pub max: Duration,
    /// Methods that do the same twice as once.
    pub idempotent_methods: BTreeSet<String>,
}

/// Calls that may pass within a time, spread evenly.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateLimit {
    /// Time from one call to the next; above zero.
    pub every: Duration,
    /// Calls that may come at once.
    pub burst: NonZeroU32,
}

/// What answers when a downstream does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fallback {
    /// How old the last good answer may be; `None` keeps none.
    pub cache: Option<Duration>,
    /// Another downstream that takes the same calls; it exists and is not this one.
    pub downstream: Option<ChildName>,
    /// An answer to every request.
    pub answer: Option<Value>,
}

/// How a downstream is looked after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HealthCheck {
    /// Time between two checks; `None` for that of supervision.
    pub interval: Option<Duration>,
    /// Longest time for one check.
    pub timeout: Duration,
    /// Failed checks in a row that end the session; `None` for that of supervision.
    pub failure_threshold: Option<u32>,
}
