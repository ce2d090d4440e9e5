//! Every NATS subject, built and parsed in this one place.
//!
//! A configured prefix stands before every subject; nothing else in the project joins tokens.

use std::fmt;
use std::str::FromStr;

use crate::protocol::fact::Severity;
use crate::protocol::id::{SubjectId, is_token_char};

/// Longest prefix accepted, in bytes.
pub const PREFIX_BYTES_MAX: usize = 128;

/// Reasons a string is not a subject prefix.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PrefixError {
    /// A token is empty or holds a character that is not allowed.
    #[error("subject prefix {text:?} is not one or more tokens of A-Z a-z 0-9 _ - joined by dots")]
    BadToken {
        /// The rejected text.
        text: String,
    },
    /// It is too long.
    #[error("subject prefix is {bytes} bytes long; at most {PREFIX_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// What stands before every subject: nothing, or tokens joined by dots.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct SubjectPrefix(String);

impl SubjectPrefix {
    /// The prefix as configured, without a final dot; empty for none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the prefix before a subject or wildcard.
    #[must_use]
    pub fn apply(&self, subject: &str) -> String {
        if self.0.is_empty() { subject.to_owned() } else { format!("{}.{subject}", self.0) }
    }

    /// Takes the prefix off; `None` when it is not there.
    #[must_use]
    pub fn strip<'a>(&self, subject: &'a str) -> Option<&'a str> {
        if self.0.is_empty() {
            return Some(subject);
        }
        subject.strip_prefix(&self.0)?.strip_prefix('.')
    }

    /// Name of a stream or bucket: `SUPERVISION`, or `<PREFIX>_SUPERVISION` with dots as `_`.
    #[must_use]
    pub fn stream_name(&self, stream: &str) -> String {
        if self.0.is_empty() {
            stream.to_owned()
        } else {
            format!("{}_{stream}", self.0.replace('.', "_"))
        }
    }
}

impl FromStr for SubjectPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if PREFIX_BYTES_MAX < text.len() {
            return Err(PrefixError::TooLong { bytes: text.len() });
        }
        let whole = |token: &str| !token.is_empty() && token.chars().all(is_token_char);
        if text.split('.').all(whole) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PrefixError::BadToken { text: text.to_owned() })
        }
    }
}

impl fmt::Display for SubjectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One subject without its prefix.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Subject {
    /// `supervision.health.<id>`.
    Health(SubjectId),
    /// `supervision.failures.<severity>`.
    Failures(Severity),
    /// `supervision.recovery.<id>`.
    Recovery(SubjectId),
    /// `supervision.circuits.<child>`.
    Circuits(SubjectId),
    /// `supervision.events`.
    Events,
    /// `supervision.patterns.<kind>`.
    Patterns(SubjectId),
    /// `supervision.alerts.<severity>`.
    Alerts(Severity),
    /// `agent.events.<agent_id>`.
    AgentEvents(SubjectId),
    /// `agent.command`.
    AgentCommand,
    /// `system.control`.
    SystemControl,
    /// `system.presence`: daemons of one prefix find each other here.
    SystemPresence,
    /// `dlq.<type>`.
    DeadLetters(SubjectId),
    /// `coordination.tasks.<type>`.
    Tasks(SubjectId),
    /// `coordination.results.<task_id>`.
    TaskResults(SubjectId),
    /// `coordination.log.<task_id>`.
    TaskLog(SubjectId),
    /// `coordination.events`.
    CoordinationEvents,
    /// `coordination.cancel.<task_id>`; a request.
    TaskCancel(SubjectId),
    /// `coordination.resources.<type>`; a request.
    Resources(SubjectId),
    /// `downstream.<name>.call`; a request.
    DownstreamCall(SubjectId),
    /// `downstream.<name>.publish`.
    DownstreamPublish(SubjectId),
    /// `downstream.<name>.status`; a request.
    DownstreamStatus(SubjectId),
    /// `downstream.<name>.events`: what arrives on its subscriptions.
    DownstreamEvents(SubjectId),
    /// `agent.<id>.task`: tasks for a remote agent.
    AgentTask(SubjectId),
    /// `agent.<id>.ctl`: orders for a remote agent.
    AgentControl(SubjectId),
    /// `agent.<id>.beat`: heartbeats of a remote agent.
    AgentBeat(SubjectId),
    /// `agent.reply.<id>.<task_id>.<attempt>`: what a remote agent says about one attempt.
    AgentReply {
        /// The agent.
        agent: SubjectId,
        /// The task.
        task: SubjectId,
        /// The attempt, counted from 1.
        attempt: u32,
    },
}

