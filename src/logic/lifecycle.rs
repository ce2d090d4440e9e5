//! The states that people see: how they follow from a supervisor's view of a child, which of them
//! may follow each other, and what is said about them.
//!
//! The supervisor machine decides; nothing here does. A state says where an agent stands, its
//! reason says why in words, `next` what is due without anybody's doing.

use std::time::Instant;

use crate::logic::restart::{ChildView, Phase, Trial};
use crate::protocol::decision::{NextAction, NextKind};
use crate::protocol::route::Standing;
use crate::protocol::spec::RestartType;
use crate::protocol::status::{AgentState, CircuitState, CircuitStatus, HealthStatus, Readiness};

/// Whether an agent takes new work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Intake {
    /// It does.
    #[default]
    Open,
    /// It finishes what it has and takes nothing new.
    Draining,
}

/// Returns the state of an agent. A run that has not finished starting, as its probes see it, is
/// starting; one that cannot be given work is degraded.
#[must_use]
pub fn state_of(
    view: &ChildView,
    health: HealthStatus,
    readiness: Readiness,
    intake: Intake,
) -> AgentState {
    match view.phase {
        Phase::Created => AgentState::Created,
        Phase::Starting(_) => AgentState::Starting,
        Phase::Up(Trial::Trial) => AgentState::Probation,
        Phase::Up(Trial::Ordinary) => match (readiness, health, intake) {
            (Readiness::Starting, _, _) => AgentState::Starting,
            (Readiness::NotReady, _, _)
            | (_, HealthStatus::Degraded | HealthStatus::Unhealthy, _)
            | (_, _, Intake::Draining) => AgentState::Degraded,
            (Readiness::Ready, HealthStatus::Healthy | HealthStatus::Unknown, Intake::Open) => {
                AgentState::Running
            }
        },
        Phase::Stopping => AgentState::Stopping,
        Phase::Waiting(_) => AgentState::Backoff,
        Phase::Quarantined(_) => AgentState::Quarantined,
        Phase::Parked(_) => AgentState::Parked,
        Phase::Stopped => AgentState::Stopped,
        Phase::Finished => AgentState::Terminated,
    }
}

/// Returns whether an agent in a state may be given work. Poor health alone does not forbid it, bad
/// health does: whoever is found unhealthy is about to be restarted.
#[must_use]
pub fn standing_of(
    state: AgentState,
    health: HealthStatus,
    readiness: Readiness,
    intake: Intake,
) -> Standing {
    match state {
        AgentState::Running | AgentState::Degraded | AgentState::Probation => {
            match (intake, readiness, health) {
                (Intake::Draining, _, _) => Standing::Draining,
                (Intake::Open, Readiness::Starting | Readiness::NotReady, _)
                | (Intake::Open, Readiness::Ready, HealthStatus::Unhealthy) => Standing::NotReady,
                (Intake::Open, Readiness::Ready, _) if state == AgentState::Probation => {
                    Standing::OnTrial
                }
                (Intake::Open, Readiness::Ready, _) => Standing::Ready,
            }
        }
        AgentState::Quarantined => Standing::CircuitOpen,
        AgentState::Created
        | AgentState::Starting
        | AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => Standing::Down,
    }
}

/// Returns the health of a run that no probe speaks for, as its state tells it; `None` when there is
/// no run to be healthy.
#[must_use]
pub fn health_of(state: AgentState) -> Option<HealthStatus> {
    match state {
        AgentState::Running => Some(HealthStatus::Healthy),
        AgentState::Degraded | AgentState::Probation => Some(HealthStatus::Degraded),
        AgentState::Created
        | AgentState::Starting
        | AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => None,
    }
}

/// Returns the states that may follow a state. A state that lasts no time may be passed over: a
/// crash with no backoff leads from running to starting, a start that is given up in the same
/// moment from anywhere to stopping.
#[must_use]
pub fn successors(state: AgentState) -> &'static [AgentState] {
    use AgentState as S;
    match state {
        S::Created => {
            &[S::Starting, S::Stopping, S::Backoff, S::Quarantined, S::Stopped, S::Terminated]
        }
        S::Starting => &[
            S::Running,
            S::Degraded,
            S::Probation,
            S::Stopping,
            S::Backoff,
            S::Quarantined,
            S::Parked,
            S::Stopped,
            S::Terminated,
        ],
        S::Running => &[
            S::Starting,
            S::Degraded,
            S::Stopping,
            S::Backoff,
            S::Quarantined,
            S::Parked,
            S::Stopped,
            S::Terminated,
        ],
        S::Degraded => &[
            S::Starting,
            S::Running,
            S::Stopping,
            S::Backoff,
            S::Quarantined,
            S::Parked,
            S::Stopped,
            S::Terminated,
        ],
        S::Stopping => &[S::Starting, S::Backoff, S::Quarantined, S::Stopped, S::Terminated],
        S::Backoff | S::Parked => {
            &[S::Starting, S::Stopping, S::Quarantined, S::Stopped, S::Terminated]
        }
        S::Quarantined => &[S::Starting, S::Stopping, S::Stopped, S::Terminated],
        S::Probation => &[
            S::Starting,
            S::Running,
            S::Degraded,
            S::Stopping,
            S::Backoff,
            S::Quarantined,
            S::Parked,
            S::Stopped,
            S::Terminated,
        ],
        // A supervisor's next life finds its children as the last one left them; one that its start
        // does not reach waits or is quarantined from there.
        S::Stopped => &[S::Starting, S::Stopping, S::Backoff, S::Quarantined, S::Terminated],
        S::Terminated => &[S::Starting, S::Stopping, S::Backoff, S::Quarantined],
    }
}

