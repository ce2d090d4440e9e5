//! Every type that leaves the process: identifiers, subjects, events, commands, specs, status.
//!
//! Not for behaviour: nothing here decides, waits, reads a clock or touches the outside. The wire
//! itself (subjects, JSON, names) is fixed by these types and by the golden tests beside them.
//!
//! Words: an *envelope* is one CloudEvents document; a *fact* is its typed `data`; a *decision
//! record* answers why something was done.

pub mod id;

pub mod care;
pub mod exit;
pub mod spec;

pub mod decision;
pub mod event;
pub mod fact;
pub mod subject;

pub mod agent;
pub mod command;
pub mod dead_letter;
pub mod downstream;
pub mod insight;
pub mod reload;
pub mod resource;
pub mod route;
pub mod shown;
pub mod status;
pub mod task;
pub mod task_fact;
pub mod task_record;
pub mod trace;
