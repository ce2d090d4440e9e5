//! Reads an agent's output: the log, its old files and the index together, by offset.
//!
//! It may be read while it is written and rotated: what is given out stood at its offset both before
//! and after it was read. Times are as fine as the marks in the index; where there is none, output
//! counts as old as the mark before it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::runtimes::keeper::index::{self, Record};
use crate::runtimes::keeper::logs::old;

/// Attempts to read while the log is being rotated.
const TRIES_MAX: u32 = 200;

/// Time between two attempts.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// Most bytes given out at a time.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;

/// One run of the agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RunStart {
    /// Its number; 0 when nobody said.
    pub generation: u64,
    /// When it began, in milliseconds since 1970.
    pub at: u64,
    /// Its first byte.
    pub offset: u64,
}

/// A file with a part of the output.
#[derive(Debug)]
struct Part {
    file: File,
    from: u64,
    to: u64,
}

/// What there is of an agent's output.
#[derive(Debug)]
pub struct History {
    log: PathBuf,
    parts: Vec<Part>,
    records: Vec<Record>,
    seen: Seen,
    /// When the log was written last, in milliseconds since 1970.
    written_at: u64,
}

/// What tells whether the log was rotated meanwhile.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Seen {
    index: (u64, u64),
    log: u64,
}

/// A piece of output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// Offset of its first byte; later than what was asked for where that is gone.
    pub from: u64,
    /// Its bytes; none at the end of the output.
    pub bytes: Vec<u8>,
}

