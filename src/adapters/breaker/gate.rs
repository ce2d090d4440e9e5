//! The word that tells every call where the circuit stands, and in which generation.

use crate::logic::breaker::{Control, Mode, State};

/// The word of state and generation, as it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gate(pub(crate) u64);

/// What the gate does, in its lowest bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Closed,
    ForcedClosed,
    Disabled,
    Open,
    HalfOpen,
    ForcedOpen,
    /// A new generation begins and its window is not empty yet: who wants to pass asks the lock.
    Turning,
}

const KIND_BITS: u32 = 4;
const TIMED: u64 = 8;

impl Gate {
    /// The word for where a control stands.
    pub(crate) fn new(control: &Control) -> Self {
        let config = control.config();
        let kind = match control.state() {
            State::Closed | State::ForcedClosed if config.mode == Mode::Disabled => 2,
            State::Closed => 0,
            State::ForcedClosed => 1,
            State::Open { .. } => 3,
            State::HalfOpen { .. } => 4,
            State::ForcedOpen => 5,
        };
        let timed = config.slow_call.is_some() && config.mode != Mode::Disabled;
        let timed = if timed { TIMED } else { 0 };
        Self(control.generation() << KIND_BITS | timed | kind)
    }

    /// The same generation while its window is being emptied.
    pub(crate) fn turning(self) -> Self {
        Self(self.0 >> KIND_BITS << KIND_BITS | 6)
    }

    /// What the gate does.
    pub(crate) fn kind(self) -> Kind {
        match self.0 & 7 {
            0 => Kind::Closed,
            1 => Kind::ForcedClosed,
            2 => Kind::Disabled,
            3 => Kind::Open,
            4 => Kind::HalfOpen,
            5 => Kind::ForcedOpen,
            _ => Kind::Turning,
        }
    }

    /// Whether a call passes without being a probe.
    #[inline]
    pub(crate) fn passes(self) -> bool {
        self.0 & 7 < 3
    }

    /// Whether the time of a call matters.
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    /// The generation it was read in.
    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0 >> KIND_BITS
    }
}
