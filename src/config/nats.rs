//! Checked types of the connection to NATS and of its streams.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::config::raw_nats::{Durability, Profile, Storage};

use crate::config::units::{Secret, without_credentials};

/// The connection to NATS and its streams.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Nats {
    /// Whom to connect to.
    pub target: NatsTarget,
    /// How to show who we are; credentials in an address count when this is `None`.
    pub auth: NatsAuth,
    /// TLS.
    pub tls: NatsTls,
    /// Attempts to reconnect before giving up; without limit when `None`.
    pub max_reconnect: Option<usize>,
    /// First delay between two attempts.
    pub reconnect_wait: Duration,
    /// Longest time for connecting and for one request.
    pub timeout: Duration,
    /// Time between pings.
    pub ping_interval: Duration,
    /// Unanswered pings before the server counts as dead; at least 1.
    pub max_pings_out: u32,
    /// Prefix of reply subjects instead of `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// Where JetStream's API is.
    pub jetstream: JetStreamApi,
    /// Program of the embedded server, if it is not to be looked for. A bare name is looked for
    /// on `PATH`; anything else is absolute.
    pub server: Option<PathBuf>,
    /// How often the embedded server writes its store to disk.
    pub durability: Durability,
    /// Defaults of the streams.
    pub profile: Profile,
    /// What differs from those defaults, and further streams.
    pub streams: BTreeMap<String, StreamSettings>,
}

/// Whom to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NatsTarget {
    /// A server of our own.
    Embedded,
    /// These servers, at least one.
    Servers(Vec<ServerUrl>),
}

/// Address of a server; shown without the credentials that may stand in it.
#[derive(Clone, Eq, PartialEq)]
pub struct ServerUrl(pub(crate) String);

impl ServerUrl {
    /// The address as written, credentials included.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_credentials(&self.0))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", without_credentials(&self.0))
    }
}

/// How to show who we are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NatsAuth {
    /// Not at all.
    #[default]
    None,
    /// User and password.
    UserPassword {
        /// User.
        user: String,
        /// Password.
        password: Secret,
    },
    /// Token.
    Token(Secret),
    /// Seed of an `NKey`.
    NKey(Secret),
    /// File that holds the seed of an `NKey`, absolute.
    NKeyFile(PathBuf),
    /// Credentials file, absolute.
    CredentialsFile(PathBuf),
}

/// Whether the connection must be encrypted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsUse {
    /// When the server or the address asks for it.
    #[default]
    AsServerAsks,
    /// Always.
    Required,
    /// Always, and before the server says anything.
    First,
}

/// TLS of the connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NatsTls {
    /// Authorities to trust instead of the system's, as a PEM file, absolute.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key, as PEM files, absolute.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether to insist.
    pub wanted: TlsUse,
}

/// How JetStream's API is reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum JetStreamApi {
    /// The account's own.
    #[default]
    Default,
    /// That of a domain.
    Domain(String),
    /// Under a prefix of its own.
    Prefix(String),
}

/// Settings of one stream; `None` keeps the stream's default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamSettings {
    /// Subjects; empty for provost's own streams, at least one for others.
    pub subjects: Vec<String>,
    /// Longest age of a message.
    pub max_age: Option<Duration>,
    /// Bytes kept.
    pub max_bytes: Option<u64>,
    /// Messages kept.
    pub max_messages: Option<u64>,
    /// Messages kept of each subject.
    pub max_messages_per_subject: Option<u64>,
    /// Copies in a cluster, 1 to 5.
    pub replicas: Option<u8>,
    /// How long a message's id is remembered; at most `max_age`.
    pub duplicate_window: Option<Duration>,
    /// Where it is kept.
    pub storage: Option<Storage>,
}

/// Names of provost's own streams.
pub const OWN_STREAMS: [&str; 6] =
    ["SUPERVISION", "HEALTH", "TASKS", "TASK_LOG", "REPLIES", "DEAD_LETTERS"];