impl History {
    /// Looks at a log and all that belongs to it.
    ///
    /// # Errors
    ///
    /// What the operating system said; `NotFound` when there is no log.
    pub fn open(log: &Path) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let before = Seen::of(log);
            let records = index::read(log)?;
            let rotating = matches!(records.last(), Some(Record::Rotating { .. }));
            let parts = parts(log, &records)?;
            tries += 1;
            if (before == Seen::of(log) && !rotating) || tries >= TRIES_MAX {
                let written_at = written_at(log);
                return Ok(Self { log: log.to_owned(), parts, records, seen: before, written_at });
            }
            pause();
        }
    }

    /// Offset of the first byte that is still there.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.parts.first().map_or(0, |part| part.from)
    }

    /// Offset after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.to)
    }

    /// The runs that are known, oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<RunStart> {
        let runs = self.records.iter().filter_map(|record| match *record {
            Record::Run { generation, at, offset } => Some(RunStart { generation, at, offset }),
            Record::Mark { .. }
            | Record::Rotating { .. }
            | Record::Rotated { .. }
            | Record::Dropped { .. } => None,
        });
        runs.collect()
    }

    /// Offset from which on everything has come after this time, in milliseconds since 1970; a
    /// little of what came before may be among it.
    #[must_use]
    pub fn since(&self, time: u64) -> u64 {
        if time > self.written_at {
            return self.end();
        }
        let mark = self.records.iter().rev().find_map(|record| match *record {
            Record::Run { at, offset, .. } | Record::Mark { at, offset } if at <= time => {
                Some(offset)
            }
            Record::Rotated { at, base, .. } if at <= time => Some(base),
            Record::Run { .. }
            | Record::Mark { .. }
            | Record::Rotating { .. }
            | Record::Rotated { .. }
            | Record::Dropped { .. } => None,
        });
        mark.unwrap_or(0).clamp(self.begin(), self.end())
    }

    /// Bytes between two offsets that the agent wrote and that are nowhere, besides those that
    /// rotation has removed with their file.
    #[must_use]
    pub fn dropped(&self, from: u64, to: u64) -> u64 {
        let dropped = self.records.iter().filter_map(|record| match *record {
            Record::Dropped { offset, bytes, .. } if (from..=to).contains(&offset) => Some(bytes),
            Record::Run { .. }
            | Record::Mark { .. }
            | Record::Rotating { .. }
            | Record::Rotated { .. }
            | Record::Dropped { .. } => None,
        });
        dropped.sum()
    }

    /// Reads from an offset on; a log that has become shorter by somebody else's hand is read from
    /// its beginning.
    ///
    /// # Errors
    ///
    /// What the operating system said.
    pub fn read(&mut self, from: u64) -> io::Result<Chunk> {
        let mut tries = 0;
        loop {
            let chunk = self.read_once(from)?;
            tries += 1;
            if self.seen == Seen::of(&self.log) || tries >= TRIES_MAX {
                return Ok(chunk);
            }
            *self = Self::open(&self.log)?;
        }
    }

    /// Looks again at what there is.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn refresh(&mut self) -> io::Result<()> {
        *self = Self::open(&self.log)?;
        Ok(())
    }

    fn read_once(&self, from: u64) -> io::Result<Chunk> {
        let from = if from > self.end() { self.begin() } else { from };
        let Some(part) = self.parts.iter().find(|part| from < part.to) else {
            return Ok(Chunk { from, bytes: Vec::new() });
        };
        let from = from.max(part.from);
        let left = usize::try_from(part.to - from).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(PIECE_BYTES_MAX)];
        let count = part.file.read_at(&mut bytes, from - part.from)?;
        bytes.truncate(count);
        Ok(Chunk { from, bytes })
    }

    /// Offset at which the last `lines` lines between two offsets begin.
    ///
    /// # Errors
    ///
    /// What the operating system said.
    pub fn last_lines(&mut self, lines: u64, from: u64, to: u64) -> io::Result<u64> {
        let step = u64::try_from(PIECE_BYTES_MAX).unwrap_or(u64::MAX);
        let (mut end, mut left) = (to, lines);
        while end > from {
            let begin = end.saturating_sub(step).max(from);
            let bytes = self.between(begin, end)?;
            let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
            let after = ends.map(|(place, _)| begin + u64::try_from(place).unwrap_or(0) + 1);
            // The end of the last line begins no line.
            let begins: Vec<u64> = after.filter(|after| *after != to).collect();
            let place = usize::try_from(left.saturating_sub(1)).unwrap_or(usize::MAX);
            if let Some(found) = begins.get(place) {
                return Ok(*found);
            }
            left = left.saturating_sub(u64::try_from(begins.len()).unwrap_or(u64::MAX));
            end = begin;
        }
        Ok(from)
    }

    fn between(&mut self, begin: u64, end: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut at = begin;
        while at < end {
            let chunk = self.read(at)?;
            if chunk.bytes.is_empty() || chunk.from >= end {
                break;
            }
            // A gap keeps its length, so that places stay offsets.
            let gap = usize::try_from(chunk.from.saturating_sub(at)).unwrap_or(0);
            bytes.resize(bytes.len().saturating_add(gap), 0);
            bytes.extend(chunk.bytes);
            at = begin + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        bytes.truncate(usize::try_from(end - begin).unwrap_or(usize::MAX));
        Ok(bytes)
    }
}

impl Seen {
    fn of(log: &Path) -> Self {
        let index = fs::metadata(index::index_path(log));
        let index = index.map_or((0, 0), |metadata| (metadata.ino(), metadata.len()));
        Self { index, log: fs::metadata(log).map_or(0, |metadata| metadata.ino()) }
    }
}

/// Opens the log and those old files of which is known what they hold, oldest first.
fn parts(log: &Path, records: &[Record]) -> io::Result<Vec<Part>> {
    let rotations: Vec<(u64, u64, u64)> = records
        .iter()
        .rev()
        .filter_map(|record| match *record {
            Record::Rotated { base, old_from, kept, .. } => Some((base, old_from, kept)),
            Record::Run { .. }
            | Record::Mark { .. }
            | Record::Rotating { .. }
            | Record::Dropped { .. } => None,
        })
        .collect();
    let mut parts = Vec::new();
    let with_file = rotations.iter().filter(|(_, _, kept)| *kept > 0);
    for (number, (_, from, kept)) in (1_u32..).zip(with_file) {
        let Ok(file) = File::open(old(log, number)) else { break };
        let length = file.metadata()?.len().min(*kept);
        parts.push(Part { file, from: *from, to: from.saturating_add(length) });
    }
    parts.reverse();
    let file = File::open(log)?;
    let from = rotations.first().map_or(0, |(base, _, _)| *base);
    let to = from.saturating_add(file.metadata()?.len());
    parts.push(Part { file, from, to });
    Ok(parts)
}

