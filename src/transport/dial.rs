//! From settings to the client library's options, and from its errors to ours.
//!
//! Everything that can be checked before a server is asked is checked here, because the library's
//! own errors do not name the file or the value.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions};

use crate::transport::failure::{Attempt, ConnectError};
use crate::transport::link::{EndOfClient, LinkWriter, refuses};
use crate::transport::settings::{
    Auth, ConnectSettings, RECONNECT_WAIT_MAX, SettingsError, TlsUse,
};

/// Messages that wait in one subscription before the client drops them.
const SUBSCRIPTION_MESSAGES_MAX: usize = 16_384;

/// Unanswered pings after which the client library gives a connection up; it cannot be set there,
/// so the interval is.
const LIBRARY_PINGS_OUT: u32 = 2;

/// Length of the seed of an `NKey`.
const SEED_CHARS: usize = 58;

/// Delay before an attempt to reconnect: exponential with jitter over the upper half; the first
/// one anywhere from nothing to `base`, so that a fleet does not return at one instant.
fn reconnect_delay(attempt: usize, base: Duration, fraction: f64) -> Duration {
    let fraction = fraction.clamp(0.0, 1.0);
    if attempt <= 1 {
        return base.min(RECONNECT_WAIT_MAX).mul_f64(fraction);
    }
    let doublings = u32::try_from(attempt.saturating_sub(1).min(16)).unwrap_or(16);
    let whole = base.saturating_mul(2_u32.saturating_pow(doublings)).min(RECONNECT_WAIT_MAX);
    whole.mul_f64(0.5f64.mul_add(fraction, 0.5))
}

/// Interval to give the library, whose bound of pings is fixed.
fn library_ping_interval(interval: Duration, pings_out_max: u32) -> Duration {
    let wanted = interval.saturating_mul(pings_out_max.saturating_add(1));
    (wanted / (LIBRARY_PINGS_OUT + 1)).max(Duration::from_millis(100))
}

/// Options of the client library; files are read and checked here.
pub(crate) fn options(
    settings: &ConnectSettings,
    writer: &Arc<LinkWriter>,
    started: &Arc<AtomicBool>,
) -> Result<ConnectOptions, SettingsError> {
    let base = settings.reconnect_wait;
    let started = Arc::clone(started);
    let end = EndOfClient(Arc::clone(writer));
    let attempts = Arc::clone(writer);
    let mut options = ConnectOptions::new()
        .name(&settings.name)
        .connection_timeout(settings.timeout)
        .request_timeout(Some(settings.timeout))
        .ping_interval(library_ping_interval(settings.ping_interval, settings.max_pings_out))
        .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
        .max_reconnects(settings.max_reconnect)
        .reconnect_delay_callback(move |attempt| {
            if started.load(Ordering::Relaxed) {
                reconnect_delay(attempt, base, fastrand::f64())
            } else {
                Duration::ZERO
            }
        })
        .reconnect_to_server_callback(move |pool, _info| {
            attempts.on_attempts(&pool);
            async { None }
        })
        .event_callback(move |event| {
            end.0.on_event(&event);
            async {}
        });
    if let Some(prefix) = &settings.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    options = with_tls(options, settings)?;
    with_auth(options, settings.credentials()?)
}

fn with_tls(
    mut options: ConnectOptions,
    settings: &ConnectSettings,
) -> Result<ConnectOptions, SettingsError> {
    if let Some(ca) = &settings.tls.ca {
        readable("nats.tls.ca", ca)?;
        options = options.add_root_certificates(ca.clone());
    }
    if let Some(client) = &settings.tls.client {
        readable("nats.tls.cert", &client.cert)?;
        readable("nats.tls.key", &client.key)?;
        options = options.add_client_certificate(client.cert.clone(), client.key.clone());
    }
    Ok(match settings.tls.wanted {
        TlsUse::AsServerAsks => options,
        TlsUse::Required => options.require_tls(true),
        TlsUse::First => options.require_tls(true).tls_first(),
    })
}

fn with_auth(options: ConnectOptions, auth: &Auth) -> Result<ConnectOptions, SettingsError> {
    match auth {
        Auth::None => Ok(options),
        Auth::UserPassword { user, password } => {
            Ok(options.user_and_password(user.clone(), password.reveal().to_owned()))
        }
        Auth::Token(token) => Ok(options.token(token.reveal().to_owned())),
        Auth::NKey(seed) => with_nkey(options, seed.reveal(), "nats.nkey"),
        Auth::NKeyFile(path) => {
            let seed = readable("the nkey file", path)?;
            with_nkey(options, &seed, &format!("the nkey file {}", path.display()))
        }
        Auth::CredentialsFile(path) => {
            let content = readable("the credentials file", path)?;
            options.credentials(&content).map_err(|error| SettingsError::Content {
                what: format!("the credentials file {}", path.display()),
                said: error.to_string(),
            })
        }
    }
}