impl Subject {
    /// All subjects with their placeholders, as documents write them.
    pub const TEMPLATES: [&str; 26] = [
        "supervision.health.<id>",
        "supervision.failures.<severity>",
        "supervision.recovery.<id>",
        "supervision.circuits.<child>",
        "supervision.events",
        "supervision.patterns.<kind>",
        "supervision.alerts.<severity>",
        "agent.events.<agent_id>",
        "agent.command",
        "system.control",
        "system.presence",
        "dlq.<type>",
        "coordination.tasks.<type>",
        "coordination.results.<task_id>",
        "coordination.log.<task_id>",
        "coordination.events",
        "coordination.cancel.<task_id>",
        "coordination.resources.<type>",
        "downstream.<name>.call",
        "downstream.<name>.publish",
        "downstream.<name>.status",
        "downstream.<name>.events",
        "agent.<id>.task",
        "agent.<id>.ctl",
        "agent.<id>.beat",
        "agent.reply.<id>.<task_id>.<attempt>",
    ];

    /// Reads a subject that carries no prefix (see [`SubjectPrefix::strip`]).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = |text: &str| text.parse::<SubjectId>().ok();
        let severity = |text: &str| Severity::ALL.into_iter().find(|known| known.as_str() == text);
        let tokens: Vec<&str> = text.split('.').collect();
        match *tokens.as_slice() {
            ["supervision", "health", last] => id(last).map(Self::Health),
            ["supervision", "failures", last] => severity(last).map(Self::Failures),
            ["supervision", "recovery", last] => id(last).map(Self::Recovery),
            ["supervision", "circuits", last] => id(last).map(Self::Circuits),
            ["supervision", "events"] => Some(Self::Events),
            ["supervision", "patterns", last] => id(last).map(Self::Patterns),
            ["supervision", "alerts", last] => severity(last).map(Self::Alerts),
            ["agent", "events", last] => id(last).map(Self::AgentEvents),
            ["agent", "command"] => Some(Self::AgentCommand),
            ["system", "control"] => Some(Self::SystemControl),
            ["system", "presence"] => Some(Self::SystemPresence),
            ["dlq", last] => id(last).map(Self::DeadLetters),
            ["coordination", "tasks", last] => id(last).map(Self::Tasks),
            ["coordination", "results", last] => id(last).map(Self::TaskResults),
            ["coordination", "log", last] => id(last).map(Self::TaskLog),
            ["coordination", "events"] => Some(Self::CoordinationEvents),
            ["coordination", "cancel", last] => id(last).map(Self::TaskCancel),
            ["coordination", "resources", last] => id(last).map(Self::Resources),
            ["downstream", name, "call"] => id(name).map(Self::DownstreamCall),
            ["downstream", name, "publish"] => id(name).map(Self::DownstreamPublish),
            ["downstream", name, "status"] => id(name).map(Self::DownstreamStatus),
            ["downstream", name, "events"] => id(name).map(Self::DownstreamEvents),
            // `agent.events.<id>` stands above: no agent may be called `events`.
            ["agent", agent, "task"] => id(agent).map(Self::AgentTask),
            ["agent", agent, "ctl"] => id(agent).map(Self::AgentControl),
            ["agent", agent, "beat"] => id(agent).map(Self::AgentBeat),
            ["agent", "reply", agent, task, attempt] => Some(Self::AgentReply {
                agent: id(agent)?,
                task: id(task)?,
                attempt: attempt.parse().ok()?,
            }),
            _ => None,
        }
    }

    /// The subject with its prefix, as it goes to NATS.
    #[must_use]
    pub fn under(&self, prefix: &SubjectPrefix) -> String {
        prefix.apply(&self.to_string())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Health(id) => write!(f, "supervision.health.{id}"),
            Self::Failures(severity) => write!(f, "supervision.failures.{}", severity.as_str()),
            Self::Recovery(id) => write!(f, "supervision.recovery.{id}"),
            Self::Circuits(id) => write!(f, "supervision.circuits.{id}"),
            Self::Events => f.write_str("supervision.events"),
            Self::Patterns(kind) => write!(f, "supervision.patterns.{kind}"),
            Self::Alerts(severity) => write!(f, "supervision.alerts.{}", severity.as_str()),
            Self::AgentEvents(id) => write!(f, "agent.events.{id}"),
            Self::AgentCommand => f.write_str("agent.command"),
            Self::SystemControl => f.write_str("system.control"),
            Self::SystemPresence => f.write_str("system.presence"),
            Self::DeadLetters(kind) => write!(f, "dlq.{kind}"),
            Self::Tasks(kind) => write!(f, "coordination.tasks.{kind}"),
            Self::TaskResults(id) => write!(f, "coordination.results.{id}"),
            Self::TaskLog(id) => write!(f, "coordination.log.{id}"),
            Self::CoordinationEvents => f.write_str("coordination.events"),
            Self::TaskCancel(id) => write!(f, "coordination.cancel.{id}"),
            Self::Resources(kind) => write!(f, "coordination.resources.{kind}"),
            Self::DownstreamCall(name) => write!(f, "downstream.{name}.call"),
            Self::DownstreamPublish(name) => write!(f, "downstream.{name}.publish"),
            Self::DownstreamStatus(name) => write!(f, "downstream.{name}.status"),
            Self::DownstreamEvents(name) => write!(f, "downstream.{name}.events"),
            Self::AgentTask(id) => write!(f, "agent.{id}.task"),
            Self::AgentControl(id) => write!(f, "agent.{id}.ctl"),
            Self::AgentBeat(id) => write!(f, "agent.{id}.beat"),
            Self::AgentReply { agent, task, attempt } => {
                write!(f, "agent.reply.{agent}.{task}.{attempt}")
            }
        }
    }
}

