//! The rules of the detectors, one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::logic::detect::{
    CHILDREN_MAX, DetectSettings, Detectors, Finding, Seen, Who, WhoKind,
};
use provost::protocol::fact::FailureType;
use provost::protocol::insight::PatternState::{self, Began, Ended};
use provost::protocol::status::AgentState;

/// Detectors, and a time that only moves on demand.
struct Bench {
    detectors: Detectors,
    now: Instant,
    found: Vec<Finding>,
}

fn who(name: &str, leans_on: &[&str]) -> Who {
    Who {
        name: name.parse().unwrap(),
        kind: if name.starts_with('d') { WhoKind::Downstream } else { WhoKind::Worker },
        tags: [Arc::from("node=n1")].into(),
        leans_on: leans_on.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

impl Bench {
    fn new() -> Self {
        let detectors = Detectors::new(DetectSettings::default());
        Self { detectors, now: Instant::now(), found: Vec::new() }
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.found.extend(self.detectors.on_deadline(self.now));
    }

    fn see(&mut self, who: &Who, seen: Seen) {
        self.found.extend(self.detectors.see(self.now, who, seen));
    }

    fn starts(&mut self, who: &Who) {
        self.see(who, Seen::Is(AgentState::Starting));
        self.see(who, Seen::Is(AgentState::Running));
    }

    fn fails(&mut self, who: &Who) {
        self.see(who, Seen::Failed(FailureType::ProcessCrash, None));
        self.see(who, Seen::Is(AgentState::Backoff));
    }

    /// What was found since the last look: kind, scope, and whether it began.
    fn told(&mut self) -> Vec<(&'static str, String, PatternState)> {
        let found = std::mem::take(&mut self.found).into_iter();
        found.map(|one| (one.seen.kind.as_str(), one.seen.scope, one.seen.state)).collect()
    }
}

fn told(
    kind: &'static str,
    scope: &str,
    state: PatternState,
) -> (&'static str, String, PatternState) {
    (kind, scope.to_owned(), state)
}

#[test]
fn two_failures_soon_after_a_start_are_none_and_three_are_a_crash_loop_until_it_recovers() {
    let (mut bench, agent) = (Bench::new(), who("a", &[]));
    bench.starts(&agent);
    for _ in 0..2 {
        bench.pass(2.0);
        bench.fails(&agent);
        bench.starts(&agent);
    }
    assert_eq!(bench.told(), []);
    bench.pass(2.0);
    bench.fails(&agent);
    assert_eq!(bench.told(), [told("crash_loop", "a", Began)]);
    bench.starts(&agent);
    bench.pass(2.0);
    bench.fails(&agent);
    assert_eq!(bench.told(), [], "it is told once");
    bench.starts(&agent);
    bench.see(&agent, Seen::Recovered);
    assert_eq!(bench.told(), [told("crash_loop", "a", Ended)]);
}

#[test]
fn a_crash_loop_is_over_after_a_minute_of_good_running_though_nobody_tells_of_a_recovery() {
    let (mut bench, agent) = (Bench::new(), who("a", &[]));
    for _ in 0..3 {
        bench.starts(&agent);
        bench.pass(1.0);
        bench.fails(&agent);
    }
    bench.starts(&agent);
    bench.told();
    bench.pass(59.0);
    assert_eq!(bench.told(), []);
    bench.pass(1.0);
    assert_eq!(bench.told(), [told("crash_loop", "a", Ended)]);
}

#[test]
fn what_is_throttled_or_restarted_by_hand_is_no_pattern() {
    let (mut bench, agent) = (Bench::new(), who("a", &[]));
    for _ in 0..20 {
        bench.starts(&agent);
        bench.pass(1.0);
        bench.see(&agent, Seen::Failed(FailureType::Throttled, None));
        bench.see(&agent, Seen::Is(AgentState::Parked));
        bench.pass(1.0);
        bench.see(&agent, Seen::Is(AgentState::Stopping));
        bench.see(&agent, Seen::Is(AgentState::Stopped));
    }
    assert_eq!(bench.told(), []);
}

#[test]
fn a_downstream_that_fails_and_comes_back_again_and_again_flaps_until_it_has_calmed() {
    let (mut bench, downstream) = (Bench::new(), who("d1", &[]));
    for _ in 0..6 {
        bench.see(&downstream, Seen::Failed(FailureType::CallFailed, None));
        bench.pass(5.0);
        bench.see(&downstream, Seen::Recovered);
        bench.pass(5.0);
    }
    assert_eq!(bench.told(), [told("flapping", "d1", Began)]);
    bench.pass(600.0);
    assert_eq!(bench.told(), []);
    bench.pass(600.0);
    assert_eq!(bench.told(), [told("flapping", "d1", Ended)]);
}

#[test]
fn three_failures_of_one_agent_are_not_three_agents() {
    let mut bench = Bench::new();
    let agents = ["a", "b", "c", "e"].map(|name| who(name, &[]));
    agents.iter().for_each(|agent| bench.starts(agent));
    bench.pass(3_600.0);
    for _ in 0..2 {
        bench.fails(&agents[0]);
        bench.starts(&agents[0]);
        bench.see(&agents[0], Seen::Recovered);
    }
    bench.fails(&agents[1]);
    bench.pass(5.0);
    assert_eq!(bench.told(), []);
    bench.fails(&agents[2]);
    bench.pass(2.0);
    assert_eq!(bench.told(), [told("correlated_failure", "node=n1", Began)]);
    for agent in &agents {
        bench.see(agent, Seen::Recovered);
    }
    assert_eq!(bench.told(), [told("correlated_failure", "node=n1", Ended)]);
}

#[test]
fn agents_that_were_noticed_before_the_downstream_they_lean_on_are_its_cascade() {
    let mut bench = Bench::new();
    let agents = ["a", "b"].map(|name| who(name, &["d1"]));
    let downstream = who("d1", &[]);
    bench.see(&downstream, Seen::Recovered);
    agents.iter().for_each(|agent| bench.starts(agent));
    bench.pass(3_600.0);
    agents.iter().for_each(|agent| bench.fails(agent));
    bench.pass(20.0);
    assert_eq!(bench.told(), []);
    bench.see(&downstream, Seen::Failed(FailureType::CallFailed, None));
    assert_eq!(bench.told(), [told("cascade", "d1", Began)]);
    // What its members do besides is a part of it.
    for _ in 0..3 {
        bench.starts(&agents[0]);
        bench.pass(1.0);
        bench.fails(&agents[0]);
    }
    let looping = bench.found.iter().find(|one| one.seen.kind.as_str() == "crash_loop").unwrap();
    assert_eq!(looping.seen.part_of.as_deref(), Some("cascade d1"));
    bench.told();
    for one in agents.iter().chain([&downstream]) {
        bench.see(one, Seen::Recovered);
    }
    assert!(bench.told().contains(&told("cascade", "d1", Ended)));
}

#[test]
fn a_failure_long_after_that_of_the_downstream_is_not_its_cascade() {
    let mut bench = Bench::new();
    let agents = ["a", "b"].map(|name| who(name, &["d1"]));
    let downstream = who("d1", &[]);
    agents.iter().for_each(|agent| bench.starts(agent));
    bench.see(&downstream, Seen::Failed(FailureType::CallFailed, None));
    for agent in &agents {
        bench.pass(31.0);
        bench.fails(agent);
    }
    bench.pass(5.0);
    assert_eq!(bench.told(), []);
}

#[test]
fn children_beyond_the_bound_are_not_watched_and_counted_until_there_is_room() {
    let mut bench = Bench::new();
    for number in 0..CHILDREN_MAX {
        bench.see(&who(&format!("a{number}"), &[]), Seen::Is(AgentState::Running));
    }
    let late = who("late", &[]);
    bench.see(&late, Seen::Is(AgentState::Running));
    assert_eq!(bench.detectors.unwatched(), 1);
    bench.see(&who("a0", &[]), Seen::Gone);
    for _ in 0..3 {
        bench.fails(&late);
    }
    assert_eq!(bench.told(), [told("crash_loop", "late", Began)]);
    assert_eq!(bench.detectors.unwatched(), 1);
}
