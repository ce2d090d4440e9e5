//! A probe that is heard: the run gives signs by itself, and silence is what counts.
//!
//! | check | a sign is | startup | readiness | liveness |
//! |---|---|---|---|---|
//! | `notify` | READY=1 at start, WATCHDOG=1 later | a READY=1 | READY=1, and no RELOADING=1 since | watchdog |
//! | `beat` | a beat | the first | the latest says so and is not late | hung |
//! | `stdout_within` | output | the first | output in time | hung |
//!
//! Silence is too long after `interval × failure_threshold`, for output after the time that is
//! configured. A run whose beats are late is *suspect* after `failure_threshold` of them and *dead*
//! two beats later; the time between beats is what the latest one announced.

use std::time::{Duration, Instant};

use crate::logic::health::notice::{Notice, Stage, Watchdog};
use crate::logic::health::parts::{Beat, Ready, Role, Said, Startup, VerdictKind};
use crate::protocol::care::{ProbeCheck, ProbeSpec};

/// Beats that may be missing between a suspicion and the verdict.
const BEATS_OF_DOUBT: u32 = 2;

/// Shortest and longest time between beats that a run may announce.
const BEAT_EVERY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3600));

/// Shortest watchdog time that a run may ask for.
const WATCHDOG_MIN: Duration = Duration::from_millis(1);

/// Returns how long silence may last.
pub(super) fn span_of(spec: &ProbeSpec) -> Duration {
    match &spec.check {
        ProbeCheck::StdoutWithin(within) => *within,
        ProbeCheck::Notify
        | ProbeCheck::Beat
        | ProbeCheck::Http(_)
        | ProbeCheck::Tcp(_)
        | ProbeCheck::Exec(_) => spec.interval.saturating_mul(spec.failure_threshold),
    }
}

/// One heard probe.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    spec: ProbeSpec,
    role: Role,
    /// Silence is counted from here, or from the latest sign if that is later.
    base: Instant,
    sign: Option<Instant>,
    /// How long silence may last; `None` for ever, because the run switched its watchdog off.
    span: Option<Duration>,
    /// Time between beats.
    every: Duration,
    /// Whether the latest beat said that it takes work.
    takes_work: bool,
    /// A later end of the start, because the run asked for it.
    extended: Option<Instant>,
}

impl Heard {
    pub(super) fn new(spec: ProbeSpec, role: Role, now: Instant) -> Self {
        Self {
            base: now + spec.initial_delay,
            sign: None,
            span: Some(span_of(&spec)),
            every: spec.interval,
            takes_work: false,
            extended: None,
            role,
            spec,
        }
    }

    pub(super) fn notice(&mut self, now: Instant, notice: &Notice) {
        if self.spec.check != ProbeCheck::Notify {
            return;
        }
        let ready = notice.stage == Some(Stage::Ready);
        let sign = match self.role {
            Role::Startup | Role::Readiness => ready,
            // A run that has just become ready has been heard of, too.
            Role::Liveness => ready || notice.watchdog == Some(Watchdog::Ping),
        };
        if sign {
            self.sign = Some(now);
        }
        if let Some(span) = notice.watchdog_span
            && self.role == Role::Liveness
        {
            self.span = (!span.is_zero()).then(|| span.max(WATCHDOG_MIN));
            self.base = now.max(self.base);
        }
    }

    pub(super) fn beat(&mut self, now: Instant, beat: Beat) {
        if self.spec.check != ProbeCheck::Beat {
            return;
        }
        self.sign = Some(now);
        self.takes_work = beat.ready;
        if let Some(every) = beat.every {
            self.every = every.clamp(BEAT_EVERY.0, BEAT_EVERY.1);
        }
    }

    pub(super) fn output(&mut self, now: Instant) {
        match self.spec.check {
            ProbeCheck::StdoutWithin(_) => self.sign = Some(now),
            ProbeCheck::Notify
            | ProbeCheck::Beat
            | ProbeCheck::Http(_)
            | ProbeCheck::Tcp(_)
            | ProbeCheck::Exec(_) => {}
        }
    }

    /// Silence is counted from now on.
    pub(super) fn from(&mut self, now: Instant) {
        self.base = now.max(self.base);
    }

    pub(super) fn extend(&mut self, until: Instant) {
        self.extended = self.extended.max(Some(until));
    }

    /// The next time after `after` at which time alone changes something.
    pub(super) fn deadline(&self, after: Instant) -> Option<Instant> {
        let beats = self.spec.check == ProbeCheck::Beat;
        let times = match self.role {
            Role::Startup => [self.until().filter(|_| self.sign.is_none()), None],
            Role::Readiness if self.spec.check == ProbeCheck::Notify => [None, None],
            Role::Readiness => [self.fresh_until(), None],
            Role::Liveness => [self.until(), beats.then(|| self.last() + self.late_after())],
        };
        times.into_iter().flatten().filter(|at| after < *at).min()
    }

