//! The ledger under random histories: every task ends once, nothing is done behind a fence, nobody
//! starves, and the audit of the log finds nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::logic::audit::{Audit, Quiet};
use crate::logic::ledger::bench::{Bench, agent, done, failed};
use crate::logic::ledger::types::Again;
use crate::logic::ledger::{Counts, Gone, Policies};
use crate::protocol::agent::TaskNews;
use crate::protocol::task::{Priority, TaskState};

#[derive(Clone, Debug)]
enum Act {
    Accept { priority: usize, deadline: bool },
    Give { to: u8 },
    Say { back: usize, what: u8 },
    Gone { who: u8, stopped: bool },
    Cancel { back: usize },
    Pass { ms: u64 },
    Hold,
    Flush,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_usize..4, any::<bool>()).prop_map(|(priority, deadline)| Act::Accept { priority, deadline }),
        6 => (0_u8..4).prop_map(|to| Act::Give { to }),
        6 => (0_usize..8, 0_u8..5).prop_map(|(back, what)| Act::Say { back, what }),
        1 => (0_u8..4, any::<bool>()).prop_map(|(who, stopped)| Act::Gone { who, stopped }),
        1 => (0_usize..8).prop_map(|back| Act::Cancel { back }),
        3 => (0_u64..5_000).prop_map(|ms| Act::Pass { ms }),
        1 => Just(Act::Hold),
        2 => Just(Act::Flush),
    ]
}

fn name(number: u8) -> String {
    format!("a{number}")
}

fn apply(bench: &mut Bench, act: &Act, count: &mut u64) {
    match *act {
        Act::Accept { priority, deadline } => {
            *count += 1;
            bench.accept(*count, |request| {
                request.requirements.priority = Priority::ALL[priority];
                request.deadline_ms = deadline.then_some(20_000);
            });
        }
        Act::Give { to } => {
            bench.give(&name(to));
        }
        Act::Say { back, what } => {
            let Some(order) = bench.orders.iter().rev().nth(back).cloned() else { return };
            let news = match what {
                0 => TaskNews::Working { message: None, progress: None },
                1 => failed(Again::MayHelp, None),
                2 => failed(Again::CannotHelp, None),
                _ => done(),
            };
            bench.say(order.agent.as_str(), order.key.0, order.attempt, news);
        }
        Act::Gone { who, stopped } => {
            bench.gone(&name(who), if stopped { Gone::Stopped } else { Gone::Crashed });
        }
        Act::Cancel { back } => {
            let id = format!("t{}", count.saturating_sub(back as u64)).parse().unwrap();
            let grace = (Duration::from_secs(1), String::new());
            let (_, steps) = bench.ledger.cancel(bench.moment(), &id, grace);
            bench.carry_out(steps);
        }
        Act::Pass { ms } => bench.pass(ms),
        Act::Hold => {
            bench.held_back.get_or_insert_with(Vec::new);
        }
        Act::Flush => bench.flush(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_every_task_ends_once_and_the_audit_is_clean(
        acts in prop::collection::vec(act(), 0..120)
    ) {
        let mut bench = Bench::new(Policies::default());
        let mut count = 0;
        for act in &acts {
            apply(&mut bench, act, &mut count);
        }
        // From here on agents work.
        for _ in 0..2_000 {
            bench.flush();
            bench.pass(1_000);
            while bench.give("last").is_some() {}
            for order in std::mem::take(&mut bench.orders) {
                bench.say(order.agent.as_str(), order.key.0, order.attempt, done());
            }
            if bench.ended.len() as u64 == count {
                break;
            }
        }
        bench.flush();
        let mut audit = Audit::default();
        for (sequence, record) in &bench.log {
            audit.record(*sequence, record);
        }
        for record in &bench.ended {
            prop_assert!(record.state.is_terminal());
        }
        prop_assert_eq!(bench.ended.len() as u64, count, "a task never ended");
        let (tally, found) = audit.finish(Quiet::No);
        prop_assert!(found.is_empty(), "{:?}", found);
        let ends: u64 = TaskState::ALL.iter().filter(|state| state.is_terminal())
            .filter_map(|state| tally.tasks.get(state.as_str())).sum();
        prop_assert_eq!(ends, count);
        prop_assert_eq!(bench.ledger.counts(), Counts::default());
        prop_assert!(!bench.ledger.is_sick(&agent("nobody"), bench.moment().now));
    }

    #[test]
    fn nobody_who_waited_for_thirty_seconds_is_overtaken(
        arrivals in prop::collection::vec((0_usize..4, 0_u64..4_000, 0_usize..3), 1..200)
    ) {
        const STARVE_MS: u64 = 30_000;
        let mut bench = Bench::new(Policies::default());
        let mut ready: BTreeMap<u64, u64> = BTreeMap::new();
        let mut now = 0;
        for (number, (priority, pause, serve)) in (1..).zip(&arrivals) {
            bench.pass(*pause);
            now += pause;
            bench.accept(number, |request| {
                request.requirements.priority = Priority::ALL[*priority];
            });
            ready.insert(number, now);
            // Far too few are served for all that come.
            for _ in 0..(*serve / 2) {
                let Some(served) = bench.give("a") else { break };
                let since = ready.remove(&served).unwrap();
                let passed_over = ready.values().filter(|other| {
                    STARVE_MS <= now - **other && **other < since
                });
                prop_assert_eq!(passed_over.count(), 0);
                bench.say("a", served, 1, done());
            }
        }
    }
}
