//! Agents against their peers: who does the same work slower, or worse, than the others.
//!
//! Compared is ln(latency), so that factors count and not milliseconds. What an agent always takes
//! longer, up to a factor of two, is learned as its way; all that is more is found. If all become
//! slow together, nobody is slower than the peers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logic::detect::child::rounded;
use crate::logic::detect::cusum::{Cusum, Mean};
use crate::logic::detect::settings::DetectSettings;
use crate::logic::detect::{WORKERS_MAX, Work, WorkEnd};
use crate::protocol::decision::Inputs;
use crate::protocol::id::ChildName;

/// Samples of an agent before it is compared, or others with it.
const SAMPLES_MIN: u32 = 20;

/// Samples from which an agent's way is learned before it is judged by it.
const WAY_SAMPLES_MIN: u32 = 50;

/// Peers that it takes to say what is usual.
const PEERS_MIN: u32 = 2;

/// Share of a new sample in an agent's mean.
const OWN_WEIGHT: f64 = 0.1;

/// Share of a new sample in the class's spread.
const SPREAD_WEIGHT: f64 = 0.01;

/// Share of a new sample in what is an agent's way.
const WAY_WEIGHT: f64 = 0.002;

/// Least spread of ln(latency): 10 %.
const SPREAD_MIN: f64 = 0.1;

/// Allowance of the sum, in standard deviations: half of the smallest shift that matters.
const ALLOWANCE: f64 = 0.5;

/// A single sample counts as at most so many standard deviations.
const CLIP: f64 = 3.0;

/// An agent that is less slower than this factor is not told of, whatever the sum says.
const FACTOR_MIN: f64 = 1.3;

/// Share of failures that is usual at least.
const FAILING_MIN: f64 = 0.02;

/// Share of the way from the usual share of failures to all, that is looked for.
const FAILING_SHIFT: f64 = 0.4;

/// Odds, as a logarithm, that an agent fails more than its peers: a million to one.
const ODDS: f64 = 13.8;

/// One agent in one class.
#[derive(Clone, Debug, Default)]
struct Worker {
    mean: Mean,
    failing: Mean,
    way: Mean,
    slow: Cusum,
    worse: Cusum,
    state: Standing,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Standing {
    #[default]
    Usual,
    Gray,
}

/// All agents that do the same.
#[derive(Clone, Debug, Default)]
struct Class {
    workers: BTreeMap<ChildName, Worker>,
    /// Of the agents with enough samples: how many, the sum of their means, and of their failures.
    ready: u32,
    means: f64,
    failing: f64,
    spread: Mean,
}

/// What a piece of work says of its agent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Compared {
    /// Nothing new.
    Nothing,
    /// It is slower or worse than its peers, by these numbers.
    Gray(Inputs),
    /// It still is.
    StillGray,
    /// It is like its peers again.
    Again,
}

/// All classes.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    classes: BTreeMap<Arc<str>, Class>,
    workers: usize,
    pub(super) unwatched: u64,
}

impl Peers {
    /// Takes in a piece of work.
    pub(super) fn worked(
        &mut self,
        agent: &ChildName,
        work: &Work,
        settings: &DetectSettings,
    ) -> Compared {
        let is_known =
            self.classes.get(&work.class).is_some_and(|class| class.workers.contains_key(agent));
        if !is_known {
            if WORKERS_MAX <= self.workers {
                self.unwatched = self.unwatched.saturating_add(1);
                return Compared::Nothing;
            }
            self.workers = self.workers.saturating_add(1);
        }
        let class = self.classes.entry(Arc::clone(&work.class)).or_default();
        class.worked(agent, work, settings)
    }

    /// An agent is gone.
    pub(super) fn left(&mut self, agent: &ChildName) {
        self.classes.retain(|_, class| {
            if let Some(worker) = class.workers.remove(agent) {
                self.workers = self.workers.saturating_sub(1);
                class.count(&worker, -1.0);
            }
            !class.workers.is_empty()
        });
    }
}

