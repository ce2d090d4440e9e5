//! Which log files have to be looked at: one that nobody writes to costs nothing.
//!
//! A file that has not grown for some looks is watched by the kernel (inotify) until somebody writes
//! to it again. Where no watch can be had, for instance because the user has too many, it is looked
//! at every time.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Looks without growth after which a file is quiet; by then the index says where its end belongs.
const QUIET_AFTER: u32 = 15;

/// Bytes for events that are read in one go: 256 of them.
const EVENT_BYTES: usize = 4096;

/// What is known of the files.
#[derive(Debug)]
pub(super) struct Growth {
    kernel: Option<OwnedFd>,
    files: BTreeMap<PathBuf, Seen>,
    quiet: BTreeMap<i32, PathBuf>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    length: u64,
    /// Looks in a row that found this length.
    same: u32,
    /// The kernel's number of its watch, while it is quiet.
    watch: Option<i32>,
}

impl Growth {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        Self { kernel, files: BTreeMap::new(), quiet: BTreeMap::new() }
    }

    /// Takes what the kernel has to tell since the last time.
    pub(super) fn listen(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(kernel, &mut buffer);
        let (mut woken, mut missed) = (Vec::new(), false);
        while let Ok(event) = reader.next() {
            missed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            woken.push(event.wd());
        }
        if missed {
            woken = self.quiet.keys().copied().collect();
        }
        for watch in woken {
            self.wake(watch);
        }
    }

    /// Whether a file may have grown.
    pub(super) fn is_due(&self, file: &Path) -> bool {
        self.files.get(file).is_none_or(|seen| seen.watch.is_none())
    }

    /// A file was looked at and is so long.
    pub(super) fn looked(&mut self, file: &Path, length: u64) {
        let Some(seen) = self.files.get_mut(file) else {
            self.files.insert(file.to_owned(), Seen { length, ..Seen::default() });
            return;
        };
        seen.same = if seen.length == length { seen.same.saturating_add(1) } else { 0 };
        seen.length = length;
        if seen.same < QUIET_AFTER {
            return;
        }
        let Some(kernel) = &self.kernel else { return };
        let flags = WatchFlags::MODIFY | WatchFlags::ONESHOT;
        let Ok(watch) = inotify::add_watch(kernel, file, flags) else { return };
        seen.watch = Some(watch);
        self.quiet.insert(watch, file.to_owned());
        // What was written between the look and the watch is not told by it.
        if !fs::metadata(file).is_ok_and(|metadata| metadata.len() == length) {
            self.wake(watch);
        }
    }

    /// Another run writes to a file, perhaps with other settings: it is looked at.
    pub(super) fn begins(&mut self, file: &Path) {
        let watch = self.files.remove(file).and_then(|seen| seen.watch);
        watch.into_iter().for_each(|watch| self.forget_watch(watch));
    }

    /// Forgets the files that are not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&Path) -> bool) {
        let gone: Vec<PathBuf> =
            self.files.keys().filter(|file| !is_wanted(file)).cloned().collect();
        for file in gone {
            self.begins(&file);
        }
    }

    fn wake(&mut self, watch: i32) {
        let file = self.quiet.get(&watch).cloned();
        self.forget_watch(watch);
        if let Some(seen) = file.and_then(|file| self.files.get_mut(&file)) {
            (seen.same, seen.watch) = (0, None);
        }
    }

    fn forget_watch(&mut self, watch: i32) {
        if self.quiet.remove(&watch).is_some()
            && let Some(kernel) = &self.kernel
        {
            // One that has told what it was for is gone already.
            inotify::remove_watch(kernel, watch).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn quiet(growth: &mut Growth, file: &Path) {
        for _ in 0..=QUIET_AFTER {
            assert!(growth.is_due(file));
            growth.looked(file, fs::metadata(file).unwrap().len());
        }
    }

    #[test]
    fn a_file_that_does_not_grow_is_left_alone_until_somebody_writes_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a.log"), dir.path().join("b.log"));
        fs::write(&path, "begin").unwrap();
        fs::write(&other, "begin").unwrap();
        let mut growth = Growth::new();
        quiet(&mut growth, &path);
        quiet(&mut growth, &other);
        growth.listen();
        assert!(!growth.is_due(&path) && !growth.is_due(&other));
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        for _ in 0..3 {
            file.write_all(b"more").unwrap();
            growth.listen();
            assert!(growth.is_due(&path) && !growth.is_due(&other));
            quiet(&mut growth, &path);
            assert!(!growth.is_due(&path));
        }
        assert_eq!(growth.quiet.len(), 2);
    }

    #[test]
    fn what_is_written_before_the_watch_is_there_is_seen_and_a_new_run_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "longer than the look said").unwrap();
        let mut growth = Growth::new();
        for _ in 0..=QUIET_AFTER {
            growth.looked(&path, 3);
        }
        assert!(growth.is_due(&path));
        quiet(&mut growth, &path);
        assert!(!growth.is_due(&path));
        growth.begins(&path);
        assert!(growth.is_due(&path));
        quiet(&mut growth, &path);
        growth.retain(|_| false);
        assert!(growth.is_due(&path) && growth.files.is_empty() && growth.quiet.is_empty());
    }
}
