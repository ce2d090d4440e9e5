//! Ends that a rule has judged: action × restart type × strategy, and what follows.

use crate::logic::restart::behaviour::*;
use crate::protocol::exit::{ExitAction, ExitClass, Judged};
use crate::protocol::spec::Significance;

const ACTIONS: [ExitAction; 6] = [
    ExitAction::Restart,
    ExitAction::RestartGroup,
    ExitAction::Park { after_ms: 7_000 },
    ExitAction::Quarantine,
    ExitAction::Stop,
    ExitAction::Escalate,
];

fn judged(class: ExitClass, action: ExitAction) -> ChildExit {
    let rule = Some("a.toml:9".to_owned());
    ChildExit::Judged {
        exit: Box::new(ChildExit::Exited { code: 5 }),
        judged: Judged { class, action, reason: "seen".to_owned(), rule },
    }
}

fn crash(action: ExitAction) -> ChildExit {
    judged(ExitClass::Crash, action)
}

fn three(restart: RestartType) -> Vec<ChildSpec> {
    let of = |name| ChildSpec { restart, ..child(name) };
    vec![of("a"), of("b"), of("c")]
}

/// What the strategy does when `b` fails.
fn ordinary(strategy: Strategy) -> Vec<&'static str> {
    match strategy {
        Strategy::OneForAll => vec![
            "b terminated (child_exited; restart_group in 200)",
            "b restarts a c (sibling_failed; restart_group in 200)",
            "stop c 1",
        ],
        Strategy::RestForOne => vec![
            "b terminated (child_exited; restart_group in 200)",
            "b restarts c (sibling_failed; restart_group in 200)",
            "stop c 1",
        ],
        Strategy::OneForOne | Strategy::SimpleOneForOne => {
            vec!["b terminated (child_exited; restart in 200)"]
        }
    }
}

fn expected(strategy: Strategy, restart: RestartType, action: ExitAction) -> Vec<&'static str> {
    match (action, restart, strategy) {
        (ExitAction::Escalate, _, _) => vec![
            "b terminated (exit_rule; escalate in 0)",
            "giving up for b (exit_rule; escalate in 0)",
            "stop c 1",
        ],
        (_, RestartType::Temporary, _) => vec!["b terminated (temporary_exit; none in 0)"],
        (ExitAction::Restart, _, _) | (ExitAction::RestartGroup, _, Strategy::OneForAll) => {
            ordinary(strategy)
        }
        (ExitAction::RestartGroup, _, _) => vec![
            "b terminated (exit_rule; restart_group in 0)",
            "b restarts a c (sibling_failed; restart_group in 0)",
            "stop c 1",
        ],
        (ExitAction::Park { .. }, _, _) => vec!["b terminated (throttled; restart in 7000)"],
        (ExitAction::Quarantine, _, _) => vec![
            "b terminated (exit_rule; trial in 30000)",
            "b circuit closed open (exit_rule; trial in 30000)",
        ],
        (ExitAction::Stop, _, _) => vec!["b terminated (exit_rule; none in 0)"],
    }
}

#[test]
fn each_action_under_each_restart_type_and_strategy_is_this_table() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        for restart in [RestartType::Permanent, RestartType::Transient, RestartType::Temporary] {
            for action in ACTIONS {
                let mut desk = running(strategy, three(restart));
                let seen = desk.exits("b", crash(action));
                let case = format!("{strategy:?} {restart:?} {action:?}");
                assert_eq!(seen, expected(strategy, restart, action), "{case}");
                let record = &desk.records[0];
                assert_eq!(record.rule.exit_rule.as_deref(), Some("a.toml:9"), "{case}");
                assert_eq!(record.rule.origin.as_deref(), Some("tree.toml:1"), "{case}");
                let word = |name: &str| record.inputs.0[name].clone();
                assert_eq!(word("exit_class"), Number::Word("crash".into()), "{case}");
                assert_eq!(word("exit_action"), Number::Word(action.as_str().into()), "{case}");
                assert_eq!(word("exit_because"), Number::Word("seen".into()), "{case}");
                assert_eq!(word("exit"), Number::Word("exited with code 5".into()), "{case}");
                assert_eq!(word("exit_code"), Number::Number(5.0), "{case}");
            }
        }
    }
}

