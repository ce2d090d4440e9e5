//! Writes what the keeper has read from pipes into log files, on a thread of its own.
//!
//! A disk can stall, and neither the keeper nor a child may wait for it: bytes wait in memory, at
//! most [`PENDING_BYTES_MAX`] for one log and [`PENDING_ALL_BYTES_MAX`] for all. What finds no room
//! is dropped, newest first, and counted, as is what the disk refuses. Since only this thread
//! writes to such a log, it is rotated by renaming: nothing is lost by that.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use crate::runtimes::keeper::index::{IndexWriter, wall_ms};
use crate::runtimes::keeper::logs::old;
use crate::runtimes::keeper::wire::LogSettings;

/// Bytes of one run that may wait for the disk.
pub(super) const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of all runs together that may wait for the disk.
pub(super) const PENDING_ALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pieces that may wait, whatever their size.
const ORDERS_MAX: usize = 65_536;

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// A run begins to write.
    Begin { shared: Arc<Shared>, generation: u64, at: u64 },
    /// Its output goes on.
    Append { shared: Arc<Shared>, bytes: Vec<u8> },
    /// It writes no more.
    End { shared: Arc<Shared> },
}

/// What the keeper and the thread both know of one run's log.
#[derive(Debug)]
struct Shared {
    settings: LogSettings,
    /// Bytes that wait.
    pending: AtomicUsize,
    /// Bytes that were dropped.
    dropped: AtomicU64,
    /// How many of them the keeper has told.
    told: AtomicU64,
    /// How many of them stand in the index.
    noted: AtomicU64,
}

/// The thread and what waits for it.
#[derive(Debug)]
pub(super) struct Appender {
    orders: SyncSender<Order>,
    pending: Arc<AtomicUsize>,
}

/// One run's way into its log.
#[derive(Debug)]
pub(super) struct Sink {
    shared: Arc<Shared>,
    orders: SyncSender<Order>,
    all: Arc<AtomicUsize>,
}

impl Appender {
    /// Starts the thread, which ends when this and all sinks are gone.
    pub(super) fn new() -> io::Result<Self> {
        let (orders, inbox) = mpsc::sync_channel(ORDERS_MAX);
        let pending = Arc::new(AtomicUsize::new(0));
        let all = Arc::clone(&pending);
        thread::Builder::new().name("append".to_owned()).spawn(move || work(&inbox, &all))?;
        Ok(Self { orders, pending })
    }

    /// A run begins to write to this log.
    pub(super) fn begin(&self, settings: &LogSettings, generation: u64) -> Sink {
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            pending: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            told: AtomicU64::new(0),
            noted: AtomicU64::new(0),
        });
        let begin = Order::Begin { shared: Arc::clone(&shared), generation, at: wall_ms() };
        // With no room the run is missing in the index; its output is kept all the same.
        self.orders.try_send(begin).ok();
        Sink { shared, orders: self.orders.clone(), all: Arc::clone(&self.pending) }
    }
}

impl Sink {
    /// Takes output; never waits.
    pub(super) fn append(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let count = bytes.len();
        let one = self.shared.pending.load(Ordering::Relaxed).saturating_add(count);
        let all = self.all.load(Ordering::Relaxed).saturating_add(count);
        if one > PENDING_BYTES_MAX || all > PENDING_ALL_BYTES_MAX {
            return self.drop_bytes(count);
        }
        self.shared.pending.fetch_add(count, Ordering::Relaxed);
        self.all.fetch_add(count, Ordering::Relaxed);
        let order = Order::Append { shared: Arc::clone(&self.shared), bytes: bytes.to_vec() };
        if self.orders.try_send(order).is_err() {
            self.shared.pending.fetch_sub(count, Ordering::Relaxed);
            self.all.fetch_sub(count, Ordering::Relaxed);
            self.drop_bytes(count);
        }
    }

    fn drop_bytes(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.shared.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Bytes that were dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        dropped.saturating_sub(self.shared.told.swap(dropped, Ordering::Relaxed))
    }

    /// The log's path.
    pub(super) fn file(&self) -> &PathBuf {
        &self.shared.settings.file
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // With no room the file stays open until the keeper ends or another run of it does.
        self.orders.try_send(Order::End { shared: Arc::clone(&self.shared) }).ok();
    }
}

/// A log that is written to.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    index: Option<IndexWriter>,
    users: usize,
}

