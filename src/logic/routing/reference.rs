//! The router against a plain list of agents that is searched anew for each question.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::logic::routing::levels::level;
use crate::logic::routing::pick::Counts;
use crate::logic::routing::types::Load;
use crate::logic::routing::{AgentEntry, Needs, Refused, Router, Settings};
use crate::protocol::id::AgentId;
use crate::protocol::route::{Distribution, Predicate, RouteQuery, Standing};

const SPREADS: [Distribution; 4] = [
    Distribution::RoundRobin,
    Distribution::WeightedRoundRobin,
    Distribution::LeastLoaded,
    Distribution::PowerOfTwo,
];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Upsert(AgentEntry),
    Remove(u8),
    Load(u8, u32),
    Standing(u8, Standing),
    Pick { needs: Question, random: u64 },
}

#[derive(Clone, Debug)]
struct Question {
    query: RouteQuery,
}

/// All agents, in a list.
#[derive(Default)]
struct Plain(BTreeMap<AgentId, (AgentEntry, u32, Standing)>);

impl Plain {
    fn matching(&self, query: &RouteQuery) -> Vec<&(AgentEntry, u32, Standing)> {
        let named = |entry: &AgentEntry| {
            query.participants.is_empty()
                || query.participants.iter().any(|name| name == entry.id.as_str())
        };
        let can = |entry: &AgentEntry| {
            query.required_capabilities.iter().all(|word| entry.capabilities.contains(word))
                && query.condition.as_ref().is_none_or(|condition| holds(condition, entry))
        };
        self.0.values().filter(|(entry, ..)| named(entry) && can(entry)).collect()
    }

    fn counts(&self, query: &RouteQuery) -> Counts {
        let matching = self.matching(query);
        let routable = matching.iter().filter(|(_, _, standing)| *standing == Standing::Ready);
        let count = |count: usize| u32::try_from(count).unwrap();
        Counts {
            known: count(self.0.len()),
            matching: count(matching.len()),
            routable: count(routable.clone().count()),
            open: count(routable.filter(|(entry, inflight, _)| *inflight < entry.slots).count()),
        }
    }
}

fn holds(condition: &Predicate, entry: &AgentEntry) -> bool {
    match condition {
        Predicate::All(terms) => !terms.iter().any(|term| !holds(term, entry)),
        Predicate::Any(terms) => terms.iter().any(|term| holds(term, entry)),
        Predicate::Not(term) => !holds(term, entry),
        Predicate::Capability(name) => entry.capabilities.contains(name),
        Predicate::Label { key, value } => entry.labels.get(key) == Some(value),
        Predicate::HasLabel(key) => entry.labels.contains_key(key),
    }
}

fn name(number: u8) -> String {
    format!("w{number}")
}

fn id(number: u8) -> AgentId {
    name(number).parse().unwrap()
}

fn word() -> impl Strategy<Value = String> {
    select(vec!["x".to_owned(), "y".to_owned(), "z".to_owned()])
}

fn entry(agents: u8, labels: u8) -> impl Strategy<Value = AgentEntry> {
    (0..agents, btree_set(word(), 0..3), prop::option::of(0..labels), 1..4_u32, 1..4_u32).prop_map(
        |(number, capabilities, label, slots, weight)| AgentEntry {
            id: id(number),
            name: name(number).parse().unwrap(),
            capabilities,
            labels: label.map(|label| ("n".to_owned(), label.to_string())).into_iter().collect(),
            slots,
            weight,
        },
    )
}

fn condition(labels: u8) -> impl Strategy<Value = Predicate> {
    let leaf = prop_oneof![
        word().prop_map(Predicate::Capability),
        Just(Predicate::HasLabel("n".to_owned())),
        (0..labels).prop_map(|it| Predicate::Label { key: "n".to_owned(), value: it.to_string() }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Predicate::All),
            vec(inner.clone(), 0..3).prop_map(Predicate::Any),
            inner.prop_map(|term| Predicate::Not(Box::new(term))),
        ]
    })
}

