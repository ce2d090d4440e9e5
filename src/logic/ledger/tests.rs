//! The ledger, step by step.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::logic::ledger::bench::{Bench, agent, done, failed, working};
use crate::logic::ledger::types::Again;
use crate::logic::ledger::{
    Accepted, Cancelling, Counts, Gone, Needs, Policies, REPEATS_MAX, Rate, Step, TaskKey, Told,
    TypePolicy, Undelivered,
};
use crate::protocol::agent::{Held, TaskNews};
use crate::protocol::decision::Reason;
use crate::protocol::id::{EventId, TaskType};
use crate::protocol::route::Distribution;
use crate::protocol::task::{Priority, TaskRecord, TaskRequest, TaskState};

fn bench() -> Bench {
    Bench::new(Policies::default())
}

use TaskState::{
    Accepted as Waits, Assigned, Cancelled, Completed, Expired, Failed, Rejected, Working,
};

#[test]
fn a_task_that_goes_well_has_two_records_and_its_token_is_the_first_ones_sequence() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    assert_eq!(bench.states(), [], "the submission is the record of acceptance");
    assert_eq!(bench.give("a"), Some(1));
    assert_eq!((bench.orders[0].attempt, bench.orders[0].token), (1, bench.log[0].0));
    bench.say("a", 1, 1, done());
    assert_eq!(bench.states(), [Assigned, Completed]);
    assert_eq!(bench.last().token, Some(bench.log[0].0));
    assert_eq!(bench.last().decision.reason, Reason::AgentSaid);
    assert_eq!(bench.ended.len(), 1);
    assert_eq!(bench.ledger.counts(), Counts::default());
}

#[test]
fn the_same_id_is_the_same_task() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    let request = TaskRequest::new(json!(2));
    let mut again = bench.submission(2, "");
    again.id = "t1".parse().unwrap();
    let accepted = bench.ledger.accept(bench.moment(), again, &request, Duration::ZERO);
    assert_eq!(accepted, Accepted::Duplicate(TaskKey(1)));
    let same = bench.submission(1, "");
    let accepted = bench.ledger.accept(bench.moment(), same, &request, Duration::ZERO);
    assert_eq!(accepted, Accepted::Known);
}

#[test]
fn a_crashed_agents_task_is_given_out_at_once_and_its_late_result_is_refused() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    bench.give("a");
    bench.gone("a", Gone::Crashed);
    assert_eq!(bench.states(), [Assigned, Waits]);
    assert_eq!(bench.last().decision.next.in_ms, 0);
    assert_eq!(bench.last().failures, 1);
    let next = bench.ledger.next(bench.moment().now, &BTreeSet::new()).unwrap();
    assert_eq!(next.avoid, BTreeSet::from([agent("a")]));
    bench.give("b");
    bench.say("a", 1, 1, done());
    assert_eq!(bench.told.last(), Some(&Told::LateResult));
    assert_eq!(bench.states(), [Assigned, Waits, Assigned], "nothing was applied");
    bench.say("b", 1, 2, done());
    assert_eq!(bench.ended[0].agent_id, Some(agent("b")));
    bench.say("a", 1, 1, done());
    assert_eq!(bench.told.iter().filter(|told| **told == Told::LateResult).count(), 2);
}

#[test]
fn what_happens_while_a_record_is_written_waits_for_it() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    bench.held_back = Some(Vec::new());
    bench.give("a");
    bench.gone("a", Gone::Crashed);
    assert_eq!(bench.states(), []);
    bench.flush();
    assert_eq!(bench.states(), [Assigned, Waits]);
    assert_eq!(bench.orders, [], "nobody is told to work for an agent that has gone");
    assert_eq!(bench.give("b"), Some(1));
}

#[test]
fn an_agent_that_was_stopped_costs_no_failure() {
    let mut bench = bench();
    bench.accept(1, |request| request.max_attempts = Some(1));
    for name in ["a", "b", "c"] {
        bench.give(name);
        bench.gone(name, Gone::Stopped);
    }
    assert_eq!((bench.last().state, bench.last().failures, bench.last().attempt), (Waits, 0, 3));
}

