//! What the keeper knows of all runs, for the next daemon and the next keeper: those that live, and
//! those whose end no daemon has acknowledged yet.

use std::collections::BTreeMap;

use crate::protocol::exit::ChildExit;
use crate::protocol::spec::OnDaemonExit;
use crate::runtimes::keeper::journal::{Journal, Line};
use crate::runtimes::keeper::proc;
use crate::runtimes::keeper::state_dir::StateDir;
use crate::runtimes::keeper::wire::{INVENTORY_RUNS_MAX, Record, RunEnd, RunId, Start};

/// All runs, and the journal that mirrors them.
#[derive(Debug)]
pub(super) struct Book {
    records: BTreeMap<RunId, Record>,
    journal: Journal,
}

/// A start that an earlier keeper did not live to finish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unfinished {
    pub(super) run: RunId,
    pub(super) marks: Vec<String>,
}

impl Book {
    /// Opens the book of the last keeper, if it wrote since the machine was started.
    pub(super) fn open(state: &StateDir) -> (Self, Vec<Unfinished>) {
        let (journal, lines) = Journal::read(state, proc::boot_id());
        let mut book = Self { records: BTreeMap::new(), journal };
        let mut unfinished: BTreeMap<RunId, Unfinished> = BTreeMap::new();
        for line in lines {
            match line {
                Line::Boot { .. } => {}
                Line::Begins { run, marks } => {
                    unfinished.insert(run, Unfinished { run, marks });
                }
                Line::Began(record) => {
                    unfinished.remove(&record.run);
                    book.records.insert(record.run, Record { is_child: false, ..*record });
                }
                Line::Stopped { run } => {
                    book.records.entry(run).and_modify(|record| record.is_stopped = true);
                }
                Line::Ended { run, end } => {
                    book.records.entry(run).and_modify(|record| record.end = Some(*end));
                }
                Line::Gone { run } => {
                    unfinished.remove(&run);
                    book.records.remove(&run);
                }
            }
        }
        book.journal.rewrite(book.records.values());
        (book, unfinished.into_values().collect())
    }

    /// A process is about to be forked.
    pub(super) fn begins(&mut self, start: &Start) {
        self.tidy();
        self.journal.append(&Line::Begins { run: start.run, marks: start.mark_entries() });
    }

    /// It executes.
    pub(super) fn began(&mut self, record: Record) {
        self.journal.append(&Line::Began(Box::new(record.clone())));
        self.records.insert(record.run, record);
    }

    /// A keeper without a daemon has asked it to stop.
    pub(super) fn stopped(&mut self, run: RunId) {
        if let Some(record) = self.records.get_mut(&run) {
            record.is_stopped = true;
            self.journal.append(&Line::Stopped { run });
        }
    }

    /// It ended.
    pub(super) fn ended(&mut self, run: RunId, exit: ChildExit, note: Option<String>) {
        if let Some(record) = self.records.get_mut(&run) {
            let end = RunEnd { exit, note, at_ms: wall_ms() };
            record.end = Some(end.clone());
            self.journal.append(&Line::Ended { run, end: Box::new(end) });
        }
    }

    /// Nobody needs to know of it any more: its start failed, or a daemon knows its end.
    pub(super) fn forget(&mut self, run: RunId) {
        let lives = self.records.get(&run).is_some_and(|record| record.end.is_none());
        if !lives {
            self.records.remove(&run);
            self.journal.append(&Line::Gone { run });
        }
    }

    /// Everything is over, in order.
    pub(super) fn close(&mut self) {
        self.records.clear();
        self.journal.rewrite(std::iter::empty());
    }

    fn tidy(&mut self) {
        if self.journal.is_long(self.records.len()) {
            self.journal.rewrite(self.records.values());
        }
    }

    /// Runs that live.
    pub(super) fn living(&self) -> impl Iterator<Item = &Record> {
        self.records.values().filter(|record| record.end.is_none())
    }

    /// Runs that are not to live without a daemon.
    pub(super) fn to_stop(&self) -> Vec<RunId> {
        let bound =
            |record: &&Record| record.on_daemon_exit == OnDaemonExit::Stop && !record.is_stopped;
        self.living().filter(bound).map(|record| record.run).collect()
    }