/// Whether one state may follow another.
#[must_use]
pub fn may_follow(from: AgentState, to: AgentState) -> bool {
    successors(from).contains(&to)
}

/// Returns what is due without anybody's doing.
#[must_use]
pub fn next_of(view: &ChildView, now: Instant) -> Option<NextAction> {
    let (action, at) = match view.phase {
        Phase::Waiting(at) | Phase::Parked(at) => (NextKind::Restart, at),
        Phase::Quarantined(Some(at)) => (NextKind::Trial, at),
        Phase::Created
        | Phase::Starting(_)
        | Phase::Up(_)
        | Phase::Stopping
        | Phase::Quarantined(None)
        | Phase::Stopped
        | Phase::Finished => return None,
    };
    Some(NextAction { action, in_ms: ms_until(at, now) })
}

/// Returns the circuit as readers see it.
#[must_use]
pub fn circuit_of(view: &ChildView, now: Instant) -> CircuitStatus {
    let retry_after_ms = match view.phase {
        Phase::Quarantined(Some(at)) => Some(ms_until(at, now)),
        Phase::Created
        | Phase::Starting(_)
        | Phase::Up(_)
        | Phase::Stopping
        | Phase::Waiting(_)
        | Phase::Quarantined(None)
        | Phase::Parked(_)
        | Phase::Stopped
        | Phase::Finished => None,
    };
    CircuitStatus { state: view.circuit, retry_after_ms }
}

/// Returns why the child is where it is, for people.
#[must_use]
pub fn reason_of(view: &ChildView, health: HealthStatus, intake: Intake, now: Instant) -> String {
    let seconds = |at| seconds_until(at, now);
    match view.phase {
        Phase::Created => "not started yet".to_owned(),
        Phase::Starting(Trial::Trial) => "its trial is being started".to_owned(),
        Phase::Starting(Trial::Ordinary) => "a start is under way".to_owned(),
        Phase::Up(Trial::Trial) => {
            "its trial runs; the circuit closes when it stays healthy".into()
        }
        Phase::Up(Trial::Ordinary) => running_reason(view, health, intake).to_owned(),
        Phase::Stopping => "it was asked to stop".to_owned(),
        Phase::Waiting(at) if at <= now => "failed; its restart is due".to_owned(),
        Phase::Waiting(at) => format!("failed; restarts in {}", seconds(at)),
        Phase::Quarantined(None) => {
            "its circuit is held open by hand; reset it to go on".to_owned()
        }
        Phase::Quarantined(Some(at)) if at <= now => "circuit open; a trial is due".to_owned(),
        Phase::Quarantined(Some(at)) => format!("circuit open; a trial runs in {}", seconds(at)),
        Phase::Parked(at) => format!("throttled; starts in {}", seconds(at)),
        Phase::Stopped => "stopped on request, or it had nothing to run".to_owned(),
        Phase::Finished => match view.spec.restart {
            RestartType::Transient => "finished; a transient child stays down after a clean exit",
            RestartType::Permanent => "ended with its supervisor",
            RestartType::Temporary => "ended; a temporary child is never restarted",
        }
        .to_owned(),
    }
}

fn running_reason(view: &ChildView, health: HealthStatus, intake: Intake) -> &'static str {
    match (intake, health, view.circuit) {
        (Intake::Draining, _, _) => "it drains: it takes no new work",
        (Intake::Open, HealthStatus::Unhealthy, _) => "a probe fails",
        (Intake::Open, HealthStatus::Degraded, _) => "it works, but not well",
        (Intake::Open, _, CircuitState::ForcedClosed) => {
            "it runs; its circuit is held closed by hand, its limit is not applied"
        }
        (
            Intake::Open,
            HealthStatus::Healthy | HealthStatus::Unknown,
            CircuitState::Closed
            | CircuitState::Open
            | CircuitState::HalfOpen
            | CircuitState::ForcedOpen,
        ) => "it runs",
    }
}

