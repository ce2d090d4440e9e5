//! Where the next daemon comes in: a socket in the state folder, for its owner alone.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::fs::Mode;

use crate::runtimes::keeper::control::eprint;
use crate::runtimes::keeper::state_dir::{SOCKET, StateDir};

/// Connections taken in one go; more wait in the kernel.
const ACCEPT_MAX: usize = 8;

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Listens. The caller holds the keeper's lock, so a socket that is there is nobody's; and has
    /// no other thread yet, because the file mode mask is the whole process's.
    pub(super) fn open(state: &StateDir) -> io::Result<Self> {
        let path = state.path(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let bound = UnixListener::bind(&path);
        rustix::process::umask(before);
        let listener = bound?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Who has come and may come in.
    pub(super) fn answer(&self) -> Vec<UnixStream> {
        let come = (0..ACCEPT_MAX).map_while(|_| self.listener.accept().ok());
        come.filter_map(|(stream, _)| admit(stream)).collect()
    }

    /// What is polled for callers.
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // A file that stays is refused by the kernel and replaced by the next keeper.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Who has come, if they may come in.
fn admit(stream: UnixStream) -> Option<UnixStream> {
    let own = rustix::process::geteuid().as_raw();
    match rustix::net::sockopt::socket_peercred(&stream) {
        Ok(peer) if may_enter(peer.uid.as_raw(), own) => {
            return stream.set_nonblocking(true).is_ok().then_some(stream);
        }
        Ok(peer) => eprint(&format!(
            "process {} of user {} was turned away; only user {own} may connect",
            peer.pid.as_raw_nonzero(),
            peer.uid.as_raw(),
        )),
        Err(errno) => eprint(&format!("a peer without credentials was turned away: {errno}")),
    }
    None
}

/// Whether a process of user `peer` may command a keeper of user `own`: nobody but the same user,
/// not even the superuser, who can become that user.
pub(super) fn may_enter(peer: u32, own: u32) -> bool {
    peer == own
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_same_user_may_command() {
        assert!(may_enter(1000, 1000) && may_enter(0, 0));
        assert!(!may_enter(1001, 1000) && !may_enter(0, 1000) && !may_enter(1000, 0));
    }

    #[test]
    fn the_socket_is_its_owners_alone_and_works_under_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x".repeat(200));
        std::fs::create_dir(&folder).unwrap();
        let state = StateDir::open(&folder).unwrap();
        let door = Door::open(&state).unwrap();
        let mode = std::fs::metadata(folder.join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let _caller = UnixStream::connect(state.path(SOCKET)).unwrap();
        assert_eq!(door.answer().len(), 1);
        assert_eq!(door.answer().len(), 0);
        drop(door);
        assert!(!folder.join(SOCKET).exists());
    }
}
