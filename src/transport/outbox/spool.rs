//! The spool file: opened, locked, appended to, rewritten.
//!
//! Only the writer thread uses it; all calls block. Not for what the bytes mean (`record`) nor for
//! what is written when (`writer`).
//!
//! The folder holds `events.spool` (the file), `events.spool.new` (only while the file is being
//! rewritten) and `lock` (held by the process that uses the folder). A file is rewritten when more
//! than half of it, and more than a MiB, is settled; so it is never longer than twice the bound in
//! bytes and a MiB, plus the same again while it is being rewritten.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::transport::outbox::OutboxError;
use crate::transport::outbox::entry::{Event, Marks};
use crate::transport::outbox::record::{self, Scan};

/// Settled bytes that a file may hold before it is rewritten.
const REWRITE_SLACK_BYTES: u64 = 1 << 20;

/// Bytes collected before they are written.
const CHUNK_BYTES: usize = 1 << 18;

/// Length of the header.
const HEADER_BYTES: u64 = 8;

const FILE_NAME: &str = "events.spool";
const NEW_FILE_NAME: &str = "events.spool.new";
const LOCK_NAME: &str = "lock";

/// The folder of the spool in the state folder.
pub const SPOOL_FOLDER: &str = "outbox";

/// Events in the spool of a folder that nobody uses now which were not acknowledged; `None` where
/// there is no spool that can be read. The file is only read.
#[must_use]
pub fn waiting_in(folder: &Path) -> Option<usize> {
    let bytes = fs::read(folder.join(FILE_NAME)).ok()?;
    let recovered = record::scan(&bytes).ok()?.recovered;
    let waits = |event: &&Event| recovered.marks.cursor < event.seq;
    Some(recovered.events.iter().filter(waits).count())
}

/// How hard the file tries to survive a power cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sync {
    /// The system writes when it likes: survives a crash of the process.
    Lazy,
    /// Each write is on the disk before it counts: survives a power cut.
    Always,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    sync: Sync,
    open: Option<OpenFile>,
    /// Keeps others out of the folder for as long as the process lives.
    _lock: File,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    identity: (u64, u64),
    /// Length of what is whole.
    length: u64,
    ordinal: u64,
    last_seq: u64,
}

impl Spool {
    /// Makes and locks the folder, and reads what an earlier life left in it.
    ///
    /// The file takes nothing until [`Self::rewrite`] was called.
    ///
    /// # Errors
    ///
    /// [`OutboxError`] names the path and what to do.
    pub(crate) fn open(folder: &Path, sync: Sync) -> Result<(Self, Scan), OutboxError> {
        let at = |path: PathBuf| move |source| OutboxError::Io { path, source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(at(folder.to_owned()))?;
        let lock_path = folder.join(LOCK_NAME);
        let lock = options().truncate(false).open(&lock_path).map_err(at(lock_path.clone()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OutboxError::Locked { folder: folder.to_owned() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(OutboxError::Io { path: lock_path, source });
            }
        }
        let path = folder.join(FILE_NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(OutboxError::Io { path, source }),
        };
        let scan = record::scan(&bytes)
            .map_err(|other| OutboxError::Version { path: path.clone(), found: other.0 })?;
        let spool = Self { folder: folder.to_owned(), sync, open: None, _lock: lock };
        Ok((spool, scan))
    }

    /// Whether the file that is open is still the one that the next life would find.
    pub(crate) fn is_in_place(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let found = fs::metadata(self.folder.join(FILE_NAME));
        found.is_ok_and(|found| (found.dev(), found.ino()) == open.identity)
    }

    /// Number of the last event in the file.
    pub(crate) fn last_seq(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.last_seq)
    }

    /// Empties the file, which needs no room on the disk: for a file that takes no more marks and
    /// whose events are all settled, so that the next life does not take them for unsettled.
    pub(crate) fn forget(&mut self) {
        let Some(open) = self.open.as_mut() else { return };
        if open.file.set_len(HEADER_BYTES).is_ok() {
            (open.length, open.ordinal, open.last_seq) = (HEADER_BYTES, 0, 0);
        }
    }

    /// Length of the file.
    pub(crate) fn length(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.length)
    }

    /// Whether enough of the file is settled to rewrite it.
    pub(crate) fn wants_rewrite(&self, live_bytes: u64) -> bool {
        let kept = live_bytes.saturating_mul(2).saturating_add(REWRITE_SLACK_BYTES);
        kept < self.length()
    }