#[test]
fn failures_pause_as_the_agent_or_the_backoff_says_and_end_in_a_dead_letter() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    bench.give("a");
    bench.say("a", 1, 1, failed(Again::MayHelp, Some(30_000)));
    assert_eq!(bench.last().decision.next.in_ms, 30_000);
    bench.pass(29_999);
    assert_eq!(bench.give("a"), None);
    bench.pass(1);
    bench.give("a");
    bench.say("a", 1, 2, failed(Again::MayHelp, None));
    assert_eq!(bench.last().decision.next.in_ms, 2_000, "1 s, doubled once");
    bench.pass(2_000);
    bench.give("a");
    bench.say("a", 1, 3, failed(Again::MayHelp, None));
    assert_eq!(
        (bench.last().state, bench.last().decision.reason),
        (Failed, Reason::AttemptsExhausted)
    );
    assert!(bench.ended[0].state.is_dead());
    bench.accept(2, |_| {});
    bench.give("a");
    bench.say("a", 2, 1, failed(Again::CannotHelp, None));
    assert_eq!(bench.last().state, Failed, "another attempt cannot help");
}

#[test]
fn a_task_that_fails_on_three_agents_is_poison_however_many_attempts_it_may_have() {
    let mut bench = bench();
    bench.accept(1, |request| request.max_attempts = Some(50));
    for (attempt, name) in (1..).zip(["a", "b", "c"]) {
        bench.give(name);
        bench.say(name, 1, attempt, failed(Again::MayHelp, Some(0)));
    }
    assert_eq!((bench.last().state, bench.last().decision.reason), (Failed, Reason::PoisonTask));
    assert_eq!(bench.last().blamed.len(), 3);
}

#[test]
fn an_agent_that_fails_three_tasks_while_others_succeed_is_sick() {
    let mut bench = bench();
    for number in 1..=4 {
        bench.accept(number, |_| {});
    }
    let is_sick = |bench: &Bench| bench.ledger.is_sick(&agent("a"), bench.moment().now);
    for number in 1..=3 {
        bench.give("a");
        if number == 2 {
            bench.give("b");
            bench.say("b", 3, 1, done());
        }
        let number = if number == 3 { 4 } else { number };
        assert!(!is_sick(&bench));
        bench.say("a", number, 1, failed(Again::MayHelp, Some(60_000)));
    }
    assert!(is_sick(&bench));
    assert_eq!(bench.told.last(), Some(&Told::AgentSick));
    bench.pass(30_000);
    assert!(!is_sick(&bench));
}

#[test]
fn a_lease_ends_after_silence_and_any_word_renews_it() {
    let mut bench = bench();
    bench.accept(1, |request| request.lease_ms = Some(1_000));
    bench.give("a");
    bench.pass(900);
    bench.say("a", 1, 1, working());
    bench.pass(900);
    assert_eq!(bench.states(), [Assigned, Working]);
    bench.say("a", 1, 1, TaskNews::InputRequired { message: None });
    bench.pass(100_000);
    assert_eq!(bench.states().len(), 3, "no lease runs while it waits for an answer");
    bench.say("a", 1, 1, working());
    bench.pass(1_000);
    assert_eq!(bench.last().decision.reason, Reason::LeaseExpired);
    assert_eq!(bench.cancels.len(), 1, "its agent is told");
}

#[test]
fn progress_is_recorded_once_a_second() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    bench.give("a");
    for _ in 0..100 {
        bench.say("a", 1, 1, working());
        bench.pass(50);
    }
    assert_eq!(bench.states().len(), 1 + 5);
}

