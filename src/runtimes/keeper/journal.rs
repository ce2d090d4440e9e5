//! The keeper's journal: what the next keeper must know of the runs of this one.
//!
//! One JSON line an entry, appended without fsync: a file survives the death of any process, and
//! after a loss of power no run lives, so an entry is of use only under the boot that wrote it. The
//! environment of a run is not in it, its marks are.
//!
//! A line is written before a process is forked and another one after: if the keeper is killed
//! between the two, the process is found by the marks of the first.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::runtimes::keeper::control::eprint;
use crate::runtimes::keeper::state_dir::StateDir;
use crate::runtimes::keeper::wire::{Record, RunEnd, RunId};

/// Name of the journal in the state folder.
const JOURNAL: &str = "keeper.jsonl";

/// Lines before the journal is rewritten, at least; above, ten for each run that is known.
const REWRITE_LINES_MIN: usize = 10_000;

/// One line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// Stands first: the life of the machine in which the rest is true.
    Boot { id: String },
    /// A process with these marks is about to be forked.
    Begins { run: RunId, marks: Vec<String> },
    /// It executes.
    Began(Box<Record>),
    /// It was asked to stop because no daemon is there.
    Stopped { run: RunId },
    /// It ended.
    Ended { run: RunId, end: Box<RunEnd> },
    /// Nothing of it needs to be known any more.
    Gone { run: RunId },
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    boot: String,
    file: Option<File>,
    lines: usize,
}

impl Journal {
    /// Reads what the last keeper left, if this boot wrote it. [`Self::rewrite`] has to follow.
    pub(super) fn read(state: &StateDir, boot: String) -> (Self, Vec<Line>) {
        let path = state.path(JOURNAL);
        let lines = match File::open(&path) {
            Ok(file) => parse(file, &boot),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    eprint(&format!("cannot read {JOURNAL}: {error}; earlier runs are not known"));
                }
                Vec::new()
            }
        };
        (Self { path, boot, file: None, lines: 0 }, lines)
    }

    /// Whether it has grown so much that it should be rewritten, given the number of known runs.
    pub(super) fn is_long(&self, runs: usize) -> bool {
        self.file.is_none() || runs.saturating_mul(10).max(REWRITE_LINES_MIN) < self.lines
    }

    /// Appends a line. A full disk must not stop supervision: it is said, and the whole journal is
    /// written anew with the next line.
    pub(super) fn append(&mut self, line: &Line) {
        let Some(file) = &mut self.file else { return };
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut text| {
            text.push(b'\n');
            file.write_all(&text)
        });
        self.lines += 1;
        if let Err(error) = written {
            self.fail(&error);
        }
    }

    /// Writes it anew beside the old one and puts it in its place.
    pub(super) fn rewrite<'a>(&mut self, records: impl Iterator<Item = &'a Record>) {
        self.lines = 0;
        match self.try_rewrite(records) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.fail(&error),
        }
    }

    fn try_rewrite<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> io::Result<File> {
        let fresh = self.path.with_extension("jsonl.new");
        let mut text = serde_json::to_vec(&Line::Boot { id: self.boot.clone() })?;
        for record in records {
            text.push(b'\n');
            serde_json::to_writer(&mut text, &Line::Began(Box::new(record.clone())))?;
            self.lines += 1;
        }
        text.push(b'\n');
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        std::fs::rename(&fresh, &self.path)?;
        OpenOptions::new().append(true).open(&self.path)
    }

    fn fail(&mut self, error: &io::Error) {
        self.file = None;
        eprint(&format!(
            "cannot write {JOURNAL}: {error}; until it can be, a death of the keeper ends its runs"
        ));
    }
}

fn parse(file: File, boot: &str) -> Vec<Line> {
    let mut lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    let parse = |line: &Vec<u8>| serde_json::from_slice::<Line>(line);
    match lines.next().as_ref().map(parse) {
        Some(Ok(Line::Boot { id })) if id == boot => {}
        Some(Ok(_) | Err(_)) | None => return Vec::new(),
    }
    let mut known = Vec::new();
    for line in lines {
        match parse(&line) {
            Ok(line) => known.push(line),
            Err(error) => eprint(&format!("a line of {JOURNAL} is skipped: {error}")),
        }
    }
    known
}
