//! Broadcasts in the ledger, step by step.

use std::collections::BTreeSet;

use serde_json::json;

use crate::logic::gather::GatherFault;
use crate::logic::ledger::bench::{Bench, agent, done, failed};
use crate::logic::ledger::types::Again;
use crate::logic::ledger::{Cancelling, Counts, Policies, TaskKey};
use crate::protocol::id::TaskId;
use crate::protocol::route::{Completion, Distribution};
use crate::protocol::task::{TaskRecord, TaskRequest, TaskState};

/// A broadcast to `a`, `b` and `c`, whose parts are with them.
fn begun(completion: Completion, change: impl FnOnce(&mut TaskRequest)) -> Bench {
    let mut bench = Bench::new(Policies::default());
    bench.accept(1, |request| {
        request.strategy = Some(Distribution::Broadcast);
        request.completion = Some(completion);
        change(request);
    });
    bench.broadcast(1, &["a", "b", "c"]).unwrap();
    for who in ["a", "b", "c"] {
        assert!(bench.give(who).is_some());
    }
    bench
}

/// Records of a task, by its id.
fn records<'a>(bench: &'a Bench, id: &TaskId) -> Vec<&'a TaskRecord> {
    let of_it = bench.log.iter().filter(|(_, record)| record.task_id == *id);
    of_it.map(|(_, record)| record).collect()
}

fn whole(bench: &Bench) -> Vec<&TaskRecord> {
    records(bench, &"t1".parse().unwrap())
}

fn states(bench: &Bench) -> Vec<TaskState> {
    whole(bench).iter().map(|record| record.state).collect()
}

use TaskState::{Assigned, Cancelled, Completed, Expired, Failed};

#[test]
fn a_broadcast_is_complete_when_all_its_parts_are_and_has_their_results() {
    let mut bench = begun(Completion::All, |_| {});
    assert_eq!(bench.ledger.counts(), Counts { held: 4, ..Counts::default() });
    bench.say_part(1, "a", done());
    bench.say_part(1, "b", done());
    assert_eq!(states(&bench), [Assigned]);
    bench.say_part(1, "c", done());
    assert_eq!(states(&bench), [Assigned, Completed]);
    let record = whole(&bench)[1].clone();
    let result = record.result.unwrap();
    assert_eq!((&result["complete"], &result["missing"]), (&json!(3), &json!({})));
    assert_eq!(result["results"].as_object().unwrap().len(), 3);
    assert_eq!(record.parts.len(), 3);
    let part = bench.part(1, "b");
    let of_part = records(&bench, &part);
    assert_eq!(of_part[0].part_of, Some("t1".parse().unwrap()));
    assert_eq!(of_part[0].submission, 1);
    assert_eq!(bench.ended.len(), 4);
    assert_eq!(bench.ledger.counts(), Counts::default());
}

#[test]
fn when_one_is_enough_the_other_parts_are_cancelled() {
    let mut bench = begun(Completion::Any, |_| {});
    bench.say_part(1, "b", done());
    assert_eq!(states(&bench), [Assigned, Completed]);
    let mut cancelled: Vec<TaskId> = bench.cancels.iter().map(|(id, _)| id.clone()).collect();
    cancelled.sort();
    assert_eq!(cancelled, [bench.part(1, "a"), bench.part(1, "c")]);
    // What they say meanwhile is theirs alone.
    bench.say_part(1, "a", done());
    bench.pass(10_000);
    assert_eq!(states(&bench), [Assigned, Completed]);
    let part = bench.part(1, "c");
    assert_eq!(records(&bench, &part).last().unwrap().state, Cancelled);
    assert_eq!(bench.ledger.counts(), Counts::default());
}

#[test]
fn it_fails_as_soon_as_too_few_can_complete_it() {
    let mut bench = begun(Completion::Quorum(2), |_| {});
    bench.say_part(1, "a", failed(Again::CannotHelp, None));
    assert_eq!(states(&bench), [Assigned]);
    bench.say_part(1, "b", failed(Again::CannotHelp, None));
    assert_eq!(states(&bench), [Assigned, Failed]);
    let record = whole(&bench)[1];
    assert_eq!(record.error.as_ref().unwrap().code, "broadcast_failed");
    let missing = &record.result.as_ref().unwrap()["missing"];
    assert_eq!(missing["a"]["reason"], "failed");
    assert_eq!(missing["c"]["reason"], "not_ended");
    assert_eq!(bench.cancels.len(), 1, "the last part is of no use any more");
}