#[test]
fn an_end_that_a_rule_calls_ok_is_clean_for_a_transient_child_alone() {
    let ok = judged(ExitClass::Ok, ExitAction::Restart);
    let mut desk = running(Strategy::OneForOne, three(RestartType::Transient));
    check(desk.exits("b", ok.clone()), &["b finished (clean_exit; none in 0)"]);
    assert_eq!(desk.phase("b"), Phase::Finished);
    let mut desk = running(Strategy::OneForOne, three(RestartType::Permanent));
    check(desk.exits("b", ok), &["b terminated (child_exited; restart in 200)"]);
    // The code is 0, but a rule calls it a crash.
    let exit = Box::new(ChildExit::Exited { code: 0 });
    let ChildExit::Judged { judged, .. } = crash(ExitAction::Restart) else { panic!() };
    let mut desk = running(Strategy::OneForOne, three(RestartType::Transient));
    check(
        desk.exits("b", ChildExit::Judged { exit, judged }),
        &["b terminated (child_exited; restart in 200)"],
    );
}

#[test]
fn parking_by_rule_counts_nowhere_and_ends_at_its_time() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    for n in 2..10 {
        desk.exits("a", judged(ExitClass::Throttled, ExitAction::Park { after_ms: 7_000 }));
        assert!(matches!(desk.phase("a"), Phase::Parked(_)));
        check(desk.pass(6_999), &[]);
        check(desk.pass(1), &[&format!("start a {n}")]);
        desk.up("a");
    }
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn stopped_by_rule_a_child_stays_down_until_somebody_starts_it() {
    let mut desk = running(Strategy::OneForAll, vec![child("a"), child("b")]);
    desk.exits("a", crash(ExitAction::Stop));
    assert_eq!(desk.phase("a"), Phase::Stopped);
    assert_eq!(desk.phase("b"), Phase::Up(Trial::Ordinary));
    check(desk.pass(1_000_000), &[]);
    check(desk.crashes("b"), &["b terminated (child_exited; restart_group in 200)"]);
    check(desk.pass(200), &["start b 2"]);
    check(desk.up("b"), &[]);
    check(desk.call(Call::RestartChild("a".parse().unwrap())), &["start a 2"]);
    check(desk.up("a"), &["ok"]);
    let done = judged(ExitClass::Ok, ExitAction::Stop);
    check(desk.exits("a", done), &["a finished (exit_rule; none in 0)"]);
    assert_eq!(desk.phase("a"), Phase::Stopped);
}

#[test]
fn without_a_circuit_quarantine_is_a_stop() {
    let plain = ChildSpec::otp_worker("a".parse().unwrap());
    let mut desk = running(Strategy::OneForOne, vec![plain]);
    check(desk.exits("a", crash(ExitAction::Quarantine)), &["a terminated (exit_rule; none in 0)"]);
    assert_eq!(desk.phase("a"), Phase::Stopped);
}

#[test]
fn a_command_that_cannot_be_executed_opens_the_circuit_and_any_other_failed_start_is_tried_again() {
    let (program, cwd, message) = ("x".to_owned(), "/x".to_owned(), "y".to_owned());
    for error in [
        StartError::NotFound { program: program.clone() },
        StartError::NotExecutable { program: program.clone() },
        StartError::BadDirectory { cwd, message: message.clone() },
    ] {
        let mut desk = running(Strategy::OneForOne, vec![child("a")]);
        desk.crashes("a");
        desk.pass(200);
        let done = [
            "a start failed (start_failed; trial in 30000)",
            "a circuit closed open (start_failed; trial in 30000)",
        ];
        check(desk.fails_to_start_by("a", error), &done);
        assert!(matches!(desk.phase("a"), Phase::Quarantined(Some(_))));
    }
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    desk.pass(200);
    desk.fails_to_start_by("a", StartError::System { program, message });
    assert!(matches!(desk.phase("a"), Phase::Waiting(_)), "{:?}", desk.phase("a"));
}

#[test]
fn quarantine_by_rule_is_tried_out_and_opens_longer_when_it_ends_so_again() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.jitter = 0.0;
    desk.exits("a", crash(ExitAction::Quarantine));
    check(desk.pass(30_000), &["a circuit open half_open (open_time_over; trial in 0)", "try a 2"]);
    desk.up("a");
    check(
        desk.exits("a", crash(ExitAction::Quarantine)),
        &[
            "a terminated (exit_rule; trial in 60000)",
            "a circuit half_open open (exit_rule; trial in 60000)",
        ],
    );
    let reset = desk.call(Call::ResetChild("a".parse().unwrap()));
    check(reset, &["a circuit open closed (requested; none in 0)", "start a 3"]);
}

#[test]
fn a_circuit_held_closed_by_hand_stays_so_whatever_a_rule_says() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.set("a", CircuitSet::Closed);
    check(
        desk.exits("a", crash(ExitAction::Quarantine)),
        &["a terminated (child_exited; restart in 200)"],
    );
}

