//! Tests of the health machine: kubelet's rules by name, and what holds always.

use proptest::prelude::*;

use super::bench_tests::{Bench, asked, beat, only, probe, with_startup};
use super::*;
use crate::protocol::care::ProbeCheck as Check;

#[test]
fn kubelet_initial_delay_and_values_before_the_first_result() {
    let delayed = ProbeSpec { initial_delay: Duration::from_secs(5), ..asked() };
    // Liveness counts as a success before the first result, readiness as a failure.
    let mut liveness = Bench::fresh(&only(Role::Liveness, delayed.clone()));
    liveness.check(&["Healthy Ready"]).until(4_999).check(&[]).until(5_000);
    liveness.check(&["ask liveness"]);
    let mut readiness = Bench::fresh(&only(Role::Readiness, delayed.clone()));
    readiness.check(&["Unknown Starting"]).until(5_000).check(&["ask readiness"]);
    let mut startup = Bench::fresh(&only(Role::Startup, delayed));
    startup.check(&["Unknown Starting"]).until(5_000).check(&["ask startup"]);
}

#[test]
fn kubelet_failure_threshold_changes_the_verdict_only_when_reached() {
    let mut bench = Bench::fresh(&only(Role::Readiness, asked()));
    bench.good(1, Role::Readiness);
    bench.check(&["ask readiness", "Unknown Starting", "Healthy Ready"]);
    bench.bad(10_001, Role::Readiness).bad(20_001, Role::Readiness);
    bench.check(&["ask readiness", "ask readiness"]);
    // One success in between begins the count anew.
    bench.good(30_001, Role::Readiness).bad(40_001, Role::Readiness).bad(50_001, Role::Readiness);
    bench.check(&["ask readiness"; 3]);
    bench.bad(60_001, Role::Readiness).check(&["ask readiness", "Degraded NotReady"]);
    // Readiness never ends a run.
    bench.bad(70_001, Role::Readiness).bad(80_001, Role::Readiness).check(&["ask readiness"; 2]);
    bench.good(90_001, Role::Readiness).check(&["ask readiness", "Healthy Ready"]);
}

#[test]
fn kubelet_success_threshold_holds_readiness_back() {
    let spec = ProbeSpec { success_threshold: 3, failure_threshold: 1, ..asked() };
    let mut bench = Bench::fresh(&only(Role::Readiness, spec));
    bench.good(1, Role::Readiness).good(10_001, Role::Readiness);
    bench.check(&["ask readiness", "Unknown Starting", "ask readiness"]);
    bench.good(20_001, Role::Readiness).check(&["ask readiness", "Healthy Ready"]);
    bench.bad(30_001, Role::Readiness).check(&["ask readiness", "Degraded NotReady"]);
    bench.good(40_001, Role::Readiness).good(50_001, Role::Readiness).check(&["ask readiness"; 2]);
    bench.good(60_001, Role::Readiness).check(&["ask readiness", "Healthy Ready"]);
}

#[test]
fn kubelet_startup_failure_threshold_ends_the_run_and_holds() {
    let mut bench = Bench::fresh(&with_startup(Role::Liveness));
    bench.bad(1, Role::Startup).bad(10_001, Role::Startup);
    bench.check(&["ask startup", "Unknown Starting", "ask startup"]);
    bench.bad(20_001, Role::Startup).check(&[
        "ask startup",
        "Unhealthy NotReady",
        "end ProbeFailed: startup probe failed 3 times in a row: no",
    ]);
    // On hold: nothing is asked while the run is being ended; it is killed after its grace.
    bench.until(30_000).check(&[]).until(30_001).check(&["kill"]).until(999_000).check(&[]);
}

#[test]
fn kubelet_liveness_and_readiness_are_disabled_until_started() {
    let probes = ProbesSpec { readiness: Some(asked()), ..with_startup(Role::Liveness) };
    let mut bench = Bench::fresh(&probes);
    bench.bad(1, Role::Startup).until(10_000);
    bench.check(&["ask startup", "Unknown Starting", "ask startup"]);
    // Readiness is asked at once when the startup probe has succeeded, liveness at its next turn.
    bench.good(12_000, Role::Startup);
    bench.check(&["started", "ask readiness", "Unknown Starting"]);
    bench.good(12_001, Role::Readiness).check(&["Healthy Ready"]);
    bench.until(19_999).check(&[]).until(20_000).check(&["ask liveness"]);
}

