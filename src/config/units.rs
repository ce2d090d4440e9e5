//! Values with a unit, and secrets, as they are written in files.
//!
//! A time is written as `500ms`, `10s`, `5m`, `1h`, `7d` or a sum such as `1h30m`; a size as
//! `64MiB`, `10GB` or a number of bytes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// What stands in the place of a secret wherever it would be shown.
pub(crate) const MASK: &str = "***";

/// Text that is never shown; `Debug` and serialization mask it.
#[derive(Clone, Default, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// A text is no time or no size.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum UnitError {
    #[error("not a time; write it like \"500ms\", \"10s\", \"5m\", \"1h\" or \"7d\"")]
    Time,
    #[error("not a size; write it like \"64MiB\", \"10GB\" or as a number of bytes")]
    Size,
}

/// A length of time as written in a file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    pub(crate) const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    pub(crate) const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

const TIME_UNITS: [(&str, u128); 6] =
    [("ms", 1), ("us", 0), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(UnitError::Time);
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (count, unit, after) = part(rest).ok_or(UnitError::Time)?;
            let (_, millis) = TIME_UNITS
                .iter()
                .find(|(name, millis)| *name == unit && 0 < *millis)
                .ok_or(UnitError::Time)?;
            let scaled = u128::from(count).checked_mul(*millis).ok_or(UnitError::Time)?;
            total = total.checked_add(scaled).ok_or(UnitError::Time)?;
            rest = after;
        }
        let millis = u64::try_from(total).ok().ok_or(UnitError::Time)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// Splits `10s5m` into 10, `s` and `5m`.
fn part(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|found: char| !found.is_ascii_digit())?;
    let (count, rest) = text.split_at_checked(digits)?;
    let letters = rest.find(|found: char| !found.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(letters)?;
    Some((count.parse().ok()?, unit, rest))
}

impl TryFrom<String> for Span {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl fmt::Display for Span {
    /// In the unit in which people write it: `60s` and `24h`, not `1m` and `1d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [("d", 86_400_000, 2), ("h", 3_600_000, 1), ("m", 60_000, 10), ("s", 1_000, 1)];
        let fits =
            |unit: &u128, least: &u128| millis.is_multiple_of(*unit) && *least <= millis / unit;
        if millis == 0 {
            return f.write_str("0s");
        }
        match units.iter().find(|(_, unit, least)| fits(unit, least)) {
            Some((name, unit, _)) => write!(f, "{}{name}", millis / unit),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]+(ms|s|m|h|d))+$|\\$\\{",
            "x-unit": "time"
        })
    }
}

/// A number of bytes as written in a file.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ByteSize(pub(crate) u64);

impl ByteSize {
    pub(crate) const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }
}

const SIZE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let (count, unit) = match text.find(|found: char| !found.is_ascii_digit()) {
            None => (text, "B"),
            Some(at) => text.split_at_checked(at).ok_or(UnitError::Size)?,
        };
        let count: u64 = count.parse().ok().ok_or(UnitError::Size)?;
        let unit = unit.trim();
        let (_, bytes) =
            SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(UnitError::Size)?;
        count.checked_mul(*bytes).map(Self).ok_or(UnitError::Size)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that leaves no rest: 10 GB would be 9765625 KiB.
        let whole =
            SIZE_UNITS.iter().filter(|(_, unit)| 0 < self.0 && self.0.is_multiple_of(*unit));
        match whole.max_by_key(|(_, unit)| *unit) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^[0-9]+ *([KMGT]iB|[kKMGT]?B)?$|\\$\\{",
            "x-unit": "size"
        })
    }
}

/// Whether a name of an environment variable or a key says that its value is secret.
pub(crate) fn names_a_secret(name: &str) -> bool {
    const TELLING: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE"];
    let upper = name.to_uppercase();
    TELLING.iter().any(|word| upper.contains(word))
        || upper.ends_with("_KEY")
        || upper.ends_with("_PASS")
        || upper.ends_with("APIKEY")
}

/// Masks what stands between `://` and `@` in an address.
pub(crate) fn without_credentials(text: &str) -> String {
    text.split(',').map(one_without_credentials).collect::<Vec<_>>().join(",")
}

fn one_without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return match text.rsplit_once('@') {
            Some((_, host)) if text.contains(':') => format!("{MASK}@{host}"),
            _ => text.to_owned(),
        };
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}{tail}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str, expected: &str) {
        let seen = text.parse::<Span>().map_or_else(|_| "no".to_owned(), |span| span.to_string());
        assert_eq!(seen, expected, "{text:?}");
    }

    fn size(text: &str, expected: &str) {
        let seen =
            text.parse::<ByteSize>().map_or_else(|_| "no".to_owned(), |size| size.to_string());
        assert_eq!(seen, expected, "{text:?}");
    }

    #[test]
    fn a_time_is_a_sum_of_counts_with_units() {
        time("500ms", "500ms");
        time("0s", "0s");
        time("90s", "90s");
        time("120s", "120s");
        time("600s", "10m");
        time("24h", "24h");
        time("1h30m", "90m");
        time("7d", "7d");
        for wrong in ["", "10", "s", "1.5s", "-1s", "10 s", "10x", "1us", "99999999999999999999s"] {
            time(wrong, "no");
        }
        time("18446744073709551615d", "no");
    }

    #[test]
    fn a_size_is_a_count_with_a_unit_or_of_bytes() {
        size("64MiB", "64MiB");
        size("64 MiB", "64MiB");
        size("1024", "1KiB");
        size("10GB", "10GB");
        size("7", "7B");
        size("0", "0B");
        for wrong in ["", "MiB", "1.5GiB", "-1", "10XB", "99999999TiB"] {
            size(wrong, "no");
        }
    }

    #[test]
    fn credentials_in_an_address_are_masked() {
        let check = |text: &str, expected: &str| assert_eq!(without_credentials(text), expected);
        check("nats://a:b@h:4222", "nats://***@h:4222");
        check("nats://tok@h,nats://i", "nats://***@h,nats://i");
        check("https://u:p@ss@h/x@y", "https://***@h/x@y");
        check("a:b@h", "***@h");
        check("127.0.0.1:0", "127.0.0.1:0");
    }

    #[test]
    fn a_secret_shows_itself_to_nobody() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
