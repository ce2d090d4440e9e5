//! The keeper's system calls that the safe wrappers do not have. All unsafe code is here.
//!
//! Not for anything that rustix or std can do.

#![expect(unsafe_code, reason = "signalfd, waitid with pid, close_range and pre_exec need it")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Pid, Signal};

/// Closes all files above standard error that were inherited.
///
/// To be called before anything is opened: whatever the daemon's libraries left inheritable must
/// not reach the agents.
pub(super) fn close_inherited_files() {
    // SAFETY: close_range takes plain numbers. The caller has opened no file yet, so no owner of a
    // descriptor above 2 exists in this process.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Blocks all signals and gives a non-blocking descriptor that tells SIGCHLD and SIGTERM.
///
/// Blocked signals (SIGINT, SIGHUP, SIGPIPE among them) do nothing to this process; children get
/// an empty mask.
pub(super) fn block_signals() -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut told = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the sets are initialised by sigfillset and sigemptyset before they are used; all
    // pointers are valid for the calls; the descriptor is fresh and owned by nobody else.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigemptyset(told.as_mut_ptr());
        libc::sigaddset(told.as_mut_ptr(), libc::SIGCHLD);
        libc::sigaddset(told.as_mut_ptr(), libc::SIGTERM);
        check(libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()))?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let fd = check(libc::signalfd(-1, told.as_ptr(), flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Names a child that has ended, without reaping it: its pid stays taken until it is waited for.
pub(super) fn peek_ended() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is zeroed, which is a valid siginfo_t, and the kernel fills it; si_pid is
    // meaningful after waitid, and zero if no child has ended.
    let pid = unsafe {
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) != 0 {
            return None;
        }
        info.assume_init().si_pid()
    };
    Pid::from_raw(pid)
}

/// What is done between fork and exec: own session and group, default signals, an end with the
/// keeper, the file mode mask.
pub(super) fn prepare_child(command: &mut Command, umask: Option<Mode>) {
    let keeper = rustix::process::getpid();
    let prepare = move || {
        rustix::process::setsid()?;
        reset_signals()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(keeper) {
            // The keeper died before the line above: nobody would ever end this process.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(umask) = umask {
            rustix::process::umask(umask);
        }
        Ok(())
    };
    // SAFETY: the closure makes async-signal-safe system calls only, allocates nothing and takes no
    // lock, so what the keeper's other thread did at the fork does not matter.
    unsafe { command.pre_exec(prepare) };
}

/// Default dispositions for all signals, then an empty mask, in this order.
fn reset_signals() -> io::Result<()> {
    // The kernel's own structure, all zero: default handler, no flags, empty mask. By the bare system
    // call, because the C library refuses two numbers that it keeps for itself, and these may have
    // been inherited as ignored, too.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    let nothing = std::ptr::null_mut::<u64>();
    // SAFETY: DEFAULT is as long as the kernel's structure on every 64-bit Linux, and valid there;
    // nothing is written back. The set is initialised by sigemptyset before it is used. For SIGKILL
    // and SIGSTOP the call fails, harmlessly.
    unsafe {
        for number in 1..=64_i32 {
            libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), nothing, MASK_BYTES);
        }
        libc::sigemptyset(none.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()))?;
    }
    Ok(())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