#[test]
fn a_trial_that_a_rule_stops_is_called_off() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    desk.pass(30_000);
    desk.up("a");
    check(
        desk.exits("a", crash(ExitAction::Stop)),
        &["a terminated (exit_rule; none in 0)", "a circuit half_open open (exit_rule; none in 0)"],
    );
    check(desk.pass(1_000_000), &[]);
    let again = desk.call(Call::RestartChild("a".parse().unwrap()));
    check(again, &["a circuit open half_open (requested; trial in 0)", "try a 5"]);
}

#[test]
fn a_group_restart_by_rule_stops_in_reverse_order_starts_in_order_and_counts_once() {
    let mut desk = running(Strategy::OneForOne, three(RestartType::Permanent));
    for n in 1..=2 {
        let seen = desk.exits("b", crash(ExitAction::RestartGroup));
        assert_eq!(seen[2], format!("stop c {n}"));
        check(desk.stops("c"), &[&format!("stop a {n}")]);
        let next = n + 1;
        check(desk.stops("a"), &[&format!("start a {next}")]);
        check(desk.up("a"), &[&format!("start b {next}")]);
        check(desk.up("b"), &[&format!("start c {next}")]);
        check(desk.up("c"), &[]);
        let counted = desk.records.iter().rfind(|record| record.rule.exit_rule.is_some()).unwrap();
        assert_eq!(counted.inputs.0["restarts_in_window"], Number::Count(n));
    }
    // Only `b` is near its limit: the others were restarted with it.
    check(desk.crashes("c"), &["c terminated (child_exited; restart in 200)"]);
    check(
        desk.exits("b", crash(ExitAction::RestartGroup)),
        &[
            "b terminated (child_limit_exceeded; trial in 30000)",
            "b circuit closed open (child_limit_exceeded; trial in 30000)",
        ],
    );
}

#[test]
fn the_first_of_rest_for_one_has_its_whole_group_anyway() {
    let mut desk = running(Strategy::RestForOne, three(RestartType::Permanent));
    check(
        desk.exits("a", crash(ExitAction::RestartGroup)),
        &[
            "a terminated (child_exited; restart_group in 200)",
            "a restarts b c (sibling_failed; restart_group in 200)",
            "stop c 1",
        ],
    );
}

#[test]
fn a_member_that_a_rule_stops_or_parks_during_a_group_restart_stays_so() {
    let mut desk = running(Strategy::OneForAll, three(RestartType::Permanent));
    desk.crashes("b");
    // Both end by themselves while `c` is being stopped.
    desk.exits("a", crash(ExitAction::Stop));
    check(desk.stops("c"), &["a did not stop as asked: exited with code 5 (seen)"]);
    assert_eq!(desk.phase("a"), Phase::Stopped);
    check(desk.pass(200), &["start b 2"]);
    check(desk.up("b"), &["start c 2"]);
    desk.up("c");

    let mut desk = running(Strategy::OneForAll, three(RestartType::Permanent));
    desk.crashes("b");
    desk.exits("a", crash(ExitAction::Park { after_ms: 7_000 }));
    desk.stops("c");
    assert!(matches!(desk.phase("a"), Phase::Parked(_)));
    check(desk.pass(200), &["start b 2"]);
}

#[test]
fn escalation_by_rule_ends_the_supervisor_with_the_reason() {
    let mut desk = running(Strategy::OneForOne, vec![child("a"), child("b")]);
    desk.exits("a", crash(ExitAction::Escalate));
    check(
        desk.stops("b"),
        &["ended: failed: gave up, as an exit rule says: a exited with code 5 (seen)"],
    );
}

#[test]
fn a_significant_child_that_a_rule_stops_counts_for_auto_shutdown() {
    let significance = Significance::Significant;
    let job = ChildSpec { significance, restart: RestartType::Transient, ..child("a") };
    let spec = SupervisorSpec {
        name: "sup".parse().unwrap(),
        strategy: Strategy::OneForOne,
        limit: None,
        auto_shutdown: AutoShutdown::AnySignificant,
        origin: None,
    };
    let mut desk = desk(Strategy::OneForOne, vec![]);
    desk.machine = Supervisor::new(spec, vec![job]).unwrap();
    desk.feed(Input::Init);
    desk.up("a");
    check(
        desk.exits("a", crash(ExitAction::Stop)),
        &[
            "a terminated (exit_rule; none in 0)",
            "giving up for a (auto_shutdown; escalate in 0)",
            "ended: finished",
        ],
    );
}
