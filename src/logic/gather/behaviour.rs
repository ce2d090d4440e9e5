//! Behaviour of broadcasts, rule by rule.
#![expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::logic::gather::{Decision, Ending, Gather, GatherFault, RESULTS_BYTES_MAX};
use crate::protocol::agent::TaskError;
use crate::protocol::decision::Reason;
use crate::protocol::id::AgentId;
use crate::protocol::route::Completion;

fn id(number: usize) -> AgentId {
    format!("w{number}").parse().unwrap()
}

fn gather(completion: Completion, members: usize) -> Gather {
    Gather::new(completion, (0..members).map(id), None).unwrap()
}

fn error() -> TaskError {
    TaskError { code: "bad".to_owned(), message: String::new(), retry: false, after_ms: None }
}

fn ending(decision: Decision) -> Option<(Ending, Vec<String>)> {
    match decision {
        Decision::Done { ending, cancel, .. } => {
            Some((ending, cancel.iter().map(ToString::to_string).collect()))
        }
        Decision::Wait { .. } | Decision::Late => None,
    }
}

#[test]
fn all_is_complete_with_the_last_part() {
    let mut gather = gather(Completion::All, 3);
    assert_eq!(gather.on_completed(&id(0), json!(0)), Decision::Wait { complete: 1, needed: 3 });
    assert_eq!(ending(gather.on_completed(&id(2), json!(2))), None);
    assert_eq!(ending(gather.on_completed(&id(1), json!(1))), Some((Ending::Complete, vec![])));
    assert_eq!(
        gather.gathered(),
        json!({"completion": "all", "needed": 3, "complete": 3, "members": 3,
               "results": {"w0": 0, "w1": 1, "w2": 2}, "missing": {}})
    );
}

#[test]
fn all_is_impossible_with_the_first_failure_and_the_rest_is_called_off() {
    let mut gather = gather(Completion::All, 3);
    assert_eq!(ending(gather.on_completed(&id(0), json!("a"))), None);
    let decision = gather.on_failed(&id(1), error());
    assert_eq!(ending(decision), Some((Ending::Impossible, vec!["w2".to_owned()])));
    let gathered = gather.gathered();
    assert_eq!(gathered["results"], json!({"w0": "a"}));
    assert_eq!(gathered["missing"]["w1"]["error"]["code"], "bad");
    assert_eq!(gathered["missing"]["w2"], json!({"reason": "not_ended"}));
}

#[test]
fn any_is_complete_with_the_first_and_impossible_only_with_the_last_failure() {
    let mut first = gather(Completion::Any, 3);
    assert_eq!(ending(first.on_failed(&id(0), error())), None);
    let decision = first.on_completed(&id(2), json!(1));
    assert_eq!(ending(decision), Some((Ending::Complete, vec!["w1".to_owned()])));
    let mut none = gather(Completion::Any, 2);
    assert_eq!(ending(none.on_lost(&id(0))), None);
    assert_eq!(ending(none.on_failed(&id(1), error())), Some((Ending::Impossible, vec![])));
    assert_eq!(none.gathered()["missing"]["w0"], json!({"reason": "agent_lost"}));
}

#[test]
fn a_quorum_is_counted_and_must_be_possible() {
    let mut gather = gather(Completion::Quorum(2), 4);
    assert_eq!(ending(gather.on_lost(&id(0))), None);
    assert_eq!(ending(gather.on_completed(&id(1), json!(1))), None);
    let decision = gather.on_completed(&id(3), json!(3));
    let Decision::Done { ending, cancel, record } = decision else { panic!("{decision:?}") };
    assert_eq!((ending, cancel), (Ending::Complete, vec![id(2)]));
    assert_eq!(record.reason, Reason::CompletionReached);
    let fault = |quorum, members| {
        Gather::new(Completion::Quorum(quorum), (0..members).map(id), None).unwrap_err()
    };
    assert_eq!(fault(5, 3).to_string(), "quorum is 5; 1 to 3 are possible, as many as take part");
    assert_eq!(fault(0, 3), GatherFault::Quorum { quorum: 0, members: 3 });
    assert_eq!(fault(1, 0), GatherFault::NoMembers);
    let json = serde_json::to_value(Completion::Quorum(2)).unwrap();
    assert_eq!(json, json!({"quorum": 2}));
}

#[test]
fn what_comes_late_twice_or_from_a_stranger_changes_nothing() {
    let mut gather = gather(Completion::Any, 2);
    assert_eq!(gather.on_completed(&id(9), json!(1)), Decision::Late);
    assert_eq!(ending(gather.on_failed(&id(0), error())), None);
    assert_eq!(gather.on_completed(&id(0), json!(1)), Decision::Late);
    assert!(ending(gather.on_completed(&id(1), json!(2))).is_some());
    assert_eq!(gather.on_lost(&id(1)), Decision::Late);
    assert_eq!(gather.gathered()["results"], json!({"w1": 2}));
}

#[test]
fn the_deadline_ends_it_with_what_there_is() {
    let now = Instant::now();
    let at = now + Duration::from_secs(1);
    let mut gather = Gather::new(Completion::All, [id(0), id(1)], Some(at)).unwrap();
    assert_eq!(gather.deadline(), Some(at));
    assert_eq!(ending(gather.on_completed(&id(1), json!(1))), None);
    assert_eq!(ending(gather.on_deadline(now)), None, "too early");
    assert_eq!(ending(gather.on_deadline(at)), Some((Ending::Expired, vec!["w0".to_owned()])));
    assert_eq!((gather.deadline(), gather.ending()), (None, Some(Ending::Expired)));
    assert_eq!(gather.gathered()["results"], json!({"w1": 1}));
}

#[test]
fn results_that_are_too_long_together_are_left_out_and_named() {
    let mut gather = gather(Completion::All, 2);
    let long = Value::String("x".repeat(RESULTS_BYTES_MAX - 2));
    assert_eq!(ending(gather.on_completed(&id(0), long)), None);
    let decision = gather.on_completed(&id(1), json!(1));
    assert_eq!(ending(decision), Some((Ending::Complete, vec![])), "it is complete all the same");
    let missing = json!({"w1": {"reason": "result_too_long", "bytes": 1}});
    assert_eq!(gather.gathered()["missing"], missing);
}

proptest! {
    #[test]
    fn it_ends_exactly_when_the_rule_is_met_or_cannot_be(
        members in 1..12_usize,
        quorum in 1..12_u32,
        news in prop::collection::vec((0..12_usize, 0..3_u8), 0..40),
    ) {
        let quorum = quorum.min(u32::try_from(members).unwrap());
        let mut gather = gather(Completion::Quorum(quorum), members);
        let mut parts = vec![None; members];
        let mut ended = None;
        for (member, kind) in news {
            let decision = match kind {
                0 => gather.on_failed(&id(member), error()),
                1 => gather.on_lost(&id(member)),
                _ => gather.on_completed(&id(member), json!(member)),
            };
            let counts = ended.is_none() && parts.get(member) == Some(&None);
            prop_assert_eq!(decision == Decision::Late, !counts);
            if !counts {
                continue;
            }
            parts[member] = Some(kind == 2);
            let complete = parts.iter().filter(|part| **part == Some(true)).count();
            let possible = parts.iter().filter(|part| **part != Some(false)).count();
            let needed = usize::try_from(quorum).unwrap();
            ended = if needed <= complete {
                Some(Ending::Complete)
            } else if possible < needed {
                Some(Ending::Impossible)
            } else {
                None
            };
            prop_assert_eq!(ending(decision).map(|(ending, _)| ending), ended);
        }
        prop_assert_eq!(gather.ending(), ended);
    }
}
