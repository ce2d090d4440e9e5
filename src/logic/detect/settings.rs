//! The few numbers that the detectors can be set with, and where their defaults come from.

use std::time::Duration;

/// How sensitive the detectors are. `docs/detectors.md` holds what was measured at the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectSettings {
    /// Failures within `crash_loop_window` that make a crash loop; those within
    /// [`Self::SHORT_RUN`] of a start count twice. OTP's intensity, and 5 in 60 s as its default.
    pub crash_loop_failures: u32,
    /// The window of it.
    pub crash_loop_window: Duration,
    /// Changes between good and bad, of which half are forgotten in [`Self::HALF_LIFE`], above which a
    /// child flaps; below a quarter of it, it does not any more. 6 is a crash and three dips within ten
    /// minutes, which a fleet sees once in a few days.
    pub flapping_changes: u32,
    /// Different children with one tag that must fail for a correlated failure.
    pub correlated_children: u32,
    /// The window of it.
    pub correlated_window: Duration,
    /// Longest time between a failure and what it takes with it.
    pub cascade_window: Duration,
    /// Sum at which the latency of an agent is another than that of its peers, in standard deviations
    /// of one sample. The literature's 12 gives 8 % false alarms in 20,000 samples, which is several
    /// a day here; 20 gives none in millions for some ten samples of delay more.
    pub latency_alarm: f64,
}

impl Default for DetectSettings {
    fn default() -> Self {
        Self {
            crash_loop_failures: 5,
            crash_loop_window: Duration::from_secs(60),
            flapping_changes: 8,
            correlated_children: 3,
            correlated_window: Duration::from_secs(10),
            cascade_window: Duration::from_secs(30),
            latency_alarm: 20.0,
        }
    }
}

impl DetectSettings {
    /// A run that failed sooner after its start counts twice; the default of `stable_after`.
    pub const SHORT_RUN: Duration = Duration::from_secs(10);

    /// Good running after which a crash loop is over, if no recovery is told before.
    pub const STABLE: Duration = Duration::from_secs(60);

    /// Time in which half of the changes are forgotten.
    pub const HALF_LIFE: Duration = Duration::from_secs(300);

    /// Time that a correlated failure may grow before the tag that explains it best is chosen.
    pub const SETTLE: Duration = Duration::from_secs(2);

    /// Minus the logarithm to base 10 of the chance that so many failures are none together.
    /// 6 gave 0.07 false alarms a day with 1,000 agents that fail once an hour.
    pub const SCORE_MIN: f64 = 6.0;

    /// Failures of one child that are taken to be usual, per second, until more are seen: one an hour.
    pub const USUAL_RATE: f64 = 1.0 / 3600.0;

    /// Dependants that must fail with what they lean on.
    pub const DEPENDANTS_MIN: usize = 2;

    /// Time after which what only the ledger tells, and does not tell again, is over.
    pub const QUIET: Duration = Duration::from_secs(600);

    /// Changes below which a child does not flap any more.
    #[must_use]
    pub fn calm(&self) -> f64 {
        f64::from(self.flapping_changes) / 4.0
    }
}