fn question(agents: u8, labels: u8) -> impl Strategy<Value = Question> {
    let names = move || prop_oneof![3 => Just(Vec::new()), 1 => vec(0..agents, 1..4)];
    (
        vec(word(), 0..2),
        prop::option::of(condition(labels)),
        select(vec![
            Distribution::RoundRobin,
            Distribution::WeightedRoundRobin,
            Distribution::LeastLoaded,
            Distribution::PowerOfTwo,
            Distribution::Sticky,
        ]),
        names(),
        names(),
        0..3_u8,
    )
        .prop_map(|(required_capabilities, condition, strategy, named, avoid, key)| {
            let names = |numbers: Vec<u8>| numbers.into_iter().map(name).collect();
            Question {
                query: RouteQuery {
                    required_capabilities,
                    condition,
                    strategy: Some(strategy),
                    participants: names(named),
                    sticky_key: Some(key.to_string()),
                    avoid: names(avoid),
                },
            }
        })
}

fn step(agents: u8, labels: u8) -> impl Strategy<Value = Step> {
    let standing = select(vec![
        Standing::Ready,
        Standing::Ready,
        Standing::Down,
        Standing::CircuitOpen,
        Standing::Draining,
        Standing::OnTrial,
    ]);
    prop_oneof![
        3 => entry(agents, labels).prop_map(Step::Upsert),
        1 => (0..agents).prop_map(Step::Remove),
        3 => ((0..agents), 0..5_u32).prop_map(|(agent, inflight)| Step::Load(agent, inflight)),
        4 => ((0..agents), standing).prop_map(|(agent, standing)| Step::Standing(agent, standing)),
        6 => (question(agents, labels), any::<u64>())
            .prop_map(|(needs, random)| Step::Pick { needs, random }),
    ]
}

/// Does the same to both, and holds each answer against the list.
fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut router = Router::new(Settings { cache_size: 3, ..Settings::default() });
    let mut plain = Plain::default();
    for step in steps {
        match step {
            Step::Upsert(entry) => {
                router.upsert(entry.clone()).unwrap();
                let place = plain.0.entry(entry.id.clone());
                let place = place.or_insert((entry.clone(), 0, Standing::Down));
                place.0 = entry;
            }
            Step::Remove(number) => {
                let known = plain.0.remove(&id(number)).is_some();
                prop_assert_eq!(router.remove(&id(number)), known);
            }
            Step::Load(number, inflight) => {
                let known = plain.0.get_mut(&id(number)).map(|agent| agent.1 = inflight).is_some();
                prop_assert_eq!(router.set_load(&id(number), inflight), known);
            }
            Step::Standing(number, standing) => {
                let known = plain.0.get_mut(&id(number)).map(|agent| agent.2 = standing).is_some();
                prop_assert_eq!(router.set_standing(&id(number), standing), known);
            }
            Step::Pick { needs, random } => pick(&mut router, &plain, &needs.query, random)?,
        }
    }
    Ok(())
}

