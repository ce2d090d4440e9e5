//! The health of one run: when its probes are asked, what their answers amount to, and when the run
//! has to be ended.
//!
//! The meaning of startup, readiness and liveness is kubelet's: startup holds the others back and
//! ends the run when it fails; liveness ends the run; readiness only decides about work. A verdict
//! changes after so many equal answers in a row, and after a verdict that ends the run nothing is
//! asked any more. One machine serves one run, so an answer about an earlier run cannot reach it.
//!
//! Words: a probe is *asked* (`http`, `tcp`, `exec`: somebody has to look) or *heard* (`notify`,
//! `beat`, `stdout_within`: the run gives signs by itself, and silence is what counts). A *verdict*
//! is what a probe's answers amount to. The machine does not look, listen or kill; it gives
//! [`Order`]s.

mod asked;
#[cfg(test)]
mod bench_tests;
mod heard;
#[cfg(test)]
mod heard_tests;
mod notice;
mod parts;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::logic::health::asked::Asked;
use crate::logic::health::heard::Heard;
use crate::logic::health::parts::{Phase, Said};
use crate::protocol::care::{ProbeCheck, ProbeSpec, ProbesSpec};
use crate::protocol::status::{HealthStatus, Readiness};

pub use crate::logic::health::notice::{NOTICE_BYTES_MAX, Notice, Stage, Watchdog};
pub use crate::logic::health::parts::{
    Beat, Beginning, Order, Outcome, Role, Shown, Verdict, VerdictKind,
};

/// Longest time that one `EXTEND_TIMEOUT_USEC=` gives.
pub const EXTEND_MAX: Duration = Duration::from_secs(24 * 3600);

/// Shortest time between two changes that are only a new status text.
pub const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Returns how long a run may be silent before its watchdog ends it, as `WATCHDOG_USEC` tells it;
/// `None` for a run without watchdog.
#[must_use]
pub fn watchdog_of(probes: &ProbesSpec) -> Option<Duration> {
    let liveness = probes.liveness.as_ref()?;
    (liveness.check == ProbeCheck::Notify).then(|| heard::span_of(liveness))
}

/// Whether any of the probes is this one.
#[must_use]
pub fn listens_to(probes: &ProbesSpec, wanted: impl Fn(&ProbeCheck) -> bool) -> bool {
    let all = [&probes.startup, &probes.readiness, &probes.liveness];
    all.into_iter().flatten().any(|probe| wanted(&probe.check))
}

/// One probe of the run.
#[derive(Clone, Debug)]
enum Probe {
    Asked(Asked),
    Heard(Heard),
}

/// The health of one run.
#[derive(Clone, Debug)]
pub struct Health {
    startup: Option<Probe>,
    readiness: Option<Probe>,
    liveness: Option<Probe>,
    begun: Instant,
    /// When time was looked at last; what it changed until then is done.
    looked_at: Instant,
    stop_grace: Duration,
    phase: Phase,
    said: Said,
    shown: Option<Shown>,
    asked: u64,
    response_time: Option<Duration>,
}

impl Health {
    /// The health of a run that began now. `stop_grace` is the time from its stop signal to its
    /// kill; `fraction` in `0.0..=1.0` spreads the first probes of adopted runs over an interval.
    #[must_use]
    pub fn new(
        probes: &ProbesSpec,
        stop_grace: Duration,
        beginning: Beginning,
        (now, fraction): (Instant, f64),
    ) -> Self {
        let probe = |spec: &Option<ProbeSpec>, role| {
            let spec = spec.clone()?;
            Some(match spec.check {
                ProbeCheck::Http(_) | ProbeCheck::Tcp(_) | ProbeCheck::Exec(_) => {
                    Probe::Asked(Asked::new(spec, beginning, now, fraction))
                }
                ProbeCheck::Notify | ProbeCheck::Beat | ProbeCheck::StdoutWithin(_) => {
                    Probe::Heard(Heard::new(spec, role, now))
                }
            })
        };
        let startup = probe(&probes.startup, Role::Startup);
        let starting = startup.is_some() && beginning != Beginning::AdoptedStarted;
        Self {
            startup,
            readiness: probe(&probes.readiness, Role::Readiness),
            liveness: probe(&probes.liveness, Role::Liveness),
            begun: now,
            looked_at: now,
            stop_grace,
            phase: if starting { Phase::Starting } else { Phase::Up },
            said: Said::of(beginning),
            shown: None,
            asked: 0,
            response_time: None,
        }
    }

    /// The run executes.
    pub fn on_start(&mut self, now: Instant) -> Vec<Order> {
        self.on_deadline(now)
    }

    /// Somebody looked. An answer to a question that was given up is dropped, and so is one that
    /// says nothing.
    pub fn on_result(
        &mut self,
        now: Instant,
        (role, number): (Role, u64),
        outcome: Outcome,
    ) -> Vec<Order> {
        let Some(Probe::Asked(probe)) = self.probe_mut(role) else { return Vec::new() };
        if !probe.answered(now, number, &outcome) || self.is_over() {
            return Vec::new();
        }
        match &outcome {
            Outcome::Success { took } | Outcome::Failure { took, .. } => self.response_time = *took,
            Outcome::Unknown { .. } => {}
        }
        self.on_deadline(now)
    }

