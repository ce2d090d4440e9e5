//! W3C trace context: which trace something belongs to, and the span that it hangs under.
//!
//! It travels as `traceparent`: a header of NATS and HTTP messages, the field `trace` of a task's
//! order, `TRACEPARENT` in the environment of processes, an attribute of events. Ids are made from
//! what is known (a task, an attempt, a run), not drawn: the same attempt has the same span whoever
//! tells of it, and after a restart too.

use std::fmt;
use std::str::FromStr;

use crate::protocol::id::{AgentId, Generation, TaskId};

/// Name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// Name of the environment variable.
pub const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";

/// A trace and a span in it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Flags; the lowest bit says that the trace is sampled.
    pub flags: u8,
}

/// A text is no trace context.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no traceparent; write it like 00-<32 hex digits>-<16 hex digits>-01")]
pub struct TraceError;

impl TraceContext {
    /// The context of a task: the one that it was submitted with, or the beginning of one.
    #[must_use]
    pub fn of_task(task: &TaskId, submitted: Option<&str>) -> Self {
        let given = submitted.and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| Self::root(task.as_str()))
    }

    /// The span of one attempt of a task, under the task's context.
    #[must_use]
    pub fn of_attempt(self, task: &TaskId, attempt: u32) -> Self {
        Self { span_id: hash(&["attempt", task.as_str(), &attempt.to_string()]), ..self }
    }

    /// The context of one run of an agent, which is a trace of its own.
    #[must_use]
    pub fn of_run(agent: &AgentId, generation: Generation) -> Self {
        Self::root(&format!("{agent}/{generation}"))
    }

    fn root(name: &str) -> Self {
        let high = u128::from(hash(&["trace", name]));
        let low = u128::from(hash(&["trace-low", name]));
        Self { trace_id: (high << 64) | low, span_id: hash(&["span", name]), flags: 1 }
    }

    /// Whether somebody records the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

/// FNV-1a with a mix at its end; never 0.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let mut mixed = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let part = parts.next().ok_or(TraceError)?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if part.len() == length && part.bytes().all(is_hex) {
                Ok(part)
            } else {
                Err(TraceError)
            }
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // A later version may have more behind it; this one must not.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(TraceError);
        }
        let trace_id = u128::from_str_radix(trace, 16).map_err(|_digits| TraceError)?;
        let span_id = u64::from_str_radix(span, 16).map_err(|_digits| TraceError)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_digits| TraceError)?;
        if trace_id == 0 || span_id == 0 {
            return Err(TraceError);
        }
        Ok(Self { trace_id, span_id, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_it_was() {
        let context: TraceContext = SAMPLE.parse().unwrap();
        assert_eq!(context.to_string(), SAMPLE);
        assert!(context.is_sampled());
        let later = format!("{}-more", SAMPLE.replacen("00-", "01-", 1));
        assert_eq!(later.parse::<TraceContext>(), Ok(context));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let long = format!("{SAMPLE}-01");
        let upper = SAMPLE.to_uppercase();
        for text in ["", "00", "00-1-2-01", zero, &long, &upper, &SAMPLE.replace("00-", "ff-")] {
            assert_eq!(text.parse::<TraceContext>(), Err(TraceError), "{text}");
        }
    }

    #[test]
    fn attempts_of_a_task_are_spans_of_its_trace() {
        let task: TaskId = "t1".parse().unwrap();
        let given = TraceContext::of_task(&task, Some(SAMPLE));
        assert_eq!(given.to_string(), SAMPLE);
        let (one, two) = (given.of_attempt(&task, 1), given.of_attempt(&task, 2));
        assert_eq!((one.trace_id, two.trace_id), (given.trace_id, given.trace_id));
        assert_ne!(one.span_id, two.span_id);
        assert_eq!(one, given.of_attempt(&task, 1));
        let own = TraceContext::of_task(&task, None);
        assert_eq!(own, TraceContext::of_task(&task, Some("nonsense")));
        assert_ne!(own.trace_id, given.trace_id);
    }
}
