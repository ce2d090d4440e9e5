//! The keeper: a small helper process between the daemon and the agents' processes.
//!
//! Processes are not forked from the daemon: a fork of a large, threaded program is slow and
//! dangerous, and a subreaper inside an async runtime leaves zombies. So the daemon starts one
//! keeper (the same binary, hidden subcommand, no async runtime; one thread does everything, two
//! others only write and rotate log files), and the keeper starts, watches, reaps and ends everything else.
//!
//! Words: a *run* is one execution of one command; its *main process* is what the command became;
//! a *stray* is a descendant that left the run's process group and was re-parented to the keeper;
//! a run is *adopted* by a daemon, or taken over by a keeper, that did not begin it.
//!
//! Inside the keeper: `startup` (lock, door, what the last keeper left), `helper` (the loop), `runs`
//! (its children: who lives, who ended), `foreign` (runs of an earlier keeper), `book` and `journal`
//! (what the next daemon and the next keeper must know), `lease` (one lock for each child), `spawn`,
//! `cgroup` (control groups), `logs` and `growth` (rotation), `pipes`, `lines` and `appender` (output that the
//! keeper reads itself), `index` (what stands where in a log), `door` and `control` (sockets), `sys` (the only
//! unsafe code). Inside the daemon: `client` and `dial` (launch, find, life), `link` (the two I/O threads), `desk` (runs,
//! whichever keeper has them), `handle` (one run), `inbox` (what a stdio agent says), `history` (reads logs),
//! `service` (the keeper as a child of the tree). `wire`, `state_dir`, `loss` and `proc` serve both.
//!
//! # Who may die
//!
//! *The daemon is killed.* The keeper lives on. Runs that are to stop with the daemon are asked to,
//! and killed after their grace; the others go on, their logs are rotated, their ends remembered with
//! code or signal until a daemon acknowledges them. The next daemon, which has the state folder's lock by
//! then, connects to the socket in the folder (same user only), agrees on a version, gets
//! what stdio agents said and nobody took, then the inventory, and a start of a child whose run is in it gives that run. Without a daemon and without
//! living runs the keeper ends after 5 s; what it remembers stays in the journal.
//!
//! *The keeper is killed.* Runs that are to stop with the daemon die with it (parent-death signal: it
//! reaches direct children only, and not a program with set-user-id bits or file capabilities; the
//! daemon kills what is left of their sessions), and so do runs with pipes. The others live on. The
//! next keeper finds them by the journal: same boot, same pid and start time, leader of a session,
//! no other run's marks. It signals them through pidfds only.
//!
//! *Both are killed.* As the one after the other.
//!
//! *SIGTERM of daemon or keeper* ends all runs, whatever their setting.
//!
//! # Promises, and their limits
//!
//! - A run's end is reported only when nothing of it is left, at most 2 s after its main process.
//! - Whatever belongs to a run dies with it: its process group and session; its descendants; and
//!   strays that left both, as long as they keep the environment entries named in
//!   [`ProcessRun::marks`]. A process that leaves group and session, is orphaned, and clears its
//!   environment lives until the keeper ends. Of a run that was taken over, orphans do not come to the
//!   keeper: they are found by session, group and marks ([`ProcessHandle::containment`] says which).
//! - Where control groups of version 2 can be used, each run has one (`cgroup`), and nothing but a
//!   process that may change groups, as root's may, leaves it. It stays the run's when the keeper dies.
//! - Never two lives of one child: its process inherits a lock, and the next run begins only when
//!   nothing has the lock any more, even if journal and memory are lost. Whoever holds it then is ended.
//! - A taken-over run's exit code is known if its process ended after the next keeper had come; or
//!   before, if the daemon that lost its own child, the keeper, was alive (it inherits the orphans and
//!   reaps them late). Else, and on Linux before 6.15 where the new parent reaps at once, only that
//!   it ended is known: [`ChildExit::Lost`]. So an end between the death of both and the next daemon
//!   is without a code.
//! - An end that was handed to the agent's actor and not yet spooled as an event when the daemon is
//!   killed is not told again.
//! - A start that a keeper did not live to finish is killed by its marks.
//! - A program on a file system that hangs blocks the keeper during its `exec`.
//! - If the state folder cannot be written, supervision goes on, and the keeper's death ends its runs
//!   as their locks are found taken.
//!
//! [`ChildExit::Lost`]: crate::protocol::exit::ChildExit::Lost

mod appender;
mod book;
pub(crate) mod cgroup;
mod client;
mod control;
mod desk;
mod dial;
mod door;
mod foreign;
mod growth;
mod handle;
mod helper;
pub mod history;
mod inbox;
pub mod index;
mod journal;
mod lease;
mod lines;
mod link;
mod logs;
mod loss;
mod pipes;
pub(crate) mod proc;
mod runs;
mod service;
mod spawn;
mod startup;
mod state_dir;
mod sys;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

pub use crate::runtimes::keeper::client::{Keeper, KeeperError, KeeperLife, KeeperOptions};
pub use crate::runtimes::keeper::handle::{ProcessHandle, ProcessRun};
pub use crate::runtimes::keeper::inbox::{LinesLogged, Stdio};
pub use crate::runtimes::keeper::service::{KeeperService, KeeperSlot, Launched};
pub use crate::runtimes::keeper::wire::{
    Confines, Hold, Identity, IoMode, LogSettings, Owner, VERSION, VERSION_MIN,
};

/// The hidden subcommand of the same binary.
pub const SUBCOMMAND: &str = "keeper";

/// Runs the keeper: the process behind the hidden subcommand.
///
/// Its arguments are the state folder and the longest wait for the lock in it in milliseconds; its
/// standard input is the first control socket.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    helper::main(arguments)
}
