//! The index beside a log file: which byte of an agent's output stands where, and when it came.
//!
//! Output is counted from the first byte that was ever written to the log: that number is its
//! *offset*, and it stays the same through every rotation. The index is a file of JSON lines,
//! `<log>.index`; only the one thread that rotates the log writes it, anybody may read it. A broken
//! line is skipped. It is made smaller when it has more than [`INDEX_BYTES_MAX`] bytes.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Size from which the index is made smaller.
pub const INDEX_BYTES_MAX: u64 = 256 * 1024;

/// Shortest time between two marks, in milliseconds: as fine as `--since` can be.
const MARK_EVERY_MS: u64 = 2_000;

/// Runs that stay in an index that is made smaller.
const RUNS_KEPT: usize = 64;

/// One line of the index. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Record {
    /// A run begins here.
    Run {
        /// Its number; 0 when nobody said.
        generation: u64,
        /// When.
        at: u64,
        /// Its first byte.
        offset: u64,
    },
    /// What came after this time stands after this offset.
    Mark {
        /// When.
        at: u64,
        /// Bytes that had come.
        offset: u64,
    },
    /// The file is about to be rotated: until the next record nobody can say what stands where.
    Rotating {
        /// When.
        at: u64,
    },
    /// The file was rotated.
    Rotated {
        /// When.
        at: u64,
        /// Offset of the first byte of the file.
        base: u64,
        /// Offset of the first byte of the first old file.
        old_from: u64,
        /// Bytes in the first old file; 0 when none was made.
        kept: u64,
        /// Bytes that were dropped.
        dropped: u64,
    },
    /// Bytes that the agent wrote and that are nowhere.
    Dropped {
        /// When.
        at: u64,
        /// Where they would have stood.
        offset: u64,
        /// How many.
        bytes: u64,
    },
}

/// Path of the index of a log file.
#[must_use]
pub fn index_path(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".index");
    PathBuf::from(name)
}