#[test]
fn a_deadline_ends_a_task_wherever_it_is() {
    let mut bench = bench();
    for number in 1..=3 {
        bench.accept(number, |request| request.deadline_ms = Some(1_000));
    }
    bench.give("a");
    bench.give("b");
    bench.say("b", 2, 1, failed(Again::MayHelp, Some(50_000)));
    bench.pass(1_000);
    let ends: Vec<TaskState> = bench.ended.iter().map(|record| record.state).collect();
    assert_eq!(ends, [Expired; 3]);
    assert_eq!(bench.cancels, [("t1".parse().unwrap(), 1)]);
    bench.say("a", 1, 1, done());
    assert_eq!(bench.told.last(), Some(&Told::LateResult));
}

#[test]
fn a_delayed_task_waits_for_its_time() {
    let mut bench = bench();
    bench.accept(1, |request| request.delay_ms = Some(500));
    assert_eq!(
        bench.ledger.deadline(bench.moment().now),
        Some(bench.start + Duration::from_millis(500))
    );
    assert_eq!(bench.give("a"), None);
    bench.pass(500);
    assert_eq!(bench.give("a"), Some(1));
}

#[test]
fn a_cancelled_task_ends_at_once_or_after_the_grace_and_a_result_in_time_counts() {
    let mut bench = bench();
    for number in 1..=4 {
        bench.accept(number, |_| {});
    }
    for _ in 1..=3 {
        bench.give("a");
    }
    let grace = (Duration::from_secs(1), String::new());
    for number in 1..=4 {
        let id = format!("t{number}").parse().unwrap();
        let (said, steps) = bench.ledger.cancel(bench.moment(), &id, grace.clone());
        bench.carry_out(steps);
        assert_eq!(said == Cancelling::Ending, number == 4);
    }
    assert_eq!(bench.ended.last().unwrap().state, Cancelled, "nobody had the fourth");
    bench.say("a", 2, 1, done());
    bench.say("a", 3, 1, failed(Again::MayHelp, None));
    bench.pass(1_000);
    let ends: Vec<(&str, TaskState)> =
        bench.ended.iter().map(|record| (record.task_id.as_str(), record.state)).collect();
    assert_eq!(ends, [("t4", Cancelled), ("t2", Completed), ("t3", Cancelled), ("t1", Cancelled)]);
    let (said, _) = bench.ledger.cancel(bench.moment(), &"t1".parse().unwrap(), grace);
    assert_eq!(said, Cancelling::Unknown);
}

#[test]
fn a_bad_submission_is_rejected_with_its_fault() {
    let mut bench = bench();
    let submission = bench.submission(1, "");
    let rejected = bench.ledger.reject(bench.moment(), &submission, "no good".to_owned());
    let Accepted::Taken(steps) = rejected else { panic!("{rejected:?}") };
    bench.carry_out(steps);
    assert_eq!(bench.states(), [Rejected]);
    assert_eq!(bench.ended[0].error.as_ref().unwrap().message, "no good");
}

#[test]
fn a_dispatch_that_was_lost_is_repeated_with_the_same_token_and_then_forgotten() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    bench.give("a");
    let beat = |bench: &mut Bench, held: &[Held]| {
        let every = Duration::from_secs(1);
        let steps = bench.ledger.beat(bench.moment(), &agent("a"), (held, every));
        bench.carry_out(steps);
    };
    beat(&mut bench, &[]);
    assert_eq!(bench.orders.len(), 1, "it may be on its way");
    for _ in 0..REPEATS_MAX {
        bench.pass(2_000);
        beat(&mut bench, &[]);
    }
    assert_eq!(bench.orders.len(), 4);
    assert!(bench.orders.iter().all(|order| *order == bench.orders[0]));
    let held = Held { id: "t1".parse().unwrap(), token: bench.orders[0].token };
    beat(&mut bench, &[held]);
    bench.pass(2_000);
    beat(&mut bench, &[]);
    assert_eq!(bench.last().decision.reason, Reason::Forgotten);
    assert_eq!(bench.last().failures, 0);
}

