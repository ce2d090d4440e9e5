//! Our own NATS.

pub mod commands;
pub mod connect;
pub mod embedded;
pub mod outbox;
pub mod presence;
pub mod streams;
