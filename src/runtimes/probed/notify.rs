//! The notify socket of one agent: where `sd_notify(3)` of its processes goes.
//!
//! The name is the same for every run of an agent and every daemon on one state folder, so that an
//! adopted run is heard again. A datagram counts only if it comes from the run: from a process of
//! its session, a descendant of its main process, or one that carries the agent's id in its
//! environment. Of a sender that is gone already only the user can be checked. Descriptors that
//! come along (the store of systemd) are closed.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{self as unix, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::logic::health::{NOTICE_BYTES_MAX, Notice};
use crate::protocol::id::AgentId;
use crate::protocol::spec::AgentSpec;
use crate::runtimes::keeper::proc;

/// Longest path of a unix socket, without the zero at its end.
const PATH_BYTES_MAX: usize = 107;

/// Descriptors of one datagram that are taken and closed; the kernel closes what is beyond.
const DESCRIPTORS_MAX: usize = 16;

/// Parents that are looked at on the way from a sender to the main process.
const PARENTS_MAX: usize = 64;

/// Datagrams that are taken at a time, before others get their turn.
const AT_A_TIME: u32 = 64;

/// Where an agent notifies to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotifyAddress {
    /// A file in the state folder.
    Path(PathBuf),
    /// A name without a file: for a path that would be too long, and for an agent that runs as
    /// another user, who cannot enter the state folder.
    Abstract(String),
}

impl NotifyAddress {
    /// The address of an agent, the same every time.
    #[must_use]
    pub fn of(agent: &AgentSpec, state_dir: &Path) -> Self {
        let path = state_dir.join("notify").join(agent.name.as_str());
        let own_user = agent.care.limits.user.is_none();
        if own_user && path.as_os_str().len() <= PATH_BYTES_MAX {
            return Self::Path(path);
        }
        Self::Abstract(format!("provost-{:016x}", hash(path.as_os_str().as_encoded_bytes())))
    }
}

impl fmt::Display for NotifyAddress {
    /// As `NOTIFY_SOCKET` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// FNV-1a: must give the same in every version, which the standard library's hash does not promise.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Why there is no notify socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on the notify socket {address}: {source}; check `state_dir` and the limit of open files"
)]
pub(super) struct NotifyError {
    address: NotifyAddress,
    source: io::Error,
}

/// A bound notify socket. Dropping it removes its file.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    address: NotifyAddress,
    mark: String,
    main: Option<i32>,
    taken: u32,
}

impl NotifySocket {
    /// Binds the socket of an agent; what was left of an earlier daemon is replaced.
    pub(super) fn bind(address: NotifyAddress, agent: AgentId) -> Result<Self, NotifyError> {
        let mark = format!("PROVOST_AGENT_ID={agent}");
        match bound(&address) {
            Ok(socket) => Ok(Self { socket, address, mark, main: None, taken: 0 }),
            Err(source) => Err(NotifyError { address, source }),
        }
    }

    /// From now on this run is listened to.
    pub(super) fn serves(&mut self, main: Option<u32>) {
        self.main = main.and_then(|pid| i32::try_from(pid).ok());
    }

    /// Waits for the next notice of the run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a datagram stays in the socket until it is returned.
    pub(super) async fn next(&mut self) -> Notice {
        loop {
            if AT_A_TIME <= self.taken {
                // A run that talks without end must not keep others from their turn.
                self.taken = 0;
                tokio::task::yield_now().await;
            }
            if self.socket.readable().await.is_err() {
                // The runtime shuts down.
                std::future::pending::<()>().await;
            }
            self.taken = self.taken.saturating_add(1);
            match self.socket.try_io(Interest::READABLE, || receive(&self.socket)) {
                Ok(Some(datagram)) if self.comes_from_the_run(&datagram) => {
                    return Notice::parse(&datagram.bytes);
                }
                Ok(Some(datagram)) => tracing::warn!(
                    socket = %self.address,
                    pid = datagram.sender.pid,
                    "notification of a process that is not of the run was ignored"
                ),
                Ok(None) => {
                    tracing::warn!(socket = %self.address, "notification was too long or anonymous");
                }
                // Nothing there after all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.taken = 0,
                Err(error) => {
                    tracing::warn!(socket = %self.address, error = %error, "cannot receive");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn comes_from_the_run(&self, datagram: &Datagram) -> bool {
        let Some(main) = self.main else { return false };
        let Sender { pid, user } = datagram.sender;
        if pid == main {
            return true;
        }
        let Some(stat) = proc::stat(pid) else {
            return is_own_user(user, main);
        };
        if stat.session == main || stat.group == main {
            return true;
        }
        let mut parent = stat.parent;
        for _ in 0..PARENTS_MAX {
            if parent == main {
                return true;
            }
            let Some(above) = proc::stat(parent) else { break };
            parent = above.parent;
        }
        proc::environment(pid).carries(std::slice::from_ref(&self.mark))
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if let NotifyAddress::Path(path) = &self.address {
            // Only tidying up: the next bind replaces what is there.
            std::fs::remove_file(path).ok();
        }
    }
}

/// Whether a sender that is gone was of the user that the run is of.
fn is_own_user(user: u32, main: i32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(format!("/proc/{main}")).is_ok_and(|metadata| metadata.uid() == user)
}

#[derive(Clone, Copy, Debug)]
struct Sender {
    pid: i32,
    user: u32,
}

#[derive(Debug)]
struct Datagram {
    bytes: Vec<u8>,
    sender: Sender,
}

fn bound(address: &NotifyAddress) -> io::Result<UnixDatagram> {
    let socket = match address {
        NotifyAddress::Path(path) => {
            if let Some(folder) = path.parent() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let socket = unix::UnixDatagram::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            socket
        }
        NotifyAddress::Abstract(name) => {
            unix::UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?
        }
    };
    socket.set_nonblocking(true)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    UnixDatagram::from_std(socket)
}

/// Takes one datagram; `None` for one that is too long or without a sender. Descriptors that came
/// with it are closed here.
fn receive(socket: &UnixDatagram) -> io::Result<Option<Datagram>> {
    let mut bytes = vec![0; NOTICE_BYTES_MAX];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    let mut sender = None;
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                sender = Some(Sender {
                    pid: credentials.pid.as_raw_nonzero().get(),
                    user: credentials.uid.as_raw(),
                });
            }
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.for_each(drop),
            _ => {}
        }
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    Ok(sender.map(|sender| Datagram { bytes, sender }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
