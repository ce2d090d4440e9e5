//! Behaviour of resources, rule by rule, and what holds in every story.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::logic::resources::{Ask, Changes, Pool, Refused, ResourceSpec, Turn, Waiter};
use crate::protocol::id::Generation;
use crate::protocol::resource::{HolderRun, LeaseView};

fn ask(holder: &str, amount: u32, wait_ms: u64, number: u64) -> Ask {
    Ask {
        holder: holder.to_owned(),
        run: None,
        amount,
        ttl_ms: 1_000,
        wait_ms,
        lease: format!("l{number}"),
        waiter: Waiter(number),
    }
}

fn run(generation: u64) -> HolderRun {
    HolderRun { agent: "w1".parse().unwrap(), generation: Generation(generation), pid: None }
}

/// A request that is met at once.
fn granted(pool: &mut Pool, now_ms: u64, ask: Ask) -> LeaseView {
    match pool.acquire(now_ms, ask) {
        Ok(Turn::Granted(lease)) => lease,
        other => panic!("{other:?}"),
    }
}

fn waiters(changes: &Changes) -> Vec<u64> {
    changes.granted.iter().map(|grant| grant.waiter.0).collect()
}

#[test]
fn a_lock_has_one_holder_and_the_next_gets_it_in_order() {
    let mut pool = Pool::new(ResourceSpec::LOCK);
    let first = granted(&mut pool, 0, ask("a", 1, 0, 1));
    assert_eq!((first.token, first.expires_in_ms), (1, 1_000));
    assert_eq!(pool.acquire(0, ask("b", 1, 500, 2)), Ok(Turn::Waits));
    assert_eq!(pool.acquire(0, ask("c", 1, 900, 3)), Ok(Turn::Waits));
    assert_eq!(
        pool.acquire(10, ask("d", 1, 0, 4)).unwrap_err(),
        Refused::Exhausted { amount: 1, free: 0, capacity: 1, ahead: 2, retry_after_ms: Some(990) }
    );
    let changes = pool.release(100, "a", Some("l1")).unwrap();
    assert_eq!(waiters(&changes), [2]);
    assert_eq!(changes.granted[0].lease.token, 2, "tokens grow");
    let changes = pool.release(200, "b", None).unwrap();
    assert_eq!(waiters(&changes), [3]);
}

#[test]
fn a_lease_ends_with_its_time_unless_it_is_renewed() {
    let mut pool = Pool::new(ResourceSpec::LOCK);
    let lease = granted(&mut pool, 0, ask("a", 1, 0, 1));
    assert_eq!(pool.deadline_ms(), Some(1_000));
    let renewed = pool.renew(600, "a", Some(&lease.lease), None).unwrap();
    assert_eq!((renewed[0].token, renewed[0].expires_in_ms), (1, 1_000));
    assert_eq!(pool.acquire(700, ask("b", 1, 5_000, 2)), Ok(Turn::Waits));
    assert_eq!(pool.on_deadline(1_000), Changes::default());
    let changes = pool.on_deadline(1_600);
    assert_eq!((changes.ended[0].holder.as_str(), waiters(&changes)), ("a", vec![2]));
    let late = pool.renew(1_600, "a", Some("l1"), None).unwrap_err();
    assert_eq!(late, Refused::UnknownLease { lease: "l1".to_owned() });
    assert_eq!(pool.renew(1_600, "b", None, Some(5)).unwrap()[0].expires_in_ms, 5);
}

#[test]
fn a_large_request_is_not_overtaken_by_small_ones() {
    let mut pool = Pool::new(ResourceSpec::pool(4));
    drop(granted(&mut pool, 0, ask("a", 3, 0, 1)));
    assert_eq!(pool.acquire(0, ask("big", 4, 9_000, 2)), Ok(Turn::Waits));
    assert_eq!(pool.acquire(0, ask("small", 1, 9_000, 3)), Ok(Turn::Waits), "one is free");
    assert!(pool.acquire(0, ask("hasty", 1, 0, 4)).is_err());
    assert_eq!(waiters(&pool.release(10, "a", None).unwrap()), [2]);
    assert_eq!(waiters(&pool.release(20, "big", None).unwrap()), [3]);
}

#[test]
fn whoever_gives_up_holds_nobody_up() {
    let mut pool = Pool::new(ResourceSpec::pool(4));
    drop(granted(&mut pool, 0, Ask { ttl_ms: 60_000, ..ask("a", 3, 0, 1) }));
    assert_eq!(pool.acquire(0, ask("big", 4, 100, 2)), Ok(Turn::Waits));
    assert_eq!(pool.acquire(0, ask("small", 1, 9_000, 3)), Ok(Turn::Waits));
    assert_eq!(pool.deadline_ms(), Some(100));
    let changes = pool.on_deadline(100);
    assert_eq!(changes.given_up.len(), 1);
    assert_eq!(waiters(&changes), [3]);
}

