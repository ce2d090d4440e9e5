//! Signed posts to a webhook, as Standard Webhooks has them.
//!
//! Headers: `webhook-id`, `webhook-timestamp` (seconds), and `webhook-signature`, which is `v1,` and
//! the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`. The key is what follows `whsec_` in the
//! secret, decoded, or else the bytes of the secret. Redirects are not followed: they would carry
//! the signature elsewhere.

use std::fmt;
use std::time::Duration;

use reqwest::{Client, redirect, retry};
use ring::hmac;

use crate::adapters::AdapterError;
use crate::adapters::tls::{TlsSettings, client_config};
use crate::config::Secret;

/// Longest time for a connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Posts to one address.
#[derive(Clone)]
pub struct Webhook {
    client: Client,
    url: String,
    key: hmac::Key,
}

/// Why a post was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PostError {
    /// Nobody answered, or not in time.
    #[error("{reason}")]
    Unreachable {
        /// What was met.
        reason: String,
    },
    /// The answer was no.
    #[error("the webhook answered {status}")]
    Refused {
        /// The status.
        status: u16,
    },
}

impl PostError {
    /// Whether the same post may be taken later: all but a 4xx that is not about time.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status } => {
                !(400..500).contains(status) || [408, 425, 429].contains(status)
            }
        }
    }
}

impl Webhook {
    /// A webhook at an address, trusted by the system's authorities.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] when no client can be made.
    pub fn new(url: &str, secret: &Secret) -> Result<Self, AdapterError> {
        let client = Client::builder()
            .tls_backend_preconfigured(client_config(&TlsSettings::default())?)
            .user_agent(concat!("provost/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .build()
            .map_err(|error| AdapterError::Client { reason: error.to_string() })?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key_of(secret));
        Ok(Self { client, url: url.to_owned(), key })
    }

    /// Posts a document once.
    ///
    /// # Errors
    ///
    /// [`PostError`] when it was not taken.
    pub async fn post(
        &self,
        (id, timestamp): (&str, i64),
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<(), PostError> {
        let signature = self.signature(id, timestamp, &body);
        let sent = self
            .client
            .post(&self.url)
            .header("content-type", "application/cloudevents+json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .timeout(timeout)
            .body(body)
            .send()
            .await;
        let unreachable = |error: reqwest::Error| PostError::Unreachable {
            reason: error.without_url().to_string(),
        };
        let status = sent.map_err(unreachable)?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(PostError::Refused { status: status.as_u16() })
        }
    }

    /// The value of `webhook-signature`.
    #[must_use]
    pub fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&self.key);
        signing.update(format!("{id}.{timestamp}.").as_bytes());
        signing.update(body);
        format!("v1,{}", data_encoding::BASE64.encode(signing.sign().as_ref()))
    }
}

impl fmt::Debug for Webhook {
    /// Shows no key, and no address that may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

fn key_of(secret: &Secret) -> Vec<u8> {
    let text = secret.reveal();
    let coded = text.strip_prefix("whsec_").map(str::as_bytes);
    let decoded = coded.and_then(|coded| data_encoding::BASE64.decode(coded).ok());
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standards_example() {
        // From the specification of Standard Webhooks.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let webhook = Webhook::new("http://127.0.0.1:1/", &secret).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = webhook.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_what_may_pass_is_worth_another_post() {
        let refused = |status| PostError::Refused { status }.may_pass();
        assert!(refused(500) && refused(429) && refused(301) && !refused(400) && !refused(410));
    }
}
