//! The rules of a breaker, and what may be wrong with them.
//!
//! A condition that is `None` is off. Files are read by `config`; this is what comes out.

use std::time::Duration;

/// Slices of a time window. A result is counted for at least nine tenths of the window and never
/// longer than the window.
pub const SLICES: u64 = 10;

/// Most results a window of calls may hold.
pub const WINDOW_CALLS_MAX: u32 = 10_000;

/// Longest time of a rule.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Longest wait that a service may ask for; a longer one is cut to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What a breaker does with its judgement.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// It opens.
    #[default]
    Armed,
    /// It counts and tells how often it would have opened; every call passes.
    MetricsOnly,
    /// It does nothing; every call passes.
    Disabled,
}

/// Over which results a rate is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Window {
    /// Those of the last time, in [`SLICES`] slices.
    Time(Duration),
    /// The last so many.
    Calls(u32),
}

/// The rules of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// What is done with the judgement.
    pub mode: Mode,
    /// Failures in a row that open it.
    pub failure_threshold: Option<u32>,
    /// Share of failures that opens it, above 0 and at most 100.
    pub error_percent: Option<f64>,
    /// Share of slow calls that opens it, above 0 and at most 100.
    pub slow_percent: Option<f64>,
    /// A call that takes at least this long is slow.
    pub slow_call: Option<Duration>,
    /// Results in the window below which no share is judged; at least 1. A window of fewer calls
    /// reduces it to its size.
    pub request_volume: u32,
    /// Over which results shares are taken.
    pub window: Window,
    /// First open time.
    pub open_for: Duration,
    /// Longest open time.
    pub open_max: Duration,
    /// Growth of the open time from one failed trial to the next; at least 1.
    pub open_factor: f64,
    /// Share of the open time that the draw may take off, 0 to 1.
    pub jitter: f64,
    /// Probes under way at a time in half-open; at least 1.
    pub half_open_probes: u32,
    /// Successful probes that close it; at least 1.
    pub success_threshold: u32,
    /// Longest time for which probes may be under way; `None` waits for them for ever.
    pub half_open_timeout: Option<Duration>,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Armed,
            failure_threshold: Some(5),
            error_percent: Some(50.0),
            slow_percent: None,
            slow_call: None,
            request_volume: 20,
            window: Window::Time(Duration::from_secs(10)),
            open_for: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            open_factor: 2.0,
            jitter: 0.1,
            half_open_probes: 3,
            success_threshold: 2,
            half_open_timeout: Some(Duration::from_secs(10)),
        }
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigFault {
    /// A whole number is out of bounds.
    #[error("{key} is {value}; must be {min} to {max}")]
    Count {
        /// Name of the rule.
        key: &'static str,
        /// What it is.
        value: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A number is out of bounds.
    #[error("{key} is {value}; must be {bound}")]
    Number {
        /// Name of the rule.
        key: &'static str,
        /// What it is.
        value: f64,
        /// What it must be.
        bound: &'static str,
    },
    /// A time is out of bounds.
    #[error("{key} is {value:?}; must be {min:?} to {max:?}")]
    Time {
        /// Name of the rule.
        key: &'static str,
        /// What it is.
        value: Duration,
        /// Least.
        min: Duration,
        /// Most.
        max: Duration,
    },
}

impl BreakerConfig {
    /// Checks every rule.
    ///
    /// # Errors
    ///
    /// All faults, in the order of the fields.
    pub fn check(&self) -> Result<(), Vec<ConfigFault>> {
        let mut faults = Vec::new();
        let count = |key, value: u32, max: u32| {
            let (value, max) = (u64::from(value), u64::from(max));
            (!(1..=max).contains(&value)).then_some(ConfigFault::Count { key, value, min: 1, max })
        };
        let calls = if let Window::Calls(calls) = self.window { calls } else { 1 };
        faults.extend(count("failure_threshold", self.failure_threshold.unwrap_or(1), 1_000_000));
        faults.extend(count("request_volume", self.request_volume, 1_000_000_000));
        faults.extend(count("window_calls", calls, WINDOW_CALLS_MAX));
        faults.extend(count("half_open_probes", self.half_open_probes, 10_000));
        faults.extend(count("success_threshold", self.success_threshold, 1_000_000));
        for (key, percent) in
            [("error_percent", self.error_percent), ("slow_percent", self.slow_percent)]
        {
            if let Some(value) = percent.filter(|percent| !(*percent > 0.0 && *percent <= 100.0)) {
                let bound = "above 0 and at most 100";
                faults.push(ConfigFault::Number { key, value, bound });
            }
        }
        if !(self.open_factor >= 1.0 && self.open_factor <= 100.0) {
            let (key, value) = ("open_factor", self.open_factor);
            faults.push(ConfigFault::Number { key, value, bound: "1 to 100" });
        }
        if !(self.jitter >= 0.0 && self.jitter <= 1.0) {
            let (key, value) = ("jitter", self.jitter);
            faults.push(ConfigFault::Number { key, value, bound: "0 to 1" });
        }
        self.check_times(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn check_times(&self, faults: &mut Vec<ConfigFault>) {
        let window = if let Window::Time(window) = self.window { Some(window) } else { None };
        let times = [
            ("slow_call_duration", self.slow_call, TIME_MAX),
            ("window", window, TIME_MAX),
            ("open_for", Some(self.open_for), TIME_MAX),
            ("half_open_timeout", self.half_open_timeout, TIME_MAX),
        ];
        let min = Duration::from_millis(1);
        for (key, value, max) in times {
            if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
                faults.push(ConfigFault::Time { key, value, min, max });
            }
        }
        if !(self.open_for..=TIME_MAX).contains(&self.open_max) {
            let (value, min) = (self.open_max, self.open_for);
            faults.push(ConfigFault::Time { key: "open_max", value, min, max: TIME_MAX });
        }
    }

    /// Results below which no share is judged, as far as the window can hold them.
    #[must_use]
    pub fn volume(&self) -> u64 {
        let volume = match self.window {
            Window::Calls(calls) => self.request_volume.min(calls),
            Window::Time(_) => self.request_volume,
        };
        u64::from(volume.max(1))
    }

    /// Number of the slice of a time window that a moment lies in; 0 for a window of calls.
    #[must_use]
    pub fn slice(&self, now_ms: u64) -> u64 {
        match self.window {
            Window::Time(window) => {
                let slices =
                    u128::from(now_ms) * u128::from(SLICES) / u128::from(millis(window).max(1));
                u64::try_from(slices).unwrap_or(u64::MAX)
            }
            Window::Calls(_) => 0,
        }
    }

    /// First millisecond of the next slice; `u64::MAX` for a window of calls.
    #[must_use]
    pub fn slice_end(&self, now_ms: u64) -> u64 {
        match self.window {
            Window::Time(window) => {
                let next = u128::from(self.slice(now_ms)) + 1;
                let start = (next * u128::from(millis(window).max(1))).div_ceil(u128::from(SLICES));
                u64::try_from(start).unwrap_or(u64::MAX)
            }
            Window::Calls(_) => u64::MAX,
        }
    }
}

/// Whole milliseconds of a time, rounded down.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut BreakerConfig)) -> String {
        let mut config = BreakerConfig::default();
        change(&mut config);
        let faults = config.check().expect_err("the rule is wrong");
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_default_is_in_order() {
        assert_eq!(BreakerConfig::default().check(), Ok(()));
    }

    #[test]
    fn each_rule_out_of_bounds_is_named_with_its_value_and_bound() {
        let zero = Duration::ZERO;
        type Change = fn(&mut BreakerConfig);
        let table: [(Change, &str); 17] = [
            (|c| c.failure_threshold = Some(0), "failure_threshold is 0; must be 1 to 1000000"),
            (
                |c| c.error_percent = Some(0.0),
                "error_percent is 0; must be above 0 and at most 100",
            ),
            (
                |c| c.error_percent = Some(100.5),
                "error_percent is 100.5; must be above 0 and at most 100",
            ),
            (
                |c| c.error_percent = Some(f64::NAN),
                "error_percent is NaN; must be above 0 and at most 100",
            ),
            (
                |c| c.slow_percent = Some(-1.0),
                "slow_percent is -1; must be above 0 and at most 100",
            ),
            (
                |c| c.slow_percent = Some(101.0),
                "slow_percent is 101; must be above 0 and at most 100",
            ),
            (|c| c.request_volume = 0, "request_volume is 0; must be 1 to 1000000000"),
            (|c| c.window = Window::Calls(0), "window_calls is 0; must be 1 to 10000"),
            (|c| c.window = Window::Calls(10_001), "window_calls is 10001; must be 1 to 10000"),
            (|c| c.half_open_probes = 0, "half_open_probes is 0; must be 1 to 10000"),
            (|c| c.success_threshold = 0, "success_threshold is 0; must be 1 to 1000000"),
            (|c| c.open_factor = 0.5, "open_factor is 0.5; must be 1 to 100"),
            (|c| c.jitter = 1.5, "jitter is 1.5; must be 0 to 1"),
            (
                |c| c.slow_call = Some(Duration::ZERO),
                "slow_call_duration is 0ns; must be 1ms to 86400s",
            ),
            (|c| c.window = Window::Time(Duration::ZERO), "window is 0ns; must be 1ms to 86400s"),
            (
                |c| c.half_open_timeout = Some(Duration::ZERO),
                "half_open_timeout is 0ns; must be 1ms to 86400s",
            ),
            (|c| c.open_max = Duration::from_secs(1), "open_max is 1s; must be 5s to 86400s"),
        ];
        for (change, expected) in table {
            assert_eq!(fault(change), expected);
        }
        let both = fault(|c| (c.open_for, c.jitter) = (zero, 2.0));
        assert_eq!(both, "jitter is 2; must be 0 to 1; open_for is 0ns; must be 1ms to 86400s");
    }

    #[test]
    fn the_realized_window_is_the_configured_one_however_it_divides() {
        for window in [1, 3, 7, 10, 25, 999, 1000, 10_000] {
            let config = BreakerConfig {
                window: Window::Time(Duration::from_millis(window)),
                ..BreakerConfig::default()
            };
            assert_eq!(config.slice(window), SLICES, "{window} ms");
            assert!(config.slice(window - 1) < SLICES, "{window} ms");
            for now in 0..3 * window {
                let end = config.slice_end(now);
                assert!(now < end && config.slice(now) < config.slice(end));
                assert_eq!(config.slice(now), config.slice(end - 1));
            }
        }
    }

    #[test]
    fn a_window_of_few_calls_reduces_the_volume_to_its_size() {
        let config = BreakerConfig { window: Window::Calls(10), ..BreakerConfig::default() };
        assert_eq!(config.volume(), 10);
    }
}