/// Milliseconds until then, rounded up, so that whoever waits so long is not too early.
fn ms_until(at: Instant, now: Instant) -> u64 {
    let nanos = at.saturating_duration_since(now).as_nanos();
    u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn seconds_until(at: Instant, now: Instant) -> String {
    let left = at.saturating_duration_since(now);
    if left.as_secs() < 10 {
        format!("{:.1} s", left.as_secs_f64())
    } else {
        format!("{} s", left.as_secs())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::id::Generation;
    use crate::protocol::spec::ChildSpec;

    fn view(phase: Phase) -> ChildView {
        ChildView {
            spec: ChildSpec::otp_worker("w1".parse().unwrap()).into(),
            phase,
            generation: Generation(1),
            restarts: 0,
            circuit: CircuitState::Closed,
            outage: None,
        }
    }

    fn check(phase: Phase, expected: AgentState) {
        let seen = state_of(&view(phase), HealthStatus::Unknown, Readiness::Ready, Intake::Open);
        assert_eq!(seen, expected, "{phase:?}");
    }

    #[test]
    fn every_phase_is_one_state() {
        let at = Instant::now();
        check(Phase::Created, AgentState::Created);
        check(Phase::Starting(Trial::Ordinary), AgentState::Starting);
        check(Phase::Starting(Trial::Trial), AgentState::Starting);
        check(Phase::Up(Trial::Ordinary), AgentState::Running);
        check(Phase::Up(Trial::Trial), AgentState::Probation);
        check(Phase::Stopping, AgentState::Stopping);
        check(Phase::Waiting(at), AgentState::Backoff);
        check(Phase::Quarantined(None), AgentState::Quarantined);
        check(Phase::Quarantined(Some(at)), AgentState::Quarantined);
        check(Phase::Parked(at), AgentState::Parked);
        check(Phase::Stopped, AgentState::Stopped);
        check(Phase::Finished, AgentState::Terminated);
    }

    #[test]
    fn ill_health_or_draining_degrades_a_running_agent_only() {
        let health = [
            (HealthStatus::Healthy, AgentState::Running),
            (HealthStatus::Unknown, AgentState::Running),
            (HealthStatus::Degraded, AgentState::Degraded),
            (HealthStatus::Unhealthy, AgentState::Degraded),
        ];
        for (health, expected) in health {
            let up = view(Phase::Up(Trial::Ordinary));
            let ready = Readiness::Ready;
            assert_eq!(state_of(&up, health, ready, Intake::Open), expected);
            assert_eq!(state_of(&up, health, ready, Intake::Draining), AgentState::Degraded);
            let starting = state_of(&up, health, Readiness::Starting, Intake::Open);
            assert_eq!(starting, AgentState::Starting);
            let not_ready = state_of(&up, health, Readiness::NotReady, Intake::Open);
            assert_eq!(not_ready, AgentState::Degraded);
            let trial = view(Phase::Up(Trial::Trial));
            assert_eq!(state_of(&trial, health, ready, Intake::Draining), AgentState::Probation);
            let down = view(Phase::Stopped);
            assert_eq!(state_of(&down, health, ready, Intake::Draining), AgentState::Stopped);
        }
    }

    #[test]
    fn the_table_of_transitions_is_this() {
        // Rows are from, columns are to, both in the order of `AgentState::ALL`:
        // cr st ru de sg ba qu pr pa sd te
        let table = [
            ".x..xxx..xx", // created
            "..xxxxxxxxx", // starting
            ".x.xxxx.xxx", // running
            ".xx.xxx.xxx", // degraded
            ".x...xx..xx", // stopping
            ".x..x.x..xx", // backoff
            ".x..x....xx", // quarantined
            ".xxxxxx.xxx", // probation
            ".x..x.x..xx", // parked
            ".x..xxx...x", // stopped
            ".x..xxx....", // terminated
        ];
        for (from, row) in AgentState::ALL.into_iter().zip(table) {
            for (to, mark) in AgentState::ALL.into_iter().zip(row.chars()) {
                assert_eq!(may_follow(from, to), mark == 'x', "{from} -> {to}");
            }
        }
    }

    #[test]
    fn next_and_reason_tell_what_is_due() {
        let now = Instant::now();
        let later = now + Duration::from_micros(1_500_200);
        let told = |phase| {
            let view = view(phase);
            let next = next_of(&view, now).map(|next| (next.action, next.in_ms));
            (next, reason_of(&view, HealthStatus::Unknown, Intake::Open, now))
        };
        let restart = Some((NextKind::Restart, 1501));
        assert_eq!(told(Phase::Waiting(later)), (restart, "failed; restarts in 1.5 s".into()));
        assert_eq!(told(Phase::Parked(later)), (restart, "throttled; starts in 1.5 s".into()));
        assert_eq!(
            told(Phase::Quarantined(Some(later))),
            (Some((NextKind::Trial, 1501)), "circuit open; a trial runs in 1.5 s".into())
        );
        assert_eq!(told(Phase::Quarantined(None)).0, None);
        assert_eq!(told(Phase::Up(Trial::Ordinary)), (None, "it runs".into()));
        let quarantined = view(Phase::Quarantined(Some(later)));
        assert_eq!(circuit_of(&quarantined, now).retry_after_ms, Some(1501));
        assert_eq!(circuit_of(&quarantined, later).retry_after_ms, Some(0));
    }
}
