//! All integration tests in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a failed assumption must fail the test"
)]

mod support;
mod tasks;

mod layers;
mod readme;
mod tidy;

mod ractor_facts;
mod web;
mod wire;

mod otp;
mod simulation;
mod supervision;

mod breaker;
mod config;

mod agents;
mod health;
mod keeper;

mod adapters;
mod commands;
mod connection;
mod embedded;
mod outbox;
mod presence;
mod streams;
mod work;

mod cases;
mod cli;
mod daemon;
mod downstreams;
mod examples;
mod stories;