#[test]
fn kubelet_startup_is_disabled_once_started() {
    let mut bench = Bench::fresh(&only(Role::Startup, asked()));
    bench.good(1, Role::Startup);
    bench.check(&["ask startup", "Unknown Starting", "started", "Healthy Ready"]);
    bench.until(999_000).check(&[]);
}

#[test]
fn kubelet_on_hold_after_a_liveness_failure() {
    let mut bench = Bench::fresh(&only(Role::Liveness, asked()));
    bench.bad(1, Role::Liveness).bad(10_001, Role::Liveness).bad(20_001, Role::Liveness);
    bench.check(&[
        "ask liveness",
        "Healthy Ready",
        "ask liveness",
        "ask liveness",
        "Unhealthy NotReady",
        "end ProbeFailed: liveness probe failed 3 times in a row: no",
    ]);
    bench.until(29_999).check(&[]);
    // The next run has a machine of its own, and all its attempts.
    let mut next = Bench::fresh(&only(Role::Liveness, asked()));
    next.bad(1, Role::Liveness).bad(10_001, Role::Liveness).until(20_000);
    next.check(&["ask liveness", "Healthy Ready", "ask liveness", "ask liveness"]);
}

#[test]
fn kubelet_throws_away_what_says_nothing_and_what_nobody_waits_for() {
    let once = ProbeSpec { failure_threshold: 1, ..asked() };
    let mut bench = Bench::fresh(&only(Role::Liveness, once));
    let unknown = Outcome::Unknown { message: "keeper away".to_owned() };
    bench.answer_with(1, Role::Liveness, unknown).check(&["ask liveness", "Healthy Ready"]);
    let late = Outcome::Failure { took: None, message: "of an old question".to_owned() };
    let orders = bench.machine.on_result(bench.at(2), (Role::Liveness, 1), late.clone());
    bench.take(orders);
    let orders = bench.machine.on_result(bench.at(2), (Role::Startup, 2), late);
    bench.take(orders);
    bench.check(&[]).until(10_000).check(&["ask liveness"]);
}

#[test]
fn kubelet_stops_probing_when_the_run_is_stopped() {
    let probes = ProbesSpec { readiness: Some(asked()), ..only(Role::Liveness, asked()) };
    let mut bench = Bench::fresh(&probes);
    bench.check(&["ask liveness", "ask readiness", "Unknown Starting"]);
    // Stopping ten times is as harmless as once.
    for _ in 0..10 {
        bench.machine.on_stopping();
    }
    bench.bad(5, Role::Liveness).says(6, "WATCHDOG=trigger").until(999_000).check(&[]);
    assert_eq!(bench.machine.deadline(), None);
}

#[test]
fn questions_do_not_overlap_and_missed_turns_become_one() {
    let mut bench = Bench::fresh(&only(Role::Liveness, asked()));
    bench.until(25_000).check(&["ask liveness", "Healthy Ready"]);
    bench.good(25_000, Role::Liveness).check(&["ask liveness"]);
    // From there on the grid of turns holds again.
    bench.good(25_001, Role::Liveness).until(29_999).check(&[]).until(30_000);
    bench.check(&["ask liveness"]);
}

#[test]
fn an_adopted_run_is_not_asked_for_its_startup_again_and_not_all_at_once() {
    let mut started = Bench::new(&with_startup(Role::Liveness), Beginning::AdoptedStarted);
    started.check(&["Healthy Ready"]).until(4_999).check(&[]).until(5_000);
    started.check(&["ask liveness"]);
    let mut starting = Bench::new(&with_startup(Role::Liveness), Beginning::AdoptedStarting);
    starting.check(&["Unknown Starting"]).until(5_000).check(&["ask startup"]);
    let notify = only(Role::Readiness, probe(Check::Notify));
    Bench::new(&notify, Beginning::AdoptedStarted).check(&["Healthy Ready"]);
}

