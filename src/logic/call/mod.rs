//! A call of a downstream, as far as it is decided and not done: what may be repeated, which
//! answers are kept, when an outage begins and ends. Neither clock nor task; times are milliseconds
//! since an origin of the caller's choice, as in `logic::breaker`.

mod last_good;
mod outage;
mod repetition;

pub use last_good::{ENTRIES_MAX, ENTRY_BYTES_MAX, Kept, LastGood};
pub use outage::{Outage, Over, Up};
pub use repetition::{key_of, repetition};
