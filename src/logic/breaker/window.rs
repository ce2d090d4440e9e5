//! The account of results of one thread: a ring of slices of time, or of the last results.

use std::collections::VecDeque;

use crate::logic::breaker::config::{BreakerConfig, SLICES, Window};
use crate::logic::breaker::counts::Counts;
use crate::logic::breaker::outcome::{Class, Result, Run};

/// Results of the window and the run of failures.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    results: Results,
    consecutive: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Results {
    /// Sums by slice, oldest first; slices without results are absent.
    Slices(VecDeque<(u64, Counts)>),
    /// The last results, oldest first, and their sums.
    Calls { most: usize, last: VecDeque<Class>, sums: Counts },
}

impl Account {
    /// An empty account.
    #[must_use]
    pub fn new(window: Window) -> Self {
        let results = match window {
            Window::Time(_) => Results::Slices(VecDeque::new()),
            Window::Calls(most) => Results::Calls {
                most: usize::try_from(most).unwrap_or(usize::MAX).max(1),
                last: VecDeque::new(),
                sums: Counts::default(),
            },
        };
        Self { results, consecutive: 0 }
    }

    /// Adds a result and returns what the window holds with it.
    pub fn add(&mut self, now_ms: u64, config: &BreakerConfig, result: Result) -> Counts {
        match result.run {
            Run::Extends => self.consecutive = self.consecutive.saturating_add(1),
            Run::Keeps => {}
            Run::Ends => self.consecutive = 0,
        }
        match &mut self.results {
            Results::Slices(slices) => {
                let slice = config.slice(now_ms);
                match slices.back_mut() {
                    Some((last, counts)) if *last == slice => counts.add(result.class, 1),
                    Some(_) | None => {
                        let mut counts = Counts::default();
                        counts.add(result.class, 1);
                        slices.push_back((slice, counts));
                    }
                }
            }
            Results::Calls { most, last, sums } => {
                last.push_back(result.class);
                sums.add(result.class, 1);
                if *most < last.len()
                    && let Some(oldest) = last.pop_front()
                {
                    sums.calls = sums.calls.saturating_sub(1);
                    sums.errors = sums.errors.saturating_sub(u64::from(oldest.is_error()));
                    sums.slow = sums.slow.saturating_sub(u64::from(oldest.is_slow()));
                }
            }
        }
        self.counts(now_ms, config)
    }

    /// What the window holds.
    pub fn counts(&mut self, now_ms: u64, config: &BreakerConfig) -> Counts {
        let sums = match &mut self.results {
            Results::Slices(slices) => {
                let now = config.slice(now_ms);
                slices.retain(|(slice, _)| now < slice.saturating_add(SLICES));
                slices.iter().fold(Counts::default(), |sums, (_, counts)| Counts {
                    calls: sums.calls.saturating_add(counts.calls),
                    errors: sums.errors.saturating_add(counts.errors),
                    slow: sums.slow.saturating_add(counts.slow),
                    consecutive: 0,
                })
            }
            Results::Calls { sums, .. } => *sums,
        };
        Counts { consecutive: self.consecutive, ..sums }
    }
}
