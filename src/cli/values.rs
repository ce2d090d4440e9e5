//! Readers of single values of the command line. Each error says what is wrong and what is right.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::human::parse_span;
use crate::protocol::command::{GRACE_MS_MAX, LOG_LINES_MAX};
use crate::protocol::fact::Severity;
use crate::protocol::id::IdError;
use crate::protocol::subject::SubjectPrefix;

/// Longest wait for an answer that can be asked for.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Reads a name that is one subject token.
pub(crate) fn agent_name<T: FromStr<Err = IdError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: IdError| error.to_string())
}

/// Reads a subject prefix.
pub(crate) fn prefix(text: &str) -> Result<SubjectPrefix, String> {
    text.parse().map_err(|error: crate::protocol::subject::PrefixError| error.to_string())
}

/// Reads a length of time.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    parse_span(text)
}

/// Reads a wait: above zero and bounded.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let wait = parse_span(text)?;
    if wait.is_zero() || TIMEOUT_MAX < wait {
        return Err(format!("a wait of {text} is out of range; 1ms to 1d are allowed"));
    }
    Ok(wait)
}

/// Reads a grace period.
pub(crate) fn grace(text: &str) -> Result<Duration, String> {
    let grace = parse_span(text)?;
    if Duration::from_millis(GRACE_MS_MAX) < grace {
        return Err(format!("a grace of {text} is out of range; at most 1h is allowed"));
    }
    Ok(grace)
}

/// A time that was given as such, or as a length of time before now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moment {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Moment {
    /// The time that is meant.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH),
            Self::At(time) => time,
        }
    }
}

/// Reads a time.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = text.parse() {
        return Ok(Moment::At(time));
    }
    parse_span(text.strip_suffix(" ago").unwrap_or(text))
        .map(Moment::Ago)
        .map_err(|error| format!("{error}; or give a date and time such as 2026-01-31T12:00:00Z"))
}

/// Reads a severity.
pub(crate) fn severity(text: &str) -> Result<Severity, String> {
    let known = Severity::ALL.into_iter().find(|known| known.as_str() == text);
    known.ok_or_else(|| "use info, low, medium, high or critical".to_owned())
}

/// Reads a number of log lines.
pub(crate) fn log_lines(text: &str) -> Result<u32, String> {
    let lines = text.parse().ok().filter(|lines| (1..=LOG_LINES_MAX).contains(lines));
    lines.ok_or_else(|| format!("give a number from 1 to {LOG_LINES_MAX}"))
}

/// Reads `K=V`; the value may be empty and may hold further `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::ChildName;

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        assert!(timeout("0s").unwrap_err().contains("1ms to 1d"));
        assert!(timeout("2d").unwrap_err().contains("1ms to 1d"));
        assert!(grace("61m").unwrap_err().contains("at most 1h"));
        assert_eq!(grace("0s"), Ok(Duration::ZERO));
        assert!(log_lines("0").unwrap_err().contains("1 to 10000"));
        assert!(log_lines("x").is_err());
        assert_eq!(log_lines("10000"), Ok(10_000));
        assert_eq!(moment("10m"), Ok(Moment::Ago(Duration::from_secs(600))));
        let then: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(moment("2026-01-31T12:00:00Z"), Ok(Moment::At(then)));
        let hour_before = "2026-01-31T11:00:00Z".parse().unwrap();
        assert_eq!(moment("1h").unwrap().before(then), hour_before);
        assert_eq!(moment("10m ago"), moment("10m"));
        assert!(moment("yesterday").unwrap_err().contains("2026-01-31T12:00:00Z"));
    }

    #[test]
    fn a_pair_keeps_further_equal_signs() {
        assert_eq!(pair("K=a=b"), Ok(("K".to_owned(), "a=b".to_owned())));
        assert_eq!(pair("K="), Ok(("K".to_owned(), String::new())));
        assert!(pair("K").is_err());
        assert!(pair("=v").is_err());
    }

    #[test]
    fn names_are_checked_before_anybody_is_asked() {
        assert!(agent_name::<ChildName>("a.b").unwrap_err().contains("use only"));
        assert!(prefix("a..b").is_err());
    }
}
