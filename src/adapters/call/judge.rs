//! What the end of an attempt means: to the circuit, to repetition, to a fallback.

use std::time::Duration;

use crate::logic::breaker::Outcome;
use crate::logic::retry::{Attempt, Failure};
use crate::ports::{AttemptError, AttemptFate};
use crate::protocol::downstream::{CallError, CallErrorKind};

/// An attempt that had less of its time than one in so many, because its caller had no more, says
/// nothing about the downstream when it runs out.
const FAIR_SHARE: u32 = 2;

/// What a failed attempt says about the downstream. `limit` is the time it had, `usual` the time
/// that is configured.
pub(crate) fn outcome(error: &AttemptError, limit: Duration, usual: Duration) -> Outcome {
    let ours = matches!(
        error.error.kind,
        CallErrorKind::InvalidRequest
            | CallErrorKind::Unsupported
            | CallErrorKind::CircuitOpen
            | CallErrorKind::BulkheadFull
    );
    let hurried =
        error.error.kind == CallErrorKind::Timeout && limit.saturating_mul(FAIR_SHARE) < usual;
    match error.fate {
        _ if ours || hurried => Outcome::Ignored,
        AttemptFate::NotSent | AttemptFate::Unknown | AttemptFate::Failed => Outcome::Error,
        AttemptFate::Throttled => Outcome::Throttled { retry_after_ms: error.error.retry_after_ms },
        // It answered, as it should to a call that is wrong.
        AttemptFate::Rejected => Outcome::Ok,
    }
}

/// What a check says about the downstream. One that answers, but not to its health path, is there.
pub(crate) fn check_outcome(error: &AttemptError) -> Outcome {
    let code = error.error.code.unwrap_or_default();
    let answers = error.error.kind == CallErrorKind::RemoteError && (400..500).contains(&code);
    match error.fate {
        AttemptFate::Failed if answers && code != 408 && code != 429 => Outcome::Ignored,
        AttemptFate::Failed
        | AttemptFate::NotSent
        | AttemptFate::Unknown
        | AttemptFate::Throttled
        | AttemptFate::Rejected => outcome(error, Duration::ZERO, Duration::ZERO),
    }
}

/// A failed attempt in the words of repetition.
pub(crate) fn attempt(error: &AttemptError) -> Attempt {
    let failure = match error.fate {
        AttemptFate::NotSent => Failure::NotSent,
        AttemptFate::Unknown | AttemptFate::Failed => Failure::Ambiguous,
        AttemptFate::Throttled => Failure::Throttled,
        AttemptFate::Rejected => Failure::Final,
    };
    Attempt { failure, retry_after_ms: error.error.retry_after_ms }
}

/// A call that came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failed {
    pub(crate) error: CallError,
    pub(crate) reach: Reach,
}

/// How far a failed call came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// We refused it; the downstream never saw it.
    Refused,
    /// It surely was not carried out.
    NotDone,
    /// Nobody knows whether it was carried out.
    Doubtful,
    /// The call itself is wrong: nothing else would answer it better.
    Wrong,
}

impl Failed {
    /// We refused it.
    pub(crate) fn refused(kind: CallErrorKind, message: String, after_ms: Option<u64>) -> Self {
        let error = CallError { retry_after_ms: after_ms, ..CallError::new(kind, message) };
        Self { error, reach: Reach::Refused }
    }

    /// The call is wrong.
    pub(crate) fn wrong(kind: CallErrorKind, message: String) -> Self {
        Self { error: CallError::new(kind, message), reach: Reach::Wrong }
    }
}

impl From<AttemptError> for Failed {
    fn from(attempt: AttemptError) -> Self {
        let reach = match attempt.fate {
            AttemptFate::NotSent | AttemptFate::Throttled => Reach::NotDone,
            AttemptFate::Unknown | AttemptFate::Failed => Reach::Doubtful,
            AttemptFate::Rejected => Reach::Wrong,
        };
        Self { error: attempt.error, reach }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: CallErrorKind, fate: AttemptFate) -> AttemptError {
        AttemptError { error: CallError::new(kind, "no"), fate }
    }

    #[test]
    fn each_fate_means_this_to_circuit_repetition_and_fallback() {
        use AttemptFate as F;
        use CallErrorKind as K;
        let throttled = Outcome::Throttled { retry_after_ms: None };
        let table = [
            (K::Unavailable, F::NotSent, Outcome::Error, Failure::NotSent, Reach::NotDone),
            (K::Timeout, F::Unknown, Outcome::Error, Failure::Ambiguous, Reach::Doubtful),
            (K::RemoteError, F::Failed, Outcome::Error, Failure::Ambiguous, Reach::Doubtful),
            (K::RateLimited, F::Throttled, throttled, Failure::Throttled, Reach::NotDone),
            (K::RemoteError, F::Rejected, Outcome::Ok, Failure::Final, Reach::Wrong),
            (K::InvalidRequest, F::Rejected, Outcome::Ignored, Failure::Final, Reach::Wrong),
            (K::Unsupported, F::Rejected, Outcome::Ignored, Failure::Final, Reach::Wrong),
        ];
        let time = Duration::from_secs(1);
        for (kind, fate, circuit, failure, reach) in table {
            let error = error(kind, fate);
            assert_eq!(outcome(&error, time, time), circuit, "{kind:?} {fate:?}");
            assert_eq!(attempt(&error).failure, failure, "{kind:?} {fate:?}");
            assert_eq!(Failed::from(error).reach, reach, "{kind:?} {fate:?}");
        }
    }

    #[test]
    fn a_caller_in_a_hurry_judges_nobody() {
        let late = error(CallErrorKind::Timeout, AttemptFate::Unknown);
        let usual = Duration::from_secs(5);
        assert_eq!(outcome(&late, Duration::from_millis(2_499), usual), Outcome::Ignored);
        assert_eq!(outcome(&late, Duration::from_millis(2_500), usual), Outcome::Error);
    }

    #[test]
    fn a_downstream_without_a_health_path_is_there() {
        let answer = |code| {
            let mut answer = error(CallErrorKind::RemoteError, AttemptFate::Failed);
            answer.error.code = Some(code);
            check_outcome(&answer)
        };
        assert_eq!([404, 401].map(answer), [Outcome::Ignored; 2]);
        assert_eq!([503, 500, 408].map(answer), [Outcome::Error; 3]);
        let gone = error(CallErrorKind::Unavailable, AttemptFate::NotSent);
        assert_eq!(check_outcome(&gone), Outcome::Error);
    }
}