#[test]
fn a_part_that_is_tried_again_has_not_ended() {
    let mut bench = begun(Completion::All, |_| {});
    bench.say_part(1, "a", failed(Again::MayHelp, None));
    bench.say_part(1, "b", done());
    bench.say_part(1, "c", done());
    assert_eq!(states(&bench), [Assigned]);
    bench.pass(1_000);
    let next = bench.ledger.next(bench.moment().now, &BTreeSet::new()).unwrap();
    assert_eq!(next.needs.participants, ["a"], "nobody else can have it");
}

#[test]
fn its_deadline_ends_it_with_what_is_there() {
    let mut bench = begun(Completion::All, |request| request.deadline_ms = Some(5_000));
    bench.say_part(1, "a", done());
    bench.pass(5_000);
    assert_eq!(states(&bench), [Assigned, Expired]);
    let result = whole(&bench)[1].result.clone().unwrap();
    assert_eq!((&result["complete"], &result["needed"]), (&json!(1), &json!(3)));
    assert_eq!(bench.cancels.len(), 2);
}

#[test]
fn who_cancels_it_cancels_its_parts() {
    let mut bench = begun(Completion::All, |_| {});
    let (moment, id) = (bench.moment(), "t1".parse().unwrap());
    let why = (std::time::Duration::ZERO, "enough".to_owned());
    let (cancelling, steps) = bench.ledger.cancel(moment, &id, why);
    assert_eq!(cancelling, Cancelling::Ending);
    bench.carry_out(steps);
    assert_eq!(states(&bench), [Assigned, Cancelled]);
    assert_eq!(bench.cancels.len(), 3);
    bench.pass(10_000);
    assert_eq!(bench.ledger.counts(), Counts::default());
    assert_eq!(bench.ended.len(), 4);
}

#[test]
fn an_agent_that_is_gone_for_good_has_no_part_any_more() {
    let mut bench = begun(Completion::Quorum(2), |_| {});
    let steps = bench.ledger.member_lost(bench.moment(), TaskKey(1), &agent("a"));
    bench.carry_out(steps);
    assert_eq!(bench.cancels, [(bench.part(1, "a"), 1)]);
    let awaited: Vec<_> = bench.ledger.awaited().map(|(_, agent)| agent.clone()).collect();
    assert_eq!(awaited, [agent("b"), agent("c")]);
    bench.say_part(1, "b", done());
    bench.say_part(1, "c", done());
    let result = whole(&bench)[1].result.clone().unwrap();
    assert_eq!(result["missing"]["a"]["reason"], "agent_lost");
}

#[test]
fn with_too_few_agents_it_waits() {
    let mut bench = Bench::new(Policies::default());
    bench.accept(1, |request| {
        request.strategy = Some(Distribution::Broadcast);
        request.completion = Some(Completion::Quorum(3));
    });
    let fault = bench.broadcast(1, &["a", "b"]).unwrap_err();
    assert_eq!(fault, GatherFault::Quorum { quorum: 3, members: 2 });
    assert_eq!(bench.ledger.counts(), Counts { ready: 1, ..Counts::default() });
    bench.broadcast(1, &["a", "b", "c"]).unwrap();
    assert_eq!(states(&bench), [Assigned]);
}

#[test]
fn a_ledger_that_begins_anew_goes_on_with_the_parts_that_are_left() {
    let mut before = begun(Completion::All, |_| {});
    before.say_part(1, "a", done());
    let (log, sequence) = (before.log.clone(), before.sequence);
    let mut bench = Bench::new(Policies::default());
    (bench.log, bench.sequence) = (log, sequence);
    let whole_record = whole(&before)[0].clone();
    let number = bench.log.iter().position(|(_, record)| *record == whole_record).unwrap();
    bench.held_back = Some(Vec::new());
    bench.accept(1, |request| request.strategy = Some(Distribution::Broadcast));
    let at = bench.log[number].0;
    let parts = whole_record.parts.clone();
    let steps = bench.ledger.restore(bench.moment(), TaskKey(1), at, whole_record);
    assert_eq!(bench.ledger.awaited().count(), 3);
    drop(steps);
    for (who, id) in &parts {
        let (sequence, record) =
            bench.log.iter().rfind(|(_, record)| record.task_id == *id).unwrap().clone();
        if record.state.is_terminal() {
            let steps = bench.ledger.part_over(bench.moment(), &record);
            assert!(steps.is_empty());
            continue;
        }
        bench.take_part(TaskKey(1), (who, id));
        let key = bench.ledger.key_of(id).unwrap();
        drop(bench.ledger.restore(bench.moment(), key, sequence, record));
    }
    bench.held_back = None;
    bench.say_part(1, "b", done());
    bench.say_part(1, "c", done());
    assert_eq!(states(&bench), [Assigned, Completed]);
    assert_eq!(whole(&bench)[1].result.as_ref().unwrap()["complete"], 3);
}
