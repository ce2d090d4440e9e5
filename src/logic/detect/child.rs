//! What is known of one child: its outage, how often it failed lately, how often it changed.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::logic::detect::settings::DetectSettings;
use crate::logic::detect::{Who, WhoKind};
use crate::protocol::decision::Inputs;
use crate::protocol::fact::FailureType;
use crate::protocol::insight::PatternKind;
use crate::protocol::status::AgentState;

/// Failures remembered of one child; older ones cannot matter, the threshold is below.
const FAILURES_MAX: usize = 1_024;

/// One child.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) who: Who,
    /// Since when it is in an outage.
    pub(super) outage: Option<Instant>,
    /// Patterns of its own that stand.
    pub(super) stands: BTreeSet<PatternKind>,
    /// Since when it runs.
    runs_since: Option<Instant>,
    good_since: Option<Instant>,
    face: Option<Face>,
    failures: VecDeque<(Instant, u32)>,
    changes: Decaying,
    /// The present change belongs to a run that was too short to count as good.
    short: bool,
}

/// How a child looks from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Face {
    Good,
    Bad,
}

/// What a change of a child means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Noted {
    /// Nothing that others must know.
    Nothing,
    /// It flaps, by these numbers.
    Flaps(Inputs),
    /// It was stopped or ended as it should: it is in no outage any more.
    AtRest,
}

impl Child {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            outage: None,
            stands: BTreeSet::new(),
            runs_since: None,
            good_since: None,
            face: None,
            failures: VecDeque::new(),
            changes: Decaying::default(),
            short: false,
        }
    }

    /// Notes a failure; gives the evidence when it makes a crash loop.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        kind: FailureType,
        settings: &DetectSettings,
    ) -> Option<Inputs> {
        let ran = self.runs_since.take().map(|since| now.saturating_duration_since(since));
        self.good_since = None;
        self.short = ran.is_none_or(|ran| ran < DetectSettings::SHORT_RUN);
        if self.who.kind == WhoKind::Downstream || kind == FailureType::Throttled {
            return None;
        }
        let weight = if self.short { 2 } else { 1 };
        self.failures.push_back((now, weight));
        let window = settings.crash_loop_window;
        while self.failures.len() > FAILURES_MAX
            || self.failures.front().is_some_and(|(at, _)| is_before(*at, now, window))
        {
            self.failures.pop_front();
        }
        let weights: u32 = self.failures.iter().map(|(_, weight)| *weight).sum();
        if self.stands.contains(&PatternKind::CrashLoop) || weights < settings.crash_loop_failures {
            return None;
        }
        self.stands.insert(PatternKind::CrashLoop);
        self.changes = Decaying::default();
        let short = self.failures.iter().filter(|(_, weight)| 1 < *weight).count();
        Some(
            Inputs::default()
                .with("failures", counted(self.failures.len()))
                .with("short_runs", counted(short))
                .with("weight", u64::from(weights))
                .with("limit", u64::from(settings.crash_loop_failures))
                .with("window_ms", millis(window))
                .with("last_run_ms", millis(ran.unwrap_or_default())),
        )
    }

    /// Notes a state.
    pub(super) fn is(&mut self, now: Instant, to: AgentState, settings: &DetectSettings) -> Noted {
        match to {
            AgentState::Running => {
                self.runs_since.get_or_insert(now);
                self.good_since.get_or_insert(now);
                self.looks(now, Face::Good, settings)
            }
            AgentState::Degraded => {
                self.runs_since.get_or_insert(now);
                self.good_since = None;
                self.looks(now, Face::Bad, settings)
            }
            AgentState::Backoff | AgentState::Quarantined => {
                self.good_since = None;
                self.looks(now, Face::Bad, settings)
            }
            AgentState::Starting | AgentState::Probation => {
                self.runs_since = Some(now);
                Noted::Nothing
            }
            AgentState::Created | AgentState::Stopping | AgentState::Parked => {
                self.good_since = None;
                Noted::Nothing
            }
            AgentState::Stopped | AgentState::Terminated => {
                (self.face, self.good_since, self.runs_since) = (None, None, None);
                Noted::AtRest
            }
        }
    }

    /// Notes that a downstream failed, or works again.
    pub(super) fn downstream(
        &mut self,
        now: Instant,
        works: Works,
        settings: &DetectSettings,
    ) -> Noted {
        self.short = false;
        let face = match works {
            Works::Again => Face::Good,
            Works::NotAnyMore => Face::Bad,
        };
        self.looks(now, face, settings)
    }

    fn looks(&mut self, now: Instant, face: Face, settings: &DetectSettings) -> Noted {
        let before = self.face.replace(face);
        let is_change = before.is_some_and(|before| before != face);
        // A crash loop is told as one; its changes are no flapping besides.
        if !is_change || self.short || self.stands.contains(&PatternKind::CrashLoop) {
            return Noted::Nothing;
        }
        let changes = self.changes.add(now, DetectSettings::HALF_LIFE);
        let limit = f64::from(settings.flapping_changes);
        if changes <= limit || !self.stands.insert(PatternKind::Flapping) {
            return Noted::Nothing;
        }
        let evidence = Inputs::default()
            .with("changes", rounded(changes))
            .with("limit", limit)
            .with("half_life_ms", millis(DetectSettings::HALF_LIFE));
        Noted::Flaps(evidence)
    }

    /// Whether it has run well for the time that ends a crash loop.
    pub(super) fn is_stable(&self, now: Instant) -> bool {
        let good = self.good_since.map(|since| now.saturating_duration_since(since));
        good.is_some_and(|good| DetectSettings::STABLE <= good)
    }

    /// When it stops to flap if nothing more happens; the past when it has stopped.
    pub(super) fn calm_at(&self, settings: &DetectSettings) -> Option<Instant> {
        self.changes.falls_to(settings.calm(), DetectSettings::HALF_LIFE)
    }

    /// The outage is over.
    pub(super) fn recovered(&mut self) {
        self.outage = None;
        self.failures.clear();
    }
}

/// Whether a downstream works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Works {
    Again,
    NotAnyMore,
}

/// A count that loses half of itself in a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decaying {
    count: f64,
    at: Option<Instant>,
}

impl Decaying {
    /// Counts one more.
    pub(super) fn add(&mut self, now: Instant, half_life: Duration) -> f64 {
        self.count = self.value(now, half_life) + 1.0;
        self.at = Some(now);
        self.count
    }

    pub(super) fn value(&self, now: Instant, half_life: Duration) -> f64 {
        let past = self.at.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        self.count * (-(past.as_secs_f64() / half_life.as_secs_f64())).exp2()
    }

    fn falls_to(&self, level: f64, half_life: Duration) -> Option<Instant> {
        let halves = (self.count / level).log2().max(0.0);
        self.at?.checked_add(half_life.mul_f64(halves))
    }
}

/// Whether a moment lies more than `window` back.
pub(super) fn is_before(at: Instant, now: Instant, window: Duration) -> bool {
    window < now.saturating_duration_since(at)
}

pub(super) fn counted(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// For people: two digits after the point.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
