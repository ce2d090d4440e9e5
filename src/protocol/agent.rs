//! The agent contract: what provost and an agent say to each other, one JSON object a message.
//!
//! The same messages are lines on a stdio agent's pipes and NATS messages of a remote agent.
//! Unknown fields are ignored; durations, not clock times, stand in them.
//!
//! Words: an *order* goes to the agent, an *event* comes from it and is about one attempt of one
//! task, a *beat* comes from it and is about the agent itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::protocol::id::{AgentId, AgentTypeName, TaskId, TaskType};

/// Longest message in bytes, without the line end.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Most capabilities in one beat.
pub const CAPABILITIES_MAX: usize = 100;

/// Longest capability, in bytes.
pub const CAPABILITY_BYTES_MAX: usize = 64;

/// Most tasks in one beat, and most slots.
pub const SLOTS_MAX: u32 = 10_000;

/// Longest `instance` in a beat, in bytes.
pub const INSTANCE_BYTES_MAX: usize = 128;

/// Shortest time between beats that an agent may announce, in milliseconds.
pub const BEAT_EVERY_MS_MIN: u64 = 50;

/// Longest time between beats that an agent may announce, in milliseconds (one hour).
pub const BEAT_EVERY_MS_MAX: u64 = 3_600_000;

/// From provost to an agent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ToAgent {
    /// Work on this.
    Task(Box<TaskOrder>),
    /// Give this attempt up; whoever does not within the grace is killed or left alone.
    Cancel {
        /// The task.
        id: TaskId,
        /// Its attempt.
        attempt: u32,
        /// Time to give up in, in milliseconds.
        grace_ms: u64,
    },
    /// Take no new tasks, finish those there are.
    Drain,
    /// End.
    Stop {
        /// Time to end in, in milliseconds.
        grace_ms: u64,
    },
    /// Say that you live, by a beat.
    Ping,
}

impl ToAgent {
    /// The message as one line, with its line end.
    #[must_use]
    pub fn line(&self) -> String {
        // Text, numbers and JSON values can always be written.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// One attempt of one task.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TaskOrder {
    /// The task.
    pub id: TaskId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Type of the task.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// What is to be worked on.
    #[serde(default)]
    pub input: Value,
    /// Time until the result is of no use any more, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Longest silence about the task, in milliseconds.
    pub lease_ms: u64,
    /// Fencing token: of two attempts the one with the higher token counts.
    pub token: u64,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// From an agent to provost.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FromAgent {
    /// About one attempt of a task.
    Event(TaskEvent),
    /// About the agent itself.
    Beat(Beat),
}

/// What happens to one attempt of a task.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TaskEvent {
    /// The task.
    pub id: TaskId,
    /// Its attempt.
    pub attempt: u32,
    /// What happens.
    #[serde(flatten)]
    pub state: TaskNews,
}

/// News about an attempt. Any of them renews the lease.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskNews {
    /// It goes on.
    Working {
        /// How, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// How far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<Progress>,
    },
    /// It waits for somebody's answer.
    InputRequired {
        /// What is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// It is done.
    Completed {
        /// The result.
        #[serde(default)]
        result: Value,
        /// What it took, for example `cost_usd`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Map<String, Value>>,
    },
    /// It failed.
    Failed {
        /// Why, and whether another attempt may help.
        error: TaskError,
    },
}

/// How far a task is: so many of so many.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Progress(pub Number, pub Number);

/// Why an attempt failed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TaskError {
    /// A word for programs.
    pub code: String,
    /// The error for people.
    #[serde(default)]
    pub message: String,
    /// Whether another attempt may help.
    #[serde(default = "may_help")]
    pub retry: bool,
    /// Time before which another attempt cannot help, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

fn may_help() -> bool {
    true
}

/// A sign of life.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "op", rename = "beat")]
pub struct Beat {
    /// Version of the contract.
    #[serde(default = "contract_version")]
    pub v: u32,
    /// The agent.
    pub id: AgentId,
    /// One life of the agent's program; another one means that it was started anew.
    #[serde(default)]
    pub instance: String,
    /// Time between beats, in milliseconds.
    #[serde(default = "beat_every_ms")]
    pub every_ms: u64,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Tasks that it takes at a time.
    #[serde(default = "one_slot")]
    pub slots: u32,
    /// Tasks that it has.
    #[serde(default)]
    pub inflight: Vec<Held>,
    /// Whether it takes new tasks.
    #[serde(default)]
    pub state: BeatState,
    /// Agent type that it counts itself to, if it says so.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<AgentTypeName>,
}

fn contract_version() -> u32 {
    1
}

fn beat_every_ms() -> u64 {
    1_000
}

fn one_slot() -> u32 {
    1
}

/// A task that an agent has.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Held {
    /// The task.
    pub id: TaskId,
    /// Token of the attempt.
    pub token: u64,
}

/// What an agent says about itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BeatState {
    /// It has not finished starting.
    Starting,
    /// It takes tasks.
    #[default]
    Ready,
    /// It takes no new tasks.
    Draining,
}

