//! Behaviour of the machine, rule by rule. Traces from outside are in `tests/it/breaker`.

use std::time::Duration;

use crate::logic::breaker::{
    Admission, BreakerConfig, Cause, Force, Grant, Machine, Mode, Outcome, Window,
};
use crate::protocol::decision::{NextKind, Reason};
use crate::protocol::status::CircuitState;

/// Two failures open it for a second; two probes at a time, two successes close it.
fn config() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: Some(2),
        error_percent: None,
        request_volume: 1,
        open_for: Duration::from_secs(1),
        open_max: Duration::from_secs(10),
        jitter: 0.0,
        half_open_probes: 2,
        success_threshold: 2,
        half_open_timeout: Some(Duration::from_secs(3)),
        ..BreakerConfig::default()
    }
}

fn pass(machine: &mut Machine, now: u64) -> Grant {
    match machine.acquire(now, 0.0) {
        Admission::Granted(grant) => grant,
        Admission::Rejected(rejection) => panic!("rejected at {now}: {rejection:?}"),
    }
}

fn is_rejected(machine: &mut Machine, now: u64) -> bool {
    match machine.acquire(now, 0.0) {
        Admission::Granted(grant) => {
            machine.release(now, grant, 0.0);
            false
        }
        Admission::Rejected(_) => true,
    }
}

fn call(machine: &mut Machine, now: u64, outcome: Outcome) {
    let grant = pass(machine, now);
    machine.settle(now, grant, outcome, 0.0);
}

fn tripped() -> Machine {
    let mut machine = Machine::new(config());
    call(&mut machine, 0, Outcome::Error);
    call(&mut machine, 0, Outcome::Error);
    assert_eq!(machine.control().state().circuit(), CircuitState::Open);
    machine
}

fn state(machine: &Machine) -> CircuitState {
    machine.control().state().circuit()
}

#[test]
fn disabled_it_passes_everything_and_counts_nothing() {
    let mut machine = Machine::new(BreakerConfig { mode: Mode::Disabled, ..config() });
    for _ in 0..10 {
        call(&mut machine, 0, Outcome::Error);
    }
    assert_eq!((state(&machine), machine.counts(0).calls), (CircuitState::Closed, 0));
    assert_eq!(machine.take_transitions(), []);
}

#[test]
fn metrics_only_counts_once_for_each_time_it_would_have_opened() {
    let mut machine = Machine::new(BreakerConfig { mode: Mode::MetricsOnly, ..config() });
    for _ in 0..7 {
        call(&mut machine, 0, Outcome::Error);
    }
    assert_eq!((state(&machine), machine.would_have_opened()), (CircuitState::Closed, 3));
    assert_eq!(machine.counts(0).errors, 1);
    assert_eq!(machine.take_transitions(), []);
}

#[test]
fn failed_trials_double_the_open_time_up_to_its_cap_and_closing_resets_it() {
    let mut machine = tripped();
    let mut now = 0;
    for expected in [1000, 2000, 4000, 8000, 10_000, 10_000] {
        assert_eq!(machine.control().retry_after_ms(now), Some(expected));
        now += expected;
        call(&mut machine, now, Outcome::Error);
    }
    now += 10_000;
    call(&mut machine, now, Outcome::Ok);
    call(&mut machine, now, Outcome::Ok);
    assert_eq!(state(&machine), CircuitState::Closed);
    call(&mut machine, now, Outcome::Error);
    call(&mut machine, now, Outcome::Error);
    assert_eq!(machine.control().retry_after_ms(now), Some(1000));
}

#[test]
fn an_open_time_that_grows_for_ever_does_not_overflow() {
    let mut machine = Machine::new(BreakerConfig {
        open_factor: 100.0,
        open_max: Duration::MAX,
        failure_threshold: Some(1),
        ..config()
    });
    let mut now = 0;
    for _ in 0..200 {
        call(&mut machine, now, Outcome::Error);
        let last = now;
        now = machine.deadline().expect("it is open");
        assert!(now - last <= 86_400_000);
    }
}

#[test]
fn jitter_takes_off_its_share_of_the_draw_and_never_all() {
    for (jitter, draw, expected) in
        [(0.2, 0.0, 1000), (0.2, 0.5, 900), (0.2, 1.0, 800), (1.0, 1.0, 1), (0.2, f64::NAN, 1000)]
    {
        let mut machine =
            Machine::new(BreakerConfig { jitter, failure_threshold: Some(1), ..config() });
        let grant = pass(&mut machine, 0);
        machine.settle(0, grant, Outcome::Error, draw);
        assert_eq!(machine.control().retry_after_ms(0), Some(expected), "{jitter} {draw}");
    }
}

