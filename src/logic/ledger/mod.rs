//! The ledger: which tasks there are, where each stands, and what may run next.
//!
//! It never chooses an agent: it says which task is next ([`Ledger::next`]), somebody else says who
//! gets it ([`Ledger::assign`]). Every step of a task is a record that is written with compare and
//! set: the ledger gives the record ([`Step::Write`]) and takes no further step with the task until
//! it hears that the record is stored ([`Ledger::written`]), or what stands there instead
//! ([`Ledger::conflict`]). What happens to the task meanwhile waits in its inbox. So a decision is
//! always made on the last record, and the record's `previous` says so.
//!
//! # What comes next
//! Of the tasks that may run, the more urgent comes first; among equals the submitter that has had
//! less (fair share), and of one submitter the one that has waited longer. **No starvation**: a task
//! that has been ready for [`Policies::starve_after`] is not overtaken by any that became ready
//! after it, however urgent. Tasks with the same needs stand in one *lane*; a lane whose agents are
//! all busy holds up nobody else.
//!
//! # Broadcasts
//! A broadcast has one task for each agent that takes part, its *part*: given to that agent alone,
//! tried again like any other, with its own records and its own result. The broadcast itself is held
//! by nobody: its `assigned` record names the parts, and [`crate::logic::gather`] says when enough of
//! them have ended. What is under way then is cancelled.
//!
//! # What counts against a task
//! An attempt that the agent calls failed, that is silent for its lease, or whose agent crashes is
//! a failure. An attempt that ends because somebody stopped the agent, or that could not be
//! delivered, is none. A task that fails on [`Policies::poison_agents`] different agents is
//! *poison* and fails at once; an agent that fails [`Policies::sick_tasks`] different tasks in a
//! row, while others succeed, is *sick* and gets nothing for a while.
//!
//! `types` has the interface, `machine` the steps, `attempt` what happens to an attempt, `conflicts` what
//! follows when somebody else has written, `records`
//! writes the records, `gathering` has the broadcasts, `queue` orders what is ready, `limits` bounds types, `agents` tells sick
//! agents from poison tasks.

mod types;

mod machine;

mod agents;
mod attempt;
mod conflicts;
mod gathering;
mod limits;
mod queue;
mod records;
mod task;
mod views;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod gathering_cases;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use crate::logic::ledger::machine::Ledger;
pub use crate::logic::ledger::types::*;
