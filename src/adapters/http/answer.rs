//! What an HTTP answer means.

use std::time::Duration;

use serde_json::Value;

use crate::ports::{AttemptError, AttemptFate};
use crate::protocol::downstream::{CallError, CallErrorKind};

/// Longest text of an answer that is shown in an error, in characters.
const SHOWN_MAX: usize = 200;

/// Longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// The result in an answer, or what its status says against it.
pub(crate) fn read(answered: &Answered) -> Result<Value, AttemptError> {
    if (200..300).contains(&answered.status) {
        return Ok(value(&answered.body));
    }
    Err(refusal(answered))
}

/// What an answer that is no success says.
pub(crate) fn refusal(answered: &Answered) -> AttemptError {
    let status = answered.status;
    let fate = match (status, answered.retry_after) {
        (429, _) | (503, Some(_)) => AttemptFate::Throttled,
        (408 | 500.., _) => AttemptFate::Failed,
        (_, _) => AttemptFate::Rejected,
    };
    let kind = match fate {
        AttemptFate::Throttled => CallErrorKind::RateLimited,
        AttemptFate::NotSent
        | AttemptFate::Unknown
        | AttemptFate::Failed
        | AttemptFate::Rejected => CallErrorKind::RemoteError,
    };
    let shown: String = String::from_utf8_lossy(&answered.body).chars().take(SHOWN_MAX).collect();
    let text = if shown.trim().is_empty() {
        format!("it answers {status}")
    } else {
        format!("it answers {status}: {}", shown.trim())
    };
    let retry_after = answered.retry_after;
    let error = CallError {
        code: Some(i64::from(status)),
        retry_after_ms: retry_after
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        data: Some(value(&answered.body))
            .filter(|data| data.is_object() || data.is_array())
            .map(Box::new),
        ..CallError::new(kind, text)
    };
    AttemptError { error, fate }
}

/// A body as JSON where it is JSON, else as text.
pub(crate) fn value(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body)
        .unwrap_or_else(|_no_json| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3). The form with a date would need a clock that agrees
/// with the server's, and is taken as absent.
pub(crate) fn retry_after(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, after: Option<u64>, body: &str, expected: Result<Value, AttemptFate>) {
        let retry_after = after.map(Duration::from_secs);
        let answered = Answered { status, retry_after, body: body.as_bytes().to_vec() };
        assert_eq!(read(&answered).map_err(|error| error.fate), expected, "{status} {body}");
    }

    #[test]
    fn a_status_says_what_an_answer_means() {
        check(200, None, r#"{"a":1}"#, Ok(serde_json::json!({"a": 1})));
        check(201, None, "plain", Ok(Value::String("plain".into())));
        check(204, None, "", Ok(Value::Null));
        check(429, None, "", Err(AttemptFate::Throttled));
        check(503, Some(3), "", Err(AttemptFate::Throttled));
        check(503, None, "", Err(AttemptFate::Failed));
        check(500, None, "", Err(AttemptFate::Failed));
        check(408, None, "", Err(AttemptFate::Failed));
        check(400, None, "", Err(AttemptFate::Rejected));
        check(404, None, "", Err(AttemptFate::Rejected));
        check(304, None, "", Err(AttemptFate::Rejected));
    }

    #[test]
    fn an_error_carries_status_text_and_time() {
        let body = br#"{"detail":"slow down"}"#.to_vec();
        let retry_after = Some(Duration::from_secs(2));
        let AttemptError { error, .. } = refusal(&Answered { status: 429, retry_after, body });
        assert_eq!((error.kind, error.code), (CallErrorKind::RateLimited, Some(429)));
        assert_eq!(error.retry_after_ms, Some(2_000));
        assert!(error.message.contains("slow down"), "{error}");
    }

    #[test]
    fn retry_after_is_bounded_and_in_seconds() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(retry_after("-1"), None);
    }
}
