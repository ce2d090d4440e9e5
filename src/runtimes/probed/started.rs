//! Remembers on disk that a run has finished starting, for a daemon that adopts it.
//!
//! The mark names the process for good (pid and start time), so a mark of an earlier run says
//! nothing about a later one. A lost mark costs an adopted run another startup probe.

use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::id::ChildName;
use crate::runtimes::keeper::proc;

/// The mark of one run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Started {
    file: PathBuf,
    text: String,
}

impl Started {
    /// The mark of the run with this main process; `None` if that is gone, or there is none.
    pub(super) fn of(state_dir: &Path, name: &ChildName, pid: Option<u32>) -> Option<Self> {
        let pid = i32::try_from(pid?).ok()?;
        let start_time = proc::stat(pid)?.start_time;
        let file = state_dir.join("probes").join(format!("{name}.started"));
        Some(Self { file, text: format!("{pid} {start_time}\n") })
    }

    /// Whether the run is marked.
    pub(super) async fn is_set(&self) -> bool {
        tokio::fs::read_to_string(&self.file).await.is_ok_and(|text| text == self.text)
    }

    /// Marks the run.
    pub(super) async fn set(self) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        tokio::fs::write(&self.file, &self.text).await
    }
}
