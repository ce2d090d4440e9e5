//! Words of the health machine: roles, answers, orders, and what the run has said of itself.

use std::fmt;
use std::time::{Duration, Instant};

use crate::logic::health::STATUS_EVERY;
use crate::logic::health::notice::{Notice, Stage};
use crate::protocol::status::{HealthStatus, Readiness};

/// What a probe is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Whether the run has started.
    Startup,
    /// Whether it can be given work.
    Readiness,
    /// Whether it lives.
    Liveness,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        })
    }
}

/// How the run came into being.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beginning {
    /// It was begun now.
    Fresh,
    /// It lived before, and its startup had succeeded.
    AdoptedStarted,
    /// It lived before, and had not finished starting.
    AdoptedStarting,
}

/// What somebody found who looked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is well.
    Success {
        /// Time to the answer, where that is the run's own.
        took: Option<Duration>,
    },
    /// It is not well.
    Failure {
        /// Time to the answer, where there was one and it is the run's own.
        took: Option<Duration>,
        /// What is wrong.
        message: String,
    },
    /// Nobody could look, through no fault of the run. Counts nowhere.
    Unknown {
        /// Why not.
        message: String,
    },
}

/// One beat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Beat {
    /// Time to the next, as the run announces it; the probe's interval if it does not.
    pub every: Option<Duration>,
    /// Whether the run takes work.
    pub ready: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Order {
    /// Look now, and tell the outcome with the same number. At most one question of a role is
    /// under way.
    Probe {
        /// Which probe.
        role: Role,
        /// Names the question.
        number: u64,
    },
    /// The startup probe has succeeded.
    Started,
    /// The health changed.
    Show(Shown),
    /// Ask the run to stop.
    End(Verdict),
    /// Kill the run: it did not stop in time.
    Kill,
}

/// Health as others see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// Verdict.
    pub status: HealthStatus,
    /// Whether it can be given work.
    pub readiness: Readiness,
    /// Why, in words; empty when there is nothing to say.
    pub message: String,
}

/// Why a run is ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// What kind of failure it is.
    pub kind: VerdictKind,
    /// In words.
    pub message: String,
}

/// Kinds of failure that end a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VerdictKind {
    /// A probe failed as often as its threshold.
    ProbeFailed,
    /// No ping in time, or it asked for its own end.
    Watchdog,
    /// No sign of work in time.
    Hung,
}

/// How far the run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Its startup probe has not succeeded yet.
    Starting,
    /// It has started.
    Up,
    /// It said that it stops.
    Leaving {
        /// When that has taken too long.
        until: Instant,
    },
    /// It was sentenced and asked to stop.
    Ending {
        /// When it is killed, unless it was.
        kill_at: Option<Instant>,
    },
    /// Somebody else ends it.
    Over,
}

/// What a startup probe says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Startup {
    Pending,
    Passed,
    Failed(String),
}

/// What a readiness probe says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ready {
    /// Nothing yet.
    Unknown(String),
    Yes,
    No(String),
}

/// What the run has said of itself over its notify socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) stage: Option<Stage>,
    status: String,
    errno: Option<i32>,
    told_at: Option<Instant>,
}

impl Said {
    /// What is known to have been said already.
    pub(super) fn of(beginning: Beginning) -> Self {
        let ready = beginning == Beginning::AdoptedStarted;
        Self { stage: ready.then_some(Stage::Ready), ..Self::default() }
    }

    pub(super) fn take_in(&mut self, notice: &Notice) {
        self.stage = notice.stage.or(self.stage);
        if let Some(status) = &notice.status {
            self.status.clone_from(status);
        }
        if notice.errno.is_some() {
            self.errno = notice.errno;
        }
    }

    /// Its own words, with the error number it gave.
    pub(super) fn text(&self) -> String {
        match (self.status.is_empty(), self.errno.filter(|errno| *errno != 0)) {
            (true, None) => String::new(),
            (true, Some(errno)) => format!("it says: errno {errno}"),
            (false, None) => format!("it says: {}", self.status),
            (false, Some(errno)) => format!("it says: {} (errno {errno})", self.status),
        }
    }

    pub(super) fn suffix(&self) -> String {
        let text = self.text();
        if text.is_empty() { text } else { format!("; {text}") }
    }

    /// Whether a change that is only words may be told now.
    pub(super) fn may_tell(&self, now: Instant) -> bool {
        self.told_at.is_none_or(|at| STATUS_EVERY <= now.saturating_duration_since(at))
    }

    pub(super) fn told(&mut self, now: Instant) {
        self.told_at = Some(now);
    }

    /// When words that were held back are due.
    pub(super) fn due(&self, shown: Option<&Shown>) -> Option<Instant> {
        let text = self.text();
        let held_back = !text.is_empty()
            && shown.is_some_and(|shown| {
                shown.message != text && shown.readiness != Readiness::NotReady
            });
        let at = self.told_at.filter(|_| held_back)?;
        Some(at + STATUS_EVERY)
    }
}
