//! Tests of what is heard: systemd's rules by name, beats, output.

use super::bench_tests::{Bench, asked, beat, only, probe};
use super::*;
use crate::protocol::care::ProbeCheck as Check;

#[test]
fn systemd_start_waits_for_ready_and_fails_without() {
    let mut bench = Bench::fresh(&only(Role::Startup, probe(Check::Notify)));
    bench.check(&["Unknown Starting"]).says(5, "MAINPID=1\nREADY=0").check(&[]);
    bench.says(29_999, "READY=1").check(&["started", "Healthy Ready"]).until(999_000).check(&[]);
    let mut silent = Bench::fresh(&only(Role::Startup, probe(Check::Notify)));
    silent.until(30_000).check(&[
        "Unknown Starting",
        "Unhealthy NotReady",
        "end ProbeFailed: startup probe failed: no READY=1 within 30 s",
    ]);
}

#[test]
fn systemd_extend_timeout_lengthens_a_start_and_never_shortens_it() {
    let mut bench = Bench::fresh(&only(Role::Startup, probe(Check::Notify)));
    bench.says(1_000, "EXTEND_TIMEOUT_USEC=1000").until(29_999);
    bench.says(29_999, "EXTEND_TIMEOUT_USEC=20000000").check(&["Unknown Starting"]);
    bench.says(49_000, "EXTEND_TIMEOUT_USEC=20000000").until(68_999).check(&[]);
    bench.until(69_000);
    assert_eq!(bench.log.len(), 2, "{:?}", bench.log);
}

#[test]
fn systemd_extend_timeout_lengthens_an_end() {
    let mut bench = Bench::fresh(&only(Role::Liveness, probe(Check::Notify)));
    bench.says(0, "WATCHDOG=trigger");
    bench.says(9_000, "EXTEND_TIMEOUT_USEC=5000000").until(13_999);
    bench.check(&["Healthy Ready", "Unhealthy NotReady", "end Watchdog: it asked for its own end"]);
    bench.until(14_000).check(&["kill"]);
}

#[test]
fn systemd_watchdog_ends_a_run_that_does_not_ping() {
    let mut bench = Bench::fresh(&only(Role::Liveness, probe(Check::Notify)));
    bench.says(20_000, "WATCHDOG=1").says(49_999, "WATCHDOG=1").until(79_998);
    bench.check(&["Healthy Ready"]).until(79_999);
    bench.check(&["Unhealthy NotReady", "end Watchdog: no WATCHDOG=1 within 30 s"]);
}

#[test]
fn systemd_watchdog_begins_with_the_start_that_succeeded() {
    let startup = Some(probe(Check::Notify));
    let mut bench =
        Bench::fresh(&ProbesSpec { startup, ..only(Role::Liveness, probe(Check::Notify)) });
    bench.says(25_000, "READY=1").until(54_999);
    bench.check(&["Unknown Starting", "started", "Healthy Ready"]);
    bench.until(55_000);
    assert!(bench.log.last().is_some_and(|last| last.starts_with("end Watchdog")));
}

#[test]
fn systemd_watchdog_time_can_be_changed_and_switched_off() {
    let mut bench = Bench::fresh(&only(Role::Liveness, probe(Check::Notify)));
    bench.says(1_000, "WATCHDOG_USEC=500000").until(1_499).check(&["Healthy Ready"]);
    bench.says(1_499, "WATCHDOG=1").says(1_600, "WATCHDOG_USEC=0").until(999_000).check(&[]);
    bench.says(999_000, "WATCHDOG_USEC=500000").until(999_500);
    assert!(bench.log.last().is_some_and(|last| last.contains("within 0.5 s")));
}

#[test]
fn systemd_reloading_takes_readiness_until_ready() {
    let mut bench = Bench::fresh(&only(Role::Readiness, probe(Check::Notify)));
    bench.check(&["Unknown Starting"]).says(1, "READY=1").check(&["Healthy Ready"]);
    bench.says(2, "RELOADING=1\nMONOTONIC_USEC=5").check(&["Degraded NotReady"]);
    bench.says(3, "READY=1").check(&["Healthy Ready"]);
}

#[test]
fn systemd_stopping_holds_probes_and_has_its_time() {
    let probes =
        ProbesSpec { liveness: Some(asked()), ..only(Role::Startup, probe(Check::Notify)) };
    let mut bench = Bench::fresh(&probes);
    bench.says(1, "READY=1").says(2, "STOPPING=1\nSTATUS=bye").says(9_000, "STOPPING=1");
    bench.check(&["Unknown Starting", "started", "Healthy Ready", "Degraded NotReady"]);
    bench
        .until(10_002)
        .check(&["Unhealthy NotReady", "end Hung: it said STOPPING=1 and did not end within 10 s"]);
}

#[test]
fn words_alone_are_told_at_most_once_a_second_and_the_last_ones_always() {
    let mut bench = Bench::fresh(&only(Role::Liveness, probe(Check::Notify)));
    for index in 1..=500 {
        bench.says(index, &format!("STATUS=step {index}"));
    }
    bench.check(&["Healthy Ready"]).until(1_000).check(&["Healthy Ready"]);
    let shown = bench.machine.shown.clone().map(|shown| shown.message);
    assert_eq!(shown.as_deref(), Some("it says: step 500"));
    bench.until(20_000).check(&[]);
}

#[test]
fn beats_make_suspect_after_three_and_dead_after_five() {
    let spec = ProbeSpec { interval: Duration::from_secs(1), ..probe(Check::Beat) };
    let probes = ProbesSpec { readiness: Some(spec.clone()), ..only(Role::Liveness, spec) };
    let mut bench = Bench::fresh(&probes);
    bench.check(&["Unknown Starting"]).beats(500, beat(2_000)).check(&["Healthy Ready"]);
    bench.until(6_499).check(&[]).until(6_500).check(&["Degraded NotReady"]);
    bench.beats(7_000, Beat { ready: false, ..beat(2_000) }).check(&["Degraded NotReady"]);
    assert!(bench.machine.shown.as_ref().is_some_and(|shown| shown.message.contains("no work")));
    bench.beats(8_000, beat(1_000)).check(&["Healthy Ready"]).until(10_999).check(&[]);
    bench.until(11_000).check(&["Degraded NotReady"]).until(12_999).check(&[]).until(13_000);
    bench.check(&["Unhealthy NotReady", "end Hung: no beat within 5 s"]);
}

#[test]
fn silence_is_a_hang_and_output_is_life() {
    let spec = probe(Check::StdoutWithin(Duration::from_secs(2)));
    let mut bench = Bench::fresh(&only(Role::Liveness, spec));
    bench.writes(1_900).writes(3_800).until(5_799).check(&["Healthy Ready"]).until(5_800);
    bench.check(&["Unhealthy NotReady", "end Hung: no output within 2 s"]);
    let spec = probe(Check::StdoutWithin(Duration::from_secs(2)));
    let mut bench = Bench::fresh(&only(Role::Readiness, spec.clone()));
    bench.until(9_000).check(&["Unknown Starting"]).writes(9_000).check(&["Healthy Ready"]);
    bench.until(11_000).check(&["Degraded NotReady"]).writes(11_500).check(&["Healthy Ready"]);
    let mut bench = Bench::fresh(&only(Role::Startup, spec));
    bench.writes(1).check(&["Unknown Starting", "started", "Healthy Ready"]);
}
