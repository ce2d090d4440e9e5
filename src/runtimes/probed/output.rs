//! Whether a run writes output: a look at its log file now and then.
//!
//! The file changes in length or time whenever something was written to it; its rotation changes it
//! too, and happens only to a file that grew. The look costs one `stat` on a blocking thread.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::protocol::care::{ProbeCheck, ProbesSpec};

/// Looks within the time that output may be missing.
const LOOKS: u32 = 10;

/// Shortest and longest time between two looks.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// What is compared.
pub(super) type Stamp = (u64, Option<SystemTime>);

/// Watches one log file.
#[derive(Debug)]
pub(super) struct OutputWatch {
    pub(super) file: PathBuf,
    every: Duration,
    next: Option<Instant>,
    last: Option<Stamp>,
}

impl OutputWatch {
    /// For a run with these probes that begins now; `None` if none of them asks for output. What
    /// is in the file already is of an earlier run.
    pub(super) async fn of(probes: &ProbesSpec, file: &Path, now: Instant) -> Option<Self> {
        let all = [&probes.startup, &probes.readiness, &probes.liveness];
        let within = all.into_iter().flatten().filter_map(|probe| match &probe.check {
            ProbeCheck::StdoutWithin(within) => Some(*within),
            ProbeCheck::Http(_)
            | ProbeCheck::Tcp(_)
            | ProbeCheck::Exec(_)
            | ProbeCheck::Notify
            | ProbeCheck::Beat => None,
        });
        let every = (within.min()? / LOOKS).clamp(LOOK_EVERY.0, LOOK_EVERY.1);
        let last = stamp(file.to_owned()).await;
        Some(Self { file: file.to_owned(), every, next: Some(now), last })
    }

    /// When to look; `None` while somebody looks.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Somebody looks now.
    pub(super) fn looking(&mut self) {
        self.next = None;
    }

    /// Takes what was seen; true if something was written since the last look.
    pub(super) fn seen(&mut self, now: Instant, stamp: Option<Stamp>) -> bool {
        self.next = Some(now + self.every);
        let Some(stamp) = stamp else { return false };
        // A file that is new is empty until something is written.
        self.last.replace(stamp).map_or(0 < stamp.0, |last| last != stamp)
    }
}

/// Looks; `None` when there is no such file.
pub(super) async fn stamp(file: PathBuf) -> Option<Stamp> {
    let metadata = tokio::fs::metadata(file).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}
