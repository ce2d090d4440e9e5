//! Tasks on NATS: submissions, the log of each task, replies of remote agents, results, dead letters.
//!
//! # What is stored, and for how long
//! * A submission stays in `TASKS` until its task has ended and the result is stored; then it is
//!   acknowledged and gone. It is itself the record that the task was accepted. A full stream
//!   refuses new submissions; it never drops one.
//! * Every later step is a record on `coordination.log.<task_id>` in `TASK_LOG`, written with
//!   compare and set; then the result event. A task that goes well has four stored messages:
//!   submission, `assigned`, `completed`, result. Results and closed logs stay as long as
//!   `TASK_LOG` keeps them (30 days, 2 GB); so long is a task's id known, and the same id submitted
//!   again stands for the same task.
//! * Events about attempts on `coordination.events` are published without waiting; the log is what
//!   counts.
//!
//! # When an outcome is unknown
//! The same record is published again with the same expected sequence. If the first try was stored,
//! the server refuses the second, and what stands there is read back and known by its identity. The
//! terminal record carries the identity of the result event, and the event's subject takes one
//! message only, so that a result told again after a crash is the same event.

pub mod cancels;
pub mod feed;
pub mod journal;
pub mod messages;
pub mod reader;
pub mod replies;

/// Stream of submissions, without prefix.
pub const TASKS: &str = "TASKS";

/// Stream of the tasks' logs, without prefix.
pub const TASK_LOG: &str = "TASK_LOG";

/// Stream of what remote agents say, without prefix.
pub const REPLIES: &str = "REPLIES";

/// Stream of dead letters, without prefix.
pub const DEAD_LETTERS: &str = "DEAD_LETTERS";
