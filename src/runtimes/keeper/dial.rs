//! Finds the keeper that an earlier daemon left in the state folder.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::PidfdFlags;

use crate::runtimes::keeper::client::KeeperError;
use crate::runtimes::keeper::door;
use crate::runtimes::keeper::state_dir::{SOCKET, StateDir};

/// A keeper that answers.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) socket: UnixStream,
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
}

/// Connects to the keeper of a state folder; `None` when there is none.
pub(super) fn dial(state_dir: &Path) -> Result<Option<Living>, KeeperError> {
    let state = match StateDir::open(state_dir) {
        Ok(state) => state,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeeperError::StateDir { path: state_dir.to_owned(), source }),
    };
    let path = state.path(SOCKET);
    let socket = match UnixStream::connect(path) {
        Ok(socket) => socket,
        Err(error) => {
            let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            if nobody.contains(&error.kind()) {
                return Ok(None);
            }
            let path = state_dir.join(SOCKET);
            return Err(KeeperError::StateDir { path, source: error });
        }
    };
    let peer = rustix::net::sockopt::socket_peercred(&socket).map_err(io::Error::from)?;
    let own = rustix::process::geteuid().as_raw();
    if !door::may_enter(peer.uid.as_raw(), own) {
        let path = state_dir.join(SOCKET);
        return Err(KeeperError::Stranger { path, user: peer.uid.as_raw(), own });
    }
    // That it is this process is certain once it has answered something that is sent from now on.
    let Ok(pidfd) = rustix::process::pidfd_open(peer.pid, PidfdFlags::empty()) else {
        return Ok(None);
    };
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or_default();
    Ok(Some(Living { socket, pid, pidfd }))
}