    pub(super) fn startup(&self, now: Instant) -> Startup {
        if self.sign.is_some() {
            return Startup::Passed;
        }
        match self.until() {
            Some(until) if until <= now => {
                let waited = until.saturating_duration_since(self.base).as_secs_f64();
                Startup::Failed(format!(
                    "startup probe failed: no {} within {waited} s",
                    self.what()
                ))
            }
            Some(_) | None => Startup::Pending,
        }
    }

    pub(super) fn readiness(&self, now: Instant, said: &Said) -> Ready {
        let yes_or = |good: bool, message: &str| {
            if good { Ready::Yes } else { Ready::No(message.to_owned()) }
        };
        match self.spec.check {
            ProbeCheck::Notify if said.stage == Some(Stage::Ready) => Ready::Yes,
            ProbeCheck::Beat if self.sign.is_some() => {
                let late = self.fresh_until().is_none_or(|until| until <= now);
                let says = "its beats say that it takes no work";
                yes_or(self.takes_work && !late, if late { "its beats are late" } else { says })
            }
            ProbeCheck::StdoutWithin(within) if self.sign.is_some() => {
                let silent = self.fresh_until().is_none_or(|until| until <= now);
                let within = within.as_secs_f64();
                yes_or(!silent, &format!("no output within {within} s"))
            }
            ProbeCheck::Notify
            | ProbeCheck::Beat
            | ProbeCheck::StdoutWithin(_)
            | ProbeCheck::Http(_)
            | ProbeCheck::Tcp(_)
            | ProbeCheck::Exec(_) => Ready::Unknown(self.waits()),
        }
    }

    /// Why the run has to be ended, if it has to be.
    pub(super) fn dead(&self, now: Instant) -> Option<(VerdictKind, String)> {
        let until = self.until().filter(|until| *until <= now)?;
        let span = until.saturating_duration_since(self.last()).as_secs_f64();
        Some(match self.spec.check {
            ProbeCheck::Notify => (VerdictKind::Watchdog, format!("no WATCHDOG=1 within {span} s")),
            ProbeCheck::Beat => (VerdictKind::Hung, format!("no beat within {span} s")),
            ProbeCheck::StdoutWithin(_)
            | ProbeCheck::Http(_)
            | ProbeCheck::Tcp(_)
            | ProbeCheck::Exec(_) => (VerdictKind::Hung, format!("no output within {span} s")),
        })
    }

    /// Why the run is doubted, if it is.
    pub(super) fn suspect(&self, now: Instant) -> Option<String> {
        let late = self.spec.check == ProbeCheck::Beat
            && self.role == Role::Liveness
            && self.last() + self.late_after() <= now;
        late.then(|| format!("suspect: {} beats are missing", self.spec.failure_threshold))
    }

    /// What is waited for while nothing was heard.
    pub(super) fn waits(&self) -> String {
        format!("waits for {}", self.what())
    }

    fn what(&self) -> &'static str {
        match self.spec.check {
            ProbeCheck::Notify => "READY=1",
            ProbeCheck::Beat => "beat",
            ProbeCheck::StdoutWithin(_)
            | ProbeCheck::Http(_)
            | ProbeCheck::Tcp(_)
            | ProbeCheck::Exec(_) => "output",
        }
    }

    fn last(&self) -> Instant {
        self.sign.map_or(self.base, |sign| sign.max(self.base))
    }

    /// End of the patience with a silence that lasts.
    fn until(&self) -> Option<Instant> {
        match (self.role, &self.spec.check) {
            (Role::Startup, _) => Some(self.base + self.span?).max(self.extended),
            (Role::Liveness, ProbeCheck::Beat) => {
                let beats = self.spec.failure_threshold.saturating_add(BEATS_OF_DOUBT);
                Some(self.last() + self.every.saturating_mul(beats))
            }
            (Role::Liveness | Role::Readiness, _) => Some(self.last() + self.span?),
        }
    }

    fn late_after(&self) -> Duration {
        self.every.saturating_mul(self.spec.failure_threshold)
    }

    /// When the latest sign is no longer enough for readiness.
    fn fresh_until(&self) -> Option<Instant> {
        let enough = match self.spec.check {
            ProbeCheck::StdoutWithin(within) => within,
            ProbeCheck::Notify
            | ProbeCheck::Beat
            | ProbeCheck::Http(_)
            | ProbeCheck::Tcp(_)
            | ProbeCheck::Exec(_) => self.late_after(),
        };
        Some(self.sign? + enough)
    }
}
