//! The keeper's system calls that the safe wrappers do not have. All unsafe code is here.
//!
//! Not for anything that rustix or std can do.

#![expect(
    unsafe_code,
    reason = "signalfd, waitid with pid, close_range, pidfd calls, clone3 and exec need it"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid, WaitOptions};

use crate::protocol::care::Privileges;
use crate::runtimes::keeper::wire::Identity;

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

/// Limit of open files that the keeper began with, once it has raised its own.
static OPEN_FILES_BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process open as many files as it may. Its children get the limit it began with: a
/// program that uses `select` breaks on a high one.
pub(super) fn raise_open_files() {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
        OPEN_FILES_BEFORE.get_or_init(|| before);
    }
}

/// What becomes of a process when the keeper dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bond {
    /// The kernel kills it.
    Dies,
    /// It lives on.
    Lives,
}

/// What a process is born with. All of it is made before the fork: after it nothing may allocate.
pub(super) struct Birth<'a> {
    /// Path of the program.
    pub(super) program: &'a CStr,
    pub(super) arguments: &'a Texts,
    pub(super) environment: &'a Texts,
    /// Standard input, output and error; all of them above 2.
    pub(super) files: [BorrowedFd<'a>; 3],
    /// Control group that it is born into.
    pub(super) group: Option<BorrowedFd<'a>>,
    /// Soft and hard limit alike.
    pub(super) limits: &'a [(Resource, u64)],
    pub(super) identity: Option<&'a Identity>,
    pub(super) privileges: Privileges,
    pub(super) umask: Option<Mode>,
    pub(super) bond: Bond,
    /// An open file of the keeper that it inherits.
    pub(super) inherited: Option<BorrowedFd<'a>>,
}

/// Texts as `execve` takes them.
pub(super) struct Texts {
    /// Ends with a null. Points into `_owned`, whose texts do not move.
    pointers: Vec<*const libc::c_char>,
    _owned: Vec<CString>,
}

impl Texts {
    pub(super) fn new(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|text| text.as_ptr());
        let pointers = pointers.chain([std::ptr::null()]).collect();
        Self { pointers, _owned: owned }
    }
}

/// At which step a birth failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// No process came to be.
    Fork,
    /// No process came to be, because of its control group.
    Group,
    /// Session, signals, files.
    Prepare,
    /// A limit; its place in the list.
    Limit(u8),
    /// User and groups.
    Identity,
    /// `no_new_privs`.
    Privileges,
    /// The program.
    Exec,
}

/// Number of a step on the way from the child to the keeper: limits from 0, the others from here.
const STEP_BASE: u8 = 200;

impl Step {
    fn number(self) -> u8 {
        match self {
            Self::Limit(place) => place,
            Self::Fork => STEP_BASE,
            Self::Group => STEP_BASE + 1,
            Self::Prepare => STEP_BASE + 2,
            Self::Identity => STEP_BASE + 3,
            Self::Privileges => STEP_BASE + 4,
            Self::Exec => STEP_BASE + 5,
        }
    }

    fn from_number(number: u8) -> Self {
        let others = [Self::Fork, Self::Group, Self::Prepare, Self::Identity, Self::Privileges];
        let found = others.into_iter().find(|step| step.number() == number);
        found.unwrap_or(if number < STEP_BASE { Self::Limit(number) } else { Self::Exec })
    }
}

/// Begins a process; returns once its program executes. Nothing is left of one that fails.
pub(super) fn give_birth(birth: &Birth<'_>) -> Result<Pid, (Step, io::Error)> {
    let keeper = rustix::process::getpid();
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (told, tells) = pipe.map_err(|errno| (Step::Fork, errno.into()))?;
    let pid = fork(birth.group, || {
        let (step, errno) = become_program(birth, keeper);
        let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
        // Nobody is left to be told if this fails.
        rustix::io::write(&tells, &[step.number(), a, b, c, d]).ok();
    })?;
    drop(tells);
    let mut answer = [0; 5];
    let length = loop {
        match rustix::io::read(&told, &mut answer) {
            Err(Errno::INTR) => {}
            read => break read.unwrap_or(0),
        }
    };
    let ([number, errno @ ..], 1..) = (answer, length) else { return Ok(pid) };
    // It has ended, or does so now; its number was given to nobody.
    rustix::process::waitpid(Some(pid), WaitOptions::empty()).ok();
    Err((Step::from_number(number), io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
}

/// The kernel's `clone_args`; zero means not used.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    _pidfd_and_tids: [u64; 3],
    exit_signal: u64,
    _stack_tls_and_set_tid: [u64; 5],
    cgroup: u64,
}

/// Forks, into a control group if one is given: by `clone3`, because moving a process into a group
/// afterwards takes the kernel 10 ms. The child does `child` and exits.
fn fork(group: Option<BorrowedFd<'_>>, child: impl FnOnce()) -> Result<Pid, (Step, io::Error)> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut arguments =
        CloneArgs { exit_signal: libc::SIGCHLD.cast_unsigned().into(), ..CloneArgs::default() };
    if let Some(group) = group {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: without CLONE_VM this is a fork. The structure is as long as it says. The child goes on
    // in a copy of this thread alone; it makes async-signal-safe system calls only, allocates nothing
    // and takes no lock, so what the keeper's other thread did at the fork does not matter, nor that
    // the C library was not told of the fork. `fork` is for kernels and filters without clone3.
    let pid = unsafe {
        let size = size_of::<CloneArgs>();
        match libc::syscall(libc::SYS_clone3, &raw const arguments, size) {
            -1 if group.is_none() => libc::fork().into(),
            pid => pid,
        }
    };
    if pid == 0 {
        child();
        // SAFETY: ends this process at once and runs nothing of the keeper's.
        unsafe { libc::_exit(127) };
    }
    i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(|| {
        let error = io::Error::last_os_error();
        // Too little memory or too many processes is not for want of a group.
        let common = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM));
        (if group.is_some() && !common { Step::Group } else { Step::Fork }, error)
    })
}

