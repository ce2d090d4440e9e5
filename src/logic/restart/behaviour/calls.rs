//! Throttling, calls, pauses, and the ends of runs that nobody waits for.

use crate::logic::restart::behaviour::*;

#[test]
fn a_throttled_child_is_parked_until_its_time_and_nothing_is_counted() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    for n in 2..10 {
        check(
            desk.exits("a", ChildExit::Throttled { after_ms: 7_000 }),
            &["a terminated (throttled; restart in 7000)"],
        );
        check(desk.pass(6_999), &[]);
        check(desk.pass(1), &[&format!("start a {n}")]);
        desk.up("a");
    }
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn a_throttled_trial_is_tried_again() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    desk.pass(30_000);
    desk.up("a");
    desk.exits("a", ChildExit::Throttled { after_ms: 5_000 });
    check(desk.pass(5_000), &["try a 5"]);
}

#[test]
fn a_circuit_held_open_keeps_the_child_down_until_it_is_set_to_auto() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    check(
        desk.set("a", CircuitSet::Open),
        &["a circuit closed forced_open (requested; none in 0)", "stop a 1"],
    );
    check(desk.stops("a"), &["ok"]);
    assert_eq!(desk.phase("a"), Phase::Quarantined(None));
    check(desk.pass(1_000_000), &[]);
    check(
        desk.set("a", CircuitSet::Auto),
        &["a circuit forced_open closed (requested; none in 0)", "start a 2"],
    );
    check(desk.up("a"), &["ok"]);
}

#[test]
fn a_circuit_held_closed_applies_no_limit() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.set("a", CircuitSet::Closed);
    for delay in [200, 400, 800, 1000, 1000] {
        check(desk.crashes("a"), &[&format!("a terminated (child_exited; restart in {delay})")]);
        desk.pass(delay);
        desk.up("a");
    }
}

#[test]
fn reset_starts_a_quarantined_child_with_an_empty_account() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    check(
        desk.call(Call::ResetChild("a".parse().unwrap())),
        &["a circuit open closed (requested; none in 0)", "start a 4"],
    );
    check(desk.up("a"), &["ok"]);
    assert_eq!(desk.machine.child(&"a".parse().unwrap()).unwrap().restarts, 1);
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn restart_of_a_quarantined_child_is_its_trial() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    check(
        desk.call(Call::RestartChild("a".parse().unwrap())),
        &["a circuit open half_open (requested; trial in 0)", "try a 4"],
    );
    let seen = desk.fails_to_start("a");
    assert!(seen[0].starts_with("refused: start failed"), "{seen:?}");
    assert!(seen[2].starts_with("a circuit half_open open (trial_failed"), "{seen:?}");
}

#[test]
fn a_bounce_is_not_counted_and_a_restart_during_backoff_starts_at_once() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    for n in 2..8 {
        check(desk.call(Call::BounceChild("a".parse().unwrap())), &[&format!("stop a {}", n - 1)]);
        check(desk.stops("a"), &[&format!("start a {n}")]);
        check(desk.up("a"), &["ok"]);
    }
    desk.crashes("a");
    check(desk.call(Call::RestartChild("a".parse().unwrap())), &["start a 8"]);
    check(desk.up("a"), &["ok"]);
    check(desk.pass(5_000), &[]);
}

#[test]
fn a_pause_holds_restarts_and_trials_until_it_is_taken_back() {
    let mut desk = running(Strategy::OneForOne, vec![child("a"), child("b")]);
    desk.quarantine("b");
    desk.crashes("a");
    check(desk.call(Call::Pause), &["ok"]);
    check(desk.pass(100_000), &[]);
    assert_eq!(desk.machine.deadline(), None);
    check(
        desk.call(Call::Resume),
        &["ok", "start a 2", "b circuit open half_open (open_time_over; trial in 0)", "try b 4"],
    );
}

#[test]
fn calls_about_a_busy_child_wait_and_others_do_not() {
    let mut desk = running(Strategy::OneForOne, vec![child("a"), child("b")]);
    check(desk.call(Call::TerminateChild("a".parse().unwrap())), &["stop a 1"]);
    check(desk.call(Call::RestartChild("a".parse().unwrap())), &[]);
    check(desk.call(Call::TerminateChild("b".parse().unwrap())), &["stop b 1"]);
    check(desk.stops("a"), &["ok", "start a 2"]);
    check(desk.up("a"), &["ok"]);
}

#[test]
fn shutdown_wins_over_a_start_and_over_a_group_restart() {
    let mut desk = desk(Strategy::OneForAll, vec![child("a"), child("b"), child("c")]);
    desk.feed(Input::Init);
    desk.up("a");
    check(desk.feed(Input::Shutdown), &["stop b 1"]);
    check(desk.stops("b"), &["stop a 1"]);
    check(desk.stops("a"), &["ended: stopped on request"]);

    let mut desk = running(Strategy::OneForAll, vec![child("a"), child("b"), child("c")]);
    desk.crashes("a");
    check(desk.feed(Input::Shutdown), &[]);
    check(desk.stops("c"), &["stop b 1"]);
    check(desk.stops("b"), &["ended: stopped on request"]);
}

#[test]
fn reports_of_other_runs_are_stale() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    desk.pass(200);
    desk.up("a");
    let old = |exit| Input::Exited { child: "a".parse().unwrap(), generation: Generation(1), exit };
    check(desk.feed(old(ChildExit::Killed)), &[]);
    let child = "a".parse().unwrap();
    let late = Input::Started { child, generation: Generation(1), outcome: StartOutcome::Ignored };
    check(desk.feed(late), &[]);
    assert_eq!(desk.phase("a"), Phase::Up(Trial::Ordinary));
}

#[test]
fn generations_go_on_after_deletion_and_in_the_next_life() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.call(Call::TerminateChild("a".parse().unwrap()));
    desk.stops("a");
    desk.call(Call::DeleteChild("a".parse().unwrap()));
    check(desk.call(Call::StartChild(child("a"))), &["start a 2"]);
    let generations: Generations = desk.machine.generations();
    let next = Supervisor::new(desk.machine.spec().clone(), vec![child("a")]).unwrap();
    let mut next = next.with_generations(generations).with_pace(Pace::OneAtATime);
    let seen = next.on_input(desk.now, Input::Init, 0.0);
    check(desk.lines(seen), &["start a 3"]);
}
