//! provost: supervision for agents and services.

pub mod protocol;

pub mod logic;

pub mod board;
pub mod config;
pub mod metrics;
pub mod ports;

pub mod actors;
pub mod adapters;
pub mod runtimes;
pub mod transport;

pub mod cli;
pub mod daemon;
