//! Stands where the library has its adapters.

pub(crate) mod breaker;
