//! Rotates the log files that children write to: copy the content away, then cut the file.
//!
//! A child holds its log open for appending and cannot be told to open another one, so the file
//! stays and its content moves to `<file>.1`. Where the file system can remove the head of a file
//! in one step (ext4, XFS), nothing is lost whatever the child writes meanwhile; elsewhere the file
//! is truncated, and what comes between copy and truncation is lost and counted as well as can be.
//! What is dropped for size, or because the disk is full, is counted exactly.
//!
//! The same thread keeps the index beside each log: where each run begins, and what stands where.
//!
//! A disk can stall for seconds under load, and the keeper must not: a thread of its own looks at the
//! files and rotates them. It never forks, takes no lock, and gets the next round of work only when it
//! is done with the last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::fs::FallocateFlags;

use crate::runtimes::keeper::growth::Growth;
use crate::runtimes::keeper::index::{IndexWriter, wall_ms};
use crate::runtimes::keeper::wire::{LogRotated, LogSettings};

/// Time between two looks at the sizes.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// An old file is at most this many times the bound: what a flood wrote beyond is dropped, so that
/// neither the disk nor the keeper's time is eaten.
const OLD_FILE_FACTOR: u64 = 2;

/// Runs whose beginning waits to be put into the index; more are left out.
const BEGINNINGS_MAX: usize = 10_000;

/// What one look led to: a rotation, or a warning.
pub(super) type Told = Result<LogRotated, String>;

/// Log files in use.
#[derive(Debug)]
pub(super) struct Logs {
    files: BTreeMap<PathBuf, Watched>,
    next_check: Option<Duration>,
    rotator: Rotator,
}

#[derive(Debug)]
struct Watched {
    settings: Arc<LogSettings>,
    users: usize,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// Look at all these files.
    Round(Vec<Arc<LogSettings>>),
    /// A run began to write to this file when it was so long.
    Begun { file: PathBuf, generation: u64, at: u64, length: u64 },
}

/// The thread, behind two channels. One round is under way at a time.
#[derive(Debug)]
struct Rotator {
    work: SyncSender<Order>,
    done: Receiver<Vec<Told>>,
    state: RotatorState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RotatorState {
    Idle,
    Working,
}

impl Logs {
    /// No files yet. Starts the thread, which ends with this.
    pub(super) fn new() -> io::Result<Self> {
        let (work, orders) = mpsc::sync_channel(BEGINNINGS_MAX);
        let (finished, done) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || rotate_rounds(&orders, &finished))?;
        let rotator = Rotator { work, done, state: RotatorState::Idle };
        Ok(Self { files: BTreeMap::new(), next_check: None, rotator })
    }

    /// A run writes to this file now, which was `length` bytes long before; the newest settings
    /// count.
    pub(super) fn add(
        &mut self,
        settings: &LogSettings,
        (generation, length): (u64, u64),
        now: Duration,
    ) {
        let (file, at) = (settings.file.clone(), wall_ms());
        // With no room the run is missing in the index.
        self.rotator.work.try_send(Order::Begun { file, generation, at, length }).ok();
        self.watch(settings, now);
    }

    /// A run writes to this file already.
    pub(super) fn watch(&mut self, settings: &LogSettings, now: Duration) {
        let settings = Arc::new(settings.clone());
        let watched = self
            .files
            .entry(settings.file.clone())
            .or_insert_with(|| Watched { settings: Arc::clone(&settings), users: 0 });
        watched.settings = settings;
        watched.users += 1;
        self.next_check.get_or_insert(now + CHECK_EVERY);
    }

    /// A run writes no more.
    pub(super) fn remove(&mut self, file: &Path) {
        if let Some(watched) = self.files.get_mut(file) {
            watched.users = watched.users.saturating_sub(1);
        }
    }

    /// When [`Self::check`] is to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.next_check
    }

    /// If it is time, gives what the last round led to and begins the next. A file that nobody
    /// writes to any more is looked at once more, then left.
    pub(super) fn check(&mut self, now: Duration) -> Vec<Told> {
        if self.next_check.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let told = self.rotator.done.try_recv();
        if told.is_ok() {
            self.rotator.state = RotatorState::Idle;
        }
        if self.rotator.state == RotatorState::Idle && !self.files.is_empty() {
            let round = self.files.values().map(|watched| Arc::clone(&watched.settings)).collect();
            if self.rotator.work.try_send(Order::Round(round)).is_ok() {
                self.rotator.state = RotatorState::Working;
                self.files.retain(|_, watched| watched.users > 0);
            }
        }
        let over = self.files.is_empty() && self.rotator.state == RotatorState::Idle;
        self.next_check = (!over).then(|| now + CHECK_EVERY);
        told.unwrap_or_default()
    }
}