/// What is done between fork and exec; returns only when something fails.
fn become_program(birth: &Birth<'_>, keeper: Pid) -> (Step, Errno) {
    match prepare(birth, keeper) {
        Err(failed) => failed,
        Ok(()) => {
            // SAFETY: the program is a C string, both lists end with a null and point to C strings.
            unsafe {
                let arguments = birth.arguments.pointers.as_ptr();
                let environment = birth.environment.pointers.as_ptr();
                libc::execve(birth.program.as_ptr(), arguments, environment);
            }
            (Step::Exec, last_errno())
        }
    }
}

/// Own session and group, default signals, standard files, limits, then the user, which may not do
/// the former any more, and perhaps the end with the keeper, which a change of user takes back.
fn prepare(birth: &Birth<'_>, keeper: Pid) -> Result<(), (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    rustix::process::setsid().map_err(at(Step::Prepare))?;
    reset_signals().map_err(|error| (Step::Prepare, errno_of(&error)))?;
    for (number, file) in (0..).zip(birth.files) {
        // SAFETY: dup2 takes plain numbers; standard files have no owner in this process.
        if unsafe { libc::dup2(file.as_raw_fd(), number) } < 0 {
            return Err((Step::Prepare, last_errno()));
        }
    }
    if let Some(file) = birth.inherited {
        // Of this process alone: the keeper's own descriptor still closes on exec.
        rustix::io::fcntl_setfd(file, FdFlags::empty()).map_err(at(Step::Prepare))?;
    }
    if let Some(limit) = OPEN_FILES_BEFORE.get() {
        rustix::process::setrlimit(Resource::Nofile, *limit).map_err(at(Step::Prepare))?;
    }
    for (place, (resource, bound)) in (0..).zip(birth.limits) {
        let limit = Rlimit { current: Some(*bound), maximum: Some(*bound) };
        rustix::process::setrlimit(*resource, limit).map_err(at(Step::Limit(place)))?;
    }
    if let Some(identity) = birth.identity {
        take_identity(identity).map_err(at(Step::Identity))?;
    }
    if birth.privileges == Privileges::NoNew {
        rustix::thread::set_no_new_privs(true).map_err(at(Step::Privileges))?;
    }
    if birth.bond == Bond::Dies {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(at(Step::Prepare))?;
        if rustix::process::getppid() != Some(keeper) {
            // The keeper died before the line above: nobody would ever end this process.
            return Err((Step::Prepare, Errno::SRCH));
        }
    }
    if let Some(umask) = birth.umask {
        rustix::process::umask(umask);
    }
    Ok(())
}

/// Groups first, user last: each step takes away the right to the ones before it.
fn take_identity(identity: &Identity) -> Result<(), Errno> {
    let gid = Gid::from_raw(identity.gid);
    let uid = Uid::from_raw(identity.uid);
    // SAFETY: the list is as long as it says. By the bare call, for this thread, which is the only
    // one: the C library's would want to tell threads that were not forked.
    let set = unsafe {
        let groups = &identity.groups;
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())
    };
    if set < 0 {
        return Err(last_errno());
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn last_errno() -> Errno {
    errno_of(&io::Error::last_os_error())
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
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

/// Sends a signal to the whole process group that is led by the process behind a pidfd; fails with
/// EINVAL on kernels before 6.9.
pub(super) fn signal_group_of(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: plain numbers and a null pointer, which the call allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal.as_raw(),
            info,
            libc::PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's `struct pidfd_info` in its first form (Linux 6.13).
#[repr(C)]
#[derive(Debug, Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// The wait status of the process behind a pidfd, once it has been reaped by whoever is its
/// parent; none before, and on kernels before 6.15. The pidfd must be older than the reaping.
pub(super) fn reaped_status(pidfd: &OwnedFd) -> Option<i32> {
    const EXIT: u64 = libc::PIDFD_INFO_EXIT as u64;
    // _IOWR(0xFF, 11, struct pidfd_info) with its 64 bytes.
    const REQUEST: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;
    let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
    // SAFETY: the request carries the size of the structure, so the kernel writes no more than
    // that; the structure has no padding and every value of its fields is valid.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), REQUEST, &raw mut info) };
    (result == 0 && info.mask & EXIT != 0).then_some(info.exit_code)
}

/// Reads a wait status, as the kernel gives it outside of `wait`, too.
pub(super) fn exit_of(status: i32) -> Option<Result<i32, i32>> {
    if libc::WIFEXITED(status) {
        Some(Ok(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        Some(Err(libc::WTERMSIG(status)))
    } else {
        None
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