/// Why something is no message of the contract.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageFault {
    /// It is too long.
    #[error("message has {bytes} bytes; at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is no JSON, or a field is missing or wrong.
    #[error("message cannot be read: {said}")]
    Malformed {
        /// What is wrong, and where.
        said: String,
    },
    /// A value is out of its bounds.
    #[error("{field} is {found}; {bound}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// What it is, shortened.
        found: String,
        /// What is allowed.
        bound: String,
    },
}

impl FromAgent {
    /// Reads a message: a beat if its `op` says so, else an event.
    ///
    /// # Errors
    ///
    /// [`MessageFault`] names what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageFault> {
        /// Only looks which one it is.
        #[derive(Deserialize)]
        struct Kind {
            op: Option<Value>,
        }
        if MESSAGE_BYTES_MAX < bytes.len() {
            return Err(MessageFault::TooLong { bytes: bytes.len() });
        }
        let malformed =
            |error: serde_json::Error| MessageFault::Malformed { said: error.to_string() };
        let kind: Kind = serde_json::from_slice(bytes).map_err(malformed)?;
        match kind.op {
            None => serde_json::from_slice(bytes).map(Self::Event).map_err(malformed),
            Some(Value::String(op)) if op == "beat" => Beat::parse(bytes).map(Self::Beat),
            Some(op) => {
                let said = format!("op is {op}; an agent says \"beat\" or events without op");
                Err(MessageFault::Malformed { said })
            }
        }
    }

    /// The message as one line, with its line end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