/// Reads an index; empty when there is none.
///
/// # Errors
///
/// What the operating system said.
pub fn read(log: &Path) -> io::Result<Vec<Record>> {
    let text = match fs::read(index_path(log)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Milliseconds since 1970.
pub(super) fn wall_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// Writes the index of one log.
#[derive(Debug)]
pub(super) struct IndexWriter {
    path: PathBuf,
    /// Offset of the first byte of the file.
    base: u64,
    marked: (u64, u64),
}

impl IndexWriter {
    /// Opens the index of a log, or begins one. What is no plain file has none.
    pub(super) fn open(log: &Path) -> io::Result<Self> {
        if fs::metadata(log).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let records = read(log)?;
        let base = records.iter().rev().find_map(|record| match record {
            Record::Rotated { base, .. } => Some(*base),
            Record::Run { .. }
            | Record::Mark { .. }
            | Record::Rotating { .. }
            | Record::Dropped { .. } => None,
        });
        let path = index_path(log);
        let index = Self { path, base: base.unwrap_or(0), marked: (0, 0) };
        if matches!(records.last(), Some(Record::Rotating { .. })) {
            // Whoever rotated was killed meanwhile; what stands where is guessed from here on.
            let base = index.base;
            let at = wall_ms();
            index.add(Record::Rotated { at, base, old_from: base, kept: 0, dropped: 0 });
        }
        Ok(index)
    }

    /// Offset of a byte of the present file.
    pub(super) fn offset(&self, position: u64) -> u64 {
        self.base.saturating_add(position)
    }

    /// A run begins where the file has `length` bytes.
    pub(super) fn run(&mut self, generation: u64, at: u64, length: u64) {
        let offset = self.offset(length);
        self.add(Record::Run { generation, at, offset });
        self.marked = (at, offset);
    }

    /// Notes the time if something came and the last note is old.
    pub(super) fn mark(&mut self, length: u64) {
        let (at, offset) = (wall_ms(), self.offset(length));
        let (marked_at, marked_offset) = self.marked;
        if offset != marked_offset && at >= marked_at.saturating_add(MARK_EVERY_MS) {
            self.marked = (at, offset);
            self.add(Record::Mark { at, offset });
        }
    }

    /// Says that the file is about to be rotated.
    pub(super) fn rotating(&mut self) {
        self.add(Record::Rotating { at: wall_ms() });
    }

    /// Says how the file was rotated: `cut` bytes left it, of which `kept` from position `from` on
    /// are in the first old file.
    pub(super) fn rotated(&mut self, cut: u64, from: u64, kept: u64) {
        let old_from = self.base.saturating_add(from);
        self.base = self.base.saturating_add(cut);
        let (at, base) = (wall_ms(), self.base);
        let dropped = cut.saturating_sub(kept);
        self.add(Record::Rotated { at, base, old_from, kept, dropped });
    }

    /// Says that bytes which would have come at this length are nowhere.
    pub(super) fn dropped(&mut self, length: u64, bytes: u64) {
        let (at, offset) = (wall_ms(), self.offset(length));
        self.add(Record::Dropped { at, offset, bytes });
    }

    /// An index that cannot be written (a full disk) must not keep the log from being written.
    fn add(&self, record: Record) {
        if self.try_add(record).is_ok_and(|bytes| bytes > INDEX_BYTES_MAX) {
            self.shrink().ok();
        }
    }

    /// Opened for each line: there may be as many indexes as agents.
    fn try_add(&self, record: Record) -> io::Result<u64> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(&line)?;
        Ok(file.metadata()?.len())
    }

    /// Keeps the last runs and rotations, and every other of the newer half of the rest.
    fn shrink(&self) -> io::Result<()> {
        let records: Vec<Record> = fs::read(&self.path)?
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let half = records.len() / 2;
        let (mut runs, mut rotations) = (0, 0);
        let mut kept = VecDeque::new();
        for (place, record) in records.iter().enumerate().rev() {
            let keep = match record {
                Record::Run { .. } => {
                    runs += 1;
                    runs <= RUNS_KEPT
                }
                Record::Rotated { .. } => {
                    rotations += 1;
                    rotations <= RUNS_KEPT
                }
                Record::Mark { .. } | Record::Dropped { .. } => place > half && place % 2 == 0,
                Record::Rotating { .. } => place + 1 == records.len(),
            };
            if keep {
                kept.push_front(*record);
            }
        }
        let mut text = Vec::new();
        for record in kept {
            text.extend(serde_json::to_vec(&record)?);
            text.push(b'\n');
        }
        let new = self.path.with_extension("index.new");
        fs::write(&new, &text)?;
        fs::rename(&new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_stay_the_same_through_rotations_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let mut index = IndexWriter::open(&log).unwrap();
        index.run(1, 5, 0);
        index.rotating();
        index.rotated(100, 20, 80);
        assert_eq!(index.offset(7), 107);
        drop(index);
        let mut index = IndexWriter::open(&log).unwrap();
        index.run(2, 6, 7);
        index.dropped(9, 1_000);
        let records = read(&log).unwrap();
        assert_eq!(records.first(), Some(&Record::Run { generation: 1, at: 5, offset: 0 }));
        assert!(matches!(
            records.get(2),
            Some(Record::Rotated { base: 100, old_from: 20, kept: 80, dropped: 20, .. })
        ));
        assert_eq!(records.get(3), Some(&Record::Run { generation: 2, at: 6, offset: 107 }));
        assert!(matches!(records.get(4), Some(Record::Dropped { offset: 109, bytes: 1_000, .. })));
    }

    #[test]
    fn a_rotation_that_was_cut_short_is_ended_by_the_next_writer() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        IndexWriter::open(&log).unwrap().rotating();
        drop(IndexWriter::open(&log).unwrap());
        assert!(matches!(read(&log).unwrap().last(), Some(Record::Rotated { base: 0, .. })));
    }

    #[test]
    fn an_index_stays_small_and_keeps_the_last_runs() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let mut index = IndexWriter::open(&log).unwrap();
        for run in 0..10_000 {
            index.run(run, run, run);
            index.dropped(run, 1);
        }
        assert!(fs::metadata(index_path(&log)).unwrap().len() <= INDEX_BYTES_MAX);
        let last = read(&log).unwrap().into_iter().rev().find_map(|record| match record {
            Record::Run { generation, .. } => Some(generation),
            Record::Mark { .. }
            | Record::Rotating { .. }
            | Record::Rotated { .. }
            | Record::Dropped { .. } => None,
        });
        assert_eq!(last, Some(9_999));
    }

    #[test]
    fn a_broken_line_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        fs::write(index_path(&log), "{\"is\":\"ma\n{\"is\":\"mark\",\"at\":1,\"offset\":2}\n")
            .unwrap();
        assert_eq!(read(&log).unwrap(), [Record::Mark { at: 1, offset: 2 }]);
        assert_eq!(read(&dir.path().join("none")).unwrap(), []);
    }
}
