//! What a run says over its notify socket: the assignments of `sd_notify(3)`, one datagram at a
//! time.
//!
//! Understood are READY, RELOADING, STOPPING, STATUS, ERRNO, WATCHDOG, `WATCHDOG_USEC` and
//! `EXTEND_TIMEOUT_USEC`. Everything else is passed over, `MAINPID` among it: which process a run
//! is cannot be changed by what one of its processes says.

use std::time::Duration;

/// Longest datagram that is read, as in systemd.
pub const NOTICE_BYTES_MAX: usize = 4_096;

/// Longest status text that is kept, in characters.
const STATUS_CHARS_MAX: usize = 256;

/// One datagram.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Notice {
    /// `READY=1`, `RELOADING=1` or `STOPPING=1`; the last of them.
    pub stage: Option<Stage>,
    /// `STATUS=`, in one line.
    pub status: Option<String>,
    /// `ERRNO=`.
    pub errno: Option<i32>,
    /// `WATCHDOG=`.
    pub watchdog: Option<Watchdog>,
    /// `WATCHDOG_USEC=`: another time for the watchdog; zero switches it off.
    pub watchdog_span: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`: more time for the start or the end that is under way, from now.
    pub extend: Option<Duration>,
}

/// Where a run says that it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// It has started, or has reloaded.
    Ready,
    /// It reloads, and takes no work.
    Reloading,
    /// It stops by itself.
    Stopping,
}

/// What a run says to its watchdog.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watchdog {
    /// It lives.
    Ping,
    /// It wants to be ended.
    Trigger,
}

impl Notice {
    /// Reads a datagram. Lines that are not understood, or whose value makes no sense, are passed
    /// over, as in systemd.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Self {
        let mut notice = Self::default();
        for line in datagram.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some((key, value)) = line.split_once('=') else { continue };
            let span = || value.parse().ok().map(Duration::from_micros);
            match (key, value) {
                ("READY", "1") => notice.stage = Some(Stage::Ready),
                ("RELOADING", "1") => notice.stage = Some(Stage::Reloading),
                ("STOPPING", "1") => notice.stage = Some(Stage::Stopping),
                ("WATCHDOG", "1") => notice.ping(),
                ("WATCHDOG", "trigger") => notice.watchdog = Some(Watchdog::Trigger),
                ("STATUS", text) => notice.status = Some(one_line(text)),
                ("ERRNO", number) => notice.errno = number.parse().ok(),
                ("WATCHDOG_USEC", _) => notice.watchdog_span = span(),
                ("EXTEND_TIMEOUT_USEC", _) => notice.extend = span(),
                _ => {}
            }
        }
        notice
    }

    /// A ping does not take back that the run wants to be ended.
    fn ping(&mut self) {
        self.watchdog.get_or_insert(Watchdog::Ping);
    }
}

fn one_line(text: &str) -> String {
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(STATUS_CHARS_MAX).map(shown).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(datagram: &str, expected: &Notice) {
        assert_eq!(&Notice::parse(datagram.as_bytes()), expected, "{datagram:?}");
    }

    #[test]
    fn assignments_are_read_line_by_line() {
        let none = Notice::default;
        check("", &none());
        check("READY=1", &Notice { stage: Some(Stage::Ready), ..none() });
        check("READY=1\n", &Notice { stage: Some(Stage::Ready), ..none() });
        check(
            "RELOADING=1\nMONOTONIC_USEC=17\nSTATUS=Reloading…",
            &Notice {
                stage: Some(Stage::Reloading),
                status: Some("Reloading…".to_owned()),
                ..none()
            },
        );
        check(
            "STOPPING=1\nERRNO=2",
            &Notice { stage: Some(Stage::Stopping), errno: Some(2), ..none() },
        );
        check("WATCHDOG=1", &Notice { watchdog: Some(Watchdog::Ping), ..none() });
        check("WATCHDOG=trigger", &Notice { watchdog: Some(Watchdog::Trigger), ..none() });
        let trigger = Notice { watchdog: Some(Watchdog::Trigger), ..none() };
        check("WATCHDOG=trigger\nWATCHDOG=1", &trigger);
        let half = Some(Duration::from_millis(500));
        check("WATCHDOG_USEC=500000", &Notice { watchdog_span: half, ..none() });
        check("EXTEND_TIMEOUT_USEC=500000", &Notice { extend: half, ..none() });
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        for text in [
            "READY=0",
            "READY=yes",
            "ready=1",
            " READY=1",
            "READY",
            "=1",
            "MAINPID=1",
            "MAINPID=0",
            "FDSTORE=1\nFDNAME=x",
            "WATCHDOG=2",
            "WATCHDOG_USEC=-1",
            "EXTEND_TIMEOUT_USEC=18446744073709551616",
            "BARRIER=1",
        ] {
            check(text, &Notice::default());
        }
        let read = Notice::parse(b"STATUS=\xff\xfe\nREADY=1");
        assert_eq!(read, Notice { stage: Some(Stage::Ready), ..Notice::default() });
    }

    #[test]
    fn a_status_is_one_short_line() {
        let text = format!("STATUS=\u{1b}[31m{}\r", "x".repeat(1_000));
        let status = Notice::parse(text.as_bytes()).status.unwrap();
        assert!(status.chars().count() <= STATUS_CHARS_MAX && status.starts_with("[31mx"));
        assert!(!status.contains(char::is_control));
    }

    proptest! {
        #[test]
        fn no_datagram_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let read = Notice::parse(&bytes);
            prop_assert!(read.status.is_none_or(|status| !status.contains(char::is_control)));
        }
    }
}