impl Beat {
    /// Reads a beat and checks its bounds.
    ///
    /// # Errors
    ///
    /// [`MessageFault`] names what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageFault> {
        if MESSAGE_BYTES_MAX < bytes.len() {
            return Err(MessageFault::TooLong { bytes: bytes.len() });
        }
        let beat: Self = serde_json::from_slice(bytes)
            .map_err(|error| MessageFault::Malformed { said: error.to_string() })?;
        beat.check()?;
        Ok(beat)
    }

    fn check(&self) -> Result<(), MessageFault> {
        let outside = |field, found: String, bound: String| {
            Err(MessageFault::OutOfBounds { field, found, bound })
        };
        if self.v != contract_version() {
            let bound = format!("only {} is known", contract_version());
            return outside("v", self.v.to_string(), bound);
        }
        if !(BEAT_EVERY_MS_MIN..=BEAT_EVERY_MS_MAX).contains(&self.every_ms) {
            let bound = format!("{BEAT_EVERY_MS_MIN} to {BEAT_EVERY_MS_MAX} are allowed");
            return outside("every_ms", self.every_ms.to_string(), bound);
        }
        if !(1..=SLOTS_MAX).contains(&self.slots) {
            return outside(
                "slots",
                self.slots.to_string(),
                format!("1 to {SLOTS_MAX} are allowed"),
            );
        }
        if INSTANCE_BYTES_MAX < self.instance.len() {
            let found = format!("{} bytes long", self.instance.len());
            return outside("instance", found, format!("at most {INSTANCE_BYTES_MAX} are allowed"));
        }
        let held = u32::try_from(self.inflight.len()).unwrap_or(u32::MAX);
        if SLOTS_MAX < held {
            let found = format!("{held} tasks long");
            return outside("inflight", found, format!("at most {SLOTS_MAX} are allowed"));
        }
        if CAPABILITIES_MAX < self.capabilities.len() {
            let found = format!("{} words long", self.capabilities.len());
            return outside(
                "capabilities",
                found,
                format!("at most {CAPABILITIES_MAX} are allowed"),
            );
        }
        let fits = |word: &&String| !(1..=CAPABILITY_BYTES_MAX).contains(&word.len());
        if let Some(word) = self.capabilities.iter().find(fits) {
            let found = format!("a list with a word of {} bytes", word.len());
            let bound = format!("1 to {CAPABILITY_BYTES_MAX} are allowed");
            return outside("capabilities", found, bound);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Reads the text, writes it again, and reads that.
    fn order(text: &str) -> ToAgent {
        let order: ToAgent = serde_json::from_str(text).unwrap();
        let line = order.line();
        assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
        assert_eq!(serde_json::from_str::<ToAgent>(&line).unwrap(), order);
        order
    }

    fn said(text: &str) -> FromAgent {
        let said = FromAgent::parse(text.as_bytes()).unwrap();
        let line = said.line();
        assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
        assert_eq!(FromAgent::parse(line.as_bytes()).unwrap(), said);
        said
    }

    fn fault(text: &str) -> String {
        FromAgent::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn orders_are_what_the_wire_says() {
        let text = r#"{"op":"task","id":"t1","attempt":2,"type":"review","input":{"a":[1]},
            "deadline_ms":600000,"lease_ms":60000,"token":4711,"trace":"00-1"}"#;
        let ToAgent::Task(task) = order(text) else { panic!("{text}") };
        assert_eq!((task.attempt, task.lease_ms, task.token), (2, 60_000, 4_711));
        assert_eq!(task.input, json!({"a": [1]}));
        let cancel = order(r#"{"op":"cancel","id":"t1","attempt":2,"grace_ms":10000}"#);
        let id = "t1".parse().unwrap();
        assert_eq!(cancel, ToAgent::Cancel { id, attempt: 2, grace_ms: 10_000 });
        assert_eq!(order(r#"{"op":"drain","later":1}"#), ToAgent::Drain);
        assert_eq!(order(r#"{"op":"stop","grace_ms":10000}"#), ToAgent::Stop { grace_ms: 10_000 });
        assert_eq!(order(r#"{"op":"ping"}"#), ToAgent::Ping);
        assert_eq!(ToAgent::Drain.line(), "{\"op\":\"drain\"}\n");
        assert_eq!(ToAgent::Stop { grace_ms: 5 }.line(), "{\"op\":\"stop\",\"grace_ms\":5}\n");
    }

    #[test]
    fn a_task_needs_only_what_every_task_has() {
        let text = r#"{"op":"task","id":"t1","attempt":1,"type":"x","lease_ms":1,"token":1}"#;
        let ToAgent::Task(task) = order(text) else { panic!("{text}") };
        assert_eq!((task.input, task.deadline_ms, task.trace), (Value::Null, None, None));
    }

    #[test]
    fn every_event_goes_there_and_back() {
        for text in [
            r#"{"id":"t1","attempt":2,"state":"working","message":"3/10","progress":[3,10]}"#,
            r#"{"id":"t1","attempt":2,"state":"working","progress":[0.5,1]}"#,
            r#"{"id":"t1","attempt":2,"state":"working"}"#,
            r#"{"id":"t1","attempt":2,"state":"input_required","message":"which one?"}"#,
            r#"{"id":"t1","attempt":2,"state":"completed","result":{"x":1},"usage":{"cost_usd":0.02}}"#,
            r#"{"id":"t1","attempt":2,"state":"completed","result":null}"#,
            r#"{"id":"t1","attempt":2,"state":"failed","error":{"code":"rate_limited","message":"m","retry":true,"after_ms":30000}}"#,
            r#"{"id":"t1","attempt":2,"state":"failed","error":{"code":"bad","message":"m","retry":false}}"#,
        ] {
            let event = said(text);
            assert_eq!(event.line().trim_end(), text);
        }
        let FromAgent::Event(event) = said(
            r#"{"id":"t1","attempt":1,"state":"failed","error":{"code":"x"},"unknown":{"a":1}}"#,
        ) else {
            panic!("an event")
        };
        let TaskNews::Failed { error } = event.state else { panic!("failed") };
        assert!(error.retry, "another attempt may help unless it is said otherwise");
    }

    #[test]
    fn beats_go_there_and_back_and_have_defaults() {
        let text = r#"{"op":"beat","v":1,"id":"a1","instance":"i","every_ms":1000,"capabilities":["review"],"slots":4,"inflight":[{"id":"t1","token":4711}],"state":"draining","type":"worker"}"#;
        assert_eq!(said(text).line().trim_end(), text);
        let FromAgent::Beat(beat) = said(r#"{"op":"beat","id":"a1"}"#) else { panic!("a beat") };
        assert_eq!((beat.every_ms, beat.slots, beat.state), (1_000, 1, BeatState::Ready));
        for state in [BeatState::Starting, BeatState::Ready, BeatState::Draining] {
            let beat = FromAgent::Beat(Beat { state, ..beat.clone() });
            assert_eq!(said(&beat.line()), beat);
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_reason() {
        assert!(fault("hello").starts_with("message cannot be read: "));
        assert!(fault("[]").starts_with("message cannot be read: "));
        assert!(fault(r#"{"op":"task"}"#).contains("op is \"task\"; an agent says"));
        assert!(fault(r#"{"op":1}"#).contains("op is 1; an agent says"));
        assert!(fault(r#"{"id":"a.b","attempt":1,"state":"working"}"#).contains("contains '.'"));
        assert!(fault(r#"{"id":"t","attempt":1,"state":"dreaming"}"#).contains("dreaming"));
        assert!(fault(r#"{"id":"t","state":"working"}"#).contains("attempt"));
        assert!(fault(r#"{"op":"beat","id":"events"}"#).contains("reserved"));
        assert_eq!(
            fault(r#"{"op":"beat","id":"a","every_ms":1}"#),
            "every_ms is 1; 50 to 3600000 are allowed"
        );
        assert_eq!(fault(r#"{"op":"beat","id":"a","v":2}"#), "v is 2; only 1 is known");
        assert_eq!(
            fault(r#"{"op":"beat","id":"a","slots":0}"#),
            "slots is 0; 1 to 10000 are allowed"
        );
        assert_eq!(
            fault(r#"{"op":"beat","id":"a","capabilities":[""]}"#),
            "capabilities is a list with a word of 0 bytes; 1 to 64 are allowed"
        );
        let long = format!(r#"{{"op":"beat","id":"a","instance":"{}"}}"#, "x".repeat(129));
        assert_eq!(fault(&long), "instance is 129 bytes long; at most 128 are allowed");
        let huge = "x".repeat(MESSAGE_BYTES_MAX + 1);
        assert_eq!(fault(&huge), "message has 1048577 bytes; at most 1048576 are allowed");
    }
}
