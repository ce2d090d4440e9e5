//! How to reach a NATS server: addresses, credentials, TLS, times.
//!
//! Plain values, made from the configuration or from a NATS context. Nothing here connects. Credentials
//! never appear in `Debug` or `Display`, and never stay inside an address.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;

use crate::config::{Config, NatsTarget, NatsTls};
pub use crate::config::{JetStreamApi, NatsAuth as Auth, Secret, TlsUse};
use crate::protocol::subject::SubjectPrefix;

/// Reasons a text is not a server address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ServerUrlError {
    /// It is no URL. The text is not repeated: it may hold a password.
    #[error(
        "server address is not a URL ({said}); write it as nats://host:port or tls://host:port"
    )]
    NotAUrl {
        /// What the parser said.
        said: String,
    },
    /// Its scheme is not one that we speak.
    #[error("server address has the scheme {scheme:?}; use nats or tls")]
    Scheme {
        /// The scheme found.
        scheme: String,
    },
    /// It names no host.
    #[error("server address names no host; write it as nats://host:port")]
    NoHost,
}

/// The address of one server, its credentials taken out and kept apart.
#[derive(Clone, Eq, PartialEq)]
pub struct ServerUrl {
    address: ServerAddr,
    auth: Auth,
}

impl ServerUrl {
    /// The address without credentials.
    #[must_use]
    pub fn address(&self) -> &ServerAddr {
        &self.address
    }

    /// The credentials that stood in the address.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.auth
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Some((scheme, _)) = text.split_once("://")
            && !matches!(scheme, "nats" | "tls")
        {
            return Err(ServerUrlError::Scheme { scheme: scheme.chars().take(32).collect() });
        }
        let parsed: ServerAddr = text
            .parse()
            .map_err(|error: std::io::Error| ServerUrlError::NotAUrl { said: error.to_string() })?;
        if parsed.host().is_empty() {
            return Err(ServerUrlError::NoHost);
        }
        let auth = match (parsed.username(), parsed.password()) {
            (None, _) => Auth::None,
            (Some(token), None) => Auth::Token(Secret::new(percent_decoded(token))),
            (Some(user), Some(password)) => Auth::UserPassword {
                user: percent_decoded(user),
                password: Secret::new(percent_decoded(password)),
            },
        };
        let host = parsed.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let plain = format!("{}://{host}:{}", parsed.scheme(), parsed.port());
        let address = plain
            .parse()
            .map_err(|error: std::io::Error| ServerUrlError::NotAUrl { said: error.to_string() })?;
        Ok(Self { address, auth })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.address.as_url_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Decodes `%40` and the like; what is no valid escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape =
            after.split_at_checked(2).filter(|_| *first == b'%').and_then(|(hex, after)| {
                let value = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
                Some((value, after))
            });
        let (byte, after) = escape.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A client certificate and its key, as PEM files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// TLS of the connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsSettings {
    /// Authorities to trust instead of the system's, as a PEM file.
    pub ca: Option<PathBuf>,
    /// Our own certificate, if the server asks for one.
    pub client: Option<ClientCertificate>,
    /// Whether to insist.
    pub wanted: TlsUse,
}

impl TlsSettings {
    fn of(tls: &NatsTls) -> Self {
        let client = tls.client.clone().map(|(cert, key)| ClientCertificate { cert, key });
        Self { ca: tls.ca.clone(), client, wanted: tls.wanted }
    }
}

/// Everything needed to connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectSettings {
    /// Servers to try, in any order.
    pub servers: Vec<ServerUrl>,
    /// Credentials; [`Auth::None`] takes those that stood in the addresses.
    pub auth: Auth,
    /// TLS.
    pub tls: TlsSettings,
    /// Name of the client, as operators see it.
    pub name: String,
    /// Prefix of every subject; also of the one used for round trips.
    pub prefix: SubjectPrefix,
    /// Attempts to reconnect before the connection is given up; without bound when `None`.
    pub max_reconnect: Option<usize>,
    /// First delay between two attempts to reconnect; doubles up to [`RECONNECT_WAIT_MAX`].
    pub reconnect_wait: Duration,
    /// Longest time for connecting to one server, and for one request.
    pub timeout: Duration,
    /// Time between pings; a dead server is noticed after about `max_pings_out + 1` of them.
    pub ping_interval: Duration,
    /// Unanswered pings before the server counts as dead.
    pub max_pings_out: u32,
    /// Prefix of reply subjects instead of `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// Where JetStream's API is.
    pub jetstream: JetStreamApi,
}

/// Longest delay between two attempts to reconnect.
pub const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            auth: Auth::None,
            tls: TlsSettings::default(),
            name: "provost".to_owned(),
            prefix: SubjectPrefix::default(),
            max_reconnect: None,
            reconnect_wait: Duration::from_millis(250),
            timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            max_pings_out: 2,
            inbox_prefix: None,
            jetstream: JetStreamApi::Default,
        }
    }
}