    /// All runs in parts, each with whether more follow; at least one part.
    pub(super) fn inventory(&self) -> Vec<(Vec<Record>, bool)> {
        let all: Vec<Record> = self.records.values().cloned().collect();
        let mut parts: Vec<(Vec<Record>, bool)> =
            all.chunks(INVENTORY_RUNS_MAX).map(|part| (part.to_vec(), true)).collect();
        match parts.last_mut() {
            Some((_, more)) => *more = false,
            None => parts.push((Vec::new(), false)),
        }
        parts
    }

    /// Number of runs, those included whose end is not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

fn wall_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::protocol::spec::SignalName;
    use crate::runtimes::keeper::wire::{Confines, IoMode, LogSettings};

    fn start(run: u64, on_daemon_exit: OnDaemonExit) -> Start {
        Start {
            run: RunId(run),
            command: vec!["/bin/true".to_owned()],
            env: [("A".to_owned(), run.to_string()), ("KEY".to_owned(), "secret".to_owned())]
                .into(),
            cwd: "/".into(),
            log: LogSettings::new("/tmp/x".into()),
            stop_signal: SignalName::Term,
            grace_ms: 5,
            umask: None,
            marks: vec!["A".to_owned()],
            confines: Confines::default(),
            owner: None,
            on_daemon_exit,
            io: IoMode::default(),
            generation: 0,
        }
    }

    fn begin(book: &mut Book, run: u64, on_daemon_exit: OnDaemonExit) {
        let start = start(run, on_daemon_exit);
        book.begins(&start);
        book.began(Record::of(&start, 1_000_000, 7));
    }

    fn runs(book: &Book) -> Vec<(u64, bool)> {
        let parts = book.inventory();
        let all = parts.iter().flat_map(|(part, _)| part);
        all.map(|record| (record.run.0, record.end.is_some())).collect()
    }

    #[test]
    fn the_next_keeper_knows_what_lives_and_what_is_not_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (mut book, _) = Book::open(&state);
        for run in 1..=4 {
            begin(&mut book, run, OnDaemonExit::Adopt);
        }
        book.begins(&start(5, OnDaemonExit::Adopt));
        book.begins(&start(6, OnDaemonExit::Adopt));
        book.forget(RunId(6));
        let exit = ChildExit::Exited { code: 42 };
        book.ended(RunId(2), exit.clone(), None);
        book.ended(RunId(3), exit.clone(), None);
        book.forget(RunId(3));
        book.forget(RunId(4));
        drop(book);
        let text = fs::read_to_string(dir.path().join("keeper.jsonl")).unwrap();
        assert!(!text.contains("secret"));

        let (book, unfinished) = Book::open(&state);
        assert_eq!(runs(&book), [(1, false), (2, true), (4, false)], "what lives stays");
        assert_eq!(book.records[&RunId(2)].end.as_ref().unwrap().exit, exit);
        assert!(book.living().all(|record| !record.is_child));
        assert_eq!(unfinished, [Unfinished { run: RunId(5), marks: vec!["A=5".to_owned()] }]);
    }

    #[test]
    fn a_journal_of_another_boot_says_nothing_and_a_torn_line_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (mut book, _) = Book::open(&state);
        begin(&mut book, 1, OnDaemonExit::Adopt);
        drop(book);
        let path = dir.path().join("keeper.jsonl");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"ended\":{\"run\":1,").unwrap();
        assert_eq!(runs(&Book::open(&state).0), [(1, false)]);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&proc::boot_id(), "another-boot")).unwrap();
        assert!(runs(&Book::open(&state).0).is_empty());
        fs::write(&path, "no journal at all").unwrap();
        assert!(runs(&Book::open(&state).0).is_empty());
    }

    #[test]
    fn only_runs_bound_to_the_daemon_are_stopped_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut book, _) = Book::open(&StateDir::open(dir.path()).unwrap());
        begin(&mut book, 1, OnDaemonExit::Adopt);
        begin(&mut book, 2, OnDaemonExit::Stop);
        assert_eq!(book.to_stop(), [RunId(2)]);
        book.stopped(RunId(2));
        assert!(book.to_stop().is_empty());
    }

    #[test]
    fn a_large_inventory_comes_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let (mut book, _) = Book::open(&StateDir::open(dir.path()).unwrap());
        assert_eq!(book.inventory(), [(Vec::new(), false)]);
        for run in 1..=1_001 {
            begin(&mut book, run, OnDaemonExit::Adopt);
        }
        let parts = book.inventory();
        let sizes: Vec<(usize, bool)> =
            parts.iter().map(|(part, more)| (part.len(), *more)).collect();
        assert_eq!(sizes, [(500, true), (500, true), (1, false)]);
    }
}
