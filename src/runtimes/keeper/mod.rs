//! The keeper: a small helper process between the daemon and the agents' processes.
//!
//! Processes are not forked from the daemon: a fork of a large, threaded program is slow and
//! dangerous, and a subreaper inside an async runtime leaves zombies. So the daemon starts one
//! keeper (the same binary, hidden subcommand, no async runtime; one thread does everything, a second
//! one only rotates log files), and the keeper starts, watches, reaps and ends everything else.
//!
//! Words: a *run* is one execution of one command; its *main process* is what the command became;
//! a *stray* is a descendant that left the run's process group and was re-parented to the keeper.
//!
//! Inside the keeper: `helper` (start-up and event loop), `runs` (who lives, who ended), `spawn`,
//! `cgroup` (control groups), `logs` (rotation), `control` (the socket), `sys` (the only unsafe code). Inside the daemon:
//! `client` (launch and life), `link` (the two I/O threads), `handle` (one run), `service` (the
//! keeper as a child of the tree), `loss` (what is done when a keeper was killed). `wire` and
//! `proc` serve both.
//!
//! Promises, and their limits:
//! - A run's end is reported only when nothing of it is left, at most 2 s after its main process.
//! - Whatever belongs to a run dies with it: its process group and session; its descendants; and
//!   strays that left both, as long as they keep the environment entries named in
//!   [`ProcessRun::marks`]. A process that leaves group and session, is orphaned, and clears its
//!   environment lives until the keeper ends.
//! - Where control groups of version 2 can be used, each run has one (`cgroup`), and nothing but a
//!   process that may change groups, as root's may, leaves it.
//! - When the daemon dies, by whatever means, the keeper ends all runs within 7 s and exits; the
//!   next keeper waits for that. Adoption of living runs by the next daemon is not built yet: the
//!   wire is versioned for it.
//! - When the keeper is killed, the kernel kills the main processes (parent-death signal; it
//!   reaches direct children only, and not a program with set-user-id bits or file capabilities),
//!   and the daemon kills what is left of their sessions.
//! - A program on a file system that hangs blocks the keeper during its `exec`.

pub(crate) mod cgroup;
mod client;
mod control;
mod handle;
mod helper;
mod link;
mod logs;
mod loss;
pub(crate) mod proc;
mod runs;
mod service;
mod spawn;
mod sys;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

pub use crate::runtimes::keeper::client::{Keeper, KeeperError, KeeperLife, KeeperOptions};
pub use crate::runtimes::keeper::handle::{ProcessHandle, ProcessRun};
pub use crate::runtimes::keeper::service::{KeeperService, KeeperSlot};
pub use crate::runtimes::keeper::wire::{Confines, Hold, Identity, LogSettings, VERSION};

/// The hidden subcommand of the same binary.
pub const SUBCOMMAND: &str = "keeper";

/// Runs the keeper: the process behind the hidden subcommand.
///
/// Its arguments are the path of the lock file and the longest wait for it in milliseconds; its
/// standard input is the control socket.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    helper::main(arguments)
}
