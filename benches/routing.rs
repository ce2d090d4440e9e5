//! What one routing decision costs, with a thousand to a hundred thousand agents.
//!
//! Agents come in 40 profiles of 3 to 11 out of 64 capabilities and differ in load; a question asks
//! for two capabilities, so that a few classes match. One round is a pick and the load that it
//! brings; each 64th also frees an agent. `scan` does the same by looking at every agent, without
//! any memory. `own class` gives every agent a label of its own, which is the worst for classes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a measurement has nobody to hand errors to"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use provost::logic::routing::{AgentEntry, Handle, Needs, Router, Settings};
use provost::protocol::route::{Distribution, RouteQuery, Standing};

const PROFILES: usize = 40;
const QUESTIONS: usize = 256;

/// Whether agents share profiles.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Classes {
    Shared,
    Own,
}

struct Bench {
    router: Router,
    handles: Vec<Handle>,
    questions: Vec<Needs>,
    rng: fastrand::Rng,
    turn: usize,
}

fn profiles(rng: &mut fastrand::Rng) -> Vec<BTreeSet<String>> {
    let profile = |_| (0..rng.usize(3..12)).map(|_| format!("c{}", rng.u8(0..64))).collect();
    (0..PROFILES).map(profile).collect()
}

fn queries(profiles: &[BTreeSet<String>], rng: &mut fastrand::Rng) -> Vec<Vec<String>> {
    let query = |_| {
        let mut words: Vec<String> =
            profiles[rng.usize(..profiles.len())].iter().cloned().collect();
        rng.shuffle(&mut words);
        words.truncate(2);
        words
    };
    (0..QUESTIONS).map(query).collect()
}

impl Bench {
    fn new(count: usize, distribution: Distribution, classes: Classes) -> Self {
        let mut rng = fastrand::Rng::with_seed(7);
        let profiles = profiles(&mut rng);
        let settings = Settings { cache_size: 1_000, ..Settings::default() };
        let mut router = Router::new(settings);
        let mut handles = Vec::with_capacity(count);
        for number in 0..count {
            let label = ("host".to_owned(), format!("h{number}"));
            let entry = AgentEntry {
                id: uuid_like(number),
                name: format!("agent-{number}").parse().unwrap(),
                capabilities: profiles[rng.usize(..PROFILES)].clone(),
                labels: (classes == Classes::Own).then_some(label).into_iter().collect(),
                slots: 16,
                weight: rng.u32(1..=10),
            };
            let handle = router.upsert(entry.clone()).unwrap();
            router.set_standing(&entry.id, Standing::Ready);
            router.set_load_at(handle, rng.u32(0..8));
            handles.push(handle);
        }
        let question = |required_capabilities| {
            Needs::new(RouteQuery {
                required_capabilities,
                strategy: Some(distribution),
                sticky_key: Some(format!("session-{}", rng.u8(..))),
                ..RouteQuery::default()
            })
        };
        let queries = queries(&profiles, &mut fastrand::Rng::with_seed(8));
        let questions = queries.into_iter().map(question).collect();
        Self { router, handles, questions, rng, turn: 0 }
    }

    fn round(&mut self) {
        self.turn = (self.turn + 1) % QUESTIONS;
        let random = self.rng.u64(..);
        let pick = self.router.pick(&self.questions[self.turn], random).unwrap();
        self.router.set_load_at(pick.handle, (pick.inflight + 1) & 7);
        if self.turn.is_multiple_of(64) {
            let other = self.handles[random as usize % self.handles.len()];
            self.router.set_load_at(other, 0);
        }
        black_box(&pick);
    }
}

/// An id as long as those that are made here.
fn uuid_like(number: usize) -> provost::protocol::id::AgentId {
    format!("01980000-0000-7000-8000-{number:012}").parse().unwrap()
}

/// Looks at every agent for each question, and takes the least loaded.
struct Scan {
    agents: Vec<(BTreeSet<String>, u32)>,
    queries: Vec<Vec<String>>,
    turn: usize,
}

impl Scan {
    fn new(count: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(7);
        let profiles = profiles(&mut rng);
        let agent = |_| (profiles[rng.usize(..PROFILES)].clone(), rng.u32(0..8));
        let agents = (0..count).map(agent).collect();
        let queries = queries(&profiles, &mut fastrand::Rng::with_seed(8));
        Self { agents, queries, turn: 0 }
    }

    fn round(&mut self) {
        self.turn = (self.turn + 1) % QUESTIONS;
        let query = &self.queries[self.turn];
        let fits =
            |agent: &&mut (BTreeSet<String>, u32)| query.iter().all(|word| agent.0.contains(word));
        let picked = self.agents.iter_mut().filter(fits).min_by_key(|agent| agent.1).unwrap();
        picked.1 = (picked.1 + 1) & 7;
        black_box(&picked);
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    group.sample_size(20).warm_up_time(std::time::Duration::from_millis(500));
    group.measurement_time(std::time::Duration::from_secs(2));
    let spreads = BTreeMap::from([
        ("power of two", Distribution::PowerOfTwo),
        ("round robin", Distribution::RoundRobin),
        ("weighted round robin", Distribution::WeightedRoundRobin),
        ("least loaded", Distribution::LeastLoaded),
        ("sticky", Distribution::Sticky),
    ]);
    for (name, distribution) in spreads {
        for count in [1_000, 100_000] {
            let mut bench = Bench::new(count, distribution, Classes::Shared);
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| bench.round());
            });
        }
    }
    let mut own = Bench::new(100_000, Distribution::PowerOfTwo, Classes::Own);
    group.bench_function(BenchmarkId::new("power of two, own class", 100_000), |bencher| {
        bencher.iter(|| own.round());
    });
    for count in [1_000, 100_000] {
        let mut scan = Scan::new(count);
        group.bench_function(BenchmarkId::new("scan", count), |bencher| {
            bencher.iter(|| scan.round());
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
