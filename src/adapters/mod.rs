//! How a downstream is reached: one folder for each kind, behind `ports::DownstreamConnector`.
//!
//! An adapter opens sessions and makes single attempts. It says what is known of a failed attempt
//! (never sent, unknown, throttled, failed, rejected) and nothing more: retries, limits, the
//! circuit and fallbacks are decided outside of it, the same for all kinds.
//!
//! Words: a *target* is the checked address of a downstream with what shows who we are; a *session*
//! is one connection, or for HTTP a pool of them; an *attempt* is one try of a call.

pub mod breaker;
pub mod call;
pub mod care;
pub mod handles;

#[cfg(any(feature = "mqtt", feature = "redis"))]
mod dial;
mod error;
mod message;
mod patience;
pub mod target;
pub mod tls;

mod connectors;
pub mod http;
pub mod json_rpc;
#[cfg(feature = "mqtt")]
pub mod mqtt;
pub mod nats;
#[cfg(feature = "otel")]
pub mod otlp;
#[cfg(feature = "redis")]
pub mod redis;
pub mod webhook;
pub mod websocket;

pub use crate::adapters::connectors::connector;
pub use crate::adapters::error::AdapterError;
