//! What a call came to, and what that means for the account.

use crate::logic::breaker::config::{BreakerConfig, millis};

/// What a call came to, in the words of its caller.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// The service answered as it should.
    Ok,
    /// The service failed: no connection, no answer in time, an answer that says so.
    Error,
    /// It answered, but too slowly, as the caller judges.
    Slow,
    /// It said that it is asked too often (429, or 503 with a time).
    Throttled {
        /// In how many milliseconds it wants to be asked again, if it said so.
        retry_after_ms: Option<u64>,
    },
    /// Says nothing about the service: cancelled, rejected on our side, the caller's own mistake.
    Ignored,
}

/// What a result is to the window.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// In time and good.
    Ok,
    /// Good, but slow.
    Slow,
    /// A failure.
    Error,
    /// A failure that took long.
    SlowError,
}

impl Class {
    /// Whether it counts as a failure.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::SlowError)
    }

    /// Whether it counts as slow.
    #[must_use]
    pub fn is_slow(self) -> bool {
        matches!(self, Self::Slow | Self::SlowError)
    }
}

/// What a result does to the run of failures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Run {
    /// It is one more.
    Extends,
    /// It leaves the run as it is.
    Keeps,
    /// It ends the run.
    Ends,
}

/// Whether a call took too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speed {
    /// It did not, or nobody measured.
    InTime,
    /// It did.
    Slow,
}

/// What a result means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Result {
    /// For the window.
    pub class: Class,
    /// For the run of failures.
    pub run: Run,
    /// The service's own wish, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

impl Outcome {
    /// What it means when the call took `took_ms`; `None` if it means nothing.
    #[must_use]
    pub fn result(self, config: &BreakerConfig, took_ms: Option<u64>) -> Option<Result> {
        let limit = config.slow_call.map(millis);
        let slow = took_ms.zip(limit).is_some_and(|(took, limit)| limit <= took);
        self.means(if slow { Speed::Slow } else { Speed::InTime })
    }

    /// What it means when it is known whether the call was slow; `None` if it means nothing.
    #[must_use]
    pub fn means(self, speed: Speed) -> Option<Result> {
        let class = |in_time: Class, slow: Class| match speed {
            Speed::InTime => in_time,
            Speed::Slow => slow,
        };
        let (class, run, retry_after_ms) = match self {
            Self::Ok => (class(Class::Ok, Class::Slow), Run::Ends, None),
            Self::Slow => (Class::Slow, Run::Ends, None),
            Self::Error => (class(Class::Error, Class::SlowError), Run::Extends, None),
            Self::Throttled { retry_after_ms } => {
                let wish = retry_after_ms.filter(|wish| *wish > 0);
                (class(Class::Error, Class::SlowError), Run::Keeps, wish)
            }
            Self::Ignored => return None,
        };
        Some(Result { class, run, retry_after_ms })
    }
}
