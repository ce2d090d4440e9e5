//! Identifiers. Every identifier is one valid NATS subject token once it exists.
//!
//! The only way from text to an identifier is `FromStr` (serde goes through it too), so that code
//! which holds one never checks it again. They are copied a lot and stand in ordered maps: one of up
//! to 23 bytes lies in place, without an allocation of its own, a longer one is shared.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Longest identifier accepted, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Tokens that stand at the place of an agent's or task's id in some subject, and so cannot be one.
pub const RESERVED_IDS: [&str; 3] = ["command", "events", "reply"];

/// Reasons a string is not an identifier.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdError {
    /// The string was empty.
    #[error("identifier is empty; give 1 to {ID_BYTES_MAX} of A-Z a-z 0-9 _ -")]
    Empty,
    /// The string was longer than [`ID_BYTES_MAX`].
    #[error("identifier is {bytes} bytes long; at most {ID_BYTES_MAX} are allowed")]
    TooLong {
        /// Length of the rejected string, in bytes.
        bytes: usize,
    },
    /// The string held a character that cannot stand in a subject token.
    #[error("identifier {text:?} contains {found:?}; use only A-Z a-z 0-9 _ -")]
    BadCharacter {
        /// The rejected string.
        text: String,
        /// The first offending character.
        found: char,
    },
    /// The string is a word that the subjects need for themselves.
    #[error("identifier {text:?} is reserved; choose another name")]
    Reserved {
        /// The rejected string.
        text: String,
    },
}

fn check_token(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if ID_BYTES_MAX < text.len() {
        return Err(IdError::TooLong { bytes: text.len() });
    }
    if let Some(found) = text.chars().find(|found| !is_token_char(*found)) {
        return Err(IdError::BadCharacter { text: text.to_owned(), found });
    }
    Ok(())
}

fn check_name(text: &str) -> Result<(), IdError> {
    check_token(text)?;
    if RESERVED_IDS.contains(&text) {
        return Err(IdError::Reserved { text: text.to_owned() });
    }
    Ok(())
}

/// Whether a character may stand in an identifier.
#[must_use]
pub fn is_token_char(candidate: char) -> bool {
    candidate.is_ascii_alphanumeric() || candidate == '-' || candidate == '_'
}

/// Schema of any token.
fn token_schema() -> Schema {
    json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
}

/// Schema of a token that is not reserved.
fn name_schema() -> Schema {
    json_schema!({
        "type": "string",
        "pattern": "^[A-Za-z0-9_-]{1,64}$",
        "not": { "enum": RESERVED_IDS },
    })
}

macro_rules! token_id {
    ($check:ident, $schema:expr, $(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(SmolStr);

        impl $name {
            /// Returns the identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $check(text).map(|()| Self(SmolStr::new(text)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $check(&text).map(|()| Self(SmolStr::from(text)))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                Self::from(id.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

token_id! {
    check_name, name_schema(),
    /// Identity of one agent; a UUID v7 for what provost starts, a worker's own token for remote
    /// ones. It stays the same across restarts.
    AgentId
}
token_id! {
    check_name, name_schema(),
    /// Name of a child within the tree: of an agent, a supervisor, a downstream or a part of the
    /// daemon. Unique within one daemon.
    ChildName
}
token_id! {
    check_name, name_schema(),
    /// Name of an agent type, as declared in the configuration.
    AgentTypeName
}
token_id! {
    check_name, name_schema(),
    /// Name of the node a daemon runs on.
    NodeName
}
token_id! {
    check_name, name_schema(),
    /// Identity of one task: a UUID v7, or what the caller gave.
    TaskId
}
token_id! {
    check_token, token_schema(),
    /// Type of a task: a label for limits, policies and dead letters.
    TaskType
}
token_id! {
    check_token, token_schema(),
    /// What an event is about: an agent's id, a downstream's or another child's name. It is the
    /// last token of many subjects.
    SubjectId
}

impl AgentTypeName {
    /// The type of what was made from no declared type.
    #[must_use]
    pub fn unknown() -> Self {
        Self(SmolStr::new_static("unknown"))
    }

    /// The type of remote agents that name none which is declared.
    #[must_use]
    pub fn remote() -> Self {
        Self(SmolStr::new_static("remote"))
    }
}

impl From<&AgentId> for SubjectId {
    fn from(id: &AgentId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&ChildName> for SubjectId {
    fn from(name: &ChildName) -> Self {
        Self(name.0.clone())
    }
}

impl From<&TaskId> for SubjectId {
    fn from(id: &TaskId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&TaskType> for SubjectId {
    fn from(name: &TaskType) -> Self {
        Self(name.0.clone())
    }
}

impl From<EventId> for SubjectId {
    fn from(id: EventId) -> Self {
        Self(SmolStr::from(id.to_string()))
    }
}

impl TaskId {
    /// The id of a submission that brought none: made from its place in the stream.
    #[must_use]
    pub fn of_submission(sequence: u64) -> Self {
        Self(SmolStr::from(format!("seq-{sequence}")))
    }
}

impl From<uuid::Uuid> for TaskId {
    fn from(id: uuid::Uuid) -> Self {
        Self(SmolStr::from(id.to_string()))
    }
}

impl From<&ChildName> for AgentId {
    /// A remote agent's name is the token that it has given itself.
    fn from(name: &ChildName) -> Self {
        Self(name.0.clone())
    }
}

impl From<uuid::Uuid> for AgentId {
    fn from(id: uuid::Uuid) -> Self {
        Self(SmolStr::from(id.to_string()))
    }
}

/// Identity of one event: a UUID v7, also its `Nats-Msg-Id`.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct EventId(uuid::Uuid);

impl EventId {
    /// Wraps a UUID that the caller minted through `ports::Ids`.
    #[must_use]
    pub fn new(id: uuid::Uuid) -> Self {
        Self(id)
    }

    /// Whether it is none yet.
    #[must_use]
    pub fn is_nil(self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Counts the runs of one child from 1; 0 is "never started". A report that carries another
/// generation than the child's present one is stale.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let seen = match text.parse::<AgentId>() {
            Ok(id) => id.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_identifier_is_one_subject_token() {
        check("w1", "w1");
        check("A_b-9", "A_b-9");
        check("", "identifier is empty; give 1 to 64 of A-Z a-z 0-9 _ -");
        check(&"x".repeat(65), "identifier is 65 bytes long; at most 64 are allowed");
        check("a.b", "identifier \"a.b\" contains '.'; use only A-Z a-z 0-9 _ -");
        check("a b", "identifier \"a b\" contains ' '; use only A-Z a-z 0-9 _ -");
        check("é", "identifier \"é\" contains 'é'; use only A-Z a-z 0-9 _ -");
        check("events", "identifier \"events\" is reserved; choose another name");
    }

    #[test]
    fn a_label_that_no_subject_confuses_may_be_any_token() {
        assert_eq!("events".parse::<TaskType>().unwrap().as_str(), "events");
        assert_eq!("reply".parse::<SubjectId>().unwrap().as_str(), "reply");
    }
}
