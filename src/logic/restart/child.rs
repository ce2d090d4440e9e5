//! What the machine keeps of one child.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::logic::circuit::Circuit;
use crate::logic::restart::machine::Mail;
use crate::logic::restart::types::{CallId, ChildView, Phase};
use crate::protocol::exit::ChildExit;
use crate::protocol::id::Generation;
use crate::protocol::spec::{ChildSpec, RestartType, Shutdown};
use crate::protocol::status::CircuitState;

/// A child's place in the start order. It is never given to another child.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place(pub(super) u64);

/// What the start or stop under way is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Task {
    /// Nothing is under way.
    None,
    /// A start.
    Start(StartFor),
    /// A stop of a run.
    Stop(StopFor),
    /// A start that was cut short: it is being stopped before it was up.
    Cut(StopFor),
}

/// What a start is for: it decides what a failure means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StartFor {
    /// `start_child`: a failure leaves no child.
    Addition,
    /// A start of a child that was down on request: a failure leaves it so.
    Request,
    /// A restart, a trial, a start after reset: a failure is judged.
    Policy,
    /// The group operation that is under way.
    Group,
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StopFor {
    /// The child stays down.
    Rest,
    /// It is started again.
    Bounce,
    /// Its circuit is held open.
    Quarantine,
    /// The group operation goes on.
    Group,
}

/// Who starts a waiting child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Retry {
    /// Nobody: it does not wait.
    None,
    /// A `try_again` in the mailbox: OTP's `restarting`.
    Queued,
    /// Its own timer.
    Timed,
    /// The group restart that is pending.
    Tied,
    /// Its time has come, but starts are paused.
    Held,
}

/// Whether the child is healthy; its stable time runs only then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Health {
    Healthy,
    Unhealthy,
}

impl From<bool> for Health {
    fn from(healthy: bool) -> Self {
        if healthy { Self::Healthy } else { Self::Unhealthy }
    }
}

/// Whether its siblings were restarted on its account since it was stable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Siblings {
    Untouched,
    Restarted,
}

/// The time from a child's first failure until it is stable again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outage {
    pub(super) since: Instant,
    pub(super) attempts: u64,
}

/// One child.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) spec: Arc<ChildSpec>,
    pub(super) phase: Phase,
    pub(super) task: Task,
    pub(super) retry: Retry,
    pub(super) generation: Generation,
    /// Starts asked for; the first is no restart.
    pub(super) starts: u64,
    pub(super) restarts: u64,
    /// Boxed: a child by OTP's rules has none.
    pub(super) circuit: Option<Box<Circuit>>,
    /// Failures in a row, which the backoff grows with.
    pub(super) failures: u32,
    pub(super) outage: Option<Outage>,
    pub(super) siblings: Siblings,
    pub(super) health: Health,
    /// How the present run ended, as long as that waits in the mailbox.
    pub(super) gone: Option<ChildExit>,
    /// Calls that are answered when the task is done.
    pub(super) callers: Vec<CallId>,
    /// What concerns this child and waits for its task.
    pub(super) waiting: VecDeque<Mail>,
    /// When its timer rings, and which setting of it is the valid one.
    pub(super) timer: Option<Instant>,
    pub(super) timer_token: u64,
}

impl Child {
    pub(super) fn new(spec: Arc<ChildSpec>, generation: Generation) -> Self {
        let circuit = spec.policy.circuit.map(|circuit| Box::new(Circuit::new(circuit)));
        Self {
            spec,
            phase: Phase::Created,
            task: Task::None,
            retry: Retry::None,
            generation,
            starts: 0,
            restarts: 0,
            circuit,
            failures: 0,
            outage: None,
            siblings: Siblings::Untouched,
            health: Health::Healthy,
            gone: None,
            callers: Vec::new(),
            waiting: VecDeque::new(),
            timer: None,
            timer_token: 0,
        }
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.spec.restart == RestartType::Temporary
    }

    /// Whether it is restarted at once, as by OTP; it never waits for a delay of its own.
    pub(super) fn is_plain(&self) -> bool {
        self.circuit.is_none() && self.spec.policy.backoff.initial.is_zero()
    }

    /// Whether OTP's rules decide whether it is restarted.
    pub(super) fn is_otp(&self) -> bool {
        self.circuit.is_none()
    }

    /// Whether a start or stop is under way.
    pub(super) fn is_busy(&self) -> bool {
        match self.task {
            Task::None => false,
            Task::Start(_) | Task::Stop(_) | Task::Cut(_) => true,
        }
    }

    /// What went wrong before is over: it was stopped on request, or its work is done.
    pub(super) fn end_outage(&mut self) {
        self.outage = None;
        self.failures = 0;
        self.siblings = Siblings::Untouched;
    }

    /// Whether there is a run (OTP: it has a pid).
    pub(super) fn is_active(&self) -> bool {
        match self.phase {
            Phase::Up(_) | Phase::Stopping => true,
            Phase::Starting(_)
            | Phase::Created
            | Phase::Waiting(_)
            | Phase::Quarantined(_)
            | Phase::Parked(_)
            | Phase::Stopped
            | Phase::Finished => false,
        }
    }

    /// Whether there is a run, or one on its way up.
    pub(super) fn has_begun(&self) -> bool {
        self.is_active() || matches!(self.phase, Phase::Starting(_))
    }

    /// Whether OTP's group restart starts it, although it was stopped or had finished.
    pub(super) fn comes_back(&self) -> bool {
        self.is_otp() && matches!(self.phase, Phase::Stopped | Phase::Finished)
    }

    pub(super) fn circuit_state(&self) -> CircuitState {
        self.circuit.as_deref().map_or(CircuitState::Closed, Circuit::state)
    }

    /// How a run ends that does as it is told.
    pub(super) fn asked_exit(&self) -> ChildExit {
        match self.spec.shutdown {
            Shutdown::BrutalKill => ChildExit::Killed,
            Shutdown::Timeout(_) | Shutdown::Infinity => ChildExit::Stopped,
        }
    }

    /// Whether OTP reports this end of a stopped run as nothing unusual.
    pub(super) fn expects(&self, exit: &ChildExit) -> bool {
        *exit == self.asked_exit()
            || (self.spec.restart != RestartType::Permanent && exit.is_clean())
    }

    pub(super) fn view(&self) -> ChildView {
        ChildView {
            spec: Arc::clone(&self.spec),
            phase: self.phase,
            generation: self.generation,
            restarts: self.restarts,
            circuit: self.circuit_state(),
            outage: self.outage.map(|outage| outage.since),
        }
    }
}
