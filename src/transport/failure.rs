//! What can go wrong with a connection, in words that say what to do.
//!
//! Data only; who decides which of these it is: `dial` for connecting, `connect` for calls.

use std::time::Duration;

use crate::transport::settings::SettingsError;
use crate::transport::version::VersionError;

/// One address and what came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// Address without credentials.
    pub url: String,
    /// What was said.
    pub said: String,
}

/// Reasons a connection was not made or is of no use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConnectError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A server does not want us.
    #[error("nats server {} refused the credentials: {}", .0.url, .0.said)]
    Refused(Attempt),
    /// Encryption failed.
    #[error("tls with nats server {} failed: {}", .0.url, .0.said)]
    Tls(Attempt),
    /// No server could be reached.
    #[error("no nats server can be reached: {}", listed(.attempts))]
    Unreachable {
        /// Every address with what was said.
        attempts: Vec<Attempt>,
    },
    /// The server is not one that we can use.
    #[error("nats server {url}: {cause}")]
    Version {
        /// Address without credentials.
        url: String,
        /// What is wrong with it.
        cause: VersionError,
    },
    /// JetStream is needed and the server has none.
    #[error("jetstream is off at nats server {url}: {said}")]
    JetStreamOff {
        /// Address without credentials.
        url: String,
        /// What was said.
        said: String,
    },
    /// JetStream is needed and our account may not use it.
    #[error("jetstream is not enabled for our account at nats server {url}: {said}")]
    JetStreamForbidden {
        /// Address without credentials.
        url: String,
        /// What was said.
        said: String,
    },
    /// A call on the connection failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl ConnectError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Settings(_) => "correct the [nats] section of the configuration",
            Self::Refused(_) => {
                "check nats.user and nats.password, nats.token, nats.nkey or nats.creds against \
                 the server's users"
            }
            Self::Tls(attempt) => tls_hint(&attempt.said),
            Self::Unreachable { .. } => {
                "check that a nats-server listens at that address, or leave nats.url out to run \
                 the embedded one"
            }
            Self::Version { .. } => "upgrade the server to 2.12 or newer",
            Self::JetStreamOff { .. } => {
                "add `jetstream {}` to the server's configuration, or switch supervision and \
                 coordination off"
            }
            Self::JetStreamForbidden { .. } => {
                "enable jetstream for the account in the server's configuration"
            }
            Self::Call(_) => "check the server's log and the permissions of our user",
        }
    }
}

fn tls_hint(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    if ["unknownissuer", "unknown issuer", "badsignature"].iter().any(|one| said.contains(one)) {
        "set nats.tls.ca to the authority that signed the server's certificate"
    } else if said.contains("notvalidforname") || said.contains("not valid for name") {
        "use the host name that stands in the server's certificate"
    } else if said.contains("certificaterequired") || said.contains("badcertificate") {
        "set nats.tls.cert and nats.tls.key to a certificate that the server trusts"
    } else {
        "check nats.tls and whether the server expects tls from the first byte (tls first)"
    }
}

fn listed(attempts: &[Attempt]) -> String {
    let parts: Vec<String> =
        attempts.iter().map(|attempt| format!("{}: {}", attempt.url, attempt.said)).collect();
    parts.join("; ")
}

/// Reasons a call on a connection failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("no answer to {what} within {after:?}{}", told(.server_error.as_deref()))]
    TimedOut {
        /// What was asked.
        what: String,
        /// Bound.
        after: Duration,
        /// What the server said last; a forbidden subject shows only here.
        server_error: Option<String>,
    },
    /// Nobody listens.
    #[error("nobody answers on {subject}")]
    NoResponders {
        /// Subject.
        subject: String,
    },
    /// The message is larger than the server takes.
    #[error("message for {subject} is {bytes} bytes; the server takes at most {bytes_max}")]
    TooLarge {
        /// Subject.
        subject: String,
        /// Size.
        bytes: usize,
        /// Bound (the server's `max_payload`).
        bytes_max: usize,
    },
    /// The subject is not one.
    #[error("{subject:?} is not a subject: {said}")]
    BadSubject {
        /// What was given.
        subject: String,
        /// What is wrong with it.
        said: String,
    },
    /// The connection is closed.
    #[error("the connection to nats is closed{}", told(.error.as_deref()))]
    Closed {
        /// Why, if known.
        error: Option<String>,
    },
}

fn told(error: Option<&str>) -> String {
    error.map_or_else(String::new, |error| format!(" (last error: {error})"))
}
