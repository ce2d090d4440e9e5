//! Random child specs.

use std::time::Duration;

use fastrand::Rng;

use crate::logic::restart::simulation::name;
use crate::protocol::spec::{
    AutoShutdown, BackoffSpec, ChildSpec, CircuitSpec, Jitter, Limit, OnExceeded, RestartPolicy,
    RestartType, Shutdown, Significance,
};

pub(super) fn random_child(rng: &mut Rng, n: usize, auto: AutoShutdown) -> ChildSpec {
    let types = [RestartType::Permanent, RestartType::Transient, RestartType::Temporary];
    let restart = types[[0, 0, 0, 1, 1, 2][rng.usize(..6)]];
    let shutdowns =
        [Shutdown::BrutalKill, Shutdown::Infinity, Shutdown::Timeout(Duration::from_secs(1))];
    let significant =
        auto != AutoShutdown::Never && restart != RestartType::Permanent && rng.bool();
    let backoff = BackoffSpec {
        initial: Duration::from_millis([0, 50, 200][rng.usize(..3)]),
        factor: 2.0,
        max: Duration::from_secs(5),
        jitter: [Jitter::Full, Jitter::Equal, Jitter::None][rng.usize(..3)],
    };
    let on_exceeded = [
        OnExceeded::Quarantine,
        OnExceeded::Quarantine,
        OnExceeded::Quarantine,
        OnExceeded::RestartSiblings,
        OnExceeded::Escalate,
        OnExceeded::StopTree,
    ][rng.usize(..6)];
    let circuit = CircuitSpec {
        limit: Limit { intensity: rng.u32(..4), period: Duration::from_secs(20) },
        on_exceeded,
        open_for: Duration::from_secs(rng.u64(1..5)),
        open_factor: 2.0,
        open_max: Duration::from_secs(20),
        stable_after: Duration::from_secs(rng.u64(1..5)),
    };
    let policy = match rng.u8(..8) {
        0 => RestartPolicy::OTP,
        1 => RestartPolicy { backoff, circuit: None },
        _ => RestartPolicy { backoff, circuit: Some(circuit) },
    };
    ChildSpec {
        name: name(n),
        restart,
        shutdown: shutdowns[rng.usize(..3)],
        significance: if significant { Significance::Significant } else { Significance::Ordinary },
        policy,
        ..ChildSpec::otp_worker(name(n))
    }
}
