//! The state folder as keeper and daemon use it: by an open descriptor, so that a path of any
//! length works for the socket, whose address holds 107 bytes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Socket on which a keeper waits for the next daemon.
pub(super) const SOCKET: &str = "keeper.sock";

/// Lock of the keeper; holds its process id.
pub(super) const LOCK: &str = "keeper.lock";

/// An open folder.
#[derive(Debug)]
pub(super) struct StateDir {
    folder: File,
}

impl StateDir {
    /// Opens a folder that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { folder: folder.into() })
    }

    /// A short path of a file in it, for this process alone.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()))
    }
}
