//! A probe that is asked: when it is asked next, and what its answers amount to.
//!
//! The thresholds are kubelet's: a verdict is reached, and changes, only after so many equal
//! answers in a row; fewer leave it as it is. Turns lie on a grid of intervals from the first one;
//! turns that pass while a question is under way become one, and it comes at once.

use std::time::{Duration, Instant};

use crate::logic::backoff::unit;
use crate::logic::health::parts::{Beginning, Outcome, Ready, Role, Startup};
use crate::protocol::care::ProbeSpec;

/// Which way an answer, or a verdict, went.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Way {
    Good,
    /// With what was said last.
    Bad(String),
}

/// One asked probe.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    spec: ProbeSpec,
    /// A turn of the grid: the latest that was taken, or the first.
    turn: Instant,
    next: Instant,
    under_way: Option<u64>,
    /// The latest answer, and how many like it came in a row.
    last: Option<(Way, u32)>,
    verdict: Option<Way>,
}

impl Asked {
    pub(super) fn new(spec: ProbeSpec, beginning: Beginning, now: Instant, fraction: f64) -> Self {
        let first = match beginning {
            Beginning::Fresh => now + spec.initial_delay,
            // They all become known in the same moment, and shall not be asked in the same one.
            Beginning::AdoptedStarted | Beginning::AdoptedStarting => {
                now + spec.interval.mul_f64(unit(fraction))
            }
        };
        Self { spec, turn: first, next: first, under_way: None, last: None, verdict: None }
    }

    /// Whether it is to be asked now; if so, the question has this number.
    pub(super) fn ask(&mut self, now: Instant, number: u64) -> bool {
        if self.under_way.is_some() || now < self.next {
            return false;
        }
        self.turn = self.latest_turn(now);
        self.under_way = Some(number);
        true
    }

    /// Takes an answer; false if nobody waits for it or it says nothing.
    pub(super) fn answered(&mut self, now: Instant, number: u64, outcome: &Outcome) -> bool {
        if self.under_way != Some(number) {
            return false;
        }
        self.under_way = None;
        let following = self.turn + self.interval();
        self.next = if following <= now { now } else { following };
        let way = match outcome {
            Outcome::Success { .. } => Way::Good,
            Outcome::Failure { message, .. } => Way::Bad(message.clone()),
            // Thrown away: the run has no part in it.
            Outcome::Unknown { .. } => return true,
        };
        let good = way == Way::Good;
        let before = self.last.take();
        let row = before.filter(|(last, _)| (*last == Way::Good) == good).map_or(0, |(_, row)| row);
        let row = row.saturating_add(1);
        let threshold =
            if good { self.spec.success_threshold } else { self.spec.failure_threshold };
        let changes = self.verdict.as_ref().is_none_or(|verdict| (*verdict == Way::Good) != good);
        if threshold <= row && changes {
            self.verdict = Some(way.clone());
        }
        self.last = Some((way, row));
        true
    }

    /// Asked from now on, but not before its initial delay is over.
    pub(super) fn from(&mut self, begun: Instant, now: Instant) {
        self.next = now.max(begun + self.spec.initial_delay);
        self.turn = self.next;
    }

    /// Asked from its next turn on.
    pub(super) fn at_next_turn(&mut self, now: Instant) {
        if self.turn < now {
            let latest = self.latest_turn(now);
            self.turn = if latest == now { now } else { latest + self.interval() };
        }
        self.next = self.turn;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.under_way.is_none().then_some(self.next)
    }

    pub(super) fn startup(&self) -> Startup {
        match &self.verdict {
            None => Startup::Pending,
            Some(Way::Good) => Startup::Passed,
            Some(Way::Bad(_)) => Startup::Failed(self.failed(Role::Startup).unwrap_or_default()),
        }
    }

    pub(super) fn readiness(&self) -> Ready {
        match &self.verdict {
            None => Ready::Unknown(self.waits(Role::Readiness)),
            Some(Way::Good) => Ready::Yes,
            Some(Way::Bad(_)) => Ready::No(self.failed(Role::Readiness).unwrap_or_default()),
        }
    }

    /// Why the probe has failed, if it has.
    pub(super) fn failed(&self, role: Role) -> Option<String> {
        let Some(Way::Bad(said)) = &self.verdict else { return None };
        let times = match self.spec.failure_threshold {
            1 => "once".to_owned(),
            more => format!("{more} times in a row"),
        };
        Some(format!("{role} probe failed {times}: {said}"))
    }

    /// What is waited for while there is no verdict.
    pub(super) fn waits(&self, role: Role) -> String {
        format!("waits for its {role} probe")
    }

    fn interval(&self) -> Duration {
        self.spec.interval.max(Duration::from_millis(1))
    }

    /// The latest turn that is not after this time; the present one if none came since.
    fn latest_turn(&self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.turn).as_nanos();
        let interval = self.interval().as_nanos();
        let into = passed.checked_rem(interval).unwrap_or_default();
        let into = Duration::from_nanos(u64::try_from(into).unwrap_or_default());
        if now <= self.turn { self.turn } else { now.checked_sub(into).unwrap_or(now) }
    }
}