fn pick(
    router: &mut Router,
    plain: &Plain,
    query: &RouteQuery,
    random: u64,
) -> Result<(), TestCaseError> {
    let needs = Needs::new(query.clone());
    let counts = plain.counts(query);
    let explained = router.explain(&needs, random);
    match router.pick(&needs, random) {
        Err(refusal) => {
            prop_assert_eq!(refusal.counts, counts);
            let expected = match (counts.matching, counts.routable, counts.open) {
                // The key waits for its agent, whether or not another has room.
                (_, 1.., _) if refusal.refused == Refused::KeyFull => {
                    prop_assert_eq!(query.strategy, Some(Distribution::Sticky));
                    Refused::KeyFull
                }
                (0, ..) => Refused::NoneMatches,
                (_, 0, _) => Refused::NoneRoutable,
                _ => Refused::AllFull,
            };
            prop_assert_eq!(refusal.refused, expected);
            prop_assert!(explained.picked.is_empty());
            let is_sticky = query.strategy == Some(Distribution::Sticky);
            prop_assert!(is_sticky || explained.candidates.iter().all(|it| it.score.is_none()));
        }
        Ok(pick) => {
            let open: Vec<_> = plain
                .matching(query)
                .into_iter()
                .filter(|(entry, inflight, standing)| {
                    *standing == Standing::Ready && *inflight < entry.slots
                })
                .collect();
            let found = open.iter().find(|(entry, ..)| entry.id == pick.agent);
            prop_assert!(found.is_some(), "{} cannot be picked for {query:?}", pick.agent);
            let (entry, inflight, _) = found.unwrap();
            prop_assert_eq!((pick.inflight, pick.slots), (*inflight, entry.slots));
            prop_assert_eq!(&explained.picked, std::slice::from_ref(&pick.agent));
            let is_avoided =
                |entry: &AgentEntry| query.avoid.iter().any(|name| name == entry.id.as_str());
            let is_sticky = query.strategy == Some(Distribution::Sticky);
            let others: Vec<_> = open.iter().filter(|(entry, ..)| !is_avoided(entry)).collect();
            prop_assert!(is_sticky || others.is_empty() || !is_avoided(entry));
            if query.strategy == Some(Distribution::LeastLoaded) {
                let level = |inflight: u32, slots: u32| level(Load { inflight, slots });
                let among = if others.is_empty() { open.iter().collect() } else { others };
                let lowest = among.iter().map(|(entry, inflight, _)| level(*inflight, entry.slots));
                prop_assert_eq!(Some(level(*inflight, entry.slots)), lowest.min());
            }
        }
    }
    Ok(())
}

/// Agents that may all work, in classes.
fn settled(entries: &[AgentEntry]) -> (Router, BTreeSet<AgentId>) {
    let mut router = Router::new(Settings::default());
    for entry in entries {
        router.upsert(entry.clone()).unwrap();
        router.set_standing(&entry.id, Standing::Ready);
    }
    (router, entries.iter().map(|entry| entry.id.clone()).collect())
}

proptest! {
    #[test]
    fn few_classes_agree_with_a_list(steps in vec(step(8, 3), 0..120)) {
        run(steps)?;
    }

    #[test]
    fn many_classes_that_come_and_go_agree_with_a_list(steps in vec(step(200, 250), 0..600)) {
        run(steps)?;
    }

    #[test]
    fn round_robin_is_exact_over_every_round(
        entries in vec(entry(60, 20), 1..60),
        rounds in 1..4_usize,
    ) {
        let (mut router, ids) = settled(&entries);
        let needs = Needs::new(RouteQuery {
            strategy: Some(Distribution::RoundRobin),
            ..RouteQuery::default()
        });
        for round in 0..rounds {
            let picked: BTreeSet<AgentId> =
                (0..ids.len()).map(|_| router.pick(&needs, 0).unwrap().agent).collect();
            prop_assert_eq!(&picked, &ids, "round {}", round);
        }
    }

    #[test]
    fn weighted_round_robin_gives_each_agent_its_weight(entries in vec(entry(40, 10), 1..40)) {
        let (mut router, _) = settled(&entries);
        let last: BTreeMap<AgentId, u32> =
            entries.into_iter().map(|entry| (entry.id, entry.weight)).collect();
        let needs = Needs::new(RouteQuery {
            strategy: Some(Distribution::WeightedRoundRobin),
            ..RouteQuery::default()
        });
        let mut picked: BTreeMap<AgentId, u32> = BTreeMap::new();
        for _ in 0..last.values().sum() {
            *picked.entry(router.pick(&needs, 0).unwrap().agent).or_default() += 1;
        }
        prop_assert_eq!(picked, last);
    }

    #[test]
    fn a_draw_reaches_every_agent(entries in vec(entry(30, 30), 1..30), distribution in select(SPREADS.to_vec())) {
        let (mut router, ids) = settled(&entries);
        let needs = Needs::new(RouteQuery { strategy: Some(distribution), ..RouteQuery::default() });
        let picked: BTreeSet<AgentId> = (0..3_000_u64)
            .map(|turn| router.pick(&needs, turn.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap().agent)
            .collect();
        prop_assert_eq!(picked, ids);
    }
}
