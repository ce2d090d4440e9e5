//! What goes into a supervisor machine and what comes out of it: inputs, calls, actions, notes, views.
//!
//! Types only. What they mean for each other is told on the page of [`crate::logic::restart`].

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::command::CircuitSet;
use crate::protocol::decision::DecisionRecord;
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{ChildSpec, Shutdown, SupervisorSpec};
use crate::protocol::status::CircuitState;

/// Tells the calls of one supervisor apart; chosen by the caller.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Starts all children in order; the first input of a machine's life.
    Init,
    /// The parent orders this supervisor to stop; it ends with [`Action::Ended`].
    Shutdown,
    /// A start that the machine asked for has ended so.
    Started {
        /// The child.
        child: ChildName,
        /// Its run.
        generation: Generation,
        /// How it went.
        outcome: StartOutcome,
    },
    /// A run has ended: by itself, or because the machine asked for a stop. It is told only when
    /// nothing of the run is left.
    Exited {
        /// The child.
        child: ChildName,
        /// Its run.
        generation: Generation,
        /// How it ended.
        exit: ChildExit,
    },
    /// A child's health changed: its stable time starts or is interrupted.
    Health {
        /// The child.
        child: ChildName,
        /// Its run.
        generation: Generation,
        /// Whether it is healthy now. A started child counts as healthy until told otherwise.
        healthy: bool,
    },
    /// Somebody asks for something.
    Call {
        /// To be given back in [`Action::Reply`].
        call: CallId,
        /// What.
        request: Call,
    },
}

/// How a start went.
#[derive(Clone, Debug, PartialEq)]
pub enum StartOutcome {
    /// The child runs.
    Up,
    /// The start function said `ignore`: there is nothing to run.
    Ignored,
    /// It failed.
    Failed(StartError),
}

/// Run-time calls: OTP's, and the circuit's.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Adds a child and starts it (for `simple_one_for_one`: an instance).
    StartChild(ChildSpec),
    /// Stops a child; its spec stays, except a temporary one's.
    TerminateChild(ChildName),
    /// Starts a child that is down. In quarantine, backoff or parking it starts at once.
    RestartChild(ChildName),
    /// Forgets a child that is down.
    DeleteChild(ChildName),
    /// Stops a running child and starts it again, uncounted; starts one that is down.
    BounceChild(ChildName),
    /// Clears a child's restart account and closes its circuit; a quarantined child starts.
    ResetChild(ChildName),
    /// Sets a child's circuit by hand.
    SetCircuit(ChildName, CircuitSet),
    /// Adds a child as one that was there from the beginning: a start that fails is judged by its
    /// own rules. Answered before it is up.
    IntroduceChild(ChildSpec),
    /// Gives a child other rules; its run and its account stay.
    ReconfigureChild(ChildSpec),
    /// Gives the supervisor itself other rules; its children and its account stay.
    Reconfigure(SupervisorSpec),
    /// Holds all new starts (restarts, trials); what runs goes on.
    Pause,
    /// Takes a pause back.
    Resume,
}

/// The answer to a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Done, and the child runs where that was asked.
    Ok,
    /// Done, but the start function said `ignore`.
    Undefined,
    /// Refused or failed.
    Refused(Refusal),
}

/// Why a call was refused; OTP's words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No child of that name.
    #[error("no such child")]
    NotFound,
    /// The child runs already.
    #[error("already started")]
    AlreadyStarted,
    /// A child of that name exists and is down.
    #[error("already present")]
    AlreadyPresent,
    /// The child runs.
    #[error("running")]
    Running,
    /// The child waits for its restart.
    #[error("restarting")]
    Restarting,
    /// The call does not exist for `simple_one_for_one`.
    #[error("not possible under simple_one_for_one")]
    SimpleOneForOne,
    /// The spec contradicts itself or the supervisor.
    #[error("{0}")]
    BadSpec(SpecFault),
    /// The start failed.
    #[error("start failed: {0}")]
    StartFailed(StartError),
    /// The supervisor is on its way down.
    #[error("supervisor is shutting down")]
    ShuttingDown,
    /// The circuit is not there to be set: the child has none.
    #[error("the child has no circuit")]
    NoCircuit,
}

