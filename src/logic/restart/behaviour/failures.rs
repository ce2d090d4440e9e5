//! What failures lead to.

use crate::logic::restart::behaviour::*;

#[test]
fn a_delay_grows_with_failures_in_a_row_and_is_reset_by_a_stable_run() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
    check(desk.pass(199), &[]);
    check(desk.pass(1), &["start a 2"]);
    check(desk.fails_to_start("a"), &["a start failed (start_failed; restart in 400)"]);
    check(desk.pass(400), &["start a 3"]);
    check(desk.up("a"), &[]);
    check(desk.pass(9_999), &[]);
    check(desk.pass(1), &["a recovered after 10600 ms, 2 attempts (stable_run; none in 0)"]);
    check(desk.pass(60_000), &[]);
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn a_crash_loop_slower_than_the_window_is_found_by_its_failures_in_a_row() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    // Two restarts in 60 s are allowed, and it is never stable for 10 s: it starts for 31 s, and
    // crashes 5 s later.
    for _ in 0..6 {
        let lines = desk.crashes("a");
        assert!(lines[0].starts_with("a terminated (child_exited; restart in"), "{lines:?}");
        desk.pass(1_000);
        desk.pass(31_000);
        desk.up("a");
        check(desk.pass(5_000), &[]);
    }
    check(
        desk.crashes("a"),
        &[
            "a terminated (child_limit_exceeded; trial in 30000)",
            "a circuit closed open (child_limit_exceeded; trial in 30000)",
        ],
    );
    let inputs = &desk.records[6].inputs.0;
    assert_eq!(inputs["restarts_in_window"], Number::Count(2));
    assert_eq!(inputs["failures_in_a_row"], Number::Count(7));
    assert_eq!(inputs["failures_in_a_row_max"], Number::Count(6));
}

#[test]
fn a_stable_run_or_a_stop_on_request_begins_the_row_anew() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    let crash = |desk: &mut Desk| {
        desk.crashes("a");
        desk.pass(61_000);
        desk.up("a");
    };
    for _ in 0..6 {
        crash(&mut desk);
    }
    desk.pass(10_000);
    for _ in 0..6 {
        crash(&mut desk);
    }
    desk.call(Call::TerminateChild("a".parse().unwrap()));
    desk.stops("a");
    desk.call(Call::RestartChild("a".parse().unwrap()));
    desk.up("a");
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn a_slow_crash_loop_escalates_with_what_was_found() {
    let mut spec = child("a");
    spec.policy = policy(OnExceeded::Escalate);
    let mut desk = running(Strategy::OneForOne, vec![spec]);
    for _ in 0..6 {
        desk.crashes("a");
        desk.pass(31_000);
        desk.up("a");
    }
    check(
        desk.crashes("a"),
        &[
            "a terminated (child_limit_exceeded; escalate in 0)",
            "giving up for a (escalated; escalate in 0)",
            "ended: gave up: 7 restarts within 186000 ms, 6 are allowed",
        ],
    );
}

#[test]
fn who_joins_a_waiting_group_is_told_with_its_time_and_all_that_is_stopped() {
    let mut spec = child("a");
    spec.policy.backoff.initial = Duration::from_secs(1);
    let mut desk = running(Strategy::RestForOne, vec![spec, child("b")]);
    desk.crashes("a");
    desk.stops("b");
    for added in ["c", "d"] {
        desk.call(Call::StartChild(child(added)));
        desk.up(added);
    }
    desk.pass(100);
    check(
        desk.crashes("d"),
        &[
            "d terminated (child_exited; restart in 200)",
            "d restarts c (sibling_failed; restart_group in 900)",
            "stop c 1",
        ],
    );
}

#[test]
fn a_start_that_fails_while_a_group_is_being_stopped_loses_nobody() {
    let mut plain = child("a");
    plain.policy = RestartPolicy::OTP;
    let mut desk = running(Strategy::OneForAll, vec![plain, child("b"), child("c")]);
    desk.call(Call::BounceChild("b".parse().unwrap()));
    desk.stops("b");
    desk.crashes("a");
    desk.stops("c");
    desk.fails_to_start("b");
    desk.pass(1_000);
    desk.up("a");
    desk.up("b");
    desk.up("c");
    for child in ["a", "b", "c"] {
        assert_eq!(desk.phase(child), Phase::Up(Trial::Ordinary), "{child}");
    }
}

#[test]
fn illness_interrupts_the_stable_time() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    desk.pass(200);
    desk.up("a");
    desk.pass(9_000);
    let (child, generation) = ("a".parse::<ChildName>().unwrap(), desk.generation("a"));
    desk.feed(Input::Health { child: child.clone(), generation, healthy: false });
    check(desk.pass(60_000), &[]);
    desk.feed(Input::Health { child, generation, healthy: true });
    check(desk.pass(9_999), &[]);
    check(desk.pass(1), &["a recovered after 79200 ms, 1 attempts (stable_run; none in 0)"]);
}