/// The thread.
fn work(orders: &Receiver<Order>, all: &AtomicUsize) {
    let mut files: BTreeMap<PathBuf, Open> = BTreeMap::new();
    for order in orders {
        match order {
            Order::Begin { shared, generation, at } => begin(&mut files, &shared, generation, at),
            Order::Append { shared, bytes } => {
                take(&mut files, &shared, &bytes);
                shared.pending.fetch_sub(bytes.len(), Ordering::Relaxed);
                all.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            Order::End { shared } => end(&mut files, &shared),
        }
    }
}

fn begin(files: &mut BTreeMap<PathBuf, Open>, shared: &Shared, generation: u64, at: u64) {
    // What cannot be opened now is tried again with the first output.
    let Ok(open) = opened(files, &shared.settings) else { return };
    open.users += 1;
    let length = open.bytes;
    if let Some(index) = &mut open.index {
        index.run(generation, at, length);
    }
}

fn take(files: &mut BTreeMap<PathBuf, Open>, shared: &Shared, bytes: &[u8]) {
    let settings = &shared.settings;
    let written = opened(files, settings).and_then(|open| append(open, settings, bytes));
    if written.is_err() {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        shared.dropped.fetch_add(count, Ordering::Relaxed);
    }
    note_dropped(files, shared);
}

fn end(files: &mut BTreeMap<PathBuf, Open>, shared: &Shared) {
    note_dropped(files, shared);
    let path = &shared.settings.file;
    let Some(open) = files.get_mut(path) else { return };
    open.users = open.users.saturating_sub(1);
    if open.users == 0 {
        files.remove(path);
    }
}

/// Puts what was dropped and does not stand there yet into the index.
fn note_dropped(files: &mut BTreeMap<PathBuf, Open>, shared: &Shared) {
    let dropped = shared.dropped.load(Ordering::Relaxed);
    let count = dropped.saturating_sub(shared.noted.swap(dropped, Ordering::Relaxed));
    let open = files.get_mut(&shared.settings.file).filter(|_| count > 0);
    if let Some(Open { index: Some(index), bytes, .. }) = open {
        index.dropped(*bytes, count);
    }
}

fn opened<'a>(
    files: &'a mut BTreeMap<PathBuf, Open>,
    settings: &LogSettings,
) -> io::Result<&'a mut Open> {
    let path = &settings.file;
    if !files.contains_key(path) {
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        let index = IndexWriter::open(path).ok();
        files.insert(path.clone(), Open { file, bytes, index, users: 0 });
    }
    files.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn append(open: &mut Open, settings: &LogSettings, bytes: &[u8]) -> io::Result<()> {
    if open.bytes >= settings.max_bytes {
        rotate(open, settings)?;
    }
    open.file.write_all(bytes).inspect_err(|_error| {
        // A part may have been written.
        open.bytes = open.file.metadata().map_or(open.bytes, |metadata| metadata.len());
    })?;
    open.bytes = open.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    if let Some(index) = &mut open.index {
        index.mark(open.bytes);
    }
    Ok(())
}

/// Moves the file to `<file>.1`, the older ones up, and begins a new one.
fn rotate(open: &mut Open, settings: &LogSettings) -> io::Result<()> {
    let path = &settings.file;
    let length = open.bytes;
    if let Some(index) = &mut open.index {
        index.rotating();
    }
    let kept = if settings.keep == 0 {
        0
    } else {
        for number in (1..settings.keep).rev() {
            // Missing ones are no fault.
            fs::rename(old(path, number), old(path, number + 1)).ok();
        }
        fs::rename(path, old(path, 1)).map_or(0, |()| length)
    };
    let begun = if kept == 0 {
        // Nothing was kept: the same file, empty again.
        rustix::fs::ftruncate(&open.file, 0).map_err(io::Error::from)
    } else {
        append_to(path).map(|file| open.file = file)
    };
    let cut = if begun.is_ok() { length } else { 0 };
    if let Some(index) = &mut open.index {
        index.rotated(cut, 0, kept);
    }
    begun?;
    open.bytes = 0;
    Ok(())
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtimes::keeper::index::{self, Record};

    fn settings(dir: &tempfile::TempDir, max_bytes: u64, keep: u32) -> LogSettings {
        LogSettings { file: dir.path().join("a.log"), max_bytes, keep }
    }

    fn wait_until(holds: impl Fn() -> bool) {
        for _ in 0..6_000 {
            if holds() {
                return;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        panic!("it does not become true");
    }

    #[test]
    fn output_is_kept_in_order_and_rotation_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 1_000, 9);
        let appender = Appender::new().unwrap();
        let sink = appender.begin(&settings, 3);
        let lines: Vec<String> = (0..500).map(|number| format!("{number:09}\n")).collect();
        for line in &lines {
            sink.append(line.as_bytes());
        }
        wait_until(|| appender.pending.load(Ordering::Relaxed) == 0);
        let mut all = Vec::new();
        for path in (1..=9).rev().map(|number| old(&settings.file, number)) {
            all.extend(fs::read(path).unwrap_or_default());
        }
        all.extend(fs::read(&settings.file).unwrap());
        assert_eq!(String::from_utf8(all).unwrap(), lines.concat());
        assert_eq!(sink.take_dropped(), 0);
        let records = index::read(&settings.file).unwrap();
        assert!(matches!(records.first(), Some(Record::Run { generation: 3, offset: 0, .. })));
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let appender = Appender::new().unwrap();
        let sink = appender.begin(&settings(&dir, 1_000, 1), 1);
        let huge = vec![b'x'; PENDING_BYTES_MAX + 1];
        sink.append(&huge);
        assert_eq!(sink.take_dropped(), u64::try_from(huge.len()).unwrap());
        assert_eq!(sink.take_dropped(), 0);
    }

    #[test]
    fn what_the_disk_refuses_is_counted() {
        let appender = Appender::new().unwrap();
        let settings = LogSettings { max_bytes: u64::MAX, ..LogSettings::new("/dev/full".into()) };
        let sink = appender.begin(&settings, 1);
        sink.append(b"lost");
        wait_until(|| appender.pending.load(Ordering::Relaxed) == 0);
        assert_eq!(sink.take_dropped(), 4);
    }
}
