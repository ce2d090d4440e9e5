//! Which `nats-server` is new enough.
//!
//! Streams rely on features of 2.12; older servers are refused at the connection, so that nothing
//! fails later in a way that is hard to read.

use std::fmt;
use std::str::FromStr;

/// The version of a server, as it names itself in its `INFO`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ServerVersion {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Patch number.
    pub patch: u32,
    /// A release comes after its own previews.
    pub stage: Stage,
}

/// Whether a version is finished.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// A preview or release candidate (`2.12.0-RC.1`).
    Preview,
    /// A release.
    Release,
}

/// The oldest server that is accepted.
pub const MINIMUM: ServerVersion =
    ServerVersion { major: 2, minor: 12, patch: 0, stage: Stage::Release };

/// Reasons a server is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VersionError {
    /// The server is too old.
    #[error(
        "nats-server {found} is too old; {MINIMUM} or newer is needed: upgrade the server, or leave \
         the NATS address out of the configuration to run the embedded one"
    )]
    TooOld {
        /// What the server says it is.
        found: ServerVersion,
    },
    /// The server does not say what it is.
    #[error("the server calls its version {text:?}; a nats-server {MINIMUM} or newer is needed")]
    Unreadable {
        /// What it said.
        text: String,
    },
}

/// Accepts a server by the version it names.
///
/// # Errors
///
/// [`VersionError`] names the version found and the one needed.
pub fn check(text: &str) -> Result<ServerVersion, VersionError> {
    let found: ServerVersion = text.parse()?;
    if found < MINIMUM { Err(VersionError::TooOld { found }) } else { Ok(found) }
}

impl FromStr for ServerVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable = || VersionError::Unreadable { text: text.chars().take(64).collect() };
        let plain = text.strip_prefix('v').unwrap_or(text);
        let plain = plain.split_once('+').map_or(plain, |(version, _build)| version);
        let (numbers, stage) = match plain.split_once('-') {
            Some((numbers, _preview)) => (numbers, Stage::Preview),
            None => (plain, Stage::Release),
        };
        let mut parts = numbers.split('.').map(str::parse::<u32>);
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(unreadable);
        let version = Self { major: next()?, minor: next()?, patch: next()?, stage };
        if parts.next().is_some() { Err(unreadable()) } else { Ok(version) }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        match self.stage {
            Stage::Preview => f.write_str("-preview"),
            Stage::Release => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_from_2_12_on_are_accepted() {
        for text in
            ["2.12.0", "2.12.8", "2.12.12", "2.14.3", "2.15.1", "2.15.0-dev", "3.0.0", "v2.12.0"]
        {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn older_servers_are_refused_with_both_versions() {
        for text in ["2.11.11", "2.11.0", "2.10.26", "2.9.10", "1.4.1", "2.12.0-RC.1"] {
            let error = check(text).unwrap_err();
            assert!(matches!(error, VersionError::TooOld { .. }), "{text}");
        }
        let text = check("2.11.11").unwrap_err().to_string();
        assert!(text.starts_with("nats-server 2.11.11 is too old; 2.12.0 or newer"), "{text}");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "2", "2.12", "2.12.x", "2.12.0.1", "latest", "-2.12.0", "99999999999.1.1"]
        {
            let error = check(text).unwrap_err();
            assert!(matches!(error, VersionError::Unreadable { .. }), "{text}");
        }
    }
}
