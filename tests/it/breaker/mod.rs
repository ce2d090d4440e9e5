//! The circuit breaker of downstreams, from outside: traces in virtual time, the machine against a
//! simple model, the handle that many threads share.
//!
//! `cases.md` says which cases of other breakers hold here, and by which test.

#[path = "../../../examples/support/breaker_words.rs"]
mod breaker_words;

mod cases;
mod probes;
mod program;
mod reference;
mod shared;
mod threads;
mod traces;
