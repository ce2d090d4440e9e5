//! How long an agent may be silent: suspect after three missed beats, dead after five.
//!
//! A suspect agent gets no new work; a dead one is lost. Deadlines count only while beats can
//! arrive: while the connection is down time stands still for them, and after it came back an
//! agent has all its time again.
//!
//! Not for what follows from a verdict: that is the runtime's and the restart machine's.

use std::time::{Duration, Instant};

/// Missed beats from which an agent is suspect.
pub const SUSPECT_BEATS: u32 = 3;

/// Missed beats from which an agent is dead.
pub const DEAD_BEATS: u32 = 5;

/// What its silence says about an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It beats.
    Fresh,
    /// It may be gone.
    Suspect,
    /// It is gone.
    Dead,
}

/// Whether beats can arrive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Line {
    /// They can.
    #[default]
    Up,
    /// They cannot, whoever beats.
    Down,
}

/// Watches the silence of one agent.
#[derive(Clone, Copy, Debug)]
pub struct BeatWatch {
    /// The last sign of life, or the moment from which on there could be one.
    since: Instant,
    every: Duration,
    line: Line,
}

impl BeatWatch {
    /// An agent that has beaten at `now` and will again after `every`.
    #[must_use]
    pub fn new(now: Instant, every: Duration) -> Self {
        Self { since: now, every, line: Line::Up }
    }

    /// It has beaten.
    pub fn on_beat(&mut self, at: Instant, every: Duration) {
        self.since = self.since.max(at);
        self.every = every;
    }

    /// The connection went or came.
    pub fn on_line(&mut self, now: Instant, line: Line) {
        if self.line == Line::Down && line == Line::Up {
            self.since = now;
        }
        self.line = line;
    }

    /// What is to be thought of the agent now.
    #[must_use]
    pub fn verdict(&self, now: Instant) -> Verdict {
        let silence = self.silence(now);
        match self.line {
            Line::Down => Verdict::Fresh,
            Line::Up if silence >= self.every.saturating_mul(DEAD_BEATS) => Verdict::Dead,
            Line::Up if silence >= self.every.saturating_mul(SUSPECT_BEATS) => Verdict::Suspect,
            Line::Up => Verdict::Fresh,
        }
    }

    /// How long it has been silent.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// When the verdict changes if nothing comes; none once it is dead, or while nothing can come.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let missed = |beats| self.since.checked_add(self.every.saturating_mul(beats));
        match (self.line, self.verdict(now)) {
            (Line::Down, _) | (Line::Up, Verdict::Dead) => None,
            (Line::Up, Verdict::Fresh) => missed(SUSPECT_BEATS),
            (Line::Up, Verdict::Suspect) => missed(DEAD_BEATS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(1);

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only differences count")]
    fn three_missed_beats_are_suspect_and_five_are_dead() {
        let start = Instant::now();
        let mut watch = BeatWatch::new(start, EVERY);
        assert_eq!(watch.verdict(at(start, 2_999)), Verdict::Fresh);
        assert_eq!(watch.deadline(start), Some(at(start, 3_000)));
        assert_eq!(watch.verdict(at(start, 3_000)), Verdict::Suspect);
        assert_eq!(watch.deadline(at(start, 3_000)), Some(at(start, 5_000)));
        assert_eq!(watch.verdict(at(start, 5_000)), Verdict::Dead);
        assert_eq!(watch.deadline(at(start, 5_000)), None);
        watch.on_beat(at(start, 4_000), EVERY);
        assert_eq!(watch.verdict(at(start, 5_000)), Verdict::Fresh);
        watch.on_beat(at(start, 1_000), EVERY);
        assert_eq!(watch.silence(at(start, 5_000)), EVERY, "an older beat changes nothing");
        watch.on_beat(at(start, 4_000), EVERY * 10);
        assert_eq!(watch.deadline(at(start, 5_000)), Some(at(start, 34_000)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only differences count")]
    fn silence_counts_only_while_beats_can_arrive() {
        let start = Instant::now();
        let mut watch = BeatWatch::new(start, EVERY);
        watch.on_line(at(start, 2_900), Line::Down);
        assert_eq!(watch.verdict(at(start, 60_000)), Verdict::Fresh);
        assert_eq!(watch.deadline(at(start, 60_000)), None);
        watch.on_line(at(start, 60_000), Line::Up);
        assert_eq!(watch.verdict(at(start, 62_999)), Verdict::Fresh, "all its time again");
        assert_eq!(watch.verdict(at(start, 63_000)), Verdict::Suspect);
        watch.on_line(at(start, 64_000), Line::Up);
        assert_eq!(watch.verdict(at(start, 65_000)), Verdict::Dead, "it was up all the time");
    }
}