#[test]
fn an_order_that_cannot_be_sent_is_given_to_another_and_an_impossible_one_ends_the_task() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    bench.give("a");
    let undelivered = |bench: &mut Bench, attempt, why| {
        let steps = bench.ledger.undelivered(bench.moment(), TaskKey(1), (attempt, why));
        bench.carry_out(steps);
    };
    undelivered(&mut bench, 1, Undelivered::Busy("full".to_owned()));
    assert_eq!((bench.last().state, bench.last().failures), (Waits, 0));
    bench.pass(50);
    bench.give("b");
    undelivered(&mut bench, 1, Undelivered::Busy("an old one".to_owned()));
    assert_eq!(bench.last().state, Assigned);
    undelivered(&mut bench, 2, Undelivered::Impossible("too long".to_owned()));
    assert_eq!(bench.last().state, Failed);
}

#[test]
fn concurrency_and_rate_of_a_type_are_bounded() {
    let policy = TypePolicy { max_concurrent: Some(2), ..TypePolicy::default() };
    let mut bench = Bench::new(Policies { default: policy, ..Policies::default() });
    for number in 1..=4 {
        bench.accept(number, |_| {});
    }
    assert_eq!((bench.give("a"), bench.give("a"), bench.give("a")), (Some(1), Some(2), None));
    bench.say("a", 1, 1, done());
    assert_eq!((bench.give("a"), bench.give("a")), (Some(3), None));

    let rate = Rate { count: 2, per: Duration::from_secs(1) };
    let policy = TypePolicy { rate: Some(rate), ..TypePolicy::default() };
    let mut bench = Bench::new(Policies { default: policy, ..Policies::default() });
    for number in 1..=4 {
        bench.accept(number, |_| {});
    }
    assert_eq!((bench.give("a"), bench.give("a"), bench.give("a")), (Some(1), Some(2), None));
    let opens = bench.ledger.deadline(bench.moment().now).unwrap();
    assert!(opens <= bench.start + Duration::from_millis(500));
    bench.pass(500);
    assert_eq!((bench.give("a"), bench.give("a")), (Some(3), None));
}

#[test]
fn a_lane_that_nobody_serves_holds_up_no_other() {
    let mut bench = bench();
    bench.accept(1, |request| {
        request.requirements.required_capabilities.insert("rare".to_owned());
        request.requirements.priority = Priority::Critical;
    });
    bench.accept(2, |_| {});
    let now = bench.moment().now;
    let first = bench.ledger.next(now, &BTreeSet::new()).unwrap();
    assert_eq!(first.key, TaskKey(1));
    let refused = BTreeSet::from([first.needs]);
    assert_eq!(bench.ledger.next(now, &refused).unwrap().key, TaskKey(2));
}

#[test]
fn the_urgent_comes_first_and_submitters_share() {
    let mut bench = bench();
    let request = TaskRequest::new(json!(1));
    for number in 1..=6 {
        let submission = bench.submission(number, if number <= 5 { "greedy" } else { "modest" });
        let accepted = bench.ledger.accept(bench.moment(), submission, &request, Duration::ZERO);
        assert!(matches!(accepted, Accepted::Taken(_)));
    }
    bench.accept(7, |request| request.requirements.priority = Priority::High);
    let order: Vec<u64> = (0..7).map(|_| bench.give("a").unwrap()).collect();
    assert_eq!(order, [7, 1, 6, 2, 3, 4, 5]);
}

#[test]
fn a_ledger_goes_on_from_the_last_records() {
    let mut bench = bench();
    for number in 1..=3 {
        bench.accept(number, |_| {});
    }
    bench.give("a");
    bench.give("a");
    bench.say("a", 2, 1, failed(Again::MayHelp, Some(5_000)));
    let last = |number: u64, bench: &Bench| {
        let id = format!("t{number}");
        bench.log.iter().rfind(|(_, record)| record.task_id.as_str() == id).cloned()
    };
    let records: Vec<_> = (1..=3).map(|number| last(number, &bench)).collect();
    let mut again = Bench { log: bench.log.clone(), ..Bench::new(Policies::default()) };
    (again.ms, again.sequence) = (2_000, bench.sequence);
    for (number, record) in (1..).zip(records) {
        again.accept(number, |_| {});
        if let Some((sequence, record)) = record {
            let key = TaskKey(number);
            let steps = again.ledger.restore(again.moment(), key, sequence, record);
            again.carry_out(steps);
        }
    }
    let counts = again.ledger.counts();
    assert_eq!((counts.held, counts.delayed, counts.ready), (1, 1, 1));
    assert_eq!(again.ledger.held_by(&agent("a"))[0].2.as_deref(), Some("run-of-a"));
    again.say("a", 1, 1, done());
    assert_eq!(again.last().token, Some(1), "the attempt goes on under its token");
    again.pass(2_999);
    assert_eq!(again.give("b"), Some(3));
    assert_eq!(again.give("b"), None);
    again.pass(1);
    assert_eq!(again.give("b"), Some(2));
    assert_eq!(again.last().attempt, 2);
}