#[test]
fn jitter_is_drawn_from_the_fraction_and_told() {
    let mut spec = child("a");
    spec.policy.backoff.jitter = Jitter::Full;
    let mut desk = running(Strategy::OneForOne, vec![spec]);
    desk.jitter = 0.25;
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 50)"]);
    let inputs = &desk.records[0].inputs.0;
    assert_eq!(inputs["jitter"], Number::Number(0.25));
    assert_eq!(inputs["delay_ms"], Number::Count(50));
    assert_eq!(inputs["backoff_initial_ms"], Number::Count(200));
    assert_eq!(inputs["consecutive_failures"], Number::Count(0));
    assert_eq!(inputs["restarts_in_window"], Number::Count(1));
    assert_eq!(desk.records[0].rule.intensity, Some(2));
    assert_eq!(desk.records[0].rule.origin.as_deref(), Some("tree.toml:1"));
}

#[test]
fn over_its_limit_a_child_is_quarantined_and_its_siblings_go_on() {
    let mut desk = running(Strategy::OneForAll, vec![child("a"), child("b")]);
    for _ in 0..2 {
        desk.crashes("a");
        desk.stops("b");
        desk.pass(1000);
        desk.up("a");
        desk.up("b");
    }
    check(
        desk.crashes("a"),
        &[
            "a terminated (child_limit_exceeded; trial in 30000)",
            "a circuit closed open (child_limit_exceeded; trial in 30000)",
        ],
    );
    assert!(matches!(desk.phase("a"), Phase::Quarantined(Some(_))));
    assert_eq!(desk.phase("b"), Phase::Up(Trial::Ordinary));
    // Its group does not start it.
    check(desk.crashes("b"), &["b terminated (child_exited; restart_group in 200)"]);
    check(desk.pass(200), &["start b 4"]);
}

#[test]
fn a_trial_that_stays_healthy_closes_the_circuit_and_empties_the_account() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    check(desk.pass(29_999), &[]);
    check(desk.pass(1), &["a circuit open half_open (open_time_over; trial in 0)", "try a 4"]);
    desk.up("a");
    assert_eq!(desk.phase("a"), Phase::Up(Trial::Trial));
    check(
        desk.pass(10_000),
        &[
            "a circuit half_open closed (trial_passed; none in 0)",
            "a recovered after 42000 ms, 3 attempts (trial_passed; none in 0)",
        ],
    );
    assert_eq!(desk.phase("a"), Phase::Up(Trial::Ordinary));
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn a_failed_trial_opens_the_circuit_for_longer() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.jitter = 1.0;
    desk.quarantine("a");
    desk.pass(30_000);
    check(
        desk.fails_to_start("a"),
        &[
            "a start failed (trial_failed; trial in 54000)",
            "a circuit half_open open (trial_failed; trial in 54000)",
        ],
    );
    desk.pass(54_000);
    desk.up("a");
    check(
        desk.crashes("a"),
        &[
            "a terminated (trial_failed; trial in 90000)",
            "a circuit half_open open (trial_failed; trial in 90000)",
        ],
    );
}

#[test]
fn restart_siblings_is_tried_once_before_quarantine() {
    let mut spec = child("a");
    spec.policy = policy(OnExceeded::RestartSiblings);
    let mut desk = running(Strategy::OneForOne, vec![spec, child("b")]);
    check(
        desk.quarantine("a"),
        &[
            "a terminated (child_limit_exceeded; restart_group in 0)",
            "a restarts b (sibling_failed; restart_group in 0)",
            "stop b 1",
        ],
    );
    check(desk.stops("b"), &["start a 4"]);
    check(desk.up("a"), &["start b 2"]);
    desk.up("b");
    check(
        desk.crashes("a"),
        &[
            "a terminated (child_limit_exceeded; trial in 30000)",
            "a circuit closed open (child_limit_exceeded; trial in 30000)",
        ],
    );
}

#[test]
fn escalation_ends_the_supervisor_and_stop_tree_the_tree() {
    for (rule, reason, ended) in [
        (OnExceeded::Escalate, "escalate", "ended"),
        (OnExceeded::StopTree, "stop_tree", "tree ended"),
    ] {
        let mut spec = child("b");
        spec.policy = policy(rule);
        let mut desk = running(Strategy::OneForOne, vec![child("a"), spec]);
        check(
            desk.quarantine("b"),
            &[
                &format!("b terminated (child_limit_exceeded; {reason} in 0)"),
                &format!("giving up for b (escalated; {reason} in 0)"),
                "stop a 1",
            ],
        );
        let gave_up = "gave up: 3 restarts within 60000 ms, 2 are allowed";
        check(desk.stops("a"), &[&format!("{ended}: {gave_up}")]);
        check(desk.call(Call::Pause), &["refused: supervisor is shutting down"]);
    }
}

