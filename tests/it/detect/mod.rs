//! The detectors: how well they find what was put into simulated fleets, and how quiet they are
//! where there is nothing.

mod daemon;
mod fleet;
mod metrics;
mod quality;
mod recorded;
mod rules;
mod trace;
