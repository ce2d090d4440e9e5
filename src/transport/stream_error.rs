//! Why a stream is not as declared, in words that say what to do.

use crate::transport::streams::{SCHEMA, SCHEMA_KEY};

/// Reasons a stream is not as declared.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StreamError {
    /// The declaration contradicts itself.
    #[error("stream {stream}: {said}")]
    BadSettings {
        /// Stream.
        stream: String,
        /// What is wrong.
        said: String,
    },
    /// The server's stream differs where it cannot be changed.
    #[error(
        "stream {stream} has {field} {found} and must have {wanted}; this cannot be changed in \
         place: move its messages away and delete it yourself, or use another subject prefix"
    )]
    Incompatible {
        /// Stream.
        stream: String,
        /// Field.
        field: String,
        /// The server's value.
        found: String,
        /// The declared value.
        wanted: String,
    },
    /// Somebody else made a stream of that name.
    #[error(
        "stream {stream} exists and is not provost's (its metadata has no {SCHEMA_KEY}); rename it \
         or use another subject prefix"
    )]
    Foreign {
        /// Stream.
        stream: String,
    },
    /// A newer provost made it.
    #[error(
        "stream {stream} was made by a newer provost (schema {found}, this one knows {SCHEMA}); \
         run that version"
    )]
    Newer {
        /// Stream.
        stream: String,
        /// Its schema.
        found: String,
    },
    /// Another stream already captures some of the subjects.
    #[error(
        "stream {stream} cannot be made: its subjects are captured already by {}; take them out \
         there, or use another subject prefix",
        .others.join(", ")
    )]
    Overlap {
        /// Stream.
        stream: String,
        /// Streams in the way.
        others: Vec<String>,
    },
    /// The server cannot keep that many copies.
    #[error(
        "stream {stream}: the server cannot keep {replicas} copies ({said}); use the development \
         profile (one copy) or a cluster"
    )]
    Replicas {
        /// Stream.
        stream: String,
        /// Copies declared.
        replicas: usize,
        /// What the server said.
        said: String,
    },
    /// There is no room.
    #[error(
        "stream {stream}: the server has no room for it ({said}); raise its jetstream limits or \
         lower the stream's max_bytes"
    )]
    NoRoom {
        /// Stream.
        stream: String,
        /// What the server said.
        said: String,
    },
    /// The server refused for another reason.
    #[error("stream {stream}: the server refused: {said}")]
    Server {
        /// Stream.
        stream: String,
        /// What the server said.
        said: String,
    },
    /// The server did not answer; worth trying again.
    #[error("stream {stream}: jetstream did not answer: {said}")]
    NoAnswer {
        /// Stream.
        stream: String,
        /// What happened.
        said: String,
    },
}
