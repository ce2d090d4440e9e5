//! Times and texts as people read and write them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Units of a length of time, the longest first.
const UNITS: [(&str, u64); 5] =
    [("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS), ("s", 1_000), ("ms", 1)];

/// A length of time in its largest whole unit: `450ms`, `12s`, `3m`, `2h`, `5d`.
#[must_use]
pub(crate) fn span(milliseconds: u64) -> String {
    let fits = UNITS.iter().find(|(_, size)| *size <= milliseconds);
    let (unit, size) = fits.copied().unwrap_or(("s", 1_000));
    format!("{}{unit}", milliseconds.checked_div(size).unwrap_or(0))
}

/// How long ago something was; `0s` for what lies ahead, because clocks differ.
#[must_use]
pub(crate) fn age(now: Timestamp, since: Timestamp) -> String {
    let milliseconds = now.duration_since(since).as_millis();
    let milliseconds = u64::try_from(milliseconds).unwrap_or(0);
    if milliseconds < 1_000 { "0s".to_owned() } else { span(milliseconds) }
}

/// Reads `500ms`, `30s`, `5m`, `2h`, `7d` or a sum such as `1h30m`.
///
/// # Errors
///
/// Says what is wrong and how to write it.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("{text:?} is not a length of time; write it like 500ms, 30s, 5m, 2h, 7d or 1h30m")
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|found: char| !found.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|found: char| !found.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().ok().ok_or_else(wrong)?;
        let part = number.checked_mul(*size).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// The time of day, `12:00:01`.
#[must_use]
pub(crate) fn clock_time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// Day and time of day, `2026-11-21 12:00:01`.
#[must_use]
pub(crate) fn date_time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Text that can stand in one line of a terminal: control characters become spaces, so that no
/// reason or name from outside can move the cursor.
#[must_use]
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|found| if found.is_control() { ' ' } else { found }).collect()
}

/// The candidate most like `written`, if any is alike enough to be what was meant.
#[must_use]
pub(crate) fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    /// Long garbage is like nothing, and comparing it is slow.
    const BYTES_MAX: usize = 64;
    /// Below this, suggestions are more puzzling than helpful.
    const ALIKE_MIN: f64 = 0.8;

    if BYTES_MAX < written.len() {
        return None;
    }
    let lower = written.to_lowercase();
    let alike = |candidate: &str| strsim::jaro_winkler(&lower, &candidate.to_lowercase());
    let best = candidates.into_iter().max_by(|one, other| alike(one).total_cmp(&alike(other)))?;
    (ALIKE_MIN <= alike(best)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shown_in_its_largest_whole_unit() {
        let shown = [0, 450, 999, 1_000, 12_345, 59_999, 60_000, 7_200_000, 86_400_000 * 5];
        let shown = shown.map(span);
        assert_eq!(shown, ["0s", "450ms", "999ms", "1s", "12s", "59s", "1m", "2h", "5d"]);
    }

    #[test]
    fn an_age_is_never_negative() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(age(now, "2026-01-01T00:00:48Z".parse().unwrap()), "12s");
        assert_eq!(age(now, "2026-01-01T00:00:59.5Z".parse().unwrap()), "0s");
        assert_eq!(age(now, "2026-01-01T00:02:00Z".parse().unwrap()), "0s");
    }

    #[test]
    fn a_span_is_read_with_its_unit() {
        let read = |text: &str| parse_span(text).map(|span| span.as_millis());
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("5s"), Ok(5_000));
        assert_eq!(read("1h30m"), Ok(5_400_000));
        assert_eq!(read("7d"), Ok(604_800_000));
        assert_eq!(read("0s"), Ok(0));
        for text in ["", "5", "s", "-5s", "5 s", "5x", "99999999999999999999s", "1.5s", "é"] {
            assert!(read(text).unwrap_err().contains("write it like"), "{text}");
        }
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn a_misspelt_name_finds_its_like() {
        assert_eq!(nearest("wroker-1", ["worker-1", "cruncher"]), Some("worker-1"));
        assert_eq!(nearest("zzz", ["worker-1", "cruncher"]), None);
        assert_eq!(nearest(&"w".repeat(100), ["worker-1"]), None);
    }
}
