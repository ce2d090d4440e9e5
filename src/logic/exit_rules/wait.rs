//! Reads from output how long to wait: `retry after 30s`, `try again in 1m30s`, `retry-after: 120`,
//! `resets at 2026-11-21T12:00:00Z`, `limit reached|1763726400`.
//!
//! A wait is a number after one of some words, in seconds unless a unit follows; a point in time is
//! RFC 3339 or an epoch (10 digits: seconds, 13: milliseconds), and counts only if it lies ahead, so
//! that the time stamp of the line itself is none.

use std::time::Duration;

use jiff::Timestamp;

use crate::logic::exit_rules::has_any;

/// What a wait is announced by; the longer of two that begin alike first.
const MARKS: [&str; 16] = [
    "retry after",
    "retry-after",
    "retry_after",
    "retryafter",
    "retry in",
    "retrying in",
    "try again in",
    "try again after",
    "available in",
    "resets in",
    "reset in",
    "reset after",
    "resets after",
    "after_ms",
    "wait for",
    "wait",
];

/// What a line that names a point in time talks of.
const TALKS_OF: [&str; 4] = ["retry", "again", "reset", "limit"];

/// Words of units, in milliseconds.
const UNITS: [(&str, f64); 23] = [
    ("ms", 1.0),
    ("msec", 1.0),
    ("msecs", 1.0),
    ("millisecond", 1.0),
    ("milliseconds", 1.0),
    ("s", 1_000.0),
    ("sec", 1_000.0),
    ("secs", 1_000.0),
    ("second", 1_000.0),
    ("seconds", 1_000.0),
    ("m", 60_000.0),
    ("min", 60_000.0),
    ("mins", 60_000.0),
    ("minute", 60_000.0),
    ("minutes", 60_000.0),
    ("h", 3_600_000.0),
    ("hr", 3_600_000.0),
    ("hrs", 3_600_000.0),
    ("hour", 3_600_000.0),
    ("hours", 3_600_000.0),
    ("d", 86_400_000.0),
    ("day", 86_400_000.0),
    ("days", 86_400_000.0),
];

/// Seconds where no unit follows.
const SECONDS: f64 = 1_000.0;

/// Beyond this a number is no wait.
const WAIT_MS_MAX: f64 = 1e13;

/// The wait that some output names: the last line with one of the texts that names one, else the
/// last line of all that does.
pub(super) fn named_in(output: &str, texts: &[String], now: Timestamp) -> Option<Duration> {
    let lines = || output.lines().rev();
    let wait = |line: &str| relative(line).or_else(|| ahead(line, now));
    let wait_it_talks_of = |line: &str| {
        let lower = line.to_ascii_lowercase();
        let talks = TALKS_OF.iter().any(|word| lower.contains(word));
        relative(line).or_else(|| ahead(line, now).filter(|_| talks))
    };
    let of_rule = lines().filter(|line| has_any(line, texts)).find_map(wait);
    of_rule.or_else(|| lines().find_map(wait_it_talks_of))
}

/// A wait such as `retry after 30 seconds`.
fn relative(line: &str) -> Option<Duration> {
    let line = line.to_ascii_lowercase();
    MARKS.iter().find_map(|mark| {
        line.match_indices(mark).find_map(|(at, found)| {
            let rest = line.get(at.checked_add(found.len())?..)?;
            let millis = *mark == "after_ms" || rest.starts_with("_ms") || rest.starts_with("-ms");
            let rest = ["_ms", "-ms", "_seconds", "-seconds", "_secs"]
                .iter()
                .find_map(|unit| rest.strip_prefix(unit))
                .unwrap_or(rest);
            span(between(rest), if millis { 1.0 } else { SECONDS })
        })
    })
}

/// What comes after the signs and small words that may stand before a number.
fn between(text: &str) -> &str {
    let sign = |found: char| matches!(found, ' ' | '\t' | ':' | '=' | '"' | '\'' | '(' | '~');
    let mut rest = text.trim_start_matches(sign);
    for word in ["about ", "for ", "in ", "at least "] {
        rest = rest.strip_prefix(word).unwrap_or(rest).trim_start_matches(sign);
    }
    rest
}

/// A sum of numbers with units, such as `1h30m` or `1 minute 30 seconds`, or a bare number.
fn span(text: &str, bare: f64) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    let mut found = false;
    while let Some((number, after)) = number(rest) {
        let (unit, after) = unit(after);
        found = true;
        rest = match unit {
            Some(unit) => {
                total += number * unit;
                after.trim_start_matches([' ', ','])
            }
            // A second bare number belongs to something else.
            None if total > 0.0 => break,
            None => {
                total += number * bare;
                break;
            }
        };
    }
    (found && total < WAIT_MS_MAX).then(|| Duration::from_secs_f64(total / 1_000.0))
}

