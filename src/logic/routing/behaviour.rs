//! Behaviour of the router, rule by rule. That it agrees with a search of all agents is in
//! `reference`.

use std::collections::{BTreeMap, BTreeSet};

use crate::logic::routing::pick::{Picked, Room};
use crate::logic::routing::{AgentEntry, BreakerUse, Needs, Pick, Refused, Router, Settings};
use crate::protocol::decision::{NextKind, Reason};
use crate::protocol::id::AgentId;
use crate::protocol::route::{Against, Distribution, Predicate, RouteQuery, Standing};

fn id(name: &str) -> AgentId {
    name.parse().unwrap()
}

fn entry(name: &str, capabilities: &[&str]) -> AgentEntry {
    AgentEntry {
        id: id(name),
        name: name.parse().unwrap(),
        capabilities: capabilities.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>(),
        labels: BTreeMap::new(),
        slots: 4,
        weight: 1,
    }
}

/// A router with these agents, ready and idle.
fn router(agents: &[AgentEntry]) -> Router {
    let mut router = Router::new(Settings::default());
    for agent in agents {
        router.upsert(agent.clone()).unwrap();
        assert!(router.set_standing(&agent.id, Standing::Ready));
    }
    router
}

fn needs(capabilities: &[&str], distribution: Distribution) -> Needs {
    let required_capabilities = capabilities.iter().map(|word| (*word).to_owned()).collect();
    Needs::new(RouteQuery {
        required_capabilities,
        strategy: Some(distribution),
        ..RouteQuery::default()
    })
}