fn written_at(log: &Path) -> u64 {
    let time = fs::metadata(log).ok().and_then(|metadata| metadata.modified().ok());
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(u64::MAX, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn pause() {
    let time = rustix::event::Timespec::try_from(TRY_EVERY).unwrap_or_default();
    rustix::event::poll(&mut [], Some(&time)).ok();
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::runtimes::keeper::index::IndexWriter;

    /// A log that was rotated once: ten lines in the old file, run 2 from line 8 on.
    fn bench() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let mut index = IndexWriter::open(&log).unwrap();
        let lines =
            |from: u32, to: u32| (from..to).map(|n| format!("line{n:03}\n")).collect::<String>();
        index.run(1, 1_000, 0);
        index.run(2, 2_000, 64);
        fs::write(old(&log, 1), lines(0, 10)).unwrap();
        index.rotating();
        index.rotated(80, 0, 80);
        fs::write(&log, lines(10, 20)).unwrap();
        index.run(3, 3_000, 40);
        index.dropped(48, 7);
        (dir, log)
    }

    fn text(history: &mut History, from: u64, to: u64) -> String {
        String::from_utf8(history.between(from, to).unwrap()).unwrap()
    }

    #[test]
    fn output_is_one_stream_over_old_and_new_files() {
        let (_dir, log) = bench();
        let mut history = History::open(&log).unwrap();
        assert_eq!((history.begin(), history.end()), (0, 160));
        assert_eq!(text(&mut history, 72, 88), "line009\nline010\n");
        assert_eq!(history.dropped(0, 160), 7);
        let runs: Vec<u64> = history.runs().iter().map(|run| run.offset).collect();
        assert_eq!(runs, [0, 64, 120]);
        assert_eq!((history.since(2_500), history.since(0)), (64, 0));
        assert_eq!(history.since(u64::MAX), 160);
    }

    #[test]
    fn the_last_lines_are_found_in_any_range() {
        let (_dir, log) = bench();
        let mut history = History::open(&log).unwrap();
        assert_eq!(history.last_lines(1, 0, 160).unwrap(), 152);
        assert_eq!(history.last_lines(3, 0, 160).unwrap(), 136);
        assert_eq!(history.last_lines(12, 0, 160).unwrap(), 64);
        assert_eq!(history.last_lines(100, 64, 160).unwrap(), 64);
        assert_eq!(history.last_lines(2, 0, 156).unwrap(), 144, "no line end at the end");
    }

    #[test]
    fn a_rotation_while_reading_changes_nothing_but_what_is_gone() {
        let (_dir, log) = bench();
        let mut history = History::open(&log).unwrap();
        let mut index = IndexWriter::open(&log).unwrap();
        fs::rename(old(&log, 1), old(&log, 2)).unwrap();
        fs::rename(&log, old(&log, 1)).unwrap();
        index.rotating();
        index.rotated(80, 0, 80);
        let mut file = File::create(&log).unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(text(&mut history, 152, 164), "line019\nnew\n");
        fs::remove_file(old(&log, 2)).unwrap();
        history.refresh().unwrap();
        assert_eq!(history.begin(), 80);
        assert_eq!(history.read(0).unwrap().from, 80, "the rest is gone");
    }

    #[test]
    fn a_log_without_index_and_one_that_was_cut_by_hand_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        fs::write(&log, "a\nb").unwrap();
        let mut history = History::open(&log).unwrap();
        assert_eq!(history.read(2).unwrap(), Chunk { from: 2, bytes: b"b".to_vec() });
        fs::write(&log, "c").unwrap();
        history.refresh().unwrap();
        assert_eq!(history.read(3).unwrap(), Chunk { from: 0, bytes: b"c".to_vec() });
        assert!(History::open(&dir.path().join("none")).is_err());
    }
}