    /// The run said something over its notify socket.
    pub fn on_notice(&mut self, now: Instant, notice: &Notice) -> Vec<Order> {
        if let Some(by) = notice.extend {
            self.extend(now, by.min(EXTEND_MAX));
        }
        if self.is_over() {
            return Vec::new();
        }
        self.said.take_in(notice);
        self.hear(now, notice);
        if notice.watchdog == Some(Watchdog::Trigger) {
            let message = format!("it asked for its own end{}", self.said.suffix());
            return self.end(now, VerdictKind::Watchdog, message);
        }
        if notice.stage == Some(Stage::Stopping) && !matches!(self.phase, Phase::Leaving { .. }) {
            self.phase = Phase::Leaving { until: now + self.stop_grace };
        }
        self.on_deadline(now)
    }

    /// A beat of the run came.
    pub fn on_beat(&mut self, now: Instant, beat: Beat) -> Vec<Order> {
        for probe in self.heard() {
            probe.beat(now, beat);
        }
        self.on_deadline(now)
    }

    /// The run wrote output.
    pub fn on_output(&mut self, now: Instant) -> Vec<Order> {
        for probe in self.heard() {
            probe.output(now);
        }
        self.on_deadline(now)
    }

    /// The run was asked to stop, or killed, by somebody else: from here on nothing is asked and
    /// nothing is judged.
    pub fn on_stopping(&mut self) {
        self.phase = Phase::Over;
    }