/// The thread: one order after the other, until nobody orders or listens any more.
fn rotate_rounds(orders: &Receiver<Order>, finished: &SyncSender<Vec<Told>>) {
    let mut indexes: BTreeMap<PathBuf, IndexWriter> = BTreeMap::new();
    let mut growth = Growth::new();
    for order in orders {
        match order {
            Order::Round(round) => {
                if finished.send(look_at_all(&mut indexes, &mut growth, &round)).is_err() {
                    return;
                }
            }
            Order::Begun { file, generation, at, length } => {
                growth.begins(&file);
                // A rotation that was under way when the run began has made the file shorter.
                let now = fs::metadata(&file).map_or(length, |metadata| metadata.len());
                let index = index_of(&mut indexes, &file);
                index.map(|index| index.run(generation, at, length.min(now))).unwrap_or_default();
            }
        }
    }
}

fn look_at_all(
    indexes: &mut BTreeMap<PathBuf, IndexWriter>,
    growth: &mut Growth,
    round: &[Arc<LogSettings>],
) -> Vec<Told> {
    if round.len() < indexes.len() {
        // Who writes no more leaves with the last round that holds it.
        let wanted: BTreeSet<&Path> = round.iter().map(|settings| &*settings.file).collect();
        indexes.retain(|path, _| wanted.contains(path.as_path()));
        growth.retain(|path| wanted.contains(path));
    }
    growth.listen();
    let mut told = Vec::new();
    for settings in round {
        if !growth.is_due(&settings.file) {
            continue;
        }
        told.extend(look(settings, index_of(indexes, &settings.file)));
        if let Ok(metadata) = fs::metadata(&settings.file) {
            growth.looked(&settings.file, metadata.len());
        }
    }
    told
}

/// The index of a log; none where it cannot have one, for example because the disk is full.
fn index_of<'a>(
    indexes: &'a mut BTreeMap<PathBuf, IndexWriter>,
    file: &Path,
) -> Option<&'a mut IndexWriter> {
    if !indexes.contains_key(file) {
        indexes.insert(file.to_owned(), IndexWriter::open(file).ok()?);
    }
    indexes.get_mut(file)
}

fn look(settings: &LogSettings, mut index: Option<&mut IndexWriter>) -> Option<Told> {
    let metadata = fs::metadata(&settings.file).ok()?;
    if let Some(index) = &mut index {
        index.mark(metadata.len());
    }
    // Less than two blocks cannot be cut in one step.
    if metadata.len() < settings.max_bytes.max(metadata.blksize().saturating_mul(2)) {
        return None;
    }
    Some(rotate(settings, index).map_err(|error| {
        format!("cannot rotate log {}: {error}; it grows on", settings.file.display())
    }))
}

fn rotate(settings: &LogSettings, mut index: Option<&mut IndexWriter>) -> io::Result<LogRotated> {
    let mut file = OpenOptions::new().read(true).write(true).open(&settings.file)?;
    let metadata = file.metadata()?;
    let size = metadata.len();
    // A whole number of blocks, and less than the file: both are asked for by the removal below.
    let block = metadata.blksize().max(1);
    let cut = size.saturating_sub(1) / block * block;
    let room = settings.max_bytes.saturating_mul(OLD_FILE_FACTOR);
    let skipped = if settings.keep == 0 { cut } else { cut.saturating_sub(room) };
    if let Some(index) = &mut index {
        index.rotating();
    }
    let mut kept = keep_old(settings, &mut file, skipped, cut);
    let collapse = FallocateFlags::COLLAPSE_RANGE;
    let exact = cut > 0 && rustix::fs::fallocate(&file, collapse, 0, cut).is_ok();
    let mut gone = cut;
    if !exact {
        // No removal of the head here: take what came since, as near to the truncation as can be.
        if kept > 0 {
            kept += append_rest(settings, &mut file, cut).unwrap_or(0);
        }
        gone = file.metadata()?.len();
        rustix::fs::ftruncate(&file, 0)?;
    }
    if let Some(index) = index {
        index.rotated(gone, skipped, kept);
    }
    let path = settings.file.clone();
    let dropped_bytes = gone.saturating_sub(kept);
    Ok(LogRotated { path, kept_bytes: kept, dropped_bytes, exact })
}

/// Copies `from..to` into a new `<file>.1`, the older ones moved up. Gives the bytes that are
/// safe there: 0 when they could not be copied (a full disk), for then the file must shrink all
/// the same.
fn keep_old(settings: &LogSettings, file: &mut File, from: u64, to: u64) -> u64 {
    if settings.keep == 0 || from >= to {
        return 0;
    }
    // The oldest goes first: on a full disk its room is what the copy needs.
    fs::remove_file(old(&settings.file, settings.keep)).ok();
    let part = with_suffix(&settings.file, "part");
    if copy(file, &part, from, to).is_err() {
        fs::remove_file(&part).ok();
        return 0;
    }
    for number in (1..settings.keep).rev() {
        // Missing ones are no fault.
        fs::rename(old(&settings.file, number), old(&settings.file, number + 1)).ok();
    }
    match fs::rename(&part, old(&settings.file, 1)) {
        Ok(()) => to - from,
        Err(_) => 0,
    }
}

