//! Why an adapter cannot be made from its settings.

use std::path::PathBuf;

/// Why an adapter cannot be made. What cannot be known before a connection is made is no part of
/// this: that is an attempt's or a session's error.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The address cannot be understood.
    #[error("endpoint address {address:?} is no address: {reason}")]
    Address {
        /// The address, without credentials.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of certificates or keys cannot be used.
    #[error("cannot use {path:?}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings for TLS do not fit together.
    #[error("TLS settings do not work: {reason}")]
    Tls {
        /// What is wrong.
        reason: String,
    },
    /// This kind of downstream cannot show who it is in this way.
    #[error("auth type {auth} does not work with {kind}; use {instead}")]
    Auth {
        /// The type of auth.
        auth: &'static str,
        /// The kind of downstream.
        kind: &'static str,
        /// What works.
        instead: &'static str,
    },
    /// This version cannot reach this kind of downstream.
    #[error("downstreams of type {kind} cannot be reached by this version")]
    Missing {
        /// The kind.
        kind: &'static str,
    },
    /// The client library refused the settings.
    #[error("the client cannot be made: {reason}")]
    Client {
        /// Its words.
        reason: String,
    },
}