#[test]
fn a_record_of_somebody_else_is_found_and_ones_own_is_known_again() {
    let mut bench = bench();
    bench.accept(1, |_| {});
    bench.held_back = Some(Vec::new());
    bench.give("a");
    let (key, mut record) = bench.held_back.take().unwrap().remove(0);
    let mut other = bench.clone();
    let steps = bench.ledger.conflict(bench.moment(), key, Some((9, record.clone()))).unwrap();
    bench.carry_out(steps);
    assert_eq!(bench.orders[0].token, 9, "the first try was stored");

    let mut gone = other.clone();
    let steps = gone.ledger.conflict(gone.moment(), key, None).unwrap();
    assert!(matches!(&steps[..], [Step::Write(_, again)] if again.previous == 0));

    record.record = EventId::new(uuid::Uuid::from_u128(77));
    record.state = Completed;
    let mut closed = other.clone();
    let ended = closed.ledger.conflict(closed.moment(), key, Some((9, record.clone())));
    let unassign = Step::Unassign { id: "t1".parse().unwrap(), agent: agent("a"), attempt: 1 };
    let again = [unassign.clone(), Step::EndedBefore(key, Box::new(record.clone()))];
    assert_eq!(ended.unwrap(), again, "it came once more before its end was told");
    assert_eq!(closed.ledger.counts(), Counts::default());

    let mut repeated = other.clone();
    let first = TaskRecord { submission: 7, ..record.clone() };
    let ended = repeated.ledger.conflict(repeated.moment(), key, Some((9, first)));
    let dropped = [unassign.clone(), Step::Drop(key)];
    assert_eq!(ended.unwrap(), dropped, "the id stands for a task that has ended");

    let mut seen_by_nobody = other.clone();
    let assigned = TaskRecord { state: Assigned, agent_id: Some(agent("b")), ..record.clone() };
    let went_on = seen_by_nobody.ledger.conflict(seen_by_nobody.moment(), key, Some((9, assigned)));
    assert_eq!(went_on.unwrap().first(), Some(&unassign));
    let holders: Vec<_> = seen_by_nobody.ledger.holders().cloned().collect();
    assert_eq!(holders, [agent("b")], "the agent that was picked anew has nothing");

    record.state = Assigned;
    record.submission = 5;
    assert!(other.ledger.conflict(other.moment(), key, Some((9, record))).is_err());
}

#[test]
fn a_default_that_a_request_has_nothing_for_gives_way_to_the_least_loaded() {
    let task_type: TaskType = "x".parse().unwrap();
    let strategy =
        |request: &TaskRequest, default| Needs::of(&task_type, request, default).strategy;
    let mut request = TaskRequest::new(json!(1));
    for default in [Distribution::Sticky, Distribution::Direct, Distribution::Broadcast] {
        assert_eq!(strategy(&request, default), Distribution::LeastLoaded, "{default:?}");
    }
    request.sticky_key = Some("k".to_owned());
    request.participants = vec!["a".to_owned()];
    for default in [Distribution::Sticky, Distribution::Direct, Distribution::RoundRobin] {
        assert_eq!(strategy(&request, default), default);
    }
    request.strategy = Some(Distribution::PowerOfTwo);
    assert_eq!(strategy(&request, Distribution::Sticky), Distribution::PowerOfTwo);
}