fn with_nkey(
    options: ConnectOptions,
    text: &str,
    whence: &str,
) -> Result<ConnectOptions, SettingsError> {
    let seed = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('-'))
        .unwrap_or_default();
    let base32 = |found: char| found.is_ascii_uppercase() || ('2'..='7').contains(&found);
    if !(seed.starts_with("SU") && seed.len() == SEED_CHARS && seed.chars().all(base32)) {
        let said = format!("a user's seed is {SEED_CHARS} of A-Z 2-7 and begins with SU");
        return Err(SettingsError::Content { what: whence.to_owned(), said });
    }
    Ok(options.nkey(seed.to_owned()))
}

/// Reads a small file whole, so that a missing one is named.
fn readable(what: &'static str, path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|error| SettingsError::File {
        what,
        path: path.to_owned(),
        said: error.to_string(),
    })
}

/// The texts of an error and its causes, repetitions left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let text = text.trim_start_matches("nats: ");
        // The library's errors repeat their cause at the end of their own text.
        let text = match error.source() {
            Some(cause) => text.strip_suffix(&cause.to_string()).unwrap_or(text),
            None => text,
        };
        let text = text.trim_end_matches([':', ' ']);
        if !text.is_empty() && !texts.iter().any(|known| known.eq_ignore_ascii_case(text)) {
            texts.push(text.to_owned());
        }
        next = error.source();
    }
    texts
}

fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .is_some_and(|inner| inner.is::<rustls::Error>());
        if inside || error.is::<rustls::Error>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// What a failed attempt means.
pub(crate) fn explained(url: String, error: &async_nats::ConnectError) -> ConnectError {
    let said = chain(error).join(": ");
    let attempt = Attempt { url, said };
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            ConnectError::Refused(attempt)
        }
        ConnectErrorKind::Tls => ConnectError::Tls(attempt),
        ConnectErrorKind::Io if is_tls(error) => ConnectError::Tls(attempt),
        ConnectErrorKind::Io if refuses(&attempt.said) => ConnectError::Refused(attempt),
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ConnectError::Unreachable { attempts: vec![attempt] },
    }
}

/// The one failure to report: a refusal before broken encryption before silence.
pub(crate) fn worst(failures: Vec<ConnectError>) -> ConnectError {
    let mut attempts = Vec::new();
    let mut worst = None;
    for failure in failures {
        match failure {
            ConnectError::Unreachable { attempts: more } => attempts.extend(more),
            refused @ ConnectError::Refused(_) => return refused,
            other @ (ConnectError::Tls(_)
            | ConnectError::Settings(_)
            | ConnectError::Version { .. }
            | ConnectError::JetStreamOff { .. }
            | ConnectError::JetStreamForbidden { .. }
            | ConnectError::Call(_)) => worst = Some(other),
        }
    }
    worst.unwrap_or(ConnectError::Unreachable { attempts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_are_never_the_same_for_all() {
        let base = Duration::from_millis(200);
        assert_eq!(reconnect_delay(1, base, 0.0), Duration::ZERO);
        assert_eq!(reconnect_delay(1, base, 1.0), base);
        assert_eq!(reconnect_delay(2, base, 0.0), Duration::from_millis(200));
        assert_eq!(reconnect_delay(2, base, 1.0), Duration::from_millis(400));
        assert_eq!(reconnect_delay(4, base, 1.0), Duration::from_millis(1600));
        assert_eq!(reconnect_delay(usize::MAX, base, 1.0), RECONNECT_WAIT_MAX);
        assert_eq!(reconnect_delay(usize::MAX, base, 0.0), RECONNECT_WAIT_MAX / 2);
    }

    #[test]
    fn the_ping_interval_keeps_the_time_to_notice() {
        let second = Duration::from_secs(1);
        assert_eq!(library_ping_interval(5 * second, 2), 5 * second);
        assert_eq!(library_ping_interval(3 * second, 0), second);
        assert_eq!(library_ping_interval(second, 5), 2 * second);
    }

    #[test]
    fn a_refusal_is_reported_before_silence() {
        let attempt = |url: &str| Attempt { url: url.to_owned(), said: "x".to_owned() };
        let silent = |url| ConnectError::Unreachable { attempts: vec![attempt(url)] };
        let both = worst(vec![silent("a"), ConnectError::Refused(attempt("b")), silent("c")]);
        assert_eq!(both, ConnectError::Refused(attempt("b")));
        let attempts = vec![attempt("a"), attempt("c")];
        assert_eq!(worst(vec![silent("a"), silent("c")]), ConnectError::Unreachable { attempts });
    }

    #[test]
    fn a_bad_seed_is_named_before_the_server_is_asked() {
        let auth = Auth::NKey(crate::transport::settings::Secret::new("SUNOSEED"));
        let error = with_auth(ConnectOptions::new(), &auth).unwrap_err().to_string();
        assert!(
            error.starts_with("nats.nkey is not valid") && !error.contains("NOSEED"),
            "{error}"
        );
        let auth = Auth::CredentialsFile("/nowhere/x.creds".into());
        let error = with_auth(ConnectOptions::new(), &auth).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the credentials file /nowhere/x.creds"), "{error}");
    }
}