#[test]
fn the_response_time_is_that_of_the_last_answer() {
    let mut bench = Bench::fresh(&only(Role::Readiness, asked()));
    assert_eq!(bench.machine.response_time(), None);
    bench.good(1, Role::Readiness);
    assert_eq!(bench.machine.response_time(), Some(Duration::from_millis(7)));
    bench.bad(10_001, Role::Readiness);
    assert_eq!(bench.machine.response_time(), None, "a time-out has no time of an answer");
}

/// Something that happens to a run.
#[derive(Clone, Debug)]
enum Happens {
    Answer(Role, bool),
    Says(&'static str),
    Beat(bool),
    Output,
    Nothing,
}

fn happens() -> impl Strategy<Value = Happens> {
    let role = prop_oneof![Just(Role::Startup), Just(Role::Readiness), Just(Role::Liveness)];
    let words = prop_oneof![
        Just("READY=1"),
        Just("RELOADING=1"),
        Just("STATUS=x"),
        Just("WATCHDOG=1"),
        Just("EXTEND_TIMEOUT_USEC=999999999"),
        Just("WATCHDOG_USEC=1"),
    ];
    prop_oneof![
        (role, any::<bool>()).prop_map(|(role, good)| Happens::Answer(role, good)),
        words.prop_map(Happens::Says),
        any::<bool>().prop_map(Happens::Beat),
        Just(Happens::Output),
        Just(Happens::Nothing),
    ]
}

fn any_probe() -> impl Strategy<Value = Option<ProbeSpec>> {
    let check = prop_oneof![
        Just(Check::Tcp("h:1".to_owned())),
        Just(Check::Notify),
        Just(Check::Beat),
        Just(Check::StdoutWithin(Duration::from_millis(700))),
    ];
    let spec = (check, 0_u64..3_000, 10_u64..3_000, 1_u32..4, 1_u32..4);
    prop::option::of(spec.prop_map(|(check, delay, interval, good, bad)| ProbeSpec {
        initial_delay: Duration::from_millis(delay),
        interval: Duration::from_millis(interval),
        success_threshold: good,
        failure_threshold: bad,
        ..probe(check)
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        startup in any_probe(),
        readiness in any_probe(),
        liveness in any_probe(),
        script in prop::collection::vec((0_u64..2_000, happens()), 0..80),
    ) {
        let probes = ProbesSpec { startup, readiness, liveness };
        let mut bench = Bench::fresh(&probes);
        let mut ms = 0;
        for (later, event) in script {
            ms += later;
            bench.until(ms);
            match event {
                Happens::Answer(role, good) => {
                    if bench.open.iter().any(|(open, _)| *open == role) {
                        if good { bench.good(ms, role) } else { bench.bad(ms, role) };
                    }
                }
                Happens::Says(words) => {
                    bench.says(ms, words);
                }
                Happens::Beat(ready) => {
                    bench.beats(ms, Beat { ready, ..beat(300) });
                }
                Happens::Output => {
                    bench.writes(ms);
                }
                Happens::Nothing => {}
            }
            // What is due is in the future, or it would be done for ever.
            let due = bench.machine.deadline();
            prop_assert!(due.is_none_or(|due| bench.at(ms) <= due));
        }
        let place = |wanted: &str| bench.log.iter().position(|line| line.starts_with(wanted));
        let started = place("started").or(probes.startup.is_none().then_some(0));
        for late in ["ask readiness", "ask liveness", "Healthy", "Degraded"] {
            // Nothing but the startup is judged before it has succeeded.
            prop_assert!(place(late).is_none_or(|at| started.is_some_and(|from| from <= at)));
        }
        if let Some(end) = place("end") {
            let rest: Vec<&String> = bench.log.iter().skip(end + 1).collect();
            prop_assert!(rest.is_empty() || rest == ["kill"], "{rest:?}");
            let no_cause = probes.startup.is_none() && probes.liveness.is_none();
            prop_assert!(!no_cause, "readiness never ends a run");
        }
    }
}