impl Class {
    fn worked(&mut self, agent: &ChildName, work: &Work, settings: &DetectSettings) -> Compared {
        let mut worker = self.workers.remove(agent).unwrap_or_default();
        self.count(&worker, -1.0);
        let compared = self.compare(&mut worker, work, settings);
        self.count(&worker, 1.0);
        self.workers.insert(agent.clone(), worker);
        compared
    }

    /// Takes an agent into the sums of its class, or out of them.
    fn count(&mut self, worker: &Worker, sign: f64) {
        if worker.mean.samples() < SAMPLES_MIN {
            return;
        }
        self.ready =
            if sign < 0.0 { self.ready.saturating_sub(1) } else { self.ready.saturating_add(1) };
        self.means += sign * worker.mean.value();
        self.failing += sign * worker.failing.value();
        if self.ready == 0 {
            // No error of rounding stays.
            (self.means, self.failing) = (0.0, 0.0);
        }
    }

    /// Compares with the peers; the sums are without the agent itself.
    fn compare(&mut self, worker: &mut Worker, work: &Work, settings: &DetectSettings) -> Compared {
        let latency = work.took.as_secs_f64().max(0.001).ln();
        let failed = if work.ended == WorkEnd::Failed { 1.0 } else { 0.0 };
        let knows = PEERS_MIN <= self.ready && SAMPLES_MIN <= worker.mean.samples();
        let peers = f64::from(self.ready.max(1));
        let (usual, failing) = (self.means / peers, (self.failing / peers).max(FAILING_MIN));
        if work.ended == WorkEnd::Done {
            let off = latency - worker.mean.value();
            if 0 < worker.mean.samples() {
                self.spread.add(off * off, SPREAD_WEIGHT);
            }
            worker.mean.add(latency, OWN_WEIGHT);
        }
        worker.failing.add(failed, OWN_WEIGHT);
        if !knows {
            return Compared::Nothing;
        }
        let spread = self.spread.value().sqrt().max(SPREAD_MIN);
        let limit = settings.latency_alarm;
        let way = worker.way.value().clamp(-2.0_f64.ln(), 2.0_f64.ln());
        if work.ended == WorkEnd::Done {
            let off = latency - usual;
            let score = ((off - way) / spread).clamp(-CLIP, CLIP);
            if WAY_SAMPLES_MIN <= worker.way.samples() {
                worker.slow.add(score, ALLOWANCE, limit);
            }
            if worker.slow.sum() < limit / 4.0 || worker.way.samples() < WAY_SAMPLES_MIN {
                worker.way.add(off, WAY_WEIGHT);
            }
        }
        let shifted = failing + (1.0 - failing) * FAILING_SHIFT;
        let odds = if 0.0 < failed {
            (shifted / failing).ln()
        } else {
            ((1.0 - shifted) / (1.0 - failing).max(0.01)).ln()
        };
        worker.worse.add(odds, 0.0, ODDS);
        let factor = (worker.mean.value() - usual - way).exp();
        let is_slow = limit <= worker.slow.sum() && FACTOR_MIN <= factor;
        let is_worse = ODDS <= worker.worse.sum();
        match worker.state {
            Standing::Usual if is_slow || is_worse => {
                worker.state = Standing::Gray;
                Compared::Gray(
                    Inputs::default()
                        .with("task_type", &*work.class)
                        .with("latency_factor", rounded(factor))
                        .with("latency_sum", rounded(worker.slow.sum()))
                        .with("latency_limit", limit)
                        .with("failed_share", rounded(worker.failing.value()))
                        .with("peers_failed_share", rounded(failing))
                        .with("failed_odds", rounded(worker.worse.sum()))
                        .with("failed_limit", ODDS)
                        .with("peers", u64::from(self.ready)),
                )
            }
            Standing::Usual => Compared::Nothing,
            Standing::Gray if worker.slow.sum() <= 0.0 && worker.worse.sum() <= 0.0 => {
                worker.state = Standing::Usual;
                Compared::Again
            }
            Standing::Gray => Compared::StillGray,
        }
    }
}
