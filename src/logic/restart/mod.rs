//! One supervisor: which children run, in which order they start and stop, and what happens when
//! one ends. OTP's `supervisor` exactly, when the policies are
//! [`RestartPolicy::OTP`](crate::protocol::spec::RestartPolicy::OTP); beyond it, backoff between
//! restarts and a circuit for each child.
//!
//! Words are OTP's. A *group operation* stops and starts several children one after another; while
//! it is under way every other input waits in the machine's own mailbox and is then handled in
//! order, as the mailbox of an Erlang supervisor would.
//!
//! The machine is told what happened ([`Input`]) and says what to do ([`Action`]). It never waits:
//! a `Start` is answered later by [`Input::Started`], a `Stop` by [`Input::Exited`].
//!
//! # What is OTP's
//! * An exit is judged by restart type; a restart is counted once per incident; the count includes
//!   each retry of a failed start; one too many ends the supervisor.
//! * A failed restart is retried at once, but behind everything that waits in the mailbox
//!   (`try_again_restart`); until then the child is *restarting* ([`Phase::Waiting`]).
//! * A group is stopped in reverse start order and started in start order. Members that died on
//!   their own before the group reached them are consumed by it.
//! * A failed start while the supervisor itself starts ends it; its parent sees a failed start.
//! * Temporary children are forgotten when they end; auto-shutdown; the calls and their refusals.
//!
//! # What differs from OTP
//! * A start or stop of one child holds back only what concerns that child, not the whole
//!   supervisor, because starting a process takes its time. [`Pace::OneAtATime`] is OTP's way.
//! * A supervisor that exceeds its limit ends with
//!   [`ChildExit::GaveUp`](crate::protocol::exit::ChildExit::GaveUp), which is abnormal for its
//!   parent. OTP ends with `shutdown`, so that a transient supervisor vanishes silently.
//! * Two faults of OTP's own are not copied: a dynamic child that answers `ignore` to its restart
//!   is forgotten, and terminating a restarting dynamic child leaves the counts right.
//!
//! # What goes beyond OTP
//! A child with a circuit spec follows these rules besides:
//! * Each automatic restart waits for a delay that grows with the failures in a row. Under
//!   one-for-all and rest-for-one the group is stopped at once and started when the delay is over;
//!   members that fail meanwhile join it.
//! * Over its own limit it goes where `on_exceeded` says: by default its circuit opens and it is
//!   quarantined, its siblings go on. A quarantined child is neither stopped nor started by its
//!   group; its trial concerns it alone.
//! * A child that is never stable exceeds its limit, too, with its failures in a row: one more than
//!   three times its intensity ([`IN_A_ROW_FACTOR`](crate::logic::circuit::IN_A_ROW_FACTOR)). So a
//!   crash loop that its own backoff, or a slow start, makes slower than the window is found, and
//!   goes where `on_exceeded` says. A stable run, a clean end and a stop on request end the row.
//! * It is judged stable after `stable_after` of healthy running; that ends its outage
//!   ([`Note::Recovered`]), resets its backoff and closes the circuit of a trial.
//! * A failed start at the supervisor's own start is handled like any failed start.
//! * A group restart does not bring back what was stopped on request or had finished.
//! * A throttled exit parks the child until the time it named; nothing is counted.
//! * An end that a rule has judged ([`crate::logic::exit_rules`]) leads where the rule says: a group
//!   restart whatever the strategy, a parking, the open circuit at once, a child that stays down, a
//!   supervisor that gives up.
//!
//! `types` has the interface, `machine` the mailbox and what drives it, `runs` one child's starts
//! and ends, `failure` the judgement, `judged` what rules about ends ask for, `group` the group operations, `pending` those that wait, `calls` what people ask for,
//! `change` other rules for what runs.

mod types;

mod machine;

mod calls;
mod change;
mod failure;
mod group;
mod judged;
mod pending;
mod runs;
mod stable;

mod child;
mod generations;
mod record;
mod views;

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod simulation;

pub use crate::logic::restart::generations::Generations;
pub use crate::logic::restart::machine::{Pace, Stage, Supervisor};
pub use crate::logic::restart::types::*;
pub use crate::logic::restart::views::Counts;
