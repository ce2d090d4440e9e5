//! Checks of what stands around the calls of a downstream: rate and fallback.

use std::num::NonZeroU32;

use crate::config::check::Checker;
use crate::config::downstream::{Fallback, HealthCheck, RateLimit};
use crate::config::fault::Fault;
use crate::config::raw_policies::{RawFallback, RawHealthCheck, RawRateLimit};

impl Checker<'_> {
    pub(crate) fn rate_limit(&mut self, key: &str, raw: &RawRateLimit) -> Option<RateLimit> {
        let Some(calls) = raw.calls else {
            if self.is_written(key) {
                self.fault(&format!("{key}.calls"), "missing; a rate limit needs it");
            }
            return None;
        };
        let every = raw.period.0.checked_div(calls).unwrap_or_default();
        if every.is_zero() {
            let text = format!(
                "{calls} calls in {} are more than one in a nanosecond; lengthen the period",
                raw.period
            );
            self.fault(&format!("{key}.period"), text);
            return None;
        }
        let burst = NonZeroU32::new(raw.burst.unwrap_or(calls))?;
        Some(RateLimit { every, burst })
    }

    pub(crate) fn fallback(&mut self, key: &str, raw: &RawFallback) -> Fallback {
        let answer = raw.answer.as_ref().and_then(|text| {
            serde_json::from_str(text)
                .map_err(|error| {
                    let text = format!("is no JSON: {error}; a text stands in double quotes");
                    self.fault(&format!("{key}.answer"), text);
                })
                .ok()
        });
        let key = format!("{key}.downstream");
        let downstream = raw.downstream.as_ref().and_then(|name| self.parsed(&key, name));
        Fallback { cache: raw.cache.map(|cache| cache.0), downstream, answer }
    }

    /// The downstream that a fallback names exists, and is another one.
    pub(crate) fn fallback_exists(
        &mut self,
        key: &str,
        name: &str,
        raw: &RawFallback,
        names: &[String],
    ) {
        let Some(other) = &raw.downstream else { return };
        let key = format!("{key}.resilience.fallback.downstream");
        if other == name {
            self.fault_of(&key, other, "is the downstream itself; name another one");
        } else if !names.contains(other) {
            let fault = Fault::new(self.place(&key), key, "no downstream has this name");
            let names = names.iter().map(String::as_str);
            self.push(fault.value(format!("{other:?}")).suggest(other, names));
        }
    }
}

pub(crate) fn health_check(raw: &RawHealthCheck) -> HealthCheck {
    HealthCheck {
        interval: raw.interval.map(|interval| interval.0),
        timeout: raw.timeout.0,
        failure_threshold: raw.failure_threshold,
    }
}