/// Contradictions in specs, as OTP checks them before anything starts.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpecFault {
    /// Two children of one name.
    #[error("duplicate child name {0}")]
    DuplicateChildName(ChildName),
    /// `significant` needs an auto-shutdown other than `never`.
    #[error("a significant child needs auto_shutdown any_significant or all_significant")]
    SignificantWithoutAutoShutdown,
    /// `significant` contradicts `permanent`.
    #[error("a permanent child cannot be significant: it is always restarted")]
    SignificantPermanent,
    /// `simple_one_for_one` takes exactly one template.
    #[error("simple_one_for_one takes exactly one child as its template; {0} were given")]
    NotOneTemplate(usize),
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Action {
    /// Start the child; answer with [`Input::Started`].
    Start {
        /// The child.
        child: ChildName,
        /// The run to begin; never used before.
        generation: Generation,
        /// Whether it is a trial of a half-open circuit.
        trial: Trial,
    },
    /// Stop the child; answer with [`Input::Exited`].
    Stop {
        /// The child.
        child: ChildName,
        /// The run.
        generation: Generation,
        /// How.
        shutdown: Shutdown,
    },
    /// Answer a call.
    Reply {
        /// Which.
        call: CallId,
        /// The answer.
        reply: Reply,
    },
    /// Something happened that people, events or logs want to know.
    Note(Box<Note>),
    /// `Init` is complete: every child was started, or its failed start is handled by its own
    /// policy. Said exactly once in a machine's life, and never when `Init` fails (then `Ended`).
    Ready,
    /// All children are down and this supervisor is at its end; nothing follows.
    Ended {
        /// How, as its parent sees it.
        exit: ChildExit,
        /// Whether the whole tree shall stop (`on_exceeded = "stop_tree"`).
        scope: EndScope,
    },
}

/// Whether a run is a trial.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trial {
    /// An ordinary run.
    Ordinary,
    /// The trial of a half-open circuit.
    Trial,
}

/// How far an end reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndScope {
    /// This supervisor; its parent decides on.
    Supervisor,
    /// The whole tree.
    Tree,
}

/// What happened to one child, with the record of the decision where one was taken.
///
/// Notes come in causal order. Phase changes are not noted: the shell compares
/// `Supervisor::child` before and after.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A run ended abnormally, or a permanent child's ended at all (OTP: `child_terminated`).
    ChildTerminated {
        /// The child.
        child: ChildName,
        /// The run that ended.
        generation: Generation,
        /// How.
        exit: ChildExit,
        /// What was decided.
        record: DecisionRecord,
    },
    /// A run ended cleanly and the child stays down.
    ChildFinished {
        /// The child.
        child: ChildName,
        /// The run that ended.
        generation: Generation,
        /// How.
        exit: ChildExit,
        /// What was decided.
        record: DecisionRecord,
    },
    /// A start failed (OTP: `start_error`).
    StartFailed {
        /// The child.
        child: ChildName,
        /// The run that did not begin.
        generation: Generation,
        /// Why.
        error: StartError,
        /// What was decided.
        record: DecisionRecord,
    },
    /// A child that was being stopped ended otherwise than asked (OTP: `shutdown_error`).
    ShutdownError {
        /// The child.
        child: ChildName,
        /// The run.
        generation: Generation,
        /// How it ended.
        exit: ChildExit,
    },
    /// A child's circuit changed.
    Circuit {
        /// The child.
        child: ChildName,
        /// State before.
        from: CircuitState,
        /// State after.
        to: CircuitState,
        /// Why, with the evidence in `inputs` and the open time in `next`.
        record: DecisionRecord,
    },
    /// A child that had failed ran healthily for `stable_after`: the outage is over.
    Recovered {
        /// The child.
        child: ChildName,
        /// The run that is stable.
        generation: Generation,
        /// When the first failure of the outage was seen.
        since: Instant,
        /// Restarts and trials since then.
        attempts: u64,
        /// What was decided.
        record: DecisionRecord,
    },
    /// A sibling is stopped and started again with a failed child.
    GroupRestart {
        /// The child that failed.
        cause: ChildName,
        /// The children that are restarted with it, in start order.
        members: Vec<ChildName>,
        /// What was decided.
        record: DecisionRecord,
    },
    /// The supervisor gives up or ends by auto-shutdown (OTP: `shutdown`).
    GivingUp {
        /// The child on whose account.
        child: ChildName,
        /// What was decided.
        record: DecisionRecord,
    },
}

/// What readers may know of a child; states are made of it in `logic::lifecycle`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildView {
    /// Its spec.
    pub spec: Arc<ChildSpec>,
    /// Where it stands.
    pub phase: Phase,
    /// Its present or last run.
    pub generation: Generation,
    /// Restarts (starts after an exit, trials included) since it was made or reset.
    pub restarts: u64,
    /// State of its circuit.
    pub circuit: CircuitState,
    /// When the first failure of its present outage was seen, if it is in one.
    pub outage: Option<Instant>,
}

/// Where a child stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Never started.
    Created,
    /// A start is under way.
    Starting(Trial),
    /// It runs.
    Up(Trial),
    /// It was asked to stop.
    Stopping,
    /// It waits for its restart until then (OTP: `restarting`).
    Waiting(Instant),
    /// Its circuit is open; `None` when held open by hand.
    Quarantined(Option<Instant>),
    /// It is throttled until then.
    Parked(Instant),
    /// It is down: stopped on request, or `ignore`d (OTP: `undefined`).
    Stopped,
    /// It is down because its run ended and the rules leave it so (OTP: `undefined`).
    Finished,
}