    /// When [`Self::on_deadline`] is to be called; `None` when only signs and answers can change
    /// anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Over => return None,
            Phase::Ending { kill_at } => return kill_at,
            Phase::Leaving { until } => return Some(until),
            Phase::Starting => {
                self.startup.as_ref().and_then(|probe| probe.deadline(self.looked_at))
            }
            Phase::Up => {
                let both = [&self.liveness, &self.readiness].into_iter().flatten();
                both.filter_map(|probe| probe.deadline(self.looked_at)).min()
            }
        };
        phase.into_iter().chain(self.said.due(self.shown.as_ref())).min()
    }

    /// Looks at everything that time alone may have changed.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Order> {
        self.looked_at = now;
        match self.phase {
            Phase::Over => return Vec::new(),
            Phase::Ending { kill_at } => return self.ending(now, kill_at),
            Phase::Leaving { until } if until <= now => {
                let grace = self.stop_grace.as_secs_f64();
                let message = format!("it said STOPPING=1 and did not end within {grace} s");
                return self.end(now, VerdictKind::Hung, message);
            }
            Phase::Leaving { .. } | Phase::Starting | Phase::Up => {}
        }
        let mut orders = Vec::new();
        if self.phase == Phase::Starting {
            match self.startup.as_ref().map(|probe| probe.startup(now)) {
                Some(parts::Startup::Pending) => {}
                Some(parts::Startup::Failed(message)) => {
                    return self.end(now, VerdictKind::ProbeFailed, message);
                }
                Some(parts::Startup::Passed) | None => {
                    orders.push(Order::Started);
                    self.started(now);
                }
            }
        }
        if self.phase == Phase::Up
            && let Some((kind, message)) = self.liveness.as_ref().and_then(|probe| probe.dead(now))
        {
            return self.end(now, kind, message);
        }
        orders.extend(self.ask(now));
        orders.extend(self.show(now));
        orders
    }

    /// How long the run took to answer last, if that is known.
    #[must_use]
    pub fn response_time(&self) -> Option<Duration> {
        self.response_time
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Ending { .. })
    }

    fn probe_mut(&mut self, role: Role) -> Option<&mut Probe> {
        match role {
            Role::Startup => self.startup.as_mut(),
            Role::Readiness => self.readiness.as_mut(),
            Role::Liveness => self.liveness.as_mut(),
        }
    }

    fn heard(&mut self) -> impl Iterator<Item = &mut Heard> {
        let all = [&mut self.startup, &mut self.readiness, &mut self.liveness];
        all.into_iter().flatten().filter_map(|probe| match probe {
            Probe::Heard(heard) => Some(heard),
            Probe::Asked(_) => None,
        })
    }

    fn hear(&mut self, now: Instant, notice: &Notice) {
        for probe in self.heard() {
            probe.notice(now, notice);
        }
    }

    /// More time for a start or an end that is under way; never less than there was.
    fn extend(&mut self, now: Instant, by: Duration) {
        let until = now + by;
        match &mut self.phase {
            Phase::Starting => {
                if let Some(Probe::Heard(startup)) = &mut self.startup {
                    startup.extend(until);
                }
            }
            Phase::Leaving { until: limit } | Phase::Ending { kill_at: Some(limit) } => {
                *limit = until.max(*limit);
            }
            Phase::Up | Phase::Over | Phase::Ending { kill_at: None } => {}
        }
    }

    /// The startup probe has succeeded: readiness is asked at once, liveness at its next turn.
    fn started(&mut self, now: Instant) {
        self.phase = Phase::Up;
        let begun = self.begun;
        match &mut self.readiness {
            Some(Probe::Asked(probe)) => probe.from(begun, now),
            Some(Probe::Heard(probe)) => probe.from(now),
            None => {}
        }
        match &mut self.liveness {
            Some(Probe::Asked(probe)) => probe.at_next_turn(now),
            Some(Probe::Heard(probe)) => probe.from(now),
            None => {}
        }
    }

    fn ask(&mut self, now: Instant) -> Vec<Order> {
        let roles: &[Role] = match self.phase {
            Phase::Starting => &[Role::Startup],
            Phase::Up => &[Role::Liveness, Role::Readiness],
            Phase::Leaving { .. } | Phase::Ending { .. } | Phase::Over => &[],
        };
        let mut orders = Vec::new();
        for role in roles {
            let number = self.asked + 1;
            if let Some(Probe::Asked(probe)) = self.probe_mut(*role)
                && probe.ask(now, number)
            {
                self.asked = number;
                orders.push(Order::Probe { role: *role, number });
            }
        }
        orders
    }

    fn end(&mut self, now: Instant, kind: VerdictKind, message: String) -> Vec<Order> {
        self.phase = Phase::Ending { kill_at: Some(now + self.stop_grace) };
        let shown = Shown {
            status: HealthStatus::Unhealthy,
            readiness: Readiness::NotReady,
            message: message.clone(),
        };
        self.shown = Some(shown.clone());
        vec![Order::Show(shown), Order::End(Verdict { kind, message })]
    }

    fn ending(&mut self, now: Instant, kill_at: Option<Instant>) -> Vec<Order> {
        if kill_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.phase = Phase::Ending { kill_at: None };
        vec![Order::Kill]
    }

    fn show(&mut self, now: Instant) -> Option<Order> {
        let next = self.face(now);
        let same = self
            .shown
            .as_ref()
            .is_some_and(|shown| (shown.status, shown.readiness) == (next.status, next.readiness));
        let unchanged = self.shown.as_ref() == Some(&next);
        let only_words = same && next.message == self.said.text();
        if unchanged || (only_words && !self.said.may_tell(now)) {
            return None;
        }
        self.said.told(now);
        self.shown = Some(next.clone());
        Some(Order::Show(next))
    }

    fn face(&self, now: Instant) -> Shown {
        let text = self.said.text();
        let not_ready = |message: String| Shown {
            status: HealthStatus::Degraded,
            readiness: Readiness::NotReady,
            message,
        };
        let starting = |message: String| Shown {
            status: HealthStatus::Unknown,
            readiness: Readiness::Starting,
            message,
        };
        match self.phase {
            Phase::Starting => {
                let waits = self.startup.as_ref().map(Probe::waits).unwrap_or_default();
                return starting(if text.is_empty() { waits } else { text });
            }
            Phase::Leaving { .. } => return not_ready("it says that it stops".to_owned()),
            Phase::Up | Phase::Ending { .. } | Phase::Over => {}
        }
        if let Some(message) = self.liveness.as_ref().and_then(|probe| probe.suspect(now)) {
            return not_ready(message);
        }
        if self.said.stage == Some(Stage::Reloading) {
            return not_ready("it says that it reloads".to_owned());
        }
        match self.readiness.as_ref().map(|probe| probe.readiness(now, &self.said)) {
            Some(parts::Ready::Unknown(waits)) => {
                starting(if text.is_empty() { waits } else { text })
            }
            Some(parts::Ready::No(message)) => not_ready(message),
            Some(parts::Ready::Yes) | None => {
                Shown { status: HealthStatus::Healthy, readiness: Readiness::Ready, message: text }
            }
        }
    }
}

impl Probe {
    fn deadline(&self, after: Instant) -> Option<Instant> {
        match self {
            Self::Asked(probe) => probe.deadline(),
            Self::Heard(probe) => probe.deadline(after),
        }
    }

    fn startup(&self, now: Instant) -> parts::Startup {
        match self {
            Self::Asked(probe) => probe.startup(),
            Self::Heard(probe) => probe.startup(now),
        }
    }

    fn waits(&self) -> String {
        match self {
            Self::Asked(probe) => probe.waits(Role::Startup),
            Self::Heard(probe) => probe.waits(),
        }
    }

    /// Why a run has to be ended, if it has to be.
    fn dead(&self, now: Instant) -> Option<(VerdictKind, String)> {
        match self {
            Self::Asked(probe) => Some((VerdictKind::ProbeFailed, probe.failed(Role::Liveness)?)),
            Self::Heard(probe) => probe.dead(now),
        }
    }

    fn suspect(&self, now: Instant) -> Option<String> {
        match self {
            Self::Asked(_) => None,
            Self::Heard(probe) => probe.suspect(now),
        }
    }

    fn readiness(&self, now: Instant, said: &Said) -> parts::Ready {
        match self {
            Self::Asked(probe) => probe.readiness(),
            Self::Heard(probe) => probe.readiness(now, said),
        }
    }
}
