//! Our own NATS: the connection, the embedded server, streams, commands, the event outbox.
//!
//! Not for decisions about children: those are in `logic`. Not for downstreams that happen to be
//! NATS: those are in `adapters`. Nothing here reads the environment; paths and addresses are
//! passed in.
//!
//! Words: a *connection* is one client with its state; the *slot* is the place where the parts of
//! the daemon find the present connection; the *embedded server* is the `nats-server` that provost
//! runs itself when no other is configured; *presence* is the claim to be the one daemon of a
//! subject prefix.
//!
//! Habits of the client library that everything here works around: a subscription is not live when
//! `subscribe` returns (see [`connect::Connection::subscribe_confirmed`]); a publish without
//! acknowledgement may be lost without an error; wrong credentials during a reconnect are retried
//! without a word (see [`link::ConnectionState::Refused`]); a forbidden publish is an event, not an
//! error.

pub mod settings;
pub mod version;

pub mod connect;
pub mod contexts;
mod dial;
pub mod failure;
pub(crate) mod files;
pub mod link;
pub mod slot;

pub mod declare;
pub mod stream_error;
pub mod streams;

mod address;
pub mod embedded;
mod embedded_config;
mod embedded_error;
pub mod orphan;

pub mod beats;
pub mod presence;
pub mod remotes;

pub mod commands;
pub mod downstreams;
pub mod micro;
pub mod request;
pub mod resources;
mod unique;

pub mod outbox;
pub mod queue;

pub mod dead_letter_watch;
pub mod dead_letters;

pub mod tasks;
