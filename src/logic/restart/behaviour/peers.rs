//! Cases from the suites of other supervisors that no other test holds; `tests/it/cases.rs` has the
//! whole table.

use crate::logic::restart::behaviour::*;
use crate::protocol::exit::ExitCodes;

#[test]
fn a_stop_cancels_a_restart_that_waits_for_its_delay() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    assert!(matches!(desk.phase("a"), Phase::Waiting(_)));
    check(desk.call(Call::TerminateChild("a".parse().unwrap())), &["ok"]);
    assert_eq!(desk.phase("a"), Phase::Stopped);
    check(desk.pass(1_000_000), &[]);
    assert_eq!(desk.machine.deadline(), None);
}

#[test]
fn with_no_restart_allowed_the_first_failure_opens_the_circuit() {
    let mut spec = child("a");
    if let Some(circuit) = &mut spec.policy.circuit {
        circuit.limit.intensity = 0;
    }
    let mut desk = running(Strategy::OneForOne, vec![spec]);
    check(
        desk.crashes("a"),
        &[
            "a terminated (child_limit_exceeded; trial in 30000)",
            "a circuit closed open (child_limit_exceeded; trial in 30000)",
        ],
    );
}

#[test]
fn a_run_that_a_probe_or_a_limit_ended_counts_like_a_crash() {
    let codes = ExitCodes { code: Some(0), signal: None };
    let message = || "seen".to_owned();
    let ends = [
        ChildExit::ProbeFailed { message: message(), codes },
        ChildExit::Watchdog { message: message(), codes },
        ChildExit::Hung { message: message(), codes },
        ChildExit::RanTooLong { message: message(), codes },
        ChildExit::OutOfMemory { message: message(), codes },
    ];
    for exit in ends {
        let restart = RestartType::Transient;
        let mut desk = running(Strategy::OneForOne, vec![ChildSpec { restart, ..child("a") }]);
        for delay in [200, 400] {
            let seen = desk.exits("a", exit.clone());
            check(seen, &[&format!("a terminated (child_exited; restart in {delay})")]);
            desk.pass(delay);
            desk.up("a");
        }
        let seen = desk.exits("a", exit.clone());
        assert_eq!(seen[0], "a terminated (child_limit_exceeded; trial in 30000)", "{exit:?}");
    }
}