    /// Appends events and marks. After an error the file holds what it held before.
    ///
    /// # Errors
    ///
    /// That of the system, or `NotFound` when the file is not where it belongs.
    pub(crate) fn append(&mut self, events: &[Arc<Event>], marks: &Marks) -> io::Result<()> {
        if !self.is_in_place() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the spool file is gone"));
        }
        let sync = self.sync;
        let Some(open) = self.open.as_mut() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        open.append(events, marks, sync)
    }

    /// Replaces the file by a new one with these events and marks; the old one stays until the new
    /// one is whole.
    ///
    /// # Errors
    ///
    /// That of the system; the old file is left then.
    pub(crate) fn rewrite(&mut self, events: &[Arc<Event>], marks: &Marks) -> io::Result<()> {
        let new_path = self.folder.join(NEW_FILE_NAME);
        let path = self.folder.join(FILE_NAME);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let written = OpenFile::create(&new_path).and_then(|mut new| {
            new.append(events, marks, self.sync)?;
            fs::rename(&new_path, &path)?;
            Ok(new)
        });
        match written {
            Ok(new) => self.open = Some(new),
            Err(error) => {
                // What was written of it only takes room; the next try truncates it anyway.
                drop(fs::remove_file(&new_path));
                return Err(error);
            }
        }
        if self.sync == Sync::Always {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl OpenFile {
    fn create(path: &Path) -> io::Result<Self> {
        drop(options().truncate(true).open(path)?);
        // Appending, so that a write after a truncation never leaves a hole.
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(&record::header())?;
        let found = file.metadata()?;
        let identity = (found.dev(), found.ino());
        Ok(Self { file, identity, length: HEADER_BYTES, ordinal: 0, last_seq: 0 })
    }

    fn append(&mut self, events: &[Arc<Event>], marks: &Marks, sync: Sync) -> io::Result<()> {
        let outcome = self.try_append(events, marks, sync);
        if outcome.is_err() {
            // A half record at the end would be skipped by the reader, but only at the very end.
            drop(self.file.set_len(self.length));
        }
        outcome
    }

    fn try_append(&mut self, events: &[Arc<Event>], marks: &Marks, sync: Sync) -> io::Result<()> {
        let (mut ordinal, mut last_seq) = (self.ordinal, self.last_seq);
        let mut written = 0_u64;
        let mut buffer = Vec::new();
        for event in events {
            record::put_event(&mut buffer, ordinal, event);
            ordinal = ordinal.saturating_add(1);
            last_seq = last_seq.max(event.seq);
            if CHUNK_BYTES < buffer.len() {
                written = written.saturating_add(write(&mut self.file, &mut buffer)?);
            }
        }
        record::put_marks(&mut buffer, ordinal, last_seq, marks);
        written = written.saturating_add(write(&mut self.file, &mut buffer)?);
        if sync == Sync::Always {
            self.file.sync_data()?;
        }
        (self.ordinal, self.last_seq) = (ordinal, last_seq);
        self.length = self.length.saturating_add(written);
        Ok(())
    }
}

fn write(file: &mut File, buffer: &mut Vec<u8>) -> io::Result<u64> {
    file.write_all(buffer)?;
    let written = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
    buffer.clear();
    Ok(written)
}

/// Only the user who runs provost may read events.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::EventId;
    use crate::transport::outbox::entry::{Class, Draft};

    fn events(numbers: std::ops::Range<u64>) -> Vec<Arc<Event>> {
        let event = |seq| {
            let draft = Draft {
                id: EventId::new(uuid::Uuid::from_u128(u128::from(seq))),
                subject: "agent.events.w1".to_owned(),
                class: Class::Other,
                payload: vec![b'x'; 1_000].into(),
                traceparent: None,
            };
            Arc::new(Event { seq, draft })
        };
        numbers.map(event).collect()
    }

    fn numbers(scan: &Scan) -> Vec<u64> {
        scan.recovered.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn what_is_appended_is_found_by_the_next_life() {
        for sync in [Sync::Lazy, Sync::Always] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("a/b");
            let (mut spool, scan) = Spool::open(&folder, sync).unwrap();
            assert!(numbers(&scan).is_empty());
            spool.rewrite(&[], &Marks::default()).unwrap();
            spool.append(&events(1..4), &Marks::default()).unwrap();
            let marks = Marks { cursor: 2, ..Marks::default() };
            spool.append(&events(4..5), &marks).unwrap();
            drop(spool);
            let (_spool, scan) = Spool::open(&folder, sync).unwrap();
            assert_eq!(numbers(&scan), [1, 2, 3, 4]);
            assert_eq!(scan.recovered.marks, marks);
        }
    }

    #[test]
    fn a_rewritten_file_holds_only_what_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(dir.path(), Sync::Lazy).unwrap();
        spool.rewrite(&[], &Marks::default()).unwrap();
        spool.append(&events(1..3_000), &Marks::default()).unwrap();
        assert!(!spool.wants_rewrite(2_000_000));
        assert!(spool.wants_rewrite(1_000));
        let marks = Marks { cursor: 2_998, ..Marks::default() };
        spool.rewrite(&events(2_999..3_000), &marks).unwrap();
        assert!(spool.length() < 2_000);
        spool.append(&events(3_000..3_001), &marks).unwrap();
        drop(spool);
        let (_spool, scan) = Spool::open(dir.path(), Sync::Lazy).unwrap();
        assert_eq!(numbers(&scan), [2_999, 3_000]);
        assert_eq!(scan.recovered.lost, None);
    }

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = Spool::open(dir.path(), Sync::Lazy).unwrap();
        let error = Spool::open(dir.path(), Sync::Lazy).unwrap_err();
        assert!(matches!(error, OutboxError::Locked { .. }), "{error}");
        drop(first);
        Spool::open(dir.path(), Sync::Lazy).unwrap();
    }

    #[test]
    fn a_file_of_another_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, b"PVSPOOL\x07").unwrap();
        let error = Spool::open(dir.path(), Sync::Lazy).unwrap_err();
        assert!(error.to_string().contains("has version 7; this provost reads version 1"));
        assert_eq!(fs::read(&path).unwrap(), b"PVSPOOL\x07");
    }

    #[test]
    fn a_file_that_was_taken_away_is_noticed_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        let (mut spool, _) = Spool::open(&folder, Sync::Lazy).unwrap();
        spool.rewrite(&[], &Marks::default()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(spool.append(&events(1..2), &Marks::default()).is_err());
        fs::write(&folder, "in the way").unwrap();
        assert!(spool.rewrite(&events(1..2), &Marks::default()).is_err());
        fs::remove_file(&folder).unwrap();
        spool.rewrite(&events(1..2), &Marks::default()).unwrap();
        spool.append(&events(2..3), &Marks::default()).unwrap();
        drop(spool);
        let (_spool, scan) = Spool::open(&folder, Sync::Lazy).unwrap();
        assert_eq!(numbers(&scan), [1, 2]);
    }
}
