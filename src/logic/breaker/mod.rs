//! The circuit breaker of a downstream: which calls pass, and why not.
//!
//! Closed lets calls pass and judges their outcomes over a window; open rejects; half-open lets a
//! few probes pass and judges by them. Held open or closed by hand it judges nothing.
//!
//! - [`config`]: the rules, checked.
//! - [`outcome`]: what a call came to, and what that means for the account.
//! - [`counts`]: sums of a window, and the judgement on them.
//! - [`window`]: the account of one thread; `adapters::breaker` has one for many threads.
//! - [`control`]: states, permits, open times. It knows no window.
//! - [`machine`]: control and window together: the whole breaker for one thread.
//! - [`transition`]: a change of state with its evidence; [`record`] makes decision records of it.
//! - [`replay`]: what recorded calls would have led to under other rules.
//!
//! # Rules that others get wrong
//!
//! - A permit carries the generation it was granted in. Each change of state begins a generation; a
//!   result of an older one is *late*: it is counted as such and changes nothing.
//! - A permit that is given back without a result frees its slot and is neither success nor failure.
//! - Probes under way have a deadline: a probe that never answers does not hold the circuit.
//! - A rate is judged after each result. Old results that leave the window count as well: the next
//!   result, even a success, may be the one after which the rate is too high.
//! - A throttled call (429) counts in the error rate, never in the run of failures. If the service
//!   named a time, the circuit opens until then, and that opening does not make the next longer.
//!
//! Times are milliseconds since an origin of the caller's choice, so that a recorded log replays to
//! the millisecond and a handle keeps them in one atomic word.

pub mod config;
pub mod outcome;

pub mod counts;
pub mod window;

pub mod control;
pub mod machine;
pub mod transition;

pub mod record;
pub mod replay;

pub use config::{BreakerConfig, ConfigFault, Mode, Window};
pub use control::{Admission, Control, Force, Grant, Rejection, State};
pub use counts::Counts;
pub use machine::Machine;
pub use outcome::Outcome;
pub use transition::{Cause, Evidence, Transition};

#[cfg(test)]
mod behaviour;
