//! What can be seen of a breaker.

use crate::logic::breaker::{Counts, State};

/// What a breaker did so far and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// Changes of state so far.
    pub generation: u64,
    /// The window.
    pub counts: Counts,
    /// Results that came after the state had changed.
    pub late: u64,
    /// Times it would have opened, had it been armed.
    pub would_have_opened: u64,
    /// Transitions that nobody took in time.
    pub transitions_missed: u64,
}
