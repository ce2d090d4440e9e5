//! Other rules for what runs.

use crate::logic::restart::behaviour::{Call, check, child, policy, running};
use crate::logic::restart::{Phase, Trial};
use crate::protocol::spec::{
    ChildSpec, Limit, OnExceeded, RestartPolicy, Strategy, SupervisorSpec,
};
use std::time::Duration;

fn with_intensity(name: &str, intensity: u32) -> ChildSpec {
    let rules = policy(OnExceeded::Quarantine);
    let circuit = rules.circuit.map(|mut circuit| {
        circuit.limit.intensity = intensity;
        circuit
    });
    ChildSpec { policy: RestartPolicy { circuit, ..rules }, ..child(name) }
}

#[test]
fn another_limit_keeps_the_run_and_what_was_counted() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    desk.pass(1000);
    desk.up("a");
    // One restart is counted; the new limit allows one.
    check(desk.call(Call::ReconfigureChild(with_intensity("a", 1))), &["ok"]);
    assert_eq!(desk.phase("a"), Phase::Up(Trial::Ordinary));
    assert_eq!(desk.generation("a").0, 2);
    let seen = desk.crashes("a");
    assert!(seen.iter().any(|line| line.starts_with("a circuit closed open")), "{seen:?}");
    // An open circuit stays open under new rules.
    check(desk.call(Call::ReconfigureChild(with_intensity("a", 9))), &["ok"]);
    assert!(matches!(desk.phase("a"), Phase::Quarantined(Some(_))));
}

#[test]
fn rules_for_a_child_that_is_not_there_are_refused() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    check(desk.call(Call::ReconfigureChild(child("x"))), &["refused: no such child"]);
    check(desk.call(Call::IntroduceChild(child("a"))), &["refused: already present"]);
}

#[test]
fn an_introduced_child_that_cannot_start_is_judged_by_its_own_rules() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    check(desk.call(Call::IntroduceChild(child("b"))), &["ok", "start b 1"]);
    let seen = desk.fails_to_start("b");
    assert!(seen.iter().any(|line| line.contains("restart in 200")), "{seen:?}");
    assert!(matches!(desk.phase("b"), Phase::Waiting(_)));
}

#[test]
fn a_supervisor_takes_another_strategy_and_limit_and_goes_on() {
    let mut desk = running(Strategy::OneForOne, vec![child("a"), child("b")]);
    let rules = SupervisorSpec {
        strategy: Strategy::OneForAll,
        limit: Some(Limit { intensity: 3, period: Duration::from_secs(9) }),
        ..desk.machine.spec().clone()
    };
    check(desk.call(Call::Reconfigure(rules)), &["ok"]);
    let seen = desk.crashes("a");
    assert!(seen.iter().any(|line| line.starts_with("stop b")), "{seen:?}");
    let simple =
        SupervisorSpec { strategy: Strategy::SimpleOneForOne, ..desk.machine.spec().clone() };
    desk.stops("b");
    let seen = desk.call(Call::Reconfigure(simple));
    assert!(seen.iter().any(|line| line.starts_with("refused")), "{seen:?}");
}