#[test]
fn a_lease_ends_with_the_run_of_the_agent_that_holds_it() {
    let mut pool = Pool::new(ResourceSpec::LOCK);
    drop(granted(&mut pool, 0, Ask { run: Some(run(1)), ..ask("w1", 1, 0, 1) }));
    let again = Ask { run: Some(run(1)), ..ask("w1", 1, 9_000, 2) };
    assert_eq!(pool.acquire(0, again), Ok(Turn::Waits));
    assert_eq!(pool.acquire(0, ask("b", 1, 9_000, 3)), Ok(Turn::Waits));
    assert_eq!(pool.on_runs(5, |run| run.generation.0 == 9), Changes::default());
    let changes = pool.on_runs(5, |run| run.generation.0 == 1);
    assert_eq!(changes.ended.len(), 1);
    assert_eq!(waiters(&changes), [3], "what the dead run asked for is dropped");
    assert_eq!(changes.given_up[0].0, Waiter(2));
}

#[test]
fn asking_twice_under_one_name_gives_one_lease() {
    let mut pool = Pool::new(ResourceSpec::pool(4));
    let first = granted(&mut pool, 0, ask("a", 2, 0, 1));
    assert_eq!(
        pool.acquire(0, Ask { waiter: Waiter(9), ..ask("a", 2, 0, 1) }),
        Ok(Turn::Known(first))
    );
    assert_eq!(pool.free(0), 2);
    let other = pool.acquire(0, ask("b", 1, 0, 1)).unwrap_err();
    assert_eq!(other.to_string(), "lease \"l1\" is held by another than \"b\"");
    assert!(matches!(pool.release(0, "b", Some("l1")), Err(Refused::NotHolder { .. })));
    assert!(matches!(pool.release(0, "b", None), Err(Refused::UnknownLease { .. })));
}

#[test]
fn more_than_there_ever_is_is_refused_at_once() {
    let mut pool = Pool::new(ResourceSpec::pool(4));
    let refused = pool.acquire(0, ask("a", 5, 9_000, 1)).unwrap_err();
    assert_eq!(refused.to_string(), "amount is 5; the resource has 4 in all");
}

#[test]
fn a_quota_comes_back_with_time_alone() {
    let mut pool = Pool::new(ResourceSpec::quota(10, 1_000));
    drop(granted(&mut pool, 0, ask("a", 6, 0, 1)));
    drop(granted(&mut pool, 500, ask("a", 4, 0, 2)));
    drop(pool.release(500, "a", None).unwrap());
    assert_eq!(pool.free(500), 0);
    assert_eq!(pool.acquire(600, ask("b", 5, 9_000, 3)), Ok(Turn::Waits));
    assert_eq!(pool.deadline_ms(), Some(1_000));
    assert_eq!(waiters(&pool.on_deadline(1_000)), [3]);
    assert_eq!((pool.free(1_000), pool.free(1_500)), (1, 5));
}

#[test]
fn what_is_kept_is_all_there_is_but_those_who_wait() {
    let mut pool = Pool::new(ResourceSpec::pool(4));
    drop(granted(&mut pool, 0, Ask { run: Some(run(3)), ..ask("w1", 3, 0, 1) }));
    let text = serde_json::to_string(&pool.kept()).unwrap();
    let mut back = Pool::restore(ResourceSpec::pool(4), serde_json::from_str(&text).unwrap());
    assert_eq!(back.kept(), pool.kept());
    assert_eq!(back.free(0), 1);
    assert_eq!(granted(&mut back, 10, ask("b", 1, 0, 2)).token, 2, "tokens go on");
    let mut smaller = Pool::restore(ResourceSpec::pool(2), back.kept());
    assert!(smaller.acquire(10, ask("c", 1, 0, 3)).is_err(), "nothing is free beyond the capacity");
    drop(smaller.release(10, "w1", None).unwrap());
    drop(granted(&mut smaller, 10, ask("c", 1, 0, 3)));
}

