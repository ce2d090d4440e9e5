//! The checked address of a downstream, and what shows who we are.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

use crate::adapters::AdapterError;
use crate::adapters::tls::TlsSettings;
use crate::config::{Downstream, DownstreamAuth, Subscription, Will};
use crate::protocol::id::{ChildName, NodeName};

/// What an adapter is made from.
#[derive(Clone)]
pub struct Target {
    /// The downstream.
    pub name: ChildName,
    /// Its address, with the configured path; never with credentials.
    pub url: Url,
    /// What shows who we are.
    pub credentials: Credentials,
    /// TLS.
    pub tls: TlsSettings,
    /// Path of the health check, if one is configured.
    pub health_path: Option<String>,
    /// Client id, for MQTT.
    pub client_id: String,
    /// Time between signs of life.
    pub keep_alive: Duration,
    /// How long an MQTT broker keeps our session.
    pub session_expiry: Duration,
    /// What an MQTT broker tells others when we are lost.
    pub will: Option<Will>,
    /// What to listen to.
    pub subscriptions: Vec<Subscription>,
}

/// What shows a downstream who we are, besides a client certificate.
#[derive(Clone, Eq, PartialEq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// A token.
    Bearer(String),
    /// A NATS credentials file.
    NatsFile(std::path::PathBuf),
}

impl fmt::Debug for Target {
    /// Shows no credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    /// Shows the kind only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
            Self::NatsFile(_) => "NatsFile",
        })
    }
}

/// Schemes of a kind: plain and with TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schemes {
    /// Without TLS.
    pub plain: &'static str,
    /// With TLS.
    pub tls: &'static str,
}

impl Target {
    /// Makes a target from the configuration.
    ///
    /// # Errors
    ///
    /// [`AdapterError::Address`] when the address, port and path do not make one.
    pub fn of(
        name: &ChildName,
        node: &NodeName,
        downstream: &Downstream,
        schemes: Schemes,
    ) -> Result<Self, AdapterError> {
        let endpoint = &downstream.endpoint;
        let fault = |reason: &str| AdapterError::Address {
            address: endpoint.address.to_string(),
            reason: reason.to_owned(),
        };
        let url = address(endpoint.address.reveal(), endpoint.tls, schemes);
        let mut url = url.map_err(|reason| fault(&reason))?;
        if let Some(port) = endpoint.port {
            url.set_port(Some(port)).map_err(|()| fault("a port cannot be added to it"))?;
        }
        if let Some(path) = &endpoint.path {
            url.set_path(path);
        }
        let in_url = url_credentials(&url);
        url.set_username("").map_err(|()| fault("credentials cannot be taken out of it"))?;
        url.set_password(None).map_err(|()| fault("credentials cannot be taken out of it"))?;
        let (credentials, identity) = match &downstream.auth {
            DownstreamAuth::None => (in_url, None),
            DownstreamAuth::Basic { username, password } => {
                let password = password.reveal().to_owned();
                (Credentials::Basic { username: username.clone(), password }, None)
            }
            DownstreamAuth::Bearer(token) => (Credentials::Bearer(token.reveal().to_owned()), None),
            DownstreamAuth::ClientCertificate { cert, key } => {
                (in_url, Some((cert.clone(), key.clone())))
            }
            DownstreamAuth::Nats(file) => (Credentials::NatsFile(file.clone()), None),
        };
        Ok(Self {
            name: name.clone(),
            url,
            credentials,
            tls: TlsSettings { ca: endpoint.ca.clone(), identity },
            health_path: endpoint.health_path.clone(),
            client_id: downstream.client_id.clone().unwrap_or_else(|| format!("{node}-{name}")),
            keep_alive: downstream.keep_alive,
            session_expiry: downstream.session_expiry,
            will: downstream.will.clone(),
            subscriptions: downstream.subscriptions.clone(),
        })
    }

    /// Whether connections use TLS.
    #[must_use]
    pub fn uses_tls(&self, schemes: Schemes) -> bool {
        self.url.scheme() == schemes.tls
    }
}

/// The address with a scheme: the one it has, or the one that `tls` asks for.
fn address(text: &str, tls: Option<bool>, schemes: Schemes) -> Result<Url, String> {
    let scheme = if tls == Some(true) { schemes.tls } else { schemes.plain };
    let whole = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    let url = Url::parse(&whole).map_err(|error| error.to_string())?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    Ok(url)
}

fn url_credentials(url: &Url) -> Credentials {
    if url.username().is_empty() && url.password().is_none() {
        return Credentials::None;
    }
    Credentials::Basic {
        username: url.username().to_owned(),
        password: url.password().unwrap_or_default().to_owned(),
    }
}