/// Reasons that settings cannot be used, whatever the servers say.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// No server is named.
    #[error("no NATS server is named; give at least one address")]
    NoServer,
    /// Two addresses carry different credentials.
    #[error(
        "server addresses carry different credentials; give them once, as nats.user and nats.password"
    )]
    DifferentCredentials,
    /// A file cannot be read.
    #[error("cannot read {what} {}: {said}", path.display())]
    File {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        said: String,
    },
    /// A file or value does not hold what it should.
    #[error("{what} is not valid: {said}")]
    Content {
        /// What it is and where it comes from.
        what: String,
        /// What is wrong with it.
        said: String,
    },
}

impl ConnectSettings {
    /// Settings for one server, all else at its default.
    #[must_use]
    pub fn to(server: ServerUrl) -> Self {
        Self { servers: vec![server], ..Self::default() }
    }

    /// How the configuration says to connect; without servers when the embedded one is to be used.
    ///
    /// # Errors
    ///
    /// [`ServerUrlError`] when an address cannot be used.
    pub fn of(config: &Config) -> Result<Self, ServerUrlError> {
        let nats = &config.nats;
        let servers = match &nats.target {
            NatsTarget::Embedded => Vec::new(),
            NatsTarget::Servers(urls) => {
                urls.iter().map(|url| url.reveal().parse()).collect::<Result<_, _>>()?
            }
        };
        Ok(Self {
            servers,
            auth: nats.auth.clone(),
            tls: TlsSettings::of(&nats.tls),
            name: format!("provost {}", config.provost.node),
            prefix: config.provost.subject_prefix.clone(),
            max_reconnect: nats.max_reconnect,
            reconnect_wait: nats.reconnect_wait,
            timeout: nats.timeout,
            ping_interval: nats.ping_interval,
            max_pings_out: nats.max_pings_out,
            inbox_prefix: nats.inbox_prefix.clone(),
            jetstream: nats.jetstream.clone(),
        })
    }

    /// The addresses without credentials, joined by commas.
    #[must_use]
    pub fn redacted(&self) -> String {
        let addresses: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        addresses.join(",")
    }

    /// The credentials that count: those given apart, else those in the addresses.
    ///
    /// # Errors
    ///
    /// [`SettingsError::DifferentCredentials`] when two addresses disagree.
    pub fn credentials(&self) -> Result<&Auth, SettingsError> {
        if self.auth != Auth::None {
            return Ok(&self.auth);
        }
        let mut found = &Auth::None;
        for server in &self.servers {
            match (found, server.auth()) {
                (_, Auth::None) => {}
                (Auth::None, auth) => found = auth,
                (known, auth) if known == auth => {}
                (_, _) => return Err(SettingsError::DifferentCredentials),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_shown_without_its_credentials() {
        let server = url("nats://alice:s3cret@example.com:4333");
        assert_eq!(server.to_string(), "nats://example.com:4333");
        assert!(!format!("{server:?}").contains("s3cret"));
        let settings = ConnectSettings::to(server);
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert_eq!(settings.redacted(), "nats://example.com:4333");
    }

    #[test]
    fn credentials_are_taken_from_an_address() {
        let password = |text: &str| Secret::new(text);
        let auth = Auth::UserPassword { user: "a@b".to_owned(), password: password("p:w") };
        assert_eq!(url("nats://a%40b:p%3Aw@localhost").auth(), &auth);
        assert_eq!(url("nats://t0ken@localhost").auth(), &Auth::Token(password("t0ken")));
        assert_eq!(url("localhost").auth(), &Auth::None);
        assert_eq!(url("localhost").to_string(), "nats://localhost:4222");
        assert_eq!(url("tls://[::1]:4443").to_string(), "tls://[::1]:4443");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for text in
            ["ws://x", "http://user:pw@x", "nats://", "nats://user:pw@", "nats://x:99999", "a b"]
        {
            let error = text.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(!error.contains("pw"), "{error}");
        }
    }

    #[test]
    fn credentials_given_apart_go_before_those_in_addresses() {
        let mut settings = ConnectSettings::to(url("nats://a:b@x"));
        assert_eq!(settings.credentials(), Ok(url("nats://a:b@x").auth()));
        settings.servers.push(url("nats://y"));
        settings.servers.push(url("nats://a:c@z"));
        assert_eq!(settings.credentials(), Err(SettingsError::DifferentCredentials));
        settings.auth = Auth::Token(Secret::new("t"));
        assert_eq!(settings.credentials(), Ok(&Auth::Token(Secret::new("t"))));
    }
}
