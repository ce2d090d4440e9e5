//! A `nats-server` that outlived the daemon that started it.
//!
//! Two servers on one store both start and damage it, so before a start we look for one that
//! still runs there. It is recognised by its process id and by our configuration file among its
//! arguments, so a stranger that was given the same id is never touched.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

/// How often an ending server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// Time that a server has to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// A server that still runs on a store.
#[derive(Debug)]
pub struct Orphan {
    pid: u32,
    process: OwnedFd,
}

/// Finds the server that runs with the configuration in this folder.
pub(crate) fn find(folder: &Path) -> Option<Orphan> {
    let text = fs::read_to_string(folder.join("server.pid")).ok()?;
    let pid = text.trim().parse::<i32>().ok().and_then(Pid::from_raw)?;
    // The handle first, then the look: what was looked at is what the handle means.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let config = folder.join("nats.conf");
    let config = config.to_str()?.as_bytes();
    let ours = arguments.split(|byte| *byte == 0).any(|argument| argument == config);
    let pid = u32::try_from(pid.as_raw_nonzero().get()).ok()?;
    ours.then_some(Orphan { pid, process })
}

impl Orphan {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it: asked first, killed after five seconds; returns when it is gone or cannot be
    /// ended.
    pub async fn end(self) {
        self.signal(Signal::TERM);
        let kill_at = Instant::now() + GRACE;
        let give_up_at = kill_at + GRACE;
        let mut killed = false;
        while !self.is_gone() && Instant::now() < give_up_at {
            if !killed && kill_at <= Instant::now() {
                self.signal(Signal::KILL);
                killed = true;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(&self.process, signal) {
            tracing::debug!(error = %error, pid = self.pid, "the old nats-server took no signal");
        }
    }

    /// A process that has ended makes its handle readable, reaped or not.
    fn is_gone(&self) -> bool {
        let mut handles = [rustix::event::PollFd::new(&self.process, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut handles, Some(&now)).is_ok_and(|ready| 0 < ready)
    }
}