/// A set of subjects to subscribe to or to capture in a stream, without prefix.
pub mod pattern {
    /// Everything about supervision.
    pub const SUPERVISION: &str = "supervision.>";
    /// Every agent's events.
    pub const AGENT_EVENTS: &str = "agent.events.>";
    /// Every remote agent's beats.
    pub const AGENT_BEATS: &str = "agent.*.beat";
    /// Calls of every downstream.
    pub const DOWNSTREAM_CALLS: &str = "downstream.*.call";
    /// Messages to every downstream.
    pub const DOWNSTREAM_PUBLISHES: &str = "downstream.*.publish";
    /// Questions how every downstream is.
    pub const DOWNSTREAM_STATUSES: &str = "downstream.*.status";
    /// Subjects of the stream `SUPERVISION`.
    pub const STREAM_SUPERVISION: [&str; 7] = [
        "supervision.failures.>",
        "supervision.recovery.>",
        "supervision.circuits.>",
        "supervision.events",
        "supervision.patterns.>",
        "supervision.alerts.>",
        AGENT_EVENTS,
    ];
    /// Subjects of the stream `HEALTH`.
    pub const STREAM_HEALTH: [&str; 1] = ["supervision.health.>"];
    /// Subjects of the stream `TASKS`.
    pub const STREAM_TASKS: [&str; 1] = ["coordination.tasks.>"];
    /// Subjects of the stream `TASK_LOG`.
    pub const STREAM_TASK_LOG: [&str; 3] =
        ["coordination.log.>", "coordination.results.>", "coordination.events"];
    /// Subjects of the stream `REPLIES`.
    pub const STREAM_REPLIES: [&str; 1] = ["agent.reply.>"];
    /// Subjects of the stream `DEAD_LETTERS`.
    pub const STREAM_DEAD_LETTERS: [&str; 1] = ["dlq.>"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_back_under_any_prefix() {
        let filled = |template: &&str| {
            let text = template.replace("<severity>", "critical").replace("<attempt>", "2");
            let token = |token: &str| if token.starts_with('<') { "w1" } else { token }.to_owned();
            text.split('.').map(token).collect::<Vec<_>>().join(".")
        };
        let texts: Vec<String> = Subject::TEMPLATES.iter().map(filled).collect();
        for prefix in ["", "acme", "acme.prod"] {
            let prefix: SubjectPrefix = prefix.parse().unwrap();
            for text in &texts {
                let full = Subject::parse(text).unwrap().under(&prefix);
                assert!(full.ends_with(text.as_str()), "{full}");
                let stripped = prefix.strip(&full).unwrap();
                assert_eq!(Subject::parse(stripped).unwrap().to_string(), *text);
            }
        }
    }

    #[test]
    fn what_is_no_subject_of_ours_is_not_read() {
        let others =
            ["agent.events.a.b", "agent.reply.a.t.one", "agent.a.other", "downstream.a", "x.y"];
        for text in ["", "supervision", "supervision.failures.huge"].into_iter().chain(others) {
            assert_eq!(Subject::parse(text), None, "{text}");
        }
        let prefix: SubjectPrefix = "acme".parse().unwrap();
        assert_eq!(prefix.strip("acmesupervision.events"), None);
        assert_eq!(prefix.strip("other.supervision.events"), None);
    }

    #[test]
    fn a_prefix_is_tokens_joined_by_dots() {
        for text in [".", "a.", ".a", "a..b", "a b", "a.>", "*"] {
            assert!(text.parse::<SubjectPrefix>().is_err(), "{text}");
        }
        let prefix: SubjectPrefix = "acme.prod".parse().unwrap();
        assert_eq!(prefix.stream_name("HEALTH"), "acme_prod_HEALTH");
    }
}
