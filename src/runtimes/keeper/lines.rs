//! What a stdio agent writes on its standard output: messages for the daemon, all else log.
//!
//! A message is a whole line that is a JSON object with `id` and `state`, or with `op` = `"beat"`,
//! of at most [`LINE_BYTES_MAX`] bytes. A longer line goes into the log as it comes.
//!
//! Messages wait here until the daemon says that it took them, whichever daemon that is: one that
//! was sent to a daemon which died is sent again to the next. At most [`QUEUE_BYTES_MAX`] bytes
//! wait for one run and [`QUEUE_ALL_BYTES_MAX`] for all; a message that finds no room goes into the
//! log instead, and is counted. Beats do not wait: only the last one counts.

use std::collections::VecDeque;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::protocol::agent::MESSAGE_BYTES_MAX;

/// Longest line that can be a message, without its end.
pub(super) const LINE_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Bytes of messages of one run that wait for the daemon.
pub(super) const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of messages of all runs that wait for the daemon.
pub(super) const QUEUE_ALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of messages of one run that were sent and that the daemon has not taken yet; the rest is
/// not sent. One message is always sent.
pub(super) const WINDOW_BYTES_MAX: usize = 1024 * 1024;

/// Longest beat; one that is longer is log.
pub(super) const BEAT_BYTES_MAX: usize = 64 * 1024;

/// What a line is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Beat,
    Event,
    Log,
}

/// Tells what a line is.
fn kind(line: &[u8]) -> Kind {
    /// The fields that tell.
    #[derive(Deserialize)]
    struct Shape {
        op: Option<Value>,
        id: Option<IgnoredAny>,
        state: Option<IgnoredAny>,
    }
    // Most lines are none, and are not to be parsed.
    if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Kind::Log;
    }
    match serde_json::from_slice::<Shape>(line) {
        Ok(Shape { op: Some(op), .. }) if op == "beat" && line.len() <= BEAT_BYTES_MAX => {
            Kind::Beat
        }
        Ok(Shape { op: None, id: Some(_), state: Some(_) }) => Kind::Event,
        Ok(_) | Err(_) => Kind::Log,
    }
}

/// Cuts a stream into lines and sorts them.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    state: SplitterState,
    /// Lines that were too long to be messages.
    pub(super) too_long: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum SplitterState {
    #[default]
    Line,
    /// The line has become too long; what it began with is given out.
    TooLong,
}

