//! Exit codes and signals as they are written in files: `75`, `"64-78"`, `"SIGTERM"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// Highest signal number of Linux.
const SIGNAL_MAX: i32 = 64;

/// Names of signals with their numbers on Linux.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// A text is neither codes nor a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum EndError {
    #[error("no exit code; write it like 75 or \"64-78\", each from 0 to 255")]
    Codes,
    #[error("no range of exit codes; the first is above the last")]
    Backwards,
    #[error("no signal; write it like \"SIGKILL\" or 9, from 1 to 64")]
    Signal,
}

/// One exit code, or a range of them with both ends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct Codes {
    first: u8,
    last: u8,
}

impl Codes {
    /// Each of them.
    pub(crate) fn each(self) -> impl Iterator<Item = i32> {
        (self.first..=self.last).map(i32::from)
    }
}

impl FromStr for Codes {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, EndError> {
        let code = |text: &str| {
            let text = text.trim();
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(EndError::Codes)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (code(first)?, code(last)?);
        if last < first { Err(EndError::Backwards) } else { Ok(Self { first, last }) }
    }
}

impl TryFrom<String> for Codes {
    type Error = EndError;

    fn try_from(text: String) -> Result<Self, EndError> {
        text.parse()
    }
}

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Codes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Codes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "pattern": "^[0-9]+( *- *[0-9]+)?$|\\$\\{",
            "x-unit": "codes"
        })
    }
}

/// A signal by name or number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct Signal(pub(crate) i32);

impl FromStr for Signal {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, EndError> {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let number = named.or_else(|| upper.parse().ok()).ok_or(EndError::Signal)?;
        if (1..=SIGNAL_MAX).contains(&number) { Ok(Self(number)) } else { Err(EndError::Signal) }
    }
}

impl TryFrom<String> for Signal {
    type Error = EndError;

    fn try_from(text: String) -> Result<Self, EndError> {
        text.parse()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Signal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Signal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "pattern": "^([A-Za-z0-9]+)$|\\$\\{",
            "x-unit": "signal"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_one_or_a_range_with_both_ends() {
        let read = |text: &str| {
            text.parse::<Codes>().map(|codes| (codes.to_string(), codes.each().count()))
        };
        assert_eq!(read("75"), Ok(("75".to_owned(), 1)));
        assert_eq!(read("64-78"), Ok(("64-78".to_owned(), 15)));
        assert_eq!(read(" 0 - 255 "), Ok(("0-255".to_owned(), 256)));
        assert_eq!(read("78-64"), Err(EndError::Backwards));
        for wrong in ["", "-", "1-", "-1", "256", "0-256", "1-2-3", "x", "+1"] {
            assert_eq!(read(wrong), Err(EndError::Codes), "{wrong:?}");
        }
    }

    #[test]
    fn a_signal_is_a_name_or_a_number() {
        let read = |text: &str| text.parse::<Signal>().map(|signal| signal.to_string());
        for text in ["SIGKILL", "KILL", "sigkill", "kill", "9"] {
            assert_eq!(read(text).as_deref(), Ok("SIGKILL"), "{text:?}");
        }
        assert_eq!(read("64").as_deref(), Ok("64"));
        for wrong in ["", "SIG", "SIGNOPE", "0", "65", "-9", "9.5"] {
            assert_eq!(read(wrong), Err(EndError::Signal), "{wrong:?}");
        }
        for (name, number) in SIGNALS {
            let round: Signal = name.parse().unwrap();
            assert_eq!((round.0, round.to_string()), (number, format!("SIG{name}")));
        }
    }
}
