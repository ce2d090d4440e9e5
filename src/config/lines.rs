//! Offsets in a text as lines and columns; shared by the readers of all formats.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::place::{FilePlace, Place};

/// One file's text with the offsets at which its lines begin.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    path: &'t Arc<PathBuf>,
    order: usize,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str, path: &'t Arc<PathBuf>, order: usize) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { text, starts, path, order }
    }

    /// The place of an offset in bytes.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start =
            line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        self.at(line, column)
    }

    /// The place of a line and a column, both from 1.
    pub(crate) fn at(&self, line: usize, column: usize) -> Place {
        Place::File(FilePlace { order: self.order, line, column, path: Arc::clone(self.path) })
    }

    /// The file as a whole.
    pub(crate) fn whole(&self) -> Place {
        self.at(0, 0)
    }
}