fn number(text: &str) -> Option<(f64, &str)> {
    let digit = |found: char| found.is_ascii_digit() || found == '.';
    let end = text.find(|found: char| !digit(found)).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    // `30.` at the end of a sentence.
    Some((digits.trim_end_matches('.').parse().ok()?, rest))
}

fn unit(text: &str) -> (Option<f64>, &str) {
    let after = text.strip_prefix([' ', '-']).unwrap_or(text);
    let end = after.find(|found: char| !found.is_ascii_alphabetic()).unwrap_or(after.len());
    let Some((word, rest)) = after.split_at_checked(end) else { return (None, text) };
    match UNITS.iter().find(|(name, _)| *name == word) {
        Some((_, millis)) => (Some(*millis), rest),
        None => (None, text),
    }
}

/// The time from now to the first point in time in a line that lies ahead.
fn ahead(line: &str, now: Timestamp) -> Option<Duration> {
    let part =
        |found: char| found.is_ascii_alphanumeric() || matches!(found, '-' | ':' | '+' | '.');
    let words = line.split(|found: char| !part(found));
    words.filter_map(point).find_map(|at| {
        let left = at.duration_since(now);
        (left.is_positive()).then(|| left.unsigned_abs())
    })
}

fn point(word: &str) -> Option<Timestamp> {
    let word = word.trim_end_matches(['.', ':', '-']);
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        let count: i64 = word.parse().ok()?;
        return match word.len() {
            10 => Timestamp::from_second(count).ok(),
            13 => Timestamp::from_millisecond(count).ok(),
            _ => None,
        };
    }
    // An hour of the day alone says nothing about the day.
    (20 <= word.len()).then(|| word.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    #[track_caller]
    fn check(line: &str, expected: Option<f64>) {
        let seen = named_in(line, &[], now()).map(|wait| wait.as_secs_f64());
        assert_eq!(seen, expected, "{line:?}");
    }

    #[test]
    fn a_wait_is_a_number_after_its_words() {
        for (line, seconds) in [
            ("rate limited, retry after 30 seconds", 30.0),
            ("429 Too Many Requests (Retry-After: 120)", 120.0),
            ("Please try again in 1m30s.", 90.0),
            ("Please try again in 6m0s. Visit the page of limits", 360.0),
            ("Rate limit reached. Please try again in 20.5s", 20.5),
            ("retry in 5 minutes", 300.0),
            ("usage limit, resets in 2 hours 5 min", 7500.0),
            ("{\"error\":{\"code\":\"rate_limited\",\"retry\":true,\"after_ms\":30000}}", 30.0),
            ("retry_after_ms=1500", 1.5),
            ("\"retry_after\": 7,", 7.0),
            ("wait 10.", 10.0),
            ("please wait for about 45 s", 45.0),
            ("retry after 0", 0.0),
        ] {
            check(line, Some(seconds));
        }
    }

    #[test]
    fn a_point_in_time_counts_if_it_lies_ahead() {
        check("usage limit reached|1795262460", Some(60.0));
        check("limit resets 1795262460500", Some(60.5));
        check("your limit resets at 2026-11-21T12:05:00Z", Some(300.0));
        check("try again at 2026-11-21T14:05:00+02:00.", Some(300.0));
        check("2026-11-21T11:59:59Z ERROR rate limit", None);
        check("2026-11-21T12:05:00Z INFO next run planned", None);
        check("limit 12345678901 of 99", None);
    }

    #[test]
    fn what_names_no_time_names_none() {
        for line in ["", "rate limit", "retry after a while", "retry", "try again later", "12:30"] {
            check(line, None);
        }
        check(&format!("retry after {}", "9".repeat(400)), None);
        check("retry after 99999999999999999999 days", None);
    }

    #[test]
    fn the_last_line_of_the_rule_goes_before_all_others() {
        let output = "rate limit: retry after 5s\nrate limit: retry after 9s\nretry after 70s\n";
        let texts = ["RATE limit".to_ascii_lowercase()];
        assert_eq!(named_in(output, &texts, now()), Some(Duration::from_secs(9)));
        let output = "rate limit\nplease try again in 3m\n";
        assert_eq!(named_in(output, &texts, now()), Some(Duration::from_secs(180)));
    }
}
