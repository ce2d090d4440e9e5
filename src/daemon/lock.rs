//! One daemon per state folder: a lock file that names who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Name of the lock file in the state folder.
pub const LOCK: &str = "daemon.lock";

/// Why the state folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "state folder {folder:?} belongs to a running daemon ({holder}); stop it, or use another --state-dir"
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// What the other daemon wrote about itself.
        holder: String,
    },
    /// The folder cannot be used.
    #[error(
        "cannot use state folder {folder:?}: {source}; check that it exists and may be written"
    )]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// The lock on a state folder, given back on drop or when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the folder if it is missing (for its owner alone) and takes its lock.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] with the other daemon's pid and node; [`LockError::Io`].
    pub fn take(folder: &Path, node: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { folder: folder.to_owned(), source };
        make_folder(folder).map_err(failed)?;
        let path = folder.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                let holder = holder.trim().to_owned();
                return Err(LockError::Held { folder: folder.to_owned(), holder });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let text = format!("pid {}, node {node}\n", std::process::id());
        file.set_len(0).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("state");
        let first = StateLock::take(&place, "node-1").unwrap();
        let second = StateLock::take(&place, "node-2").unwrap_err().to_string();
        let expected = format!("pid {}, node node-1", std::process::id());
        assert!(second.contains(&expected), "{second}");
        drop(first);
        StateLock::take(&place, "node-2").unwrap();
    }
}