fn copy(file: &mut File, target: &Path, from: u64, to: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut target = options.write(true).create(true).truncate(true).mode(0o600).open(target)?;
    file.seek(SeekFrom::Start(from))?;
    let copied = io::copy(&mut file.take(to - from), &mut target)?;
    if copied == to - from { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn append_rest(settings: &LogSettings, file: &mut File, from: u64) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    let first = old(&settings.file, 1);
    let mut target = options.append(true).create(true).mode(0o600).open(first)?;
    file.seek(SeekFrom::Start(from))?;
    // Bounded: a child that writes as fast as this copies must not keep the keeper here.
    io::copy(&mut file.take(settings.max_bytes), &mut target)
}

pub(super) fn old(file: &Path, number: u32) -> PathBuf {
    with_suffix(file, &number.to_string())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn settings(dir: &tempfile::TempDir, max_bytes: u64, keep: u32) -> LogSettings {
        LogSettings { file: dir.path().join("a.log"), max_bytes, keep }
    }

    fn write(settings: &LogSettings, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).create(true).open(&settings.file).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn numbered_lines(from: usize, to: usize) -> Vec<u8> {
        (from..to).flat_map(|number| format!("{number:09}\n").into_bytes()).collect()
    }

    #[test]
    fn old_files_and_the_file_together_are_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 20_000, 3);
        let mut dropped = 0;
        for round in 0..3 {
            write(&settings, &numbered_lines(round * 2_500, (round + 1) * 2_500));
            let told = look(&settings, None).unwrap().unwrap();
            dropped += told.dropped_bytes;
        }
        assert_eq!(dropped, 0);
        let mut all = Vec::new();
        for path in [old(&settings.file, 3), old(&settings.file, 2), old(&settings.file, 1)] {
            all.extend(fs::read(path).unwrap());
        }
        all.extend(fs::read(&settings.file).unwrap());
        assert_eq!(all, numbered_lines(0, 7_500));
    }

    #[test]
    fn only_so_many_old_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 8_192, 2);
        for _ in 0..5 {
            write(&settings, &[b'x'; 9_000]);
            look(&settings, None).unwrap().unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(look(&settings, None).is_none(), "small again");
    }

    #[test]
    fn what_a_flood_wrote_beyond_the_bound_is_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 10_000, 1);
        write(&settings, &numbered_lines(0, 10_000));
        let told = look(&settings, None).unwrap().unwrap();
        let left = fs::metadata(&settings.file).unwrap().len();
        assert_eq!(told.kept_bytes, fs::metadata(old(&settings.file, 1)).unwrap().len());
        assert_eq!(told.kept_bytes + told.dropped_bytes + left, 100_000);
        assert!(told.dropped_bytes >= 70_000, "{told:?}");
    }

    #[test]
    fn a_file_that_cannot_be_copied_shrinks_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 10_000, 2);
        fs::create_dir(with_suffix(&settings.file, "part")).unwrap();
        fs::create_dir(old(&settings.file, 1)).unwrap();
        write(&settings, &numbered_lines(0, 2_000));
        let told = look(&settings, None).unwrap().unwrap();
        assert_eq!(told.kept_bytes, 0);
        let left = fs::metadata(&settings.file).unwrap().len();
        assert_eq!(told.dropped_bytes + left, 20_000);
    }

    #[test]
    fn a_file_is_looked_at_while_it_is_used_and_once_after() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 8_192, 1);
        let mut logs = Logs::new().unwrap();
        let mut second = 0;
        // Checks second by second until something is told.
        let mut next_told = |logs: &mut Logs| loop {
            assert!(logs.deadline().is_some(), "it waits for the thread");
            second += 1;
            let told = logs.check(Duration::from_secs(second));
            if !told.is_empty() {
                return told.len();
            }
            thread::yield_now();
        };
        assert_eq!(logs.deadline(), None);
        logs.add(&settings, (1, 0), Duration::ZERO);
        assert_eq!(logs.deadline(), Some(Duration::from_secs(1)));
        write(&settings, &[b'x'; 9_000]);
        assert!(logs.check(Duration::from_millis(999)).is_empty());
        assert_eq!(next_told(&mut logs), 1);
        write(&settings, &[b'x'; 9_000]);
        logs.remove(&settings.file);
        assert_eq!(next_told(&mut logs), 1);
        for second in 1_000_000_000..1_000_000_010 {
            assert!(logs.check(Duration::from_secs(second)).is_empty());
        }
        assert_eq!(logs.deadline(), None);
    }
}
