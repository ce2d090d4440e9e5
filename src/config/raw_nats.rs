//! Raw structs of the connection to NATS and of its streams.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{ByteSize, Secret, Span};

/// The connection to NATS. Without `url`, `urls` and `context` an embedded server is started.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Nats")]
pub(crate) struct RawNats {
    /// Server to join, or several joined by commas; an embedded one is started when absent.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) url: Option<String>,
    /// Servers to join, instead of `url`.
    #[schemars(length(min = 1, max = 100))]
    pub(crate) urls: Option<Vec<String>>,
    /// Context of the `nats` command line, which gives what is not said here.
    #[schemars(length(min = 1, max = 255))]
    pub(crate) context: Option<String>,
    /// User, with `password`.
    #[schemars(length(min = 1, max = 255))]
    pub(crate) user: Option<String>,
    /// Password of `user`.
    pub(crate) password: Option<Secret>,
    /// Token, instead of a user.
    pub(crate) token: Option<Secret>,
    /// Seed of an `NKey` (it begins with SU), or the file that holds it.
    pub(crate) nkey: Option<Secret>,
    /// Credentials file of the `nsc` tool.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) creds: Option<String>,
    /// TLS.
    pub(crate) tls: RawTls,
    /// Attempts to reconnect before the connection counts as failed; without limit when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_reconnect: Option<u32>,
    /// First delay between two attempts to reconnect; doubles up to 5s.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "5s"))]
    pub(crate) reconnect_wait: Span,
    /// Longest time for connecting and for one request.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub(crate) timeout: Span,
    /// Time between pings.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub(crate) ping_interval: Span,
    /// Unanswered pings before the server counts as dead.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) max_pings_out: u32,
    /// Prefix of reply subjects instead of `_INBOX`.
    #[schemars(length(min = 1, max = 128))]
    pub(crate) inbox_prefix: Option<String>,
    /// JetStream domain.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) jetstream_domain: Option<String>,
    /// Prefix of JetStream's API, if another account's is imported.
    #[schemars(length(min = 1, max = 128))]
    pub(crate) jetstream_api_prefix: Option<String>,
    /// Program of the embedded server; `nats-server` is looked for when absent.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) server: Option<String>,
    /// How often the embedded server writes its store to disk.
    pub(crate) durability: Durability,
    /// Defaults of the streams: development has 1 replica, production 3.
    pub(crate) profile: Profile,
    /// Streams: limits of provost's own, and further ones with subjects, by name.
    pub(crate) streams: BTreeMap<String, RawStream>,
}

impl Default for RawNats {
    fn default() -> Self {
        Self {
            url: None,
            urls: None,
            context: None,
            user: None,
            password: None,
            token: None,
            nkey: None,
            creds: None,
            tls: RawTls::default(),
            max_reconnect: None,
            reconnect_wait: Span::millis(250),
            timeout: Span::secs(5),
            ping_interval: Span::secs(5),
            max_pings_out: 2,
            inbox_prefix: None,
            jetstream_domain: None,
            jetstream_api_prefix: None,
            server: None,
            durability: Durability::Default,
            profile: Profile::Development,
            streams: BTreeMap::new(),
        }
    }
}

/// TLS of the connection to NATS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tls")]
#[expect(clippy::struct_excessive_bools, reason = "independent keys of the format")]
pub(crate) struct RawTls {
    /// Whether to insist on TLS; without it the server decides.
    pub(crate) required: bool,
    /// Whether TLS begins before the server says anything.
    pub(crate) first: bool,
    /// Authorities to trust instead of the system's, as a PEM file.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) ca: Option<String>,
    /// Client certificate, as a PEM file; with `key`.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) cert: Option<String>,
    /// Key of the client certificate, as a PEM file.
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) key: Option<String>,
}

/// How often the embedded server writes its store to disk.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Every 100 ms: a power cut may lose that much.
    #[default]
    Default,
    /// Before each acknowledgement.
    Durable,
}

/// Defaults of the streams.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// 1 replica.
    #[default]
    Development,
    /// 3 replicas.
    Production,
}

/// Where a stream is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory: gone with the server.
    Memory,
}

/// Limits of a stream; what is absent keeps the stream's own default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Stream")]
pub(crate) struct RawStream {
    /// Subjects kept; only and always for streams that are not provost's own.
    #[schemars(length(min = 1, max = 100))]
    pub(crate) subjects: Option<Vec<String>>,
    /// Longest age of a message.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "3650d"))]
    pub(crate) max_age: Option<Span>,
    /// Bytes kept.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1024TiB"))]
    pub(crate) max_bytes: Option<ByteSize>,
    /// Messages kept.
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub(crate) max_messages: Option<u64>,
    /// Messages kept of each subject.
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub(crate) max_messages_per_subject: Option<u64>,
    /// Copies in a cluster.
    #[schemars(range(min = 1, max = 5))]
    pub(crate) replicas: Option<u8>,
    /// How long a message's id is remembered, against doubles.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "24h"))]
    pub(crate) duplicate_window: Option<Span>,
    /// Where it is kept.
    pub(crate) storage: Option<Storage>,
}