#[test]
fn a_reconfiguration_keeps_the_state_the_open_time_and_the_window() {
    let mut machine = Machine::new(config());
    call(&mut machine, 0, Outcome::Error);
    let patient = BreakerConfig { failure_threshold: Some(3), ..config() };
    machine.reconfigure(0, patient, 0.0);
    call(&mut machine, 0, Outcome::Error);
    assert_eq!((state(&machine), machine.counts(0).errors), (CircuitState::Closed, 2));
    call(&mut machine, 0, Outcome::Error);
    assert_eq!(state(&machine), CircuitState::Open);
    let shorter = BreakerConfig { open_for: Duration::from_millis(10), ..patient };
    machine.reconfigure(500, shorter, 0.0);
    assert_eq!(machine.control().retry_after_ms(500), Some(500));
    call(&mut machine, 1000, Outcome::Ok);
    machine.reconfigure(1000, BreakerConfig { success_threshold: 1, ..shorter }, 0.0);
    call(&mut machine, 1000, Outcome::Ok);
    assert_eq!(state(&machine), CircuitState::Closed);
}

#[test]
fn a_reconfiguration_to_metrics_only_closes_an_open_circuit() {
    let mut machine = tripped();
    machine.reconfigure(1, BreakerConfig { mode: Mode::MetricsOnly, ..config() }, 0.0);
    assert_eq!(state(&machine), CircuitState::Closed);
    let last = machine.take_transitions().pop();
    assert_eq!(last.map(|last| last.cause), Some(Cause::Requested));
}

#[test]
fn a_window_of_another_shape_begins_empty() {
    let mut machine = Machine::new(BreakerConfig { failure_threshold: None, ..config() });
    call(&mut machine, 0, Outcome::Error);
    machine.reconfigure(0, BreakerConfig { window: Window::Calls(10), ..config() }, 0.0);
    assert_eq!(machine.counts(0).calls, 0);
}

#[test]
fn a_breaker_that_was_open_before_a_restart_starts_open() {
    use crate::logic::breaker::Control;
    let mut machine = Machine::with_control(Control::open_until(config(), 400, 2));
    assert!(is_rejected(&mut machine, 399));
    call(&mut machine, 400, Outcome::Error);
    assert_eq!(machine.control().retry_after_ms(400), Some(4000));
}

#[test]
fn each_pair_of_states_and_requests_has_its_answer() {
    use CircuitState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};
    let table = [
        (Closed, [ForcedOpen, ForcedClosed, Closed]),
        (Open, [ForcedOpen, ForcedClosed, Open]),
        (HalfOpen, [ForcedOpen, ForcedClosed, HalfOpen]),
        (ForcedOpen, [ForcedOpen, ForcedClosed, Closed]),
        (ForcedClosed, [ForcedOpen, ForcedClosed, Closed]),
    ];
    for (from, expected) in table {
        for (force, expected) in [Force::Open, Force::Closed, Force::Auto].into_iter().zip(expected)
        {
            let mut machine = match from {
                Closed | ForcedOpen | ForcedClosed => Machine::new(config()),
                Open | HalfOpen => tripped(),
            };
            match from {
                ForcedOpen => machine.force(0, Force::Open, 0.0),
                ForcedClosed => machine.force(0, Force::Closed, 0.0),
                HalfOpen => machine.advance(1000, 0.0),
                Closed | Open => {}
            }
            assert_eq!(state(&machine), from);
            let now = if from == HalfOpen { 1000 } else { 0 };
            machine.force(now, force, 0.0);
            assert_eq!(state(&machine), expected, "{from:?} {force:?}");
        }
    }
}

#[test]
fn a_transition_tells_what_it_was_decided_on_and_what_comes_next() {
    let mut machine = tripped();
    let mut transitions = machine.take_transitions();
    let opened = transitions.pop().expect("it has opened");
    let record = opened.record(Some("a.toml:3".to_owned()));
    assert_eq!(record.reason, Reason::FailureThreshold);
    assert_eq!((record.next.action, record.next.in_ms), (NextKind::Trial, 1000));
    let inputs = serde_json::to_value(&record.inputs).expect("inputs are JSON");
    assert_eq!(inputs["consecutive_failures"], 2);
    assert_eq!(inputs["failure_threshold"], 2);
    let event = opened.event("bank".parse().expect("a name"));
    assert_eq!((event.to, event.retry_after_ms), (CircuitState::Open, Some(1000)));
    // Evidence and rules derive the same judgement.
    let counts = opened.evidence.counts.expect("a judgement on the window");
    assert_eq!(counts.judge(&opened.evidence.config), Some(opened.cause));
}