fn sticky(key: &str) -> Needs {
    Needs::new(RouteQuery {
        strategy: Some(Distribution::Sticky),
        sticky_key: Some(key.to_owned()),
        ..RouteQuery::default()
    })
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn picks(router: &mut Router, needs: &Needs, count: u64) -> Vec<String> {
    let mut pick = |random| router.pick(needs, random).unwrap().agent.to_string();
    (0..count).map(|turn| pick(turn.wrapping_mul(0x1234_5678_9ABC_DEF1))).collect()
}

fn tally(picks: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for pick in picks {
        *tally.entry(pick.as_str()).or_default() += 1;
    }
    tally
}

#[test]
fn round_robin_gives_each_agent_its_turn() {
    let mut router = router(&["a", "b", "c"].map(|name| entry(name, &["x"])));
    let needs = needs(&["x"], Distribution::RoundRobin);
    let seen = picks(&mut router, &needs, 9);
    assert_eq!(tally(&seen), BTreeMap::from([("a", 3), ("b", 3), ("c", 3)]));
    assert_eq!(seen[..3], seen[3..6], "the same order each round");
}

#[test]
fn round_robin_over_several_classes_gives_each_agent_its_turn() {
    let agents = [
        entry("a", &["x"]),
        entry("b", &["x", "y"]),
        entry("c", &["x", "y"]),
        entry("d", &["x", "z"]),
        entry("e", &["y"]),
    ];
    let mut router = router(&agents);
    let seen = picks(&mut router, &needs(&["x"], Distribution::RoundRobin), 8);
    assert_eq!(tally(&seen), BTreeMap::from([("a", 2), ("b", 2), ("c", 2), ("d", 2)]));
}

#[test]
fn weighted_round_robin_is_smooth() {
    let weighted = |name, weight| AgentEntry { weight, ..entry(name, &[]) };
    let mut router = router(&[weighted("a", 5), weighted("b", 1), weighted("c", 1)]);
    let needs = needs(&[], Distribution::WeightedRoundRobin);
    let seen = picks(&mut router, &needs, 70);
    assert_eq!(tally(&seen), BTreeMap::from([("a", 50), ("b", 10), ("c", 10)]));
    let longest = seen.chunk_by(|one, two| one == two).map(<[String]>::len).max();
    assert!(longest <= Some(5), "{seen:?}");
}

#[test]
fn the_least_loaded_is_the_one_with_the_smallest_share_of_its_slots_taken() {
    let big = AgentEntry { slots: 10, ..entry("big", &[]) };
    let mut router = router(&[big, entry("small", &[])]);
    router.set_load(&id("big"), 4);
    router.set_load(&id("small"), 1);
    let needs = needs(&[], Distribution::LeastLoaded);
    assert_eq!(picks(&mut router, &needs, 3), ["small", "small", "small"]);
    router.set_load(&id("small"), 2);
    assert_eq!(picks(&mut router, &needs, 3), ["big", "big", "big"]);
}

#[test]
fn power_of_two_never_takes_the_busier_of_two_and_says_what_it_compared() {
    let mut router = router(&["a", "b"].map(|name| entry(name, &[])));
    router.set_load(&id("a"), 3);
    let needs = needs(&[], Distribution::PowerOfTwo);
    assert_eq!(tally(&picks(&mut router, &needs, 50)), BTreeMap::from([("b", 50)]));
    let pick = router.pick(&needs, 7).unwrap();
    assert_eq!((pick.inflight, pick.compared, pick.classes), (0, Some((3, 4)), 1));
    let record = serde_json::to_value(pick.record()).unwrap();
    assert_eq!(record["reason"], "agent_picked");
    assert_eq!(record["rule"]["distribution"], "power_of_two");
    assert_eq!(record["inputs"]["other_inflight"], 3);
    assert_eq!(record["next"]["action"], "assign");
}

#[test]
fn an_agent_that_is_full_is_not_picked_until_it_has_room() {
    for distribution in [
        Distribution::RoundRobin,
        Distribution::WeightedRoundRobin,
        Distribution::LeastLoaded,
        Distribution::PowerOfTwo,
    ] {
        let mut router = router(&["a", "b"].map(|name| entry(name, &[])));
        let needs = needs(&[], distribution);
        assert_eq!(picks(&mut router, &needs, 3).len(), 3);
        router.set_load(&id("a"), 4);
        assert_eq!(tally(&picks(&mut router, &needs, 6)), BTreeMap::from([("b", 6)]));
        router.set_load(&id("b"), 9);
        let refusal = router.pick(&needs, 1).unwrap_err();
        assert_eq!(refusal.refused, Refused::AllFull);
        assert_eq!(refusal.record().reason, Reason::AgentsFull);
        assert_eq!(refusal.record().next.action, NextKind::Wait);
        router.set_load(&id("a"), 3);
        assert_eq!(picks(&mut router, &needs, 2), ["a", "a"]);
    }
}

#[test]
fn an_agent_that_may_not_work_is_not_picked_and_the_refusal_says_why() {
    let standings = [
        Standing::OnTrial,
        Standing::CircuitOpen,
        Standing::Draining,
        Standing::NotReady,
        Standing::Suspect,
        Standing::Down,
    ];
    for standing in standings {
        let mut router = router(&[entry("a", &["x"]), entry("b", &[])]);
        router.set_standing(&id("a"), standing);
        let needs = needs(&["x"], Distribution::RoundRobin);
        let refusal = router.pick(&needs, 0).unwrap_err();
        assert_eq!(refusal.refused, Refused::NoneRoutable, "{standing:?}");
        assert_eq!(
            refusal.to_string(),
            "no agent was picked by round_robin: none of those that match may be given work now; \
             of 2 agents 1 match, 0 may work, 0 have room"
        );
        let against = &router.explain(&needs, 0).candidates;
        let of = |name: &str| against.iter().find(|it| it.name.as_str() == name).unwrap();
        assert_eq!(of("a").against, [Against::NotRoutable { standing }]);
        assert_eq!(of("b").against, [Against::LacksCapability { capability: "x".to_owned() }]);
        router.set_standing(&id("a"), Standing::Ready);
        assert_eq!(picks(&mut router, &needs, 1), ["a"]);
    }
}

#[test]
fn an_agent_on_trial_may_work_where_circuits_are_not_heeded() {
    let settings = Settings { breaker: BreakerUse::Ignored, ..Settings::default() };
    let mut router = Router::new(settings);
    router.upsert(entry("a", &[])).unwrap();
    router.set_standing(&id("a"), Standing::OnTrial);
    assert_eq!(picks(&mut router, &needs(&[], Distribution::PowerOfTwo), 1), ["a"]);
    router.set_standing(&id("a"), Standing::CircuitOpen);
    assert!(router.pick(&needs(&[], Distribution::PowerOfTwo), 0).is_err());
}

#[test]
fn an_agent_that_is_removed_is_gone_and_its_place_is_another_ones() {
    let mut router = router(&["a", "b"].map(|name| entry(name, &[])));
    let needs = needs(&[], Distribution::RoundRobin);
    let Pick { agent, handle, .. } = router.pick(&needs, 0).unwrap();
    assert!(router.remove(&agent));
    assert!(!router.remove(&agent));
    router.upsert(entry("c", &[])).unwrap();
    router.set_standing(&id("c"), Standing::Ready);
    assert!(!router.set_load_at(handle, 1), "the old handle is void");
    let seen = picks(&mut router, &needs, 4);
    assert!(!seen.contains(&agent.to_string()), "{seen:?}");
    assert_eq!(tally(&seen).get("c"), Some(&2));
}

#[test]
fn a_key_stays_with_its_agent_and_moves_only_when_that_is_away() {
    let mut router = router(&["a", "b", "c"].map(|name| entry(name, &[])));
    let first = router.pick(&sticky("s1"), 1).unwrap();
    assert_eq!(first.why, Picked::KeyPlaced);
    for random in 0..20 {
        let again = router.pick(&sticky("s1"), random).unwrap();
        assert_eq!((again.agent, again.why), (first.agent.clone(), Picked::KeyKept));
    }
    router.set_load(&first.agent, 4);
    let refusal = router.pick(&sticky("s1"), 1).unwrap_err();
    assert_eq!(refusal.refused, Refused::KeyFull, "its state is there: the key waits");
    router.set_standing(&first.agent, Standing::Draining);
    let moved = router.pick(&sticky("s1"), 1).unwrap();
    assert_eq!(moved.why, Picked::KeyMoved);
    assert_ne!(moved.agent, first.agent);
    router.set_load(&first.agent, 0);
    router.set_standing(&first.agent, Standing::Ready);
    let stays = router.pick(&sticky("s1"), 1).unwrap();
    assert_eq!(stays.agent, moved.agent, "it does not move back");
}

#[test]
fn keys_are_placed_alike_by_every_router_and_spread_over_all_agents() {
    let agents = ["a", "b", "c", "d"].map(|name| entry(name, &[]));
    let place = |router: &mut Router| {
        let keys = (0..200).map(|key| format!("key-{key}"));
        keys.map(|key| router.pick(&sticky(&key), 0).unwrap().agent.to_string()).collect()
    };
    let one: Vec<String> = place(&mut router(&agents));
    let mut reversed = agents.clone();
    reversed.reverse();
    let two: Vec<String> = place(&mut router(&reversed));
    assert_eq!(one, two);
    assert!(tally(&one).values().all(|count| (20..90).contains(count)), "{:?}", tally(&one));
    // When one agent goes, only its own keys move.
    let three: Vec<String> = place(&mut router(&agents[..3]));
    let moved = one.iter().zip(&three).filter(|(one, three)| one != three);
    assert!(moved.clone().all(|(one, _)| one == "d"));
}

#[test]
fn direct_takes_the_first_named_that_can() {
    let mut router = router(&["a", "b", "c"].map(|name| entry(name, &[])));
    let needs = needs(&[], Distribution::Direct).only(names(&["gone", "b", "a"]));
    assert_eq!(picks(&mut router, &needs, 2), ["b", "b"]);
    router.set_standing(&id("b"), Standing::Suspect);
    assert_eq!(picks(&mut router, &needs, 1), ["a"]);
    let unnamed = needs.clone().only(Vec::new());
    assert_eq!(router.pick(&unnamed, 0).unwrap_err().refused, Refused::NoName);
    let unknown = needs.only(names(&["gone"]));
    assert_eq!(router.pick(&unknown, 0).unwrap_err().refused, Refused::NoneMatches);
}

#[test]
fn participants_bound_every_strategy() {
    let mut router = router(&["a", "b", "c", "d"].map(|name| entry(name, &[])));
    for distribution in [
        Distribution::RoundRobin,
        Distribution::WeightedRoundRobin,
        Distribution::LeastLoaded,
        Distribution::PowerOfTwo,
    ] {
        let needs = needs(&[], distribution).only(names(&["b", "d"]));
        let seen = picks(&mut router, &needs, 40);
        let tally = tally(&seen);
        assert_eq!(tally.keys().copied().collect::<Vec<_>>(), ["b", "d"], "{distribution:?}");
        if distribution != Distribution::PowerOfTwo && distribution != Distribution::LeastLoaded {
            assert_eq!(tally["b"], 20, "{distribution:?}");
        }
    }
}

#[test]
fn agents_to_avoid_are_taken_only_when_there_is_no_other() {
    let mut router = router(&["a", "b"].map(|name| entry(name, &[])));
    for distribution in [Distribution::RoundRobin, Distribution::PowerOfTwo] {
        let needs = needs(&[], distribution).avoiding(names(&["a"]));
        assert_eq!(tally(&picks(&mut router, &needs, 8)), BTreeMap::from([("b", 8)]));
        router.set_load(&id("b"), 4);
        assert_eq!(picks(&mut router, &needs, 1), ["a"]);
        router.set_load(&id("b"), 0);
    }
    let many: Vec<AgentEntry> = (0..300).map(|n| entry(&format!("w{n}"), &[])).collect();
    let mut many = self::router(&many);
    let needs = needs(&[], Distribution::RoundRobin).avoiding(names(&["w7", "w8"]));
    assert!(!picks(&mut many, &needs, 600).iter().any(|name| name == "w7" || name == "w8"));
}

#[test]
fn a_broadcast_goes_to_all_that_match_and_names_who_is_absent() {
    let mut router = router(&[entry("a", &["x"]), entry("b", &["x"]), entry("c", &[])]);
    router.set_load(&id("b"), 4);
    let needs = needs(&["x"], Distribution::Broadcast);
    let roster = router.roster(&needs).unwrap();
    let members: Vec<(&str, Room)> =
        roster.members.iter().map(|member| (member.agent.as_str(), member.room)).collect();
    assert_eq!(members, [("a", Room::Free), ("b", Room::Full)]);
    assert_eq!(router.pick(&needs, 0).unwrap_err().refused, Refused::GoesToAll);
    let named = needs.clone().only(names(&["a", "c", "nobody"]));
    let roster = router.roster(&named).unwrap();
    assert_eq!((roster.members.len(), roster.absent), (1, names(&["c", "nobody"])));
    router.set_standing(&id("a"), Standing::Down);
    router.set_standing(&id("b"), Standing::Down);
    assert_eq!(router.roster(&needs).unwrap_err().refused, Refused::NoneRoutable);
}

#[test]
fn conditions_are_all_any_and_not_of_capabilities_and_labels() {
    let labelled = |name: &str, zone: &str, capabilities: &[&str]| AgentEntry {
        labels: BTreeMap::from([("zone".to_owned(), zone.to_owned())]),
        ..entry(name, capabilities)
    };
    let mut router = router(&[
        labelled("a", "eu", &["x"]),
        labelled("b", "us", &["x", "y"]),
        entry("c", &["x"]),
    ]);
    let mut check = |condition: serde_json::Value, expected: &[&str]| {
        let condition: Predicate = serde_json::from_value(condition).unwrap();
        let needs = Needs::new(RouteQuery {
            required_capabilities: vec!["x".to_owned()],
            condition: Some(condition),
            strategy: Some(Distribution::RoundRobin),
            ..RouteQuery::default()
        });
        let seen: BTreeSet<String> = (0..6)
            .filter_map(|random| router.pick(&needs, random).ok())
            .map(|pick| pick.agent.to_string())
            .collect();
        assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    };
    let zone = |zone: &str| serde_json::json!({"label": {"key": "zone", "value": zone}});
    check(zone("eu"), &["a"]);
    check(serde_json::json!({"any": [zone("eu"), {"capability": "y"}]}), &["a", "b"]);
    check(serde_json::json!({"not": {"has_label": "zone"}}), &["c"]);
    check(serde_json::json!({"all": [zone("us"), {"not": {"capability": "y"}}]}), &[]);
    check(serde_json::json!({"all": []}), &["a", "b", "c"]);
    check(serde_json::json!({"any": []}), &[]);
}

#[test]
fn an_explanation_lists_every_agent_and_changes_nothing() {
    let mut router = router(&["a", "b", "c"].map(|name| entry(name, &["x"])));
    router.set_load(&id("a"), 2);
    router.set_standing(&id("c"), Standing::CircuitOpen);
    let needs = needs(&["x"], Distribution::LeastLoaded);
    let answer = router.explain(&needs, 3);
    assert_eq!(answer.picked, [id("b")]);
    let rows: Vec<(&str, bool, Option<f64>)> =
        answer.candidates.iter().map(|row| (row.name.as_str(), row.picked, row.score)).collect();
    assert_eq!(rows, [("b", true, Some(0.0)), ("a", false, Some(0.5)), ("c", false, None)]);
    let turns = self::needs(&["x"], Distribution::RoundRobin);
    let first = router.explain(&turns, 3).picked;
    assert_eq!(router.explain(&turns, 3).picked, first);
    assert_eq!(vec![router.pick(&turns, 3).unwrap().agent], first);
}

#[test]
fn an_agent_whose_abilities_change_is_found_by_the_new_ones_alone() {
    let mut router = router(&[entry("a", &["x"])]);
    let (x, y) = (needs(&["x"], Distribution::PowerOfTwo), needs(&["y"], Distribution::PowerOfTwo));
    assert_eq!(picks(&mut router, &x, 1), ["a"]);
    assert!(router.pick(&y, 0).is_err());
    router.upsert(entry("a", &["y"])).unwrap();
    assert_eq!(picks(&mut router, &y, 1), ["a"]);
    assert_eq!(router.pick(&x, 0).unwrap_err().refused, Refused::NoneMatches);
}