/// One thing that happens to a pool.
#[derive(Clone, Debug)]
enum Step {
    Acquire { holder: u8, amount: u32, wait_ms: u64 },
    Release { holder: u8 },
    Renew { holder: u8 },
    Pass(u64),
    End { holder: u8 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 1..6_u32, prop_oneof![Just(0_u64), 1..3_000_u64])
            .prop_map(|(holder, amount, wait_ms)| Step::Acquire { holder, amount, wait_ms }),
        2 => (0..6_u8).prop_map(|holder| Step::Release { holder }),
        1 => (0..6_u8).prop_map(|holder| Step::Renew { holder }),
        3 => (0..1_500_u64).prop_map(Step::Pass),
        1 => (0..6_u8).prop_map(|holder| Step::End { holder }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn never_is_more_given_than_there_is_and_every_request_is_answered_once_and_in_order(
        steps in prop::collection::vec(step(), 0..80),
        is_quota in any::<bool>(),
    ) {
        let spec = if is_quota { ResourceSpec::quota(5, 700) } else { ResourceSpec::pool(5) };
        let mut pool = Pool::new(spec);
        let (mut now_ms, mut number, mut token) = (1_000_000, 0, 0);
        let mut open: BTreeMap<u64, String> = BTreeMap::new();
        let mut taken: Vec<(u64, u32)> = Vec::new();
        for step in steps {
            let holder = |holder: u8| format!("h{holder}");
            let run_of = |holder: u8| HolderRun {
                agent: format!("h{holder}").parse().unwrap(),
                generation: Generation(1),
                pid: None,
            };
            let mut changes = Changes::default();
            match step {
                Step::Acquire { holder: who, amount, wait_ms } => {
                    number += 1;
                    let ask = Ask { run: Some(run_of(who)), ..ask(&holder(who), amount, wait_ms, number) };
                    match pool.acquire(now_ms, ask) {
                        Ok(Turn::Granted(lease)) => {
                            prop_assert!(open.is_empty(), "somebody waited and was overtaken");
                            prop_assert!(token < lease.token);
                            token = lease.token;
                            taken.push((now_ms, lease.amount));
                        }
                        Ok(Turn::Waits) => {
                            prop_assert!(wait_ms > 0);
                            open.insert(number, holder(who));
                        }
                        Ok(Turn::Known(_)) => prop_assert!(false, "no name is used twice"),
                        Err(_) => {}
                    }
                }
                Step::Release { holder: who } => {
                    if let Ok(done) = pool.release(now_ms, &holder(who), None) {
                        changes = done;
                    }
                }
                Step::Renew { holder: who } => {
                    drop(pool.renew(now_ms, &holder(who), None, None));
                }
                Step::Pass(ms) => {
                    let until = now_ms + ms;
                    while let Some(at) = pool.deadline_ms().filter(|at| *at <= until) {
                        now_ms = now_ms.max(at);
                        let before = pool.deadline_ms();
                        let some = pool.on_deadline(now_ms);
                        prop_assert!(some != Changes::default() || pool.deadline_ms() != before);
                        taken.extend(some.granted.iter().map(|it| (now_ms, it.lease.amount)));
                        changes.granted.extend(some.granted);
                        changes.given_up.extend(some.given_up);
                    }
                    now_ms = until;
                }
                Step::End { holder: who } => {
                    let gone = run_of(who);
                    changes = pool.on_runs(now_ms, |run| *run == gone);
                    prop_assert!(pool.runs().all(|run| *run != gone));
                }
                Step::Restart => {
                    pool = Pool::restore(spec, pool.kept());
                    open.clear();
                }
            }
            if !matches!(step, Step::Pass(_)) {
                taken.extend(changes.granted.iter().map(|it| (now_ms, it.lease.amount)));
            }
            for grant in &changes.granted {
                prop_assert!(token < grant.lease.token, "tokens grow");
                token = grant.lease.token;
            }
            let order: Vec<u64> = waiters(&changes);
            prop_assert!(order.is_sorted(), "in order: {order:?}");
            let given_up = changes.given_up.iter().map(|(waiter, _)| waiter.0);
            for waiter in order.into_iter().chain(given_up) {
                prop_assert!(open.remove(&waiter).is_some(), "{waiter} is answered twice");
            }
            let kept = pool.kept();
            let held: u32 = kept.leases.values().map(|lease| lease.amount).sum();
            prop_assert!(is_quota || held <= 5);
            let within: u32 =
                taken.iter().filter(|(at, _)| now_ms < at + 700).map(|(_, amount)| amount).sum();
            prop_assert!(!is_quota || within <= 5, "{within} within one period");
            let names: BTreeSet<u64> = open.keys().copied().collect();
            let view = pool.view("r".parse().unwrap(), now_ms);
            prop_assert_eq!(view.waiting.len(), names.len());
        }
    }
}