#[test]
fn a_failed_first_start_is_handled_by_the_child_s_own_policy() {
    let mut desk = desk(Strategy::OneForOne, vec![child("a"), child("b")]);
    check(desk.feed(Input::Init), &["start a 1"]);
    check(
        desk.fails_to_start("a"),
        &["a start failed (start_failed; restart in 200)", "start b 1"],
    );
    check(desk.up("b"), &["ready"]);
    check(desk.pass(200), &["start a 2"]);
}

#[test]
fn without_a_circuit_a_failed_first_start_ends_the_supervisor() {
    let plain = ChildSpec::otp_worker("b".parse().unwrap());
    let mut desk = desk(Strategy::OneForOne, vec![child("a"), plain]);
    desk.feed(Input::Init);
    desk.up("a");
    check(desk.fails_to_start("b"), &["b start failed (start_failed; escalate in 0)", "stop a 1"]);
    let seen = desk.stops("a");
    assert!(seen[0].starts_with("ended: failed: child b failed to start"), "{seen:?}");
}

#[test]
fn a_refused_start_is_tried_again_uncounted() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    for _ in 0..20 {
        desk.pass(1000);
        let refused = StartError::Refused { message: "the keeper is away".into() };
        let seen = desk.started("a", StartOutcome::Failed(refused));
        check(seen, &["a start failed (start_failed; restart in 400)"]);
    }
}

#[test]
fn a_group_is_stopped_at_once_and_started_when_the_delay_is_over() {
    let mut desk = running(Strategy::RestForOne, vec![child("a"), child("b"), child("c")]);
    check(
        desk.crashes("b"),
        &[
            "b terminated (child_exited; restart_group in 200)",
            "b restarts c (sibling_failed; restart_group in 200)",
            "stop c 1",
        ],
    );
    check(desk.stops("c"), &[]);
    assert!(matches!(desk.phase("c"), Phase::Waiting(_)));
    // A member that fails meanwhile joins: the larger group, the later time.
    check(desk.crashes("a"), &["a terminated (child_exited; restart_group in 200)"]);
    check(desk.pass(200), &["start a 2"]);
    check(desk.up("a"), &["start b 2"]);
    check(desk.up("b"), &["start c 2"]);
    check(desk.up("c"), &[]);
    assert_eq!(desk.machine.deadline(), Some(desk.now + Duration::from_secs(10)));
}

#[test]
fn members_that_wait_for_a_child_are_started_without_it_when_it_is_taken_down() {
    let mut desk = running(Strategy::OneForAll, vec![child("a"), child("b")]);
    desk.crashes("a");
    desk.stops("b");
    check(desk.call(Call::TerminateChild("a".parse().unwrap())), &["ok"]);
    check(desk.pass(200), &["start b 2"]);
    check(desk.up("b"), &[]);
    assert_eq!(desk.phase("a"), Phase::Stopped);
}

#[test]
fn members_are_not_forgotten_when_the_child_is_taken_down_before_its_retry() {
    let at_once = |name| {
        let mut spec = child(name);
        spec.policy.backoff.initial = Duration::ZERO;
        spec
    };
    let mut desk = running(Strategy::RestForOne, vec![at_once("a"), at_once("b"), at_once("c")]);
    desk.crashes("b");
    check(desk.stops("c"), &["start b 2"]);
    check(desk.call(Call::TerminateChild("b".parse().unwrap())), &[]);
    check(
        desk.fails_to_start("b"),
        &["b start failed (start_failed; restart_group in 0)", "ok", "start c 2"],
    );
}

#[test]
fn a_group_restart_brings_back_neither_the_stopped_nor_the_finished() {
    let mut finished = child("b");
    finished.restart = RestartType::Transient;
    let mut desk = running(Strategy::OneForAll, vec![child("a"), finished, child("c")]);
    check(desk.exits("b", ChildExit::Exited { code: 0 }), &["b finished (clean_exit; none in 0)"]);
    desk.call(Call::TerminateChild("c".parse().unwrap()));
    check(desk.stops("c"), &["ok"]);
    desk.crashes("a");
    check(desk.pass(200), &["start a 2"]);
    check(desk.up("a"), &[]);
}

#[test]
fn work_that_is_done_while_a_group_is_being_stopped_ends_the_row() {
    let mut job = child("a");
    job.restart = RestartType::Transient;
    let mut desk = running(Strategy::OneForAll, vec![job, child("b"), child("c")]);
    desk.crashes("a");
    desk.stops("c");
    desk.stops("b");
    check(desk.pass(200), &["start a 2"]);
    for name in ["a", "b", "c"] {
        desk.up(name);
    }
    desk.crashes("b");
    // It ends by itself while `c` is being stopped.
    desk.exits("a", ChildExit::Exited { code: 0 });
    desk.stops("c");
    assert_eq!(desk.phase("a"), Phase::Finished);
    check(desk.pass(200), &["start b 3"]);
    desk.up("b");
    desk.up("c");
    desk.call(Call::RestartChild("a".parse().unwrap()));
    desk.up("a");
    let seen = desk.crashes("a");
    assert_eq!(seen.first().unwrap(), "a terminated (child_exited; restart_group in 200)");
}