/// What becomes of a piece of output.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Piece<'a> {
    /// A message about a task, without its line end.
    Event(&'a str),
    /// A message about the agent itself, without its line end.
    Beat(&'a str),
    /// Log, as it is.
    Log(&'a [u8]),
}

impl Splitter {
    /// Takes bytes and gives out what is complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut out: impl FnMut(Piece<'_>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end.saturating_add(1));
            bytes = rest;
            if self.state == SplitterState::TooLong {
                self.state = SplitterState::Line;
                out(Piece::Log(line));
            } else if self.begun.is_empty() {
                sort(line, &mut self.too_long, &mut out);
            } else {
                self.begun.extend_from_slice(line);
                sort(&self.begun, &mut self.too_long, &mut out);
                self.begun.clear();
            }
        }
        if bytes.is_empty() {
            return;
        }
        if self.state == SplitterState::TooLong {
            return out(Piece::Log(bytes));
        }
        self.begun.extend_from_slice(bytes);
        if self.begun.len() > LINE_BYTES_MAX {
            self.state = SplitterState::TooLong;
            self.too_long = self.too_long.saturating_add(1);
            out(Piece::Log(&self.begun));
            self.begun = Vec::new();
        }
    }

    /// The output has ended: a last line may have no end.
    pub(super) fn finish(&mut self, mut out: impl FnMut(Piece<'_>)) {
        let last = std::mem::take(&mut self.begun);
        if !last.is_empty() {
            sort(&last, &mut self.too_long, &mut out);
        }
    }
}

/// Sorts one line, with its end if it has one.
fn sort(line: &[u8], too_long: &mut u64, out: &mut impl FnMut(Piece<'_>)) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    if text.len() > LINE_BYTES_MAX {
        *too_long = too_long.saturating_add(1);
        return out(Piece::Log(line));
    }
    let Ok(text) = std::str::from_utf8(text) else { return out(Piece::Log(line)) };
    out(match kind(text.as_bytes()) {
        Kind::Beat => Piece::Beat(text),
        Kind::Event => Piece::Event(text),
        Kind::Log => Piece::Log(line),
    });
}

/// Messages of one run that the daemon has not taken.
#[derive(Debug, Default)]
pub(super) struct LineQueue {
    waiting: VecDeque<(u64, String)>,
    last: u64,
    /// The last one that was sent to the present daemon.
    sent: u64,
    bytes: usize,
    /// Bytes that were sent and not taken.
    window: usize,
    /// Messages that found no room.
    pub(super) no_room: u64,
}

impl LineQueue {
    /// Whether a message of this length finds room. A refusal is counted.
    pub(super) fn admit(&mut self, bytes: usize, all: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= QUEUE_BYTES_MAX
            && all.saturating_add(bytes) <= QUEUE_ALL_BYTES_MAX;
        if !fits {
            self.no_room = self.no_room.saturating_add(1);
        }
        fits
    }

    /// Takes a message that was admitted.
    pub(super) fn push(&mut self, line: &str) {
        self.last = self.last.saturating_add(1);
        self.bytes = self.bytes.saturating_add(line.len());
        self.waiting.push_back((self.last, line.to_owned()));
    }

    /// The next message to be sent, if there is one and the daemon has taken enough.
    pub(super) fn next(&mut self) -> Option<(u64, String)> {
        let unsent = self.waiting.partition_point(|(number, _)| *number <= self.sent);
        let (number, line) = self.waiting.get(unsent)?;
        let window = self.window.saturating_add(line.len());
        if window > WINDOW_BYTES_MAX && self.window > 0 {
            return None;
        }
        (self.sent, self.window) = (*number, window);
        Some((*number, line.clone()))
    }

    /// Gives out everything that was not sent yet, whatever the window.
    pub(super) fn send_all(&mut self, mut send: impl FnMut(u64, String)) {
        for (number, line) in &self.waiting {
            if *number > self.sent {
                send(*number, line.clone());
            }
        }
        self.sent = self.last;
    }

    /// The daemon has taken all messages up to this one; gives the bytes that are free again.
    pub(super) fn took(&mut self, up_to: u64) -> usize {
        let mut free = 0_usize;
        while let Some((number, line)) = self.waiting.front() {
            if *number > up_to {
                break;
            }
            free = free.saturating_add(line.len());
            if *number <= self.sent {
                self.window = self.window.saturating_sub(line.len());
            }
            self.waiting.pop_front();
        }
        self.bytes = self.bytes.saturating_sub(free);
        free
    }

    /// Another daemon is there: it is sent everything.
    pub(super) fn resend(&mut self) {
        (self.sent, self.window) = (0, 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that comes of a stream that is pushed in pieces of this size.
    fn split(stream: &[u8], size: usize) -> (Vec<String>, Vec<u8>, u64) {
        let (mut messages, mut log) = (Vec::new(), Vec::new());
        let mut splitter = Splitter::default();
        let mut take = |piece: Piece<'_>| match piece {
            Piece::Event(line) | Piece::Beat(line) => messages.push(line.to_owned()),
            Piece::Log(bytes) => log.extend_from_slice(bytes),
        };
        for chunk in stream.chunks(size) {
            splitter.push(chunk, &mut take);
        }
        splitter.finish(&mut take);
        (messages, log, splitter.too_long)
    }

    #[test]
    fn messages_and_log_are_told_apart_however_the_stream_is_cut() {
        let stream = b"hello\n{\"id\":\"t\",\"state\":\"working\"}\n{\"id\":1}\n\xff\xfe{\n \
            {\"op\":\"beat\"}\r\n{\"op\":\"task\",\"id\":1,\"state\":1}\n[1]\n\n{\"id\":\"t\",\"state\":\"x\"}";
        for size in 1..=stream.len() {
            let (messages, log, too_long) = split(stream, size);
            assert_eq!(
                messages,
                [
                    "{\"id\":\"t\",\"state\":\"working\"}",
                    " {\"op\":\"beat\"}\r",
                    "{\"id\":\"t\",\"state\":\"x\"}"
                ],
                "pieces of {size}"
            );
            let expected: &[u8] =
                b"hello\n{\"id\":1}\n\xff\xfe{\n{\"op\":\"task\",\"id\":1,\"state\":1}\n[1]\n\n";
            assert_eq!(log, expected, "pieces of {size}");
            assert_eq!(too_long, 0);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_log_and_what_follows_is_not_harmed() {
        let long = format!("{{\"id\":\"{}\",\"state\":1}}\n", "x".repeat(LINE_BYTES_MAX));
        let stream = format!("{long}{{\"op\":\"beat\"}}\n");
        for size in [1_000, 65_536, stream.len()] {
            let (messages, log, too_long) = split(stream.as_bytes(), size);
            assert_eq!(messages, ["{\"op\":\"beat\"}"]);
            assert!(log == long.as_bytes());
            assert_eq!(too_long, 1);
        }
        let (messages, _, too_long) = split(
            format!("{{\"id\":1,\"state\":\"{}\"}}\n", "x".repeat(LINE_BYTES_MAX - 19)).as_bytes(),
            65_536,
        );
        assert_eq!((messages.len(), too_long), (1, 0), "exactly the longest");
    }

    #[test]
    fn a_message_is_sent_until_it_was_taken() {
        let mut queue = LineQueue::default();
        for line in ["a", "b", "c"] {
            assert!(queue.admit(1, 0));
            queue.push(line);
        }
        assert_eq!(queue.next(), Some((1, "a".to_owned())));
        assert_eq!(queue.next(), Some((2, "b".to_owned())));
        assert_eq!(queue.took(1), 1);
        queue.resend();
        assert_eq!(queue.next(), Some((2, "b".to_owned())), "sent, but not taken");
        assert_eq!(queue.next(), Some((3, "c".to_owned())));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.took(u64::MAX), 2);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_window_and_the_queue_are_bounded() {
        let mut queue = LineQueue::default();
        let line = "x".repeat(700_000);
        let mut pushed = 0;
        while queue.admit(line.len(), 0) {
            queue.push(&line);
            pushed += 1;
        }
        assert_eq!(pushed, QUEUE_BYTES_MAX / line.len());
        assert_eq!(queue.no_room, 1);
        assert!(queue.next().is_some());
        assert_eq!(queue.next(), None, "the window is full");
        queue.took(1);
        assert!(queue.next().is_some());
        assert!(!LineQueue::default().admit(1, QUEUE_ALL_BYTES_MAX));
    }
}
